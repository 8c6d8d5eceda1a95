"""Deployments to a real cluster, into whose containerd (CONTAINERD_ADDRESS) the images are imported."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from lightkube.resources.apps_v1 import Deployment as Deployments
from lightkube.types import PatchType

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.tools.manifest_renderer import ManifestRenderer
from supply_chain.errors import ClusterConflict, ClusterRefused, DeploymentFailed, ManifestsRefused, NoSuitableNode
from supply_chain.execution.deployment import Deployment
from supply_chain.execution.environment import SecretKey
from supply_chain.execution.kubernetes import rendering
from supply_chain.execution.kubernetes.cluster import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    INGRESSES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Kind,
)
from supply_chain.execution.kubernetes.rollout import read_owner_uid
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.execution.kubernetes.watching import KindWatch, NamespaceWatch
from supply_chain.execution.nodes import ReservedNodes
from supply_chain.model.declaration import Classification
from supply_chain.model.image import Digest, ImageRef
from tests.contract.target import TargetContract
from tests.support.cluster_images import NAME, Import
from tests.support.cluster_roles import DEPLOYER, bind_role, deployable_namespace, restricted_namespace
from tests.support.node import Place, deployers_target, secure_pod

pytestmark = pytest.mark.real

CLUSTER_ROLE_BINDINGS = Kind(
    "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)
QUOTAS = Kind("v1", "ResourceQuota", "resourcequotas")


@pytest.fixture
def namespace(cluster: ClusterClient) -> Iterator[str]:
    """A namespace of its own, in which Pod Security is `restricted`."""
    with deployable_namespace(cluster, "target") as name:
        yield name


@pytest.fixture
def reserved(cluster: ClusterClient, namespace: str) -> Iterator[Callable[[str], None]]:
    """A function that labels the node as reserved for a pool. The deployer may list nodes."""
    binding = f"{namespace}-nodes"
    bind_role(cluster, "cscm-deployer-nodes", DEPLOYER, namespace, CLUSTER_ROLE_BINDINGS, binding)
    (node, *_) = cluster.list(NODES)
    name = node["metadata"]["name"]

    def label(pool: str) -> None:
        labels = {f"{namespace}/pool": pool} if pool else {}
        reserve = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
        cluster.take_over(NODES, reserve, namespace)

    yield label
    label("")
    cluster.delete(CLUSTER_ROLE_BINDINGS, binding)


@pytest.fixture
def hosts(cluster: ClusterClient, namespace: str) -> Iterator[Callable[[], None]]:
    """A function that lets the deployer read the hosts of all Ingresses."""
    binding = f"{namespace}-hosts"
    yield lambda: bind_role(cluster, "cscm-deployer-hosts", DEPLOYER, namespace, CLUSTER_ROLE_BINDINGS, binding)
    cluster.delete(CLUSTER_ROLE_BINDINGS, binding)


@pytest.fixture
def harness(cluster: ClusterClient, namespace: str, image: Import) -> Place:
    """One pod is enough for most tests, and two roll one after the other; `test_rolls` has rolls of several."""

    def add_foreign(digest: Digest) -> str:
        cluster.apply(PODS, secure_pod(namespace, "foreign", f"{NAME}@{digest}"))
        return "foreign"

    place = Place.of(cluster, namespace, image)
    place.bad, place.add_foreign = image("crash"), add_foreign
    return place


class TestKubernetesTarget(TargetContract):
    """A real cluster keeps the contract of targets; its pods are within Pod Security `restricted`."""


def test_update_replaces_settings(harness: Place, cluster: ClusterClient) -> None:
    """The settings of the earlier deployment stay as long as a rollback would need them."""
    harness.deploy(harness.good())
    harness.target = deployers_target(cluster, harness.namespace, environment={"GREETING": "other"})

    second = harness.deploy(harness.good())
    harness.target.remove_unneeded(ImageRef(repository="curated/hello", digest=second.digest))

    assert len(cluster.list(CONFIG_MAPS, harness.namespace, {"cscm.managed": "true"})) == 2
    assert harness.codes(second) == [("hello", [])]


def test_update_without_listener_restores_previous_deployment(
    harness: Place, image: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pods of the earlier deployment serve all the time."""
    good = harness.deploy(harness.good())
    monkeypatch.setattr(rendering, "SCHEDULING", 10)  # the test waits out all of it

    with pytest.raises(DeploymentFailed, match="connection refused"):
        harness.deploy(image("wrong-port"))

    assert harness.settles(good)


def test_missing_image_fails_deployment_and_leaves_nothing(harness: Place, cluster: ClusterClient) -> None:
    """The image is on no node and in no registry."""
    with pytest.raises(DeploymentFailed, match="ImagePullBackOff"):
        harness.deploy("sha256:" + "0" * 64)

    assert cluster.read(DEPLOYMENTS, "hello", harness.namespace) is None
    assert cluster.read(SERVICES, "hello", harness.namespace) is None


