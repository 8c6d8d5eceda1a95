"""Carrying out a plan: what it says and nothing else, and of that only what still rests on what it rested on.

What is done is written down as it is done. A plan that was interrupted is finished by carrying it out again:
nothing is done twice, and what was skipped stays so.
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
from supply_chain.lifecycle.looking import Looked, Present
from supply_chain.lifecycle.plan import Plan, Step
from supply_chain.lifecycle.removing import AT_ONCE, order, together
from supply_chain.lifecycle.rules import STANDS, Action
from supply_chain.lifecycle.stock import in_use
from supply_chain.model.image import Digest, Frozen, ImageRef, Removal, StorageStatus
from supply_chain.model.tier import is_base_repository
from supply_chain.text import in_a_line

GONE = "ImageNotFound"
"""ECR's code for an image that is not there."""


class Outcome(StrEnum):
    """What came of one step."""

    DONE = "done"
    SKIPPED = "skipped"
    """What the plan rested on is not so any more."""
    FAILED = "failed"
    """It is tried again when the plan is carried out again."""


class Entry(Frozen):
    """One step as it went."""

    ref: ImageRef
    action: Action
    outcome: Outcome
    code: str = Field(default="", description="why it failed: ECR's code, or an error's")
    said: str = Field(default="", description="a sentence")


class Applied(Frozen):
    """What came of a plan: an entry for everything that it changes."""

    plan: Digest
    entries: tuple[Entry, ...]

    def of(self, outcome: Outcome) -> tuple[Entry, ...]:
        """The entries with one outcome."""
        return tuple(each for each in self.entries if each.outcome is outcome)

    def finished(self) -> Self:
        """Itself; `PlanUnfinished` where something failed."""
        if failed := self.of(Outcome.FAILED):
            codes = ", ".join(sorted({each.code for each in failed}))
            raise PlanUnfinished(
                f"{len(failed)} of the {len(self.entries)} steps of the plan {self.plan[:19]} failed: {codes}\n"
                "Correct what the codes name, and carry the same plan out again; what is done stays done."
            )
        return self

    def __str__(self) -> str:
        return ", ".join(f"{len(self.of(outcome))} {outcome.value}" for outcome in Outcome)


class Registry(Protocol):
    """What changes images. What may succeed next time raises a retryable error, and nothing is lost by that."""

    def archive(self, ref: ImageRef) -> None: ...

    def delete(self, repository: str, digests: Sequence[Digest]) -> tuple[Removal, ...]:
        """What became of each."""


class Journal(Protocol):
    """What was done of a plan."""

    def entries(self) -> tuple[Entry, ...]: ...

    def add(self, entry: Entry) -> None:
        """Written for good when it returns."""


Blocker = Callable[[ImageRef, str, str], object]
"""Signs that an image is blocked, by which rule and why; archiving it is left to the plan."""


def needed_anywhere(plan: Plan, present: Present) -> frozenset[Digest]:
    """What should run now or a rollback may need, of whichever application: an image may be another's front, or is
    about to be."""
    running, before = in_use(present.deployments(None), plan.rollback)
    return frozenset({*running, *before, *present.proxies()})


def built_on(plan: Plan, present: Present) -> frozenset[Digest]:
    """The bases of whatever is there, once nothing but bases is left to be carried out.

    A base that goes keeps the one that it is built on, which goes a night later: it may turn out to stay. Where it
    cannot be read on what an image is built, every base that the plan takes away counts; where it takes none, nothing
    is read.
    """
    taken = {
        step.ref.digest
        for step in plan.steps
        if step.action in (Action.AGE_OUT, Action.ARCHIVE) and is_base_repository(step.ref.repository)
    }
    try:
        return present.bases() if taken else frozenset()
    except UNREADABLE:
        return frozenset(taken)


def unfinished(plan: Plan, repository: str, error: SupplyChainError, journal: Journal) -> tuple[Entry, ...]:
    """What is told of a repository where an error keeps a plan from being finished: what was done; the rest failed."""
    known, code, said = {each.ref: each for each in done(plan, repository, journal)}, error.code, in_a_line(error)
    return tuple(
        known.get(step.ref) or Entry(ref=step.ref, action=step.action, outcome=Outcome.FAILED, code=code, said=said)
        for step in plan.steps_in(repository)
    )


def done(plan: Plan, repository: str, journal: Journal) -> tuple[Entry, ...]:
    """What came of the steps of a plan in a repository so far, as far as they were begun."""
    known = {each.ref: each for each in journal.entries()}
    return tuple(known[step.ref] for step in plan.steps_in(repository) if step.ref in known)


