"""The gates: `evaluate` applies every rule of one gate's policy to its facts and collects every reason to refuse."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar

from supply_chain.model.image import Digest, digest_of
from supply_chain.model.tier import Gate
from supply_chain.policy.facts import ImageFacts
from supply_chain.policy.outcome import Admitted, Reason, Refused

F = TypeVar("F", bound=ImageFacts)

Rule = Callable[[F], Iterable[Reason]]
"""Yields a reason to refuse for each fact that violates it."""
Note = Callable[[F], Iterable[str]]
"""Yields what an operator should know about an image that is admitted."""
PACKAGE = Path(__file__).parent
IMPORT = re.compile(r"^from (supply_chain\.[\w.]+) import ", re.MULTILINE)


@dataclass(frozen=True)
class Policy(Generic[F]):
    """The rules of one gate. There is at least one, because a policy without rules admits everything."""

    gate: Gate
    rules: tuple[Rule[F], ...]
    notes: tuple[Note[F], ...]
    digest: Digest = field(init=False)
    """A digest of the gate, of the names of rules and notes, and of the source that decides what they answer."""

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError("a policy without rules admits everything")
        functions = (*self.rules, *self.notes)
        content = [self.gate.value, *(each.__name__ for each in functions), *read_sources(functions)]
        object.__setattr__(self, "digest", digest_of("\n".join(content).encode()))


def read_sources(functions: Iterable[Callable[..., object]]) -> Iterator[str]:
    """Yield the source of this package, of the functions' modules, and of what these import from this project.

    It is read when the policy is made, so that the digest is that of the code which this process runs.
    """
    yield from (path.read_text(encoding="utf-8") for path in sorted(PACKAGE.glob("*.py")))
    for name in sorted({each.__module__ for each in functions}):
        source = inspect.getsource(sys.modules[name])
        yield source
        yield from (inspect.getsource(sys.modules[imported]) for imported in IMPORT.findall(source))


def evaluate(facts: F, policy: Policy[F]) -> Admitted[F] | Refused:
    """Apply every rule of the policy to the facts and return the verdict with every reason. Pure."""
    reasons = tuple(chain.from_iterable(rule(facts) for rule in policy.rules))
    if reasons:
        return Refused(
            image=facts.ref, gate=policy.gate, policy=policy.digest, reasons=reasons, notes=facts.ignored_referrers
        )
    notes = tuple(chain.from_iterable(note(facts) for note in policy.notes))
    return Admitted(facts=facts, gate=policy.gate, policy=policy.digest, notes=notes)