def test_missing_secret_fails_deployment_with_its_name(harness: Place, cluster: ClusterClient) -> None:
    """The chain references Secrets and never reads them."""
    secret = SecretKey(secret="absent", key="token")
    harness.target = deployers_target(cluster, harness.namespace, secrets={"TOKEN": secret})

    with pytest.raises(DeploymentFailed, match='secret "absent" not found'):
        harness.deploy(harness.good())


def test_quota_fails_deployment_with_message_of_cluster(harness: Place, cluster: ClusterClient) -> None:
    """No pod is ever created, so no pod can say why."""
    namespace = harness.namespace
    metadata = {"name": "few", "namespace": namespace}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": {"pods": "0"}}}
    cluster.apply(QUOTAS, quota)
    until = time.monotonic() + 20
    while not (cluster.read(QUOTAS, "few", namespace) or {}).get("status") and time.monotonic() < until:
        time.sleep(0.1)

    with pytest.raises(DeploymentFailed, match="exceeded quota"):
        harness.deploy(harness.good())


def test_change_of_another_manager_is_drift_and_conflict(
    harness: Place, cluster: ClusterClient, kubeconfig: Path
) -> None:
    """Force would undo what somebody did on purpose, or hide who did it."""
    good = harness.deploy(harness.good())
    somebody = ClusterClient.of_context(kubeconfig, None, manager="somebody").client
    change = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hello"}, "spec": {"replicas": 3}}
    somebody.patch(
        Deployments, "hello", change, namespace=harness.namespace, patch_type=PatchType.APPLY, force=True
    )  # fmt: skip

    assert "drift.object" in harness.codes(good)[0][1]
    with pytest.raises(ClusterConflict, match="somebody"):
        harness.deploy(harness.good())


def test_replica_count_moves_to_autoscaler_and_back(harness: Place, cluster: ClusterClient) -> None:
    """The autoscaler of the cluster adds a pod, without a deviation; the next deployments keep it, or take it back."""
    namespace, digest = harness.namespace, harness.good()
    harness.target = deployers_target(cluster, namespace, replicas=2)
    harness.deploy(digest)

    harness.target = deployers_target(cluster, namespace, autoscaling={"minimum": 3, "maximum": 4})
    scaled = harness.deploy(digest)

    def pods() -> int:
        return int((cluster.read(DEPLOYMENTS, "hello", namespace) or {})["spec"]["replicas"])

    assert harness.settles(scaled) and pods() == 3
    again = harness.deploy(harness.good())
    assert harness.settles(again) and pods() == 3

    harness.target = deployers_target(cluster, namespace, replicas=1)
    fixed = harness.deploy(again.digest)

    assert fixed.changed and harness.settles(fixed) and pods() == 1
    assert cluster.list(AUTOSCALERS, namespace) == ()


def test_pods_run_only_on_nodes_of_their_classification(
    harness: Place, cluster: ClusterClient, reserved: Callable[[str], None]
) -> None:
    """A pod of another classification never shares a node with them."""
    namespace = harness.namespace
    labels = {f"{namespace}/pool": "internal"}
    internal = ReservedNodes(classifications=(Classification.INTERNAL,), labels=labels)
    harness.target = deployers_target(cluster, namespace, internal)

    reserved("public")
    with pytest.raises(NoSuitableNode, match=f"none has {namespace}/pool=internal"):
        harness.deploy(harness.good())

    assert cluster.list(CONFIG_MAPS, namespace, {"cscm.managed": "true"}) == ()
    reserved("internal")
    deployment = harness.deploy(harness.good())
    assert harness.settles(deployment)
    reserved("public")
    assert {code for _, codes in harness.codes(deployment) for code in codes} == {"drift.placement"}


def test_nodes_are_not_listed_without_documented_role(harness: Place, cluster: ClusterClient) -> None:
    """The permission is one in the whole cluster; who reserves no nodes does not give it."""
    tenant = ReservedNodes(owners=("tests",), labels={"tenant": "tests"})
    harness.target = deployers_target(cluster, harness.namespace, tenant)

    with pytest.raises(ClusterRefused, match=r'list nodes.*cannot list resource "nodes"'):
        harness.deploy(harness.good())


CONTAINER = {
    "name": "application", "image": "hello", "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
    "resources": {"limits": {"cpu": "100m", "memory": "32Mi"}},
    "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]}},
}  # fmt: skip
SECURITY = {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}}


def deployment_of(**container: object) -> dict[str, object]:
    """Return a Deployment to bring along, of a container with other values."""
    template = {"spec": {"securityContext": SECURITY, "containers": [CONTAINER | container]}}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hello"}, "spec": {"template": template}
    }  # fmt: skip