def apply(
    plan: Plan,
    repository: str,
    needed: Collection[Digest],
    bases: Collection[Digest],
    registry: Registry,
    present: Present,
    block: Blocker,
    journal: Journal,
) -> tuple[Entry, ...]:
    """Carry out what a plan changes in one repository; what came of each step.

    The repository is read again first, and each image's evidence, standing and deployments; `needed` is what other
    applications need, and `bases` what images are built on by now. Whoever calls sees to it that nothing of the
    application is admitted or deployed meanwhile. How an image stands is read once more just before it is closed,
    or anything of it removed. What is attached to an image is removed before it, and an index before what it
    consists of, so that whoever looks in between finds no signature without an image and no index without its
    parts; where one cannot be removed, what comes after it stays. An image is closed before its parts, and they
    only where it was. Raises what is retryable; what cannot succeed is an entry, and where the repository cannot be
    read each step is one.
    """
    if repository not in plan.repositories:
        return ()
    known = {each.ref: each for each in journal.entries() if each.outcome is not Outcome.FAILED}
    steps = plan.steps_in(repository)
    settled = {ref for ref, entry in known.items() if not _gone(entry)}
    looked = Looked(repository, steps, plan, present, needed, bases, settled)
    entries = {step.ref.digest: known[step.ref] for step in steps if step.ref in known}
    _Work(repository, steps, registry, looked, block, journal, entries).do()
    return tuple(sorted(entries.values(), key=lambda each: str(each.ref)))


