"""Moves: what is to be done with an image at its next boundary, or why nothing is.

All of it is read from signed statements and from the registry, so that an event that was lost, doubled, late
or out of order makes no difference: whoever starts a promotion asks here first. `offered` is what is due at
boundary 1, `vended` what is due at boundary 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from supply_chain.evidence.summary import Summary
from supply_chain.model.image import Frozen, ImageRef
from supply_chain.model.tier import Boundary


class Images(Protocol):
    """What is asked of a registry."""

    def repositories(self, prefix: str) -> tuple[str, ...]:
        """The repositories whose names begin so, sorted."""

    def newest_first(self, repository: str, *, archived: bool = False) -> tuple[ImageRef, ...]:
        """The images that have a tag, the last one pushed first; none where there is no repository.

        Those that nobody can pull, being archived or on their way back, only where they are asked for.
        """


class Move(Frozen):
    """What is to be done with an image at its next boundary: nothing, for the reason that `why` tells, or a move."""

    image: ImageRef
    to: str = ""
    """Where it goes: `curation`, or an environment's name; empty where it goes nowhere."""
    after: str | None = None
    why: str = ""
    waits: bool = False
    """Whether what it lacks may still come: its evidence."""
    asks: bool = False
    """Whether a person has to decide first, and did not yet."""
    unreadable: bool = False
    """Whether it goes nowhere because what is signed about the application's images cannot be read, or found."""


def nothing(ref: ImageRef, why: str) -> Move:
    """It stays where it is."""
    return Move(image=ref, why=why)


def unreadable(ref: ImageRef, why: str) -> Move:
    """It stays where it is, and somebody has to look."""
    return Move(image=ref, why=why, unreadable=True)


def worth_telling(found: Iterable[Move]) -> tuple[Move, ...]:
    """Those that go somewhere, and those that nobody can judge."""
    return tuple(move for move in found if move.to or move.unreadable)


def codes_of(verdict: Summary) -> set[str]:
    """For what it said no."""
    return {reason.get("code", "") for reason in verdict.cscm.reasons}


def why_refused(verdict: Summary, boundary: Boundary) -> str:
    """That it said no, and for what."""
    return f"it was refused at {boundary}: {', '.join(sorted(codes_of(verdict)))}"
