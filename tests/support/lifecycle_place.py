"""A registry in memory, over which the tasks of the lifecycle run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import lifecycle as flows
from supply_chain.adapters.files.plan_journal import FileJournal
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.fleet.image import FleetImage
from supply_chain.lifecycle.planning import plan_lifecycle as plan_of
from supply_chain.lifecycle.snapshot import RepositorySnapshot
from supply_chain.model.image import ImageRef, StorageStatus, StoredManifest
from supply_chain.model.tier import TierName
from tasks import lifecycle
from tests.support.snapshots import NOW, RULES, Shelf, image, newest, snapshot_of
from tests.support.world import World


class Place(Shelf):
    """A registry in memory that also lists its repositories."""

    def __init__(self, snapshot: RepositorySnapshot, world: World, journals: Path) -> None:
        super().__init__(snapshot)
        self.world, self.snapshot, self.plan = world, snapshot, plan_of(snapshot, RULES, NOW)
        self.events: list[Any] = []
        self.tables: dict[str, Any] = {}
        self.numbers: list[Any] = []
        self.ports: Any = None
        self.journals = journals

    def repositories(self, prefix: str) -> tuple[str, ...]:
        return tuple(sorted({r.repository for r in self.held if r.repository.startswith(prefix)}))

    def images(self, repository: str) -> tuple[StoredManifest, ...]:
        return tuple(m.stored for r, m in self.held.items() if r.repository == repository)

    def find_by_digest(self, begins: str, prefix: str) -> tuple[ImageRef, ...]:
        return tuple(each for each in self.held if each.digest == begins and each.repository.startswith(prefix))

    def status(self, where: ImageRef) -> StorageStatus:
        return self.held[where].stored.status

    def list_indexes(self, where: ImageRef) -> tuple[ImageRef, ...]:
        return ()

    def copies(self, where: ImageRef) -> tuple[ImageRef, ...]:
        return ()

    def ensure_repository(self, *_: object, **__: object) -> None:
        pass

    def read_snapshot(self, images: Iterable[FleetImage], now: datetime) -> RepositorySnapshot:
        return snapshot_of(*images)


@pytest.fixture
def place(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Place:
    """Set up a registry for the tasks, and record what they report."""
    place = Place(snapshot_of(*newest(1), image(2, 500, exploited=True)), world, tmp_path)
    store = world.store(TierName.LIFECYCLE)

    def emit(event: str, where: ImageRef, source: object, number: object, **payload: object) -> None:
        place.numbers.append(number)
        place.events.append((event, where, payload))

    async def table(key: str, table: object, description: str) -> None:
        place.tables[key] = (table, description)

    place.ports = SimpleNamespace(
        repositories=place, evidence=store, reader=place,
        workbench=SimpleNamespace(rules=lambda name: RULES, lifting_decisions="any",
                                  unknown_environments=lambda documents: {},
                                  environment_documents=lambda: EnvironmentDocuments((), {})),
        tier=SimpleNamespace(session=None),
        decision_ports=SimpleNamespace(evidence=store, storage=place, around=place),
        journal=lambda plan: FileJournal(tmp_path / f"{plan.digest[7:]}.journal"),
    )  # fmt: skip
    monkeypatch.setattr(lifecycle, "read_clock", lambda: NOW)
    monkeypatch.setattr(lifecycle, "emit", emit)
    for module in (lifecycle, flows):
        monkeypatch.setattr(module, "acreate_table_artifact", table)
    return place
