"""Approvals: a person's decision on one image in one environment, signed by execution and read by the deploy gate."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from supply_chain.evidence.clock import INSTANT, SKEW
from supply_chain.evidence.keyless import Credential
from supply_chain.evidence.personal_decision import PersonalSignature, Words, has_signed, make_personal_statement
from supply_chain.evidence.reading import SignedValue, read_statements
from supply_chain.evidence.statement import APPROVAL, Statement, VerifiedStatement
from supply_chain.model.image import Digest, ImageRef, Model


class Approval(Model):
    """The predicate of `statement.APPROVAL`."""

    environment: str
    digest: Digest = Field(description="the image")
    decision: Literal["approved", "denied"]
    by: Words = Field(
        description="the name of the person who decided; the deploy gate verifies it only with a signature"
    )
    reason: Words
    decided: AwareDatetime
    installation: str = Field(default="", description="the installation for which the person signed")
    signature: PersonalSignature = Field(
        default="",
        description="a sigstore bundle of the decision by the person's own key; empty: the name is unverified",
    )

    @property
    def approved(self) -> bool:
        """Return whether the decision is an approval."""
        return self.decision == "approved"

    def __str__(self) -> str:
        return f"{self.decision} for {self.environment} by {self.by}: {self.reason}"

    def statement(self, image: ImageRef) -> Statement:
        """Return what a person signs with a key of their own: this decision about this image at this time."""
        signed = {"environment", "decision", "reason", "decided"}
        decision = self.model_dump(mode="json", include=signed)
        return make_personal_statement(image.with_digest(self.digest), self.installation, decision)

    def is_signed_by(self, credential: Credential, image: ImageRef) -> bool:
        """Return whether the holder of a credential signed exactly this decision about this image."""
        return has_signed(credential, self.signature, self.statement(image), image, self.decided)

    def has_same_content(self, other: Approval) -> bool:
        """Return whether two decisions differ only in their time."""
        return self == other.model_copy(update={"decided": self.decided})

    def predicate(self) -> dict[str, Any]:
        """Return the predicate as it is signed."""
        return self.model_dump(mode="json")


def find_last_approval(
    evidence: Iterable[VerifiedStatement], environment: str, digest: Digest
) -> SignedValue[Approval] | None:
    """Return the last decision on a digest in an environment; a later one outweighs an earlier one, in both directions.

    Of two with the same time, the denial counts. Raise `EvidenceInvalid` for one that cannot be read.
    """
    about = _about(evidence, environment, digest)
    return max(about, key=lambda each: (each.at, not each.value.approved), default=None)


def list_signed_approvals(
    evidence: Iterable[VerifiedStatement], environment: str, digest: Digest
) -> tuple[Approval, ...]:
    """Return the approvals with a person's signature since the last denial, oldest first.

    Whether the signatures are valid is not verified. Raise `EvidenceInvalid` for a decision that cannot be read.
    """
    decisions = sorted(_about(evidence, environment, digest), key=lambda each: (each.at, not each.value.approved))
    since: list[Approval] = []
    for each in decisions:
        if not each.value.approved:
            since = []
        elif each.value.signature:
            since.append(each.value)
    return tuple(since)


def find_last_denial(evidence: Iterable[VerifiedStatement], environment: str, digest: Digest) -> datetime | None:
    """Return when a person last denied a digest for an environment; None if nobody did.

    Raise `EvidenceInvalid` for a decision that cannot be read.
    """
    denials = (each.at for each in _about(evidence, environment, digest) if not each.value.approved)
    return max(denials, default=None)


def date_decision(decision: Approval, evidence: Iterable[VerifiedStatement], *, sent: bool) -> Approval | None:
    """Return the decision with the time of its signature; None if it was signed before.

    A decision that is made now gets a later time than all earlier ones, even if the clock is behind, because otherwise
    it would not count. An approval that was `sent` in a form can be read long afterwards. It therefore outweighs no
    decision that was signed meanwhile, and no denial shortly before it whose order is uncertain because clocks differ
    (`SKEW`).
    """
    signed = [each.value for each in _about(evidence, decision.environment, decision.digest)]
    if sent and decision.approved:
        doubtful = (each for each in signed if not each.approved and each.decided > decision.decided - SKEW)
        approval = _of(min([decision.decided, *(each.decided - INSTANT for each in doubtful)]), decision)
        return None if approval in signed else approval
    if sent and any(each.has_same_content(decision) and each.decided >= decision.decided for each in signed):
        return None
    return _of(max([decision.decided, *(each.decided + INSTANT for each in signed)]), decision)


def _of(at: datetime, decision: Approval) -> Approval:
    return decision.model_copy(update={"decided": at})


def _about(evidence: Iterable[VerifiedStatement], environment: str, digest: Digest) -> list[SignedValue[Approval]]:
    decisions = read_statements(evidence, APPROVAL, Approval.model_validate)
    return [each for each in decisions if (each.value.environment, each.value.digest) == (environment, digest)]
