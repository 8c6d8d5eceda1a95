"""Isolation records: signed evidence that an application was isolated, of what was collected, and of the recovery."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from supply_chain.evidence.personal_decision import Words
from supply_chain.evidence.reading import read_statements
from supply_chain.evidence.statement import ISOLATION, VerifiedStatement
from supply_chain.execution.isolation.collection import CollectedItem, IsolatedPod, SealedBundle, Uncollected
from supply_chain.model.image import Digest, Model, shorten_digest
from supply_chain.text import pluralize


class Custody(Model):
    """One entry of the chain of custody."""

    at: AwareDatetime
    by: str = Field(description="the tier and its run")
    act: str


class Recovery(Model):
    """What runs after the isolation."""

    outcome: Literal["rolled-back", "scaled-to-zero"]
    digest: Digest | None = Field(default=None, description="the image that runs now; null: none")
    why: str = Field(default="", description="why not an earlier image")

    def __str__(self) -> str:
        what = f"rolled back to {shorten_digest(self.digest)}" if self.digest else "scaled to zero"
        return f"{what}: {self.why}" if self.why else what


class IsolationRecord(Model):
    """The predicate of `statement.ISOLATION`; of the same `id`, the last one counts."""

    id: str
    environment: str
    application: str
    digest: Digest = Field(description="the image that was deployed")
    by: Words = Field(description="the person, as typed, or what isolated it without a person")
    reason: Words
    since: AwareDatetime = Field(description="the time of the event")
    isolated: AwareDatetime = Field(description="when all traffic was denied")
    pods: tuple[IsolatedPod, ...]
    allowing_policies: tuple[str, ...] = Field(
        description="network policies of others that let traffic through nevertheless"
    )
    items: tuple[CollectedItem, ...] = Field(description="the files in the bundle")
    uncollected: tuple[Uncollected, ...]
    bundle: SealedBundle
    custody: tuple[Custody, ...] = Field(description="the chain of custody")
    recovery: Recovery | None = Field(default=None, description="null: it has not recovered yet")
    at: AwareDatetime = Field(description="when this was signed")

    @property
    def seconds(self) -> float:
        """The seconds from the event to the isolation."""
        return (self.isolated - self.since).total_seconds()

    def __str__(self) -> str:
        lines = (
            f"{self.application} in {self.environment} is isolated (case {self.id}): "
            f"{pluralize(len(self.pods), 'pod')}, {self.seconds:.1f} s after the event",
            *(f"traffic is still allowed: {each}" for each in self.allowing_policies),
            f"collected: {pluralize(len(self.items), 'file')}, sealed as {self.bundle.referrer}",
            *(f"not collected: {each.item}: {each.why}" for each in self.uncollected),
            str(self.recovery or "not recovered yet"),
        )
        return "\n".join(lines)

    def predicate(self) -> dict[str, Any]:
        """Return the predicate as it is signed."""
        return self.model_dump(mode="json")


def find_isolation(evidence: Iterable[VerifiedStatement], case: str) -> IsolationRecord | None:
    """Return the last record of an isolation; None if nothing was collected yet.

    Raises `EvidenceInvalid` for a record that cannot be read.
    """
    return find_record(find_last_records(evidence), case)


def find_last_records(evidence: Iterable[VerifiedStatement]) -> tuple[IsolationRecord, ...]:
    """Return the last record of each isolation; raise as `find_isolation`."""
    records = [each.value for each in read_statements(evidence, ISOLATION, IsolationRecord.model_validate)]
    return tuple({each.id: each for each in records}.values())


def find_record(records: Iterable[IsolationRecord], case: str) -> IsolationRecord | None:
    """Return the record of a case; None if there is none."""
    return next((each for each in records if each.id == case), None)
