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
from typing import Protocol

from pydantic import Field

from supply_chain.errors import UNREADABLE, SupplyChainError
from supply_chain.evidence.standing import Standing
from supply_chain.image import Digest, Frozen, ImageRef, Removal, StorageStatus, StoredManifest, application_of
from supply_chain.lifecycle.plan import BLOCKED, Plan, Step
from supply_chain.lifecycle.rules import STANDS, Action
from supply_chain.lifecycle.stock import Deployed, Evidenced, Member, in_use
from supply_chain.shown import in_a_line
from supply_chain.tier import is_base_repository

AT_ONCE = 100
"""Manifests that are removed by one call (ECR API, BatchDeleteImage)."""
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

    def __str__(self) -> str:
        return ", ".join(f"{len(self.of(outcome))} {outcome.value}" for outcome in Outcome)


class Registry(Protocol):
    """What changes images. What may succeed next time raises a retryable error, and nothing is lost by that."""

    def archive(self, ref: ImageRef) -> None: ...

    def delete(self, repository: str, digests: Sequence[Digest]) -> tuple[Removal, ...]:
        """What became of each."""


class Present(Protocol):
    """What is so now, read anew from where it is said."""

    def members(self, repository: str) -> tuple[Member, ...]:
        """Every manifest of a repository, archived ones too, and what belongs to what."""

    def deployments(self, application: str | None) -> tuple[Deployed, ...]:
        """What was ever deployed by signed records; of one application, or of all."""

    def standing(self, ref: ImageRef) -> Standing: ...

    def evidenced(self, ref: ImageRef, stored: StoredManifest) -> Evidenced: ...

    def bases(self) -> frozenset[Digest]:
        """On which bases the images are built that are there."""


class Journal(Protocol):
    """What was done of a plan."""

    def entries(self) -> tuple[Entry, ...]: ...

    def add(self, entry: Entry) -> None:
        """Written for good when it returns."""


Blocker = Callable[[ImageRef, str, str], object]
"""Signs that an image is blocked, by which rule and why; archiving it is left to the plan."""


