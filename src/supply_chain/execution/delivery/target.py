"""A namespace into which a controller brings what a git repository has, as the target of an environment."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from supply_chain.errors import (
    ClusterRefused,
    ClusterUnavailable,
    DeclarationInvalid,
    DeploymentFailed,
    SettingInvalid,
    SupplyChainError,
)
from supply_chain.execution.delivery.comparison import compare_git
from supply_chain.execution.delivery.flux import FluxState, read_flux
from supply_chain.execution.delivery.images import deployed_digests, read_digests, set_digest
from supply_chain.execution.delivery.repository import Branch, Revision
from supply_chain.execution.deployment import Deployment, Expected, GitRevision, KubernetesPlace, deployed_image
from supply_chain.execution.environment import GitDelivery
from supply_chain.execution.kubernetes.cluster import Cluster, Document
from supply_chain.execution.kubernetes.namespace import NamespaceState, ObjectKey
from supply_chain.execution.kubernetes.rendering import Workload, check_supported
from supply_chain.execution.kubernetes.rollout import POLL, Rollout, is_complete
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.execution.kubernetes.watching import NamespaceWatch
from supply_chain.execution.observation import Observation
from supply_chain.execution.target import Request
from supply_chain.model.image import Digest, ImageRef, short
from supply_chain.text import first_line

log = logging.getLogger("supply_chain.delivery")

PATIENCE = 20.0
"""Seconds for which a controller has to report failures until they count; some pass by themselves."""


@dataclass(frozen=True)
class Promotion:
    """A request, and where the repository has its digest."""

    request: Request
    workload: Workload
    settings: GitDelivery
    branch: Branch

    @property
    def digest(self) -> Digest:
        """The digest that has to run."""
        return self.request.ref.digest

    @property
    def image(self) -> str:
        """The name of the image with its registry."""
        return f"{self.workload.registry}/{self.request.ref.repository}"

    @property
    def path(self) -> str:
        """The file with the digest."""
        return self.settings.file_of(self.request.manifest.name)

    def edit(self, digest: Digest) -> Callable[[bytes], bytes]:
        """Return what changes the digest in the file."""
        return lambda content: set_digest(content, self.settings.kind, self.image, digest, self.path)

    def digests_in(self, content: bytes) -> tuple[Digest, ...]:
        """Return the digests in the file."""
        return read_digests(content, self.settings.kind, self.image, self.path)

    @property
    def subject(self) -> str:
        """The first line of the commit's message."""
        return f"{self.request.manifest.name}: deploy {short(self.digest)} to {self.workload.environment.name}"

    @property
    def message(self) -> str:
        """The commit's message."""
        return f"{self.subject}\n\nImage: {self.image}@{self.digest}\nRun: {self.request.run_id}\n"


