"""Progress and results of a rescan."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from supply_chain.fleet.exposure import (
    MOST_REPORTED,
    RescanReport,
    RescanResult,
    Unjudged,
    group_by_application,
    sort_by_exposure,
)
from supply_chain.fleet.image import FleetImage
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import is_base_repository
from supply_chain.vulnerability.findings import Database, Finding
from supply_chain.vulnerability.scanner import Scanner

FINDINGS = ("exploited", "worse", "better", "due", "findings")
"""The fields of `RescanResult` that hold findings."""


@dataclass
class Tally:
    """A thread-safe counter of images, each counted once.

    To save memory, it stores only the reference of an image without anything to report, and shares equal findings among
    the images that it reports.
    """

    total: int
    scanner: str
    database: Database
    begun: datetime
    only: tuple[str, ...] = ()
    archived: int = 0
    started: float = field(default_factory=time.monotonic)
    without: int = 0
    outcomes: dict[ImageRef, RescanResult | Unjudged] = field(default_factory=dict)
    _findings: dict[Finding, Finding] = field(default_factory=dict)
    _done: set[ImageRef] = field(default_factory=set)
    _signed: set[ImageRef] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, images: Sequence[FleetImage], scanner: Scanner, begun: datetime, only: tuple[str, ...]) -> Self:
        """Return a tally for these images, with none done yet; shelved images are left out."""
        version, database = scanner.identify()
        archived = sum(each.shelved for each in images)
        return cls(len(images) - archived, f"grype {version}", database, begun, only, archived=archived)

    def add(self, ref: ImageRef, result: RescanResult | Unjudged | None) -> None:
        """Record the result of an image, also a repeated one; None if it carries none of the wanted packages."""
        with self._lock:
            self.without += result is None and ref not in self._done
            self._done.add(ref)
            self.outcomes.pop(ref, None)
            if isinstance(result, Unjudged):
                self.outcomes[ref] = result
            elif result is not None and (result.is_reportable or is_base_repository(ref.repository)):
                self.outcomes[ref] = self._share_findings(result)
            if isinstance(result, RescanResult) and result.signed:
                self._signed.add(ref)

    def _share_findings(self, result: RescanResult) -> RescanResult:
        """Return the result with its findings replaced by equal objects of other images."""
        once = self._findings.setdefault
        return result.model_copy(
            update={name: tuple(once(each, each) for each in getattr(result, name)) for name in FINDINGS}
        )

    def list_retryable(self, images: Iterable[FleetImage]) -> list[FleetImage]:
        """Return the images that could not be judged and may be judged later."""
        outcomes = self.outcomes
        return [i for i in images if isinstance(result := outcomes.get(i.ref), Unjudged) and result.retryable]

    @property
    def done(self) -> int:
        """The number of images that are done."""
        return len(self._done)

    @property
    def unjudged(self) -> int:
        """The number of images that could not be judged so far."""
        with self._lock:
            return sum(isinstance(each, Unjudged) for each in self.outcomes.values())

    @property
    def results(self) -> tuple[RescanResult, ...]:
        """The images with something to report, and the bases, which the results of other images refer to."""
        return tuple(each for each in self.outcomes.values() if isinstance(each, RescanResult))

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def percent(self) -> float:
        """Progress from 0 to 100."""
        return min(100.0 * self.done / self.total, 100.0) if self.total else 100.0

    def rescanned(self) -> RescanReport:
        """Return the result of the rescan so far."""
        telling = sort_by_exposure(each for each in self.results if each.is_reportable)
        return RescanReport(
            database=self.database,
            scanner=self.scanner,
            started=self.begun,
            seconds=self.seconds,
            images=self.done - self.without,
            packages=self.only,
            images_without_packages=self.without,
            images_not_rescanned=self.total - self.done,
            archived=self.archived,
            signed=len(self._signed),
            changed=sum(each.change is not None for each in self.results),
            exploited=sum(bool(each.exploited) for each in self.results),
            reported=tuple(each.model_copy(update={"findings": ()}) for each in telling[:MOST_REPORTED]),
            omitted=len(telling[MOST_REPORTED:]),
            applications=group_by_application(telling),
            unjudged=tuple(each for each in self.outcomes.values() if isinstance(each, Unjudged)),
        )
