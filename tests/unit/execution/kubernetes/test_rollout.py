"""Rollouts that are killed, overtaken by others, or cut off from the cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from supply_chain.errors import ClusterConflict, ClusterRefused, ClusterUnavailable, DeploymentFailed
from supply_chain.execution.environment import KubernetesPlacement
from supply_chain.execution.kubernetes.cluster import CONFIG_MAPS, DEPLOYMENTS
from supply_chain.execution.kubernetes.rendering import Workload, render
from supply_chain.execution.kubernetes.rollout import Rollout
from supply_chain.model.image import ImageRef
from tests.support.memory_cluster import make_harness

BAD, SLOW, OTHER = ("sha256:" + character * 64 for character in "bce")
STARTING = {"state": {"waiting": {"reason": "ContainerCreating"}}}
OUTAGE = "the cluster is down\nwait"
WRITES = 8
"""Of a deployment with other settings: 7 objects, and then the record."""


class Killed(BaseException):
    """The process was killed: nothing of it runs any more."""


@dataclass
class Dying:
    """A cluster whose client is killed after so many writes."""

    cluster: object
    writes: int

    def __getattr__(self, name):
        def call(kind, *arguments, **options):
            write = name in ("apply", "delete", "take_over") and not options.get("dry_run")
            if self.writes <= 0:
                raise Killed
            self.writes -= write
            return getattr(self.cluster, name)(kind, *arguments, **options)

        return call


def changed(target):
    """Return the target with other settings, so that a deployment makes objects."""
    placement = KubernetesPlacement(replicas=2, environment={"GREETING": "ho"})
    return replace(target, environment=target.environment.model_copy(update={"applications": {"hello": placement}}))


def kill(harness, cluster, writes, digest):
    """Deploy a digest until the process is killed after so many writes."""
    alive = harness.target
    harness.target = replace(alive, connect=lambda: Dying(cluster, writes))
    with pytest.raises(Killed):
        harness.deploy(digest)
    harness.target = alive


@pytest.mark.parametrize("writes", range(1, WRITES))
def test_next_run_completes_run_killed_at_any_write(harness, cluster, writes):
    """Nothing of the killed run is in the way."""
    first = harness.deploy(harness.good())
    harness.target = changed(harness.target)
    second = harness.good()

    kill(harness, cluster, writes, second)

    assert harness.running() == ({first.digest} if writes < 7 else {second})
    again = harness.deploy(second)
    assert harness.running() == {second} and harness.codes(again) == [("hello", [])]


@pytest.mark.parametrize("writes", range(1, WRITES + 2))
@pytest.mark.parametrize("failing", [BAD, OTHER])
def test_failed_run_after_killed_one_restores_serving_image(harness, cluster, writes, failing):
    """Of the killed run, pods never got ready; two writes more are of its own restoring."""
    cluster.broken[OTHER] = cluster.broken[BAD]
    first = harness.deploy(harness.good())
    kill(harness, cluster, writes, BAD)

    with pytest.raises(DeploymentFailed, match="was restored"):
        harness.deploy(failing)

    assert harness.running() == {first.digest} and harness.codes(first) == [("hello", [])]


def test_refused_run_after_killed_one_restores_serving_image(harness, cluster):
    """The Deployment of the killed run is not one of somebody else."""
    first = harness.deploy(harness.good())
    kill(harness, cluster, 7, BAD)
    cluster.failing["apply Service"] = ClusterRefused("refused now\nno")

    with pytest.raises(ClusterRefused, match=r"(?s)refused now.*Service hello was not restored"):
        harness.deploy(harness.good())

    assert harness.running() == {first.digest}


READY = [{"type": "Ready", "status": "True"}]


@pytest.mark.parametrize(
    ("change", "restored"),
    [({}, 1), ({"deletionTimestamp": "now"}, 0), ({"conditions": []}, 0)],
    ids=["ready", "ending", "not ready"],
)
def test_last_revision_with_ready_pods_counts_as_serving(harness, cluster, change, restored):
    """Two runs were killed: of the first deployment, a pod is ready, and of the second one perhaps."""
    deployed = [harness.deploy(harness.good())]
    (key,) = (key for key in cluster.objects if key[0] == "ReplicaSet")
    deployed.append(harness.deploy(harness.good()))
    cluster.objects[key] = cluster.objects.pop(key)  # the cluster lists them in no order
    for pod in list(cluster.objects.values()):
        if pod["metadata"]["name"].startswith("hello-") and "conditions" in pod.get("status", {}):
            pod["metadata"] |= {each: change[each] for each in change if each == "deletionTimestamp"}
            pod["status"] |= {each: change[each] for each in change if each == "conditions"}
    selector = {f"cscm.{name}": value for name, value in
                {"application": "hello", "environment": "staging", "role": "application"}.items()}  # fmt: skip
    late = cluster.add_pod("late", "shop", f"registry/x@{deployed[0].digest}", deployed[0].container, **selector)
    late["status"]["conditions"] = READY
    kill(harness, cluster, 7, BAD)

    with pytest.raises(DeploymentFailed):
        harness.deploy(BAD)

    assert harness.running() == {deployed[restored].digest}


def test_killed_first_deployment_is_not_removed(harness, cluster):
    """Nothing served, so nobody knows whether somebody needs it."""
    kill(harness, cluster, 7, BAD)

    with pytest.raises(DeploymentFailed):
        harness.deploy(BAD)

    assert cluster.read(DEPLOYMENTS, "hello", "shop")


class Unrecorded(list[object]):
    """Where nothing is recorded, because the process is killed."""

    def append(self, _):
        raise Killed


def test_deployment_that_serves_without_a_record_is_not_rolled_again(harness):
    """The process was killed in between."""
    harness.deploy(harness.good())
    second, recorded = harness.good(), harness.recorded
    harness.recorded = Unrecorded()
    with pytest.raises(Killed):
        harness.deploy(second)
    harness.recorded = recorded

    again = harness.deploy(second)

    assert not again.changed and recorded[-1] == again


@pytest.fixture
def other(harness, cluster, make):
    """Another deployer of the application."""
    target = replace(harness.target, wait=lambda _: None)
    return make_harness(target, cluster, make.declaration(), BAD)


def test_overtaken_deployment_fails_and_restores_nothing(harness, cluster, other):
    """The other one's image serves, and is recorded by it."""
    cluster.broken[SLOW] = STARTING
    harness.deploy(harness.good())
    others = []
    harness.target = replace(harness.target, wait=lambda _: others.append(other.deploy(OTHER)))

    with pytest.raises(ClusterConflict) as raised:
        harness.deploy(SLOW)

    assert "somebody else deployed eeeeeeeeeeee meanwhile" in str(raised.value)
    assert "Nothing was restored" in str(raised.value)
    assert other.running() == {OTHER} and other.codes(*others) == [("hello", [])]


