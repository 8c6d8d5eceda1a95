"""Moves: what is to be done with an image at its next boundary, or why nothing is.

All of it is read from signed statements and from the registry, so that an event that was lost, doubled, late
or out of order makes no difference: whoever starts a promotion asks here first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Protocol

from supply_chain.app import Service
from supply_chain.concurrency import one_by_one
from supply_chain.errors import UNREADABLE, SettingInvalid
from supply_chain.evidence.approval import last_approval
from supply_chain.evidence.clock import SKEW
from supply_chain.evidence.provenance import last_provenance
from supply_chain.evidence.reading import Said
from supply_chain.evidence.soak import last_soak, longest_soak
from supply_chain.evidence.standing import read_standing, standing
from supply_chain.evidence.statement import APPROVAL, DEPLOYMENT, PROVENANCE, SIGNATURE, SOAK, SUMMARY, Evidence
from supply_chain.evidence.store import EvidenceStore
from supply_chain.evidence.summary import Summary, is_vended, last_verdict, verdicts
from supply_chain.execution.environment import Environment
from supply_chain.execution.records import records
from supply_chain.image import Frozen, ImageRef
from supply_chain.policy.dossier import said_by_execution
from supply_chain.policy.rules import BASE_BLOCKED, IMAGE_BLOCKED
from supply_chain.policy.verdict import refusals_place
from supply_chain.promotion.soaking import Watch
from supply_chain.shown import first_line, in_a_line
from supply_chain.tier import CURATED, OFFERED, Boundary, TierName, curated_repository

SAID_BY_EXECUTION = (DEPLOYMENT, SUMMARY, SOAK, APPROVAL)
RECENT = 500
"""Images of an application that are looked at for one that development signed, the last pushed first."""
OF_A_BLOCK = {IMAGE_BLOCKED, BASE_BLOCKED, f"verdict.{Boundary.CURATION}.refused", "scan.old"}
"""What a refusal says for a block, for what curation said to it, and for the scans that are not made meanwhile."""
OF_A_PLACE = ("approval.", "placement.", "soak.")
"""How the reasons begin that are about one environment alone: a refusal for these says nothing of another."""


class Images(Protocol):
    """What is asked of a registry."""

    def newest_first(self, repository: str, *, archived: bool = False) -> tuple[ImageRef, ...]:
        """The images that have a tag, the last one pushed first; none where there is no repository.

        Those that nobody can pull, being archived or on their way back, only where they are asked for.
        """


class Move(Frozen):
    """What is to be done with an image at its next boundary: nothing, for the reason that `why` tells, or a move."""

    image: ImageRef
    to: str = ""
    """Where it goes: `curation`, or an environment's name; empty where it goes nowhere."""
    after: str | None = None
    why: str = ""
    waits: bool = False
    """Whether what it lacks may still come: its evidence."""
    asks: bool = False
    """Whether a person has to decide first, and did not yet."""
    unreadable: bool = False
    """Whether it goes nowhere because what is signed about the application's images cannot be read, or found."""


def to_curation(ref: ImageRef, images: Images, store: EvidenceStore) -> Move:
    """What is to be done with an image in `dev/*`.

    An image without development's provenance was not offered yet: what builds it may still be signing. Only the
    newest image of an application that was offered goes on.
    """
    if later := _offered_later(ref, images.newest_first(ref.repository), store):
        return _nothing(ref, later)
    return _at_curation(ref, store)


