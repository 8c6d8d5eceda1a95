"""What runs on hosts and in clusters, with or without a record, and what it is called."""

from datetime import timedelta

import pytest

from supply_chain.errors import ClusterUnavailable, EngineUnavailable
from supply_chain.execution.deployment import Deployment, KubernetesPlace
from supply_chain.execution.kubernetes.cluster import PODS
from supply_chain.execution.records import record
from supply_chain.fleet.hosts import CLUSTER, ClusterHost, EngineHost, Host, list_observed, observe_hosts
from supply_chain.fleet.image import HostContainer
from supply_chain.model.container import ContainerSpec, make_profile
from supply_chain.model.declaration import Probe
from supply_chain.model.image import ImageRef
from tests.support.memory_cluster import MemoryCluster
from tests.support.memory_engine import MemoryEngine

OTHER = "sha256:" + "b" * 64
THIRD = "sha256:" + "c" * 64


def image(digest):
    return f"registry.test/curated/hello@{digest}"


def add(cluster, kind, name, digest, *, uid="", owner=None, spec=None, **metadata):
    """Add an object with the template of a pod."""
    owners = [{"kind": owner[0], "name": owner[1], "uid": f"uid of {owner[1]}", "controller": True}] if owner else []
    template = {"spec": {"containers": [{"name": "application", "image": image(digest)}]}}
    wrapped = {"jobTemplate": {"spec": {"template": template}}} if kind == "CronJob" else {"template": template}
    cluster.objects[kind, "staging", name] = {
        "metadata": {"name": name, "namespace": "staging", "uid": uid or f"uid of {name}", "ownerReferences": owners,
                     **metadata},
        "spec": {**wrapped, **(spec or {})},
    }  # fmt: skip


def observe(cluster):
    return ClusterHost("shop", lambda: cluster).observe(())


def test_watch_forgets_containers_of_removed_environment(fleet, make):
    """Nobody observes that host any more, so its containers would seem to run forever."""
    ref = fleet.curated()
    fleet.refresh()
    fleet.inventory.record_host(
        "old", [HostContainer(container="9" * 64, name="x", digest=ref.digest, running=True)], make.noon
    )

    observe_hosts({"new": EngineHost(MemoryEngine)}, fleet.inventory, lambda: make.noon, are_all=True)

    assert [image.running for image in fleet.images] == [()]


def test_watch_records_running_containers_of_host(fleet):
    """A recorded container is probed at its address; others are listed too."""
    engine = MemoryEngine()
    image, stranger = engine.add("curated/hello:v1"), engine.add("somebody:else")
    assert EngineHost(lambda: engine).observe(()) == ()
    made = [
        engine.create(
            ContainerSpec(
                name=name,
                image=digest,
                labels={},
                environment={},
                profile=make_profile(fleet.make.declaration().runtime),
            )
        )
        for name, digest in (("recorded", image), ("stranger", stranger))
    ]
    fleet.curated(image)
    fleet.deploy(ImageRef(repository="curated/hello", digest=image), container=made[0])
    fleet.curated(stranger, "other")
    fleet.refresh()
    fleet.refresh("other")
    at = fleet.make.noon + timedelta(days=2)

    engine.start(made[1])

    for _ in range(2):  # an observation is not a deployment record
        observe_hosts({"laptop": EngineHost(lambda: engine)}, fleet.inventory, lambda: at, are_all=True)

    hello, other = fleet.images
    assert [(r.name, r.healthy, r.observed_at) for r in hello.running] == [
        ("staging-hello", False, at)
    ]  # it is not running
    assert [(r.environment, r.name, r.healthy) for r in other.running] == [("", "stranger", None)]


def test_cluster_lists_unrecorded_pod_with_all_of_its_digests(fleet):
    """The image that is named, the one that the node found by a tag, and those of containers that were added."""
    cluster = MemoryCluster()
    pod = cluster.add_pod("by-hand", "team-a", image(fleet.curated().digest))
    pod["spec"]["initContainers"] = [{"name": "first", "image": "registry.test/curated/other:v1"}]
    pod["status"]["initContainerStatuses"] = [{"name": "first", "imageID": image(OTHER)}]
    pod["spec"]["ephemeralContainers"] = [{"name": "debug", "image": image(THIRD)}]

    found = observe(cluster)

    assert {each.digest for each in found} == {fleet.curated().digest, OTHER, THIRD}
    assert {(each.cluster, each.namespace, each.workload, each.pods) for each in found} == {
        ("shop", "team-a", "Pod/by-hand", ("by-hand",))
    }
    assert all(each.running and each.healthy for each in found)