@dataclass(frozen=True)
class _Work:
    """What a plan changes in one repository."""

    repository: str
    steps: Sequence[Step]
    registry: Registry
    looked: Looked
    block: Blocker
    journal: Journal
    entries: dict[Digest, Entry]
    """What came of each step so far."""

    @cached_property
    def parts(self) -> dict[Digest, list[Step]]:
        """What is closed with each manifest."""
        found: dict[Digest, list[Step]] = defaultdict(list)
        for step in self.steps:
            if step.action is not Action.AGE_OUT:
                for owner in step.belongs_to:
                    found[owner].append(step)
        return found

    def do(self) -> None:
        """Do what is left to do; then there is an entry for each step."""
        left = [step for step in self.steps if step.ref.digest not in self.entries]
        try:
            there = self.looked.there
        except SupplyChainError as error:
            for step in left:
                self._failed(step, error)
            return
        for step in self.steps:
            if step.ref.digest in self.entries and _gone(self.entries[step.ref.digest]) and step.ref.digest in there:
                self._keep(step, Outcome.SKIPPED, "it was pushed again after it was removed")
        for step in left:
            if not step.belongs_to or step.action is Action.AGE_OUT:
                self._look(step, self.looked.changes(step))
        going = [step for step in left if step.action is Action.AGE_OUT]
        closing = [step for step in left if step.action is not Action.AGE_OUT]
        self._hold_back(going)
        self._close(closing)
        self._remove(going)
        self._close(closing)  # what is a part of what went, too

    def _keep(self, step: Step, outcome: Outcome, said: str, code: str = "") -> None:
        entry = Entry(ref=step.ref, action=step.action, outcome=outcome, code=code, said=said)
        self.journal.add(entry)
        self.entries[step.ref.digest] = entry

    def _look(self, step: Step, changes: Iterator[str]) -> None:
        """Skip an image of which the plan's word does not hold any more; one of which that cannot be told failed."""
        try:
            why = next(changes, "")
        except SupplyChainError as error:
            self._failed(step, error)
        else:
            if why:
                self._keep(step, Outcome.SKIPPED, why)

    def _failed(self, step: Step, error: SupplyChainError) -> None:
        """Keep why a step failed, or raise what may succeed next time."""
        if error.retryable:
            raise error
        self._keep(step, Outcome.FAILED, in_a_line(error), error.code)

    def _hold_back(self, steps: Sequence[Step]) -> None:
        """Skip what may not go because of another that stays, until nothing changes."""
        held = True
        while held:
            held = False
            for step in steps:
                if step.ref.digest not in self.entries and (found := next(self._held_back(step), None)):
                    why, others = found
                    self._stuck(step, [self.entries[each] for each in others if each in self.entries], why)
                    held = True

    def _held_back(self, step: Step) -> Iterator[tuple[str, Collection[Digest]]]:
        """Why a manifest stays because of others, and which: what it belongs to, or what belongs to it alone."""
        digest, planned = step.ref.digest, set(step.belongs_to)
        now, member = self.looked.belongs.get(digest, set()), self.looked.there.get(digest)
        children = set(member.children if member else ())
        if planned and (since := now - planned):
            yield f"it belongs to {min(since)} since", ()
        if staying := self._staying(planned | now):
            yield f"{min(staying)}, which it belongs to, stays", staying
        if attached := self._staying(self.looked.belongings.get(digest, set()) - children):
            yield f"{min(attached)}, which belongs to it, stays", attached
        named = {copy for subject in (member.subjects if member else ()) for copy in self.looked.copies[subject]}
        if copies := self._staying(named):
            yield f"{min(copies)}, of which it says what that is a copy of, stays", copies
        if stranded := {each for each in self._staying(children) if self.looked.nameless(each)}:
            yield f"{min(stranded)}, which it consists of, stays", stranded

    def _staying(self, digests: Collection[Digest]) -> set[Digest]:
        """Which of them stay, as far as that is known: what turned out to, and what the plan does not remove."""
        there, going, entries = self.looked.there, self.looked.going, self.entries
        return {d for d in digests if (not _gone(entries[d]) if d in entries else d in there and d not in going)}

    def _close(self, steps: Sequence[Step]) -> None:
        """Close what is to be closed, and right after it what is a part of it; what is one of what still goes waits."""
        for step in steps:
            if step.ref.digest not in self.entries and self.entries.keys() >= self.looked.planned.keys() & set(
                step.belongs_to
            ):
                self._closed(step)
                self._close(self.parts.get(step.ref.digest, []))

    def _closed(self, step: Step) -> None:
        """Archive an image, and sign before that that it is blocked, where the plan says so; a part after its image."""
        owners = [self.entries[digest] for digest in step.belongs_to if digest in self.looked.planned]
        if any(each.outcome is not Outcome.DONE for each in owners):
            self._stuck(step, owners, "what it belongs to stays as it is")
            return
        self._look(step, self.looked.since(step))
        if step.ref.digest in self.entries:
            return
        try:
            if step.action is Action.BLOCK and step.rule != STANDS:
                self.block(step.ref, step.rule, step.reason)
            if self.looked.there[step.ref.digest].stored.status is not StorageStatus.ARCHIVED:
                self.registry.archive(step.ref)
        except SupplyChainError as error:
            self._failed(step, error)
        else:
            self._keep(step, Outcome.DONE, step.reason)

    def _remove(self, steps: Sequence[Step]) -> None:
        """Remove what goes, some images at a time with all that belongs to them: each is looked at before that."""
        waiting = {step.ref.digest: step for step in steps if step.ref.digest not in self.entries}
        first = order(waiting, self.looked.there)
        for batch in together(waiting, first):
            self.looked.look_again()
            for step in batch:
                self._look(step, self.looked.since(step))
            self._hold_back(batch)
            self._remove_in_turn(batch, first)

    def _remove_in_turn(self, steps: Sequence[Step], first: Mapping[Digest, set[Digest]]) -> None:
        """Remove a batch at a time, each after what has to go before it."""
        waiting = {step.ref.digest: step for step in steps if step.ref.digest not in self.entries}
        while waiting:
            stuck = [d for d in waiting if any(o in self.entries and not _gone(self.entries[o]) for o in first[d])]
            for digest in stuck:
                before = [self.entries[o] for o in first[digest] if o in self.entries]
                self._stuck(waiting.pop(digest), before, "what has to go before it is still there")
            if stuck:
                continue  # what waits for these is stuck by now
            ready = [d for d in waiting if not any(other in waiting for other in first[d])]
            # what belongs to each other in a circle goes at once
            batch = (ready or list(waiting))[:AT_ONCE]
            try:
                removals = self.registry.delete(self.repository, batch)
            except SupplyChainError as error:
                for digest in batch:
                    self._failed(waiting.pop(digest), error)
            else:
                for removal in removals:
                    self._removed(waiting.pop(removal.name), removal)

    def _stuck(self, step: Step, others: Sequence[Entry], said: str) -> None:
        """What it depends on is not done: it waits as long as that may be done when the plan is done again."""
        code = next((each.code for each in others if each.outcome is Outcome.FAILED), "")
        self._keep(step, Outcome.FAILED if code else Outcome.SKIPPED, said, code)

    def _removed(self, step: Step, removal: Removal) -> None:
        if removal.code is None or removal.code == GONE:
            self._keep(step, Outcome.DONE, "it was gone already" if removal.code else step.reason)
        else:
            self._keep(step, Outcome.FAILED, f"ECR did not remove it: {removal.reason}", removal.code)


def _gone(entry: Entry) -> bool:
    return entry.outcome is Outcome.DONE and entry.action is Action.AGE_OUT
