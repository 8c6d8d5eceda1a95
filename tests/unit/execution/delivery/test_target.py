"""A namespace that git delivers to: the contract of targets, with a branch, a controller and a cluster in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from types import SimpleNamespace
from typing import cast

import pytest
import yaml

from supply_chain.errors import (
    Cancelled,
    ClusterRefused,
    DeclarationInvalid,
    DeploymentFailed,
    GitRefused,
    GitUnavailable,
    ManifestsRefused,
    SettingInvalid,
)
from supply_chain.execution.delivery.images import read_digests, set_digest
from supply_chain.execution.delivery.repository import Branch, FetchedBranches
from supply_chain.execution.delivery.settings import Delivery, GitDelivery
from supply_chain.execution.delivery.target import GitTarget
from supply_chain.execution.deployment import DockerPlace, Expected, KubernetesPlace
from supply_chain.execution.environment import KubernetesEnvironment
from supply_chain.execution.kubernetes.cluster import DEPLOYMENTS
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.model.declaration import Classification
from supply_chain.model.image import ImageRef
from tests.contract.target import Harness, TargetContract, raising
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


CONTAINER = {
    "name": "web",
    "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}},
    "securityContext": {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    },
    "terminationMessagePath": "/dev/termination-log",
}  # fmt: skip
POD = {
    "automountServiceAccountToken": False,
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "securityContext": {
        "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"},
    },
}  # fmt: skip
"""What the declaration permits, with what an API server adds."""


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
        pod = {**POD, "containers": [{**CONTAINER, "image": f"{IMAGE}@{digest}"}]}
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

    def find_recorded(application: str) -> Expected | None:
        assert application == "hello"
        return made.recorded[-1].expected if made.recorded else None

    target = GitTarget(kubernetes, controller.branch, find_recorded, lambda: controller.time)
    made = make_harness(target, cluster, make.declaration(), BAD)
    return made


def in_git(branch: MemoryBranch) -> str:
    (digest,) = read_digests(branch.files[PATH], "kustomize", IMAGE, PATH)
    return digest


class TestGitTarget(TargetContract):
    """The contract, except that nothing is replaced by force."""

    def test_forced_deployment_is_repeated_or_refused(self, harness: Harness) -> None:
        """The controller would undo it, and the repository says nothing of it."""
        first = harness.deploy(harness.good())

        with pytest.raises(SettingInvalid, match="without --force"):
            harness.deploy(first.digest, force=True)

        assert harness.settles(first)


def test_promotion_is_one_commit_with_image_and_run(harness, branch):
    """The record names the commit, so that both can be compared later."""
    first = harness.deploy(harness.good())

    assert branch.messages == [
        f"hello: deploy 000000000000 to staging\n\nImage: {IMAGE}@{first.digest}\nRun: {branch.messages[0][-33:]}"
    ]
    assert isinstance(first.place, KubernetesPlace) and first.place.documents == () and first.place.git
    assert first.place.git.model_dump() == {
        "repository": branch.address, "branch": "main", "path": PATH, "commit": branch.head,
        "runtime": harness.declaration.runtime.model_dump(),
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


def test_reason_is_of_argo_cd_if_the_environment_names_it(harness, controller, cluster):
    """Or of neither, if it names none."""
    controller.suspended = True
    condition = {"type": "InvalidSpecError", "message": "not permitted in project"}
    cluster.objects["Application", "argocd", "shop"] = {
        "metadata": {"name": "shop"}, "spec": {}, "status": {"conditions": [condition]}
    }  # fmt: skip
    for named, reason in (({"argo": {"namespace": "argocd", "name": "shop"}}, "says InvalidSpecError: not permitted"),
                          ({}, "look at the controller that applies the repository")):  # fmt: skip
        git = GitDelivery(**{**GIT.model_dump(), "flux": None, **named})
        environment = ENVIRONMENT.model_copy(update={"delivery": Delivery(git=git)})
        target = replace(harness.target, kubernetes=replace(harness.target.kubernetes, environment=environment))
        with pytest.raises(DeploymentFailed, match=f"has not got it: .*{reason}"):
            replace(harness, target=target).deploy(harness.good())


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


def test_temporary_failure_of_controller_does_not_end_deployment(harness, controller):
    """A webhook that was not ready."""
    controller.suspended = True

    def recover() -> None:
        controller.suspended = False
        controller.apply()

    controller.on_wait += [lambda: controller.report("ReconciliationFailed"), *[lambda: None] * 60, recover]

    assert harness.deploy(harness.good()).changed


def test_unreadable_controller_does_not_fail_deployment_at_once(harness, controller, cluster):
    """Without the permission, only the reason is missing."""
    controller.suspended = True
    refused = {"read Kustomization": ClusterRefused("forbidden\nno")}
    cluster.failing |= refused
    controller.on_wait += [lambda: cluster.failing.update(refused)] * 200

    with pytest.raises(DeploymentFailed, match="cannot be read: forbidden"):
        harness.deploy(harness.good())

    assert controller.time >= 30


def test_digest_changed_by_later_commit_is_not_reverted(harness, branch, controller):
    """Their commit is newer, and the error says that nothing was reverted."""
    controller.suspended = True
    other = set_digest(START, "kustomize", IMAGE, "sha256:" + "e" * 64, PATH)
    controller.on_wait.append(lambda: branch.commit(PATH, other))

    with pytest.raises(DeploymentFailed):
        harness.deploy(harness.good())

    assert branch.files[PATH] == other and branch.messages[-1] == "by hand"


def test_revert_keeps_other_changes_of_file(harness, branch, controller):
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


MANIFEST = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hello"},
    "spec": {"template": {"spec": {**POD, "containers": [{**CONTAINER, "image": IMAGE}]}}},
}  # fmt: skip


def bring_manifest(harness: Harness, *documents: object) -> Harness:
    """Return the harness with an environment whose file has these documents."""
    target = harness.target
    assert isinstance(target, GitTarget) and isinstance(target.branch, MemoryBranch)
    target.branch.files[PATH] = yaml.safe_dump_all(documents).encode()
    delivery = Delivery(git=GIT.model_copy(update={"kind": "manifest"}))
    environment = ENVIRONMENT.model_copy(update={"delivery": delivery})
    return replace(harness, target=replace(target, kubernetes=replace(target.kubernetes, environment=environment)))


@pytest.mark.parametrize(
    ("change", "violation"),
    [
        ({"hostNetwork": True}, "hostNetwork is not allowed"),
        ({"automountServiceAccountToken": None}, "automountServiceAccountToken has to be false"),
        ({"containers": [{**CONTAINER, "image": IMAGE}, "web"]}, "a value does not have the form"),
    ],
)
def test_manifest_that_permits_more_than_declared_is_not_committed(harness, branch, change, violation):
    """Whoever writes to the repository decides nothing that the application's source declares."""
    document = yaml.safe_load(yaml.safe_dump(MANIFEST))
    document["spec"]["template"]["spec"] |= change

    with pytest.raises(ManifestsRefused, match=f"(?s){PATH} lets hello do more.*{violation}.*Nothing was committed"):
        bring_manifest(harness, document).deploy(harness.good())

    assert branch.messages == []


