"""Block, unblock, hold, release: what somebody decides about one image, signed and carried out at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydantic import AwareDatetime, Field

from supply_chain.errors import UNREADABLE, AwsFailed, DeclarationInvalid, SupplyChainError
from supply_chain.evidence.provenance import last_provenance
from supply_chain.evidence.standing import Act, PlanAct, Repositories, Ruling, rule
from supply_chain.evidence.statement import LIFECYCLE, PROVENANCE
from supply_chain.evidence.store import EvidenceStore
from supply_chain.lifecycle.stock import INDEXES, Member, PastDeployment, histories
from supply_chain.model.image import Digest, Frozen, ImageRef, StorageStatus, StoredManifest
from supply_chain.model.tier import (
    CURATED,
    OF_PLANS,
    OFFERED,
    TierName,
    curated_repository,
    development_repository,
    evidence_repository,
    is_base_repository,
)
from supply_chain.text import in_a_line

PLANS = evidence_repository(TierName.LIFECYCLE, OF_PLANS)
"""Where it lies what somebody decided about a plan."""


class Storage(Repositories, Protocol):
    """What closes and opens images."""

    def images(self, repository: str) -> tuple[StoredManifest, ...]:
        """None where there is no such repository: a digest may be blocked before it is curated."""

    def having(self, begins: str, prefix: str) -> tuple[ImageRef, ...]:
        """The images below `prefix` whose digests begin so, archived or not."""

    def status(self, ref: ImageRef) -> StorageStatus: ...

    def archive(self, ref: ImageRef) -> None: ...

    def restore(self, ref: ImageRef) -> object: ...


class Surroundings(Protocol):
    """What there is around an image now."""

    def copies(self, ref: ImageRef) -> tuple[ImageRef, ...]: ...

    def indexes_of(self, ref: ImageRef) -> tuple[ImageRef, ...]:
        """The indexes in its repository that can be pulled and list it."""

    def members(self, repository: str) -> tuple[Member, ...]: ...

    def deployments(self, application: str | None) -> tuple[PastDeployment, ...]: ...


class RunsFrom(Frozen):
    """A place where an image runs, by the last signed record, and whom to tell."""

    environment: str
    application: str
    address: str
    owner: str = Field(description="as the application declares it; empty where that cannot be read")
    front: bool = Field(default=False, description="whether it is the front of the application, not the application")

    def __str__(self) -> str:
        what = f"the front of {self.application}" if self.front else self.application
        where = f" at {self.address}" if self.address else ""
        return f"{what} in {self.environment}{where}, of {self.owner or 'an unknown owner'}"


STOOD = {
    Act.BLOCK: "it was blocked already: what was said then stands",
    Act.UNBLOCK: "it was not blocked",
    Act.HOLD: "it was held already: what was said then stands",
    Act.RELEASE: "it was not held",
}
"""What is told where nothing changed."""


class Ruled(Frozen):
    """What was decided about an image, and what came of it."""

    ref: ImageRef
    act: Act
    by: str
    why: str
    at: AwareDatetime
    changed: bool = Field(description="false where it stood already")
    curated: bool = Field(default=True, description="false where it is in no curated repository, or not yet")
    moved: tuple[Digest, ...] = Field(default=(), description="what was archived or restored for it")
    elsewhere: tuple[ImageRef, ...] = Field(
        default=(), description="the same digests under other names, archived or restored for it"
    )
    indexes: tuple[ImageRef, ...] = Field(
        default=(), description="indexes that stay archived though it is unblocked: a block archives those that list it"
    )
    running: tuple[RunsFrom, ...] = Field(default=(), description="what runs from it")
    unread: str = Field(default="", description="why it cannot be told what runs from it; empty where it is told")

    def __str__(self) -> str:
        image = self.ref if self.curated else self._offered
        how = f"{self.act}: {image}" + ("" if self.changed else f" ({STOOD[self.act]})")
        judged = self.act in (Act.BLOCK, Act.UNBLOCK) and is_base_repository(self.ref.repository)
        built = f"  what is built on it is judged anew by the rescan that this starts: cscm where {self.ref.short}"
        runs = [f"  what runs from it cannot be told: {self.unread}"] if self.unread else []
        runs += [f"  runs from it: {each}" for each in self.running]
        names = [f"  under another name too: {each}" for each in self.elsewhere]
        return "\n".join([how, *names, *runs, *([built] if judged else []), *self._next()])

    @property
    def _offered(self) -> ImageRef:
        return self.ref.moved_to(development_repository(self.ref.application))

    def _next(self) -> Iterator[str]:
        """How it is taken back; and how an image comes back that a gate refused while it was blocked."""
        named = self.ref.short if self.curated else self._offered
        if self.act is Act.BLOCK:
            yield f"  to lift it: cscm unblock {named} --why …"
        if self.act is Act.HOLD:
            yield f"  to end it: cscm release {named} --why …"
        if self.act is Act.UNBLOCK and self.changed:
            for index in self.indexes:
                yield (
                    f"  stays archived, and may list it: {index}\n    to restore it, where no block closes it: aws ecr "
                    f"update-image-storage-class --repository-name {index.repository} --image-id "
                    f"imageDigest={index.digest} --target-storage-class STANDARD"
                )
            yield f"  first, where curation refused it meanwhile: cscm curate {self._offered}"
            if not is_base_repository(self.ref.repository):
                yield f"  then, where execution did: cscm execute {self.ref} --environment …"


@dataclass(frozen=True)
class RulingBench:
    """What a decision is signed and carried out with."""

    evidence: EvidenceStore
    storage: Storage
    around: Surroundings


def decide(
    ref: ImageRef,
    act: Act,
    bench: RulingBench,
    *,
    by: str,
    why: str,
    now: datetime,
    of: str = "",
    only_sign: bool = False,
    tell: Callable[[Ruled], object] = lambda _: None,
) -> Ruled:
    """Sign what somebody decided about a curated image, or a rule (`of`), and do what follows from it; both only where
    they are needed.

    A block and its lifting hold for the digest under every name: all of them are archived or restored.
    It is signed first: an image whose archiving fails is refused at every gate by then. From then on each part is
    tried though another fails, `tell` gets what came of them, and then the first error is raised. Doing it again does
    what was left undone. That it cannot be read what runs is told, and raised only where it may be read next time.
    With `only_sign` nothing is moved: whoever asks does that, whatever can be read. What is said of an encrypted copy
    is said of the image that it is of, for gates know no other; of what is attached to an image nothing can be said
    (`DeclarationInvalid`).
    """
    listed = {} if only_sign else {each.digest: each for each in bench.storage.images(ref.repository)}
    ref = ref if only_sign else _image(ref, listed.get(ref.digest), bench)
    changed = rule(ref, act, bench.evidence, bench.storage, by=by, why=why, now=now, of=of) is not None
    failed: list[Exception] = []
    moves = act in (Act.BLOCK, Act.UNBLOCK) and not only_sign
    moved = tuple(_moved(ref, act, bench, failed)) if moves else ()
    elsewhere = tuple(_elsewhere(ref, act, bench, failed)) if moves else ()
    indexes = tuple(_closed_indexes({ref, *elsewhere}, bench, failed)) if moves and act is Act.UNBLOCK else ()
    running, unread = _running(ref.digest, bench, failed, only_sign) if act is Act.BLOCK else ((), "")
    ruled = Ruled(
        ref=ref, act=act, by=by, why=why, at=now, changed=changed, curated=only_sign or ref.digest in listed,
        moved=moved, elsewhere=elsewhere, indexes=indexes, running=running, unread=unread,
    )  # fmt: skip
    tell(ruled)
    for other in failed[1:]:
        failed[0].add_note(f"This failed too: {other}")
    if failed:
        raise failed[0]
    return ruled


def _image(ref: ImageRef, stored: StoredManifest | None, bench: RulingBench) -> ImageRef:
    """The image that somebody means, by what is stored under its digest."""
    try:
        if stored is None or bench.evidence.verified(ref, TierName.CURATION):
            return ref  # curation says something of an image, and nothing of a copy of it or of what is attached
        if subjects := stored.subjects:
            raise DeclarationInvalid(
                f"{ref} is attached to {subjects[0]}, and is no image itself.\nName that one: "
                f"{ref.repository}@{subjects[0]}"
            )
        of = next((each.copy_of for each in bench.around.members(ref.repository) if each.ref == ref), None)
    except UNREADABLE:
        return ref  # nothing that somebody signed keeps anybody from blocking
    return ref.beside(of) if of else ref


class Archive(Protocol):
    """Archives an image."""

    def archive(self, ref: ImageRef) -> None: ...


class Indexes(Protocol):
    """Finds indexes."""

    def indexes_of(self, ref: ImageRef) -> tuple[ImageRef, ...]: ...


def close(ref: ImageRef, storage: Archive, around: Indexes) -> tuple[ImageRef, ...]:
    """Archive an image, and before it the indexes that list it, for ECR archives nothing that one of them lists.

    What was archived, in its order. Whoever may push could keep a blocked image open by an index of it otherwise.
    """
    try:
        storage.archive(ref)
    except AwsFailed as error:
        indexes = () if error.retryable else around.indexes_of(ref)
        if not indexes:
            raise
        above = [each for index in indexes for each in close(index, storage, around)]
        storage.archive(ref)
        return (*above, ref)
    return (ref,)


@contextmanager
def _going_on(failed: list[Exception]) -> Iterator[None]:
    """What fails in it is kept, and what comes after it is done."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the first is raised once all was tried
        failed.append(error)


