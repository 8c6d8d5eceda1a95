"""What runs in a real cluster, as the inventory sees it with the documented role, whoever started it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.execution.enforcement.installation import KINDS, read_objects
from supply_chain.execution.kubernetes.cluster import DEPLOYMENTS, NAMESPACES, PODS, SERVICE_ACCOUNTS, Kind
from supply_chain.fleet.hosts import ClusterHost
from supply_chain.fleet.image import HostContainer
from supply_chain.model.image import Digest
from tests.support.command import ROOT
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

OBSERVER = "cscm-observer"
API = "rbac.authorization.k8s.io"
CRON_JOBS = Kind("batch/v1", "CronJob", "cronjobs")


@pytest.fixture(scope="module")
def namespace(cluster: ClusterClient) -> Iterator[str]:
    name = f"observation-{uuid4().hex[:8]}"
    cluster.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    cluster.delete(NAMESPACES, name)


@pytest.fixture(scope="module")
def observer(cluster: ClusterClient, namespace: str) -> Iterator[ClusterHost]:
    """The cluster as a service account sees it that has the documented role, and nothing else."""
    (role,) = (
        each for each in read_objects(ROOT / "deployments/kubernetes/rbac") if each["metadata"]["name"] == OBSERVER
    )
    cluster.apply(KINDS["ClusterRole"], role)
    account = {"name": OBSERVER, "namespace": namespace}
    cluster.apply(SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    bindings = Kind(f"{API}/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False)
    binding = {
        "apiVersion": f"{API}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": namespace},
        "roleRef": {"apiGroup": API, "kind": "ClusterRole", "name": OBSERVER},
        "subjects": [{"kind": "ServiceAccount", **account}],
    }  # fmt: skip
    cluster.apply(bindings, binding)
    client = cluster.for_service_account(namespace, OBSERVER, "tests", 600)
    yield ClusterHost("test", lambda: client)
    cluster.delete(bindings, namespace)


def digest(number: int) -> Digest:
    return f"sha256:{number:064x}"


def template(number: int) -> dict[str, Any]:
    """Return a pod whose image nobody has: what is named counts, also before it runs."""
    image = f"registry.test/curated/hello@{digest(number)}"
    return {"containers": [{"name": "application", "image": image}], "terminationGracePeriodSeconds": 0}


def deployment(namespace: str, number: int) -> dict[str, Any]:
    labels = {"app": "hello"}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hello", "namespace": namespace},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": labels}, "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": labels}, "spec": template(number)},
        },
    }  # fmt: skip


def observe(observer: ClusterHost, namespace: str) -> dict[Digest, HostContainer]:
    return {each.digest: each for each in observer.observe(()) if each.namespace == namespace}


def wait_for_pods(observer: ClusterHost, namespace: str, number: int) -> None:
    def has_pods() -> bool:
        found = observe(observer, namespace).get(digest(number))
        return found is not None and bool(found.pods)

    eventually(has_pods)


def test_workloads_are_found_by_digest(cluster: ClusterClient, observer: ClusterHost, namespace: str) -> None:
    """A pod by hand, a job of the night, and a Deployment of which a person brings an earlier revision back."""
    metadata = {"name": "by-hand", "namespace": namespace}
    cluster.apply(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template(1)})
    job = {"template": {"spec": {**template(2), "restartPolicy": "Never"}}}
    spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job}}
    nightly = {"name": "nightly", "namespace": namespace}
    cluster.apply(CRON_JOBS, {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": nightly, "spec": spec})
    for number in (3, 4):
        cluster.apply(DEPLOYMENTS, deployment(namespace, number))
        wait_for_pods(observer, namespace, number)
    eventually(lambda: digest(3) not in observe(observer, namespace))

    found = observe(observer, namespace)

    assert {each.workload: (number, bool(each.pods)) for number, each in found.items()} == {
        "Pod/by-hand": (digest(1), True), "CronJob/nightly": (digest(2), False), "Deployment/hello": (digest(4), True),
    }  # fmt: skip
    assert found[digest(1)].pods == ("by-hand",) and not found[digest(1)].healthy
    cluster.apply(DEPLOYMENTS, deployment(namespace, 3))
    wait_for_pods(observer, namespace, 3)
