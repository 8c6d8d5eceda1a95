"""Vended: what is due at boundary 2, for the images in `curated/*`, from one environment to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from supply_chain.errors import UNREADABLE, SettingInvalid
from supply_chain.evidence.approval import last_approval
from supply_chain.evidence.clock import SKEW
from supply_chain.evidence.provenance import last_provenance
from supply_chain.evidence.reading import Said
from supply_chain.evidence.soak import last_soak, longest_soak
from supply_chain.evidence.statement import APPROVAL, DEPLOYMENT, PROVENANCE, SIGNATURE, SOAK, SUMMARY, Evidence
from supply_chain.evidence.store import EvidenceStore
from supply_chain.evidence.summary import Summary, is_vended, last_verdict, verdicts
from supply_chain.execution.environment import Environment
from supply_chain.execution.records import records
from supply_chain.model.image import ImageRef
from supply_chain.model.manifest import Service
from supply_chain.model.tier import CURATED, Boundary, TierName
from supply_chain.policy.dossier import said_by_execution
from supply_chain.policy.rules import BASE_BLOCKED, IMAGE_BLOCKED
from supply_chain.promotion.moves import Images, Move, codes_of, nothing, unreadable, why_refused, worth_telling
from supply_chain.promotion.soaking import Soaking
from supply_chain.text import first_line, in_a_line

SAID_BY_EXECUTION = (DEPLOYMENT, SUMMARY, SOAK, APPROVAL)
OF_A_BLOCK = {IMAGE_BLOCKED, BASE_BLOCKED, f"verdict.{Boundary.CURATION}.refused", "scan.old"}
"""What a refusal says for a block, for what curation said to it, and for the scans that are not made meanwhile."""
OF_A_PLACE = ("approval.", "placement.", "soak.")
"""How the reasons begin that are about one environment alone: a refusal for these says nothing of another."""


@dataclass(frozen=True)
class View:
    """What execution looks at for what is due."""

    images: Images
    store: EvidenceStore
    read: Callable[[str], Environment]
    """An environment by its name; raises `SettingInvalid`."""
    current: Callable[[str, str], ImageRef | None]
    """Application and environment → the image that should run there."""

    def vends(self, ref: ImageRef) -> bool:
        """Whether curation admitted and signed it."""
        return is_vended(self.store.verified(ref, TierName.CURATION, SUMMARY, SIGNATURE), ref.digest)


def to_environment(ref: ImageRef, after: str | None, view: View) -> Move:
    """What is to be done with an image in `curated/*`: it goes to the first environment that it declares, or to
    the one after `after`, where it has to have soaked.

    It never takes the place of one that was curated after it.
    """
    built = last_provenance(view.store.verified(ref, TierName.DEVELOPMENT, PROVENANCE))
    manifest = built.manifest if built else None
    if not isinstance(manifest, Service):
        return nothing(ref, "it is no service" if manifest else "development signed no provenance of it")
    to = following(manifest.environments, after)
    if to is None:
        return nothing(ref, f"it declares no environment after {after}" if after else "it declares no environment")
    own = said_by_execution(ref, view.store, *SAID_BY_EXECUTION)
    if why := next(_objections(ref, after, to, own, view), ""):
        return nothing(ref, why)
    asks = view.read(to).asks and last_approval(own, to, ref.digest) is None
    return Move(image=ref, to=to, after=after, asks=asks)


def missed_by_execution(view: View) -> tuple[Move, ...]:
    """What is vended and runs nowhere yet, and what soaked and did not go on; the newest of each application.

    One that cannot be judged by what is signed about it (`unreadable`) is told, and keeps no other application.
    """
    found: list[Move] = []
    for repository in view.images.repositories(CURATED):
        for newest in view.images.newest_first(repository)[:1]:
            try:
                found += [to_environment(ref, after, view) for ref, after in _candidates(repository, view)]
            except UNREADABLE as error:
                found.append(unreadable(newest, in_a_line(error)))
    return worth_telling(found)


def as_seen(move: Move, there: ImageRef | None, soaking: Soaking | None) -> Move:
    """A move, but for what soaked, runs there still, and was not well any more when it was last looked at.

    `there` is what should run in the environment that it comes from, `soaking` what is remembered of how that is.
    """
    if there is None or there.digest != move.image.digest or (soaking and soaking.digest == there.digest):
        return move
    return nothing(move.image, f"it was not well in {move.after} when it was last looked at")


def following(environments: Sequence[str], after: str | None) -> str | None:
    """The first of the environments that an image declares, or the one after another; None where there is none."""
    if after is None:
        return next(iter(environments), None)
    known = list(environments)
    return next(iter(known[known.index(after) + 1 :]), None) if after in known else None


def _candidates(repository: str, view: View) -> list[tuple[ImageRef, str | None]]:
    """The newest vended image, and what runs in each environment from which it could go on."""
    for ref in filter(view.vends, view.images.newest_first(repository)):
        built = last_provenance(view.store.verified(ref, TierName.DEVELOPMENT, PROVENANCE))
        places = built.manifest.environments if built else ()
        running = [(there, place) for place in places[:-1] if (there := view.current(ref.application, place))]
        return [(ref, None), *((there.moved_to(repository), place) for there, place in running)]
    return []


def _objections(ref: ImageRef, after: str | None, to: str, own: Sequence[Evidence], view: View) -> Iterator[str]:
    """Why it does not go there; whoever wants to know one reason asks for the first. `own` is what execution signed."""
    if not view.vends(ref):
        yield "curation does not vend it"
    try:
        environment = view.read(to)
        environment.placement(ref.application)
        asked = environment.place(view.read).soak
    except SettingInvalid as error:
        yield first_line(error)
        return
    if any(each.value.environment == to for each in records(own)):
        yield f"it was deployed to {to}"
    if after is not None and (why := _not_soaked(ref, after, own, view.read)):
        yield why
    if asked and not asked.met_by(longest_soak(own, asked.environment, ref.digest)):
        yield f"{to} takes only what soaked in {asked.environment}, and it did not"
    verdict = last_verdict(own, Boundary.TO_EXECUTION, ref.digest)
    if verdict and not verdict.value.passed and not _of_a_place(verdict.value) and not _lifted(verdict, ref, view):
        yield why_refused(verdict.value, Boundary.TO_EXECUTION)
    if later := _later(ref, view.current(ref.application, to), after, view):
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


def _later(ref: ImageRef, there: ImageRef | None, after: str | None, view: View) -> str:
    """Why an image is too old: one that was curated after it is there, or is vended and comes first."""
    if there and there.digest != ref.digest and (why := _no_newer(ref, there, view)):
        return why
    for newer in view.images.newest_first(ref.repository) if after is None else ():
        if newer.digest == ref.digest:
            return ""
        if view.vends(newer):
            return f"{newer.short} was curated after it"
    return ""


def _no_newer(ref: ImageRef, there: ImageRef, view: View) -> str:
    """Why an image is no newer than what is there, be that blocked and archived by now; empty where it is.

    Where the registry does not have that any more, an image is newer that was judged after it had been deployed.
    """
    known = [each.digest for each in view.images.newest_first(ref.repository, archived=True)]
    if there.digest in known:
        newer = ref.digest in known[: known.index(there.digest)]
        return "" if newer else f"{there.short} runs there, and was curated after it"
    judged = verdicts(view.store.verified(ref, TierName.CURATION, SUMMARY), Boundary.CURATION, ref.digest)
    deployed = records(said_by_execution(there, view.store, DEPLOYMENT))
    if judged and deployed and judged[0].at > deployed[0].at + SKEW:
        return ""
    return f"{there.short} runs there and is not in the registry any more, so that nobody can tell which is newer"


def _of_a_place(verdict: Summary) -> bool:
    return all(code.startswith(OF_A_PLACE) for code in codes_of(verdict))


def _lifted(verdict: Said[Summary], ref: ImageRef, view: View) -> bool:
    """Whether it was refused for a block and what comes with one, and curation said yes to it again since."""
    codes = {code for code in codes_of(verdict.value) if not code.startswith(OF_A_PLACE)}
    judged = last_verdict(view.store.verified(ref, TierName.CURATION, SUMMARY), Boundary.CURATION, ref.digest)
    return codes <= OF_A_BLOCK and judged is not None and judged.value.passed and judged.at > verdict.at
