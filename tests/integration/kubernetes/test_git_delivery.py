"""What a real cluster grants to the role of an environment that git delivers to."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.errors import ClusterRefused
from supply_chain.execution.delivery.flux import GIT_REPOSITORIES, KUSTOMIZATIONS
from supply_chain.execution.environment import Delivery, GitDelivery, KubernetesEnvironment
from supply_chain.execution.kubernetes.cluster import CONFIG_MAPS, DEPLOYMENTS, EVENTS, NAMESPACES, SECRETS
from supply_chain.execution.kubernetes.target import KubernetesTarget
from tests.support.builders import NOON
from tests.support.reader import bind_reader, sign_in_reader

pytestmark = pytest.mark.real


@pytest.fixture
def namespace(cluster: ClusterClient) -> Iterator[str]:
    """A namespace in which a service account has the documented role, and nothing else."""
    name = f"gitops-{uuid4().hex[:8]}"
    cluster.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    bind_reader(cluster, name)
    yield name
    cluster.delete(NAMESPACES, name)


def test_observer_reads_what_monitor_needs_and_changes_nothing(cluster: ClusterClient, namespace: str) -> None:
    """The chain needs no permission to change a namespace that git delivers to."""
    observer = sign_in_reader(cluster, namespace)
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