def _moved(ref: ImageRef, act: Act, bench: RulingBench, failed: list[Exception]) -> Iterator[Digest]:
    """Archive or restore the image and then its encrypted copies, as far as they are there."""
    with _going_on(failed):
        there = {each.digest: each.status for each in bench.storage.images(ref.repository)}
        for each in _with_copies(ref, bench):
            archived = there.get(each.digest) is StorageStatus.ARCHIVED
            if each.digest in there and archived is (act is Act.UNBLOCK):
                with _going_on(failed):
                    yield from (moved.digest for moved in _move(each, act, bench))


def _move(ref: ImageRef, act: Act, bench: RulingBench) -> tuple[ImageRef, ...]:
    """Archive or restore one manifest; what was moved."""
    if act is Act.BLOCK:
        return close(ref, bench.storage, bench.around)
    bench.storage.restore(ref)
    return (ref,)


def _elsewhere(ref: ImageRef, act: Act, bench: RulingBench, failed: list[Exception]) -> Iterator[ImageRef]:
    """Archive or restore the same digests under every other name: what development offered, and other applications'."""
    digests = [ref.digest]
    with suppress(*UNREADABLE):  # raised for the image's own repository
        digests += [copy.digest for copy in bench.around.copies(ref)]
    for prefix in (OFFERED, CURATED):
        for digest in digests:
            with _going_on(failed):
                for each in bench.storage.having(digest, prefix):
                    if each.repository == ref.repository:
                        continue
                    with _going_on(failed):
                        if (bench.storage.status(each) is StorageStatus.ARCHIVED) is (act is Act.UNBLOCK):
                            yield from _move(each, act, bench)