def ingress_to(host: str, **metadata: object) -> dict[str, object]:
    """Return an Ingress to the application for a host."""
    backend = {"service": {"name": "hello", "port": {"number": 8080}}}
    rule = {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "hello", **metadata},
        "spec": {"rules": [rule]},
    }  # fmt: skip


def test_own_manifests_of_application_run_admitted_digest(
    harness: Place, cluster: ClusterClient, hosts: Callable[[], None], tmp_path: Path
) -> None:
    """The cluster's defaults are no deviations; with a violation, nothing is applied."""
    hosts()
    (tmp_path / "hello").mkdir()
    path = tmp_path / "hello/deployment.yaml"
    path.write_text(json.dumps(deployment_of()))
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "hello", "labels": {"team": "a"}}}
    scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "hello"},
              "spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}}  # fmt: skip
    others = account, scaler, ingress_to(f"{harness.namespace}.example")
    (tmp_path / "hello/others.yaml").write_text("\n---\n".join(map(json.dumps, others)))
    scaling = {"minimum": 1, "maximum": 2}
    target = deployers_target(
        cluster, harness.namespace, manifests="hello", autoscaling=scaling, reached_from=("kube-system",)
    )
    harness.target = replace(target, manifests=tmp_path)

    deployment = harness.deploy(harness.good())

    assert harness.settles(deployment)
    mounted = {"volumeMounts": [{"name": "code", "mountPath": "/subject"}]}
    for other, why in (
        ({"image": "busybox"}, "no gate admitted busybox"),
        ({"command": ["/subject", "fail"]}, "not among the declared `runtime.commands`"),
        (mounted, "/subject is not at or below one of the declared `runtime.configuration_paths`"),
    ):
        path.write_text(json.dumps(deployment_of(**other)))
        with pytest.raises(ManifestsRefused, match=why):
            harness.deploy(harness.good())
    assert harness.settles(deployment)
    path.write_text(json.dumps(deployment_of()))
    (tmp_path / "hello/others.yaml").unlink()

    assert harness.settles(harness.deploy(harness.good()))
    assert cluster.list(INGRESSES, harness.namespace) == ()


def test_host_of_another_application_in_cluster_is_refused(
    harness: Place, cluster: ClusterClient, hosts: Callable[[], None], tmp_path: Path
) -> None:
    """Without the documented role, nobody knows whose a host is. The other one is in another namespace."""
    domain = f"{harness.namespace}.example"
    (tmp_path / "hello").mkdir()
    documents = deployment_of(), ingress_to(f"shop.{domain}")
    (tmp_path / "hello/all.yaml").write_text("\n---\n".join(map(json.dumps, documents)))
    target = deployers_target(cluster, harness.namespace, manifests="hello", reached_from=("kube-system",))
    harness.target = replace(target, manifests=tmp_path)
    with pytest.raises(ClusterRefused, match=r"(?s)cannot list resource.*Bind cscm-deployer-hosts"):
        harness.deploy(harness.good())
    hosts()
    with restricted_namespace(cluster, "shop") as other:
        labels = {"cscm.managed": "true", "cscm.application": "shop", "cscm.environment": "production"}
        cluster.apply(INGRESSES, ingress_to(f"*.{domain}", namespace=other, labels=labels))

        with pytest.raises(ManifestsRefused, match=f"overlaps with .* of shop in production .*{other}/hello"):
            harness.deploy(harness.good())

        assert harness.running() == set() and cluster.list(INGRESSES, harness.namespace) == ()
        cluster.delete(INGRESSES, "hello", other)
        assert harness.settles(harness.deploy(harness.good()))