def test_manifest_within_declaration_is_committed(harness, branch, controller):
    """Its service account in the same file needs no token, and what is no object is not judged."""
    document = yaml.safe_load(yaml.safe_dump(MANIFEST))
    del document["spec"]["template"]["spec"]["automountServiceAccountToken"]
    account = {"kind": "ServiceAccount", "metadata": {"name": "default"}, "automountServiceAccountToken": False}
    branch.applied, controller.suspended = (lambda: None), True

    with pytest.raises(DeploymentFailed, match="has not got it"):
        bring_manifest(harness, document, account, [1]).deploy(harness.good())

    assert branch.messages[0].startswith("hello: deploy 000000000000 to staging")


def test_delivered_pods_that_may_do_more_than_declared_are_drift(harness, cluster):
    """A kustomization is rendered by others, so that what it delivers is judged."""
    first = harness.deploy(harness.good())
    pod = cluster.objects["Deployment", "shop", "hello"]["spec"]["template"]["spec"]
    pod["containers"][0]["securityContext"]["capabilities"]["add"] = ["SYS_ADMIN"]

    (_, codes), *_ = harness.codes(first)
    (observation,) = harness.target.monitor([first.expected])

    assert "drift.undeclared" in codes
    (undeclared,) = [each for each in observation.deviations if each.code == "drift.undeclared"]
    assert undeclared.fact == (
        "git delivers hello with more than it declares: web: the capabilities SYS_ADMIN are not declared"
    )


