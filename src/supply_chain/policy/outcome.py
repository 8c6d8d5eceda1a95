"""The verdict of a gate: admitted, or refused with every reason."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import Field

from supply_chain.model.image import Digest, ImageRef, Model
from supply_chain.model.tier import Gate

T = TypeVar("T")


class Reason(Model):
    """A reason for a refusal. `code` is published, and its meaning never changes."""

    code: str
    fact: str = Field(description="what broke the rule")
    remedy: str = Field(description="what to do")


class Admitted(Model, Generic[T]):
    """The verdict that an image passed this gate under this policy."""

    image: T
    gate: Gate
    policy: Digest
    notes: tuple[str, ...] = Field(default=(), description="what an operator should know all the same")


class Refused(Model):
    """The verdict that an image did not pass, with every reason of that gate."""

    image: ImageRef | None = Field(description="null if it was not built")
    application: str = Field(default="", description="if there is no image")
    gate: Gate
    policy: Digest
    reasons: tuple[Reason, ...] = Field(min_length=1)
    notes: tuple[str, ...] = Field(default=(), description="attachments that do not count")

    def __str__(self) -> str:
        subject = self.image or f"{self.application}, before it is built,"
        lines = [f"{subject} is refused at the {self.gate} gate:"]
        lines += [f"  {r.code}: {r.fact}\n      → {r.remedy}" for r in self.reasons]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)
