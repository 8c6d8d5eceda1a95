"""Delivery by git to a real cluster: git's own server, real Flux, which verifies the signatures of the commits."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cscm_laptop.home import Home
from supply_chain.adapters.git.remote import Author, RemoteBranch
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.errors import DeploymentFailed, SettingInvalid
from supply_chain.execution.delivery.flux import GIT_REPOSITORIES, KUSTOMIZATIONS
from supply_chain.execution.delivery.images import set_digest
from supply_chain.execution.delivery.repository import Branch, Revision
from supply_chain.execution.delivery.settings import Delivery, FluxKustomization, GitDelivery
from supply_chain.execution.delivery.target import GitTarget
from supply_chain.execution.deployment import Deployment
from supply_chain.execution.environment import KubernetesEnvironment
from supply_chain.execution.environment import KubernetesPlacement as Placement
from supply_chain.execution.kubernetes.cluster import DEPLOYMENTS, PODS, SECRETS, Document
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.model.image import Digest, ImageRef
from tests.contract.target import Harness, TargetContract
from tests.support.cluster_images import NAME, REGISTRY, Import
from tests.support.cluster_roles import restricted_namespace
from tests.support.flux_controllers import flux_controllers
from tests.support.git_server import GitServer, git_server
from tests.support.node import DECLARATION, find_running
from tests.support.reader import bind_reader, sign_in_reader
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

PATH = "staging/hello/kustomization.yaml"
KUSTOMIZATION = f"""# what staging runs
resources: [deployment.yaml]
images:
- name: web
  newName: {NAME}
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: web}}
    spec:
      automountServiceAccountToken: false
      securityContext:
        {runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, seccompProfile: {type: RuntimeDefault}}
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: web
        imagePullPolicy: Never
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
        resources: {limits: {cpu: 500m, memory: 64Mi}}
        securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
        terminationMessagePolicy: FallbackToLogsOnError
