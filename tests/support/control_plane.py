"""An API server with an etcd of its own and without nodes, for tests that would disturb others on a shared one.

It is the same program as in the laptop's cluster. There are no controllers: nothing makes service accounts or pods.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path

from cscm_laptop.cluster.certificates import ensure_keys
from cscm_laptop.cluster.cluster import make_directories
from cscm_laptop.cluster.components import Components
from cscm_laptop.cluster.place import Place
from cscm_laptop.cluster.programs import FILE, ClusterPins, ensure_programs
from cscm_laptop.cluster.settings import ClusterSettings
from cscm_laptop.home import Home
from cscm_laptop.services import Service
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.model.documents import read_document
from tests.support.place import free_port
from tests.support.waiting import eventually

START = 60.0
"""Seconds for a start on a busy machine."""


@contextmanager
def control_plane(home: Home, directory: Path) -> Iterator[ClusterClient]:
    """Yield the administrator of a new API server, which ends after the block; it listens on loopback."""
    place = Place(directory, "tests")
    settings = ClusterSettings(
        first_port=free_port(), pods=IPv4Network("127.99.0.0/24"),
        services=IPv4Network("10.245.78.0/24"),
    )  # fmt: skip
    make_directories(place)
    ensure_keys(place, settings, datetime.now(UTC))
    programs = ensure_programs(home, read_document(home.project / FILE, ClusterPins), print)
    components = Components(place, settings, programs, {})
    api = components.apiserver()
    with ExitStack() as stack:
        for service in (components.etcd(), replace(api, argv=(*api.argv, "--endpoint-reconciler-type=none"))):
            stack.enter_context(_running(service))
        yield ClusterClient.of_context(place.kubeconfig, None)


@contextmanager
def _running(service: Service) -> Iterator[None]:
    with service.log.open("wb") as log:
        process = subprocess.Popen(service.argv, env=dict(service.environment), stdout=log, stderr=log)
    try:
        eventually(service.ready, START, lambda: service.log.read_text()[-2000:])
        yield
    finally:
        process.kill()
        process.wait(30)
