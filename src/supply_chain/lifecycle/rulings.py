"""Block, unblock, hold, release: what somebody decides about one image, signed and carried out at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydantic import AwareDatetime, Field

from supply_chain.errors import ClockWrong, DeclarationInvalid, EvidenceInvalid
from supply_chain.evidence.provenance import last_provenance
from supply_chain.evidence.standing import Act, Repositories, Ruling, rule
from supply_chain.evidence.statement import LIFECYCLE, PROVENANCE
from supply_chain.evidence.store import EvidenceStore
from supply_chain.image import Digest, Frozen, ImageRef, StorageStatus, StoredManifest
from supply_chain.lifecycle.stock import Deployed, Member, histories
from supply_chain.tier import TierName, curated_repository, evidence_repository, is_base_repository

PLANS = evidence_repository(TierName.LIFECYCLE, "plans")
"""Where it lies what somebody decided about a plan."""


class Storage(Repositories, Protocol):
    """What closes and opens images."""

    def images(self, repository: str) -> tuple[StoredManifest, ...]:
        """None where there is no such repository: a digest may be blocked before it is curated."""

    def archive(self, ref: ImageRef) -> None: ...

    def restore(self, ref: ImageRef) -> object: ...


class Present(Protocol):
    """What is so now."""

    def copies(self, ref: ImageRef) -> tuple[ImageRef, ...]: ...

    def members(self, repository: str) -> tuple[Member, ...]: ...

    def deployments(self, application: str | None) -> tuple[Deployed, ...]: ...


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
    Act.BLOCK: "it was blocked already",
    Act.UNBLOCK: "it was not blocked",
    Act.HOLD: "it was held already",
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
    moved: tuple[Digest, ...] = Field(default=(), description="what was archived or restored for it")
    running: tuple[RunsFrom, ...] = Field(default=(), description="what runs from it")

    def __str__(self) -> str:
        how = f"{self.act}: {self.ref}" + ("" if self.changed else f" ({STOOD[self.act]})")
        judged = self.act in (Act.BLOCK, Act.UNBLOCK) and is_base_repository(self.ref.repository)
        built = f"  what is built on it is judged anew by the rescan that this starts: cscm where {self.ref.short}"
        return "\n".join([how, *(f"  runs from it: {each}" for each in self.running), *([built] if judged else [])])


@dataclass(frozen=True)
class Bench:
    """What a decision is signed and carried out with."""

    evidence: EvidenceStore
    storage: Storage
    present: Present


def decide(
    ref: ImageRef, act: Act, bench: Bench, *, by: str, why: str, now: datetime, only_sign: bool = False
) -> Ruled:
    """Sign what somebody decided about a curated image, and do what follows from it; both only where they are needed.

    It is signed first: an image whose archiving fails is refused at every gate by then. Doing it again does
    what was left undone. With `only_sign` nothing is moved: whoever asks does that. What is said of an
    encrypted copy is said of the image that it is of, for gates know no other; of what is attached to an image
    nothing can be said (`DeclarationInvalid`).
    """
    ref = ref if only_sign else _image(ref, bench)
    changed = rule(ref, act, bench.evidence, bench.storage, by=by, why=why, now=now) is not None
    moved: tuple[Digest, ...] = ()
    if act in (Act.BLOCK, Act.UNBLOCK) and not only_sign:
        moved = _moved(ref, act, bench)
    running = runs_from(ref.digest, bench) if act is Act.BLOCK else ()
    return Ruled(ref=ref, act=act, by=by, why=why, at=now, changed=changed, moved=moved, running=running)


def _image(ref: ImageRef, bench: Bench) -> ImageRef:
    """The image that somebody means."""
    stored = {each.digest: each for each in bench.storage.images(ref.repository)}.get(ref.digest)
    try:
        if stored is None or bench.evidence.verified(ref, TierName.CURATION):
            return ref  # curation says something of an image, and nothing of a copy of it or of what is attached
        if stored.subject:
            raise DeclarationInvalid(
                f"{ref} is attached to {stored.subject}, and is no image itself.\nName that one: "
                f"{ref.repository}@{stored.subject}"
            )
        of = next((each.copy_of for each in bench.present.members(ref.repository) if each.ref == ref), None)
    except (EvidenceInvalid, ClockWrong):
        return ref  # nothing that somebody signed keeps anybody from blocking
    return ref.model_copy(update={"digest": of}) if of else ref


def _moved(ref: ImageRef, act: Act, bench: Bench) -> tuple[Digest, ...]:
    """Archive or restore the image and its encrypted copies, as far as they are there."""
    there = {each.digest: each.status for each in bench.storage.images(ref.repository)}
    wanted = [each for each in (ref, *bench.present.copies(ref)) if each.digest in there]
    if act is Act.BLOCK:
        move = [each for each in wanted if there[each.digest] is not StorageStatus.ARCHIVED]
        for each in move:
            bench.storage.archive(each)
    else:
        move = [each for each in wanted if there[each.digest] is StorageStatus.ARCHIVED]
        for each in move:
            bench.storage.restore(each)
    return tuple(each.digest for each in move)


def runs_from(digest: Digest, bench: Bench) -> tuple[RunsFrom, ...]:
    """What should run from an image now, as itself or as a front, by signed records; with the owners."""
    last = [history[0] for history in histories(bench.present.deployments(None)).values()]
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


def _owner(deployed: Deployed, evidence: EvidenceStore) -> str:
    where = ImageRef(repository=curated_repository(deployed.application), digest=deployed.digest)
    try:
        built = last_provenance(evidence.verified(where, TierName.DEVELOPMENT, PROVENANCE))
    except EvidenceInvalid:
        return ""  # whom to tell is not known; that it runs is
    return built.manifest.owner if built else ""


def approve(
    plan: Digest, yes: bool, evidence: EvidenceStore, repositories: Repositories, *, by: str, why: str, now: datetime
) -> Digest:
    """Sign what somebody decided about a plan; the statement's digest. Its subject is the plan, by its digest."""
    repositories.ensure_repository(PLANS, immutable=True, key=None)
    ruling = Ruling(act=Act.APPROVE if yes else Act.REJECT, by=by, why=why, at=now)
    return evidence.attach(ImageRef(repository=PLANS, digest=plan), LIFECYCLE, ruling.predicate(), now)