def _at_curation(ref: ImageRef, store: EvidenceStore) -> Move:
    """What is to be done with the newest image that was offered, by what is signed about it."""
    if not store.verified(ref, TierName.DEVELOPMENT, PROVENANCE):
        return _nothing(ref, "development signed no provenance of it").model_copy(update={"waits": True})
    own = store.verified(ref.moved_to(curated_repository(ref.application)), TierName.CURATION, SUMMARY, SIGNATURE)
    refusals = store.verified(refusals_place(ref), TierName.CURATION, SUMMARY)
    for boundary in (Boundary.TO_CURATION, Boundary.CURATION):
        verdict = last_verdict((*own, *refusals), boundary, ref.digest)
        if verdict and not verdict.value.passed and not _unblocked(verdict.value, ref, store):
            return _nothing(ref, _refused(verdict.value, boundary))
    if is_vended(own, ref.digest):
        return _nothing(ref, "it is vended")
    return Move(image=ref, to="curation")


def _offered_later(ref: ImageRef, newest: Sequence[ImageRef], store: EvidenceStore) -> str:
    """Why an image is too old: another was pushed after it and offered. What nobody signed holds nothing up."""
    if ref not in newest:
        return "it is not among those that have a tag and can be pulled" if newest else ""
    after = newest[: newest.index(ref)]
    if later := _last_offered(after, store):
        return f"{later.short} was pushed after it"
    return _unsigned(after) if len(after) > RECENT else ""


def _last_offered(newest: Sequence[ImageRef], store: EvidenceStore) -> ImageRef | None:
    """The first of the recent ones that development signed: anybody else who may push could hide it behind others."""
    recent = newest[:RECENT]
    signed = one_by_one(lambda ref: store.verified(ref, TierName.DEVELOPMENT, PROVENANCE), recent)
    return next((ref for ref, provenance in zip(recent, signed, strict=False) if provenance), None)


def _unsigned(newest: Sequence[ImageRef]) -> str:
    return (
        f"development signed none of the {RECENT} images of {newest[0].repository} that were pushed last, and what is "
        "older is not looked at: find out who pushes them, and remove them"
    )


def to_environment(
    ref: ImageRef,
    after: str | None,
    images: Images,
    store: EvidenceStore,
    read: Callable[[str], Environment],
    current: Callable[[str], ImageRef | None],
) -> Move:
    """What is to be done with an image in `curated/*`: it goes to the first environment that it declares, or to
    the one after `after`, where it has to have soaked.

    `read` gives an environment by its name, or raises `SettingInvalid`; `current` gives the image that should
    run in one. It never takes the place of one that was curated after it.
    """
    built = last_provenance(store.verified(ref, TierName.DEVELOPMENT, PROVENANCE))
    manifest = built.manifest if built else None
    if not isinstance(manifest, Service):
        return _nothing(ref, "it is no service" if manifest else "development signed no provenance of it")
    to = following(manifest.environments, after)
    if to is None:
        return _nothing(ref, f"it declares no environment after {after}" if after else "it declares no environment")
    own = said_by_execution(ref, store, *SAID_BY_EXECUTION)
    objections = _objections(ref, after, to, own, images, store, read, current)
    if why := next(objections, ""):
        return _nothing(ref, why)
    asks = read(to).asks and last_approval(own, to, ref.digest) is None
    return Move(image=ref, to=to, after=after, asks=asks)


def _objections(
    ref: ImageRef,
    after: str | None,
    to: str,
    own: Sequence[Evidence],
    images: Images,
    store: EvidenceStore,
    read: Callable[[str], Environment],
    current: Callable[[str], ImageRef | None],
) -> Iterator[str]:
    """Why it does not go there; whoever wants to know one reason asks for the first. `own` is what execution signed."""
    if not is_vended(store.verified(ref, TierName.CURATION, SUMMARY, SIGNATURE), ref.digest):
        yield "curation does not vend it"
    try:
        read(to).placement(ref.application)
        asked = read(to).place(read).soak
    except SettingInvalid as error:
        yield first_line(error)
        return
    if any(each.value.environment == to for each in records(own)):
        yield f"it was deployed to {to}"
    if after is not None and (why := _not_soaked(ref, after, own, read)):
        yield why
    if asked and not asked.met_by(longest_soak(own, asked.environment, ref.digest)):
        yield f"{to} takes only what soaked in {asked.environment}, and it did not"
    verdict = last_verdict(own, Boundary.TO_EXECUTION, ref.digest)
    if verdict and not verdict.value.passed and not _of_a_place(verdict.value) and not _lifted(verdict, ref, store):
        yield _refused(verdict.value, Boundary.TO_EXECUTION)
    if later := _later(ref, images, current(to), after, store):
        yield later
    decision = last_approval(own, to, ref.digest)
    if decision and not decision.value.approved:
        yield f"{decision.value.who} denied it for {to}: {decision.value.why}"


