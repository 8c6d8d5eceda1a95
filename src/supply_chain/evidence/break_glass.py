"""Break-glass: a person lets a refused image run in an environment for some hours, signed with their own key.

It overrides the rules that refused the image when it was signed. It covers the findings, reasons and ended waivers for
which those rules refused the image then, and nothing that appears later.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, StringConstraints

from supply_chain.evidence.approval import Approval, find_last_denial
from supply_chain.evidence.clock import INSTANT
from supply_chain.evidence.keyless import Credential
from supply_chain.evidence.personal_decision import Words, has_signed, make_personal_statement
from supply_chain.evidence.reading import read_statements
from supply_chain.evidence.statement import BREAK_GLASS, Statement, VerifiedStatement
from supply_chain.model.image import Digest, ImageRef, Model

MOST_OVERRIDES = 5000
"""The most that a break-glass may name."""
MOST_SIGNATURE = 2 * 1024 * 1024
"""Maximum number of characters of a signature, which contains all that it names."""


class BreakGlass(Model):
    """The predicate of `statement.BREAK_GLASS`."""

    environment: str
    digest: Digest = Field(description="the image")
    by: Words = Field(description="the name of the person, which the deploy gate verifies by the signature")
    reason: Words
    at: AwareDatetime = Field(description="when the person signed it")
    expires: AwareDatetime = Field(description="from then on it has no effect")
    overrides: tuple[str, ...] = Field(
        default=(),
        description="codes of rules, and with the code each finding (`CODE: ID in PACKAGE VERSION`), reason of an "
        "earlier gate (`CODE: CODE: TEXT`), digest of its findings (`CODE: findings of CODE: DIGEST`) or waiver of "
        "its verdict that has ended (`CODE: waiver NAME@DIGEST`)",
    )
    installation: str = Field(default="", description="the installation for which the person signed")
    signature: Annotated[str, StringConstraints(max_length=MOST_SIGNATURE)] = Field(
        default="",
        description="a sigstore bundle by the person's own key; without it, it has no effect",
    )

    def __str__(self) -> str:
        return f"break-glass for {self.environment} by {self.by} until {self.expires:%Y-%m-%d %H:%M %Z}: {self.reason}"

    def statement(self, image: ImageRef) -> Statement:
        """Return what the person signs with a key of their own."""
        signed = self.model_dump(mode="json", include={"environment", "reason", "at", "expires", "overrides"})
        decision = {"decision": "break-glass", **signed}
        return make_personal_statement(image.with_digest(self.digest), self.installation, decision)

    def is_signed_by(self, credential: Credential, image: ImageRef) -> bool:
        """Return whether the holder of a credential signed exactly this about this image."""
        return has_signed(credential, self.signature, self.statement(image), image, self.at)

    def predicate(self) -> dict[str, Any]:
        """Return the predicate as it is signed."""
        return self.model_dump(mode="json")


def list_break_glass_uses(
    evidence: Iterable[VerifiedStatement], environment: str, digest: Digest
) -> tuple[BreakGlass, ...]:
    """Return the uses of break-glass for a digest in an environment since the last denial, oldest first.

    A denial at the same time or later ends a use. Whether the signatures are valid is not verified. Raise
    `EvidenceInvalid` for a use or a decision that cannot be read.
    """
    statements = tuple(evidence)
    denied = find_last_denial(statements, environment, digest)
    uses = (each.value for each in read_statements(statements, BREAK_GLASS, BreakGlass.model_validate))
    return tuple(
        each
        for each in uses
        if (each.environment, each.digest) == (environment, digest) and (denied is None or each.at > denied)
    )


def date_use(use: BreakGlass, before: Iterable[VerifiedStatement]) -> BreakGlass:
    """Return a use with a time after the last denial, which would end it otherwise if the clock is behind."""
    denied = find_last_denial(before, use.environment, use.digest)
    return use if denied is None else use.model_copy(update={"at": max(use.at, denied + INSTANT)})


def date_denial(decision: Approval, before: Iterable[VerifiedStatement]) -> Approval:
    """Return a denial with a time at which it ends each use before it, also if the clock is behind."""
    if decision.approved:
        return decision
    used = (each.at for each in list_break_glass_uses(before, decision.environment, decision.digest))
    return decision.model_copy(update={"decided": max([decision.decided, *used])})
