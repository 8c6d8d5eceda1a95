"""Fixtures that several groups of integration tests share: the laptop, its bases, tools and clients.

`make test` has started the laptop; the fixtures do not start it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import docker
import pytest

from cscm.main import BASES
from cscm_laptop.emulator_service import locate_root_key, open_root_session
from cscm_laptop.home import Home
from cscm_laptop.laptop import LaptopState, load_state
from supply_chain.adapters.tools import Toolbox
from tests.support.access import Prefect, toolbox_in
from tests.support.application import compiled
from tests.support.buildkit import BuildKit, buildkit_in
from tests.support.command import ROOT, cscm


@pytest.fixture(scope="session")
def home() -> Home:
    return Home.find(start=ROOT)


@pytest.fixture(scope="session")
def laptop(home: Home) -> Iterator[LaptopState]:
    """The running laptop, with a promotion freeze: only tests that need promotions lift it."""
    state = load_state(home)
    _freeze()
    yield state
    assert cscm("unfreeze").status == 0


def _freeze() -> None:
    frozen = cscm("freeze", "--reason", "tests run tiers by hand")
    assert frozen.status == 0, frozen.stderr


@pytest.fixture
def frozen_again(laptop: LaptopState) -> Iterator[None]:
    """Restores the promotion freeze after a test that lifted it."""
    yield
    _freeze()


@pytest.fixture
def unfrozen(frozen_again: None) -> None:
    """Lifts the promotion freeze, so events promote images while the test runs."""
    assert cscm("unfreeze").status == 0


@pytest.fixture(scope="session")
def bases(laptop: LaptopState) -> None:
    """The bases that every laptop needs, made two at a time; the command without names finds them all."""
    with ThreadPoolExecutor(2) as pool:
        made = [*pool.map(lambda name: cscm("bases", name, timeout=900), BASES)]
    assert [each.status for each in made] == [0] * len(BASES), [each.stderr for each in made]
    assert len(cscm("bases", "--json").result) == len(BASES)


@pytest.fixture(scope="session")
def toolbox(home: Home) -> Toolbox:
    """The laptop's tools."""
    return toolbox_in(home.tools)


@pytest.fixture(scope="session")
def root(home: Home, laptop: LaptopState) -> boto3.Session:
    """A session with the rights of the account's owner."""
    return open_root_session(locate_root_key(home), laptop.region)


@pytest.fixture(scope="session")
def ecr(root: boto3.Session, laptop: LaptopState) -> Any:
    """An ECR client with the rights of the account's owner."""
    return root.client("ecr", endpoint_url=laptop.endpoint_url)


@pytest.fixture(scope="session")
def prefect(home: Home, laptop: LaptopState) -> Prefect:
    return Prefect.of(home, laptop.prefect_api_url)


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """Docker's own client, to inspect the engine."""
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service that works correctly, unless its arguments name a fault."""
    path = tmp_path_factory.mktemp("program") / "subject"
    compiled(path, "amd64")
    return path


@pytest.fixture(scope="session")
def buildkit(toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuildKit]:
    """The engine's BuildKit, with a registry of its own for the tests."""
    with buildkit_in(tmp_path_factory.mktemp("buildkit"), toolbox) as found:
        yield found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put kills and locks behind the others: they measure times, and no other session runs any more.

    The tests of the UI stay last, because their browser keeps an event loop.
    """
    items.sort(key=lambda item: ("ui" in item.path.parts, "faults" in item.path.parts))