def _closed_indexes(refs: Iterable[ImageRef], bench: RulingBench, failed: list[Exception]) -> Iterator[ImageRef]:
    """The archived indexes beside an image. Nobody can read those, so it is not known which of them list it."""
    for repository in sorted({each.repository for each in refs}):
        with _going_on(failed):
            for each in bench.storage.images(repository):
                if each.media_type in INDEXES and each.status is StorageStatus.ARCHIVED:
                    yield ImageRef(repository=repository, digest=each.digest)


def _with_copies(ref: ImageRef, bench: RulingBench) -> Iterator[ImageRef]:
    yield ref
    yield from bench.around.copies(ref)  # not looked for before: what is signed about them may not be readable


def _running(
    digest: Digest, bench: RulingBench, failed: list[Exception], only_sign: bool
) -> tuple[tuple[RunsFrom, ...], str]:
    """What runs from an image; or why that cannot be told."""
    try:
        return runs_from(digest, bench), ""
    except Exception as error:  # noqa: BLE001 - told, and raised in the end
        if not isinstance(error, SupplyChainError) or (error.retryable and not only_sign):
            failed.append(error)
        return (), in_a_line(error)


def runs_from(digest: Digest, bench: RulingBench) -> tuple[RunsFrom, ...]:
    """What should run from an image now, as itself or as a front, by signed records; with the owners."""
    last = [history[0] for history in histories(bench.around.deployments(None)).values()]
    return tuple(
        RunsFrom(
            environment=each.environment,
            application=each.application,
            address=each.address,
            owner=_owner(each, bench.evidence),
            front=each.digest != digest,
        )
        for each in last
        if digest in (each.digest, each.proxy)
    )


def _owner(deployed: PastDeployment, evidence: EvidenceStore) -> str:
    where = ImageRef(repository=curated_repository(deployed.application), digest=deployed.digest)
    try:
        built = last_provenance(evidence.verified(where, TierName.DEVELOPMENT, PROVENANCE))
    except UNREADABLE:
        return ""  # whom to tell is not known; that it runs is
    return built.manifest.owner if built else ""


def approve(
    plan: Digest, yes: bool, evidence: EvidenceStore, repositories: Repositories, *, by: str, why: str, now: datetime
) -> Digest:
    """Sign what somebody decided about a plan; the statement's digest. Its subject is the plan, by its digest."""
    repositories.ensure_repository(PLANS, immutable=True, key=None)
    ruling = Ruling(act=PlanAct.APPROVE if yes else PlanAct.REJECT, by=by, why=why, at=now)
    return evidence.attach(ImageRef(repository=PLANS, digest=plan), LIFECYCLE, ruling.predicate(), now)