def test_record_without_runtime_declaration_is_not_compared(harness, cluster):
    """An earlier version signed it."""
    first = harness.deploy(harness.good())
    assert isinstance(first.place, KubernetesPlace) and first.place.git
    git = first.place.git.model_copy(update={"runtime": None})
    expected = first.expected.model_copy(update={"place": first.place.model_copy(update={"git": git})})
    pod = cluster.objects["Deployment", "shop", "hello"]["spec"]["template"]["spec"]
    pod["containers"][0]["securityContext"]["capabilities"]["add"] = ["SYS_ADMIN"]

    (observation,) = harness.target.monitor([expected])

    assert "drift.undeclared" not in [each.code for each in observation.deviations]


def test_confidential_image_is_refused(harness, branch):
    """The nodes pull images in plain."""
    harness.declaration = harness.declaration.model_copy(update={"classification": Classification.CONFIDENTIAL})

    with pytest.raises(SettingInvalid, match="confidential"):
        harness.deploy(harness.good())

    assert branch.messages == []


class Killed(BaseException):
    """The end of a process."""


@dataclass
class Dying:
    """A branch as a process sees it that is killed after so many commits, or before the next one if it is n + ½.

    Nothing that it calls then happens.
    """

    branch: MemoryBranch
    commits: float

    def __getattr__(self, name: str) -> object:
        value = getattr(self.branch, name)
        return (lambda *words: self._call(value, name, words)) if callable(value) else value

    def _call(self, function: Callable[..., object], name: str, words: tuple[object, ...]) -> object:
        if self.commits <= 0 or (name == "change" and self.commits < 1):
            self.commits = 0
            raise Killed
        result = function(*words)
        self.commits -= name == "change"
        if self.commits == 0:
            raise Killed
        return result


def kill(harness: Harness, digest: str, commits: float = 1) -> None:
    """Deploy an image in a process that is killed after so many commits."""
    target = harness.target
    assert isinstance(target, GitTarget) and isinstance(target.branch, MemoryBranch)
    harness.target = replace(target, branch=cast(Branch, Dying(target.branch, commits)))
    with pytest.raises(Killed):
        harness.deploy(digest)
    harness.target = target


def undo(harness: Harness, digest: str) -> None:
    """Run what follows a refusal of the gate."""
    harness.target.undo_unrecorded(ImageRef(repository="curated/hello", digest=digest))


@pytest.mark.parametrize("applied", [True, False])
def test_killed_promotion_is_completed_by_next_run(harness, branch, controller, applied):
    """It makes no second commit, whether the cluster runs the image already or not, and records it."""
    first, digest = harness.deploy(harness.good()), harness.good()
    controller.suspended = not applied
    kill(harness, digest)
    controller.suspended = False
    controller.on_wait.append(controller.apply)

    second = harness.deploy(digest)

    assert harness.recorded == [first, second] and second.digest == digest and second.changed is not applied
    assert len(branch.messages) == 2 and harness.settles(second)


def test_serving_promotion_without_record_is_recorded_by_next_run(harness, branch):
    """Its run was killed when everything else was done."""
    digest = harness.deploy(harness.good()).digest
    harness.recorded.clear()

    again = harness.deploy(digest)

    assert harness.recorded == [again] and not again.changed and len(branch.messages) == 1


