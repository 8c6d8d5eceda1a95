"""The enforcement of the admission to one environment: planned, installed, observed, and led by its verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from time import sleep

from supply_chain.errors import ClusterUnavailable
from supply_chain.execution.enforcement.admitted import AdmissionPorts, publish_all, publish_image, read_admitted
from supply_chain.execution.enforcement.installation import (
    KINDS,
    AdmissionCluster,
    Change,
    EnforcementStatus,
    install,
    read_status,
)
from supply_chain.execution.enforcement.policies import GROUP, PLURAL, EnforcedNamespace, Policies
from supply_chain.execution.kubernetes.cluster import Document
from supply_chain.model.container import Wait
from supply_chain.model.image import ImageRef

ESTABLISHED, POLL = 30.0, 0.2
"""Seconds to wait for a new kind of objects, and between two checks."""


@dataclass(frozen=True)
class Enforcement:
    """The enforcement of one environment. `roles` are RBAC documents, which a cluster needs once."""

    place: EnforcedNamespace
    connect: Callable[[], AdmissionCluster]
    ports: AdmissionPorts
    roles: tuple[Document, ...]
    policies: Policies = field(default_factory=Policies)
    wait: Wait = sleep

    @property
    def objects(self) -> tuple[Document, ...]:
        """All generated objects, in the order in which they are made."""
        return (*self.roles, *self.policies.of_cluster(), *self.policies.of_namespace(self.place))

    def plan(self) -> tuple[Change, ...]:
        """Return what `apply` would change; the API server checks it and stores nothing."""
        return install(self.objects, self.connect(), dry_run=True)

    def apply(self) -> tuple[Change, ...]:
        """Install what is missing or differs, and return the changes.

        The parameters come before the bindings, so that a first installation does not refuse what is admitted.
        """
        cluster = self.connect()
        namespace, publisher, *bindings = self.policies.of_namespace(self.place)
        changes = install((*self.roles, *self.policies.of_cluster(), namespace, publisher), cluster)
        self._wait_for_parameters(cluster)
        publish_all(self.place, self.ports)
        return (*changes, *install(bindings, cluster))

    def status(self) -> EnforcementStatus:
        """Compare the cluster with what was generated, and its parameters with the verdicts."""
        found = self.ports.parameters.read(self.place.namespace)
        admits = read_admitted(self.place, self.ports)
        return read_status(self.place, self.objects, admits, found[0] if found else None, self.connect())

    def follow(self, ref: ImageRef) -> None:
        """Admit an image or no longer, by its current verdict."""
        publish_image(ref, self.place, self.ports)

    def _wait_for_parameters(self, cluster: AdmissionCluster) -> None:
        """Wait until the API server knows the kind of the parameters."""
        until = time.monotonic() + ESTABLISHED
        while time.monotonic() < until:
            definition = cluster.read(KINDS["CustomResourceDefinition"], f"{PLURAL}.{GROUP}")
            conditions = definition.get("status", {}).get("conditions", ()) if definition else ()
            if any(each["type"] == "Established" and each["status"] == "True" for each in conditions):
                return
            self.wait(POLL)
        raise ClusterUnavailable(
            f"The cluster does not offer {PLURAL}.{GROUP} after {ESTABLISHED:.0f} s.\nThe step is retried."
        )
