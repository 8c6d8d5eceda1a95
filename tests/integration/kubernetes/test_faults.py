"""Faults of a real cluster: a watch that is lost, a node that goes away, an API server with stale parameters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from cscm_laptop.home import Home
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.adapters.kubernetes.parameters import ClusterParameters
from supply_chain.errors import DeploymentFailed
from supply_chain.evidence.published import PublishedVerdicts
from supply_chain.evidence.summary import make_summary
from supply_chain.execution.enforcement.admitted import AdmissionPorts
from supply_chain.execution.enforcement.enforcement import Enforcement
from supply_chain.execution.enforcement.installation import KINDS, install, read_objects
from supply_chain.execution.enforcement.policies import EnforcedNamespace, Mode, Policies
from supply_chain.execution.kubernetes.cluster import POD_TEMPLATES, SERVICES, Kind
from supply_chain.execution.kubernetes.namespace import OBSERVED, NamespaceState, read_namespace
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.execution.kubernetes.watching import NamespaceWatch
from supply_chain.execution.nodes import ReservedNodes
from supply_chain.model.container import Wait
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.activation import PolicyState
from tests.support.admission import ROLES, Enforced, wait_until
from tests.support.builders import NOON
from tests.support.cluster_images import Import
from tests.support.cluster_roles import DEPLOYER, bind_role, deployable_namespace
from tests.support.control_plane import control_plane
from tests.support.faulty_api import FaultyApi, answer_status, faulty_api
from tests.support.node import DECLARATION, Place, deployers_target
from tests.support.silent_node import SilentNode, silent_node
from tests.support.waiting import eventually
from tests.support.world import World

pytestmark = pytest.mark.real

CLUSTER_ROLE_BINDINGS = Kind(
    "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)
SOON = 60.0
"""Seconds in which a watch has all that changed, on a busy machine."""


@pytest.fixture
def place(cluster: ClusterClient, image: Import) -> Iterator[Place]:
    """An environment in which an application serves on one pod."""
    with deployable_namespace(cluster, "faults") as namespace:
        place = Place.of(cluster, namespace, image)
        place.deploy(image())
        yield place


@pytest.fixture
def api(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyApi]:
    """The API server behind a proxy."""
    with faulty_api(place.cluster, place.namespace, tmp_path_factory.mktemp("api")) as made:
        yield made


@dataclass
class Once:
    """Waits as a rollout does, and before that does something at the first call for which it returns something."""

    act: Callable[[], object]
    done: bool = field(default=False)

    def __call__(self, seconds: float) -> None:
        self.done = self.done or bool(self.act())
        time.sleep(seconds)


def target_that_waits(place: Place, wait: Wait, *nodes: ReservedNodes) -> KubernetesTarget:
    """Return the environment with another way to wait, and with reserved nodes."""
    return replace(deployers_target(place.cluster, place.namespace, *nodes), wait=wait)


def service(place: Place, name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": place.namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}


def versions(state: NamespaceState) -> set[tuple[str, str, str]]:
    """Return kind, name and version of each object."""
    return {
        (kind, name, each["metadata"]["resourceVersion"])
        for kind, objects in state.objects.items()
        for name, each in objects.items()
    }


@pytest.mark.parametrize("gone", [False, True], ids=["resumed", "410 Gone"])
def test_lost_watch_misses_no_change_during_rollout(place: Place, api: FaultyApi, image: Import, gone: bool) -> None:
    """All connections are lost, and the API server is away. Then it may not have the changes since any more."""
    cluster, namespace = place.cluster, place.namespace
    cluster.apply(SERVICES, service(place, "earlier"))
    with NamespaceWatch(api.connect(), namespace) as watch:
        eventually(lambda: watch.wait(1), SOON)
        eventually(lambda: versions(watch.state) == versions(read_namespace(cluster, namespace, OBSERVED)), SOON)

        def lose_watch() -> bool:
            api.proxy.stop()
            dropped = api.proxy.drop_streams()
            cluster.apply(SERVICES, service(place, "later"))
            cluster.delete(SERVICES, "earlier", namespace)
            return dropped > 0

        lost = Once(lose_watch)
        place.target = target = target_that_waits(place, lost)
        deployment = place.deploy(image())
        assert lost.done and watch.state.find("Service", "later") is None

        expired = answer_status(410, "too old resource version: 1 (2)", "Expired")
        too_old = replace(expired, where="watch=true", times=len(OBSERVED), hits=[])
        with api.proxy.broken(*[too_old] * gone) as requests:
            api.proxy.start()
            eventually(
                lambda: sum("watch=true" in each for each in requests) >= len(OBSERVED) * (1 + gone),
                SOON,
                lambda: requests,
            )
            eventually(lambda: versions(watch.state) == versions(read_namespace(cluster, namespace, OBSERVED)), SOON)
            listed = [each for each in requests if "watch=true" not in each]

        assert len(listed) == len(too_old.hits) == (len(OBSERVED) if gone else 0)
        changed = watch.wait(0)
        assert {("Service", "earlier"), ("Service", "later"), ("Deployment", "hello")} <= changed
        observed = target.judge_changes([deployment.expected], changed, watch.state)
        found = {(each.name, deviation.code) for each in observed for deviation in each.deviations}
        assert found == {("Service later", "drift.foreign-object")}


@pytest.fixture
def node(cluster: ClusterClient, place: Place) -> Iterator[SilentNode]:
    """A node without a kubelet; the environment's nodes are reserved, and the deployer may list nodes."""
    binding = f"{place.namespace}-nodes"
    bind_role(cluster, "cscm-deployer-nodes", DEPLOYER, place.namespace, CLUSTER_ROLE_BINDINGS, binding)
    with silent_node(cluster, place.namespace) as made:
        place.target = target_that_waits(place, time.sleep, made.pool)
        yield made
    cluster.delete(CLUSTER_ROLE_BINDINGS, binding)


