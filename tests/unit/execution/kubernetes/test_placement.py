"""On which nodes an application runs, and why none qualifies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from supply_chain.errors import ClusterRefused, NoSuitableNode, SettingInvalid
from supply_chain.execution.environment import KubernetesEnvironment, KubernetesPlacement
from supply_chain.execution.kubernetes.cluster import DEPLOYMENTS
from supply_chain.execution.kubernetes.placement import find_reason
from supply_chain.execution.kubernetes.rendering import Workload, render
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.execution.nodes import Toleration
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
    objects = dict(render(Workload(make.manifest(), ref, environment(*nodes), "registry")))
    pod: dict[str, object] = objects[DEPLOYMENTS]["spec"]["template"]["spec"]
    return pod


def test_requirements_of_classification_owner_and_application_all_apply(make):
    """A tenant's internal application runs on the tenant's internal nodes."""
    owner = make.manifest().owner
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


def test_deployment_without_qualifying_node_is_refused_before_anything_is_applied(make):
    """Its pods would wait for a node until the deadline."""
    cluster = MemoryCluster()
    target = KubernetesTarget(environment(RESERVED), lambda: cluster, "registry", lambda: NOON, lambda _: None)
    harness = Harness(target, make.manifest(), lambda: "sha256:" + "a" * 64, "", set, str)
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

    assert Harness(target, make.manifest(), str, "", set, str).deploy("sha256:" + "a" * 64).changed

    reserved = replace(target, environment=environment(RESERVED))
    with pytest.raises(ClusterRefused, match="forbidden"):
        Harness(reserved, make.manifest(), str, "", set, str).deploy("sha256:" + "a" * 64)