"""
KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
TRUSTED = KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@pytest.fixture(scope="module", autouse=True)
def flux(
    home: Home, cluster: ClusterClient, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    with flux_controllers(home, cluster, kubeconfig, tmp_path_factory.mktemp("flux")):
        yield


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with git_server(tmp_path) as served:
        served.commit({PATH: KUSTOMIZATION, "staging/hello/deployment.yaml": DEPLOYMENT})
        yield served


@pytest.fixture
def namespace(cluster: ClusterClient, server: GitServer) -> Iterator[str]:
    """A namespace that Flux brings up to what the repository has, if the chain signed it."""
    with restricted_namespace(cluster, "gitops") as name:  # removed with what Flux follows, which Flux lets go of
        bind_reader(cluster, name)
        _follow(cluster, name, server.address)
        yield name


def _follow(cluster: ClusterClient, namespace: str, address: str) -> None:
    metadata = {"name": "shop", "namespace": namespace}
    keys = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"chain.sshpub": TRUSTED}}
    cluster.apply(SECRETS, keys)
    source = {
        "interval": "2s", "url": address, "ref": {"branch": "main"},
        "verify": {"mode": "HEAD", "secretRef": {"name": "shop"}},
    }  # fmt: skip
    cluster.apply(GIT_REPOSITORIES, _object(GIT_REPOSITORIES.api_version, "GitRepository", namespace, source))
    applied = {
        "interval": "5s", "retryInterval": "2s", "path": "staging/hello", "prune": True, "targetNamespace": namespace,
        "sourceRef": {"kind": "GitRepository", "name": "shop"},
    }  # fmt: skip
    cluster.apply(KUSTOMIZATIONS, _object(KUSTOMIZATIONS.api_version, "Kustomization", namespace, applied))


def _object(api_version: str, kind: str, namespace: str, spec: Document) -> Document:
    return {
        "apiVersion": api_version, "kind": kind, "metadata": {"name": "shop", "namespace": namespace}, "spec": spec
    }  # fmt: skip


@dataclass
class Place(Harness):
    """An environment that git delivers to."""

    cluster: ClusterClient = field(kw_only=True)
    namespace: str = field(kw_only=True)
    server: GitServer = field(kw_only=True)

    @property
    def in_git(self) -> str:
        """The kustomization as the repository has it."""
        return self.server.show(PATH)


def make_target(
    cluster: ClusterClient,
    namespace: str,
    server: GitServer,
    recorded: Sequence[Deployment],
    key: Ed25519PrivateKey = KEY,
) -> GitTarget:
    """Return the target of an environment that git delivers to, whose commits a key signs.

    The documented role signs in to the cluster.
    """
    reader = cache(lambda: sign_in_reader(cluster, namespace))
    git = GitDelivery(
        repository="environments", path="staging/{application}/kustomization.yaml", kind="kustomize", timeout=45,
        flux=FluxKustomization(namespace=namespace, name="shop"),
    )  # fmt: skip
    environment = KubernetesEnvironment(
        name="staging", target="kubernetes", cluster="c", namespace=namespace, delivery=Delivery(git=git),
        applications={"hello": Placement()},
    )  # fmt: skip

    def now() -> datetime:
        return datetime.now(UTC)

    branch = RemoteBranch(server.address, "main", Author("Chain", "chain@example.com", key), now, time.sleep)
    kubernetes = KubernetesTarget(environment, reader, REGISTRY, now, time.sleep)
    return GitTarget(kubernetes, branch, lambda _: recorded[-1].expected if recorded else None)


def image_of(place: Place) -> str:
    """Return the image that the Deployment names."""
    (deployment,) = place.cluster.list(DEPLOYMENTS, place.namespace)
    image: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    return image


@pytest.fixture
def harness(cluster: ClusterClient, namespace: str, server: GitServer, image: Import) -> Place:
    running = partial(find_running, cluster, namespace)

    def add_foreign(digest: Digest) -> str:
        template = cluster.list(PODS, namespace)[0]["spec"]
        container = {key: template["containers"][0][key] for key in ("name", "imagePullPolicy", "securityContext")}
        spec = {
            "securityContext": template["securityContext"],
            "containers": [{**container, "image": f"{NAME}@{digest}"}],
        }
        metadata = {"name": "foreign", "namespace": namespace}
        cluster.apply(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        return "foreign"

    recorded: list[Deployment] = []
    return Place(
        make_target(cluster, namespace, server, recorded), DECLARATION, image, image("crash"), running, add_foreign,
        recorded, cluster=cluster, namespace=namespace, server=server,
    )  # fmt: skip


@dataclass
class Dying:
    """A branch whose process is killed after so many commits, or before the next one if it is n + ½."""

    branch: RemoteBranch
    commits: float

    def __getattr__(self, name: str) -> Any:
        return getattr(self.branch, name)

    def change(self, *words: Any) -> Revision:
        """Change a file, and perhaps end."""
        self._die(0.5)
        made = self.branch.change(*words)
        self.commits -= 1
        self._die(0)
        return made

    def _die(self, at: float) -> None:
        if self.commits == at:
            os.kill(os.getpid(), signal.SIGKILL)


Kill = Callable[[Digest, float], None]


@pytest.fixture
def kill(harness: Place, kubeconfig: Path) -> Kill:
    """A function that deploys a digest in a process that is killed: as `Dying`, or once the image serves."""

    def deploy_and_die(digest: Digest, commits: float) -> None:
        child = os.fork()
        if child == 0:
            try:
                cluster = ClusterClient.of_context(kubeconfig, None)  # with connections of its own
                target = make_target(cluster, harness.namespace, harness.server, harness.recorded)
                assert isinstance(target.branch, RemoteBranch)
                harness.target = replace(target, branch=cast(Branch, Dying(target.branch, commits)))
                harness.deploy(digest)
                os.kill(os.getpid(), signal.SIGKILL)
            finally:
                os._exit(1)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL

    return deploy_and_die


class TestGitTarget(TargetContract):
    """The contract, except that nothing is replaced by force, and what a person committed stays."""

    def test_forced_deployment_is_repeated_or_refused(self, harness: Harness) -> None:
        """Flux would undo it."""
        with pytest.raises(SettingInvalid, match="without --force"):
            harness.deploy(harness.good(), force=True)

    def test_target_leaves_nothing_of_failed_first_deployment(self, harness: Harness) -> None:
        """The repository is as before, and Flux applies that: a Deployment without a digest, which runs nothing new."""
        assert isinstance(harness, Place)

        with pytest.raises(DeploymentFailed, match="configuration missing"):
            harness.deploy(harness.bad)

        assert harness.in_git == KUSTOMIZATION and harness.recorded == []
        eventually(lambda: image_of(harness) == NAME)


def test_promotion_and_rollback_are_commits(harness: Place) -> None:
    """Each is one, and only the digest differs."""
    first = harness.deploy(harness.good())
    content = harness.in_git
    second = harness.deploy(harness.good())
    again = harness.deploy(first.digest)

    assert harness.in_git == content == KUSTOMIZATION.rstrip() + f"\n  digest: {first.digest}\n"
    assert second.previous_digest == first.digest and again.previous_digest == second.digest
    assert len(harness.server.subjects()) == 4 and harness.settles(again)


def test_failure_is_reverted_by_commit_that_flux_applies(harness: Place) -> None:
    """Its message names the commit and the reason."""
    first = harness.deploy(harness.good())

    with pytest.raises(DeploymentFailed, match="Its commit was reverted by"):
        harness.deploy(harness.bad)

    revert, promotion, *_ = harness.server.subjects()
    assert revert == f'Revert "{promotion}"' and first.digest in harness.in_git
    assert harness.settles(first)


@pytest.mark.parametrize("commits", [1, 9], ids=["after its commit", "before its record"])
def test_killed_promotion_is_completed_by_next_run(harness: Place, kill: Kill, commits: float) -> None:
    """It makes no second commit."""
    first, digest = harness.deploy(harness.good()), harness.good()
    kill(digest, commits)
    assert digest in harness.in_git and harness.recorded == [first]

    second = harness.deploy(digest)

    assert harness.settles(second) and len(harness.server.subjects()) == 3


@pytest.mark.parametrize("commits", [1, 1.5], ids=["after its commit", "before its revert"])
def test_killed_promotion_of_bad_image_is_reverted_by_next_run(harness: Place, kill: Kill, commits: float) -> None:
    """What is recorded is in git again, and runs."""
    first = harness.deploy(harness.good())
    kill(harness.bad, commits)
    assert harness.bad in harness.in_git

    with pytest.raises(DeploymentFailed, match=r"(?s)configuration missing.*Its commit was reverted by"):
        harness.deploy(harness.bad)

    assert first.digest in harness.in_git and harness.settles(first)


def test_killed_promotion_is_reverted_if_gate_refuses_image_later(harness: Place, kill: Kill) -> None:
    """Flux had brought it already, or was about to."""
    first, digest = harness.deploy(harness.good()), harness.good()
    kill(digest, 1)

    harness.target.undo_unrecorded(ImageRef(repository="curated/hello", digest=digest))

    revert, promotion, *_ = harness.server.subjects()
    assert revert == f'Revert "{promotion}"' and first.digest in harness.in_git
    assert harness.settles(first)


def test_broken_kustomization_fails_deployment_with_reason_of_flux(harness: Place) -> None:
    """The digest is there, and what else was committed breaks it."""
    first = harness.deploy(harness.good())
    harness.server.commit({PATH: harness.in_git.replace("deployment.yaml", "absent.yaml")})

    with pytest.raises(DeploymentFailed, match=r"(?s)Kustomization shop says BuildFailed: .*absent.yaml"):
        harness.deploy(harness.good())

    assert first.digest in harness.in_git and harness.running() == {first.digest}


def test_commit_with_another_key_is_not_applied(harness: Place, cluster: ClusterClient) -> None:
    """Flux itself verifies who signed what it applies."""
    first = harness.deploy(harness.good())
    harness.target = make_target(cluster, harness.namespace, harness.server, harness.recorded, OTHER)

    with pytest.raises(DeploymentFailed, match="GitRepository shop says InvalidCommitSignature"):
        harness.deploy(harness.good())

    assert harness.running() == {first.digest}


def test_unsigned_commit_by_person_is_drift_of_git_only(harness: Place) -> None:
    """Flux does not apply it, because nobody signed it."""
    first, other = harness.deploy(harness.good()), harness.good()
    harness.server.commit({PATH: set_digest(harness.in_git.encode(), "kustomize", NAME, other, PATH).decode()})

    assert harness.codes(first) == [("hello", ["drift.git"])]


def test_change_in_cluster_is_undelivered_until_flux_corrects_it(harness: Place, cluster: ClusterClient) -> None:
    """With Flux suspended it stays, and the record and git agree against the cluster."""
    first, other = harness.deploy(harness.good()), harness.good()
    suspended = {"apiVersion": KUSTOMIZATIONS.api_version, "kind": "Kustomization",
                 "metadata": {"name": "shop", "namespace": harness.namespace}}  # fmt: skip
    spec = (cluster.read(KUSTOMIZATIONS, "shop", harness.namespace) or {})["spec"]
    cluster.apply(KUSTOMIZATIONS, {**suspended, "spec": {**spec, "suspend": True}})
    (live,) = cluster.list(DEPLOYMENTS, harness.namespace)
    (container,) = live["spec"]["template"]["spec"]["containers"]
    pod = {"containers": [{**container, "image": f"{NAME}@{other}"}]}

    def runs_other() -> bool:
        """Change it, and change it again if Flux was just about to apply the commit when it was suspended."""
        if image_of(harness) != f"{NAME}@{other}":
            cluster.patch(DEPLOYMENTS, "hello", {"spec": {"template": {"spec": pod}}}, harness.namespace)
        return harness.running() == {other}

    eventually(runs_other)

    observation = harness.target.monitor([first.expected])[0]
    assert observation.deviations[-1].code == "drift.undelivered"
    assert "Kustomization shop is suspended" in observation.deviations[-1].fact

    cluster.apply(KUSTOMIZATIONS, {**suspended, "spec": spec})
    assert harness.settles(first)
