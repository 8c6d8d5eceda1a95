"""The protocol of a Kubernetes cluster, as the execution tier uses it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

Document = Mapping[str, Any]
"""An object of Kubernetes' API as JSON, with `apiVersion`, `kind` and `metadata`."""

CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
"""The kinds of containers of a pod."""
FIELD_MANAGER = "cscm"
"""The owner of the fields that deployments apply."""


@dataclass(frozen=True)
class Kind:
    """A kind of objects, and where the API has them."""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True


DEPLOYMENTS = Kind("apps/v1", "Deployment", "deployments")
REPLICA_SETS = Kind("apps/v1", "ReplicaSet", "replicasets")
PODS = Kind("v1", "Pod", "pods")
POD_TEMPLATES = Kind("v1", "PodTemplate", "podtemplates")
EVENTS = Kind("v1", "Event", "events")
SECRETS = Kind("v1", "Secret", "secrets")
CONFIG_MAPS = Kind("v1", "ConfigMap", "configmaps")
SERVICES = Kind("v1", "Service", "services")
SERVICE_ACCOUNTS = Kind("v1", "ServiceAccount", "serviceaccounts")
NAMESPACES = Kind("v1", "Namespace", "namespaces", namespaced=False)
NODES = Kind("v1", "Node", "nodes", namespaced=False)
NETWORK_POLICIES = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
INGRESSES = Kind("networking.k8s.io/v1", "Ingress", "ingresses")
DISRUPTION_BUDGETS = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
AUTOSCALERS = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
ROLE_BINDINGS = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")


@dataclass(frozen=True)
class Listing:
    """The objects of one kind at one version of the cluster's state, from which they can be watched."""

    objects: tuple[Document, ...]
    version: str


class WatchEventType(StrEnum):
    """The type of a watch event: what happened to the object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    """Nothing; the version up to which all changes were sent."""


@dataclass(frozen=True)
class Change:
    """One change of a watched object; `version` is the one from which the next change follows."""

    type: WatchEventType
    document: Document
    version: str


class VersionGone(Exception):
    """The cluster no longer has the changes since a version; what there is has to be listed again."""


class Cluster(Protocol):
    """The API server of a cluster, with the permissions of one identity.

    Every call ends within the client's timeout. It raises `ClusterUnavailable` if the cluster does not answer or asks
    to try later, and `ClusterRefused` for what the cluster refuses. A namespace is empty for all namespaces, and for
    kinds without one.
    """

    def apply(self, kind: Kind, document: Document, *, dry_run: bool = False, force: bool = False) -> Document:
        """Apply an object by server-side apply, and return it as the cluster has it then.

        Raise `ClusterConflict` if another field manager owns a field and gave it another value; with `force`, take such
        fields. With `dry_run`, the cluster admits the object and fills in defaults, but stores nothing.
        """

    def read_identity(self) -> str:
        """Return the user name by which the cluster knows this client."""

    def take_over(self, kind: Kind, document: Document, manager: str) -> Document:
        """Apply some fields of an object as another field manager, by force, and return the object.

        They become fields of that manager alone. What it applied before and does not apply now is not its own any more.
        """

    def patch(self, kind: Kind, name: str, change: Mapping[str, Any], namespace: str = "") -> Document | None:
        """Change an object by a JSON merge patch (RFC 7396) and return it; None if there is none."""

    def read(self, kind: Kind, name: str, namespace: str = "") -> Document | None:
        """Return an object; None if there is none."""

    def list(self, kind: Kind, namespace: str = "", labels: Mapping[str, str] | None = None) -> tuple[Document, ...]:
        """Return all objects with these labels."""

    def scan(self, kind: Kind, namespace: str = "") -> Iterator[Document]:
        """Yield all objects, which are read in parts to limit memory."""

    def list_at(self, kind: Kind, namespace: str = "", *, metadata_only: bool = False) -> Listing:
        """Return all objects of a kind and their version, without what only servers and appliers read of the metadata.

        With `metadata_only`, the objects have nothing but metadata.
        """

    def watch(
        self, kind: Kind, namespace: str, version: str, seconds: int, *, metadata_only: bool = False
    ) -> Iterator[Change]:
        """Yield the changes of a kind after a version, as they happen, for at most so many seconds.

        The end of the iteration says nothing: the server ends a watch when it likes. Raise `VersionGone` if the
        cluster no longer has the changes since that version, and `ClusterUnavailable` if the connection is lost.
        """

    def delete(self, kind: Kind, name: str, namespace: str = "") -> None:
        """Delete an object, and what it owns in the background; do nothing if there is none."""

    def logs(self, namespace: str, pod: str, container: str, lines: int, *, previous: bool = False) -> str:
        """Return the last lines that a container wrote, at most `lines`.

        With `previous`, those of the container that ended before the present one; raise `ClusterRefused` without one.
        """

    def add_ephemeral_container(self, namespace: str, pod: str, container: Mapping[str, Any]) -> None:
        """Add an ephemeral container to a pod; do nothing if it has exactly this one.

        Raise `ClusterRefused` if there is no such pod, or if it has another container of this name.
        """
