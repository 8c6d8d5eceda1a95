"""A plan: what would be done with each image, by which rule and why. Pure; `apply` carries it out.

`plan` is closed both ways. With an image goes everything that is attached to it; nothing that belongs to an image
that stays is taken, and no image goes before what it consists of may.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

from pydantic import AwareDatetime, Field, ValidationError

from supply_chain.errors import DeclarationInvalid
from supply_chain.fleet.known import KnownImage
from supply_chain.image import Digest, Frozen, ImageRef, StorageStatus
from supply_chain.lifecycle.rules import STANDS, Action, Decision, Facts, Rules, decide, guards
from supply_chain.lifecycle.stock import Deployed, Evidenced, Member, Stock, histories, in_use
from supply_chain.scratch import write_private
from supply_chain.shown import counted
from supply_chain.tier import EVIDENCE, Boundary, is_base_repository

DAY = timedelta(days=1)
BLOCKED = "keep.blocked"
"""The rule by which what is blocked and archived stays so."""
CLOSED = {BLOCKED: STANDS, "keep.owed": "archive.owed"}
"""The rules by which what is archived stays so, and by which a part of it is archived that is not."""


class Step(Frozen):
    """What is done with one manifest, and what that rests on."""

    ref: ImageRef
    action: Action
    rule: str
    reason: str
    size: int = Field(ge=0, description="bytes")
    guards: tuple[str, ...] = Field(default=(), description="what keeps it from being touched")
    belongs_to: tuple[Digest, ...] = Field(default=(), description="with which images it goes")
    depends: tuple[Digest, ...] = Field(default=(), description="what is attached to it, or it consists of")
    referrer: bool = Field(default=False, description="whether it is attached to them; otherwise they consist of it")
    tags: tuple[str, ...] = ()
    pushed_at: AwareDatetime
    pulled_at: AwareDatetime | None = None
    status: StorageStatus = StorageStatus.ACTIVE
    evidenced: Evidenced | None = Field(default=None, description="None where it is no image, or nobody knows it")

    @property
    def touches(self) -> bool:
        """Whether anything is done."""
        return self.action is not Action.KEEP


class Plan(Frozen):
    """One plan, whole: carried out it does this and nothing else."""

    made: AwareDatetime
    rules: str = Field(description="the document's name")
    rules_digest: Digest
    stock_digest: Digest
    stock_read: AwareDatetime
    databases: tuple[str, ...] = Field(description="the vulnerability databases that it rests on")
    steps: tuple[Step, ...]
    rollback: int = Field(ge=1, description="how many earlier deployments a rollback may need")
    over: tuple[str, ...] = Field(default=(), description="the limits that it is above: somebody has to approve it")

    @cached_property
    def digest(self) -> Digest:
        """Names exactly this plan."""
        return f"sha256:{hashlib.sha256(self.model_dump_json().encode()).hexdigest()}"

    @property
    def changes(self) -> tuple[Step, ...]:
        """What is done, but for what goes with another; a part of what was closed before goes with none."""
        touched = {step.ref for step in self.steps if step.touches}
        return tuple(
            step
            for step in self.steps
            if step.ref in touched
            if not any(_beside(step.ref, owner) in touched for owner in step.belongs_to)
        )

    @property
    def repositories(self) -> tuple[str, ...]:
        """In which something is done, bases after what is built on them; what was said of images stays."""
        found = {step.ref.repository for step in self.steps if step.touches}
        return tuple(
            sorted((each for each in found if not each.startswith(EVIDENCE)), key=lambda r: (is_base_repository(r), r))
        )

    def hold_to(self, rules: Rules) -> None:
        """`DeclarationInvalid` unless it was made by these rules, and says by itself which limits it is above."""
        if (self.rules, self.rules_digest) != (rules.name, rules.digest):
            raise DeclarationInvalid(
                f"The plan {self.digest[:19]} was made by other rules than {rules.name} has now.\n"
                "Plan anew: `cscm lifecycle plan`."
            )
        if self.over != tuple(_over(self.steps, rules)):
            raise DeclarationInvalid(
                f"The plan {self.digest[:19]} does not say which limits it is above: somebody changed it.\n"
                "Find out who; then plan anew: `cscm lifecycle plan`."
            )

    def step(self, ref: ImageRef) -> Step | None:
        """What is done with one manifest."""
        return next((step for step in self.steps if step.ref == ref), None)

    def __str__(self) -> str:
        counts = [
            f"{sum(step.action is action for step in self.changes)} to {action.value}"
            for action in Action
            if action is not Action.KEEP
        ]
        freed = sum(step.size for step in self.steps if step.action is Action.AGE_OUT)
        kept = sum(step.action is Action.KEEP for step in self.steps)
        return f"{', '.join(counts)} ({freed / 1e6:.1f} MB), {kept} to keep"


class _File(Frozen):
    """A plan as it is written."""

    digest: Digest
    plan: Plan


def write_plan(plan: Plan, path: Path) -> None:
    """Write it whole, as JSON; the same plan is the same bytes."""
    write_private(path, _File(digest=plan.digest, plan=plan).model_dump_json(indent=2) + "\n")


def read_plan(path: Path) -> Plan:
    """A plan that was written, and that nobody changed since; `DeclarationInvalid` otherwise."""
    try:
        file = _File.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DeclarationInvalid(
            f"{path} is no plan{f': {error.strerror}' if isinstance(error, OSError) else ''}.\n"
            "Make one with `cscm lifecycle plan -o plan.json`."
        ) from error
    if file.digest != file.plan.digest:
        raise DeclarationInvalid(
            f"{path} was changed after it was planned.\nChange the rules instead, and plan anew: `cscm lifecycle plan`."
        )
    return file.plan


def plan(stock: Stock, rules: Rules, now: datetime) -> Plan:
    """What the rules come to for this stock at this time. Pure: the same of all three is the same plan."""
    house = _House(stock, rules, now)
    steps = tuple(house.step(ref) for ref in sorted(house.all, key=str))
    return Plan(
        made=now,
        rules=rules.name,
        rules_digest=rules.digest,
        stock_digest=stock.digest,
        stock_read=stock.read_at,
        databases=stock.databases,
        steps=steps,
        rollback=rules.keep.rollback,
        over=tuple(_over(steps, rules)),
    )


def _over(steps: Sequence[Step], rules: Rules) -> Iterable[str]:
    of: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        if not step.belongs_to:
            of[step.ref.repository].append(step)
    changed = {repository: sum(step.touches for step in found) for repository, found in of.items()}
    if (total := sum(changed.values())) > rules.limits.count:
        yield f"it changes {counted(total, 'image')}, and {rules.limits.count} need no approval"
    for repository, number in sorted(changed.items()):
        share = number / len(of[repository])
        if number and share > rules.limits.share:
            yield f"it changes {share:.0%} of {repository}, and {rules.limits.share:.0%} need no approval"


@dataclass(frozen=True)
class _House:
    """The stock, in the order in which the plan asks for it."""

    stock: Stock
    rules: Rules
    now: datetime

    @cached_property
    def images(self) -> dict[ImageRef, KnownImage]:
        return {image.ref: image for image in self.stock.images}

    @cached_property
    def members(self) -> dict[ImageRef, Member]:
        return {member.ref: member for member in self.stock.members}

    @cached_property
    def all(self) -> frozenset[ImageRef]:
        return frozenset({*self.images, *self.members})

    @cached_property
    def tellings(self) -> tuple[tuple[Deployed, ...], ...]:
        """What was signed, and what the inventory knows of it, each for itself: neither hides what the other knows."""
        seen = tuple(
            Deployed(environment=r.environment, application=r.application, digest=image.ref.digest, at=r.since)
            for image in self.stock.images
            for r in (*image.deployed, *image.running)
            if r.environment  # what a host shows and no record names takes nobody's place
        )
        return self.stock.deployments, seen

    @cached_property
    def used(self) -> tuple[dict[Digest, list[str]], dict[Digest, list[str]]]:
        running: dict[Digest, list[str]] = defaultdict(list)
        before: dict[Digest, list[str]] = defaultdict(list)
        for telling in self.tellings:
            now, earlier = in_use(telling, self.rules.keep.rollback)
            for all_of, some in ((running, now), (before, earlier)):
                for digest, environments in some.items():
                    all_of[digest] += environments
        for image in self.stock.images:  # the inventory may know of more than one that runs
            for each in image.running:
                running[image.ref.digest].append(each.environment or f"{each.host}, without a record")
        return running, before

    @cached_property
    def ran(self) -> dict[Digest, datetime]:
        """When each digest ran last: until the next deployment took its place."""
        until: dict[Digest, datetime] = {}
        for history in (history for telling in self.tellings for history in histories(telling).values()):
            for number, each in enumerate(history):
                end = history[number - 1].at if number else self.now
                until[each.digest] = max(end, until.get(each.digest, end))
        return until

    @cached_property
    def owners(self) -> dict[ImageRef, tuple[ImageRef, ...]]:
        """What each manifest belongs to, of what is there: its subject, the indexes it is in, the image it is of."""
        found: dict[ImageRef, set[ImageRef]] = defaultdict(set)
        for member in self.members.values():
            for one, owner in member.belonging:
                found[_beside(member.ref, one)].add(_beside(member.ref, owner))
        return {
            ref: tuple(sorted((o for o in owners if o in self.all and o != ref), key=str))
            for ref, owners in found.items()
        }

    @cached_property
    def belongings(self) -> dict[ImageRef, tuple[ImageRef, ...]]:
        """What belongs to each manifest."""
        found: dict[ImageRef, list[ImageRef]] = defaultdict(list)
        for ref in sorted(self.owners, key=str):
            for owner in self.owners[ref]:
                if ref in self.all:
                    found[owner].append(ref)
        return {ref: tuple(refs) for ref, refs in found.items()}

    @cached_property
    def vended(self) -> dict[tuple[str, str], list[KnownImage]]:
        """Repository and environment → the images that may be used there, the newest first."""
        found: dict[tuple[str, str], list[KnownImage]] = defaultdict(list)
        newest_first = sorted(self.stock.images, key=lambda i: (i.stored.pushed_at, str(i.ref)), reverse=True)
        for image in newest_first:
            if image.vended and not image.unreadable and not self.stock.standing(image.ref).block:
                for environment in image.environments or ("",):
                    found[image.ref.repository, environment].append(image)
        return found

    @cached_property
    def ranks(self) -> dict[tuple[str, str], dict[ImageRef, int]]:
        """Repository and environment → what may be used there → its number; 1 is the newest."""
        return {place: {image.ref: n for n, image in enumerate(there, 1)} for place, there in self.vended.items()}

    @cached_property
    def times(self) -> dict[tuple[str, str], list[datetime]]:
        """Repository and environment → when what may be used there was pushed, the first one first."""
        return {place: sorted(image.stored.pushed_at for image in there) for place, there in self.vended.items()}

    @cached_property
    def facts(self) -> dict[ImageRef, Facts]:
        """Each image as the rules see it."""
        return {ref: self._facts(image) for ref, image in self.images.items()}

    def _facts(self, image: KnownImage) -> Facts:
        member, stands = self.members.get(image.ref), self.stock.standing(image.ref)
        stored = member.stored if member else image.stored  # the registry's word is newer than the inventory's
        said, last = Evidenced.of(image), image.last(Boundary.CURATION)
        places = [(image.ref.repository, environment) for environment in image.environments or ("",)]
        ranks = [self.ranks[place][image.ref] for place in places if image.ref in self.ranks.get(place, ())]
        newer = [next_after for place in places if (next_after := _after(self.times.get(place, []), stored.pushed_at))]
        digest = image.ref.digest
        return Facts(
            age_days=self._days(stored.pushed_at),
            pulled_days=None if stored.pulled_at is None else self._days(stored.pulled_at),
            tagged=bool(stored.tags),
            status=stored.status,
            signed=said.signed,
            verdict=said.verdict,
            verdict_days=0 if last is None else self._days(last.at),
            rank=min(ranks, default=None),
            superseded_days=self._days(min(newer)) if newer else None,
            runs=tuple(sorted(set(self.used[0].get(digest, ())))),
            rollback=tuple(sorted(set(self.used[1].get(digest, ())))),
            ran_days=self._days(self.ran[digest]) if digest in self.ran else None,
            exploited=said.exploited,
            held=str(stands.hold or ""),
            blocked=str(stands.block or ""),
            blocked_by_rule=bool(stands.block and stands.block.rule),
            excused=str(stands.excuse or ""),
            unreadable=image.unreadable,
        )

    def _days(self, since: datetime) -> float:
        return (self.now - since) / DAY

    @cached_property
    def own(self) -> dict[ImageRef, Decision]:
        """What is said of each image by itself. An encrypted copy is none: it goes with the image it is of."""
        copies = {ref for ref, member in self.members.items() if member.copy_of and self.owners.get(ref)}
        return {ref: self._by_itself(image) for ref, image in self.images.items() if ref not in copies}

    @cached_property
    def read(self) -> frozenset[str]:
        """The repositories that were read."""
        return frozenset(ref.repository for ref in self.members)

    def _by_itself(self, image: KnownImage) -> Decision:
        if image.ref.repository.startswith(EVIDENCE):
            return _kept("evidence", "what was said of images is never taken away")
        if image.ref.repository in self.read and image.ref not in self.members:
            return _kept("gone", "the registry does not have it any more")
        return decide(self.facts[image.ref], self.rules)

    @cached_property
    def decided(self) -> dict[ImageRef, Decision]:
        """What is done with each manifest. What may not go keeps what it needs from going, until nothing changes."""
        found = {ref: self.own.get(ref) or self._foreign(ref) for ref in sorted(self.all, key=str)}
        while needed := self._needed(found):
            found |= needed
        for ref in self._followers():
            found[ref] = self._following(ref, found)
        return found

    def _foreign(self, ref: ImageRef) -> Decision:
        """What the inventory does not know: it goes with what it belongs to, or belonged to; else it stays."""
        member = self.members[ref]
        if ref.repository.startswith(EVIDENCE):
            return _kept("evidence", "what was said of images is never taken away")
        if self.owners.get(ref):
            return _kept("belongs", "it belongs to what stays")
        if (member.subject or member.copy_of) and self._days(member.stored.pushed_at) >= self.rules.floor_days:
            return Decision(action=Action.AGE_OUT, rule="age-out.orphaned", reason="what it belongs to is gone")
        return _kept("unknown", "the inventory does not know it")

    def _needed(self, found: Mapping[ImageRef, Decision]) -> dict[ImageRef, Decision]:
        """What would go, or be archived, and must not."""
        gone = {ref for ref, each in found.items() if each.action is Action.AGE_OUT}
        kept: dict[ImageRef, Decision] = {}
        for ref in gone:
            owners = [o for o in self.owners.get(ref, ()) if o not in gone]
            held = [m for m in self.belongings.get(ref, ()) if m in self.own and self._stranded(m, gone)]
            if owners:
                kept[ref] = _kept("needed", f"it belongs to {_told(owners[0])}, which stays")
            elif held:
                kept[ref] = _kept("needed", f"{_told(held[0])} belongs to it and stays")
        bases = {
            base.digest: ref
            for ref in sorted(self.own, key=str)
            if found[ref].action is Action.KEEP and found[ref].rule != "keep.needed-base"
            for base in self.images[ref].bases
        }
        dark = next(
            (ref for ref in sorted(found, key=str) if found[ref].action is Action.KEEP and self._dark(ref)), None
        )
        for ref, each in found.items():
            if each.action not in (Action.AGE_OUT, Action.ARCHIVE) or ref in kept:
                continue
            if ref.digest in bases:
                kept[ref] = _kept("needed-base", f"{_told(bases[ref.digest])} is built on it, and stays")
            elif dark and is_base_repository(ref.repository):
                kept[ref] = _kept("needed-base", f"nobody can tell on which base {_told(dark)} is built, which stays")
        return kept

    def _dark(self, ref: ImageRef) -> bool:
        """Whether it is an image of which nobody can tell on which bases it was built."""
        if ref in self.images:
            return bool(self.images[ref].unreadable)
        member = self.members[ref]
        attached = member.subject or member.copy_of or ref.repository.startswith(EVIDENCE)
        return not attached and bool(member.stored.tags)

    def _stranded(self, ref: ImageRef, gone: set[ImageRef]) -> bool:
        """Whether an image that stays would be all that is left of what it belongs to, and nothing else names it."""
        tagged = bool(self.images[ref].stored.tags)
        return ref not in gone and not tagged and all(owner in gone for owner in self.owners[ref])

    def _followers(self) -> list[ImageRef]:
        """What the inventory does not know and belongs to something, what it belongs to before it."""
        waiting = {ref for ref in self.all if ref not in self.own and self.owners.get(ref)}
        order: list[ImageRef] = []
        while ready := sorted((r for r in waiting if waiting.isdisjoint(self.owners[r])), key=str):
            order += ready
            waiting.difference_update(ready)
        return order  # what goes in a circle belongs to nothing that could go

    def _following(self, ref: ImageRef, found: Mapping[ImageRef, Decision]) -> Decision:
        """It goes with the last of what it belongs to; what is a part of an image is closed as that is, or was."""
        owners = self.owners[ref]
        if all(found[owner].action is Action.AGE_OUT for owner in owners):
            rule = found[owners[0]].rule
            return Decision(action=Action.AGE_OUT, rule=rule, reason=f"it belongs to {_told(owners[0])}, which goes")
        closed = all(found[owner].action is not Action.KEEP or found[owner].rule in CLOSED for owner in owners)
        member = self.members[ref]
        if closed and member.stored.status is StorageStatus.ACTIVE and not member.subject:
            of, by = next((o, found[o].rule) for o in owners if found[o].action is not Action.AGE_OUT)
            return Decision(action=Action.ARCHIVE, rule=CLOSED.get(by, by), reason=f"it is a part of {_told(of)}")
        return _kept("belongs", "it belongs to what stays")

    def step(self, ref: ImageRef) -> Step:
        """What is done with one manifest, and what that rests on."""
        decision, member = self.decided[ref], self.members.get(ref)
        stored = member.stored if member else self.images[ref].stored
        guarded = guards(self.facts[ref], self.rules) if ref in self.images else ()
        if decision.action is Action.KEEP and decision.rule in ("keep.needed", "keep.needed-base"):
            guarded = (*guarded, decision.reason)
        follows = ref not in self.own and self.owners.get(ref, ())
        return Step(
            ref=ref,
            action=decision.action,
            rule=decision.rule,
            reason=decision.reason,
            size=stored.size,
            guards=guarded,
            belongs_to=tuple(owner.digest for owner in follows or ()),
            depends=tuple(each.digest for each in self.belongings.get(ref, ())),
            referrer=bool(member and member.subject),
            tags=stored.tags,
            pushed_at=stored.pushed_at,
            pulled_at=stored.pulled_at,
            status=stored.status,
            evidenced=Evidenced.of(self.images[ref]) if ref in self.own else None,
        )


def _after(times: Sequence[datetime], at: datetime) -> datetime | None:
    """The first of ordered times that is later."""
    place = bisect_right(times, at)
    return times[place] if place < len(times) else None


def _kept(rule: str, reason: str) -> Decision:
    return Decision(action=Action.KEEP, rule=f"keep.{rule}", reason=reason)


def _beside(ref: ImageRef, digest: Digest) -> ImageRef:
    return ref.model_copy(update={"digest": digest})


def _told(ref: ImageRef) -> str:
    return f"{ref.repository}@{ref.short}"
