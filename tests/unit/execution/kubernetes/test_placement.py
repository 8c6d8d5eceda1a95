"""On which nodes an application runs, and why none qualifies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace

import pytest

from supply_chain.errors import ClusterRefused, NoSuitableNode, SettingInvalid
from supply_chain.execution.environment import KubernetesEnvironment, KubernetesPlacement
from supply_chain.execution.kubernetes.cluster import DEPLOYMENTS
from supply_chain.execution.kubernetes.placement import find_reason
from supply_chain.execution.kubernetes.rendering import Workload, render
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.execution.nodes import Toleration
from supply_chain.execution.observation import Deviation
from supply_chain.model.image import ImageRef
from tests.contract.target import Harness
from tests.support.memory_cluster import NOON, MemoryCluster

POOL = {"pool": "internal"}
TAINT = {"key": "dedicated", "value": "internal", "effect": "NoSchedule"}
PLATFORM = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
RESERVED = {"classifications": ["internal"], "labels": POOL, "tolerations": [TAINT]}


def environment(*nodes: Mapping[str, object]) -> KubernetesEnvironment:
    return KubernetesEnvironment.model_validate({
        "name": "staging", "target": "kubernetes", "cluster": "c", "namespace": "shop", "nodes": nodes,
        "applications": {"hello": KubernetesPlacement()},
    })  # fmt: skip


def node(name: str = "one", labels: dict[str, str] | None = None, **spec: object) -> dict[str, object]:
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": spec}


def pod_of(make, *nodes: Mapping[str, object]) -> dict[str, object]:
    ref = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
    objects = dict(render(Workload(make.declaration(), ref, environment(*nodes), "registry")))
    pod: dict[str, object] = objects[DEPLOYMENTS]["spec"]["template"]["spec"]
    return pod


def test_requirements_of_classification_owner_and_application_all_apply(make):
    """A tenant's internal application runs on the tenant's internal nodes."""
    owner = make.declaration().owner
    tenant = {"owners": [owner], "labels": {"tenant": "a"}, "tolerations": [TAINT, {"key": "tenant"}]}
    own = {"applications": ["hello"], "owners": [owner], "labels": {"gpu": ""},
           "tolerations": [{"key": "gpu", "effect": "NoExecute"}]}  # fmt: skip

    pod = pod_of(make, RESERVED, tenant, own)

    assert pod["nodeSelector"] == {**PLATFORM, **POOL, "tenant": "a", "gpu": ""}
    assert pod["tolerations"] == [
        {"key": "dedicated", "operator": "Equal", "value": "internal", "effect": "NoSchedule"},
        {"key": "tenant", "operator": "Exists"},
        {"key": "gpu", "operator": "Exists", "effect": "NoExecute"},
    ]


def test_requirement_of_others_does_not_apply(make):
    """Without one, pods run on any node that has no taint."""
    public = {"classifications": ["public"], "labels": POOL}
    others = {"classifications": ["internal"], "owners": ["others"], "labels": {"tenant": "b"}}

    pod = pod_of(make, public, others, {"applications": [], "labels": {"gpu": ""}})

    assert (pod["nodeSelector"], pod["tolerations"]) == (PLATFORM, [])


def test_contradictory_requirements_are_refused(make):
    """No node has two values of a label."""
    with pytest.raises(SettingInvalid, match="both pool=internal and pool=own for hello"):
        pod_of(make, RESERVED, {"labels": {"pool": "own"}})


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([], "none has pool=internal, zone=a"),
        ([node(labels={"zone": "a"})], "none has pool=internal"),
        ([node(labels=POOL), node(labels={"zone": "a"})], "none has all of pool=internal, zone=a"),
        ([node(labels={**POOL, "zone": "a"})], ""),
        ([node(labels={**POOL, "zone": "a"}, taints=[TAINT])], ""),
        ([node(labels={**POOL, "zone": "a"}, taints=[{"key": "x", "effect": "PreferNoSchedule"}])], ""),
        (
            [node(labels={**POOL, "zone": "a"}, taints=[TAINT, {**TAINT, "value": "other"}])],
            "of those with pool=internal, zone=a, one has the taint dedicated=other:NoSchedule, which is not tolerated",
        ),
        (
            [node(labels={**POOL, "zone": "a"}, taints=[{**TAINT, "effect": "NoExecute"}])],
            "of those with pool=internal, zone=a, one has the taint dedicated=internal:NoExecute, which is not "
            "tolerated",
        ),
        (
            [node("two", {**POOL, "zone": "a"}, unschedulable=True),
             node(labels={**POOL, "zone": "a"}, taints=[{"key": "x", "effect": "NoExecute"}])],
            "of those with pool=internal, zone=a, one has the taint x:NoExecute, which is not tolerated; "
            "two is unschedulable",
        ),
        (
            [node(labels={**POOL, "zone": "a"}, unschedulable=True),
             node("two", {**POOL, "zone": "a"})], "",
        ),
    ],
    ids=range(10),
)  # fmt: skip
def test_reason_names_labels_taints_and_unschedulable_nodes(nodes, reason):
    """Who reads it knows what to change."""
    assert find_reason(nodes, {**POOL, "zone": "a"}, [Toleration.model_validate(TAINT)]) == reason


def test_deployment_without_qualifying_node_is_refused(make):
    """Its pods would wait for a node until the deadline."""
    cluster = MemoryCluster()
    target = KubernetesTarget(environment(RESERVED), lambda: cluster, "registry", lambda: NOON, lambda _: None)
    harness = Harness(target, make.declaration(), lambda: "sha256:" + "a" * 64, "", set, str)
    cluster.objects["Node", "", "one"] = node(labels=PLATFORM)

    with pytest.raises(NoSuitableNode, match=r"No node qualifies for hello: none has pool=internal") as raised:
        harness.deploy(harness.good())

    assert raised.value.code == "cluster.no-node" and cluster.applied == []
    cluster.objects["Node", "", "one"] = node(labels={**PLATFORM, **POOL}, taints=[TAINT])
    assert harness.deploy(harness.good()).changed


def test_nodes_are_listed_only_where_environment_reserves_some(make):
    """Elsewhere no permission in the whole cluster is needed."""
    cluster = MemoryCluster(failing={"list Node": ClusterRefused("forbidden\nno")})
    target = KubernetesTarget(environment(), lambda: cluster, "registry", lambda: NOON, lambda _: None)

    assert Harness(target, make.declaration(), str, "", set, str).deploy("sha256:" + "a" * 64).changed

    reserved = replace(target, environment=environment(RESERVED))
    with pytest.raises(ClusterRefused, match="forbidden"):
        Harness(reserved, make.declaration(), str, "", set, str).deploy("sha256:" + "a" * 64)


@pytest.fixture
def placed(make):
    """An application on the only node of its pool, and the cluster: a function that looks at it, and the labels."""
    cluster = MemoryCluster()
    cluster.objects["Node", "", "one"] = node(labels={**PLATFORM, **POOL})
    target = KubernetesTarget(environment(RESERVED), lambda: cluster, "registry", lambda: NOON, lambda _: None)
    deployment = Harness(target, make.declaration(), str, "", set, str).deploy("sha256:" + "a" * 64)
    for (kind, *_), each in cluster.objects.items():
        if kind == "Pod":
            each["spec"]["nodeName"] = "one"

    def look() -> list[Deviation]:
        (observation,) = target.monitor([deployment.expected])
        return list(observation.deviations)

    return SimpleNamespace(cluster=cluster, look=look, target=target, deployment=deployment)


def test_pod_on_node_whose_labels_changed_is_reported(placed):
    """The scheduler does not look again, and pods of another classification may come to the node."""
    assert placed.look() == []

    placed.cluster.objects["Node", "", "one"]["metadata"]["labels"] = {**PLATFORM, "pool": "public"}

    one, two = placed.look()
    assert one.code == two.code == "drift.placement"
    assert one.fact.endswith(" runs on node one without pool=internal")
    del placed.cluster.objects["Node", "", "one"]
    assert placed.look() == []  # the cluster reports a node that is gone, and ends its pods


def test_unreadable_node_labels_are_reported(placed):
    """That nothing was compared is no proof that nothing differs."""
    placed.cluster.failing["list Node"] = ClusterRefused("nodes is forbidden\nno")

    assert [each.code for each in placed.look()] == ["drift.not-compared"]
    elsewhere = replace(placed.target, environment=environment())
    (observation,) = elsewhere.monitor([placed.deployment.expected])
    assert observation.deviations == ()


def test_pods_that_git_delivers_are_compared_with_their_deployment(placed):
    """The record has no objects then; without a Deployment, there is nothing to compare."""
    expected = placed.deployment.expected
    place = expected.place.model_copy(update={"documents": ()})
    delivered = expected.model_copy(update={"place": place})
    placed.cluster.objects["Node", "", "one"]["metadata"]["labels"] = None

    (observation,) = placed.target.observe([delivered])
    missing = {each.fact.partition(" without ")[2] for each in observation.deviations}
    assert missing == {"kubernetes.io/arch=amd64, kubernetes.io/os=linux, pool=internal"}
    placed.cluster.delete(DEPLOYMENTS, "hello", "shop")
    (observation,) = placed.target.observe([delivered])
    assert "drift.placement" not in [each.code for each in observation.deviations]
