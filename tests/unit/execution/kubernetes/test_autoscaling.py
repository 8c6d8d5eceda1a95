"""Autoscaled deployments: who owns the number of pods, in a cluster in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from supply_chain.errors import DeploymentFailed
from supply_chain.execution.environment import KubernetesEnvironment, KubernetesPlacement
from supply_chain.execution.kubernetes.autoscaling import SCALER
from supply_chain.execution.kubernetes.cluster import AUTOSCALERS
from supply_chain.execution.kubernetes.target import KubernetesTarget
from tests.contract.target import Harness
from tests.support.memory_cluster import NOON, MemoryCluster

BAD = "sha256:" + "b" * 64
ENDED = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}
SCALED = {"autoscaling": {"minimum": 2, "maximum": 6}}
FIXED = {"replicas": 3}


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(broken={BAD: ENDED})


@pytest.fixture
def harness(cluster: MemoryCluster, make: SimpleNamespace) -> Harness:
    target = KubernetesTarget(environment(SCALED), lambda: cluster, "registry", lambda: NOON, lambda _: None)
    numbers = iter(range(1, 100))
    return Harness(target, make.declaration(), lambda: f"sha256:{next(numbers):064x}", BAD, set, str)


def environment(placement: Mapping[str, object]) -> KubernetesEnvironment:
    return KubernetesEnvironment(
        name="staging", target="kubernetes", cluster="c", namespace="shop",
        applications={"hello": KubernetesPlacement.model_validate(placement)},
    )  # fmt: skip


def place(harness: Harness, placement: Mapping[str, object]) -> None:
    assert isinstance(harness.target, KubernetesTarget)
    harness.target = replace(harness.target, environment=environment(placement))


def pods(cluster: MemoryCluster) -> tuple[int, set[str]]:
    """Return the number of pods of the Deployment, and who owns it."""
    return cluster.objects["Deployment", "shop", "hello"]["spec"]["replicas"], cluster.owners["shop", "hello"]


def test_autoscaled_deployment_starts_with_minimum_of_pods(harness, cluster):
    """One pod would serve first otherwise, which is the default."""
    deployment = harness.deploy(harness.good())

    assert pods(cluster) == (2, {SCALER})
    assert harness.codes(deployment) == [("hello", [])]
    assert cluster.read(AUTOSCALERS, "hello", "shop")["spec"] == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "hello"},
        "minReplicas": 2, "maxReplicas": 6,
        "metrics": [{"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "AverageValue", "averageValue": "700m"}}}],
    }  # fmt: skip


def test_next_deployment_keeps_pods_that_autoscaler_added(harness, cluster):
    """A deployment in the hour of the highest load keeps what serves it."""
    first = harness.deploy(harness.good())
    cluster.scale("hello", "shop", 5)

    assert harness.codes(first) == [("hello", [])]
    second = harness.deploy(harness.good())

    assert pods(cluster)[0] == 5 and second.changed
    assert harness.codes(second) == [("hello", [])]


def test_autoscaled_deployment_with_too_few_pods_is_unhealthy(harness, cluster):
    """An autoscaler without metrics still keeps the least number; somebody has disabled it."""
    deployment = harness.deploy(harness.good())
    cluster.scale("hello", "shop", 1)

    assert harness.codes(deployment) == [("hello", ["drift.unhealthy"])]


def test_pod_that_autoscaler_is_adding_is_no_deviation(harness, cluster):
    """It needs some seconds until it is ready."""
    deployment = harness.deploy(harness.good())
    cluster.scale("hello", "shop", 3)
    cluster.objects["Deployment", "shop", "hello"]["status"]["availableReplicas"] = 2

    assert harness.codes(deployment) == [("hello", [])]


def test_replica_count_moves_to_autoscaler_and_back(harness, cluster):
    """A field that is applied no more would get its default, and one of another manager cannot be applied."""
    place(harness, FIXED)
    harness.deploy(digest := harness.good())
    place(harness, SCALED)

    scaled = harness.deploy(digest)

    assert scaled.changed and pods(cluster) == (3, {SCALER})
    cluster.scale("hello", "shop", 6)
    place(harness, FIXED)

    fixed = harness.deploy(digest)

    assert fixed.changed and pods(cluster) == (3, {"cscm"})
    assert cluster.deleted == ["HorizontalPodAutoscaler hello"]
    assert harness.codes(fixed) == [("hello", [])]


@pytest.mark.parametrize(("before", "after"), [(FIXED, SCALED), (SCALED, FIXED), (SCALED, SCALED)], ids=str)
def test_failed_deployment_restores_number_of_pods_and_its_owner(harness, cluster, before, after):
    """What ran before is scaled as before."""
    place(harness, before)
    earlier = harness.deploy(harness.good())
    if before is SCALED:
        cluster.scale("hello", "shop", 4)
    number = pods(cluster)[0]
    place(harness, after)

    with pytest.raises(DeploymentFailed, match="was restored"):
        harness.deploy(BAD)

    assert (cluster.read(AUTOSCALERS, "hello", "shop") is not None) is (before is SCALED)
    assert pods(cluster)[0] == (number if after is before or before is FIXED else 3)
    assert (pods(cluster)[1] == {"cscm"}) is (before is FIXED)
    place(harness, before)
    assert harness.codes(earlier) == [("hello", [])]


def test_foreign_autoscaler_is_drift_and_stays(harness, cluster):
    """It would change what was deployed, and only who made it knows why."""
    place(harness, FIXED)
    deployment = harness.deploy(digest := harness.good())
    spec = {"scaleTargetRef": {"kind": "Deployment", "name": "hello"}, "minReplicas": 9, "maxReplicas": 9}
    other = {"metadata": {"name": "theirs", "namespace": "shop"}, "spec": spec}
    cluster.objects["HorizontalPodAutoscaler", "shop", "theirs"] = other

    assert harness.codes(deployment) == [("hello", ["drift.autoscaler"])]
    harness.deploy(digest)
    assert cluster.deleted == []


def test_interrupted_change_of_owner_is_completed(harness, cluster):
    """A run that ends in between leaves the number with the manager that holds it."""
    place(harness, FIXED)
    harness.deploy(digest := harness.good())
    cluster.own_replicas("hello", "shop", "cscm", SCALER)
    place(harness, {"replicas": 4})

    harness.deploy(digest)

    assert pods(cluster) == (4, {"cscm"})


@pytest.mark.parametrize(
    ("placement", "message"),
    [({"replicas": 2, **SCALED}, "write one of them"), ({"autoscaling": {"minimum": 3, "maximum": 2}}, "less than")],
    ids=str,
)
def test_contradictory_numbers_of_pods_are_refused(placement, message):
    """Nobody knows which one is meant."""
    with pytest.raises(ValidationError, match=message):
        KubernetesPlacement.model_validate(placement)
