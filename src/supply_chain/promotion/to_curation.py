"""Plans promotions to curation, for the images in `dev/*`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from supply_chain.concurrency import iterate_concurrently
from supply_chain.errors import UNREADABLE, TooManyReferrers
from supply_chain.evidence.image_status import compute_image_status, read_image_status
from supply_chain.evidence.statement import PROVENANCE, SIGNATURE, SUMMARY
from supply_chain.evidence.store import EvidenceStore
from supply_chain.evidence.summary import Summary, find_last_verdict, is_released
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import CURATION_GATES, OFFERED, TierName, name_curated_repository
from supply_chain.policy.outcome import IMAGE_BLOCKED
from supply_chain.policy.verdict import locate_refusals
from supply_chain.promotion.planned_promotion import (
    PlannedPromotion,
    PromotableImages,
    explain_refusal,
    make_empty_promotion,
    make_unreadable_promotion,
    plan_each,
)
from supply_chain.text import join_lines

RECENT = 2000
"""Number of an application's images, last push first, that are searched for one that development signed."""
SHALLOW = 20
"""Number of images of each application that a shallow look reads, before a full look reads more of any."""
SEARCHED_BYTES = 4 * 1024 * 1024
"""Maximum bytes of referrers per image that are not evidence and that a search for the newest signed image reads."""
SHALLOW_JUNK = 200
"""Number of referrers per image that are not evidence and that a shallow look reads at most."""


def plan_promotion_to_curation(ref: ImageRef, images: PromotableImages, store: EvidenceStore) -> PlannedPromotion:
    """Return the promotion that is due for an image in `dev/*`.

    An image without provenance by development is not offered yet: its build may still be signing. Only the newest
    offered image of an application is promoted.
    """
    if later := _explain_superseded(ref, images.list_newest_first(ref.repository), store):
        return make_empty_promotion(ref, later)
    return _decide_newest(ref, store)


def plan_newest_promotion_to_curation(
    ref: ImageRef, images: PromotableImages, store: EvidenceStore
) -> PlannedPromotion:
    """Return the promotion of the newest offered image of an application; `ref` is any pushed image of it.

    So a run that a push started also decides on every push before it.
    """
    if offered := _find_last_offered(images.list_newest_first(ref.repository), store):
        return _decide_newest(offered, store)
    return plan_promotion_to_curation(ref, images, store)


def find_missed_curations(
    images: PromotableImages, store: EvidenceStore, *, shallow: bool = False
) -> tuple[PlannedPromotion, ...]:
    """Return the promotions of each application's newest offered image that has no decision yet.

    An image is also returned as `unreadable` if it cannot be judged by its signed statements, or if none of the recent
    images of its application is signed; other applications are not affected.

    A `shallow` look reads only the last images of each application, and only some of the referrers that are not
    evidence, so that no application with many of either delays others. It does not report what it does not find.
    """
    store = replace(store, most=SHALLOW_JUNK) if shallow else store
    newest = map(images.list_newest_first, images.repositories(OFFERED))
    return plan_each(newest, partial(_find_newest_promotion, store=store, shallow=shallow))


def _find_newest_promotion(
    newest: Sequence[ImageRef], store: EvidenceStore, *, shallow: bool
) -> Iterator[PlannedPromotion]:
    """Yield the promotion of the newest offered image among these, if it is known."""
    try:
        if ref := _find_last_offered(newest[:SHALLOW] if shallow else newest, store):
            yield _decide_newest(ref, store)
        elif len(newest) > RECENT and not shallow:
            yield make_unreadable_promotion(newest[0], _explain_unsigned(newest))
    except UNREADABLE as error:
        if not (shallow and isinstance(error, TooManyReferrers)):  # the full look reads more
            yield make_unreadable_promotion(newest[0], join_lines(error))


def _decide_newest(ref: ImageRef, store: EvidenceStore) -> PlannedPromotion:
    """Return the promotion of the newest offered image, by its signed statements."""
    if not store.read_verified(ref, TierName.DEVELOPMENT, PROVENANCE):
        return make_empty_promotion(ref, "development signed no provenance of it").model_copy(
            update={"awaits_evidence": True}
        )
    own = store.read_verified(
        ref.with_repository(name_curated_repository(ref.application)), TierName.CURATION, SUMMARY, SIGNATURE
    )
    refusals = store.read_verified(locate_refusals(ref), TierName.CURATION, SUMMARY)
    for gate in CURATION_GATES:
        verdict = find_last_verdict((*own, *refusals), gate, ref.digest)
        if verdict and not verdict.value.passed and not _is_unblocked(verdict.value, ref, store):
            return make_empty_promotion(ref, explain_refusal(verdict.value, gate))
    if is_released(own, ref.digest, store.now()):
        return make_empty_promotion(ref, "it is released already")
    return PlannedPromotion(image=ref, to="curation")


def _explain_superseded(ref: ImageRef, newest: Sequence[ImageRef], store: EvidenceStore) -> str:
    """Return why an image is too old: a newer one was offered. Unsigned images do not count."""
    if ref not in newest:
        return "it has no tag or cannot be pulled" if newest else ""
    after = newest[: newest.index(ref)]
    if later := _find_last_offered(after, store):
        return f"{later.short} was pushed after it"
    return _explain_unsigned(after) if len(after) > RECENT else ""


def _find_last_offered(newest: Sequence[ImageRef], store: EvidenceStore) -> ImageRef | None:
    """Return the newest recent image that development signed; others with push access may have pushed images since."""
    recent, store = newest[:RECENT], replace(store, most_bytes=SEARCHED_BYTES)
    signed = iterate_concurrently(lambda ref: store.read_verified(ref, TierName.DEVELOPMENT, PROVENANCE), recent)
    return next((ref for ref, provenance in zip(recent, signed, strict=False) if provenance), None)


def _explain_unsigned(newest: Sequence[ImageRef]) -> str:
    return (
        f"development signed none of the {RECENT} images of {newest[0].repository} that were pushed last, and older "
        "ones are not read: find out who pushes them, and remove them"
    )


def _is_unblocked(verdict: Summary, ref: ImageRef, store: EvidenceStore) -> bool:
    """Return whether the only reason of the refusal was a block of the image, which was lifted since."""
    return (
        verdict.codes == {IMAGE_BLOCKED} and compute_image_status(read_image_status(ref, store).evidence).block is None
    )
