"""What several rooms of real tests share: the running laptop, its bases, tools and ways in, and a program.

`make test` has started the laptop; nothing here does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import docker
import pytest

from cscm_laptop.emulator_service import emulator_root, root_key
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
    """The running laptop, on which nothing is promoted but by the test that wants it."""
    state = load_state(home)
    _freeze()
    yield state
    assert cscm("thaw").status == 0


def _freeze() -> None:
    frozen = cscm("freeze", "--why", "tests run tiers by hand")
    assert frozen.status == 0, frozen.stderr


@pytest.fixture
def frozen_again(laptop: LaptopState) -> Iterator[None]:
    """After a test that thaws: the others want the freeze that they began with."""
    yield
    _freeze()


@pytest.fixture
def thawed(frozen_again: None) -> None:
    """Images move by events while the test runs."""
    assert cscm("thaw").status == 0


@pytest.fixture(scope="session")
def bases(laptop: LaptopState) -> None:
    """The bases that every laptop needs."""
    made = cscm("bases", timeout=900)
    assert made.status == 0, made.stderr


@pytest.fixture(scope="session")
def toolbox(home: Home) -> Toolbox:
    """The laptop's tools."""
    return toolbox_in(home.tools)


@pytest.fixture(scope="session")
def root(home: Home, laptop: LaptopState) -> boto3.Session:
    """The account's owner."""
    return emulator_root(root_key(home), laptop.region)


@pytest.fixture(scope="session")
def ecr(root: boto3.Session, laptop: LaptopState) -> Any:
    """ECR, as its owner sees it."""
    return root.client("ecr", endpoint_url=laptop.endpoint_url)


@pytest.fixture(scope="session")
def prefect(home: Home, laptop: LaptopState) -> Prefect:
    return Prefect.of(home, laptop.prefect_api_url)


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """The engine, as its own client shows it."""
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service that behaves, unless its arguments name a fault."""
    path = tmp_path_factory.mktemp("program") / "subject"
    compiled(path, "amd64")
    return path


@pytest.fixture(scope="session")
def buildkit(toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuildKit]:
    """The engine's BuildKit, with a registry of the tests' own."""
    with buildkit_in(tmp_path_factory.mktemp("buildkit"), toolbox) as found:
        yield found