def test_failed_deployment_restores_nothing_over_newer_one(harness, cluster, other):
    """What it would restore is older."""
    cluster.broken[SLOW] = STARTING
    harness.deploy(harness.good())

    def give_up(_):
        other.deploy(OTHER)
        raise DeploymentFailed("somebody cancelled it\ndeploy again")

    harness.target = replace(harness.target, wait=give_up)
    with pytest.raises(DeploymentFailed, match=r"(?s)cancelled it.*Nothing was restored, because somebody else"):
        harness.deploy(SLOW)

    assert other.running() == {OTHER}


def test_outage_is_retried_even_if_nothing_could_be_restored(harness, cluster, monkeypatch):
    """It is no failure of the image. The next try has what served."""
    first = harness.deploy(harness.good())
    monkeypatch.setattr("supply_chain.execution.kubernetes.rollout.GRACE", -1.0)
    cluster.failing["apply Deployment"] = ClusterUnavailable(OUTAGE)

    with pytest.raises(ClusterUnavailable, match=r"(?s)is down.*Deployment hello was not restored") as raised:
        harness.deploy(harness.good())

    assert raised.value.retryable and harness.running() == {first.digest}


@dataclass
class Time:
    now: float = 0.0

    def pass_by(self, seconds):
        self.now += seconds


