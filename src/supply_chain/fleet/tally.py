"""How far a rescan is, and what it came to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from supply_chain.fleet.exposure import TOLD, Judged, Rescanned, Unjudged, by_exposure, concerned
from supply_chain.fleet.known import KnownImage
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import is_base_repository
from supply_chain.vulnerability.findings import Database, Finding
from supply_chain.vulnerability.scanner import Scanner

FINDINGS = ("exploited", "worse", "better", "due", "findings")
"""Where a judgement names findings."""


@dataclass
class Tally:
    """Counts images as they are done, each once; those who add to it do so from their own threads.

    Of what nothing is to be told, the reference alone is kept; of what is told, the same finding once for all images.
    """

    total: int
    scanner: str
    database: Database
    begun: datetime
    only: tuple[str, ...] = ()
    archived: int = 0
    started: float = field(default_factory=time.monotonic)
    without: int = 0
    found: dict[ImageRef, Judged | Unjudged] = field(default_factory=dict)
    _findings: dict[Finding, Finding] = field(default_factory=dict)
    _done: set[ImageRef] = field(default_factory=set)
    _signed: set[ImageRef] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, images: Sequence[KnownImage], scanner: Scanner, begun: datetime, only: tuple[str, ...]) -> Self:
        """Of a run over these images, none of which is done yet; those that are shelved are left out."""
        version, database = scanner.current()
        archived = sum(each.shelved for each in images)
        return cls(len(images) - archived, f"grype {version}", database, begun, only, archived=archived)

    def add(self, ref: ImageRef, seen: Judged | Unjudged | None) -> None:
        """One is done, maybe once more; None carries none of the packages that were asked for."""
        with self._lock:
            self.without += seen is None and ref not in self._done
            self._done.add(ref)
            self.found.pop(ref, None)
            if isinstance(seen, Unjudged):
                self.found[ref] = seen
            elif seen is not None and (seen.tells or is_base_repository(ref.repository)):
                self.found[ref] = self._shared(seen)
            if isinstance(seen, Judged) and seen.signed:
                self._signed.add(ref)

    def _shared(self, seen: Judged) -> Judged:
        """The same, with the findings that other images have too in common with them."""
        once = self._findings.setdefault
        return seen.model_copy(
            update={name: tuple(once(each, each) for each in getattr(seen, name)) for name in FINDINGS}
        )

    def left(self, images: Iterable[KnownImage]) -> list[KnownImage]:
        """Those that got no answer and may get one later."""
        found = self.found
        return [i for i in images if isinstance(seen := found.get(i.ref), Unjudged) and seen.retryable]

    @property
    def done(self) -> int:
        return len(self._done)

    @property
    def unjudged(self) -> int:
        """How many could not be judged so far."""
        with self._lock:
            return sum(isinstance(each, Unjudged) for each in self.found.values())

    @property
    def judged(self) -> tuple[Judged, ...]:
        """Those of which anything is to be told, and bases, of which the next ones are told."""
        return tuple(each for each in self.found.values() if isinstance(each, Judged))

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.started

    @property
    def percent(self) -> float:
        """0 to 100."""
        return min(100.0 * self.done / self.total, 100.0) if self.total else 100.0

    def rescanned(self) -> Rescanned:
        """What it came to so far."""
        telling = by_exposure(each for each in self.judged if each.tells)
        return Rescanned(
            database=self.database,
            scanner=self.scanner,
            started=self.begun,
            seconds=self.seconds,
            images=self.done - self.without,
            only=self.only,
            without=self.without,
            left=self.total - self.done,
            archived=self.archived,
            signed=len(self._signed),
            changed=sum(each.change is not None for each in self.judged),
            exploited=sum(bool(each.exploited) for each in self.judged),
            told=tuple(each.model_copy(update={"findings": ()}) for each in telling[:TOLD]),
            more=len(telling[TOLD:]),
            concerned=concerned(telling),
            unjudged=tuple(each for each in self.found.values() if isinstance(each, Unjudged)),
        )
