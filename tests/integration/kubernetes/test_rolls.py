"""Rolls in a real cluster: under load, with images, policies and API servers that fail, and with killed deployers."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from orchestration.steps import RETRIES
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.errors import (
    ClusterConflict,
    ClusterRefused,
    ClusterUnavailable,
    DeploymentFailed,
    SupplyChainError,
)
from supply_chain.execution.deployment import Deployment
from supply_chain.execution.kubernetes.cluster import (
    CONFIG_MAPS,
    NAMESPACES,
    PODS,
    SERVICES,
    Cluster,
    Kind,
)
from supply_chain.execution.kubernetes.rendering import DRAIN
from supply_chain.execution.kubernetes.rollout import is_ready
from supply_chain.model.image import Digest
from tests.support.application import compiled
from tests.support.cluster_images import NAME, Import, run_ctr
from tests.support.cluster_roles import deployable_namespace
from tests.support.fault_proxy import Fault
from tests.support.faulty_api import FaultyApi, answer_status, faulty_api
from tests.support.load import RATE, Load, send_requests
from tests.support.node import Place, secure_pod, target_in
from tests.support.waiting import PATIENCE, eventually
from tests.support.webhook import MESSAGE, refused

pytestmark = pytest.mark.real

ABSENT = "sha256:" + "0" * 64
"""An image that is on no node and in no registry."""
QUOTAS = Kind("v1", "ResourceQuota", "resourcequotas")


@pytest.fixture(scope="module")
def client(cluster: ClusterClient, image: Import) -> Iterator[tuple[str, int]]:
    """A namespace, and the process of a pod in it that may send requests."""
    name = f"client-{uuid4().hex[:8]}"
    cluster.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    cluster.apply(PODS, secure_pod(name, "client", f"{NAME}@{image()}"))
    eventually(lambda: is_ready(cluster.read(PODS, "client", name) or {}))
    running = cluster.read(PODS, "client", name)
    assert running
    container_id = running["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    process = next(line.split()[1] for line in run_ctr("tasks", "ls").splitlines() if line.startswith(container_id))
    yield name, int(process)
    cluster.delete(NAMESPACES, name)


@pytest.fixture(scope="module")
def served(cluster: ClusterClient, image: Import, client: tuple[str, int]) -> Iterator[Place]:
    """An environment in which an application serves on two pods, and which the client reaches."""
    with deployable_namespace(cluster, "roll") as namespace:
        place = Place.of(cluster, namespace, image, replicas=2, reached_from=(client[0],))
        place.deploy(image())
        yield place


@pytest.fixture(scope="module")
def load_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("load") / "load"
    compiled(path, "amd64", "load")
    return path


@pytest.fixture
def load(
    served: Place, client: tuple[str, int], load_program: Path
) -> Callable[[], contextlib.AbstractContextManager[Load]]:
    """A function that sends `RATE` requests per second during a block."""

    @contextlib.contextmanager
    def send() -> Iterator[Load]:
        service = served.cluster.read(SERVICES, "hello", served.namespace)
        assert service
        with send_requests(load_program, client[1], f"http://{service['spec']['clusterIP']}:8080/") as load:
            yield load
        assert load.rate > 0.99 * RATE

    return send


Send = Callable[[], contextlib.AbstractContextManager[Load]]


def test_rollout_at_200_requests_per_second_loses_no_request(served: Place, load: Send, image: Import) -> None:
    """Two pods are replaced, one after the other."""
    with load() as requests:
        last = served.deploy(image())
        time.sleep(DRAIN + 1)  # the last pod that was replaced ends

    assert served.settles(last) and requests.failed == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("crash", "configuration missing"),
        ("pull", "ImagePullBackOff"),
        ("quota", "exceeded quota"),
        ("webhook", f"denied the request: {MESSAGE}"),
    ],
)
def test_failed_rollout_loses_no_request_and_names_cause(
    served: Place, load: Send, image: Import, tmp_path: Path, fault: str, message: str
) -> None:
    """What ran goes on as it was deployed. The quota and the webhook of others are about pods, which come last."""
    before, digest = served.recorded[-1], image("crash") if fault == "crash" else ABSENT
    with contextlib.ExitStack() as stack:
        requests = stack.enter_context(load())
        if fault == "quota":
            stack.enter_context(limited(served))
        if fault == "webhook":
            stack.enter_context(
                refused(served.cluster, served.namespace, PODS, secure_pod(served.namespace, "client", NAME), tmp_path)
            )
        with pytest.raises(DeploymentFailed, match=message):
            served.deploy(digest)
        assert served.settles(before)

    assert requests.failed == []


@contextlib.contextmanager
def limited(place: Place) -> Iterator[None]:
    """Allow no more pods than there are."""
    metadata = {"name": "few", "namespace": place.namespace}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": {"pods": "2"}}}
    place.cluster.apply(QUOTAS, quota)
    eventually(lambda: (place.cluster.read(QUOTAS, "few", place.namespace) or {}).get("status"))
    yield
    place.cluster.delete(QUOTAS, "few", place.namespace)


@pytest.fixture
def empty(cluster: ClusterClient, image: Import) -> Iterator[Place]:
    """An environment in a namespace without workloads, in which an administrator deploys."""
    with deployable_namespace(cluster, "empty") as namespace:
        place = Place.of(cluster, namespace, image)
        place.target = target_in(namespace, lambda: cluster)
        yield place


def service(namespace: str) -> dict[str, object]:
    metadata = {"name": "theirs", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}


@pytest.mark.parametrize("answers", [True, False], ids=["refuses", "does not answer"])
def test_foreign_webhook_refuses_trial_before_anything_is_applied(empty: Place, tmp_path: Path, answers: bool) -> None:
    """Its message says whom to ask; one that does not answer may do so at the next try."""
    cluster, namespace = empty.cluster, empty.namespace
    with refused(cluster, namespace, SERVICES, service(namespace), tmp_path, answers):
        with pytest.raises(
            (ClusterRefused, ClusterUnavailable), match=MESSAGE if answers else "policy.example.com"
        ) as raised:
            empty.deploy(ABSENT)

        assert raised.value.retryable is not answers
        assert cluster.list(CONFIG_MAPS, namespace, {"cscm.managed": "true"}) == ()


@pytest.mark.parametrize("late", [False, True], ids=["before", "in mid-rollout"])
def test_deployment_error_names_terminating_namespace(empty: Place, late: bool) -> None:
    """Something in it is kept by a finalizer, as by a controller that is gone."""
    cluster, namespace = empty.cluster, empty.namespace
    metadata = {"name": "held", "namespace": namespace}
    held = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata | {"finalizers": ["example.com/tests"]}}
    cluster.apply(CONFIG_MAPS, held)

    def terminate() -> None:
        cluster.delete(NAMESPACES, namespace)
        eventually(lambda: "deletionTimestamp" in (cluster.read(CONFIG_MAPS, "held", namespace) or {})["metadata"])

    if not late:
        terminate()
    with pytest.raises(ClusterRefused, match="because it is being terminated"):
        empty.deploy(ABSENT, may_serve=terminate if late else lambda: None)
    cluster.patch(CONFIG_MAPS, "held", {"metadata": {"finalizers": None}}, namespace)


@pytest.fixture(scope="module")
def place(cluster: ClusterClient, image: Import) -> Iterator[Place]:
    """An environment in which an application serves on one pod."""
    with deployable_namespace(cluster, "faults") as namespace:
        place = Place.of(cluster, namespace, image)
        place.deploy(image())
        yield place


@pytest.fixture(scope="module")
def api(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyApi]:
    """The API server behind a proxy."""
    with faulty_api(place.cluster, place.namespace, tmp_path_factory.mktemp("api")) as made:
        yield made


def retried(deploy: Callable[[], Deployment]) -> tuple[Deployment, list[SupplyChainError]]:
    """Deploy again after errors that say that it may succeed then, as the step does; return the errors too."""
    errors: list[SupplyChainError] = []
    while True:
        try:
            return deploy(), errors
        except SupplyChainError as error:
            if not error.retryable or len(errors) == RETRIES:
                raise
            errors.append(error)


TOO_MANY = replace(
    answer_status(429, "too many requests"), headers={"Content-Type": "application/json", "Retry-After": "1"}
)
LEADER = answer_status(500, "etcdserver: leader changed")
RESET, LOST, SLOW = Fault(""), Fault("", keep=0), Fault("", delay=4.0)


@pytest.mark.parametrize("fault", [TOO_MANY, LOST, SLOW], ids=["429", "answer lost", "slow"])
def test_write_that_fails_is_retried(
    place: Place, api: FaultyApi, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """Half of the objects were applied; they are restored, and what ran is never touched."""
    monkeypatch.setattr("supply_chain.adapters.kubernetes.client.TIMEOUT", 3.0)
    other = {"reached_from": (f"other-{uuid4().hex[:8]}",)}
    place.target = target_in(place.namespace, api.connect, **other)
    last, ended = place.recorded[-1], threading.Event()
    where = r"^PATCH .*/networkpolicies/hello\?(?!.*dryRun)"
    with api.proxy.broken(replace(fault, where=where, times=1, hits=[], ended=ended)):
        again, errors = retried(lambda: place.deploy(last.digest))
    assert ended.wait(PATIENCE), "a slow write that comes through later would change what the next test deploys"

    assert [type(each) for each in errors] == [ClusterUnavailable] and "hello" in errors[0].message
    assert again.container == last.container and place.settles(again)
    assert again.changed or fault is SLOW, "the slow write may have come through before the retry"


def test_rollout_survives_errors_of_api_server(place: Place, api: FaultyApi, image: Import) -> None:
    """Pods go on without it. It answers 429, 500 and nothing, and then the token in the file is another one."""
    unauthorized = answer_status(401, "Unauthorized")
    each_twice = [
        replace(each, where=r"^GET .*/deployments/hello", times=2, hits=[]) for each in (TOO_MANY, LEADER, RESET)
    ]
    faults = [*each_twice, replace(unauthorized, where=".", times=1, hits=[])]

    def wait(seconds: float) -> None:
        api.proxy.faults = faults
        time.sleep(seconds)

    place.target = replace(target_in(place.namespace, api.connect), wait=wait)
    with api.proxy.broken():
        deployment = place.deploy(image())

    assert [len(each.hits) for each in faults] == [2, 2, 2, 1] and place.settles(deployment)


def test_error_names_expired_token_and_next_run_completes(place: Place, api: FaultyApi, image: Import) -> None:
    """Nothing can be restored either; the pods serve all the time."""
    digest, last = image(), place.recorded[-1]
    ended = replace(answer_status(401, "Unauthorized"), where=".", hits=[])

    def wait(seconds: float) -> None:
        api.proxy.faults = [ended]

    place.target = replace(target_in(place.namespace, api.connect), wait=wait)
    with api.proxy.broken(), pytest.raises(ClusterRefused, match=r"(?s)rejected the credentials.*not restored"):
        place.deploy(digest)
    assert place.serving & {last.digest, digest}

    place.target = target_in(place.namespace, api.connect_directly)
    assert place.settles(place.deploy(digest))


@pytest.mark.parametrize("fails", [False, True], ids=["good image", "bad image"])
def test_overtaken_deployment_fails_and_later_one_decides(
    place: Place, api: FaultyApi, image: Import, fails: bool
) -> None:
    """Two pipelines deploy one application; the second one's image serves, or what ran before."""
    before, slow, second = place.recorded[-1], image("slow"), image(*["crash"] * fails)
    others_target = target_in(place.namespace, api.connect_directly)
    other = replace(place, target=others_target, recorded=[])
    ended: list[Deployment | DeploymentFailed] = []

    def wait(seconds: float) -> None:
        if not ended:
            try:
                ended.append(other.deploy(second))
            except DeploymentFailed as error:
                ended.append(error)
        time.sleep(seconds)

    place.target = replace(others_target, wait=wait)
    with pytest.raises(ClusterConflict, match="somebody else deployed"):
        place.deploy(slow)

    place.recorded += other.recorded
    assert isinstance(ended[0], DeploymentFailed) is fails
    assert place.settles(before if fails else place.recorded[-1])