def test_killed_promotion_of_bad_image_is_reverted_by_next_run(harness, branch):
    """As if it had not been killed: what is recorded is in git again."""
    first = harness.deploy(harness.good())
    content = branch.files[PATH]
    kill(harness, BAD)
    killed = branch.head

    with pytest.raises(DeploymentFailed, match=r"(?s)configuration missing.*Its commit was reverted by"):
        harness.deploy(BAD)

    assert branch.files[PATH] == content and harness.settles(first) and len(branch.messages) == 3
    assert branch.messages[-1].startswith('Revert "hello: deploy bbbbbbbbbbbb to staging"')
    assert f"\nThis reverts commit {killed}.\n" in branch.messages[-1]


def test_first_promotion_that_was_killed_is_reverted_to_no_digest(harness, branch):
    """Nothing is recorded, and nothing was there before."""
    kill(harness, BAD)

    with pytest.raises(DeploymentFailed):
        harness.deploy(BAD)

    assert branch.files[PATH] == START


@pytest.mark.parametrize(("commits", "left"), [(0, False), (1, True), (1.5, True), (2, False)])
def test_run_killed_around_a_commit_is_reverted_by_next_run(harness, branch, commits, left):
    """Before the commit, after it, before its revert, and after that."""
    first = harness.deploy(harness.good())
    content = branch.files[PATH]
    kill(harness, BAD, commits)
    assert in_git(branch) == (BAD if left else first.digest)

    with pytest.raises(DeploymentFailed, match="reverted by"):
        harness.deploy(BAD)

    assert branch.files[PATH] == content and harness.settles(first)


def test_refused_promotion_of_killed_run_is_reverted_before_it_serves(harness, branch, controller):
    """It was admitted when it was committed."""
    first, digest = harness.deploy(harness.good()), harness.good()
    controller.suspended = True
    kill(harness, digest)

    with pytest.raises(DeploymentFailed, match=r"(?s)blocked.*Its commit was reverted by"):
        harness.deploy(digest, may_serve=raising(DeploymentFailed("it is blocked\nno")))

    assert in_git(branch) == first.digest


def test_refused_serving_promotion_of_killed_run_is_reverted(harness, branch, cluster):
    """That it serves makes it no deployment."""
    first, digest = harness.deploy(harness.good()), harness.good()
    kill(harness, digest)
    pod = next(each for key, each in cluster.objects.items() if key[0] == "Pod")
    pod["spec"]["volumes"] = [{"name": "other", "hostPath": {"path": "/"}}]

    with pytest.raises(DeploymentFailed, match=r"(?s)blocked.*Its commit was reverted by"):
        harness.deploy(digest, may_serve=raising(DeploymentFailed("it is blocked\nno")))

    assert in_git(branch) == first.digest


def test_refused_image_is_taken_out_of_git_unless_it_is_recorded(harness, branch):
    """The gate refuses it before the next run deploys; what is recorded is not the business of that run."""
    first, digest = harness.deploy(harness.good()), harness.good()
    kill(harness, digest)

    undo(harness, first.digest)
    assert in_git(branch) == digest
    undo(harness, digest)

    assert in_git(branch) == first.digest and harness.settles(first)
    assert branch.messages[-1].endswith("\nThe deploy gate refuses the image now.\n")
    undo(harness, first.digest)
    assert in_git(branch) == first.digest and len(branch.messages) == 3


def test_digest_committed_by_person_is_never_reverted(harness, branch, controller):
    """Neither if the gate refuses it, nor if it does not come to run: a person wanted it."""
    first, digest = harness.deploy(harness.good()), harness.good()
    controller.suspended = True
    branch.commit(PATH, set_digest(branch.files[PATH], "kustomize", IMAGE, digest, PATH))

    undo(harness, digest)
    with pytest.raises(DeploymentFailed) as raised:  # somebody commits another file meanwhile
        harness.deploy(digest, may_serve=lambda: branch.commit("README", b"x"))

    assert in_git(branch) == digest and len(branch.messages) == 3 and "reverted" not in str(raised.value)
    assert harness.running() == {first.digest}


