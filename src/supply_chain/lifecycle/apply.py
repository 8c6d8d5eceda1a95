"""Application of a plan: only its steps, and only those whose preconditions still hold.

Each outcome is recorded at once. An interrupted plan is completed by applying it again: nothing is done twice, and
skipped steps stay skipped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Protocol, Self

from pydantic import Field

from supply_chain.errors import UNREADABLE, PlanUnfinished, SupplyChainError
from supply_chain.fleet.hosts import Host, list_observed
from supply_chain.lifecycle.plan import Plan, Step
from supply_chain.lifecycle.preconditions import InUse, Preconditions, Present
from supply_chain.lifecycle.removal_order import AT_ONCE, batch_removals, compute_removal_order
from supply_chain.lifecycle.rules import IN_FORCE, Action
from supply_chain.lifecycle.snapshot import find_in_use
from supply_chain.model.image import Digest, ImageRef, Model, Removal, StorageStatus
from supply_chain.model.registry_ports import ImageArchiver, ManifestRemover
from supply_chain.model.tier import is_base_repository
from supply_chain.text import join_lines, summarize_error

GONE = "ImageNotFound"
"""ECR's code for an image that does not exist."""


class Outcome(StrEnum):
    """The outcome of a step."""

    DONE = "done"
    SKIPPED = "skipped"
    """A precondition of the step does not hold any more."""
    FAILED = "failed"
    """The step is tried again when the plan is applied again."""


class Entry(Model):
    """The record of a step that was tried."""

    ref: ImageRef
    action: Action
    outcome: Outcome
    code: str = Field(default="", description="ECR's code or an error's, if it failed")
    message: str = ""


class Applied(Model):
    """The result of a plan, with an entry for each change."""

    plan: Digest
    entries: tuple[Entry, ...]

    def of(self, outcome: Outcome) -> tuple[Entry, ...]:
        """Return the entries with one outcome."""
        return tuple(each for each in self.entries if each.outcome is outcome)

    def require_finished(self) -> Self:
        """Return the result itself; raise `PlanUnfinished` if a step failed."""
        if failed := self.of(Outcome.FAILED):
            codes = ", ".join(sorted({each.code for each in failed}))
            raise PlanUnfinished(
                f"{len(failed)} of the {len(self.entries)} steps of the plan {self.plan[:19]} failed: {codes}\n"
                "Correct what the codes name, and apply the same plan again; completed steps are not repeated."
            )
        return self

    def __str__(self) -> str:
        return ", ".join(f"{len(self.of(outcome))} {outcome.value}" for outcome in Outcome)


class LifecycleRegistry(ImageArchiver, ManifestRemover, Protocol):
    """The registry operations that change images. Temporary errors are retryable, and lose nothing."""


class PlanJournal(Protocol):
    """The record of the steps of a plan that were tried."""

    def entries(self) -> tuple[Entry, ...]:
        """Return all entries."""

    def add(self, entry: Entry) -> None:
        """Add an entry; it is stored durably on return."""


Blocker = Callable[[ImageRef, str, str], object]
"""Signs a block of an image, with the rule and the reason. The plan archives the image."""


def find_needed(
    plan: Plan, present: Present, hosts: Mapping[str, Host], unknown: Mapping[str, SupplyChainError]
) -> InUse:
    """Return the images of any application that run, that should run now or that a rollback may need.

    `hosts` are those of all environments but the `unknown` ones, with the reason by name.

    The images of reverse proxies are included, also those that the next deployment will use. The hosts are observed
    now: since the inventory was made, a person may have started an earlier image again.
    """
    running, before = find_in_use(present.deployments(None), plan.rollback)
    observed, failed = list_observed(hosts)
    return InUse(
        digests=frozenset({*running, *before, *present.proxies(), *observed}),
        unobserved=tuple(f"{name}: {summarize_error(error)}" for name, error in {**failed, **unknown}.items()),
    )


def find_bases_in_use(plan: Plan, present: Present) -> frozenset[Digest]:
    """Return the bases that existing images are built on, once only steps for bases are left.

    A base that is removed still protects the base that it is built on, which is removed a night later: the first one
    may turn out to stay. If the bases of an image cannot be read, every base that the plan removes or archives is
    returned. If the plan changes no base, nothing is read.
    """
    touched = {
        step.ref.digest
        for step in plan.steps
        if step.action in (Action.AGE_OUT, Action.ARCHIVE) and is_base_repository(step.ref.repository)
    }
    try:
        return present.bases() if touched else frozenset()
    except UNREADABLE:
        return frozenset(touched)


def list_unfinished_entries(
    plan: Plan, repository: str, error: SupplyChainError, journal: PlanJournal
) -> tuple[Entry, ...]:
    """Return the entries of a repository in which an error interrupted the plan; steps without one count as failed."""
    completed, code, text = (
        {each.ref: each for each in list_completed_entries(plan, repository, journal)},
        error.code,
        join_lines(error),
    )
    return tuple(
        completed.get(step.ref)
        or Entry(ref=step.ref, action=step.action, outcome=Outcome.FAILED, code=code, message=text)
        for step in plan.steps_in(repository)
    )


