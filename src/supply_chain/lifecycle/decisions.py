"""Lifecycle decisions about one image (block, unblock, hold, release), signed and carried out at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydantic import AwareDatetime, Field

from supply_chain.errors import UNREADABLE, AwsFailed, DeclarationInvalid, SupplyChainError
from supply_chain.evidence.image_status import Act, LifecycleDecision, PlanAct, sign_decision
from supply_chain.evidence.provenance import find_last_provenance
from supply_chain.evidence.statement import LIFECYCLE, PROVENANCE
from supply_chain.evidence.store import EvidenceStore
from supply_chain.lifecycle.preconditions import DeploymentLister
from supply_chain.lifecycle.snapshot import INDEXES, PastDeployment, group_deployments
from supply_chain.model.image import Digest, ImageRef, Model, StorageStatus, StoredManifest
from supply_chain.model.registry_ports import DigestFinder, ImageArchiver, ManifestLister, RepositoryCreator
from supply_chain.model.tier import (
    CURATED,
    OF_PLANS,
    OFFERED,
    TierName,
    is_base_repository,
    name_curated_repository,
    name_development_repository,
    name_evidence_repository,
)
from supply_chain.text import join_lines

PLANS = name_evidence_repository(TierName.LIFECYCLE, OF_PLANS)
"""The repository of decisions about plans."""


class ImageStorage(RepositoryCreator, ManifestLister, DigestFinder, ImageArchiver, Protocol):
    """The registry operations that archive and restore images."""

    def restore(self, ref: ImageRef) -> object:
        """Restore an image from the archive."""


class IndexLister(Protocol):
    """Lists the indexes of images."""

    def list_indexes(self, ref: ImageRef) -> tuple[ImageRef, ...]:
        """Return the indexes in its repository that can be pulled and list it."""


class RelatedManifests(IndexLister, Protocol):
    """The encrypted copies of an image, and the indexes that list it."""

    def copies(self, ref: ImageRef) -> tuple[ImageRef, ...]:
        """Return the encrypted copies of an image."""


class RelatedDeployments(RelatedManifests, DeploymentLister, Protocol):
    """The manifests and deployments that are related to an image now."""


class RunsFrom(Model):
    """A place where an image runs by the last signed record."""

    environment: str
    application: str
    address: str
    owner: str = Field(description="as declared; empty if that cannot be read")
    reverse_proxy: bool = Field(default=False, description="whether it is the application's reverse proxy")

    def __str__(self) -> str:
        what = f"the reverse proxy of {self.application}" if self.reverse_proxy else self.application
        where = f" at {self.address}" if self.address else ""
        return f"{what} in {self.environment}{where}, of {self.owner or 'an unknown owner'}"


UNCHANGED = {
    Act.BLOCK: "it was blocked already, and the earlier decision stays in force",
    Act.UNBLOCK: "it was not blocked",
    Act.HOLD: "it was held already, and the earlier decision stays in force",
    Act.UNHOLD: "it was not held",
}
"""The text for a decision that changed nothing."""


class DecisionResult(Model):
    """A lifecycle decision about an image, and its result."""

    ref: ImageRef
    act: Act
    by: str
    reason: str
    at: AwareDatetime
    changed: bool = Field(description="false if it was in force already")
    curated: bool = Field(default=True, description="false if it is in no curated repository")
    archived_or_restored: tuple[Digest, ...] = Field(default=(), description="archived or restored images")
    other_names: tuple[ImageRef, ...] = Field(default=(), description="the same under other names")
    indexes: tuple[ImageRef, ...] = Field(default=(), description="indexes that list it and stay archived")
    running: tuple[RunsFrom, ...] = ()
    running_unknown: str = Field(default="", description="why it is unknown what runs from it")

    def __str__(self) -> str:
        image = self.ref if self.curated else self._offered_ref
        how = f"{self.act}: {image}" + ("" if self.changed else f" ({UNCHANGED[self.act]})")
        judged = self.act in (Act.BLOCK, Act.UNBLOCK) and is_base_repository(self.ref.repository)
        built = f"  images built on it are judged again by a rescan: cscm where {self.ref.short}"
        runs = [f"  what runs from it is unknown: {self.running_unknown}"] if self.running_unknown else []
        runs += [f"  runs from it: {each}" for each in self.running]
        names = [f"  also under another name: {each}" for each in self.other_names]
        return "\n".join([how, *names, *runs, *([built] if judged else []), *self._list_next_commands()])

    @property
    def _offered_ref(self) -> ImageRef:
        return self.ref.with_repository(name_development_repository(self.ref.application))

    def _list_next_commands(self) -> Iterator[str]:
        """Yield the commands that revert the decision, or that let an unblocked image pass the gates again."""
        named = self.ref.short if self.curated else self._offered_ref
        if self.act is Act.BLOCK:
            yield f"  to lift it: cscm unblock {named} --reason …"
        if self.act is Act.HOLD:
            yield f"  to end it: cscm unhold {named} --reason …"
        if self.act is Act.UNBLOCK and self.changed:
            for index in self.indexes:
                yield (
                    f"  stays archived, and may list it: {index}\n    to restore it, where no block closes it: aws ecr "
                    f"update-image-storage-class --repository-name {index.repository} --image-id "
                    f"imageDigest={index.digest} --target-storage-class STANDARD"
                )
            yield f"  first, if curation refused it meanwhile: cscm curate {self._offered_ref}"
            if not is_base_repository(self.ref.repository):
                yield f"  then, if execution refused it: cscm deploy {self.ref} --environment …"


@dataclass(frozen=True)
class DecisionPorts:
    """The dependencies for signing a decision and carrying it out."""

    evidence: EvidenceStore
    storage: ImageStorage
    around: RelatedDeployments


def decide(
    ref: ImageRef,
    act: Act,
    ports: DecisionPorts,
    *,
    by: str,
    reason: str,
    now: datetime,
    rule: str = "",
    only_sign: bool = False,
    sign: Callable[[LifecycleDecision], LifecycleDecision] = lambda decision: decision,
    on_result: Callable[[DecisionResult], object] = lambda _: None,
) -> DecisionResult:
    """Sign a decision by a person, or by the `rule`, about a curated image and carry it out, as far as needed.

    A block and its lifting apply to the digest under every name: all of these images are archived or restored. The
    decision is signed first, so that every gate refuses the image even if archiving fails. After that, each part is
    tried even if another fails, `on_result` receives the result, and the first error is raised. Repeating the call does
    what was left undone. `sign` adds a person's signature.

    If the deployments that run from the image cannot be read, the result says so; the error is raised only if it is
    retryable. With `only_sign` nothing is archived or restored, because the caller does that, and this retryable error
    is not raised either. Without it, a decision about an encrypted copy applies to its image, because gates know no
    other, and a manifest that is attached to an image raises `DeclarationInvalid`.
    """
    listed = {} if only_sign else {each.digest: each for each in ports.storage.images(ref.repository)}
    ref = ref if only_sign else _resolve_image(ref, listed.get(ref.digest), ports)
    digest = sign_decision(ref, act, ports.evidence, ports.storage, by=by, reason=reason, now=now, rule=rule, sign=sign)
    changed = digest is not None
    failed: list[Exception] = []
    moves = act in (Act.BLOCK, Act.UNBLOCK) and not only_sign
    moved = tuple(_move_with_copies(ref, act, ports, failed)) if moves else ()
    elsewhere = tuple(_move_other_names(ref, act, ports, failed)) if moves else ()
    indexes = tuple(_find_archived_indexes({ref, *elsewhere}, ports, failed)) if moves and act is Act.UNBLOCK else ()
    running, unread = _find_running_or_reason(ref.digest, ports, failed, only_sign) if act is Act.BLOCK else ((), "")
    result = DecisionResult(
        ref=ref, act=act, by=by, reason=reason, at=now, changed=changed, curated=only_sign or ref.digest in listed,
        archived_or_restored=moved, other_names=elsewhere, indexes=indexes, running=running, running_unknown=unread,
    )  # fmt: skip
    on_result(result)
    for other in failed[1:]:
        failed[0].add_note(f"This failed too: {other}")
    if failed:
        raise failed[0]
    return result


def _resolve_image(ref: ImageRef, stored: StoredManifest | None, ports: DecisionPorts) -> ImageRef:
    """Return the image that is meant: for an encrypted copy, the image that it is a copy of."""
    try:
        if stored is None or ports.evidence.read_verified(ref, TierName.CURATION):
            return ref  # curation signs statements about images, but not about copies or referrers
        if subjects := stored.subjects:
            raise DeclarationInvalid(
                f"{ref} is attached to {subjects[0]}, and is not an image itself.\nName that image: "
                f"{ref.repository}@{subjects[0]}"
            )
        of = next((each.copy_of for each in ports.around.members(ref.repository) if each.ref == ref), None)
    except UNREADABLE:
        return ref  # an unreadable statement must not prevent a block
    return ref.with_digest(of) if of else ref


def archive_image(ref: ImageRef, storage: ImageArchiver, around: IndexLister) -> tuple[ImageRef, ...]:
    """Archive an image, after the indexes that list it, and return what was archived, in order.

    ECR does not archive an image that an index lists. Without this, anyone with push access could keep a blocked image
    available by an index.
    """
    try:
        storage.archive(ref)
    except AwsFailed as error:
        indexes = () if error.retryable else around.list_indexes(ref)
        if not indexes:
            raise
        above = [each for index in indexes for each in archive_image(index, storage, around)]
        storage.archive(ref)
        return (*above, ref)
    return (ref,)


@contextmanager
def _collect_errors(failed: list[Exception]) -> Iterator[None]:
    """Collect an exception in `failed`, so that later parts are still done."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the first is raised at the end
        failed.append(error)


