"""A namespace that git delivers to: the contract of targets, with a branch, a controller and a cluster in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from types import SimpleNamespace

import pytest

from supply_chain.errors import (
    Cancelled,
    ClusterRefused,
    DeclarationInvalid,
    DeploymentFailed,
    GitRefused,
    GitUnavailable,
    SettingInvalid,
)
from supply_chain.execution.delivery.images import read_digests, set_digest
from supply_chain.execution.delivery.target import GitTarget
from supply_chain.execution.deployment import KubernetesPlace
from supply_chain.execution.environment import Delivery, GitDelivery, KubernetesEnvironment
from supply_chain.execution.kubernetes.cluster import DEPLOYMENTS
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.model.manifest import Classification
from tests.contract.target import Harness, TargetContract
from tests.support.memory_branch import MemoryBranch
from tests.support.memory_cluster import NOON, MemoryCluster, make_harness

BAD = "sha256:" + "b" * 64
IMAGE = "registry/curated/hello"
PATH = "staging/hello/kustomization.yaml"
START = f"images:\n- name: hello\n  newName: {IMAGE}\n".encode()
ENDED = {"state": {"waiting": {"reason": "CrashLoopBackOff"}},
         "lastState": {"terminated": {"reason": "Error", "message": "configuration missing"}}}  # fmt: skip
GIT = GitDelivery(
    repository="environments", path="staging/{application}/kustomization.yaml", kind="kustomize", timeout=30,
    flux={"namespace": "flux-system", "name": "shop"},
)  # fmt: skip
ENVIRONMENT = KubernetesEnvironment(
    name="staging", target="kubernetes", cluster="c", namespace="shop", delivery=Delivery(git=GIT),
    applications={"hello": {}},
)  # fmt: skip


@dataclass
class Controller:
    """Applies the Deployment with the digest of the file, if there is one and it is not suspended."""

    cluster: MemoryCluster
    branch: MemoryBranch
    suspended: bool = False
    time: float = 0
    on_wait: list[Callable[[], object]] = field(default_factory=list)

    def apply(self) -> None:
        (digest,) = read_digests(self.branch.files[PATH], "kustomize", IMAGE, PATH)
        if self.suspended:
            return
        if not digest:
            self.cluster.delete(DEPLOYMENTS, "hello", "shop")
            return
        labels = {"app": "web"}
        pod = {"containers": [{"name": "web", "image": f"{IMAGE}@{digest}"}]}
        spec = {"replicas": 2, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod}}  # fmt: skip
        metadata = {"name": "hello", "namespace": "shop", "labels": labels}
        document = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
        self.cluster.apply(DEPLOYMENTS, document)

    def report(self, reason: str, commit: str = "", message: str = "because", status: str = "False") -> None:
        """Report a failure of the newest commit, or another status."""
        ready = {"type": "Ready", "status": status, "reason": reason, "message": message}
        self.cluster.objects["Kustomization", "flux-system", "shop"] = {
            "metadata": {"name": "shop", "namespace": "flux-system"}, "spec": {},
            "status": {"conditions": [ready], "lastAttemptedRevision": f"main@sha1:{commit or self.branch.head}"},
        }  # fmt: skip

    def retry(self) -> None:
        """Report that the newest commit is applied, for the first time or again."""
        self.report("Progressing", status="Unknown")

    def wait(self, seconds: float) -> None:
        self.time += seconds
        if self.on_wait:
            self.on_wait.pop(0)()


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(broken={BAD: ENDED})


@pytest.fixture
def controller(cluster: MemoryCluster) -> Controller:
    branch = MemoryBranch({PATH: START})
    made = Controller(cluster, branch)
    branch.applied = made.apply
    return made


@pytest.fixture
def branch(controller: Controller) -> MemoryBranch:
    return controller.branch


@pytest.fixture
def harness(cluster: MemoryCluster, controller: Controller, make: SimpleNamespace) -> Harness:
    def now() -> datetime:
        return NOON

    kubernetes = KubernetesTarget(ENVIRONMENT, lambda: cluster, "registry", now, controller.wait)
    target = GitTarget(kubernetes, controller.branch, lambda: controller.time)
    return make_harness(target, cluster, make.manifest(), BAD)


def in_git(branch: MemoryBranch) -> str:
    (digest,) = read_digests(branch.files[PATH], "kustomize", IMAGE, PATH)
    return digest


class TestGitTarget(TargetContract):
    """The contract, except that nothing is replaced by force."""

    def test_target_replaces_what_runs_if_forced(self, harness: Harness) -> None:
        """The controller would undo it, and the repository says nothing of it."""
        first = harness.deploy(harness.good())

        with pytest.raises(SettingInvalid, match="without --force"):
            harness.deploy(first.digest, force=True)

        assert harness.settles(first)


def test_promotion_is_one_commit_that_says_what_and_why(harness, branch):
    """The record names the commit, so that both can be compared later."""
    first = harness.deploy(harness.good())

    assert branch.messages == [
        f"hello: deploy 000000000000 to staging\n\nImage: {IMAGE}@{first.digest}\nRun: {branch.messages[0][-33:]}"
    ]
    assert isinstance(first.place, KubernetesPlace) and first.place.documents == () and first.place.git
    assert first.place.git.model_dump() == {
        "repository": branch.address, "branch": "main", "path": PATH, "commit": branch.head
    }  # fmt: skip


def test_deployment_that_runs_makes_no_commit(harness, branch):
    """Also if the commit is of somebody else, whose digest was admitted since."""
    digest = harness.good()
    branch.commit(PATH, set_digest(START, "kustomize", IMAGE, digest, PATH))

    deployment = harness.deploy(digest)

    assert not deployment.changed and branch.messages == ["by hand"]


def test_earlier_image_is_deployed_by_restoring_its_digest(harness, branch):
    """A rollback gives the file its earlier content."""
    first = harness.deploy(harness.good())
    content = branch.files[PATH]
    harness.deploy(harness.good())

    again = harness.deploy(first.digest)

    assert branch.files[PATH] == content and harness.settles(again) and len(branch.messages) == 3


def test_failed_deployment_is_reverted_by_commit_that_names_it(harness, branch):
    """What ran before runs on, and git says so."""
    first = harness.deploy(harness.good())
    content = branch.files[PATH]

    with pytest.raises(DeploymentFailed, match="configuration missing") as raised:
        harness.deploy(BAD)

    assert branch.files[PATH] == content and in_git(branch) == first.digest
    assert branch.messages[-1].startswith('Revert "hello: deploy bbbbbbbbbbbb to staging"\n\nThis reverts commit ')
    assert "Its commit was reverted by" in str(raised.value)


def test_cancelled_deployment_is_reverted(harness, branch, controller):
    """Nobody would record it."""
    controller.suspended = True

    def cancel() -> None:
        raise Cancelled("cancelled\nno")

    controller.on_wait.append(cancel)

    with pytest.raises(Cancelled):
        harness.deploy(harness.good())

    assert branch.files[PATH] == START


def test_controller_that_does_nothing_fails_after_timeout(harness, branch, controller):
    """The reason is of Flux, as far as it says one."""
    controller.suspended = True
    controller.report("Fetching", commit="0" * 40)

    with pytest.raises(DeploymentFailed, match="Kustomization shop says Fetching: because"):
        harness.deploy(harness.good())

    assert 30 <= controller.time < 31 and branch.files[PATH] == START


def test_failure_of_controller_ends_deployment_before_timeout(harness, controller):
    """A broken kustomization does not get better."""
    controller.suspended = True
    controller.on_wait.append(lambda: controller.report("BuildFailed"))

    with pytest.raises(DeploymentFailed, match=r"hello in shop has not got it: .* says BuildFailed: because"):
        harness.deploy(harness.good())

    assert 20 <= controller.time < 22


def test_failure_whose_message_changes_ends_deployment_before_timeout(harness, controller):
    """Flux names the directory of each attempt."""
    controller.suspended = True
    numbers = count(1)
    controller.on_wait += [lambda: controller.report("BuildFailed", message=f"/tmp/{next(numbers)}")] * 200

    with pytest.raises(DeploymentFailed, match="says BuildFailed: /tmp/"):
        harness.deploy(harness.good())

    assert 20 <= controller.time < 22


def test_failure_that_is_retried_ends_deployment_before_timeout(harness, controller):
    """Flux fails again each time."""
    controller.suspended = True
    controller.on_wait += [lambda: controller.report("BuildFailed"), controller.retry] * 100

    with pytest.raises(DeploymentFailed, match="has not got it: the Kustomization shop says BuildFailed: because"):
        harness.deploy(harness.good())

    assert 20 <= controller.time < 22


def test_failure_that_is_retried_at_timeout_is_named(harness, controller):
    """The last attempt takes long."""
    controller.suspended = True
    controller.on_wait += [lambda: controller.report("BuildFailed"), controller.retry]

    with pytest.raises(DeploymentFailed, match="says BuildFailed: because"):
        harness.deploy(harness.good())

    assert controller.time >= 30


def test_first_attempt_that_takes_long_is_no_failure(harness, controller):
    """A failure after it counts from then on."""
    controller.suspended = True
    controller.report("Fetching", commit="0" * 40)

    def recover() -> None:
        controller.suspended = False
        controller.apply()

    failed = [lambda: controller.report("ReconciliationFailed"), *[lambda: None] * 16]
    controller.on_wait += [controller.retry, *[lambda: None] * 90, *failed, recover]

    assert harness.deploy(harness.good()).changed


def test_failure_that_passes_does_not_end_deployment(harness, controller):
    """A webhook that was not ready."""
    controller.suspended = True

    def recover() -> None:
        controller.suspended = False
        controller.apply()

    controller.on_wait += [lambda: controller.report("ReconciliationFailed"), *[lambda: None] * 60, recover]

    assert harness.deploy(harness.good()).changed


def test_unreadable_controller_is_no_failure_of_its_own(harness, controller, cluster):
    """Without the permission, only the reason is missing."""
    controller.suspended = True
    refused = {"read Kustomization": ClusterRefused("forbidden\nno")}
    cluster.failing |= refused
    controller.on_wait += [lambda: cluster.failing.update(refused)] * 200

    with pytest.raises(DeploymentFailed, match="cannot be read: forbidden"):
        harness.deploy(harness.good())

    assert controller.time >= 30


def test_digest_that_somebody_changes_meanwhile_is_not_reverted(harness, branch, controller):
    """Their commit is newer, and the error says that nothing was reverted."""
    controller.suspended = True
    other = set_digest(START, "kustomize", IMAGE, "sha256:" + "e" * 64, PATH)
    controller.on_wait.append(lambda: branch.commit(PATH, other))

    with pytest.raises(DeploymentFailed):
        harness.deploy(harness.good())

    assert branch.files[PATH] == other and branch.messages[-1] == "by hand"


def test_revert_keeps_what_somebody_changed_beside_the_digest(harness, branch, controller):
    """Only the digest goes back."""
    first = harness.deploy(harness.good())
    controller.suspended = True
    controller.on_wait.append(lambda: branch.commit(PATH, branch.files[PATH] + b"namePrefix: x\n"))

    with pytest.raises(DeploymentFailed, match="was reverted by"):
        harness.deploy(harness.good())

    assert in_git(branch) == first.digest and branch.files[PATH].endswith(b"namePrefix: x\n")


def test_revert_that_is_refused_is_in_the_error(harness, branch, controller):
    """Somebody has to do it by hand."""
    controller.suspended = True
    controller.on_wait.append(lambda: branch.failing.update(change=GitRefused("protected\nno")))

    with pytest.raises(DeploymentFailed, match=r"Its commit [0-9a-f]+ was not reverted: protected"):
        harness.deploy(harness.good())


@pytest.mark.parametrize("error", [GitUnavailable("down\nno"), GitRefused("protected\nno")])
def test_refused_commit_changes_nothing(harness, branch, error):
    """What ran before runs on."""
    first = harness.deploy(harness.good())
    branch.failing["change"] = error

    with pytest.raises(type(error)):
        harness.deploy(harness.good())

    assert harness.settles(first)


def test_file_that_names_another_image_is_refused_before_a_commit(harness, branch):
    """The chain does not choose what an organisation runs."""
    branch.files[PATH] = START.replace(b"curated", b"other")

    with pytest.raises(DeclarationInvalid, match=f"does not name the image {IMAGE}"):
        harness.deploy(harness.good())

    assert branch.messages == []


def test_confidential_image_is_refused(harness, branch):
    """The nodes pull images in plain."""
    harness.manifest = harness.manifest.model_copy(update={"classification": Classification.CONFIDENTIAL})

    with pytest.raises(SettingInvalid, match="confidential"):
        harness.deploy(harness.good())

    assert branch.messages == []


def test_commit_of_somebody_is_drift_of_git(harness, branch, controller):
    """All three are named: here the cluster has not followed yet."""
    first = harness.deploy(harness.good())
    controller.suspended = True
    branch.commit(PATH, set_digest(branch.files[PATH], "kustomize", IMAGE, BAD, PATH))

    (observation,) = harness.target.monitor([first.expected])

    (deviation,) = observation.deviations
    assert deviation.code == "drift.git"
    assert deviation.fact.startswith(
        "git has bbbbbbbbbbbb, the record 000000000000, and the cluster runs 000000000000 "
    )  # fmt: skip


def test_commit_of_somebody_that_cluster_follows_is_drift_of_both(harness, branch):
    first = harness.deploy(harness.good())
    other = "sha256:" + "e" * 64
    branch.commit(PATH, set_digest(branch.files[PATH], "kustomize", IMAGE, other, PATH))

    (_, codes), *_ = harness.codes(first)
    observation, *_ = harness.target.observe([first.expected])

    assert set(codes) == {"drift.digest", "drift.git"}
    assert "git has eeeeeeeeeeee, the record 000000000000, and the cluster runs eeeeeeeeeeee" in (
        observation.deviations[-1].fact
    )  # fmt: skip


def test_cluster_that_differs_from_git_and_record_is_undelivered(harness, cluster, controller):
    """Somebody changed the cluster, and the controller does not correct it; its reason is there."""
    first = harness.deploy(harness.good())
    controller.report("ReconciliationFailed")
    template = cluster.objects["Deployment", "shop", "hello"]["spec"]["template"]
    image = f"{IMAGE}@sha256:{'e' * 64}"
    cluster.apply(DEPLOYMENTS, {
        **cluster.objects["Deployment", "shop", "hello"],
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
                 "template": {**template, "spec": {"containers": [{"name": "web", "image": image}]}}},
    })  # fmt: skip

    (_, codes), *_ = harness.codes(first)
    observation, *_ = harness.target.observe([first.expected])

    assert set(codes) == {"drift.digest", "drift.undelivered"}
    assert "says ReconciliationFailed: because" in observation.deviations[-1].fact


def test_file_that_is_gone_is_drift_of_git(harness, branch):
    """The cluster may run on without it."""
    first = harness.deploy(harness.good())
    branch.files.clear()

    assert harness.codes(first) == [("hello", ["drift.git"])]


def test_repository_that_does_not_answer_is_no_drift(harness, branch):
    """Nothing is known then."""
    first = harness.deploy(harness.good())
    branch.failing["read"] = GitUnavailable("down\nno")

    with pytest.raises(GitUnavailable):
        harness.target.monitor([first.expected])


def test_change_in_cluster_is_judged_with_git(harness, branch, controller):
    """So that a page of what a watch saw has what the look before had."""
    first = harness.deploy(harness.good())
    controller.suspended = True
    branch.commit(PATH, set_digest(branch.files[PATH], "kustomize", IMAGE, BAD, PATH))
    with harness.target.watch() as watch:
        changed = watch.wait(30)

        (observation,) = harness.target.judge_changes([first.expected], changed, watch.state)

    assert [each.code for each in observation.deviations] == ["drift.git"]


@pytest.mark.parametrize(
    "volume",
    [
        {"name": "kube-api-access-x7k2p", "hostPath": {"path": "/"}},
        {"name": "kube-api-access-x7k2p", "projected": {"sources": [{"secret": {"name": "key"}}]}},
        {"name": "other", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
    ],
    ids=str,
)
def test_volume_other_than_token_of_cluster_is_drift(harness, cluster, volume):
    """Its name alone, or its content alone, makes it none."""
    deployment = harness.deploy(harness.good())
    pod = next(each for key, each in cluster.objects.items() if key[0] == "Pod")
    pod["spec"]["volumes"] = [volume]
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": volume["name"], "mountPath": "/x"}]

    ((_, codes),) = harness.codes(deployment)

    assert codes == ["drift.pod"]
