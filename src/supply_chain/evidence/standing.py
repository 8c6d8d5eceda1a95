"""How an image stands: whether it is blocked or held, by what the lifecycle's key signed about it.

A statement counts whatever the registry's storage class says: a block outlives a push that brings the image back,
and a hold the loss of whatever else knew of it. A block holds for a digest under every name: it is signed twice, in the
application's place and in one place for all digests. A hold is of one application's image.

All of it lies below `evidence/lifecycle/`, where the lifecycle's role alone writes and no role deletes or archives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from pydantic import AwareDatetime, Field

from supply_chain.concurrency import both
from supply_chain.errors import SettingInvalid
from supply_chain.evidence.approval import Words
from supply_chain.evidence.clock import INSTANT
from supply_chain.evidence.reading import Said, said
from supply_chain.evidence.statement import LIFECYCLE, Evidence, Predicate
from supply_chain.evidence.store import BEFORE_ALL, EvidenceStore, Reading
from supply_chain.model.image import Digest, Frozen, ImageRef
from supply_chain.model.tier import BY_DIGEST, TierName, evidence_repository


class Act(StrEnum):
    """What is said of an image."""

    BLOCK = "block"
    """No gate admits it and nobody pulls it, until somebody unblocks it."""
    UNBLOCK = "unblock"
    """It may be used again, as far as the gates admit it; no rule blocks it for what is known of it now."""
    HOLD = "hold"
    """The lifecycle takes nothing of it away, until somebody releases it."""
    RELEASE = "release"
    """The rules decide about it again."""


class PlanAct(StrEnum):
    """What is said of a plan that is above its limits."""

    APPROVE = "approve"
    """It is carried out."""
    REJECT = "reject"
    """It is not."""


UNDOES = {Act.BLOCK: Act.UNBLOCK, Act.HOLD: Act.RELEASE}
BLOCKS = (Act.BLOCK, Act.UNBLOCK)
DIGESTS = evidence_repository(TierName.LIFECYCLE, BY_DIGEST)
"""Where blocks lie by digest, whatever the image is called."""


class Ruling(Predicate):
    """The predicate of `statement.LIFECYCLE`: what somebody decided about one image, or about a plan."""

    act: Act | PlanAct
    by: Words = Field(description="who decided it, as they call themselves")
    why: Words
    at: AwareDatetime
    rule: str = Field(default="", description="by which rule of the lifecycle; empty where a person decided it")
    image: str = Field(
        default="", description="the image as it was named then; a block holds for its digest under every name"
    )

    def __str__(self) -> str:
        return f"by {self.by} on {self.at:%Y-%m-%d %H:%M %Z}: {self.why}"


class Standing(Frozen):
    """What is in force about an image; None where nothing is."""

    block: Ruling | None = None
    hold: Ruling | None = None
    excuse: Ruling | None = Field(default=None, description="the unblocking, where that was the last word")

    def has(self, act: Act) -> bool:
        """Whether saying this would change nothing."""
        stands = self.block if act in (Act.BLOCK, Act.UNBLOCK) else self.hold
        return (stands is not None) is (act in UNDOES)


class Repositories(Protocol):
    """Makes repositories."""

    def ensure_repository(self, repository: str, *, immutable: bool, key: str | None) -> None:
        """Make it, if it is not there."""


def standing_place(ref: ImageRef) -> ImageRef:
    """Where it is said how an image of one application stands, wherever the image lies."""
    return ref.moved_to(evidence_repository(TierName.LIFECYCLE, ref.application))


def block_place(digest: Digest) -> ImageRef:
    """Where it is said that a digest is blocked, or not any more, under every name."""
    return ImageRef(repository=DIGESTS, digest=digest)


def read_standing(ref: ImageRef, store: EvidenceStore) -> Reading:
    """What was ever said about how an image stands; where no repository for it was ever made, nothing.

    `SettingInvalid` where the store trusts no key of the lifecycle: every block would be left out as a stranger's.
    What the registry does not give raises.
    """
    own, by_digest = both(lambda: _read(standing_place(ref), store), lambda: read_blocks(ref.digest, store))
    known = [each.statement.predicate for each in own.evidence]
    more = (each for each in by_digest.evidence if each.statement.predicate not in known)
    return Reading(own.subject, (*own.evidence, *more), (*own.left_out, *by_digest.left_out))


def read_blocks(digest: Digest, store: EvidenceStore) -> Reading:
    """What was ever said of a digest that nobody may use under any name. Raises as `read_standing`."""
    return _read(block_place(digest), store)


def _read(place: ImageRef, store: EvidenceStore) -> Reading:
    if TierName.LIFECYCLE not in store.trusted:
        raise SettingInvalid(
            f"The {store.tier} tier trusts no key of the lifecycle, so that it cannot tell what is blocked.\n"
            "Add the public key of `lifecycle` to the trusted keys of the tier's block (`cscm up` does on a laptop)."
        )
    return store.read(place, LIFECYCLE)


def standing(evidence: Iterable[Evidence]) -> Standing:
    """How an image stands by the lifecycle's word; `EvidenceInvalid` for a statement that cannot be read.

    The newest of block and unblock counts, likewise of hold and release; of two at one instant the block, the hold.
    Where a rule and a person blocked it, it is the person's block.
    """
    known = rulings(evidence)
    last, held = _last(known, Act.BLOCK), _last(known, Act.HOLD)
    return Standing(
        block=_block(known) if last and last.act is Act.BLOCK else None,
        hold=held if held and held.act is Act.HOLD else None,
        excuse=last if last and last.act is Act.UNBLOCK else None,
    )


def rulings(evidence: Iterable[Evidence]) -> tuple[Said[Ruling], ...]:
    """Everything the lifecycle said of an image, the oldest first; `EvidenceInvalid`."""
    own = (e for e in evidence if e.signer == TierName.LIFECYCLE)
    return said(own, LIFECYCLE, Ruling.model_validate)


def _last(known: Iterable[Said[Ruling]], act: Act) -> Ruling | None:
    about = [each for each in known if each.value.act in (act, UNDOES[act])]
    last = max(about, key=lambda each: (each.at, each.value.act is act), default=None)
    return last.value if last else None


def _block(known: Sequence[Said[Ruling]]) -> Ruling:
    """The last of the blocks that nobody lifted, a person's if there is one."""
    lifted = max((each.at for each in known if each.value.act is Act.UNBLOCK), default=BEFORE_ALL)
    blocks = [each.value for each in known if each.value.act is Act.BLOCK and each.at >= lifted]
    return max(blocks, key=lambda each: (not each.rule, each.at))


