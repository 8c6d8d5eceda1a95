"""The verdict of a gate: admitted, or refused with every reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic

from pydantic import AwareDatetime, Field

from supply_chain.evidence.provenance import Provenance
from supply_chain.evidence.summary import Named, RefusedRule
from supply_chain.model.image import Digest, ImageRef, Model
from supply_chain.model.tier import Gate
from supply_chain.policy.facts import F
from supply_chain.text import list_remedies, render_time

IMAGE_BLOCKED, BASE_BLOCKED = "image.blocked", "base.blocked"
"""Codes of the reasons that no longer apply once the block is lifted."""


class Reason(Model):
    """A reason for a refusal."""

    code: str
    fact: str = Field(description="what broke the rule")
    remedy: str


class RuleOutcome(StrEnum):
    """What a rule says about an image, in the order of a reader's interest."""

    REFUSED = "refused"
    WAIVED = "waived"
    OVERRIDDEN = "overridden"
    """It refuses the image, and a person's break-glass lets the image run all the same."""
    WARNED = "warned"
    PASSED = "passed"
    NOT_APPLICABLE = "does not apply"


class UsedWaiver(Model):
    """A waiver that a verdict rests on."""

    name: str
    digest: Digest = Field(description="of its document")
    by: str = Field(description="who signed it")
    reason: str
    expires: AwareDatetime

    def __str__(self) -> str:
        return f"{self.name}, signed by {self.by}, until {self.expires:%Y-%m-%d}: {self.reason}"


class UsedBreakGlass(Model):
    """A break-glass that a verdict rests on."""

    by: str = Field(description="who signed it")
    reason: str
    expires: AwareDatetime

    def __str__(self) -> str:
        return f"by {self.by} until {render_time(self.expires)}: {self.reason}"


class RuleResult(Model):
    """The result of one rule."""

    rule: str = Field(description="the id of the rule")
    policy: str = Field(description="name and version of its policy")
    result: RuleOutcome
    reasons: tuple[Reason, ...] = Field(default=(), description="why it does not hold, without waivers if it is waived")
    findings: Digest | None = Field(
        default=None,
        description="SHA-256 of all findings that it refuses the image for; null: none, or the deploy gate",
    )
    waivers: tuple[UsedWaiver, ...] = Field(default=(), description="those that accept what is waived")
    break_glass: UsedBreakGlass | None = Field(default=None, description="what overrides the rule; null: nothing")


def list_used_waivers(results: Iterable[RuleResult]) -> tuple[UsedWaiver, ...]:
    """Return the waivers that a verdict rests on, each once, in the order of their names."""
    return tuple(sorted({waiver for each in results for waiver in each.waivers}, key=lambda each: each.name))


def find_used_break_glass(results: Iterable[RuleResult]) -> UsedBreakGlass | None:
    """Return the break-glass that a verdict rests on, of several the one that ends first; None if it rests on none."""
    used = (each.break_glass for each in results if each.break_glass is not None)
    return min(used, key=lambda each: each.expires, default=None)


class Unjudged(Model):
    """A rule that reads facts which are not there yet."""

    rule: str = Field(description="the id of the rule")
    policy: str = Field(description="name and version of its policy")
    needs: tuple[str, ...] = Field(min_length=1, description="the facts that it reads and that are missing")


@dataclass(frozen=True)
class Admitted(Generic[F]):
    """The verdict that an image passed this gate under this policy. Only `gate.evaluate` makes it.

    The next step takes it, and so cannot be given an image that the gate did not admit, or the facts of another one.
    """

    facts: F
    gate: Gate
    policy: Digest
    notes: tuple[str, ...]
    """What an operator should know all the same."""
    results: tuple[RuleResult, ...] = ()
    """The result of every rule."""
    expires: datetime | None = None
    """When the first of the people's decisions ends that it rests on, also by earlier gates; or when a rule that only
    warned refuses the image. None if neither happens.
    """
    reviews: tuple[Named, ...] = ()
    """The documents with the reviews that it rests on."""
    levels: tuple[str, ...] = ()
    """The levels that the evidence shows, one per SLSA track."""

    @property
    def provenance(self) -> Provenance:
        """The signed provenance, which every gate requires."""
        assert self.facts.provenance is not None
        return self.facts.provenance


class Refused(Model):
    """A refusal, with every reason of the gate."""

    image: ImageRef | None = Field(description="null if it was not built")
    application: str = Field(default="", description="if there is no image")
    gate: Gate
    policy: Digest
    reasons: tuple[Reason, ...] = Field(min_length=1)
    notes: tuple[str, ...] = Field(default=(), description="what rules only warn of")
    results: tuple[RuleResult, ...] = Field(default=(), description="the result of every rule")
    refused_rules: tuple[RefusedRule, ...] = Field(
        default=(), description="for each rule that refuses: its evidence, and how to ask for a waiver"
    )
    expires: AwareDatetime | None = Field(
        default=None, description="when the first of the people's decisions ends that it rests on"
    )
    reviews: tuple[Named, ...] = Field(default=(), description="the documents with the reviews that it rests on")

    def __str__(self) -> str:
        subject = self.image or f"{self.application}, before it is built,"
        lines = [f"{subject} is refused at the {self.gate} gate:"]
        lines += list_remedies(((f"  {r.code}: {r.fact}", r.remedy) for r in self.reasons), "      ")
        lines += [f"  {each}" for each in self.refused_rules]
        if self.notes:
            lines += ["Warnings, which refuse nothing:", *(f"  {note}" for note in self.notes)]
        return "\n".join(lines)