def list_completed_entries(plan: Plan, repository: str, journal: PlanJournal) -> tuple[Entry, ...]:
    """Return the entries of the steps in a repository that were tried so far."""
    entries = {each.ref: each for each in journal.entries()}
    return tuple(entries[step.ref] for step in plan.steps_in(repository) if step.ref in entries)


def apply(
    plan: Plan,
    repository: str,
    in_use: InUse,
    bases: Collection[Digest],
    registry: LifecycleRegistry,
    present: Present,
    block: Blocker,
    journal: PlanJournal,
) -> tuple[Entry, ...]:
    """Apply the steps of a plan in one repository and return an entry for each.

    First, the repository and the evidence, status and deployments of each image are read again. `in_use` are the images
    that run or that other applications need, `bases` the images that others are built on. The caller must make sure
    that nothing of the application is admitted or deployed meanwhile. The image status is read once more just before an
    image is archived or any part of it is removed.

    Referrers are removed before their image, and an index before its children, so that no reader finds a signature
    without an image or an index without its children. If a manifest cannot be removed, those that come after it stay.
    An image is archived before its parts (encrypted copies, children of an index), and these only if it was.

    Raises retryable errors. A step that cannot succeed becomes a failed entry; if the repository cannot be read, every
    step does.
    """
    if repository not in plan.repositories:
        return ()
    recorded = {each.ref: each for each in journal.entries() if each.outcome is not Outcome.FAILED}
    steps = plan.steps_in(repository)
    settled = {ref for ref, entry in recorded.items() if not _was_removed(entry)}
    preconditions = Preconditions(repository, steps, plan, present, in_use, bases, settled)
    entries = {step.ref.digest: recorded[step.ref] for step in steps if step.ref in recorded}
    _Application(repository, steps, registry, preconditions, block, journal, entries).do()
    return tuple(sorted(entries.values(), key=lambda each: str(each.ref)))


