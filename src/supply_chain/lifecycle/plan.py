"""The plan as a document: the action for each image, the rule and the reason.

`planning` makes a plan, `apply` applies it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from pydantic import AwareDatetime, Field, ValidationError

from supply_chain.errors import DeclarationInvalid
from supply_chain.lifecycle.rules import Action, Rules
from supply_chain.lifecycle.snapshot import EvidenceSummary
from supply_chain.model.image import Digest, ImageRef, Model, StorageStatus, digest_of
from supply_chain.model.tier import EVIDENCE, is_base_repository
from supply_chain.scratch import write_private
from supply_chain.text import pluralize

BLOCKED = "keep.blocked"
"""The rule by which a blocked and archived image stays as it is."""


class Step(Model):
    """The action for one manifest, and its facts."""

    ref: ImageRef
    action: Action
    rule: str
    reason: str
    size: int = Field(ge=0, description="bytes")
    protections: tuple[str, ...] = Field(default=(), description="what protects it")
    belongs_to: tuple[Digest, ...] = Field(default=(), description="the images that it belongs to")
    dependents: tuple[Digest, ...] = Field(default=(), description="its attachments and parts")
    referrer: bool = Field(default=False, description="whether it is an attachment or a copy")
    tags: tuple[str, ...] = ()
    pushed_at: AwareDatetime
    pulled_at: AwareDatetime | None = None
    status: StorageStatus = StorageStatus.ACTIVE
    evidence_summary: EvidenceSummary | None = Field(default=None, description="null if the image is not known")
    environments: tuple[str, ...] = ()
    counts_as_newest: bool = Field(default=False, description="whether it counts for `keep.newest`")

    @property
    def touches(self) -> bool:
        """Whether the step changes anything."""
        return self.action is not Action.KEEP

    @property
    def attached(self) -> bool:
        """Whether the manifest is not an image by itself: it belongs to one, or belonged to one that is gone."""
        return self.referrer or bool(self.belongs_to)

    @property
    def places(self) -> tuple[str, ...]:
        """The environments that the image is counted in; for a base, which runs nowhere, one with an empty name."""
        return self.environments or ("",)

    @property
    def usable(self) -> bool:
        """Whether the plan leaves the image usable."""
        return self.counts_as_newest and not self.touches


class Plan(Model):
    """A complete plan: applying it does this and nothing else."""

    planned_at: AwareDatetime
    rules: str
    rules_digest: Digest
    snapshot_digest: Digest
    snapshot_read: AwareDatetime
    databases: tuple[str, ...]
    steps: tuple[Step, ...]
    rollback: int = Field(ge=1, description="earlier deployments that are protected")
    newest: int = Field(ge=1, description="released images that stay for each environment")
    exceeded_limits: tuple[str, ...] = Field(default=(), description="exceeded limits, which require an approval")

    @cached_property
    def digest(self) -> Digest:
        """The digest that identifies this plan."""
        return digest_of(self.model_dump_json().encode())

    @property
    def changes(self) -> tuple[Step, ...]:
        """The steps that change something and do not follow another; parts of images archived before follow none."""
        touched = {step.ref for step in self.steps if step.touches}
        return tuple(
            step
            for step in self.steps
            if step.ref in touched
            if not any(step.ref.with_digest(owner) in touched for owner in step.belongs_to)
        )

    @property
    def repositories(self) -> tuple[str, ...]:
        """The repositories with changes, bases after the images built on them; evidence repositories are left out."""
        repositories = {step.ref.repository for step in self.steps if step.touches}
        return tuple(
            sorted(
                (each for each in repositories if not each.startswith(EVIDENCE)),
                key=lambda r: (is_base_repository(r), r),
            )
        )

    def hold_to(self, rules: Rules) -> None:
        """Raise `DeclarationInvalid` unless these rules made the plan and `over` lists the limits that it exceeds."""
        if (self.rules, self.rules_digest) != (rules.name, rules.digest):
            raise DeclarationInvalid(
                f"The rules {rules.name} changed after the plan {self.digest[:19]} was made.\n"
                "Make a new plan: `cscm lifecycle plan`."
            )
        if self.exceeded_limits != tuple(list_exceeded_limits(self.steps, rules)):
            raise DeclarationInvalid(
                f"The plan {self.digest[:19]} does not name the limits that it exceeds: another version made it, or "
                "somebody changed it.\nMake a new plan (`cscm lifecycle plan`); without an update, find out who it was."
            )

    def steps_in(self, repository: str) -> tuple[Step, ...]:
        """Return the steps that change something in a repository."""
        return tuple(step for step in self.steps if step.touches and step.ref.repository == repository)

    def step(self, ref: ImageRef) -> Step | None:
        """Return the step for a manifest; None if the plan has none."""
        return next((step for step in self.steps if step.ref == ref), None)

    def __str__(self) -> str:
        counts = [
            f"{sum(step.action is action for step in self.changes)} to {action.value}"
            for action in Action
            if action is not Action.KEEP
        ]
        freed = sum(step.size for step in self.steps if step.action is Action.AGE_OUT)
        staying = [step for step in self.steps if not step.touches]
        images = sum(not step.attached for step in staying)
        others = f", and {pluralize(len(staying) - images, 'manifest')} with them" if len(staying) > images else ""
        return f"{', '.join(counts)} ({freed / 1e6:.1f} MB); {pluralize(images, 'image')} to keep{others}"


class _File(Model):
    """The file format of a plan."""

    digest: Digest
    plan: Plan


def write_plan(plan: Plan, path: Path) -> None:
    """Write a complete plan as JSON; the same plan always gives the same bytes."""
    write_private(path, _File(digest=plan.digest, plan=plan).model_dump_json(indent=2) + "\n")


def read_plan(path: Path) -> Plan:
    """Read a plan from a file. Raises `DeclarationInvalid` if it is not a plan or was changed after it was written."""
    try:
        file = _File.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DeclarationInvalid(
            f"{path} is not a plan{f': {error.strerror}' if isinstance(error, OSError) else ' of this version'}.\n"
            "Make one with `cscm lifecycle plan -o plan.json`."
        ) from error
    if file.digest != file.plan.digest:
        raise DeclarationInvalid(
            f"{path} was changed after it was planned.\n"
            "Change the rules instead, and make a new plan: `cscm lifecycle plan`."
        )
    return file.plan


def list_exceeded_limits(steps: Sequence[Step], rules: Rules) -> Iterable[str]:
    """Yield the limits that the steps exceed.

    The remains of an image that is gone count as one changed image, but not as an image of the repository.
    """
    total = sum(step.touches and not step.belongs_to for step in steps)
    if total > rules.limits.count:
        yield f"it changes {pluralize(total, 'image')}; the limit without approval is {rules.limits.count}"
    evidenced: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        if step.evidence_summary:
            evidenced[step.ref.repository].append(step)
    for repository, images in sorted(evidenced.items()):
        number = sum(step.touches for step in images)
        share = number / len(images)
        if number and share > rules.limits.share:
            yield f"it changes {share:.0%} of {repository}; the limit without approval is {rules.limits.share:.0%}"
