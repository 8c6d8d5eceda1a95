"""The nightly lifecycle flow on a Prefect server, with a registry and its signed statements."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

import tasks.lifecycle
from blocks import tier_ports
from flows import lifecycle
from supply_chain.adapters.database.store import open_inventory
from supply_chain.evidence.provenance import make_provenance
from supply_chain.evidence.statement import PROVENANCE
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.fleet.reconcile import refresh
from supply_chain.lifecycle.apply import Applied, Outcome
from supply_chain.lifecycle.plan import Plan
from supply_chain.model.tier import TierName
from tests.integration.lifecycle.shop import LATER, RULES, Shop, held, named, released
from tests.support.builders import built, declaration

pytestmark = pytest.mark.real


@pytest.fixture
def night(
    shop: Shop,
    machine: Callable[[str], AbstractContextManager[Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> SimpleNamespace:
    """The flow with the real registry, inventory and evidence, at a time when all pushed images are old."""
    inventory = open_inventory(f"sqlite:///{tmp_path / 'inventory.db'}")
    store = shop.store(TierName.LIFECYCLE)
    blocks = {
        "lifecycle": SimpleNamespace(ecr=shop.ecr, http=shop.http, session=None),
        "inventory": SimpleNamespace(open=lambda: inventory),
        "workbench": SimpleNamespace(
            lifecycle="apply",
            rules=lambda name: RULES,
            unknown_environments=lambda documents: {},
            environment_documents=lambda: EnvironmentDocuments((DockerEnvironment(name="staging"),), {}),
        ),
    }

    async def load(name: str) -> Any:
        return blocks[name]

    for kind in ("Tier", "Workbench"):
        monkeypatch.setattr(tier_ports, kind, SimpleNamespace(aload=load))
    monkeypatch.setattr(tier_ports.TierPorts, "evidence", store)
    monkeypatch.setattr(tasks.lifecycle, "Inventory", SimpleNamespace(aload=load))
    monkeypatch.setattr(tasks.lifecycle, "load_hosts", AsyncMock(return_value={}))
    monkeypatch.setattr(tasks.lifecycle, "read_clock", lambda: datetime.now(UTC) + LATER)
    look = lambda: refresh("hello", shop.ecr, store, inventory, lambda _: "", None)  # noqa: E731
    return SimpleNamespace(look=look, workbench=blocks["workbench"])


async def test_superseded_image_is_removed_only_in_apply_mode(shop: Shop, night: SimpleNamespace) -> None:
    """In plan mode nothing is removed; in apply mode its referrers are removed too."""
    repository = shop.repository("curated/hello")
    old, new = repository.push("old"), repository.push("new")
    declared = make_provenance(built(), declaration(environments=("staging",))).predicate()
    for each in (old, new):
        shop.store(TierName.DEVELOPMENT).attach(named(repository, each), PROVENANCE, declared, datetime.now(UTC))
        released(shop, repository, each)
    night.look()
    before, stays = held(shop, repository), {new.digest}
    stays |= {each.digest for each in shop.ecr.images(repository.name) if each.subject in stays}

    night.workbench.lifecycle = "plan"
    plan = await lifecycle.lifecycle("nightly")
    assert (
        isinstance(plan, Plan)
        and [step.ref.digest for step in plan.changes] == [old.digest]
        and held(shop, repository) == before
    )

    night.workbench.lifecycle = "apply"
    applied = await lifecycle.lifecycle("nightly")

    assert isinstance(applied, Applied) and {each.outcome for each in applied.entries} == {Outcome.DONE}
    assert held(shop, repository) == stays
