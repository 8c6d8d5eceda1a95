"""Moves: the action that is due for an image at its next gate, or the reason why none is.

Moves are read from signed statements and from the registry only. An event that is lost, duplicated, late or out of
order therefore makes no difference: every promotion asks here first. `offered` reads the moves at the intake gate,
`released` those at the deploy gate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from supply_chain.evidence.summary import Summary
from supply_chain.model.image import ImageRef, Model
from supply_chain.model.tier import Gate


class Images(Protocol):
    """The registry queries that moves need."""

    def repositories(self, prefix: str) -> tuple[str, ...]:
        """Return the repositories whose names begin with the prefix, sorted."""

    def newest_first(self, repository: str, *, archived: bool = False) -> tuple[ImageRef, ...]:
        """Return the images that have a tag, last push first; none if the repository does not exist.

        Images that cannot be pulled, because they are archived or being restored, are included only with `archived`.
        """


class Move(Model):
    """The action due for an image at its next gate: the destination `to`, or none, for this `reason`."""

    image: ImageRef
    to: str = ""
    """The destination: `curation`, or the name of an environment; empty if the image stays."""
    after: str | None = None
    reason: str = ""
    waits: bool = False
    """Whether the missing evidence may still arrive."""
    asks: bool = False
    """Whether a person has to decide first and has not yet."""
    signers: int = 0
    """How many people have to approve with keys of their own, which a form does not replace."""
    unreadable: bool = False
    """Whether the image stays because signed statements or an environment's document cannot be read, or are missing."""


def no_move(ref: ImageRef, reason: str) -> Move:
    """Return the move of an image that stays."""
    return Move(image=ref, reason=reason)


def unreadable_move(ref: ImageRef, reason: str) -> Move:
    """Return the move of an image that stays and needs somebody's attention."""
    return Move(image=ref, reason=reason, unreadable=True)


def reportable_moves(moves: Iterable[Move]) -> tuple[Move, ...]:
    """Return the moves with a destination, and those that are unreadable."""
    return tuple(move for move in moves if move.to or move.unreadable)


def codes_of(verdict: Summary) -> set[str]:
    """Return the codes of the reasons of a refusal."""
    return {reason.get("code", "") for reason in verdict.cscm.reasons}


def why_refused(verdict: Summary, gate: Gate) -> str:
    """Return a sentence that says where an image was refused and why."""
    return f"it was refused at the {gate} gate: {', '.join(sorted(codes_of(verdict)))}"
