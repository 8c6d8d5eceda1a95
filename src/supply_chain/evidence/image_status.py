"""The image status: whether an image is blocked or held, according to statements that the lifecycle's key signed.

A statement counts whatever the registry's storage class is: a block outlives a push that brings the image back, and a
hold outlives the loss of all other records of it. A block applies to a digest under every name. It is signed twice: in
the place of the application and in one place for all digests. A hold applies to the image of one application.

All statements are below `evidence/lifecycle/`, where only the lifecycle's role writes and no role deletes or archives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import StrEnum

from pydantic import AwareDatetime, Field

from supply_chain.concurrency import run_both
from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.evidence.clock import INSTANT
from supply_chain.evidence.keyless import Credential
from supply_chain.evidence.personal_decision import PersonalSignature, Words, has_signed, make_personal_statement
from supply_chain.evidence.reading import SignedValue, read_statements
from supply_chain.evidence.statement import LIFECYCLE, Predicate, Statement, VerifiedStatement
from supply_chain.evidence.store import BEFORE_ALL, EvidenceStore, Reading
from supply_chain.model.image import Digest, ImageRef, Model
from supply_chain.model.registry_ports import RepositoryCreator
from supply_chain.model.tier import BY_DIGEST, TierName, name_evidence_repository


class Act(StrEnum):
    """The lifecycle decisions about an image."""

    BLOCK = "block"
    """No gate admits the image and nobody pulls it, until somebody unblocks it."""
    UNBLOCK = "unblock"
    """The image can be used again if the gates admit it. No rule blocks it again for what is known of it now."""
    HOLD = "hold"
    """The lifecycle removes and archives nothing of the image, until somebody ends the hold."""
    UNHOLD = "unhold"
    """The rules decide about the image again."""


class PlanAct(StrEnum):
    """The decisions about a plan that is above its limits."""

    APPROVE = "approve"
    """The plan is carried out."""
    REJECT = "reject"
    """The plan is not carried out."""


UNDOES = {Act.BLOCK: Act.UNBLOCK, Act.HOLD: Act.UNHOLD}
BLOCKS = (Act.BLOCK, Act.UNBLOCK)
LIFTS = (Act.UNBLOCK, Act.UNHOLD)
"""The decisions that make something possible again."""
DIGESTS = name_evidence_repository(TierName.LIFECYCLE, BY_DIGEST)
"""The repository for blocks by digest, whatever the image's name is."""


class LifecycleDecision(Predicate):
    """The predicate of `statement.LIFECYCLE`: a lifecycle decision about one image or about a plan."""

    act: Act | PlanAct
    by: Words = Field(description="the name of the person, or a rule")
    reason: Words
    at: AwareDatetime
    rule: str = Field(default="", description="the rule; empty if a person decided")
    image: str = Field(default="", description="the image's name at that time")
    installation: str = Field(default="", description="the installation for which the person signed")
    signature: PersonalSignature = Field(
        default="",
        description="a sigstore bundle of the decision by the person's own key; empty: the name is unverified",
    )

    def __str__(self) -> str:
        return f"by {self.by} on {self.at:%Y-%m-%d %H:%M %Z}: {self.reason}"

    def statement(self, image: ImageRef) -> Statement:
        """Return what a person signs with a key of their own: this decision about this image at this time."""
        signed = self.model_dump(mode="json", include={"reason", "at"})
        return make_personal_statement(image, self.installation, {"decision": self.act.value, **signed})

    def is_signed_by(self, credential: Credential, digest: Digest) -> bool:
        """Return whether the holder of a credential signed exactly this decision, about the image of this digest."""
        try:
            image = ImageRef.parse(self.image)
        except DeclarationInvalid:
            return False
        return image.digest == digest and has_signed(credential, self.signature, self.statement(image), image, self.at)


class ImageStatus(Model):
    """The image status: the decisions that are in force about an image, each None if there is none."""

    block: LifecycleDecision | None = None
    hold: LifecycleDecision | None = None
    unblock: LifecycleDecision | None = Field(
        default=None, description="the decision to unblock, if it is the latest one"
    )

    def has(self, act: Act) -> bool:
        """Return whether a decision would change nothing."""
        current = self.block if act in (Act.BLOCK, Act.UNBLOCK) else self.hold
        return (current is not None) is (act in UNDOES)


def locate_image_status(ref: ImageRef) -> ImageRef:
    """Return the place of the statements about the status of an application's image, wherever the image is."""
    return ref.with_repository(name_evidence_repository(TierName.LIFECYCLE, ref.application))


def block_repository(digest: Digest) -> ImageRef:
    """Return the place of the blocks and unblocks of a digest under every name."""
    return ImageRef(repository=DIGESTS, digest=digest)


