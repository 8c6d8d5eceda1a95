"""What there is in a namespace: read once for all its deployments, and kept up to date by watching."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from supply_chain.concurrency import map_concurrently
from supply_chain.execution.deployment import Expected
from supply_chain.execution.kubernetes.cluster import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    EVENTS,
    INGRESSES,
    NETWORK_POLICIES,
    PODS,
    REPLICA_SETS,
    ROLE_BINDINGS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Cluster,
    Document,
    Kind,
)
from supply_chain.execution.kubernetes.rollout import read_owner_uid

APPLIED = (
    SERVICE_ACCOUNTS, CONFIG_MAPS, NETWORK_POLICIES, SERVICES, DISRUPTION_BUDGETS, DEPLOYMENTS, AUTOSCALERS, INGRESSES,
)  # fmt: skip
"""The kinds of objects that deployments apply."""
COMPARED = (*APPLIED, REPLICA_SETS, PODS)
"""The kinds with which a deployment is compared."""
OBSERVED = (*COMPARED, ROLE_BINDINGS, EVENTS)
"""The kinds that are read of a namespace in which nobody else may add anything."""
ObjectKey = tuple[str, str]
"""Kind and name of an object in a namespace."""
METADATA_ONLY = frozenset({REPLICA_SETS})
"""The kinds of which only names and owners are needed."""


@dataclass(frozen=True)
class NamespaceState:
    """What there is in a namespace."""

    objects: Mapping[str, Mapping[str, Document]]
    """Kind → name → object."""

    def all(self, kind: Kind) -> Iterable[Document]:
        """Return the objects of a kind; none if it was not read."""
        return self.objects.get(kind.name, {}).values()

    def find(self, kind: str, name: str) -> Document | None:
        """Return an object; None if there is none."""
        return self.objects.get(kind, {}).get(name)

    @property
    def applied(self) -> Mapping[ObjectKey, Document]:
        """The objects of the kinds that deployments apply."""
        return {(kind.name, name): each for kind in APPLIED for name, each in self.objects.get(kind.name, {}).items()}

    def deployment(self, expected: Expected) -> Document | None:
        """Return the Deployment of a deployment; None if there is none."""
        return self.find(DEPLOYMENTS.name, expected.name)

    def find_deployment_name(self, replica_set: str) -> str:
        """Return the name of the Deployment that owns a ReplicaSet, given by its name; empty if none does."""
        document = self.find(REPLICA_SETS.name, replica_set)
        return self._deployments.get(read_owner_uid(document), "") if document else ""

    def list_owned_pods(self, expected: Expected) -> tuple[Document, ...]:
        """Return the pods that the Deployment owns, of its last change and of earlier ones."""
        deployment = self.deployment(expected)
        return tuple(self._pods.get(deployment["metadata"]["uid"], ())) if deployment else ()

    @cached_property
    def _deployments(self) -> Mapping[str, str]:
        """The uid of a Deployment → its name."""
        return {each["metadata"]["uid"]: each["metadata"]["name"] for each in self.all(DEPLOYMENTS)}

    @cached_property
    def _pods(self) -> Mapping[str, list[Document]]:
        """The uid of a Deployment → its pods."""
        owners = {each["metadata"]["uid"]: read_owner_uid(each) for each in self.all(REPLICA_SETS)}
        by_deployment: dict[str, list[Document]] = defaultdict(list)
        for pod in self.all(PODS):
            if owner := owners.get(read_owner_uid(pod)):
                by_deployment[owner].append(pod)
        return by_deployment


def read_namespace(cluster: Cluster, namespace: str, kinds: Iterable[Kind] = COMPARED) -> NamespaceState:
    """Read what there is of these kinds in a namespace."""

    def read(kind: Kind) -> dict[str, Document]:
        listed = cluster.list_at(kind, namespace, metadata_only=kind in METADATA_ONLY)
        return index_by_name(listed.objects)

    listed_kinds = tuple(kinds)
    return NamespaceState(
        dict(zip((kind.name for kind in listed_kinds), map_concurrently(read, listed_kinds), strict=True))
    )


def index_by_name(objects: Iterable[Document]) -> dict[str, Document]:
    """Return objects of one kind and namespace by their names."""
    return {each["metadata"]["name"]: each for each in objects}
