"""A namespace into which a controller brings what a git repository has, as the target of an environment."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from supply_chain.errors import (
    ClusterRefused,
    ClusterUnavailable,
    DeclarationInvalid,
    DeploymentFailed,
    ManifestsRefused,
    SettingInvalid,
    SupplyChainError,
)
from supply_chain.execution.delivery.argo import read_argo
from supply_chain.execution.delivery.comparison import compare_git
from supply_chain.execution.delivery.controller import ControllerState
from supply_chain.execution.delivery.flux import read_flux
from supply_chain.execution.delivery.images import ImageFile, list_deployed_digests
from supply_chain.execution.delivery.repository import Branch, FetchedBranches, Revision
from supply_chain.execution.delivery.settings import GitDelivery
from supply_chain.execution.delivery.unrecorded import Unrecorded, find_unrecorded
from supply_chain.execution.deployment import Deployment, Expected, GitRevision, KubernetesPlace, read_deployed_image
from supply_chain.execution.kubernetes.brought import MOST_VIOLATIONS
from supply_chain.execution.kubernetes.cluster import DEPLOYMENTS, SERVICE_ACCOUNTS, Cluster, Document
from supply_chain.execution.kubernetes.declaration import judge_deployment
from supply_chain.execution.kubernetes.namespace import NamespaceState, ObjectKey
from supply_chain.execution.kubernetes.rendering import Workload, check_supported
from supply_chain.execution.kubernetes.rollout import POLL, Rollout, is_complete
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.execution.kubernetes.watching import NamespaceWatch
from supply_chain.execution.observation import Observation
from supply_chain.execution.target import Request
from supply_chain.model.documents import decode_document, parse_stream
from supply_chain.model.image import Digest, ImageRef, shorten_digest
from supply_chain.text import summarize_error, truncate_lines

log = logging.getLogger("supply_chain.delivery")

PATIENCE = 20.0
"""Seconds for which a controller has to report failures until they count; some pass by themselves."""


@dataclass(frozen=True)
class Promotion:
    """A request, and the file of the repository that has its digest."""

    request: Request
    workload: Workload
    settings: GitDelivery
    file: ImageFile

    @property
    def digest(self) -> Digest:
        """The digest that has to run."""
        return self.request.ref.digest

    def edit(self, content: bytes) -> bytes:
        """Return the file with the digest.

        Raises `ManifestsRefused` if it is a manifest whose Deployment lets the application do more than it declares.
        Other kinds of files do not have the pods; these are judged once they are delivered.
        """
        if self.file.kind == "manifest":
            self._judge(parse_stream(decode_document(content, self.file.path), self.file.path))
        return self.file.set_digest(content, self.digest)

    def _judge(self, objects: Sequence[Any]) -> None:
        documents = [each for each in objects if isinstance(each, dict)]
        accounts = [each for each in documents if each.get("kind") == SERVICE_ACCOUNTS.name]
        violations = [
            violation
            for each in documents
            if each.get("kind") == DEPLOYMENTS.name
            for violation in judge_deployment(each, accounts, self.request.declaration.runtime)
        ]
        if violations:
            raise ManifestsRefused(
                f"{self.file.path} lets {self.request.declaration.name} do more than it declares:\n- "
                + "\n- ".join(truncate_lines(MOST_VIOLATIONS, violations))
                + "\nNothing was committed. Correct the manifest, or what supply-chain.yaml declares."
            )

    @property
    def message(self) -> str:
        """The commit's message."""
        subject = _describe(self.request.ref.application, self.digest, self.workload.environment.name)
        return f"{subject}\n\n{self.file.describe(self.digest)}\nRun: {self.request.run_id}\n"


