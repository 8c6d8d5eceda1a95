"""How far a rescan is, and what it came to."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from supply_chain.fleet.exposure import Judged, Rescanned, Unjudged, by_exposure
from supply_chain.vulnerability.scanner import Scanner


@dataclass
class Tally:
    """Counts images as they are done; those who add to it do so from their own threads."""

    total: int
    begun: datetime
    started: float = field(default_factory=time.monotonic)
    done: int = 0
    without: int = 0
    signed: int = 0
    unjudged: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, seen: Judged | Unjudged | None) -> None:
        """One more is done; None carries none of the packages that were asked for."""
        with self._lock:
            self.done += 1
            self.without += seen is None
            self.unjudged += isinstance(seen, Unjudged)
            self.signed += isinstance(seen, Judged) and seen.signed

    def again(self, number: int) -> None:
        """So many that were done without an answer are done once more."""
        with self._lock:
            self.done -= number
            self.unjudged -= number

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.started

    @property
    def percent(self) -> float:
        """0 to 100."""
        return min(100.0 * self.done / self.total, 100.0) if self.total else 100.0

    def rescanned(self, found: Sequence[Judged | Unjudged], archived: int, scanner: Scanner) -> Rescanned:
        """What it came to; `found` is all of which anything is to be told."""
        version, database = scanner.current()
        seen = [each.model_copy(update={"findings": ()}) for each in found if isinstance(each, Judged)]
        return Rescanned(
            database=database,
            scanner=f"grype {version}",
            started=self.begun,
            seconds=self.seconds,
            images=self.done - self.without,
            without=self.without,
            archived=archived,
            signed=self.signed,
            changed=sum(each.change is not None for each in seen),
            exploited=sum(bool(each.exploited) for each in seen),
            told=by_exposure(each for each in seen if each.tells),
            unjudged=tuple(each for each in found if isinstance(each, Unjudged)),
        )
