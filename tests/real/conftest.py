"""What several rooms of real tests share: the running laptop, its bases, a program that can misbehave, a place."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import docker
import pytest
import yaml

from supply_chain.container import ENVIRONMENT
from supply_chain.laptop.home import Home

ROOT = Path(__file__).parents[2]
CSCM = Path(sys.executable).with_name("cscm")
SUBJECT = Path(__file__).parent / "containers/subject"


@pytest.fixture(scope="session")
def home() -> Home:
    return Home.find(start=ROOT)


@pytest.fixture(scope="session")
def bases() -> None:
    made = subprocess.run([str(CSCM), "bases"], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert made.returncode == 0, made.stderr


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service that the container tests use too: it behaves, unless its arguments name a fault."""
    path = tmp_path_factory.mktemp("program") / "subject"
    compiled(path, "amd64")
    return path


def compiled(path: Path, architecture: str) -> None:
    """Build the program for an architecture by Go's name, into `path`."""
    subprocess.run(
        ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(path), "."], cwd=SUBJECT,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOARCH": architecture},
        check=True, timeout=300,
    )  # fmt: skip


@contextlib.contextmanager
def placed(environment: str, applications: Iterable[str], **variables: str) -> Iterator[dict[str, int]]:
    """An environment's document, and application → port; what carries its name is removed afterwards."""
    ports = {name: _free_port() for name in applications}
    places = {name: {"port": port, "environment": dict(variables)} for name, port in ports.items()}
    document = ROOT / f"deployments/environments/{environment}.yaml"
    document.write_text(yaml.safe_dump({"name": environment, "applications": places}))
    try:
        yield ports
    finally:
        document.unlink()
        client = docker.from_env()
        label = {"label": f"{ENVIRONMENT}={environment}"}
        for container in client.containers.list(all=True, filters=label):
            container.remove(force=True, v=True)
        for volume in client.volumes.list(filters=label):
            volume.remove()
        for network in client.networks.list(filters=label):
            network.remove()
        client.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