def _move_with_copies(ref: ImageRef, act: Act, ports: DecisionPorts, failed: list[Exception]) -> Iterator[Digest]:
    """Archive or restore the image and then its encrypted copies, as far as they exist."""
    with _collect_errors(failed):
        statuses = {each.digest: each.status for each in ports.storage.images(ref.repository)}
        for each in _with_copies(ref, ports):
            archived = statuses.get(each.digest) is StorageStatus.ARCHIVED
            if each.digest in statuses and archived is (act is Act.UNBLOCK):
                with _collect_errors(failed):
                    yield from (moved.digest for moved in _move(each, act, ports))


def _move(ref: ImageRef, act: Act, ports: DecisionPorts) -> tuple[ImageRef, ...]:
    """Archive or restore one manifest, and return what was archived or restored."""
    if act is Act.BLOCK:
        return archive_image(ref, ports.storage, ports.around)
    ports.storage.restore(ref)
    return (ref,)


def _move_other_names(ref: ImageRef, act: Act, ports: DecisionPorts, failed: list[Exception]) -> Iterator[ImageRef]:
    """Archive or restore the same digests under other names, in `dev/` and in other applications' repositories."""
    digests = [ref.digest]
    with suppress(*UNREADABLE):  # already collected by `_move_with_copies`
        digests += [copy.digest for copy in ports.around.copies(ref)]
    for prefix in (OFFERED, CURATED):
        for digest in digests:
            with _collect_errors(failed):
                for each in ports.storage.find_by_digest(digest, prefix):
                    if each.repository == ref.repository:
                        continue
                    with _collect_errors(failed):
                        if (ports.storage.status(each) is StorageStatus.ARCHIVED) is (act is Act.UNBLOCK):
                            yield from _move(each, act, ports)


