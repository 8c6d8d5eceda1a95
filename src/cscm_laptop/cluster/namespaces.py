"""The namespaces of the environments that run in the cluster of this machine."""

from __future__ import annotations

from collections.abc import Iterable

from supply_chain.execution.environment import Environment, KubernetesEnvironment
from supply_chain.execution.kubernetes.cluster import NAMESPACES, Cluster

BLOCK = "laptop"
"""The name of the block of this machine's cluster."""
LABELS = {"pod-security.kubernetes.io/enforce": "restricted"}
"""Labels of a new namespace (Kubernetes, "Pod Security Admission")."""


def list_namespaces(environments: Iterable[Environment]) -> tuple[str, ...]:
    """Return the namespaces of the environments in this machine's cluster."""
    return tuple(
        each.namespace for each in environments if isinstance(each, KubernetesEnvironment) and each.cluster == BLOCK
    )


def ensure_namespaces(cluster: Cluster, names: Iterable[str]) -> tuple[str, ...]:
    """Make the namespaces that do not exist, and return their names; raise the errors of `Cluster`."""
    missing = tuple(name for name in names if cluster.read(NAMESPACES, name) is None)
    for name in missing:
        metadata = {"name": name, "labels": LABELS}
        cluster.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return missing