@pytest.fixture
def rollout(harness, cluster):
    time = Time()
    workload = Workload(harness.declaration, ImageRef(repository="curated/hello", digest=SLOW),
                        harness.target.environment, "registry")  # fmt: skip
    cluster.broken[SLOW] = STARTING
    for kind, document in render(workload):
        cluster.apply(kind, document)
    return Rollout(cluster, workload, time.pass_by, lambda: time.now)


def test_unreachable_cluster_is_an_outage_and_no_failed_deployment(rollout, cluster, monkeypatch):
    """Nobody knows whether the image runs; the step is retried."""

    def read(*_):
        raise ClusterUnavailable(OUTAGE)

    monkeypatch.setattr(cluster, "read", read)

    with pytest.raises(ClusterUnavailable, match="is down"):
        rollout.wait_until_complete()

    assert rollout.clock() > rollout.workload.deadline + 30


def test_rollout_that_makes_no_progress_ends_with_its_state(rollout):
    """Not every cluster reports it."""
    with pytest.raises(DeploymentFailed, match="1 of 2 pods are new"):
        rollout.wait_until_complete()

    assert rollout.workload.deadline + 30 < rollout.clock() < rollout.workload.deadline + 31


@pytest.mark.parametrize(
    ("node", "reported", "metadata", "why"),
    [
        ("n1", False, {}, r"hello-\w+-00000 was placed on the node n1, which does not start it\."),
        ("n1", True, {}, "it has timed out progressing"),
        ("n1", False, {"deletionTimestamp": "now"}, "it has timed out progressing"),
        ("", False, {}, "it has timed out progressing"),
    ],
    ids=["silent node", "starting", "evicted", "no node"],
)
def test_rollout_past_its_deadline_names_node_that_starts_nothing(rollout, cluster, node, reported, metadata, why):
    """The application is not the reason. A kubelet that knows a pod reports its containers."""
    (pod,) = (each for key, each in cluster.objects.items() if key[0] == "Pod")
    pod["spec"]["nodeName"] = node
    pod["metadata"] |= metadata
    if not reported:
        del pod["status"]["containerStatuses"]
    condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                 "message": "it has timed out progressing"}  # fmt: skip
    cluster.objects["Deployment", "shop", "hello"]["status"]["conditions"] = [condition]

    with pytest.raises(DeploymentFailed, match=why) as raised:
        rollout.wait_until_complete()

    assert "Correct the application, or what the message names" in str(raised.value)


@pytest.mark.parametrize(
    ("of", "why"), [("Deployment", "1 of 2 pods are new"), ("ReplicaSet", "no pod can be created: x")]
)
def test_only_refused_pods_of_the_new_revision_fail_a_rollout(rollout, cluster, of, why):
    """A Deployment also names what earlier ReplicaSets cannot create: pods of an image that was blocked since."""
    refused = {"type": "ReplicaFailure", "status": "True", "message": "x"}
    (found,) = (each for key, each in cluster.objects.items() if key[0] == of)
    found["status"] = {**found.get("status", {}), "conditions": [refused]}

    with pytest.raises(DeploymentFailed, match=why):
        rollout.wait_until_complete()


def test_forced_or_updated_deployment_is_not_rolled_again(harness, cluster):
    """What marks a run on its pods is not a change."""
    first = harness.deploy(harness.good())
    forced = harness.deploy(first.digest, force=True)

    again = harness.deploy(first.digest)

    assert not again.changed and again.container == forced.container
    assert len(cluster.list(CONFIG_MAPS)) == 1
