"""Pure functions that make a plan: the action for each image, the rule and the reason.

`plan` is closed in both directions. Everything attached to an image is removed with it. Nothing is removed that belongs
to an image that stays, and no image is removed before its children may be.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from supply_chain.fleet.image import FleetImage
from supply_chain.lifecycle.plan import BLOCKED, Plan, Step, list_exceeded_limits
from supply_chain.lifecycle.rules import IN_FORCE, Action, Decision, LifecycleFacts, Rules, decide, list_guards
from supply_chain.lifecycle.snapshot import (
    EvidenceSummary,
    Member,
    PastDeployment,
    RepositorySnapshot,
    find_in_use,
    find_last_verdict_start,
    group_deployments,
    map_belongings,
    map_owners,
)
from supply_chain.model.image import Digest, ImageRef, StorageStatus, StoredManifest
from supply_chain.model.tier import EVIDENCE, is_base_repository

DAY = timedelta(days=1)
GUARDING = ("keep.needed", "keep.needed-base", "keep.orphaned")
"""The rules that keep a manifest because another one needs it."""
CLOSED = {BLOCKED: IN_FORCE, "keep.retention": "archive.retention"}
"""Rule that keeps an archived image as it is → rule by which its parts that are not archived are archived."""


def plan_lifecycle(snapshot: RepositorySnapshot, rules: Rules, now: datetime) -> Plan:
    """Return the plan that follows from the rules for this snapshot at this time.

    Pure: equal arguments give equal plans.
    """
    inputs = _PlanInputs(snapshot, rules, now)
    steps = tuple(inputs.step(ref) for ref in sorted(inputs.all, key=str))
    return Plan(
        planned_at=now,
        rules=rules.name,
        rules_digest=rules.digest,
        snapshot_digest=snapshot.digest,
        snapshot_read=snapshot.read_at,
        databases=snapshot.databases,
        steps=steps,
        rollback=rules.keep.rollback,
        newest=rules.keep.newest,
        exceeded_limits=tuple(list_exceeded_limits(steps, rules)),
    )


@dataclass(frozen=True)
class _PlanInputs:
    """The facts that a plan derives from the snapshot, computed on demand."""

    snapshot: RepositorySnapshot
    rules: Rules
    now: datetime

    @cached_property
    def images(self) -> dict[ImageRef, FleetImage]:
        return {image.ref: image for image in self.snapshot.images}

    @cached_property
    def members(self) -> dict[ImageRef, Member]:
        return {member.ref: member for member in self.snapshot.members}

    @cached_property
    def all(self) -> frozenset[ImageRef]:
        return frozenset({*self.images, *self.members})

    @cached_property
    def deployment_sources(self) -> tuple[tuple[PastDeployment, ...], ...]:
        """The deployments by signed records and those by the inventory, apart, so that neither hides the other."""
        recorded = tuple(
            PastDeployment(environment=r.environment, application=r.application, digest=image.ref.digest, at=r.since)
            for image in self.snapshot.images
            for r in (*image.deployed, *image.running)
            if r.environment and r.application == image.application  # other containers on a host replace no deployment
        )
        return self.snapshot.deployments, recorded

    @cached_property
    def used(self) -> tuple[dict[Digest, list[str]], dict[Digest, list[str]]]:
        running: dict[Digest, list[str]] = defaultdict(list)
        before: dict[Digest, list[str]] = defaultdict(list)
        for source in self.deployment_sources:
            now, earlier = find_in_use(source, self.rules.keep.rollback)
            for all_of, some in ((running, now), (before, earlier)):
                for digest, environments in some.items():
                    all_of[digest] += environments
        for digest, names in self.snapshot.proxies.items():
            running[digest] += [f"{name}, as the proxy that the environment names" for name in names]
        for image in self.snapshot.images:  # the inventory may know several that run
            for each in image.running:
                reverse_proxy = (
                    ""
                    if each.application in ("", image.application)
                    else f", as the reverse proxy of {each.application}"
                )
                running[image.ref.digest].append(
                    f"{each.environment}{reverse_proxy}"
                    or f"{each.workload or each.name} at {each.place}, without a record"
                )
        return running, before

    @cached_property
    def ran(self) -> dict[Digest, datetime]:
        """When each digest last ran, as itself or as a reverse proxy: until the next deployment replaced it."""
        until: dict[Digest, datetime] = {}
        for history in (
            history for source in self.deployment_sources for history in group_deployments(source).values()
        ):
            for number, each in enumerate(history):
                end = history[number - 1].at if number else self.now
                for digest in filter(None, (each.digest, each.proxy)):
                    until[digest] = max(end, until.get(digest, end))
        return until

    @cached_property
    def owners(self) -> dict[ImageRef, tuple[ImageRef, ...]]:
        """What each manifest belongs to."""
        return map_owners(self.members.values())

    @cached_property
    def belongings(self) -> dict[ImageRef, tuple[ImageRef, ...]]:
        """What belongs to each manifest."""
        return map_belongings(self.members.values())

    @cached_property
    def copies(self) -> defaultdict[ImageRef, list[ImageRef]]:
        """The encrypted copies of each image, also of images that are gone."""
        copies: defaultdict[ImageRef, list[ImageRef]] = defaultdict(list)
        for ref in sorted(self.members, key=str):
            if of := self.members[ref].copy_of:
                copies[ref.with_digest(of)].append(ref)
        return copies

    @cached_property
    def released(self) -> dict[tuple[str, str], list[FleetImage]]:
        """Repository and environment → the images that can be used there, newest first."""
        released: dict[tuple[str, str], list[FleetImage]] = defaultdict(list)
        newest_first = sorted(self.snapshot.images, key=lambda i: (i.stored.pushed_at, str(i.ref)), reverse=True)
        for image in newest_first:
            status = self.snapshot.find_image_status(image.ref)
            pulled = self._stored(image.ref).status is StorageStatus.ACTIVE and not self._is_gone(image.ref)
            closes = self.rules.block.exploited and EvidenceSummary.of(image).exploited and not status.unblock
            if image.released and not image.unreadable and pulled and not status.block and not closes:
                for environment in image.environments or ("",):
                    released[image.ref.repository, environment].append(image)
        return released

    @cached_property
    def counted(self) -> frozenset[ImageRef]:
        """Every image that can be used somewhere."""
        return frozenset(image.ref for images in self.released.values() for image in images)

    @cached_property
    def ranks(self) -> dict[tuple[str, str], dict[ImageRef, int]]:
        """Repository and environment → image that can be used there → its number; 1 is the newest."""
        return {place: {image.ref: n for n, image in enumerate(images, 1)} for place, images in self.released.items()}

    @cached_property
    def times(self) -> dict[tuple[str, str], list[datetime]]:
        """Repository and environment → the push times of the images that can be used there, earliest first."""
        return {place: sorted(image.stored.pushed_at for image in images) for place, images in self.released.items()}

    @cached_property
    def facts(self) -> dict[ImageRef, LifecycleFacts]:
        """The facts about each image that the rules look at."""
        return {ref: self._facts(image) for ref, image in self.images.items()}

    def _facts(self, image: FleetImage) -> LifecycleFacts:
        status, stored = self.snapshot.find_image_status(image.ref), self._stored(image.ref)
        summary, says = EvidenceSummary.of(image), find_last_verdict_start(image)
        places = [(image.ref.repository, environment) for environment in image.environments or ("",)]
        ranks = [self.ranks[place][image.ref] for place in places if image.ref in self.ranks.get(place, ())]
        newer = [
            next_after for place in places if (next_after := _first_after(self.times.get(place, []), stored.pushed_at))
        ]
        digest, members = image.ref.digest, (stored, *(self._stored(copy) for copy in self.copies[image.ref]))
        came = max([stored.came_at, *(each.restored_at for each in members if each.restored_at)])
        pulled = max((each.pulled_at for each in members if each.pulled_at), default=None)
        return LifecycleFacts(
            age_days=self._days(came),
            pulled_days=None if pulled is None else self._days(pulled),
            tagged=bool(stored.tags),
            status=stored.status,
            signed=summary.signed,
            verdict=summary.verdict,
            verdict_days=0 if says is None else self._days(says),
            rank=min(ranks, default=None),
            superseded_days=self._days(min(newer)) if newer else None,
            runs=tuple(sorted(set(self.used[0].get(digest, ())))),
            rollback=tuple(sorted(set(self.used[1].get(digest, ())))),
            ran_days=self._days(self.ran[digest]) if digest in self.ran else None,
            exploited=summary.exploited,
            held=str(status.hold or ""),
            blocked=str(status.block or ""),
            blocked_by_rule=bool(status.block and status.block.rule),
            unblocked=str(status.unblock or ""),
            unreadable=image.unreadable,
        )

    def _stored(self, ref: ImageRef) -> StoredManifest:
        """Return a manifest as the registry lists it, which is newer than the inventory."""
        member = self.members.get(ref)
        return member.stored if member else self.images[ref].stored

    def _is_gone(self, ref: ImageRef) -> bool:
        """Return whether the registry no longer has the image."""
        return ref not in self.members

    def _days(self, since: datetime) -> float:
        return (self.now - since) / DAY

    @cached_property
    def own(self) -> dict[ImageRef, Decision]:
        """The decision about each image by itself. Referrers and encrypted copies, also of gone images, have none."""
        none = {ref for ref, member in self.members.items() if member.of}
        return {ref: self._decide_alone(image) for ref, image in self.images.items() if ref not in none}

    def _decide_alone(self, image: FleetImage) -> Decision:
        if image.ref.repository.startswith(EVIDENCE):
            return _keep("evidence", "lifecycle decisions are never removed")
        if self._is_gone(image.ref):
            return _keep("gone", "the registry no longer has it")
        return decide(self.facts[image.ref], self.rules)

    @cached_property
    def decided(self) -> dict[ImageRef, Decision]:
        """The decision about each manifest. What must stay also protects what it needs, until nothing changes."""
        decisions = {ref: self.own.get(ref) or self._decide_unlisted(ref) for ref in sorted(self.all, key=str)}
        followers = self._list_followers()
        for ref in followers:
            decisions[ref] = self._decide_removal(ref, decisions)
        while needed := self._find_needed(decisions):
            decisions |= needed
        for ref in followers:
            decisions[ref] = self._decide_archive(ref, decisions)
        return decisions

    def _decide_unlisted(self, ref: ImageRef) -> Decision:
        """Decide about a manifest that the inventory does not know: it follows its present or past owner, or stays."""
        member = self.members[ref]
        if ref.repository.startswith(EVIDENCE):
            return _keep("evidence", "lifecycle decisions are never removed")
        if self._find_followed(ref):
            return _keep("belongs", "it belongs to a manifest that stays")
        missing_owners = [ref.with_digest(owner) for owner in member.of]
        if not missing_owners or self._days(member.stored.came_at) < self.rules.floor_days:
            return _keep("unknown", "it is not in the inventory")
        if why := next((why for each in missing_owners for why in self._explain_audit_needs(each)), ""):
            return _keep("orphaned", why)
        return Decision(
            action=Action.AGE_OUT, rule="age-out.orphaned", reason="the manifest that it belonged to is gone"
        )

    def _explain_audit_needs(self, missing_owner: ImageRef) -> Iterator[str]:
        """Yield why the remains of an image that is gone stay: if the image is pushed again, they vouch for it."""
        digest, subject, status = (
            missing_owner.digest,
            f"the removed image {_format_ref(missing_owner)}",
            self.snapshot.find_image_status(missing_owner),
        )
        if digest in self.used[0]:
            yield f"{subject} runs: {', '.join(sorted(set(self.used[0][digest])))}"
        if digest in self.used[1]:
            yield f"{subject} may be needed for a rollback: {', '.join(sorted(set(self.used[1][digest])))}"
        if digest in self.ran and self._days(self.ran[digest]) <= self.rules.archive.retention_days:
            yield f"{subject} ran, and audits may need its evidence"
        if status.hold:
            yield f"{subject} is held {status.hold}"
        if status.block:
            yield f"{subject} is blocked {status.block}"
        if why := self.snapshot.unreadable.get(str(missing_owner)):
            yield f"{subject} cannot be read: {why}"

    def _find_needed(self, decisions: Mapping[ImageRef, Decision]) -> dict[ImageRef, Decision]:
        """Return the decisions to keep manifests that would be removed or archived but must stay."""
        removed = {ref for ref, each in decisions.items() if each.action is Action.AGE_OUT}
        needed: dict[ImageRef, Decision] = {}
        for ref in removed:
            staying = [o for o in self.owners.get(ref, ()) if o not in removed]
            children = [
                m for m in self.belongings.get(ref, ()) if m not in removed and self._would_be_orphaned(m, ref, removed)
            ]
            if staying:
                rule = "belongs" if self._find_followed(ref) else "needed"
                needed[ref] = _keep(rule, f"it belongs to {_format_ref(staying[0])}, which stays")
            elif children:
                needed[ref] = _keep("needed", f"{_format_ref(children[0])} belongs to it and stays")
            elif copies := [copy for copy in self._find_identified_copies(ref) if copy not in removed]:
                needed[ref] = _keep(
                    "needed", f"it names the image of the encrypted copy {_format_ref(copies[0])}, which stays"
                )
        bases = {
            base.digest: ref
            for ref in sorted(self.own, key=str)
            if decisions[ref].action is not Action.AGE_OUT
            for base in self.images[ref].bases
        }
        dark = next(
            (
                ref
                for ref in sorted(decisions, key=str)
                if decisions[ref].action is Action.KEEP and self._has_unknown_bases(ref)
            ),
            None,
        )
        for ref, each in decisions.items():
            if each.action not in (Action.AGE_OUT, Action.ARCHIVE) or ref in needed:
                continue
            if ref.digest in bases:
                needed[ref] = _keep("needed-base", f"{_format_ref(bases[ref.digest])} is built on it, and stays")
            elif dark and is_base_repository(ref.repository) and not self._find_followed(ref):
                needed[ref] = _keep(
                    "needed-base", f"it may be a base of {_format_ref(dark)}, which stays and whose bases are unknown"
                )
        return needed

    def _find_identified_copies(self, ref: ImageRef) -> list[ImageRef]:
        """Return the encrypted copies, of an existing image or one that is gone, that this referrer identifies."""
        member = self.members.get(ref)
        return [
            copy for subject in (member.subjects if member else ()) for copy in self.copies[ref.with_digest(subject)]
        ]

    def _has_unknown_bases(self, ref: ImageRef) -> bool:
        """Return whether this is an image whose bases are unknown."""
        if ref in self.images:
            return bool(self.images[ref].unreadable)
        member = self.members[ref]
        attached = member.of or ref.repository.startswith(EVIDENCE)
        return not attached and bool(member.stored.tags)

    def _would_be_orphaned(self, ref: ImageRef, owner: ImageRef, removed: set[ImageRef]) -> bool:
        """Return whether a manifest that stays would lose its subject, or keep neither a tag nor an owner."""
        named = self._stored(ref).tags or any(each not in removed for each in self.owners[ref])
        return self._is_attached(ref, owner) or not named

    def _is_attached(self, ref: ImageRef, owner: ImageRef) -> bool:
        """Return whether a manifest is a referrer or an encrypted copy of its owner, not a child of an index."""
        member = self.members.get(ref)
        return member is not None and owner.digest in member.of

    def _find_followed(self, ref: ImageRef) -> tuple[ImageRef, ...]:
        """Return the owners that a manifest unknown to the inventory follows, without guessed ones."""
        of = () if ref in self.own else self.owners.get(ref, ())
        return tuple(o for o in of if self._is_attached(ref, o) or not self.members[o].guessed)

    def _list_followers(self) -> list[ImageRef]:
        """Return the manifests that follow an owner, owners first."""
        waiting = {ref for ref in self.all if self._find_followed(ref)}
        order: list[ImageRef] = []
        while ready := sorted((r for r in waiting if waiting.isdisjoint(self.owners[r])), key=str):
            order += ready
            waiting.difference_update(ready)
        return order  # manifests in a cycle follow nothing that could be removed

    def _decide_removal(self, ref: ImageRef, decisions: Mapping[ImageRef, Decision]) -> Decision:
        """Decide to remove a manifest if all of its owners are removed."""
        if any(decisions[owner].action is not Action.AGE_OUT for owner in self.owners[ref]):
            return decisions[ref]
        owner = self._find_followed(ref)[0]
        reason = f"it belongs to {_format_ref(owner)}, which is removed"
        return Decision(action=Action.AGE_OUT, rule=decisions[owner].rule, reason=reason)

    def _decide_archive(self, ref: ImageRef, decisions: Mapping[ImageRef, Decision]) -> Decision:
        """Decide to archive a part of an image if the image is or was archived."""
        closed = all(decisions[o].action is not Action.KEEP or decisions[o].rule in CLOSED for o in self.owners[ref])
        of = next((o for o in self._find_followed(ref) if decisions[o].action is not Action.AGE_OUT), None)
        member = self.members[ref]
        if not closed or of is None or member.stored.status is not StorageStatus.ACTIVE or member.subjects:
            return decisions[ref]
        by = decisions[of].rule
        return Decision(action=Action.ARCHIVE, rule=CLOSED.get(by, by), reason=f"it is a part of {_format_ref(of)}")

    def step(self, ref: ImageRef) -> Step:
        """Return the step for a manifest, with the facts that it rests on."""
        decision, member, stored = self.decided[ref], self.members.get(ref), self._stored(ref)
        guarded = list_guards(self.facts[ref], self.rules) if ref in self.images else ()
        if decision.action is Action.KEEP and decision.rule in GUARDING:
            guarded = (*guarded, decision.reason)
        return Step(
            ref=ref,
            action=decision.action,
            rule=decision.rule,
            reason=decision.reason,
            size=stored.size,
            protections=guarded,
            belongs_to=tuple(owner.digest for owner in self.owners[ref]) if self._find_followed(ref) else (),
            dependents=tuple(each.digest for each in self.belongings.get(ref, ())),
            referrer=bool(member and member.of),
            tags=stored.tags,
            pushed_at=stored.pushed_at,
            pulled_at=stored.pulled_at,
            status=stored.status,
            evidence_summary=EvidenceSummary.of(self.images[ref])
            if ref in self.own and not self._is_gone(ref)
            else None,
            environments=self.images[ref].environments if ref in self.own else (),
            counts_as_newest=ref in self.counted,
        )


def _first_after(times: Sequence[datetime], at: datetime) -> datetime | None:
    """Return the first of the sorted times that is later than `at`; None if there is none."""
    place = bisect_right(times, at)
    return times[place] if place < len(times) else None


def _keep(rule: str, reason: str) -> Decision:
    return Decision(action=Action.KEEP, rule=f"keep.{rule}", reason=reason)


def _format_ref(ref: ImageRef) -> str:
    return f"{ref.repository}@{ref.short}"