def test_chart_is_deployed_with_values_of_its_environment(
    harness: Place, cluster: ClusterClient, toolbox: Toolbox, tmp_path: Path
) -> None:
    """By helm itself. Other values change what runs; values that its schema does not allow change nothing."""
    variable = {"name": "GREETING", "value": "{{ .Values.greeting }}"}
    pages = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-pages"},
             "data": {"greeting": "{{ .Values.greeting }} from {{ .Release.Namespace }}"}}  # fmt: skip
    schema = {"type": "object", "properties": {"greeting": {"type": "string"}}, "additionalProperties": False}
    files = {
        "hello/Chart.yaml": {"apiVersion": "v2", "name": "hello", "version": "1.0.0"},
        "hello/values.yaml": {"greeting": "hello"},
        "hello/values.schema.json": schema,
        "hello/templates/deployment.yaml": deployment_of(env=[variable]),
        "hello/templates/pages.yaml": pages,
        "staging.yaml": {"greeting": "hi"},
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    target = deployers_target(cluster, harness.namespace, manifests="hello", values="staging.yaml")
    harness.target = replace(target, manifests=tmp_path, renderer=ManifestRenderer(toolbox.find))

    def read_greeting() -> str:
        found = cluster.read(CONFIG_MAPS, "hello-pages", harness.namespace)
        assert found
        return str(found["data"]["greeting"])

    first = harness.deploy(harness.good())
    assert harness.settles(first) and read_greeting() == f"hi from {harness.namespace}"
    assert not harness.deploy(first.digest).changed
    (tmp_path / "staging.yaml").write_text('{"greeting": "welcome"}')
    second = harness.deploy(first.digest)
    assert second.changed and second.container != first.container and harness.settles(second)
    (tmp_path / "staging.yaml").write_text('{"greeting": 5}')
    with pytest.raises(ManifestsRefused, match=r"helm template does not render(.|\n)*at '/greeting'"):
        harness.deploy(harness.good())
    assert harness.settles(second) and read_greeting() == f"welcome from {harness.namespace}"
    (tmp_path / "staging.yaml").write_text("{}")
    (tmp_path / "hello/templates/pages.yaml").unlink()

    last = harness.deploy(harness.good())

    assert harness.settles(last) and cluster.read(CONFIG_MAPS, "hello-pages", harness.namespace) is None


def test_missing_namespace_is_refused_before_anything_is_applied(harness: Place, cluster: ClusterClient) -> None:
    """The namespace belongs to whoever administers the cluster."""
    target = deployers_target(cluster, "target-absent")
    harness.target = replace(target, connect=lambda: cluster)

    with pytest.raises(ClusterRefused, match="not found"):
        harness.deploy(harness.good())


def test_deleted_service_is_drift(harness: Place, cluster: ClusterClient) -> None:
    """Nobody reaches the pods then."""
    good = harness.deploy(harness.good())
    cluster.delete(SERVICES, "hello", harness.namespace)

    assert harness.codes(good) == [("hello", ["drift.missing"])]


def test_watch_with_documented_role_reports_foreign_objects(harness: Place, cluster: ClusterClient) -> None:
    """A Service, a pod, and a Deployment whose pods Pod Security refuses; and nothing once they are gone."""
    good, target = (
        harness.deploy(harness.good()),
        deployers_target(cluster, harness.namespace),
    )
    with target.watch() as watch:
        assert ("Deployment", "hello") in watch.wait(60)
        assert target.judge_changes([good.expected], {("Deployment", "hello")}, watch.state)[0].deviations == ()
        cluster.apply(SERVICES, service_of_others(harness.namespace))
        cluster.apply(DEPLOYMENTS, unconfined_deployment(harness.namespace))
        harness.add_foreign(good.digest)

        wanted = {("Service theirs", "drift.foreign-object"), ("foreign", "drift.foreign")}
        found = wait_for(target, watch, good, lambda found: wanted <= found and "drift.denied" in dict(found).values())
        assert {code for name, code in found if name.startswith("ReplicaSet theirs-")} == {"drift.denied"}

        cluster.delete(PODS, "foreign", harness.namespace)
        cluster.delete(SERVICES, "theirs", harness.namespace)
        wait_for(target, watch, good, wanted.isdisjoint)


def wait_for(
    target: KubernetesTarget, watch: NamespaceWatch, good: Deployment, holds: Callable[[set[tuple[str, str]]], bool]
) -> set[tuple[str, str]]:
    """Judge changes until the names and codes of all deviations are as wanted, and return them."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        changed = watch.wait(10)
        observed = target.judge_changes([good.expected], changed, watch.state)
        found = {(each.name, deviation.code) for each in observed for deviation in each.deviations}
        if holds(found):
            return found
    raise AssertionError(found)


def service_of_others(namespace: str) -> dict[str, object]:
    metadata = {"name": "theirs", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}


def unconfined_deployment(namespace: str) -> dict[str, object]:
    container = {"name": "theirs", "image": "theirs"}
    template = {"metadata": {"labels": {"app": "theirs"}}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "theirs", "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": "theirs"}}, "template": template},
    }  # fmt: skip


def test_watch_lists_again_after_410_gone(cluster: ClusterClient, namespace: str) -> None:
    """The API server answers 410 Gone, and has what there is."""
    watch = KindWatch(cluster, namespace, SERVICE_ACCOUNTS, version="1")

    assert [*watch.follow(5)] == [] and watch.version == ""
    assert DEPLOYER in next(iter(watch.follow(5))) and watch.version


def test_metadata_list_has_owners_without_spec_and_status(harness: Place, cluster: ClusterClient) -> None:
    """That is enough to tell whose a pod is."""
    harness.deploy(harness.good())

    (listed,) = cluster.list_at(REPLICA_SETS, harness.namespace, metadata_only=True).objects
    assert read_owner_uid(listed) and not {"spec", "status"} & listed.keys()
