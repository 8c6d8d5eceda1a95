"""What a real cluster grants to the role of an environment that git delivers to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.errors import ClusterRefused
from supply_chain.execution.delivery.flux import GIT_REPOSITORIES, KUSTOMIZATIONS
from supply_chain.execution.enforcement.installation import KINDS, read_objects
from supply_chain.execution.environment import Delivery, GitDelivery, KubernetesEnvironment
from supply_chain.execution.kubernetes.cluster import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    FIELD_MANAGER,
    NAMESPACES,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from supply_chain.execution.kubernetes.target import KubernetesTarget
from tests.support.builders import NOON
from tests.support.command import ROOT

pytestmark = pytest.mark.real

ROLES, READER = ROOT / "deployments/kubernetes/rbac", "cscm-reader"


@pytest.fixture
def cluster(kubeconfig: Path) -> ClusterClient:
    return ClusterClient.of_context(kubeconfig, None)


@pytest.fixture
def namespace(cluster: ClusterClient) -> Iterator[str]:
    """A namespace in which a service account has the documented role, and nothing else."""
    name = f"gitops-{uuid4().hex[:8]}"
    cluster.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    (role,) = (each for each in read_objects(ROLES) if each["metadata"]["name"] == READER)
    metadata, api = {"name": READER, "namespace": name}, "rbac.authorization.k8s.io"
    cluster.apply(KINDS["Role"], {**role, "kind": "Role", "metadata": metadata})
    cluster.apply(SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    binding = {
        "apiVersion": f"{api}/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": api, "kind": "Role", "name": READER},
        "subjects": [{"kind": "ServiceAccount", **metadata}],
    }  # fmt: skip
    cluster.apply(KINDS["RoleBinding"], binding)
    yield name
    cluster.delete(NAMESPACES, name)


def test_observer_reads_what_monitor_needs_and_changes_nothing(cluster: ClusterClient, namespace: str) -> None:
    """The chain needs no permission to change a namespace that git delivers to."""
    observer = cluster.for_service_account(namespace, READER, FIELD_MANAGER, 600)
    delivery = Delivery(git=GitDelivery(repository="environments", path="{application}.yaml", kind="manifest"))
    environment = KubernetesEnvironment(
        name="staging", target="kubernetes", cluster="c", namespace=namespace, delivery=delivery
    )
    target = KubernetesTarget(environment, lambda: observer, "registry.test", lambda: NOON, lambda _: None)

    assert target.monitor([]) == () and observer.list(EVENTS, namespace) is not None
    assert observer.read(DEPLOYMENTS, "hello", namespace) is None
    for kind in (KUSTOMIZATIONS, GIT_REPOSITORIES):  # allowed; the cluster may have no Flux
        try:
            assert observer.read(kind, "shop", namespace) is None
        except ClusterRefused as error:
            assert "(404)" in str(error)

    with pytest.raises(ClusterRefused, match="forbidden"):
        observer.list(SECRETS, namespace)
    with pytest.raises(ClusterRefused, match="forbidden"):
        metadata = {"name": "mine", "namespace": namespace}
        observer.apply(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    for where in ("default", ""):
        with pytest.raises(ClusterRefused, match="forbidden"):
            observer.list(DEPLOYMENTS, where)