@pytest.mark.parametrize("serves", [True, False])
def test_failure_after_killed_promotion_restores_serving_image(harness, branch, controller, serves):
    """That is the other image if the cluster runs it, and what is recorded otherwise."""
    first, other, last = harness.deploy(harness.good()), harness.good(), harness.good()
    controller.suspended = not serves
    kill(harness, other)
    controller.suspended = True

    with pytest.raises(DeploymentFailed, match="reverted by"):
        harness.deploy(last)

    assert in_git(branch) == (other if serves else first.digest)
    assert branch.messages[-1].count("This reverts commit ") == (1 if serves else 2)


def test_gate_that_refuses_another_image_reverts_killed_promotion(harness, branch, controller):
    """The subject names what is taken out, which is not what was asked for."""
    first, other = harness.deploy(harness.good()), harness.good()
    controller.suspended = True
    kill(harness, other)

    with pytest.raises(DeploymentFailed, match="blocked"):
        harness.deploy(BAD, may_serve=raising(DeploymentFailed("it is blocked\nno")))

    assert in_git(branch) == first.digest
    assert branch.messages[-1].startswith(f'Revert "hello: deploy {other[7:19]} to staging"')


def test_record_of_another_place_reverts_nothing_in_git(harness, branch):
    """The environment was elsewhere since the promotions in this file, of which any may have been recorded."""
    first = harness.deploy(harness.good())
    assert isinstance(first.place, KubernetesPlace) and first.place.git
    docker = DockerPlace(reverse_proxy="p", proxy=first.digest, address="127.0.0.1", port=8080)
    git = first.place.git
    others = [git.model_copy(update={key: "other"}) for key in ("repository", "branch", "path")]
    places = [docker, *(first.place.model_copy(update={"git": each}) for each in (None, *others))]
    for place in places:
        harness.recorded[:] = [first.model_copy(update={"place": place})]
        kill(harness, BAD)

        with pytest.raises(DeploymentFailed) as raised:
            harness.deploy(BAD)

        assert in_git(branch) == BAD and "reverted" not in str(raised.value)
        branch.commit(PATH, START)
    harness.recorded[:] = [first]
    kill(harness, BAD)
    with pytest.raises(DeploymentFailed, match="reverted by"):
        harness.deploy(BAD)


def test_repository_that_does_not_answer_leaves_refused_promotion(harness, branch, caplog):
    """The refusal counts; what stays is in the log, and drift."""
    kill(harness, BAD)
    branch.failing["read"] = GitUnavailable("down\nno")

    undo(harness, BAD)

    assert "stays: down" in caplog.text
    del branch.failing["read"]
    branch.failing["change"] = GitRefused("protected\nno")
    undo(harness, BAD)
    assert "was not reverted: protected" in caplog.text and in_git(branch) == BAD


def test_look_fetches_branch_once(harness, branch):
    """However many applications are compared with it; the next look fetches it again."""
    first = harness.deploy(harness.good())
    target, before = harness.target, branch.fetches
    expected = [first.expected, first.expected.model_copy(update={"application": "shop"})]

    target.observe(expected)
    assert branch.fetches == before + 1
    target.observe(expected)
    assert branch.fetches == before + 2
    fetched = FetchedBranches()
    replace(target, fetched=fetched).observe(expected)
    replace(target, fetched=fetched).monitor(expected)
    assert branch.fetches == before + 3
    FetchedBranches().fetch(branch)
    fetched.fetch(MemoryBranch(name="other"))
    assert len(fetched.files) == 2


def test_commit_by_person_is_drift_of_git(harness, branch, controller):
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


def test_commit_by_person_in_cluster_is_drift_of_git_and_digest(harness, branch):
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
                 "template": {**template, "spec": {**POD, "containers": [{**CONTAINER, "image": image}]}}},
    })  # fmt: skip

    (_, codes), *_ = harness.codes(first)
    observation, *_ = harness.target.observe([first.expected])

    assert set(codes) == {"drift.digest", "drift.undelivered"}
    assert "says ReconciliationFailed: because" in observation.deviations[-1].fact


def test_missing_file_is_drift_of_git(harness, branch):
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