@dataclass
class Dying:
    """A client of a cluster whose process is killed after so many writes."""

    cluster: ClusterClient
    writes: int

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*arguments: Any, **options: Any) -> object:
            if self.writes == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.writes -= name in ("apply", "delete", "take_over") and not options.get("dry_run")
            return getattr(self.cluster, name)(*arguments, **options)

        return call


def kill(place: Place, api: FaultyApi, writes: int, digest: Digest, **placement: object) -> None:
    """Deploy a digest in a process that is killed after so many writes, or once the image serves."""
    child = os.fork()
    if child == 0:
        try:
            place.target = target_in(
                place.namespace, lambda: cast(Cluster, Dying(api.connect_directly(), writes)), **placement
            )
            place.deploy(digest)
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def test_killed_deployment_keeps_serving_image_and_next_run_completes(
    place: Place, api: FaultyApi, image: Import
) -> None:
    """It is killed after each write in turn, and when the image serves but is not recorded."""
    before, digest = place.recorded[-1], image()
    settings = {"environment": {"GREETING": uuid4().hex}}
    for writes in range(1, 7):
        kill(place, api, writes, digest, **settings)
        assert place.serving == {before.digest}
    kill(place, api, 7, digest, **settings)
    assert place.serving & {before.digest, digest}

    place.target = target_in(place.namespace, api.connect_directly, **settings)
    completed = place.deploy(digest)
    assert completed.previous_digest == digest and place.settles(completed)

    unrecorded = image()
    kill(place, api, -1, unrecorded, **settings)
    assert place.serving == {unrecorded}
    confirmed = place.deploy(unrecorded)
    assert not confirmed.changed and place.settles(confirmed)


@pytest.mark.parametrize("writes", [7, 8], ids=["rolling", "restoring"])
def test_failed_deployment_after_killed_one_restores_serving_image(
    place: Place, api: FaultyApi, image: Import, writes: int
) -> None:
    """Both deploy an image that never gets ready, so the last Deployment is none that served."""
    place.target = target_in(place.namespace, api.connect_directly)
    before, bad = place.deploy(place.recorded[-1].digest), image("crash")
    kill(place, api, writes, bad)
    assert place.serving == {before.digest}

    with pytest.raises(DeploymentFailed, match="configuration missing"):
        place.deploy(bad)

    assert place.settles(before)