def test_cluster_omits_ended_and_scaled_down_workloads():
    """A pod or job that ended, and an earlier revision of a Deployment, which only a person starts again."""
    cluster = MemoryCluster()
    cluster.add_pod("ended", "staging", image(OTHER))["status"]["phase"] = "Succeeded"
    add(cluster, "Job", "done", OTHER)
    cluster.objects["Job", "staging", "done"]["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    for number, digest in enumerate((OTHER, THIRD), 9):
        add(
            cluster, "ReplicaSet", f"hello-{number}", digest, owner=("Deployment", "hello"), spec={"replicas": 0},
            annotations={"deployment.kubernetes.io/revision": str(number)},
        )  # fmt: skip

    (current,) = observe(cluster)

    assert (current.digest, current.workload, current.running) == (THIRD, "Deployment/hello", False)


@pytest.mark.parametrize("kind", ["CronJob", "DaemonSet", "Job", "ReplicaSet", "ReplicationController", "StatefulSet"])
def test_cluster_shows_workload_without_pods(kind):
    """It makes pods by itself: at night, on the next node, or once somebody scales it."""
    cluster = MemoryCluster()
    add(cluster, kind, "later", OTHER)

    assert [(each.workload, each.digest, each.pods) for each in observe(cluster)] == [(f"{kind}/later", OTHER, ())]


def test_cluster_groups_pods_by_workload(fleet):
    """An earlier revision that still has pods runs; the name is that of the Deployment."""
    cluster = MemoryCluster()
    for number, digest in enumerate((OTHER, THIRD), 1):
        add(cluster, "ReplicaSet", f"hello-{number}", digest, owner=("Deployment", "hello"), spec={"replicas": 2})
        for pod in ("x", "y"):
            cluster.add_pod(f"hello-{number}-{pod}", "staging", image(digest))["metadata"]["ownerReferences"] = [
                {"kind": "ReplicaSet", "name": f"hello-{number}", "uid": f"uid of hello-{number}", "controller": True}
            ]
    cluster.objects[PODS.name, "staging", "hello-2-x"]["status"]["conditions"][0]["status"] = "False"

    found = {each.digest: each for each in observe(cluster)}

    assert {each.workload for each in found.values()} == {"Deployment/hello"}
    assert found[OTHER].pods == ("hello-1-x", "hello-1-y") and found[OTHER].healthy
    assert found[THIRD].pods == ("hello-2-x", "hello-2-y") and found[THIRD].healthy is False


def test_pod_of_unknown_replica_set_has_name_of_deployment():
    """The ReplicaSet was made after the list of them was read; a static pod belongs to its node."""
    cluster = MemoryCluster()
    owners = (("ReplicaSet", "hello-abc"), ("ReplicaSet", "alone"), ("Node", "laptop"))
    for kind, name in owners:
        pod = cluster.add_pod(f"{name}-1", "staging", image(OTHER), **{"pod-template-hash": "abc"})
        pod["metadata"]["ownerReferences"] = [{"kind": kind, "name": name, "uid": name, "controller": True}]

    assert sorted(each.workload for each in observe(cluster)) == [
        "Deployment/hello", "Pod/laptop-1", "ReplicaSet/alone",
    ]  # fmt: skip


def deploy(fleet, ref, uid):
    """Record a deployment to a cluster, whose ReplicaSet has the uid."""
    ready = Deployment(
        environment="staging", application=ref.application, digest=ref.digest, container=uid, name=ref.application,
        place=KubernetesPlace(cluster="shop", namespace="staging", documents=()), probe=Probe(port=8080), settings={},
        profile=make_profile(fleet.make.declaration().runtime), configuration=ref.digest, changed=True,
        started_at=fleet.make.noon,
    )  # fmt: skip
    record(ready, ref, fleet.store, fleet.make.noon + timedelta(hours=1))


def test_inventory_distinguishes_recorded_workload_from_others(fleet):
    """What a person rolled back to runs without a record, and is not archived."""
    now, before = fleet.curated(), fleet.curated(OTHER)
    deploy(fleet, now, "uid of hello-2")
    fleet.refresh()
    cluster = MemoryCluster()
    for number, digest in ((1, OTHER), (2, now.digest)):
        add(cluster, "ReplicaSet", f"hello-{number}", digest, owner=("Deployment", "hello"), spec={"replicas": 1})
        cluster.add_pod(f"hello-{number}-x", "staging", image(digest))["metadata"]["ownerReferences"] = [
            {"kind": "ReplicaSet", "name": f"hello-{number}", "uid": f"uid of hello-{number}", "controller": True}
        ]

    observe_hosts(
        {f"{CLUSTER}shop": ClusterHost("shop", lambda: cluster)}, fleet.inventory, lambda: fleet.make.noon, are_all=True
    )

    running = {each.ref: each.running for each in fleet.images}
    (recorded,), (unrecorded,) = running[now], running[before]
    assert (recorded.environment, recorded.place, recorded.host) == ("staging", "shop/staging", "")
    assert (recorded.workload, recorded.pods, recorded.healthy) == ("Deployment/hello", ("hello-2-x",), True)
    assert (unrecorded.environment, unrecorded.place, unrecorded.host) == ("", "shop/staging", "")
    assert (unrecorded.workload, unrecorded.pods) == ("Deployment/hello", ("hello-1-x",))


def test_injected_container_does_not_hide_recorded_image(fleet):
    """Two images in the same pods are two entries, and the record is about one of them."""
    ref = fleet.curated()
    deploy(fleet, ref, "uid of hello-1")
    fleet.curated(OTHER, "sidecar")
    fleet.refresh()
    fleet.refresh("sidecar")
    both = [
        HostContainer(container="uid of hello-1", name="hello", digest=digest, running=True, healthy=healthy,
                      cluster="shop", namespace="staging", workload="Deployment/hello", pods=("hello-1-x",))
        for digest, healthy in ((OTHER, False), (ref.digest, True))
    ]  # fmt: skip
    fleet.inventory.record_host(f"{CLUSTER}shop", both, fleet.make.noon)

    hello, sidecar = fleet.images

    assert [(each.environment, each.healthy) for each in hello.running] == [("staging", True)]
    assert [(each.environment, each.workload) for each in sidecar.running] == [("", "Deployment/hello")]


def test_host_that_cannot_be_observed_keeps_its_record_and_hides_no_other(fleet):
    """What it showed last may still run there; the error is raised once the others are recorded."""
    ref = fleet.curated()
    fleet.refresh()
    cluster = MemoryCluster()
    cluster.add_pod("by-hand", "team-a", image(ref.digest))
    hosts: dict[str, Host] = {
        f"{CLUSTER}shop": ClusterHost("shop", lambda: cluster),
        "laptop": EngineHost(MemoryEngine),
    }
    observe_hosts(hosts, fleet.inventory, lambda: fleet.make.noon, are_all=True)
    cluster.failing["list Pod"] = ClusterUnavailable("it does not answer")
    engine = MemoryEngine()
    made = engine.create(
        ContainerSpec(
            name="stranger", image=engine.add("somebody:else"), labels={}, environment={},
            profile=make_profile(fleet.make.declaration().runtime),
        )
    )  # fmt: skip
    hosts["laptop"] = EngineHost(lambda: engine)

    with pytest.raises(ClusterUnavailable):
        observe_hosts(hosts, fleet.inventory, lambda: fleet.make.noon + timedelta(hours=1), are_all=True)

    assert [each.name for each in fleet.images[0].running] == ["by-hand"]
    assert engine.containers()[0].id == made
    digests, failed = list_observed(hosts)
    assert digests == {each.image for each in engine.containers()} and list(failed) == [f"{CLUSTER}shop"]


def test_unreachable_engine_is_named_and_other_hosts_are_listed():
    """Whatever may run there is not known."""

    def connect():
        raise EngineUnavailable("it does not answer")

    cluster = MemoryCluster()
    cluster.add_pod("by-hand", "team-a", image(OTHER))

    digests, failed = list_observed({"laptop": EngineHost(connect), "shop": ClusterHost("shop", lambda: cluster)})

    assert digests == {OTHER} and set(failed) == {"laptop"}