def test_rollout_continues_on_other_node_if_node_of_new_pod_is_lost(
    place: Place, node: SilentNode, image: Import
) -> None:
    """It is taken out of service with a pod that nobody there confirms to have ended. A pod serves all the time."""
    node.use(node.name)
    served = []

    def go_away() -> bool:
        served.append(place.serving)
        if placed := node.pods():
            node.use(node.real)
            node.take_out_of_service()
        return bool(placed)

    gone = Once(go_away)
    place.target = target_that_waits(place, gone, node.pool)
    deployment = place.deploy(image())

    assert gone.done and all(served)
    assert place.serving == {deployment.digest} and deployment.changed
    assert place.codes(deployment) == [("hello", ["drift.evicted"])]


def test_rollout_fails_naming_node_that_does_not_start_pod(
    place: Place, node: SilentNode, image: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that goes away unnoticed; the cluster would move its pods only after minutes."""
    before = place.recorded[-1]
    monkeypatch.setattr("supply_chain.execution.kubernetes.rendering.SCHEDULING", 3)
    place.declaration = DECLARATION.model_copy(
        update={"probe": DECLARATION.probe.model_copy(update={"start_timeout": 1})}
    )
    node.use(node.name)

    with pytest.raises(
        DeploymentFailed, match=f"was placed on the node {node.name}, which does not start it"
    ) as raised:
        place.deploy(image())

    assert "was restored" in raised.value.message
    assert place.serving == {before.digest} and place.settles(before)


def test_rollout_completes_if_node_of_old_pod_is_lost(place: Place, node: SilentNode, image: Import) -> None:
    """Nobody there confirms that the old pod has ended, and nobody waits for that."""
    node.use(node.name)
    place.target = target_that_waits(place, Once(node.start_pods), node.pool)
    before = place.deploy(image())
    assert len(node.pods()) == 1 and place.serving == {before.digest}

    node.report("Unknown")
    node.use(node.real)
    place.target = target_that_waits(place, time.sleep, node.pool)
    deployment = place.deploy(image())

    assert len(node.pods()) == 1, "the pod is still an object"
    assert place.settles(deployment)


@pytest.fixture(scope="module")
def alone(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterClient]:
    """An API server that no other test uses."""
    with control_plane(home, tmp_path_factory.mktemp("alone")) as admin:
        yield admin


def test_api_server_with_stale_parameters_follows_new_installation(alone: ClusterClient) -> None:
    """Somebody removes all policies and restores them: it goes on with the parameters that it read before.

    An image that is blocked then still starts, until `cscm enforce apply` gives the parameters a new name.
    """
    world, policies, place = World(), Policies(), EnforcedNamespace("staging", "shop", Mode.DENY)
    verdicts, host = world.verdict_store(TierName.EXECUTION), "registry.test:5000"
    ports = AdmissionPorts(host, verdicts, world.ecr, lambda _: (), ClusterParameters(lambda: alone))
    enforcement = Enforcement(
        place, lambda: alone, ports, read_objects(ROLES), PolicyState(active=True, why=""), frozenset({"staging"})
    )
    ref = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)

    def judge(*codes: str) -> None:
        reasons = [{"code": code, "fact": "a fact", "remedy": "a remedy"} for code in codes]
        predicate = make_summary(
            ref, Gate.DEPLOY, "sha256:" + "9" * 64, reasons=reasons, notes=(), inputs=(),
            now=NOON + timedelta(seconds=len(codes)), environment="staging",
        ).predicate()  # fmt: skip
        PublishedVerdicts(verdicts, world.ecr).prepare(ref, predicate, world.now)()

    namespace = Enforced(alone, policies, "shop")

    def refusal(image: str) -> str:
        template = {"spec": {"containers": [{"name": "app", "image": image}]}}
        return namespace.refusal(
            POD_TEMPLATES, {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template}
        )

    def codes() -> list[str]:
        return [each.code for each in enforcement.status().deviations]

    admitted, tag = f"{host}/{ref}", f"{host}/curated/hello:latest"
    judge()
    enforcement.apply()
    wait_until(lambda: refusal(tag) and not refusal(admitted))
    assert codes() == []

    binding = alone.read(KINDS["ValidatingAdmissionPolicyBinding"], policies.name_binding("staging"))
    assert binding
    parameters = binding["spec"]["paramRef"]["name"]
    objects = (
        *policies.list_cluster_objects(),
        *policies.list_namespace_objects(replace(place, parameters=parameters)),
    )
    for each in (each for each in reversed(objects) if each["kind"] != "Namespace"):
        alone.delete(KINDS[each["kind"]], each["metadata"]["name"])
    wait_until(lambda: not refusal(tag))
    install(objects, alone)
    wait_until(lambda: refusal(tag) and not refusal(admitted))
    judge("image.blocked")
    enforcement.follow(ref)

    assert codes() == ["enforcement.ineffective"] and not refusal(admitted)

    enforcement.apply()
    wait_until(lambda: refusal(admitted))
    assert codes() == []
