"""The watch of a namespace: list, resume, list again; and which deployments a change belongs to."""

from __future__ import annotations

import pytest

from supply_chain.errors import ClusterRefused, ClusterUnavailable
from supply_chain.execution.kubernetes.cluster import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    NETWORK_POLICIES,
    PODS,
    REPLICA_SETS,
    SERVICES,
    Change,
    VersionGone,
    WatchEventType,
)
from supply_chain.execution.kubernetes.namespace import read_namespace
from supply_chain.execution.kubernetes.watching import KindWatch, NamespaceWatch, find_affected
from supply_chain.model.container import APPLICATION


def change(kind, name, version):
    return Change(kind, {"metadata": {"name": name}}, version)


@pytest.fixture
def watch(cluster):
    """The watch of pods, which were listed at version 1 with one pod."""
    cluster.add_pod("first", "shop", "x@y")
    watch = KindWatch(cluster, "shop", PODS)
    assert [set(each) for each in watch.follow(30)] == [{"first"}]
    return watch


def test_watch_follows_changes_from_the_listed_version(cluster, watch):
    """What is gone is forgotten, so memory has what is there and nothing else."""
    cluster.changes["Pod"] = [
        change(WatchEventType.ADDED, "second", "2"),
        change(WatchEventType.DELETED, "first", "3"),
        change(WatchEventType.BOOKMARK, "", "9"),
    ]

    assert [[*each] for each in watch.follow(30)] == [["second"], ["first"]]
    assert (set(watch.objects), watch.version) == ({"second"}, "9")
    assert [*watch.follow(30)] == []
    assert cluster.watched == ["Pod from 1", "Pod from 1", "Pod from 9"]


def test_lost_connection_is_resumed_from_last_version(cluster, watch):
    """Nothing is listed again, and nothing in between is missed."""
    cluster.changes["Pod"] = [change(WatchEventType.ADDED, "second", "2"), ClusterUnavailable("it was lost\nwait")]
    with pytest.raises(ClusterUnavailable):
        [*watch.follow(30)]

    assert [*watch.follow(30)] == []
    assert (set(watch.objects), cluster.watched[-1]) == ({"first", "second"}, "Pod from 2")


def test_watch_lists_again_once_its_version_expired(cluster, watch):
    """What appeared and what disappeared meanwhile is both a change."""
    cluster.objects.clear()
    cluster.add_pod("third", "shop", "x@y")
    cluster.changes["Pod"] = [VersionGone("410")]

    assert [*watch.follow(30)] == []
    assert [set(each) for each in watch.follow(30)] == [{"first", "third"}]
    assert set(watch.objects) == {"third"}


def test_namespace_watch_reports_changes_after_listing_all_kinds(cluster):
    """Pods without their ReplicaSets would be foreign."""
    pod = cluster.add_pod("first", "shop", "x@y")
    with NamespaceWatch(cluster, "shop", [PODS, DEPLOYMENTS]) as watch:
        assert watch.wait(30) == {("Pod", "first")}
        assert [*watch.state.all(PODS)] == [pod]

    cluster.failing["list Deployment"] = ClusterUnavailable("it does not answer\nwait")
    with NamespaceWatch(cluster, "shop", [PODS, DEPLOYMENTS]) as watch:
        assert watch.wait(0.2) == frozenset()


@pytest.mark.parametrize("error", [ClusterRefused("pods is forbidden\nno"), ValueError("forbidden")], ids=type)
def test_error_that_ends_a_watch_is_raised(cluster, error):
    """A role without the permission watches nothing, nor does a thread that a defect ended."""
    cluster.failing["list Pod"] = error

    with NamespaceWatch(cluster, "shop", [PODS]) as watch, pytest.raises(type(error), match="forbidden"):
        watch.wait(30)


def test_change_belongs_to_deployment_of_object(harness, cluster):
    """Also if the object is gone."""
    deployment = harness.deploy(harness.good()).expected
    other = deployment.model_copy(
        update={"name": "other", "place": deployment.place.model_copy(update={"documents": ()})}
    )
    (replica_set,) = (each["metadata"]["name"] for each in cluster.list(REPLICA_SETS))
    event = cluster.add_event("Evicted", PODS, f"{replica_set}-00000", "m")["metadata"]["name"]
    state = read_namespace(cluster, "shop", [DEPLOYMENTS, REPLICA_SETS, EVENTS])
    settings = cluster.list(CONFIG_MAPS)[0]["metadata"]["name"]

    def names(*changed):
        return [each.name for each in find_affected([deployment, other], changed, state)]

    assert names(("Pod", f"{replica_set}-00000")) == ["hello"]
    assert names(("Pod", "other-gone-00000")) == ["other"]
    assert names(("ReplicaSet", replica_set)) == names(("Deployment", "hello")) == ["hello"]
    assert names(("Event", event)) == names(("ConfigMap", settings)) == ["hello"]
    assert names((NETWORK_POLICIES.name, "theirs"), ("Pod", "alone"), ("Event", "gone")) == []
    assert names(("Pod", f"{replica_set}-00000"), ("Deployment", "other")) == ["hello", "other"]


def test_change_belongs_to_deployment_that_object_names(harness, cluster):
    """An autoscaler that somebody adds, and an object that an earlier deployment left."""
    deployment = harness.deploy(harness.good()).expected
    target = {"scaleTargetRef": {"kind": "Deployment", "name": "hello"}}
    for kind, labels, spec in ((AUTOSCALERS, {}, target), (SERVICES, {APPLICATION: "hello"}, {})):
        metadata = {"name": "theirs", "namespace": "shop", "labels": labels}
        cluster.objects[kind.name, "shop", "theirs"] = {"metadata": metadata, "spec": spec}
    state = read_namespace(cluster, "shop")

    for kind in (AUTOSCALERS, SERVICES):
        assert find_affected([deployment], [(kind.name, "theirs")], state) == (deployment,)
        assert find_affected([deployment], [(kind.name, "gone")], state) == ()
