"""Observation of what runs on container hosts and in clusters, whoever started it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from urllib.parse import urlsplit

from supply_chain.errors import SupplyChainError
from supply_chain.execution.kubernetes.cluster import PODS, REPLICA_SETS, Cluster, Document
from supply_chain.execution.kubernetes.rollout import is_ending, is_ready
from supply_chain.execution.kubernetes.workloads import (
    CONTROLLERS,
    has_ended,
    list_digests,
    name_workload,
    read_controller,
    select_current,
)
from supply_chain.fleet.image import HostContainer, Running
from supply_chain.fleet.inventory import Inventory
from supply_chain.model.container import Container, Engine
from supply_chain.model.image import Digest
from supply_chain.readiness import probe_readiness

CLUSTER = "kubernetes/"
"""Begins the name of a cluster among hosts; no container host's name has a slash."""


class Host(Protocol):
    """A container host or a cluster."""

    def observe(self, running: Sequence[Running]) -> tuple[HostContainer, ...]:
        """Return everything that runs there or may start by itself; `running` is what should run there by records.

        Raises the host's errors: what is returned is complete.
        """


@dataclass(frozen=True)
class EngineHost:
    """A container host. `connect` returns its engine."""

    connect: Callable[[], Engine]

    def observe(self, running: Sequence[Running]) -> tuple[HostContainer, ...]:
        """Return every container; for those with a record, also whether they answer at their address."""
        addresses = {each.container: each.address for each in running}
        return tuple(_observe(container, addresses) for container in self.connect().containers())


def _observe(container: Container, addresses: Mapping[str, str]) -> HostContainer:
    address = addresses.get(container.id)
    return HostContainer(
        container=container.id,
        name=container.name,
        digest=container.image,
        running=container.running,
        healthy=_is_well(container, address),
    )


def _is_well(container: Container, address: str | None) -> bool | None:
    if not container.running:
        return False
    return None if address is None else _is_answering(address)


def _is_answering(address: str) -> bool:
    at = urlsplit(address)
    return at.hostname is not None and at.port is not None and not probe_readiness(at.hostname, at.port, at.path)


@dataclass
class _Workload:
    """What was found so far of the pods of a workload that use an image."""

    namespace: str
    name: str
    pods: list[str] = field(default_factory=list)
    ready: bool = True


@dataclass(frozen=True)
class ClusterHost:
    """A whole cluster, with the name of its block; `connect` returns it with the role `cscm-observer`."""

    name: str
    connect: Callable[[], Cluster]

    def observe(self, running: Sequence[Running]) -> tuple[HostContainer, ...]:
        """Return each workload of each namespace with each image of its pods, and those that make pods later.

        Earlier revisions of a Deployment are left out: only a person starts them again.
        """
        cluster = self.connect()
        workloads: dict[tuple[str, Digest], _Workload] = {}
        for kind in CONTROLLERS:
            documents = cluster.scan(kind)
            for each in select_current(documents) if kind is REPLICA_SETS else documents:
                if not has_ended(each):
                    _add(workloads, kind.name, each)
        for pod in cluster.scan(PODS):  # after what makes them: no image is in neither list during a rollout
            if not has_ended(pod):
                _add_pod(workloads, pod)
        return tuple(self._report(uid, digest, each) for (uid, digest), each in workloads.items())

    def _report(self, uid: str, digest: Digest, workload: _Workload) -> HostContainer:
        return HostContainer(
            container=uid,
            name=workload.name.partition("/")[2],
            digest=digest,
            running=bool(workload.pods),
            healthy=workload.ready if workload.pods else None,
            cluster=self.name,
            namespace=workload.namespace,
            workload=workload.name,
            pods=tuple(sorted(workload.pods)),
        )


def _add(workloads: dict[tuple[str, Digest], _Workload], kind: str, document: Document) -> None:
    metadata = document["metadata"]
    for digest in list_digests(kind, document):
        workloads[metadata["uid"], digest] = _Workload(metadata["namespace"], name_workload(kind, document))


def _add_pod(workloads: dict[tuple[str, Digest], _Workload], pod: Document) -> None:
    metadata = pod["metadata"]
    uid = read_controller(pod).get("uid", metadata["uid"])
    for digest in list_digests(PODS.name, pod):
        own = workloads.setdefault((uid, digest), _Workload(metadata["namespace"], name_workload(PODS.name, pod)))
        own.pods.append(metadata["name"])
        own.ready = own.ready and (is_ready(pod) or is_ending(pod))


def observe_hosts(
    hosts: Mapping[str, Host], inventory: Inventory, now: Callable[[], datetime], *, are_all: bool
) -> tuple[HostContainer, ...]:
    """Look at every host, record what it shows, and, if these are all hosts, delete the records of others.

    If one cannot be observed, what it showed last stays recorded, the others are observed, and its error is raised
    then.
    """
    if are_all:
        inventory.retain_hosts(hosts)
    by_host = _group_by_host(inventory.running())
    observed: list[HostContainer] = []
    failed: list[SupplyChainError] = []
    for name, host in hosts.items():
        try:
            containers = host.observe(by_host.get(name, ()))
        except SupplyChainError as error:
            failed.append(error)
            continue
        inventory.record_host(name, containers, now())
        observed += containers
    if failed:
        raise failed[0]
    return tuple(observed)


def _group_by_host(running: Iterable[Running]) -> Mapping[str, Sequence[Running]]:
    by_host: dict[str, list[Running]] = {}
    for each in running:
        by_host.setdefault(f"{CLUSTER}{each.cluster}" if each.cluster else each.host, []).append(each)
    return by_host


def list_observed(hosts: Mapping[str, Host]) -> tuple[frozenset[Digest], dict[str, SupplyChainError]]:
    """Return the digests of all images that hosts show now, and the error of each host that cannot be observed."""
    digests: set[Digest] = set()
    failed: dict[str, SupplyChainError] = {}
    for name, host in hosts.items():
        try:
            digests |= {each.digest for each in host.observe(())}
        except SupplyChainError as error:
            failed[name] = error
    return frozenset(digests), failed
