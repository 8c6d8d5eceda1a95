"""The rules of the lifecycle, which operators write in `deployments/lifecycle/`, and their evaluation for one image.

Each document of rules has a document of tests, `NAME.tests.yaml`. Rules that do not meet the expectations of their
tests, or that have no test, do not load.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.lifecycle.snapshot import Verdict
from supply_chain.model.documents import read_document
from supply_chain.model.image import Digest, Model, StorageStatus, digest_of
from supply_chain.text import pluralize

TESTS = ".tests"
"""The part before `.yaml` in the name of a document of tests."""
IN_FORCE = "block.in-force"
"""The rule by which an image that a signed statement blocks is archived again, without a new statement."""
RulesName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$", max_length=32)]
Days = Annotated[int, Field(ge=1, le=36500)]


class Action(StrEnum):
    """The action for an image."""

    KEEP = "keep"
    AGE_OUT = "age-out"
    """Removed, with everything that is attached to it."""
    ARCHIVE = "archive"
    """Cannot be pulled until it is restored; tags and evidence stay."""
    BLOCK = "block"
    """Archived, and refused at every gate by a signed statement until it is unblocked."""


class Keep(Model):
    """What stays. Images that run or are held always stay."""

    in_use: Literal[True] = Field(default=True, description="what runs in an environment")
    on_hold: Literal[True] = Field(default=True, description="held images")
    rollback: int = Field(default=1, ge=1, description="earlier deployments of an application in each environment")
    newest: int = Field(default=3, ge=1, description="released images of each application for each environment")
    pushed_days: Days = Field(default=30, description="pushed or restored in the last days, this many")
    pulled_days: Days = Field(default=30, description="pulled in the last days, this many")


class AgeOut(Model):
    """Days after which an image is removed; null: never for that reason."""

    untagged_days: Days | None = Field(default=None, description="not tagged")
    superseded_days: Days | None = Field(default=None, description="superseded by a newer released image")
    refused_days: Days | None = Field(default=None, description="the last release verdict refuses it")
    unadmitted_days: Days | None = Field(default=None, description="the release gate never judged it")
    unsigned_days: Days | None = Field(default=None, description="not signed by curation")
    not_pulled_days: Days | None = Field(default=None, description="not pulled")


class Archive(Model):
    """An image that ran is kept for audits: it is archived instead of removed until its retention ends."""

    retention_days: Days = Field(default=365, description="days since it last ran")
    not_pulled_days: Days | None = Field(
        default=None,
        description="days without a pull after which an image with a retention is archived; null: never",
    )


class Block(Model):
    """Images that nobody may pull any more, except those that a person unblocked."""

    revoked: bool = Field(default=True, description="it was signed, and the last release verdict refuses it")
    exploited: bool = Field(default=True, description="with a known exploited finding")
    refused: bool = Field(default=True, description="it was never signed, and the last release verdict refuses it")


class Limits(Model):
    """Limits above which a plan waits for approval."""

    count: int = Field(default=20, ge=0, description="the number of images that one plan changes")
    share: float = Field(
        default=0.5, ge=0, le=1, description="the share of the images of a repository that one plan changes"
    )


class Rules(Model):
    """A document in `deployments/lifecycle/`."""

    name: RulesName = Field(description="the name of the file, without .yaml")
    description: str = Field(default="", description="for people")
    floor_days: Days = Field(description="days since the push or restore in which nothing is changed")
    keep: Keep = Field(default=Keep(), description="what stays")
    age_out: AgeOut = Field(default=AgeOut(), description="days after which images are removed that are …")
    archive: Archive = Field(default=Archive(), description="what is archived instead")
    block: Block = Field(default=Block(), description="what is blocked")
    limits: Limits = Field(default=Limits(), description="the limits above which a plan waits for approval")

    @property
    def digest(self) -> Digest:
        """The digest that identifies these rules."""
        return digest_of(self.model_dump_json().encode())


@dataclass(frozen=True, kw_only=True)
class LifecycleFacts:
    """The facts about one image that the rules look at; `ExampleFacts` describes each. None has a default value."""

    age_days: float
    pulled_days: float | None
    tagged: bool
    status: StorageStatus
    signed: bool
    verdict: Verdict
    verdict_days: float
    rank: int | None
    superseded_days: float | None
    runs: tuple[str, ...]
    rollback: tuple[str, ...]
    ran_days: float | None
    exploited: tuple[str, ...]
    held: str
    blocked: str
    blocked_by_rule: bool
    unblocked: str
    unreadable: str

    @property
    def idle_days(self) -> float:
        """Days since the last pull, or since it was pushed or restored, whichever is later."""
        return self.age_days if self.pulled_days is None else min(self.age_days, self.pulled_days)


class Decision(Model):
    """The decision of the rules about an image."""

    action: Action
    rule: str = Field(description="its name, as keep.newest")
    reason: str = Field(description="a sentence")


def decide(facts: LifecycleFacts, rules: Rules) -> Decision:
    """Return the decision about an image that nothing else depends on. Pure; the first rule that applies decides."""
    return next(_list_decisions(facts, rules))


def list_guards(facts: LifecycleFacts, rules: Rules) -> tuple[str, ...]:
    """Return what protects an image from any change, in sentences."""
    return tuple(each.reason for each in _guard_decisions(facts, rules))


def _list_decisions(facts: LifecycleFacts, rules: Rules) -> Iterator[Decision]:
    old, retained = tuple(_age_out_decisions(facts, rules.age_out)), _is_retained(facts, rules.archive)
    refused = () if retained else tuple(each for each in old if each.rule == "age-out.refused")
    yield from _final_decisions(
        facts, outlived=bool(refused) and facts.blocked_by_rule and not list_guards(facts, rules)
    )
    yield from _guard_decisions(facts, rules)
    yield from refused
    if not facts.unblocked:
        yield from _block_decisions(facts, rules.block)
    yield from _keep_decisions(facts, rules.keep)
    yield from (_archive_instead(each, facts) if retained else each for each in old)
    yield from _archive_unused(facts, rules.archive)
    yield _keep("no-rule", "no other rule applies")


def _keep(name: str, reason: str) -> Decision:
    return Decision(action=Action.KEEP, rule=f"keep.{name}", reason=reason)


def _final_decisions(facts: LifecycleFacts, outlived: bool) -> Iterator[Decision]:
    """Yield decisions that rules cannot override.

    A block by a rule is `outlived` if another rule removes the image.
    """
    if facts.unreadable:
        yield _keep("unreadable", f"its evidence cannot be read: {facts.unreadable}")
    if facts.status is StorageStatus.ACTIVATING:
        yield _keep("restoring", "somebody is restoring it")
    if facts.blocked and facts.status is StorageStatus.ARCHIVED and not outlived:
        yield _keep("blocked", f"it is archived, and was blocked {facts.blocked}")
    if facts.blocked and facts.status is not StorageStatus.ARCHIVED:
        yield Decision(action=Action.BLOCK, rule=IN_FORCE, reason=f"it was blocked {facts.blocked}, but can be pulled")


def _guard_decisions(facts: LifecycleFacts, rules: Rules) -> Iterator[Decision]:
    if facts.age_days < rules.floor_days:
        yield _keep("floor", f"it was pushed or restored less than {pluralize(rules.floor_days, 'day')} ago")
    if facts.runs:
        yield _keep("in-use", f"it runs: {', '.join(facts.runs)}")
    if facts.rollback:
        yield _keep("rollback", f"a rollback may need it: {', '.join(facts.rollback)}")
    if facts.held:
        yield _keep("hold", f"it is held {facts.held}")


def _block_decisions(facts: LifecycleFacts, block: Block) -> Iterator[Decision]:
    reasons = {
        "exploited": (block.exploited and facts.exploited, f"known to be exploited: {', '.join(facts.exploited[:5])}"),
        "revoked": (
            block.revoked and facts.signed and facts.verdict == "failed",
            "it was signed, and the last release verdict refuses it",
        ),
        "refused": (
            block.refused and not facts.signed and facts.verdict == "failed",
            "curation refused it and never signed it",
        ),
    }
    for name, (applies, reason) in reasons.items():
        if applies:
            yield Decision(action=Action.BLOCK, rule=f"block.{name}", reason=reason)


def _keep_decisions(facts: LifecycleFacts, keep: Keep) -> Iterator[Decision]:
    if facts.rank is not None and facts.rank <= keep.newest:
        yield _keep("newest", f"it is number {facts.rank} of the {keep.newest} newest images that are kept")
    if facts.age_days < keep.pushed_days:
        yield _keep("pushed", f"it was pushed or restored within {pluralize(keep.pushed_days, 'day')}")
    if facts.pulled_days is not None and facts.pulled_days < keep.pulled_days:
        yield _keep("pulled", f"it was pulled within {pluralize(keep.pulled_days, 'day')}")


def _age_out_decisions(facts: LifecycleFacts, age_out: AgeOut) -> Iterator[Decision]:
    reasons = {
        "refused": (facts.verdict == "failed", facts.verdict_days, age_out.refused_days, "curation refused it"),
        "unadmitted": (facts.verdict == "none", facts.age_days, age_out.unadmitted_days, "curation never admitted it"),
        "unsigned": (not facts.signed, facts.age_days, age_out.unsigned_days, "curation did not sign it"),
        "untagged": (not facts.tagged, facts.age_days, age_out.untagged_days, "it has no tag"),
        "superseded": (
            facts.superseded_days is not None,
            facts.superseded_days or 0,
            age_out.superseded_days,
            "a newer one was released",
        ),
        "not-pulled": (True, facts.idle_days, age_out.not_pulled_days, "nobody pulled it"),
    }
    for name, (applies, since, most, reason) in reasons.items():
        if applies and most is not None and since > most:
            text = f"{reason}, {pluralize(int(since), 'day')} ago or longer; the limit is {pluralize(most, 'day')}"
            yield Decision(action=Action.AGE_OUT, rule=f"age-out.{name}", reason=text)


def _is_retained(facts: LifecycleFacts, archive: Archive) -> bool:
    return facts.ran_days is not None and facts.ran_days <= archive.retention_days


def _archive_instead(decision: Decision, facts: LifecycleFacts) -> Decision:
    """Archive instead of removing an image that is kept for audits; keep it if it is already archived."""
    reason = "it ran and is kept for audits"
    if facts.status is StorageStatus.ARCHIVED:
        return _keep("retention", f"{reason}; {decision.reason}")
    return Decision(action=Action.ARCHIVE, rule="archive.retention", reason=f"{reason}; {decision.reason}")


def _archive_unused(facts: LifecycleFacts, archive: Archive) -> Iterator[Decision]:
    days = archive.not_pulled_days
    if _is_retained(facts, archive) and days is not None and facts.idle_days > days:
        cold = Decision(
            action=Action.ARCHIVE, rule="archive.cold", reason=f"nobody pulled it for {pluralize(days, 'day')}"
        )
        yield _archive_instead(cold, facts) if facts.status is StorageStatus.ARCHIVED else cold


class ExampleFacts(Model):
    """The image of a test; what the test does not say is as of an ordinary old image."""

    age_days: float = Field(default=400, description="days since it was pushed or restored")
    pulled_days: float | None = Field(
        default=None, description="days since the last pull of it or its encrypted copy; null: never pulled"
    )
    tagged: bool = Field(default=True, description="whether it has a tag")
    status: StorageStatus = Field(default=StorageStatus.ACTIVE, description="its storage class in ECR")
    signed: bool = Field(default=True, description="whether curation released it")
    verdict: Verdict = Field(
        default="passed",
        description="the last release verdict; blocked: failed only because of a block",
    )
    verdict_days: float = Field(default=400, description="days since the release gate first gave this verdict")
    rank: int | None = Field(
        default=None,
        description="its rank among the released images for an environment; 1: the newest",
    )
    superseded_days: float | None = Field(
        default=None, description="days since a newer one was released; null: none was"
    )
    runs: tuple[str, ...] = Field(default=(), description="the environments in which it should run")
    rollback: tuple[str, ...] = Field(default=(), description="the environments in which a rollback may need it")
    ran_days: float | None = Field(default=None, description="days since it last ran; 0: it runs; null: it never ran")
    exploited: tuple[str, ...] = Field(default=(), description="known exploited")
    held: str = Field(default="", description="who holds it and the reason")
    blocked: str = Field(default="", description="who blocked it and the reason")
    blocked_by_rule: bool = Field(default=False, description="whether a rule, not a person, blocked it")
    unblocked: str = Field(default="", description="who unblocked it and the reason")
    unreadable: str = Field(default="", description="why its evidence cannot be read")

    @property
    def facts(self) -> LifecycleFacts:
        """The facts of the image."""
        return LifecycleFacts(**dict(self))


class Example(Model):
    """A test: an image, and the decision expected for it."""

    name: str = Field(description="the behaviour, in a few words")
    image: ExampleFacts = Field(default=ExampleFacts(), description="the image")
    action: Action = Field(description="the expected action")
    rule: str = Field(description="the rule that decides, such as keep.newest")


class Examples(Model):
    """A document of tests, `NAME.tests.yaml`."""

    tests: tuple[Example, ...] = Field(min_length=1, description="at least one test for each enabled rule")


def read_rules(directory: Path, name: str) -> Rules:
    """Read the rules called `name` and run their tests.

    Raises `SettingInvalid` if there are no rules of this name, and `DeclarationInvalid` if a test fails.
    """
    names = sorted(path.stem for path in directory.glob("*.yaml") if not path.stem.endswith(TESTS))
    if name not in names:
        raise SettingInvalid(f"There are no lifecycle rules {name!r}.\nThere are: {', '.join(names) or 'none'}.")
    rules = read_document(directory / f"{name}.yaml", Rules)
    if rules.name != name:
        raise SettingInvalid(f"deployments/lifecycle/{name}.yaml has the name {rules.name!r}.\nUse one name.")
    examples = read_document(directory / f"{name}{TESTS}.yaml", Examples)
    if wrong := tuple(find_failing_examples(rules, examples)):
        raise DeclarationInvalid(
            f"{directory / name}.yaml fails the tests in {name}{TESTS}.yaml:\n"
            + "\n".join(wrong)
            + "\nCorrect the rules or the tests."
        )
    return rules


def find_failing_examples(rules: Rules, examples: Examples) -> Iterator[str]:
    """Yield the tests whose expectation the rules do not meet, and the rules without a test, in sentences."""
    for each in examples.tests:
        decision = decide(each.image.facts, rules)
        if (decision.action, decision.rule) != (each.action, each.rule):
            yield f"{each.name}: expected {each.action} by {each.rule}, found {decision.action} by {decision.rule}"
    tested = {each.rule for each in examples.tests}
    yield from (f"{rule}: there is no test for it" for rule in list_active_rules(rules) if rule not in tested)


def list_active_rules(rules: Rules) -> tuple[str, ...]:
    """Return the names of the rules that a document enables, and of those that always apply."""
    age_out = [name for name, days in rules.age_out if days is not None]
    block = [name for name, active in rules.block if active]
    return (
        *(f"keep.{name}" for name in ("floor", "in-use", "rollback", "hold", "newest", "pushed", "pulled")),
        *(f"age-out.{name.removesuffix('_days').replace('_', '-')}" for name in age_out),
        *(("archive.cold",) if rules.archive.not_pulled_days else ()),
        *(f"block.{name}" for name in block),
    )