def _find_archived_indexes(
    refs: Iterable[ImageRef], ports: DecisionPorts, failed: list[Exception]
) -> Iterator[ImageRef]:
    """Yield the archived indexes in the images' repositories.

    They cannot be read, so any of them may list the image.
    """
    for repository in sorted({each.repository for each in refs}):
        with _collect_errors(failed):
            for each in ports.storage.images(repository):
                if each.media_type in INDEXES and each.status is StorageStatus.ARCHIVED:
                    yield ImageRef(repository=repository, digest=each.digest)


def _with_copies(ref: ImageRef, ports: DecisionPorts) -> Iterator[ImageRef]:
    yield ref
    yield from ports.around.copies(ref)  # read last, as their signed records may be unreadable


def _find_running_or_reason(
    digest: Digest, ports: DecisionPorts, failed: list[Exception], only_sign: bool
) -> tuple[tuple[RunsFrom, ...], str]:
    """Return what runs from an image, or why that cannot be read."""
    try:
        return find_running(digest, ports), ""
    except Exception as error:  # noqa: BLE001 - reported, raised at the end
        if not isinstance(error, SupplyChainError) or (error.retryable and not only_sign):
            failed.append(error)
        return (), join_lines(error)


def find_running(digest: Digest, ports: DecisionPorts) -> tuple[RunsFrom, ...]:
    """Return what should run from an image now, as itself or as a reverse proxy, by signed records, with the owners."""
    last = [history[0] for history in group_deployments(ports.around.deployments(None)).values()]
    return tuple(
        RunsFrom(
            environment=each.environment,
            application=each.application,
            address=each.address,
            owner=_read_owner(each, ports.evidence),
            reverse_proxy=each.digest != digest,
        )
        for each in last
        if digest in (each.digest, each.proxy)
    )


def _read_owner(deployed: PastDeployment, evidence: EvidenceStore) -> str:
    where = ImageRef(repository=name_curated_repository(deployed.application), digest=deployed.digest)
    try:
        built = find_last_provenance(evidence.read_verified(where, TierName.DEVELOPMENT, PROVENANCE))
    except UNREADABLE:
        return ""  # the owner is unknown, the deployment is not
    return built.declaration.owner if built else ""


def sign_plan_answer(
    plan: Digest,
    yes: bool,
    evidence: EvidenceStore,
    repositories: RepositoryCreator,
    *,
    by: str,
    reason: str,
    now: datetime,
) -> Digest:
    """Sign an answer to a plan and return the statement's digest. Its subject is the plan's digest."""
    repositories.ensure_repository(PLANS, immutable=True, key=None)
    decision = LifecycleDecision(act=PlanAct.APPROVE if yes else PlanAct.REJECT, by=by, reason=reason, at=now)
    return evidence.attach(ImageRef(repository=PLANS, digest=plan), LIFECYCLE, decision.predicate(), now)