def needed_anywhere(plan: Plan, present: Present) -> frozenset[Digest]:
    """What should run now or a rollback may need, of whichever application: an image may be another's front."""
    running, before = in_use(present.deployments(None), plan.rollback)
    return frozenset({*running, *before})


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
    application is deployed meanwhile. How an image stands is read once more just before it is closed, or anything of
    it removed. What is attached to an image is removed before it, and an index before what it consists of, so that
    whoever looks in between finds no signature without an image and no index without its parts; where one cannot be
    removed, what comes after it stays. An image is closed before its parts, and they only where it was. Raises what is
    retryable; what cannot succeed is an entry.
    """
    if repository not in plan.repositories:
        return ()
    known = {each.ref: each for each in journal.entries() if each.outcome is not Outcome.FAILED}
    steps = [step for step in plan.steps if step.touches and step.ref.repository == repository]
    entries = _Work(repository, steps, plan, registry, present, block, journal, known, needed, bases).done()
    return tuple(sorted(entries, key=lambda each: str(each.ref)))


@dataclass(frozen=True)
class _Work:
    """What a plan changes in one repository."""

    repository: str
    steps: Sequence[Step]
    plan: Plan
    registry: Registry
    present: Present
    block: Blocker
    journal: Journal
    known: Mapping[ImageRef, Entry]
    needed_before: Collection[Digest]
    bases: Collection[Digest]

    @cached_property
    def there(self) -> dict[Digest, Member]:
        """What the repository holds now."""
        return {member.ref.digest: member for member in self.present.members(self.repository)}

    @cached_property
    def planned(self) -> set[Digest]:
        """What the plan changes."""
        return {step.ref.digest for step in self.steps}

    @cached_property
    def going(self) -> set[Digest]:
        """What the plan removes."""
        return {step.ref.digest for step in self.steps if step.action is Action.AGE_OUT}

    @cached_property
    def parts(self) -> dict[Digest, list[Step]]:
        """What is closed with each manifest."""
        found: dict[Digest, list[Step]] = defaultdict(list)
        for step in self.steps:
            if step.action is not Action.AGE_OUT:
                for owner in step.belongs_to:
                    found[owner].append(step)
        return found

    @cached_property
    def needed(self) -> set[Digest]:
        """What should run now or a rollback may need, here or anywhere."""
        application = None if is_base_repository(self.repository) else application_of(self.repository)
        running, before = in_use(self.present.deployments(application), self.plan.rollback)
        return {*self.needed_before, *running, *before}

    @cached_property
    def deserted(self) -> bool:
        """Whether there were images to be used in place of what goes, and none of them may be by now."""
        stays = [
            step
            for step in self.plan.steps
            if step.ref.repository == self.repository and not step.touches and step.evidenced and step.evidenced.vended
        ]
        newest_first = sorted(stays, key=lambda step: step.pushed_at, reverse=True)
        return bool(stays) and not any(self._usable(step) for step in newest_first)

    def _usable(self, step: Step) -> bool:
        member = self.there.get(step.ref.digest)
        if member is None or member.stored.status is not StorageStatus.ACTIVE:
            return False
        try:
            return not self.present.standing(step.ref).block and self.present.evidenced(step.ref, member.stored).vended
        except UNREADABLE:
            return False

    @cached_property
    def belongs(self) -> dict[Digest, set[Digest]]:
        """What each manifest belongs to now."""
        found: dict[Digest, set[Digest]] = defaultdict(set)
        for member in self.there.values():
            for one, owner in member.belonging:
                if owner in self.there:
                    found[one].add(owner)
        return found

    @cached_property
    def belongings(self) -> dict[Digest, set[Digest]]:
        """What belongs to each manifest now, and is there."""
        found: dict[Digest, set[Digest]] = defaultdict(set)
        for digest, owners in self.belongs.items():
            if digest in self.there:
                for owner in owners:
                    found[owner].add(digest)
        return found

    def done(self) -> list[Entry]:
        """Do what is left to do; an entry for each step."""
        entries = {step.ref.digest: self.known[step.ref] for step in self.steps if step.ref in self.known}
        left = [step for step in self.steps if step.ref.digest not in entries]
        for step in self.steps:
            if step.ref.digest in entries and _gone(entries[step.ref.digest]) and step.ref.digest in self.there:
                self._keep(entries, step, Outcome.SKIPPED, "it was pushed again after it was removed")
        for step in left:
            if not step.belongs_to or step.action is Action.AGE_OUT:
                self._look(entries, step, self._changes(step))
        going = [step for step in left if step.action is Action.AGE_OUT]
        closing = [step for step in left if step.action is not Action.AGE_OUT]
        self._hold_back(entries, going)
        self._close(entries, closing)
        self._remove(entries, going)
        self._close(entries, closing)  # what is a part of what went, too
        return list(entries.values())

    def _keep(self, entries: dict[Digest, Entry], step: Step, outcome: Outcome, said: str, code: str = "") -> None:
        entry = Entry(ref=step.ref, action=step.action, outcome=outcome, code=code, said=said)
        self.journal.add(entry)
        entries[step.ref.digest] = entry

    def _look(self, entries: dict[Digest, Entry], step: Step, changes: Iterator[str]) -> None:
        """Skip an image of which the plan's word does not hold any more; one of which that cannot be told failed."""
        try:
            why = next(changes, "")
        except SupplyChainError as error:
            self._failed(entries, step, error)
        else:
            if why:
                self._keep(entries, step, Outcome.SKIPPED, why)

    def _failed(self, entries: dict[Digest, Entry], step: Step, error: SupplyChainError) -> None:
        """Keep why a step failed, or raise what may succeed next time."""
        if error.retryable:
            raise error
        self._keep(entries, step, Outcome.FAILED, in_a_line(error), error.code)

    def _changes(self, step: Step) -> Iterator[str]:
        digest, member = step.ref.digest, self.there.get(step.ref.digest)
        stands = self._standing(step)
        if member is None:
            if step.action is not Action.AGE_OUT:
                yield "it is not there any more"
            return
        stored = member.stored
        if stored.tags != step.tags:
            yield f"its tags are {', '.join(stored.tags) or 'none'} now"
        if stored.pushed_at != step.pushed_at:
            yield "it was pushed again"
        ours = member.subject or member.children or step.action is Action.BLOCK
        if stored.pulled_at != step.pulled_at and not ours:
            yield "it was pulled since"  # of an index, and of what is attached, our own look at it is a pull
        archived = stored.status is StorageStatus.ARCHIVED and step.action is not Action.AGE_OUT  # done already
        if stored.status is not step.status and not archived:
            yield f"it is {stored.status} now"
        yield from self._stands(step, stands)
        if step.evidenced and not _stands(step) and not self._begun(step):
            yield from self.present.evidenced(step.ref, stored).otherwise(step.evidenced)
        if digest in self.needed and not _stands(step):
            yield "it should run, or is what ran before"
        if step.action in (Action.AGE_OUT, Action.ARCHIVE):
            if digest in self.bases:
                yield "an image that is still there is built on it, or may be"
            if step.evidenced and step.evidenced.vended and self.deserted:
                yield "none of the images that stay may be used any more"
        if step.action is Action.AGE_OUT:
            yield from self._referenced(step)

    def _begun(self, step: Step) -> bool:
        """Whether what is attached to an image is going already, and the evidence about it with that: a killed run
        looked at it before it began."""
        return step.action is Action.AGE_OUT and not self.there.keys() >= set(step.depends)

    def _since(self, step: Step) -> Iterator[str]:
        """What has become otherwise since the repository was looked over, for just before a step is done."""
        if not step.belongs_to or step.action is Action.AGE_OUT:
            yield from self._stands(step, self._standing(step))
            return
        if step.ref.digest not in self.there:
            yield "it is not there any more"
        if since := self.belongs.get(step.ref.digest, set()) - set(step.belongs_to):
            yield f"it belongs to {min(since)} since"
        looked_at = {s.ref.digest for s in self.steps if s.ref not in self.known or _gone(self.known[s.ref])}
        for owner in sorted(set(step.belongs_to) - looked_at):
            yield from self._opened(step.ref.model_copy(update={"digest": owner}))

    def _opened(self, owner: ImageRef) -> Iterator[str]:
        """Whether an image that was archived before, and whose part is to be now, was opened since."""
        member, stands, before = self.there.get(owner.digest), self.present.standing(owner), self.plan.step(owner)
        if member is None or member.stored.status is not StorageStatus.ARCHIVED:
            yield f"{owner.digest}, which it belongs to, is not archived any more"
        if before and (before.action is Action.BLOCK or before.rule == BLOCKED) and stands.block is None:
            yield f"somebody unblocked {owner.digest}, which it belongs to"
        if stands.hold and stands.block is None:
            yield f"{owner.digest}, which it belongs to, is held {stands.hold}"

    def _standing(self, step: Step) -> Standing:
        """How an image stands; what is attached to one has no standing of its own."""
        member = self.there.get(step.ref.digest)
        return Standing() if member and member.subject else self.present.standing(step.ref)

    def _stands(self, step: Step, stands: Standing) -> Iterator[str]:
        if _stands(step):
            if stands.block is None:
                yield "somebody unblocked it"
            return
        if stands.hold:
            yield f"it is held {stands.hold}"
        outlived = step.action is Action.AGE_OUT and stands.block is not None and stands.block.rule
        if stands.block and step.action is not Action.BLOCK and not outlived:
            yield f"it is blocked {stands.block}"
        if stands.excuse and step.action is Action.BLOCK:
            yield f"it was unblocked {stands.excuse}"

    def _referenced(self, step: Step) -> Iterator[str]:
        digest = step.ref.digest
        if unknown := self.belongings.get(digest, set()) - set(step.depends):
            yield f"{min(unknown)} belongs to it since"
        if owners := self.belongs.get(digest, set()) - self.going:
            yield f"it belongs to {min(owners)} since"

    def _hold_back(self, entries: dict[Digest, Entry], steps: Sequence[Step]) -> None:
        """Skip what may not go because of another that stays, until nothing changes."""
        held = True
        while held:
            held = False
            for step in steps:
                if step.ref.digest not in entries and (found := next(self._held_back(step, entries), None)):
                    why, others = found
                    self._stuck(entries, step, [entries[each] for each in others], why)
                    held = True

    def _held_back(self, step: Step, entries: Mapping[Digest, Entry]) -> Iterator[tuple[str, Collection[Digest]]]:
        """Why a manifest stays because of others, and which: what it belongs to, or what belongs to it alone."""
        digest, planned = step.ref.digest, set(step.belongs_to)
        now, children = self.belongs.get(digest, set()), self.there[digest].children if digest in self.there else ()
        stay = {each for each, entry in entries.items() if not _gone(entry)}
        if planned and (since := now - planned):
            yield f"it belongs to {min(since)} since", ()
        if staying := (planned | now) & stay:
            yield f"{min(staying)}, which it belongs to, stays", staying
        if attached := (self.belongings.get(digest, set()) & stay) - set(children):
            yield f"{min(attached)}, which belongs to it, stays", attached
        if stranded := {each for each in stay.intersection(children) if self._nameless(each)}:
            yield f"{min(stranded)}, which it consists of, stays", stranded

    def _nameless(self, digest: Digest) -> bool:
        """Whether nothing but what goes names it."""
        stays = self.belongs.get(digest, set()) - self.going
        return digest in self.there and not self.there[digest].stored.tags and not stays

    def _close(self, entries: dict[Digest, Entry], steps: Sequence[Step]) -> None:
        """Close what is to be closed, and right after it what is a part of it; what is one of what still goes waits."""
        for step in steps:
            if step.ref.digest not in entries and entries.keys() >= self.planned & set(step.belongs_to):
                self._closed(entries, step)
                self._close(entries, self.parts.get(step.ref.digest, []))

    def _closed(self, entries: dict[Digest, Entry], step: Step) -> None:
        """Archive an image, and sign before that that it is blocked, where the plan says so; a part after its image."""
        owners = [entries[digest] for digest in step.belongs_to if digest in self.planned]
        if any(each.outcome is not Outcome.DONE for each in owners):
            self._stuck(entries, step, owners, "what it belongs to stays as it is")
            return
        self._look(entries, step, self._since(step))
        if step.ref.digest in entries:
            return
        try:
            if step.action is Action.BLOCK and step.rule != STANDS:
                self.block(step.ref, step.rule, step.reason)
            if self.there[step.ref.digest].stored.status is not StorageStatus.ARCHIVED:
                self.registry.archive(step.ref)
        except SupplyChainError as error:
            self._failed(entries, step, error)
        else:
            self._keep(entries, step, Outcome.DONE, step.reason)

    def _remove(self, entries: dict[Digest, Entry], steps: Sequence[Step]) -> None:
        """Remove what goes, some images at a time with all that belongs to them: each is looked at before that."""
        waiting = {step.ref.digest: step for step in steps if step.ref.digest not in entries}
        first = self._first(waiting)
        for together in _together(waiting, first):
            for step in together:
                self._look(entries, step, self._since(step))
            self._hold_back(entries, together)
            self._remove_in_turn(entries, together, first)

    def _remove_in_turn(
        self, entries: dict[Digest, Entry], steps: Sequence[Step], first: Mapping[Digest, set[Digest]]
    ) -> None:
        """Remove a batch at a time, each after what has to go before it."""
        waiting = {step.ref.digest: step for step in steps if step.ref.digest not in entries}
        while waiting:
            stuck = [d for d in waiting if any(o in entries and not _gone(entries[o]) for o in first[d])]
            for digest in stuck:
                before = [entries[o] for o in first[digest] if o in entries]
                self._stuck(entries, waiting.pop(digest), before, "what has to go before it is still there")
            if stuck:
                continue  # what waits for these is stuck by now
            ready = [d for d in waiting if not any(other in waiting for other in first[d])]
            # what belongs to each other in a circle goes at once
            going = ready or list(waiting)
            for batch in (going[at : at + AT_ONCE] for at in range(0, len(going), AT_ONCE)):
                for removal in self.registry.delete(self.repository, batch):
                    self._removed(entries, waiting.pop(removal.name), removal)

    def _stuck(self, entries: dict[Digest, Entry], step: Step, others: Sequence[Entry], said: str) -> None:
        """What it depends on is not done: it waits as long as that may be done when the plan is done again."""
        code = next((each.code for each in others if each.outcome is Outcome.FAILED), "")
        self._keep(entries, step, Outcome.FAILED if code else Outcome.SKIPPED, said, code)

    def _removed(self, entries: dict[Digest, Entry], step: Step, removal: Removal) -> None:
        if removal.code is None or removal.code == GONE:
            self._keep(entries, step, Outcome.DONE, "it was gone already" if removal.code else step.reason)
        else:
            self._keep(entries, step, Outcome.FAILED, f"ECR did not remove it: {removal.reason}", removal.code)

    def _first(self, going: Collection[Digest]) -> dict[Digest, set[Digest]]:
        """What has to go before each: what is attached to it or is a copy of it, and the indexes it is in.

        A copy goes before what is attached to its image, too: only that says what it is a copy of.
        """
        found: dict[Digest, set[Digest]] = {digest: set() for digest in going}
        copies: dict[Digest | None, set[Digest]] = defaultdict(set)
        for digest, member in self.there.items():
            if member.copy_of:
                copies[member.copy_of].add(digest)
        for digest in going:
            if digest in self.there:
                found[digest] |= copies[self.there[digest].subject] - {digest}
        for digest, member in self.there.items():
            for owner in (member.subject, member.copy_of):
                if owner in found:
                    found[owner].add(digest)
            for child in member.children:
                if child in found:
                    found[child].add(digest)
        return found


def _together(going: Mapping[Digest, Step], first: Mapping[Digest, set[Digest]]) -> Iterator[list[Step]]:
    """What goes, about a batch at a time; what belongs to each other is in one."""
    near: dict[Digest, set[Digest]] = defaultdict(set)
    for digest, step in going.items():
        for other in {*first[digest], *step.belongs_to, *step.depends} & going.keys():
            near[digest].add(other)
            near[other].add(digest)
    left = dict(going)
    batch: list[Step] = []
    while left:
        found = [next(iter(left))]
        while found:
            digest = found.pop()
            if digest in left:
                batch.append(left.pop(digest))
                found += near[digest]
        if len(batch) >= AT_ONCE or not left:
            yield sorted(batch, key=lambda each: each.ref.digest)
            batch = []


def _gone(entry: Entry) -> bool:
    return entry.outcome is Outcome.DONE and entry.action is Action.AGE_OUT


def _stands(step: Step) -> bool:
    """Whether it closes again what is blocked already: that is done whatever runs from it; nothing is removed so."""
    return step.rule == STANDS and step.action is Action.BLOCK
