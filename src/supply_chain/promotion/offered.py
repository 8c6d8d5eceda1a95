"""Offered: what is due at boundary 1, for the images in `dev/*`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from supply_chain.concurrency import one_by_one
from supply_chain.errors import UNREADABLE, EvidenceFlooded
from supply_chain.evidence.standing import read_standing, standing
from supply_chain.evidence.statement import PROVENANCE, SIGNATURE, SUMMARY
from supply_chain.evidence.store import EvidenceStore
from supply_chain.evidence.summary import Summary, is_vended, last_verdict
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import OFFERED, Boundary, TierName, curated_repository
from supply_chain.policy.rules import IMAGE_BLOCKED
from supply_chain.policy.verdict import refusals_place
from supply_chain.promotion.moves import Images, Move, codes_of, nothing, unreadable, why_refused, worth_telling
from supply_chain.text import in_a_line

RECENT = 2000
"""Images of an application that are looked at for one that development signed, the last pushed first."""
SHALLOW = 20
"""As many of them as are looked at first, of every application, before more are of any."""
SHALLOW_JUNK = 200
"""As many pieces attached to one of them are read then that are no evidence."""


def to_curation(ref: ImageRef, images: Images, store: EvidenceStore) -> Move:
    """What is to be done with an image in `dev/*`.

    An image without development's provenance was not offered yet: what builds it may still be signing. Only the
    newest image of an application that was offered goes on.
    """
    if later := _offered_later(ref, images.newest_first(ref.repository), store):
        return nothing(ref, later)
    return _of_the_newest(ref, store)


def newest_to_curation(ref: ImageRef, images: Images, store: EvidenceStore) -> Move:
    """What is to be done with the newest image of an application that was offered; `ref` was pushed, and is one of
    the application.

    Whoever started this for a push decides so on every push before it, too.
    """
    if offered := _last_offered(images.newest_first(ref.repository), store):
        return _of_the_newest(offered, store)
    return to_curation(ref, images, store)


def missed_by_curation(images: Images, store: EvidenceStore, *, shallow: bool = False) -> tuple[Move, ...]:
    """The newest images in `dev/*` that development offered and on which nobody decided.

    One that cannot be judged by what is signed about it (`unreadable`) is told, and keeps no other application;
    likewise one whose images are unsigned as far as they are looked at.

    A `shallow` look is at the last images of each application alone, and at little of what is attached to one that is
    no evidence, so that no application with much of either holds another up; what it does not find is not told.
    """
    store = replace(store, most=SHALLOW_JUNK) if shallow else store
    newest = filter(None, map(images.newest_first, images.repositories(OFFERED)))
    return worth_telling([move for each in newest if (move := _of_an_application(each, store, shallow=shallow))])


def _of_an_application(newest: Sequence[ImageRef], store: EvidenceStore, *, shallow: bool = False) -> Move | None:
    """What is to be done with the last of these that was offered; None where nobody knows of one."""
    try:
        if ref := _last_offered(newest[:SHALLOW] if shallow else newest, store):
            return _of_the_newest(ref, store)
    except UNREADABLE as error:
        if shallow and isinstance(error, EvidenceFlooded):  # the full look reads more of it
            return None
        return unreadable(newest[0], in_a_line(error))
    return unreadable(newest[0], _unsigned(newest)) if len(newest) > RECENT and not shallow else None


def _of_the_newest(ref: ImageRef, store: EvidenceStore) -> Move:
    """What is to be done with the newest image that was offered, by what is signed about it."""
    if not store.verified(ref, TierName.DEVELOPMENT, PROVENANCE):
        return nothing(ref, "development signed no provenance of it").model_copy(update={"waits": True})
    own = store.verified(ref.moved_to(curated_repository(ref.application)), TierName.CURATION, SUMMARY, SIGNATURE)
    refusals = store.verified(refusals_place(ref), TierName.CURATION, SUMMARY)
    for boundary in (Boundary.TO_CURATION, Boundary.CURATION):
        verdict = last_verdict((*own, *refusals), boundary, ref.digest)
        if verdict and not verdict.value.passed and not _unblocked(verdict.value, ref, store):
            return nothing(ref, why_refused(verdict.value, boundary))
    if is_vended(own, ref.digest):
        return nothing(ref, "it is vended")
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


def _unblocked(verdict: Summary, ref: ImageRef, store: EvidenceStore) -> bool:
    """Whether it was refused for nothing but its own block, which somebody lifted since."""
    return codes_of(verdict) == {IMAGE_BLOCKED} and standing(read_standing(ref, store).evidence).block is None