def rule(
    ref: ImageRef,
    act: Act,
    store: EvidenceStore,
    repositories: Repositories,
    *,
    by: str,
    why: str,
    now: datetime,
    of: str = "",
) -> Digest | None:
    """Sign what somebody or a rule (`of`) decided about an image; the statement's digest, or None where it stands.

    It is of a later time than what was said before, whatever the clock says: otherwise it would not be heard. A person
    may block what a rule blocked: no rule ends that. What lies in one of the two places of a block alone is signed in
    the other one too.
    """
    before = read_standing(ref, store).by(TierName.LIFECYCLE)
    stands = standing(before)
    places = (block_place(ref.digest), standing_place(ref)) if act in BLOCKS else (standing_place(ref),)
    stronger = act is Act.BLOCK and not of and stands.block is not None and stands.block.rule
    if stands.has(act) and not stronger:
        missing = [place for place in places if not standing(_read(place, store).by(TierName.LIFECYCLE)).has(act)]
        first = stands.block or stands.excuse
        return _sign(first, missing, store, repositories, now) if first else None
    at = max([now, *(each.at + INSTANT for each in rulings(before))])
    ruling = Ruling(act=act, by=by, why=why, at=at, rule=of, image=str(ref))
    return _sign(ruling, places, store, repositories, now)


def _sign(
    ruling: Ruling, places: Iterable[ImageRef], store: EvidenceStore, repositories: Repositories, now: datetime
) -> Digest | None:
    """Attach a ruling in each place; the digest of the last of the statements, None where there is no place."""
    signed = None
    for place in places:
        repositories.ensure_repository(place.repository, immutable=True, key=None)
        signed = store.attach(place, LIFECYCLE, ruling.predicate(), now)
    return signed
