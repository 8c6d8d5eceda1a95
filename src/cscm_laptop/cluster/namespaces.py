"""The namespaces of the environments that run in the cluster of this machine."""

from __future__ import annotations

import time
from collections.abc import Iterable

from supply_chain.execution.environment import Environment, KubernetesEnvironment
from supply_chain.execution.kubernetes.cluster import NAMESPACES, SERVICE_ACCOUNTS, Cluster
from supply_chain.model.container import Wait

BLOCK = "laptop"
"""The name of the block of this machine's cluster."""
LABELS = {"pod-security.kubernetes.io/enforce": "restricted"}
"""Labels of a new namespace (Kubernetes, "Pod Security Admission")."""
ACCOUNT = "default"
"""The service account of pods that name none. A controller makes it; until then, no pod can be created."""
LOOKS = 300
"""How often the account of a new namespace is looked for, ten times per second."""


def list_namespaces(environments: Iterable[Environment]) -> tuple[str, ...]:
    """Return the namespaces of the environments in this machine's cluster."""
    return tuple(
        each.namespace for each in environments if isinstance(each, KubernetesEnvironment) and each.cluster == BLOCK
    )


def ensure_namespaces(cluster: Cluster, names: Iterable[str], wait: Wait = time.sleep) -> tuple[str, ...]:
    """Make the namespaces that do not exist, wait for their service accounts, and return their names.

    Raises the errors of `Cluster`.
    """
    missing = tuple(name for name in names if cluster.read(NAMESPACES, name) is None)
    for name in missing:
        metadata = {"name": name, "labels": LABELS}
        cluster.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    for _ in range(LOOKS):
        if all(cluster.read(SERVICE_ACCOUNTS, ACCOUNT, name) for name in missing):
            break
        wait(0.1)
    return missing