@dataclass(frozen=True)
class _Application:
    """The application of a plan to one repository."""

    repository: str
    steps: Sequence[Step]
    registry: LifecycleRegistry
    preconditions: Preconditions
    block: Blocker
    journal: PlanJournal
    entries: dict[Digest, Entry]
    """The entries of the steps so far, by digest."""

    @cached_property
    def parts(self) -> dict[Digest, list[Step]]:
        """The steps that archive the parts of each manifest."""
        parts: dict[Digest, list[Step]] = defaultdict(list)
        for step in self.steps:
            if step.action is not Action.AGE_OUT:
                for owner in step.belongs_to:
                    parts[owner].append(step)
        return parts

    def do(self) -> None:
        """Do the remaining steps; afterwards each step has an entry."""
        left = [step for step in self.steps if step.ref.digest not in self.entries]
        try:
            existing = self.preconditions.existing
        except SupplyChainError as error:
            for step in left:
                self._record_failure(step, error)
            return
        for step in self.steps:
            if (
                step.ref.digest in self.entries
                and _was_removed(self.entries[step.ref.digest])
                and step.ref.digest in existing
            ):
                self._record(step, Outcome.SKIPPED, "it was pushed again after it was removed")
        for step in left:
            if not step.belongs_to or step.action is Action.AGE_OUT:
                self._check_preconditions(step, self.preconditions.changes(step))
        going = [step for step in left if step.action is Action.AGE_OUT]
        closing = [step for step in left if step.action is not Action.AGE_OUT]
        self._hold_back(going)
        self._archive_ready(closing)
        self._remove(going)
        self._archive_ready(closing)  # also parts of removed images

    def _record(self, step: Step, outcome: Outcome, text: str, code: str = "") -> None:
        entry = Entry(ref=step.ref, action=step.action, outcome=outcome, code=code, message=text)
        self.journal.add(entry)
        self.entries[step.ref.digest] = entry

    def _check_preconditions(self, step: Step, changes: Iterator[str]) -> None:
        """Skip a step whose preconditions changed; record a failure if they cannot be read."""
        try:
            why = next(changes, "")
        except SupplyChainError as error:
            self._record_failure(step, error)
        else:
            if why:
                self._record(step, Outcome.SKIPPED, why)

    def _record_failure(self, step: Step, error: SupplyChainError) -> None:
        """Record why a step failed, or raise the error if it is retryable."""
        if error.retryable:
            raise error
        self._record(step, Outcome.FAILED, join_lines(error), error.code)

    def _hold_back(self, steps: Sequence[Step]) -> None:
        """Record steps whose manifest must stay because another one stays; repeat until nothing changes."""
        changed = True
        while changed:
            changed = False
            for step in steps:
                if step.ref.digest not in self.entries and (blocker := next(self._find_blockers(step), None)):
                    why, others = blocker
                    self._record_dependent(step, [self.entries[each] for each in others if each in self.entries], why)
                    changed = True

    def _find_blockers(self, step: Step) -> Iterator[tuple[str, Collection[Digest]]]:
        """Yield why a manifest must stay, and which manifests cause it: owners, or manifests that belong only to it."""
        digest, planned = step.ref.digest, set(step.belongs_to)
        now, member = self.preconditions.belongs.get(digest, set()), self.preconditions.existing.get(digest)
        children = set(member.children if member else ())
        if planned and (since := now - planned):
            yield f"it belongs to {min(since)} now", ()
        if staying := self._staying(planned | now):
            yield f"it belongs to {min(staying)}, which stays", staying
        if attached := self._staying(self.preconditions.belongings.get(digest, set()) - children):
            yield f"{min(attached)} belongs to it and stays", attached
        named = {copy for subject in (member.subjects if member else ()) for copy in self.preconditions.copies[subject]}
        if copies := self._staying(named):
            yield f"it names the image of the encrypted copy {min(copies)}, which stays", copies
        if stranded := {each for each in self._staying(children) if self.preconditions.is_nameless(each)}:
            yield f"its part {min(stranded)} stays", stranded

    def _staying(self, digests: Collection[Digest]) -> set[Digest]:
        """Return which manifests stay as far as known: those with such an outcome, and those not to be removed."""
        existing, going, entries = self.preconditions.existing, self.preconditions.removed, self.entries
        return {
            d for d in digests if (not _was_removed(entries[d]) if d in entries else d in existing and d not in going)
        }

    def _archive_ready(self, steps: Sequence[Step]) -> None:
        """Archive what can be archived, each followed by its parts; parts of images still to be removed wait."""
        for step in steps:
            if step.ref.digest not in self.entries and self.entries.keys() >= self.preconditions.planned.keys() & set(
                step.belongs_to
            ):
                self._archive_image(step)
                self._archive_ready(self.parts.get(step.ref.digest, []))

    def _archive_image(self, step: Step) -> None:
        """Archive an image, after signing its block if the plan says so; archive a part only after its image."""
        owners = [self.entries[digest] for digest in step.belongs_to if digest in self.preconditions.planned]
        if any(each.outcome is not Outcome.DONE for each in owners):
            self._record_dependent(step, owners, "the image that it belongs to is not changed")
            return
        self._check_preconditions(step, self.preconditions.find_changes_since_reading(step))
        if step.ref.digest in self.entries:
            return
        try:
            if step.action is Action.BLOCK and step.rule != IN_FORCE:
                self.block(step.ref, step.rule, step.reason)
            if self.preconditions.existing[step.ref.digest].stored.status is not StorageStatus.ARCHIVED:
                self.registry.archive(step.ref)
        except SupplyChainError as error:
            self._record_failure(step, error)
        else:
            self._record(step, Outcome.DONE, step.reason)

    def _remove(self, steps: Sequence[Step]) -> None:
        """Remove manifests in batches, related ones together, after checking the preconditions of each again."""
        waiting = {step.ref.digest: step for step in steps if step.ref.digest not in self.entries}
        first = compute_removal_order(waiting, self.preconditions.existing)
        for batch in batch_removals(waiting, first):
            self.preconditions.refresh()
            for step in batch:
                self._check_preconditions(step, self.preconditions.find_changes_since_reading(step))
            self._hold_back(batch)
            self._remove_in_turn(batch, first)

    def _remove_in_turn(self, steps: Sequence[Step], first: Mapping[Digest, set[Digest]]) -> None:
        """Remove manifests in batches, each after those that must be removed before it."""
        waiting = {step.ref.digest: step for step in steps if step.ref.digest not in self.entries}
        while waiting:
            stuck = [
                d for d in waiting if any(o in self.entries and not _was_removed(self.entries[o]) for o in first[d])
            ]
            for digest in stuck:
                before = [self.entries[o] for o in first[digest] if o in self.entries]
                self._record_dependent(
                    waiting.pop(digest), before, "a manifest that must be removed first still exists"
                )
            if stuck:
                continue  # their dependents are stuck now
            ready = [d for d in waiting if not any(other in waiting for other in first[d])]
            # manifests that belong to each other in a cycle are removed together
            batch = (ready or list(waiting))[:AT_ONCE]
            try:
                removals = self.registry.delete(self.repository, batch)
            except SupplyChainError as error:
                for digest in batch:
                    self._record_failure(waiting.pop(digest), error)
            else:
                for removal in removals:
                    self._record_removal(waiting.pop(removal.name), removal)

    def _record_dependent(self, step: Step, others: Sequence[Entry], text: str) -> None:
        """Record a step that depends on others that are not done: as failed if one of those failed, else as skipped."""
        code = next((each.code for each in others if each.outcome is Outcome.FAILED), "")
        self._record(step, Outcome.FAILED if code else Outcome.SKIPPED, text, code)

    def _record_removal(self, step: Step, removal: Removal) -> None:
        if removal.code is None or removal.code == GONE:
            self._record(step, Outcome.DONE, "it was gone already" if removal.code else step.reason)
        else:
            self._record(step, Outcome.FAILED, f"ECR did not remove it: {removal.reason}", removal.code)


def _was_removed(entry: Entry) -> bool:
    return entry.outcome is Outcome.DONE and entry.action is Action.AGE_OUT