def _not_soaked(ref: ImageRef, after: str, own: Sequence[Evidence], read: Callable[[str], Environment]) -> str:
    """Why it was not well there for as long as that asks for today; empty where it was.

    What soaked and was deployed there again since, with other settings perhaps, has to soak again.
    """
    try:
        asked = read(after).soak
    except SettingInvalid:
        return f"it has not soaked in {after}, which is no environment here"
    if asked is None:
        return f"{after} says no `soak`, so that nothing goes on from there"
    deployed = [each.value for each in records(own) if each.value.environment == after]
    if not deployed:
        return f"it was never deployed to {after}"
    signed = last_soak(own, after, ref.digest, deployed[-1].container)
    if signed is None:
        return f"it has not soaked in {after} yet, well for {timedelta(seconds=asked)} without a break"
    if signed.value.seconds < asked:
        soaked = timedelta(seconds=int(signed.value.seconds))
        return f"it has soaked in {after} for {soaked} of {timedelta(seconds=asked)}"
    return ""


def as_seen(move: Move, there: ImageRef | None, watch: Watch | None) -> Move:
    """A move, but for what soaked, runs there still, and was not well any more when it was last looked at.

    `there` is what should run in the environment that it comes from, `watch` what is remembered of how that is.
    """
    if there is None or there.digest != move.image.digest or (watch and watch.digest == there.digest):
        return move
    return _nothing(move.image, f"it was not well in {move.after} when it was last looked at")


def following(environments: Sequence[str], after: str | None) -> str | None:
    """The first of the environments that an image declares, or the one after another; None where there is none."""
    if after is None:
        return next(iter(environments), None)
    known = list(environments)
    return next(iter(known[known.index(after) + 1 :]), None) if after in known else None


def _later(ref: ImageRef, images: Images, there: ImageRef | None, after: str | None, store: EvidenceStore) -> str:
    """Why an image is too old: one that was curated after it is there, or is vended and comes first."""
    if there and there.digest != ref.digest and (why := _no_newer(ref, there, images, store)):
        return why
    for newer in images.newest_first(ref.repository) if after is None else ():
        if newer.digest == ref.digest:
            return ""
        if is_vended(store.verified(newer, TierName.CURATION, SUMMARY, SIGNATURE), newer.digest):
            return f"{newer.short} was curated after it"
    return ""


def _no_newer(ref: ImageRef, there: ImageRef, images: Images, store: EvidenceStore) -> str:
    """Why an image is no newer than what is there, be that blocked and archived by now; empty where it is.

    Where the registry does not have that any more, an image is newer that was judged after it had been deployed.
    """
    known = [each.digest for each in images.newest_first(ref.repository, archived=True)]
    if there.digest in known:
        newer = ref.digest in known[: known.index(there.digest)]
        return "" if newer else f"{there.short} runs there, and was curated after it"
    judged = verdicts(store.verified(ref, TierName.CURATION, SUMMARY), Boundary.CURATION, ref.digest)
    deployed = records(said_by_execution(there, store, DEPLOYMENT))
    if judged and deployed and judged[0].at > deployed[0].at + SKEW:
        return ""
    return f"{there.short} runs there and is not in the registry any more, so that nobody can tell which is newer"


def _of_a_place(verdict: Summary) -> bool:
    return all(code.startswith(OF_A_PLACE) for code in _codes(verdict))