@dataclass(frozen=True)
class GitTarget:
    """An environment to which git delivers, as `Target` describes; `kubernetes` observes its namespace."""

    kubernetes: KubernetesTarget
    branch: Branch
    clock: Callable[[], float] = time.monotonic

    @property
    def settings(self) -> GitDelivery:
        """The delivery of the environment."""
        delivery = self.kubernetes.environment.delivery
        assert delivery  # only such environments have this target
        return delivery.git

    def deploy(
        self,
        request: Request,
        *,
        before_start: Callable[[], object],
        may_serve: Callable[[], object],
        recorded: Callable[[Deployment], Deployment],
    ) -> Deployment:
        """Commit the digest and wait until the cluster runs it, as `Target` describes.

        If the cluster does not come to run it, a second commit reverts the first. Raises `SettingInvalid` for what a
        cluster cannot run and if it is forced, `DeclarationInvalid` if the repository does not name the image, and the
        errors of the branch.
        """
        promotion = self._promotion(request)
        before_start()
        rollout = Rollout(self.kubernetes.connect(), promotion.workload, self.kubernetes.wait)
        before, serving = self.branch.read(promotion.path), rollout.read_deployment()
        in_git = promotion.digests_in(before.content)
        if serving and in_git == (promotion.digest,) and _runs(serving, promotion):
            unchanged = self._record(promotion, before, rollout.cluster, serving)
            if not any(each.deviations for each in self.observe([unchanged])):
                return recorded(unchanged)
        may_serve()
        started = time.monotonic()
        made = self.branch.change(promotion.path, promotion.edit(promotion.digest), promotion.message)
        with self._reverted_on_error(promotion, before, made):
            running = self._wait_until_running(promotion, rollout, made.commit)
        deployment = self._record(promotion, made, rollout.cluster, running)
        earlier = deployed_digests(serving, promotion.image) if serving else ()
        how = {
            "changed": True,
            "previous": promotion.workload.name if serving else None,
            "previous_digest": earlier[0] if len(earlier) == 1 and earlier[0] else None,
            "ready_seconds": round(time.monotonic() - started, 3),
        }
        return recorded(deployment.model_copy(update=how))

    def monitor(self, expected: Sequence[Expected], application: str | None = None) -> tuple[Observation, ...]:
        """Return what runs, as `Target` describes, and how the repository differs."""
        return self._compare(self.kubernetes.monitor(expected, application), expected)

    def observe(self, expected: Sequence[Expected]) -> tuple[Observation, ...]:
        """Return how these deployments are, as `Target` describes, and how the repository differs."""
        return self._compare(self.kubernetes.observe(expected), expected)

    def watch(self) -> NamespaceWatch:
        """Return the watch of the namespace, as a block."""
        return self.kubernetes.watch()

    def judge_changes(
        self, expected: Sequence[Expected], changed: Collection[ObjectKey], state: NamespaceState
    ) -> tuple[Observation, ...]:
        """Return what changed, as `KubernetesTarget`, and how the repository differs."""
        return self._compare(self.kubernetes.judge_changes(expected, changed, state), expected)

    def remove_unneeded(self, ref: ImageRef) -> None:
        """Do nothing: the controller removes what the repository has no longer."""

    def _promotion(self, request: Request) -> Promotion:
        environment = self.kubernetes.environment
        if request.force:
            raise SettingInvalid(
                f"{environment.name} is delivered by git: what runs cannot be replaced by the same image.\n"
                "Deploy without --force; restart its pods by a change in the repository."
            )
        workload = Workload(request.manifest, request.ref, environment, self.kubernetes.registry)
        environment.placement(request.manifest.name)
        check_supported(workload)
        return Promotion(request, workload, self.settings, self.branch)

    def _record(self, promotion: Promotion, revision: Revision, cluster: Cluster, running: Document) -> Deployment:
        """Return the deployment that runs, as one that changed nothing."""
        deployment = self.kubernetes.record(promotion.request, promotion.workload, (), cluster, running)
        place = deployment.place
        assert isinstance(place, KubernetesPlace)
        git = GitRevision(
            repository=self.branch.address, branch=self.branch.name, path=promotion.path, commit=revision.commit
        )
        return deployment.model_copy(update={"place": place.model_copy(update={"git": git})})

    def _wait_until_running(self, promotion: Promotion, rollout: Rollout, commit: str) -> Document:
        """Return the Deployment once it runs the digest; raise `DeploymentFailed` if it does not come to."""
        self._wait_until_applied(promotion, rollout, commit)
        running = rollout.wait_until_complete()
        if not _runs(running, promotion):
            raise _failure(promotion, "somebody changed the digest while it was rolled out")
        return running

    def _wait_until_applied(self, promotion: Promotion, rollout: Rollout, commit: str) -> None:
        until, failing_since, failure = self.clock() + promotion.settings.timeout, self.clock(), ""
        while True:
            state = FluxState("the cluster did not answer")
            with contextlib.suppress(ClusterUnavailable):  # the controller goes on; ask again
                if _is_about(rollout.read_deployment(), promotion):
                    return
                state = self._read_controller(rollout.cluster, commit)
            if not state.applying:  # it tries again what failed
                failure = state.fact if state.failed else ""
            if not failure:
                failing_since = self.clock()
            if self.clock() > until or (state.failed and self.clock() - failing_since > PATIENCE):
                where = f"the Deployment {promotion.workload.name} in {rollout.namespace}"
                raise _failure(promotion, f"{where} has not got it: {failure or state.fact}")
            self.kubernetes.wait(POLL)

    def _read_controller(self, cluster: Cluster, commit: str) -> FluxState:
        """Return why the commit is not applied yet, as far as the controller's objects say it."""
        if self.settings.flux is None:
            return FluxState("look at the controller that applies the repository")
        try:
            return read_flux(cluster, self.settings.flux, commit)
        except ClusterRefused as error:
            return FluxState(f"its reason cannot be read: {first_line(error)}")

    @contextlib.contextmanager
    def _reverted_on_error(self, promotion: Promotion, before: Revision, made: Revision) -> Iterator[None]:
        """Revert the commit if the block raises, unless the file has got another digest since."""
        try:
            yield
        except BaseException as error:
            done = self._revert(promotion, before, made, error)
            if isinstance(error, DeploymentFailed):
                raise DeploymentFailed(f"{error.message}\n{done}") from error
            log.warning("%s to %s: %s", promotion.workload.name, promotion.workload.environment.name, done)
            raise

    def _revert(self, promotion: Promotion, before: Revision, made: Revision, error: BaseException) -> str:
        """Return what became of the commit."""
        if made.commit == before.commit:
            return "The repository had the digest already, and keeps it."

        def undo(content: bytes) -> bytes:
            if content == made.content:
                return before.content
            earlier = promotion.digests_in(before.content)
            ours = promotion.digests_in(content) == (promotion.digest,)
            return promotion.edit(earlier[0])(content) if ours and len(earlier) == 1 and earlier[0] else content

        message = f'Revert "{promotion.subject}"\n\nThis reverts commit {made.commit}.\n'
        if isinstance(error, SupplyChainError):
            message += f"\n{first_line(error)}\n"
        try:
            reverted = self.branch.change(promotion.path, undo, message)
        except SupplyChainError as failed:
            return f"Its commit {short(made.commit)} was not reverted: {first_line(failed)}"
        if promotion.digest in promotion.digests_in(reverted.content):
            return f"Its commit {short(made.commit)} was not reverted: the file was changed since. Revert it by hand."
        return f"Its commit was reverted by {short(reverted.commit)}."

    def _compare(self, observed: Sequence[Observation], expected: Sequence[Expected]) -> tuple[Observation, ...]:
        """Return the observations of what was recorded, and of the rest, with how git differs from both."""
        recorded = {each.application: each for each in expected}
        return tuple(
            self._compare_one(each, recorded[each.application]) if each.application in recorded else each
            for each in observed
        )

    def _compare_one(self, observation: Observation, expected: Expected) -> Observation:
        if observation.status == "unknown":  # it was deployed elsewhere
            return observation
        path = self.settings.file_of(expected.application)
        image = f"{self.kubernetes.registry}/{deployed_image(expected).repository}"
        where = f"{path} on {self.branch.name} of {self.branch.address}"
        try:
            found = self.branch.read(path)
            digests, trouble = read_digests(found.content, self.settings.kind, image, path), ""
        except DeclarationInvalid as error:
            digests, trouble = (), first_line(error)
        if trouble == "" and digests == (expected.digest,) and observation.running != expected.digest:
            trouble = self._read_controller(self.kubernetes.connect(), found.commit).fact
        added = compare_git(expected, digests, observation.running, where, trouble)
        return observation.model_copy(update={"deviations": (*observation.deviations, *added)})


def _is_about(deployment: Document | None, promotion: Promotion) -> bool:
    """Return whether a Deployment has the digest, whether its pods run or not."""
    return deployment is not None and deployed_digests(deployment, promotion.image) == (promotion.digest,)


def _runs(deployment: Document, promotion: Promotion) -> bool:
    """Return whether all pods of a Deployment have the digest and are available."""
    return _is_about(deployment, promotion) and is_complete(deployment)


def _failure(promotion: Promotion, trouble: str) -> DeploymentFailed:
    return DeploymentFailed(
        f"{promotion.request.manifest.name} {promotion.request.ref.short} was not deployed to "
        f"{promotion.workload.environment.name}: {trouble}."
    )
