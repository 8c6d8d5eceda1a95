"""What a real cluster grants to the role of an environment that git delivers to."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
import yaml

from cscm_laptop.home import Home
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.errors import ClusterRefused
from supply_chain.execution.delivery.argo import APPLICATIONS, read_argo
from supply_chain.execution.delivery.controller import ControllerState
from supply_chain.execution.delivery.flux import GIT_REPOSITORIES, KUSTOMIZATIONS
from supply_chain.execution.delivery.settings import ArgoApplication, Delivery, GitDelivery
from supply_chain.execution.environment import KubernetesEnvironment
from supply_chain.execution.kubernetes.cluster import DEPLOYMENTS, EVENTS, NAMESPACES
from supply_chain.execution.kubernetes.target import KubernetesTarget
from tests.support.builders import NOON
from tests.support.definitions import define, find_left, remove_definitions, wait_until_removed
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


@pytest.fixture
def argo(home: Home, cluster: ClusterClient) -> Iterator[None]:
    """The kinds of Argo CD as its release defines them; nothing acts on their objects."""
    path = home.tools / "argo-cd/application-crd.yaml"
    assert path.exists(), "Argo CD's definition is needed: run scripts/test-programs"
    definitions = [yaml.load(path.read_bytes(), yaml.CSafeLoader)]
    left = find_left(cluster, definitions, "Argo CD")
    remove_definitions(cluster, left)
    wait_until_removed(cluster, left)
    try:
        define(cluster, definitions)
        yield
    finally:
        remove_definitions(cluster, definitions)
        wait_until_removed(cluster, definitions)


def test_status_of_argo_cd_is_read_with_documented_role(cluster: ClusterClient, namespace: str, argo: None) -> None:
    """Of an object that the API server has validated by Argo CD's definition, which drops what it does not know."""
    commit, message = "1" * 40, "one or more objects failed to apply"
    refused = {"group": "apps", "version": "v1", "kind": "Deployment", "namespace": namespace, "name": "hello",
               "status": "SyncFailed", "message": "denied by policy"}  # fmt: skip
    source = {"repoURL": "https://git.example.com/environments.git", "path": "staging"}
    times = {"startedAt": "2026-11-29T12:00:00Z", "finishedAt": "2026-11-29T12:00:01Z"}
    operation = {
        "operation": {"sync": {"revision": commit}}, "phase": "Failed", "message": message, **times,
        "syncResult": {"revision": commit, "source": source, "resources": [refused]},
    }  # fmt: skip
    compared = {"source": source, "destination": {"namespace": namespace}}
    sync = {"status": "OutOfSync", "revision": commit, "comparedTo": compared}
    status = {"operationState": operation, "sync": sync, "health": {"status": "Degraded", "message": "no pods"}}
    spec = {"project": "default", "source": source, "destination": {"namespace": namespace}}
    document = {"apiVersion": APPLICATIONS.api_version, "kind": "Application", "spec": spec, "status": status,
                "metadata": {"name": "shop", "namespace": namespace}}  # fmt: skip
    cluster.apply(APPLICATIONS, document)
    observer, named = sign_in_reader(cluster, namespace), ArgoApplication(namespace=namespace, name="shop")

    assert read_argo(observer, named, commit) == ControllerState(
        f"the Application shop says Failed: {message}; Deployment hello: denied by policy", failed=True
    )
    conditions = [{"type": "ComparisonError", "message": "kustomize build failed"}]
    cluster.apply(APPLICATIONS, {**document, "status": {"sync": sync, "conditions": conditions}})
    assert read_argo(observer, named, commit).fact == (
        "the Application shop says ComparisonError: kustomize build failed"
    )
    cluster.apply(APPLICATIONS, {**document, "status": {"sync": sync, "health": status["health"]}})
    assert read_argo(observer, named, commit).fact == (
        "the Application shop is OutOfSync and waits for somebody to sync it; it is Degraded: no pods"
    )
    assert read_argo(observer, named, "2" * 40).fact.endswith(f"the last was {commit}")


def test_role_observer_suffices_for_monitor(cluster: ClusterClient, namespace: str) -> None:
    """The chain needs no permission to change a namespace that git delivers to."""
    observer = sign_in_reader(cluster, namespace)
    delivery = Delivery(git=GitDelivery(repository="environments", path="{application}.yaml", kind="manifest"))
    environment = KubernetesEnvironment(
        name="staging", target="kubernetes", cluster="c", namespace=namespace, delivery=delivery
    )
    target = KubernetesTarget(environment, lambda: observer, "registry.test", lambda: NOON, lambda _: None)

    assert target.monitor([]) == () and observer.list(EVENTS, namespace) is not None
    assert observer.read(DEPLOYMENTS, "hello", namespace) is None
    for kind in (KUSTOMIZATIONS, GIT_REPOSITORIES, APPLICATIONS):  # allowed; the cluster may have no such kind
        try:
            assert observer.read(kind, "shop", namespace) is None
        except ClusterRefused as error:
            assert "(404)" in str(error)
