"""Preconditions: checks, while a plan is applied, whether its steps may still be done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from typing import Protocol

from pydantic import Field

from supply_chain.errors import UNREADABLE
from supply_chain.evidence.image_status import ImageStatus
from supply_chain.execution.docker import PROXY
from supply_chain.lifecycle.plan import BLOCKED, Plan, Step
from supply_chain.lifecycle.rules import IN_FORCE, Action
from supply_chain.lifecycle.snapshot import (
    EvidenceSummary,
    Member,
    PastDeployment,
    find_in_use,
    map_belongings,
    map_owners,
)
from supply_chain.model.image import Digest, ImageRef, Model, StorageStatus, StoredManifest, parse_application_name
from supply_chain.model.tier import is_base_repository


class InUse(Model):
    """The images that run or may be needed, as read just before a plan is applied."""

    digests: frozenset[Digest]
    unobserved: tuple[str, ...] = Field(
        description="hosts, clusters and environments of which it is unknown what runs there, each with the reason"
    )


class DeploymentLister(Protocol):
    """Lists deployments, and what the manifests of a repository belong to."""

    def members(self, repository: str) -> tuple[Member, ...]:
        """Return every manifest of a repository, archived ones too, with what it belongs to."""

    def deployments(self, application: str | None) -> tuple[PastDeployment, ...]:
        """Return all deployments by signed records; of one application, or of all if None."""


class Present(DeploymentLister, Protocol):
    """The present state, read again from its sources."""

    def proxies(self) -> Mapping[Digest, object]:
        """Return the reverse proxy images that environments name."""

    def find_image_status(self, ref: ImageRef) -> ImageStatus:
        """Return the status of an image: its blocks and holds."""

    def summarize_evidence(self, ref: ImageRef, stored: StoredManifest) -> EvidenceSummary:
        """Return what signed evidence says of an image."""

    def bases(self) -> frozenset[Digest]:
        """Return the bases that the existing images are built on."""


@dataclass(frozen=True)
class Preconditions:
    """The present state of a repository, compared with the steps of a plan in it."""

    repository: str
    steps: Sequence[Step]
    plan: Plan
    present: Present
    in_use: InUse
    bases: Collection[Digest]
    settled: Collection[ImageRef]
    """The manifests that an earlier run finished with and did not remove."""

    @cached_property
    def existing(self) -> dict[Digest, Member]:
        """The manifests that the repository has now."""
        return {member.ref.digest: member for member in self.present.members(self.repository)}

    @cached_property
    def planned(self) -> dict[Digest, Step]:
        """The steps of the plan in this repository, by digest."""
        return {step.ref.digest: step for step in self.steps}

    @cached_property
    def removed(self) -> set[Digest]:
        """The digests that the plan removes."""
        return {step.ref.digest for step in self.steps if step.action is Action.AGE_OUT}

    @cached_property
    def needed(self) -> set[Digest]:
        """The images that run, should run or that a rollback may need, here or anywhere."""
        application = None if is_base_repository(self.repository) else parse_application_name(self.repository)
        running, before = find_in_use(self.present.deployments(application), self.plan.rollback)
        return {*self.in_use.digests, *running, *before, *self.present.proxies()}

    def refresh(self) -> None:
        """Read again which reverse proxies are needed.

        No lock keeps other runs from deploying them meanwhile.
        """
        if self.repository == PROXY:
            vars(self).pop("needed", None)

    @cached_property
    def short_of_images(self) -> frozenset[str]:
        """Environments in which fewer of the images that stay can be used now than the plan left there."""
        stays: dict[str, list[Step]] = defaultdict(list)
        for step in sorted(self.plan.steps, key=lambda step: step.pushed_at, reverse=True):
            if step.ref.repository == self.repository and step.usable:
                for environment in step.places:
                    stays[environment].append(step)
        usable, newest = cache(self._is_usable), self.plan.newest
        left = {place: len(tuple(islice(filter(usable, steps), newest))) for place, steps in stays.items()}
        return frozenset(place for place, steps in stays.items() if left[place] < min(newest, len(steps)))

    def _is_usable(self, step: Step) -> bool:
        member = self.existing.get(step.ref.digest)
        if member is None or member.stored.status is not StorageStatus.ACTIVE:
            return False
        try:
            return (
                not self.present.find_image_status(step.ref).block
                and self.present.summarize_evidence(step.ref, member.stored).released
            )
        except UNREADABLE:
            return False

    @cached_property
    def belongs(self) -> dict[Digest, set[Digest]]:
        """What each manifest belongs to now."""
        return _by_digest(map_owners(self.existing.values()))

    @cached_property
    def belongings(self) -> dict[Digest, set[Digest]]:
        """What belongs to each manifest now."""
        return _by_digest(map_belongings(self.existing.values()))

    @cached_property
    def copies(self) -> defaultdict[Digest, set[Digest]]:
        """The existing encrypted copies of each image, also of images that are gone."""
        copies: defaultdict[Digest, set[Digest]] = defaultdict(set)
        for digest, member in self.existing.items():
            if member.copy_of:
                copies[member.copy_of].add(digest)
        return copies

    def changes(self, step: Step) -> Iterator[str]:
        """Yield what changed since the plan was made and prevents a step, in sentences."""
        digest, member = step.ref.digest, self.existing.get(step.ref.digest)
        status = self._read_status(step)
        if member is None:
            if step.action is not Action.AGE_OUT:
                yield "it no longer exists"
            return
        stored = member.stored
        yield from self._compare_registry(step, member)
        yield from self._compare_status(step, status)
        if step.evidence_summary and not archives_again(step) and not self._has_begun(step):
            yield from self.present.summarize_evidence(step.ref, stored).describe_changes(step.evidence_summary)
        if not archives_again(step):
            yield from self._check_use(step)
        if step.action in (Action.AGE_OUT, Action.ARCHIVE):
            if digest in self.bases:
                yield "an image that still exists is built on it, or may be"
            if (
                step.evidence_summary
                and step.evidence_summary.released
                and self.short_of_images.intersection(step.places)
            ):
                yield "fewer of the remaining images can be used now than the plan requires"
        if step.action is Action.AGE_OUT:
            yield from self._check_owners(step)
            yield from self._check_references(step)

    def _compare_registry(self, step: Step, member: Member) -> Iterator[str]:
        """Yield what changed about an image in the registry."""
        stored = member.stored
        if stored.tags != step.tags:
            yield f"its tags are {', '.join(stored.tags) or 'none'} now"
        if stored.pushed_at != step.pushed_at:
            yield "it was pushed again"
        if step.action is not Action.BLOCK and not (member.subjects or member.children):
            copies = [self.planned[each] for each in sorted(self.copies[step.ref.digest]) if each in self.planned]
            for each in (step, *copies):  # for an index or a referrer, our own read is a pull
                if (now := self.existing.get(each.ref.digest)) and now.stored.pulled_at != each.pulled_at:
                    yield (
                        "it was pulled after the plan"
                        if each is step
                        else f"its encrypted copy {each.ref} was pulled after the plan"
                    )
        archived = stored.status is StorageStatus.ARCHIVED and step.action is not Action.AGE_OUT  # already done
        if stored.status is not step.status and not archived:
            yield f"it is {stored.status} now"

    def _has_begun(self, step: Step) -> bool:
        """Return whether the removal of an image's referrers, and so of its evidence, has begun.

        A run that was killed checked the evidence before it began.
        """
        return step.action is Action.AGE_OUT and not self.existing.keys() >= set(step.dependents)

    def find_changes_since_reading(self, step: Step) -> Iterator[str]:
        """Yield what changed since the repository was read, to check just before a step is done."""
        if not step.belongs_to or step.action is Action.AGE_OUT:
            yield from self._compare_status(step, self._read_status(step))
            if not step.referrer and not archives_again(step):
                yield from self._check_use(step)
            if step.action is Action.AGE_OUT:
                yield from self._check_owners(step)
            return
        if step.ref.digest not in self.existing:
            yield "it no longer exists"
        if since := self.belongs.get(step.ref.digest, set()) - set(step.belongs_to):
            yield f"it belongs to {min(since)} now"
        looked_at = {s.ref.digest for s in self.steps if s.ref not in self.settled}
        for owner in sorted(set(step.belongs_to) - looked_at):
            yield from self._check_owner(step.ref.with_digest(owner))

    def _check_owner(self, owner: ImageRef) -> Iterator[str]:
        """Yield why a part may not be archived: its image, archived earlier, was restored, unblocked or held since."""
        member, status, before = (
            self.existing.get(owner.digest),
            self.present.find_image_status(owner),
            self.plan.step(owner),
        )
        if member is None or member.stored.status is not StorageStatus.ARCHIVED:
            yield f"it belongs to {owner.digest}, which is no longer archived"
        if before and (before.action is Action.BLOCK or before.rule == BLOCKED) and status.block is None:
            yield f"it belongs to {owner.digest}, which somebody unblocked"
        if status.hold and status.block is None:
            yield f"it belongs to {owner.digest}, which is held {status.hold}"

    def _read_status(self, step: Step) -> ImageStatus:
        """Return the status of an image; a referrer has no status of its own."""
        member = self.existing.get(step.ref.digest)
        return ImageStatus() if member and member.subjects else self.present.find_image_status(step.ref)

    def _compare_status(self, step: Step, status: ImageStatus) -> Iterator[str]:
        if archives_again(step):
            if status.block is None:
                yield "somebody unblocked it"
            return
        if status.hold:
            yield f"it is held {status.hold}"
        outlived = step.action is Action.AGE_OUT and status.block is not None and status.block.rule
        if status.block and step.action is not Action.BLOCK and not outlived:
            yield f"it is blocked {status.block}"
        if status.unblock and step.action is Action.BLOCK:
            yield f"it was unblocked {status.unblock}"

    def _check_use(self, step: Step) -> Iterator[str]:
        if step.ref.digest in self.needed:
            yield "it runs or should run, or a rollback may need it"
        elif self.in_use.unobserved:
            yield f"it is unknown whether it runs: {'; '.join(self.in_use.unobserved)}"

    def _check_owners(self, step: Step) -> Iterator[str]:
        """Yield why the remains of an image that is gone stay: if the image is pushed again, they vouch for it."""
        member = self.existing.get(step.ref.digest)
        for owner in member.of if member else ():
            if owner in self.existing:
                continue
            if owner in self.needed:
                yield f"the removed image {owner} runs, should run, or may be needed for a rollback"
            status = self.present.find_image_status(step.ref.with_digest(owner))
            if status.hold or status.block:
                decided = f"held {status.hold}" if status.hold else f"blocked {status.block}"
                yield f"the removed image {owner} is {decided}"

    def _check_references(self, step: Step) -> Iterator[str]:
        digest = step.ref.digest
        if unknown := self.belongings.get(digest, set()) - set(step.dependents):
            yield f"{min(unknown)} belongs to it now"
        if staying := self.belongs.get(digest, set()) - self.removed:
            yield f"it belongs to {min(staying)} now"

    def is_nameless(self, digest: Digest) -> bool:
        """Return whether a manifest has no tag and belongs only to manifests that are removed."""
        stays = self.belongs.get(digest, set()) - self.removed
        return digest in self.existing and not self.existing[digest].stored.tags and not stays


def _by_digest(relations: Mapping[ImageRef, Iterable[ImageRef]]) -> dict[Digest, set[Digest]]:
    """Return the same mapping for one repository, by digest."""
    return {ref.digest: {other.digest for other in others} for ref, others in relations.items()}


def archives_again(step: Step) -> bool:
    """Return whether a step archives an image again that is already blocked.

    Such a step is done even if the image runs; it never removes anything.
    """
    return step.rule == IN_FORCE and step.action is Action.BLOCK
