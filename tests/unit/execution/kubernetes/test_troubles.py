"""What goes wrong with pods, as monitor reports it from pods, Deployments, events and nodes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from supply_chain.errors import ClusterRefused
from supply_chain.execution.kubernetes.cluster import PODS, REPLICA_SETS
from supply_chain.execution.monitor import drop_deploying
from tests.support.memory_cluster import NOON


@pytest.fixture
def deployed(harness):
    """A deployment."""
    return harness.deploy(harness.good()).expected


@pytest.fixture
def pod(cluster, deployed):
    """One of its pods."""
    return next(each for key, each in cluster.objects.items() if key[0] == PODS.name)


@pytest.fixture
def found(harness, deployed):
    """A function that returns the code and the fact of each deviation of the deployment."""

    def look():
        observation, *_ = harness.target.monitor([deployed])
        return [(each.code, each.fact) for each in observation.deviations]

    return look


def waiting(reason, message=""):
    return {"state": {"waiting": {"reason": reason, "message": message}}}


@pytest.mark.parametrize(
    ("status", "codes"),
    [
        (waiting("CrashLoopBackOff") | {"restartCount": 4}, ["drift.crash-loop", "drift.restarts"]),
        (
            waiting("CrashLoopBackOff")
            | {"restartCount": 4, "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}},
            ["drift.crash-loop", "drift.out-of-memory"],
        ),
        ({"state": {"terminated": {"reason": "OOMKilled"}}}, ["drift.out-of-memory"]),
        (waiting("ImagePullBackOff", "no such image"), ["drift.not-started"]),
        (waiting("ContainerCreating"), []),
    ],
    ids=["crash loop", "memory in a loop", "memory", "no image", "starts"],
)
def test_state_of_container_has_its_code(pod, found, status, codes):
    """Each needs another remedy."""
    pod["status"]["containerStatuses"][0] |= status

    assert [code for code, _ in found()] == codes


def test_refused_pods_of_deployment_are_reported_with_message(cluster, found):
    """Its pods may still run, and a node that fails would show it."""
    condition = {"type": "ReplicaFailure", "status": "True", "message": "policy cscm-images denied request"}
    cluster.objects["Deployment", "shop", "hello"]["status"]["conditions"] = [condition]

    assert found() == [("drift.denied", "pods of hello are refused: policy cscm-images denied request")]


def test_eviction_of_removed_pod_is_reported(cluster, found, pod):
    """Its event names it."""
    name = pod["metadata"]["name"]
    cluster.add_event("Preempted", PODS, name, "for a pod with a higher priority")
    cluster.add_event("Killing", PODS, name, "it was drained")
    cluster.add_event("Preempted", PODS, "other-1abc-00000", "of another")

    assert found() == [
        ("drift.evicted", f"{name} was ended by the cluster: Preempted for a pod with a higher priority")
    ]


@pytest.mark.parametrize("times", [{"lastTimestamp": None, "series": {"lastObservedTime": "{}"}}, {}], ids=str)
@pytest.mark.parametrize(("minutes", "reported"), [(9, True), (11, False)])
def test_old_events_are_not_reported_again(cluster, found, pod, times, minutes, reported):
    """The cluster keeps them for an hour."""
    event = cluster.add_event("Evicted", PODS, pod["metadata"]["name"], "low on memory")
    at = (NOON - timedelta(minutes=minutes)).isoformat()
    event |= {"lastTimestamp": at} | ({**times, "series": {"lastObservedTime": at}} if times else {})

    assert bool(found()) is reported


def test_ended_pod_of_earlier_deployment_is_not_reported(harness, cluster, pod):
    """It stays as an object until somebody deletes it."""
    again = harness.deploy(harness.good())
    pod["status"] |= {"phase": "Failed", "reason": "Evicted"}
    cluster.objects[PODS.name, "shop", pod["metadata"]["name"]] = pod

    assert harness.codes(again) == [("hello", [])]


@pytest.mark.parametrize(("ready", "codes"), [("Unknown", ["drift.node"]), ("True", [])])
def test_node_that_is_not_ready_is_named(cluster, found, pod, ready, codes):
    """The pod itself cannot say why nobody hears of it."""
    pod["spec"]["nodeName"] = "node-1"
    pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    condition = {"type": "Ready", "status": ready, "message": "Kubelet stopped posting node status."}
    cluster.objects["Node", "", "node-1"] = {"metadata": {"name": "node-1"}, "status": {"conditions": [condition]}}

    assert [code for code, _ in found()] == codes


def test_role_that_may_not_read_nodes_monitors_all_else(cluster, found, pod):
    """Nodes are of the whole cluster."""
    pod["spec"]["nodeName"] = "node-1"
    pod["status"]["conditions"] = []
    cluster.failing["read Node"] = ClusterRefused("nodes is forbidden\nno")

    assert found() == []


def test_refused_foreign_pods_are_reported_once(harness, cluster, deployed):
    """Somebody tries to run something there; a controller tries again and again."""
    cluster.add_event("FailedCreate", REPLICA_SETS, "theirs-5d7f", 'pods "theirs-5d7f-abcde" is forbidden')
    cluster.add_event("FailedCreate", REPLICA_SETS, "theirs-5d7f", 'pods "theirs-5d7f-fghij" is forbidden')
    cluster.add_event("FailedCreate", REPLICA_SETS, cluster.list(REPLICA_SETS)[0]["metadata"]["name"], "a quota")

    _, denied = harness.target.monitor([deployed])

    assert (denied.name, denied.application) == ("ReplicaSet theirs-5d7f", "")
    assert [each.code for each in denied.deviations] == ["drift.denied"]
    assert (
        'pods of ReplicaSet theirs-5d7f are refused: pods "theirs-5d7f-fghij" is forbidden' in denied.deviations[0].fact
    )
    assert drop_deploying([denied], {("staging", "theirs")}) == ()
    assert len(harness.target.monitor([deployed], "hello")) == 1