@dataclass(frozen=True)
class GitTarget:
    """An environment to which git delivers, as `Target` describes; `kubernetes` observes its namespace.

    `find_recorded` returns the last recorded deployment of an application to the environment. What several targets
    compare with the repository is read from `fetched`, if it is given; otherwise, each comparison fetches the branch.
    """

    kubernetes: KubernetesTarget
    branch: Branch
    find_recorded: Callable[[str], Expected | None]
    clock: Callable[[], float] = time.monotonic
    fetched: FetchedBranches | None = None

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

        If the cluster does not come to run it, another commit reverts it, together with earlier promotions that no
        record names: their runs were killed. An earlier one of the same image is completed. Raises `SettingInvalid` for
        what a cluster cannot run and if it is forced, `DeclarationInvalid` if the repository does not name the image,
        and the errors of the branch.
        """
        promotion = self._promotion(request)
        before_start()
        rollout = Rollout(self.kubernetes.connect(), promotion.workload, self.kubernetes.wait)
        before, serving = self.branch.read(promotion.file.path), rollout.read_deployment()
        if unchanged := self._find_unchanged(promotion, before, rollout.cluster, serving):
            return recorded(unchanged)
        unrecorded = self._find_earlier(promotion, before, serving)
        started = time.monotonic()
        with self._reverted_on_error(promotion, unrecorded):
            may_serve()
            revision = self.branch.change(promotion.file.path, promotion.edit, promotion.message)
        if revision.content != before.content:
            unrecorded = unrecorded.add(revision.commit, promotion.digest)
        with self._reverted_on_error(promotion, unrecorded):
            running = self._wait_until_running(promotion, rollout, revision.commit)
        deployment = self._record(promotion, revision, rollout.cluster, running)
        earlier = list_deployed_digests(serving, promotion.file.image) if serving else ()
        how = {
            "changed": True,
            "previous": promotion.workload.name if serving else None,
            "previous_digest": earlier[0] if len(earlier) == 1 and earlier[0] else None,
            "ready_seconds": round(time.monotonic() - started, 3),
        }
        return recorded(deployment.model_copy(update=how))

    def undo_unrecorded(self, ref: ImageRef) -> None:
        """Revert the promotion of a refused image that no record names, as `Target` describes."""
        file, name = self._file(ref), self.kubernetes.environment.name
        try:
            now = self.branch.read(file.path)
            if file.read_digests(now.content) != (ref.digest,):
                return
            unrecorded = self._find_unrecorded(file, ref.application, now)
            if unrecorded.promotions:
                done = self._revert(file, ref.application, unrecorded, "The deploy gate refuses the image now.")
                log.warning("%s is not recorded in %s, and refused now: %s", ref, name, done)
        except SupplyChainError as error:
            log.warning("what an earlier run committed of %s to %s stays: %s", ref, name, error)

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
        workload = Workload(request.declaration, request.ref, environment, self.kubernetes.registry)
        environment.placement(request.declaration.name)
        check_supported(workload)
        return Promotion(request, workload, self.settings, self._file(request.ref))

    def _file(self, ref: ImageRef) -> ImageFile:
        """Return the file that has the digest of an image."""
        image = f"{self.kubernetes.registry}/{ref.repository}"
        return ImageFile(self.settings.locate_file(ref.application), self.settings.kind, image)

    def _find_unchanged(
        self, promotion: Promotion, before: Revision, cluster: Cluster, serving: Document | None
    ) -> Deployment | None:
        """Return what runs if it is the image, also of a run that did not record it; otherwise None."""
        file, digest = promotion.file, promotion.digest
        if file.read_digests(before.content) != (digest,) or not _runs(serving, file, digest):
            return None
        unchanged = self._record(promotion, before, cluster, serving)
        return None if any(each.deviations for each in self.observe([unchanged])) else unchanged

    def _find_earlier(self, promotion: Promotion, before: Revision, serving: Document | None) -> Unrecorded:
        """Return the earlier promotions that a failure also reverts; none if another image is in git and serves."""
        file = promotion.file
        in_git = file.read_digests(before.content)
        if in_git != (promotion.digest,) and _runs(serving, file, *in_git):
            return Unrecorded(before.content)
        return self._find_unrecorded(file, promotion.request.ref.application, before)

    def _find_unrecorded(self, file: ImageFile, application: str, now: Revision) -> Unrecorded:
        """Return the promotions since the last recorded one; raise the errors of the branch.

        Returns none if the last record is of another place, because it is then unknown which promotions are recorded.
        """
        recorded = self.find_recorded(application)
        if recorded is None:
            return find_unrecorded(file, self.branch.list_changes(file.path), "")
        git = recorded.place.git if isinstance(recorded.place, KubernetesPlace) else None
        if git is None or (git.repository, git.branch, git.path) != (self.branch.address, self.branch.name, file.path):
            return Unrecorded(now.content)
        return find_unrecorded(file, self.branch.list_changes(file.path), recorded.digest)

    def _record(self, promotion: Promotion, revision: Revision, cluster: Cluster, running: Document) -> Deployment:
        """Return the deployment that runs, as one that changed nothing."""
        deployment = self.kubernetes.record(promotion.request, promotion.workload, (), cluster, running)
        place = deployment.place
        assert isinstance(place, KubernetesPlace)
        git = GitRevision(
            repository=self.branch.address,
            branch=self.branch.name,
            path=promotion.file.path,
            commit=revision.commit,
            runtime=promotion.request.declaration.runtime,
        )
        return deployment.model_copy(update={"place": place.model_copy(update={"git": git})})

    def _wait_until_running(self, promotion: Promotion, rollout: Rollout, commit: str) -> Document:
        """Return the Deployment once it runs the digest; raise `DeploymentFailed` if it does not come to."""
        self._wait_until_applied(promotion, rollout, commit)
        running = rollout.wait_until_complete()
        if not _runs(running, promotion.file, promotion.digest):
            raise _failure(promotion, "somebody changed the digest while it was rolled out")
        return running

    def _wait_until_applied(self, promotion: Promotion, rollout: Rollout, commit: str) -> None:
        until, failing_since, failure = self.clock() + promotion.settings.timeout, self.clock(), ""
        while True:
            state = ControllerState("the cluster did not answer")
            with contextlib.suppress(ClusterUnavailable):  # the controller goes on; ask again
                if _names(rollout.read_deployment(), promotion.file, promotion.digest):
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

    def _read_controller(self, cluster: Cluster, commit: str) -> ControllerState:
        """Return why the commit is not applied yet, as far as the controller's objects say it."""
        try:
            if self.settings.flux:
                return read_flux(cluster, self.settings.flux, commit, self.settings.kind)
            if self.settings.argo:
                return read_argo(cluster, self.settings.argo, commit)
            return ControllerState("look at the controller that applies the repository")
        except ClusterRefused as error:
            return ControllerState(f"its reason cannot be read: {summarize_error(error)}")

    @contextlib.contextmanager
    def _reverted_on_error(self, promotion: Promotion, unrecorded: Unrecorded) -> Iterator[None]:
        """Revert promotions that no record names if the block raises, unless the file has got another digest since."""
        try:
            yield
        except BaseException as error:
            if not unrecorded.promotions:
                raise
            why = summarize_error(error) if isinstance(error, SupplyChainError) else ""
            done = self._revert(promotion.file, promotion.request.ref.application, unrecorded, why)
            if isinstance(error, DeploymentFailed):
                then = "Correct what the message names, and deploy again."
                raise DeploymentFailed(f"{error.message}\n{done}\n{then}") from error
            log.warning("%s to %s: %s", promotion.workload.name, promotion.workload.environment.name, done)
            raise

    def _revert(self, file: ImageFile, application: str, unrecorded: Unrecorded, why: str) -> str:
        """Revert the commits and return a sentence about the result; `why` is the last line of the commit message."""
        commits, (newest, *_) = list(unrecorded.promotions), unrecorded.promotions.values()
        subject = _describe(application, newest, self.kubernetes.environment.name)
        reverts = "".join(f"This reverts commit {each}.\n" for each in commits)
        message = f'Revert "{subject}"\n\n{reverts}' + (f"\n{why}\n" if why else "")
        try:
            reverted = self.branch.change(file.path, lambda content: unrecorded.revert(file, content), message)
            undone = file.read_digests(reverted.content) == file.read_digests(unrecorded.before)
        except SupplyChainError as failed:
            return f"Its commit {shorten_digest(commits[0])} was not reverted: {summarize_error(failed)}"
        if not undone:
            first = shorten_digest(commits[0])
            return f"Its commit {first} was not reverted: the file was changed since. Revert it by hand."
        return f"Its commit was reverted by {shorten_digest(reverted.commit)}."

    def _compare(self, observed: Sequence[Observation], expected: Sequence[Expected]) -> tuple[Observation, ...]:
        """Return the observations of what was recorded, and of the rest, with how git differs from both."""
        recorded, fetched = {each.application: each for each in expected}, self.fetched or FetchedBranches()
        return tuple(
            self._compare_one(each, recorded[each.application], fetched) if each.application in recorded else each
            for each in observed
        )

    def _compare_one(self, observation: Observation, expected: Expected, fetched: FetchedBranches) -> Observation:
        if observation.status == "unknown":  # it was deployed elsewhere
            return observation
        file = self._file(read_deployed_image(expected))
        where = f"{file.path} on {self.branch.name} of {self.branch.address}"
        commit, files = "", fetched.fetch(self.branch)
        try:
            revision = files.read(file.path)
            commit, digests, trouble = revision.commit, file.read_digests(revision.content), ""
        except DeclarationInvalid as error:
            digests, trouble = (), summarize_error(error)
        if trouble == "" and digests == (expected.digest,) and observation.running != expected.digest:
            trouble = self._read_controller(self.kubernetes.connect(), commit).fact
        added = compare_git(expected, digests, observation.running, where, trouble)
        return observation.model_copy(update={"deviations": (*observation.deviations, *added)})


def _describe(application: str, digest: Digest, environment: str) -> str:
    """Return the first line of a promotion's message."""
    return f"{application}: deploy {shorten_digest(digest)} to {environment}"


def _names(deployment: Document | None, file: ImageFile, *digests: Digest) -> bool:
    """Return whether a Deployment has these digests, whether its pods run or not."""
    return deployment is not None and list_deployed_digests(deployment, file.image) == digests


def _runs(deployment: Document | None, file: ImageFile, *digests: Digest) -> TypeGuard[Document]:
    """Return whether all pods of a Deployment have these digests and are available."""
    return deployment is not None and _names(deployment, file, *digests) and is_complete(deployment)


def _failure(promotion: Promotion, trouble: str) -> DeploymentFailed:
    return DeploymentFailed(
        f"{promotion.request.declaration.name} {promotion.request.ref.short} was not deployed to "
        f"{promotion.workload.environment.name}: {trouble}."
    )
