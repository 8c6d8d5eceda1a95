"""Survivors that somebody looked at: which they are, and why no test needs to notice them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import StringConstraints

from supply_chain.model.image import Model
from tests.mutation.mutants import Name


class Reviewed(Model):
    """One mutant that may survive."""

    file: str
    function: str
    line: str
    becomes: str
    nth: int = 1
    reason: Annotated[str, StringConstraints(min_length=20)]

    @property
    def name(self) -> Name:
        return Name(self.file, self.function, self.line, self.becomes, self.nth)


class Review(Model):
    """`reviewed.yaml`."""

    survivors: tuple[Reviewed, ...]


def objections(reviewed: Iterable[Reviewed], present: set[Name], tried: set[Name], survived: set[Name]) -> list[str]:
    """What is wrong, a sentence each: survivors without a reason, and reasons without a survivor.

    Of the mutants that are `present`, those that were `tried` may have survived.
    """
    listed = [each.name for each in reviewed]
    twice = [f"reviewed twice: {name}" for name in sorted(set(listed), key=str) if listed.count(name) > 1]
    new = [f"no test notices: {name}" for name in sorted(survived - set(listed), key=str)]
    gone = [f"reviewed, and there is no such mutant: {name}" for name in listed if name not in present]
    noticed = [f"reviewed, and a test notices it: {name}" for name in listed if name in tried - survived]
    return [*new, *twice, *gone, *noticed]