def _unblocked(verdict: Summary, ref: ImageRef, store: EvidenceStore) -> bool:
    """Whether it was refused for nothing but its own block, which somebody lifted since."""
    return _codes(verdict) == {IMAGE_BLOCKED} and standing(read_standing(ref, store).evidence).block is None


def _lifted(verdict: Said[Summary], ref: ImageRef, store: EvidenceStore) -> bool:
    """Whether it was refused for a block and what comes with one, and curation said yes to it again since."""
    codes = {code for code in _codes(verdict.value) if not code.startswith(OF_A_PLACE)}
    judged = last_verdict(store.verified(ref, TierName.CURATION, SUMMARY), Boundary.CURATION, ref.digest)
    return codes <= OF_A_BLOCK and judged is not None and judged.value.passed and judged.at > verdict.at


def _codes(verdict: Summary) -> set[str]:
    return {reason.get("code", "") for reason in verdict.cscm.reasons}


def _refused(verdict: Summary, boundary: Boundary) -> str:
    codes = ", ".join(sorted(_codes(verdict)))
    return f"it was refused at {boundary}: {codes}"


def _nothing(ref: ImageRef, why: str) -> Move:
    return Move(image=ref, why=why)


def _unreadable(ref: ImageRef, why: str) -> Move:
    return Move(image=ref, why=why, unreadable=True)


@dataclass(frozen=True)
class View:
    """What one tier sees: the registry and the evidence."""

    repositories: Callable[[str], Collection[str]]
    images: Images
    store: EvidenceStore


def missed_by_curation(view: View) -> tuple[Move, ...]:
    """The newest images in `dev/*` that development offered and on which nobody decided.

    One that cannot be judged by what is signed about it (`unreadable`) is told, and keeps no other application;
    likewise one whose images are unsigned as far as they are looked at.
    """
    found: list[Move] = []
    for repository in sorted(view.repositories(OFFERED)):
        if newest := view.images.newest_first(repository):
            try:
                ref = _last_offered(newest, view.store)
                found += [_at_curation(ref, view.store)] if ref else []
            except UNREADABLE as error:
                found.append(_unreadable(newest[0], in_a_line(error)))
            else:
                found += [_unreadable(newest[0], _unsigned(newest))] if not ref and len(newest) > RECENT else []
    return tuple(move for move in found if move.to or move.unreadable)


def missed_by_execution(
    view: View, read: Callable[[str], Environment], current: Callable[[str, str], ImageRef | None]
) -> tuple[Move, ...]:
    """What is vended and runs nowhere yet, and what soaked and did not go on; the newest of each application.

    `current` gives the image that should run of an application in an environment. What is `unreadable` as above.
    """
    found: list[Move] = []
    for repository in sorted(view.repositories(CURATED)):
        for newest in view.images.newest_first(repository)[:1]:
            try:
                found += [
                    to_environment(ref, after, view.images, view.store, read, partial(current, ref.application))
                    for ref, after in _candidates(repository, view, current)
                ]
            except UNREADABLE as error:
                found.append(_unreadable(newest, in_a_line(error)))
    return tuple(move for move in found if move.to or move.unreadable)


def _candidates(
    repository: str, view: View, current: Callable[[str, str], ImageRef | None]
) -> list[tuple[ImageRef, str | None]]:
    """The newest vended image, and what runs in each environment from which it could go on."""
    for ref in view.images.newest_first(repository):
        if not is_vended(view.store.verified(ref, TierName.CURATION, SUMMARY, SIGNATURE), ref.digest):
            continue
        built = last_provenance(view.store.verified(ref, TierName.DEVELOPMENT, PROVENANCE))
        places = built.manifest.environments if built else ()
        running = [(there, place) for place in places[:-1] if (there := current(ref.application, place))]
        return [(ref, None), *((there.moved_to(repository), place) for there, place in running)]
    return []
