"""A place for a test's own applications: free ports, an environment's document, and an engine without them after it."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import docker
import yaml

from cscm_laptop.home import Home
from supply_chain.model.container import ENVIRONMENT
from tests.support.command import ROOT
from tests.support.signed_project import sign_project

_FIRST, _LAST = map(int, os.environ.get("CSCM_TEST_PORTS", "20000-29999").split("-"))
"""Two sessions that run at the same time have different ports. They are below those of outgoing connections."""
_PORTS = iter(random.sample(range(_FIRST, _LAST + 1), _LAST + 1 - _FIRST))
"""Each once: a document may name a port long before anything listens there."""


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, and that nobody else in this session was given."""
    return list(islice(filter(_free, _PORTS), count))


def _free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    (port,) = free_ports(1)
    return port


@contextlib.contextmanager
def placed(
    environment: str, applications: Iterable[str], settings: Mapping[str, str] | None = None, **variables: str
) -> Iterator[dict[str, int]]:
    """A signed environment, and application → port; what carries its name is removed afterwards.

    `settings` are the document's other keys; `variables`, what its applications find in their environment.
    """
    names = list(applications)
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    places = {name: {"port": port, "environment": dict(variables)} for name, port in ports.items()}
    document = ROOT / f"deployments/environments/{environment}.yaml"
    document.write_text(yaml.safe_dump({"name": environment, **(settings or {}), "applications": places}))
    home = Home.find(start=ROOT)
    try:
        sign_project(home)
        yield ports
    finally:
        document.unlink()
        sign_project(home)
        with contextlib.closing(docker.from_env()) as engine:
            clear(engine, f"{ENVIRONMENT}={environment}")


def clear(engine: docker.DockerClient, label: str) -> None:
    """Remove every container, volume and network with this label."""
    for container in engine.containers.list(all=True, filters={"label": label}):
        container.remove(force=True, v=True)
    for volume in engine.volumes.list(filters={"label": label}):
        volume.remove()
    for network in engine.networks.list(filters={"label": label}):
        network.remove()