def read_image_status(ref: ImageRef, store: EvidenceStore) -> Reading:
    """Read all statements about the status of an image; there are none if no repository for them was ever created.

    Raise `SettingInvalid` if the store trusts no key of the lifecycle: every block would be left out as untrusted.
    Errors of the registry are raised.
    """
    own, by_digest = run_both(lambda: _read(locate_image_status(ref), store), lambda: read_blocks(ref.digest, store))
    predicates = [each.statement.predicate for each in own.evidence]
    more = (each for each in by_digest.evidence if each.statement.predicate not in predicates)
    return Reading(own.subject, (*own.evidence, *more), (*own.left_out, *by_digest.left_out))


def read_blocks(digest: Digest, store: EvidenceStore) -> Reading:
    """Read all statements that block or unblock a digest under every name.

    Raise the same errors as `read_image_status`.
    """
    return _read(block_repository(digest), store)


def _read(place: ImageRef, store: EvidenceStore) -> Reading:
    if TierName.LIFECYCLE not in store.trusted:
        raise SettingInvalid(
            f"The {store.tier} tier trusts no key of the lifecycle, so it cannot know what is blocked.\n"
            "Add the public key of `lifecycle` to the trusted keys of the tier's block (`cscm up` does on a laptop)."
        )
    return store.read(place, LIFECYCLE)


def compute_image_status(evidence: Iterable[VerifiedStatement]) -> ImageStatus:
    """Return the image status according to the lifecycle's statements; raise `EvidenceInvalid` for an unreadable one.

    The newest of block and unblock counts, and the newest of hold and unhold. Of two with the same time, the block or
    the hold counts. If both a rule and a person blocked the image, the person's block counts.
    """
    decisions = read_decisions(evidence)
    last, hold = _last(decisions, Act.BLOCK), _last(decisions, Act.HOLD)
    return ImageStatus(
        block=_block(decisions) if last and last.act is Act.BLOCK else None,
        hold=hold if hold and hold.act is Act.HOLD else None,
        unblock=last if last and last.act is Act.UNBLOCK else None,
    )


def read_decisions(evidence: Iterable[VerifiedStatement]) -> tuple[SignedValue[LifecycleDecision], ...]:
    """Return all lifecycle decisions about an image, oldest first; raise `EvidenceInvalid` for an unreadable one."""
    own = (e for e in evidence if e.signer == TierName.LIFECYCLE)
    return read_statements(own, LIFECYCLE, LifecycleDecision.model_validate)


def _last(decisions: Iterable[SignedValue[LifecycleDecision]], act: Act) -> LifecycleDecision | None:
    about = [each for each in decisions if each.value.act in (act, UNDOES[act])]
    last = max(about, key=lambda each: (each.at, each.value.act is act), default=None)
    return last.value if last else None


def _block(decisions: Sequence[SignedValue[LifecycleDecision]]) -> LifecycleDecision:
    """Return the last block since the last unblock, one by a person if there is any."""
    lifted = max((each.at for each in decisions if each.value.act is Act.UNBLOCK), default=BEFORE_ALL)
    blocks = [each.value for each in decisions if each.value.act is Act.BLOCK and each.at >= lifted]
    return max(blocks, key=lambda each: (not each.rule, each.at))


def sign_decision(
    ref: ImageRef,
    act: Act,
    store: EvidenceStore,
    repositories: RepositoryCreator,
    *,
    by: str,
    reason: str,
    now: datetime,
    rule: str = "",
    sign: Callable[[LifecycleDecision], LifecycleDecision] = lambda decision: decision,
) -> Digest | None:
    """Sign a lifecycle decision about an image and return the statement's digest; None if it is in force.

    `rule` is the rule that decided; it is empty for a person's decision, to which `sign` adds the person's signature. A
    new decision gets a later time than all earlier ones, even if the clock is behind, because otherwise it would not
    count. A person can block what a rule blocked; no rule lifts that block. If only one of the two places has the
    block, it is signed in the other one too.
    """
    before = read_image_status(ref, store).list_signed_by(TierName.LIFECYCLE)
    status = compute_image_status(before)
    places = (block_repository(ref.digest), locate_image_status(ref)) if act in BLOCKS else (locate_image_status(ref),)
    stronger = act is Act.BLOCK and not rule and status.block is not None and status.block.rule
    if status.has(act) and not stronger:
        missing = [
            place
            for place in places
            if not compute_image_status(_read(place, store).list_signed_by(TierName.LIFECYCLE)).has(act)
        ]
        first = status.block or status.unblock
        return _sign(first, missing, store, repositories, now) if first else None
    at = max([now, *(each.at + INSTANT for each in read_decisions(before))])
    decision = sign(LifecycleDecision(act=act, by=by, reason=reason, at=at, rule=rule, image=str(ref)))
    return _sign(decision, places, store, repositories, now)


def _sign(
    decision: LifecycleDecision,
    places: Iterable[ImageRef],
    store: EvidenceStore,
    repositories: RepositoryCreator,
    now: datetime,
) -> Digest | None:
    """Attach a decision in each place; return the digest of the last statement, or None without places."""
    signed = None
    for place in places:
        repositories.ensure_repository(place.repository, immutable=True, key=None)
        signed = store.attach(place, LIFECYCLE, decision.predicate(), now)
    return signed
