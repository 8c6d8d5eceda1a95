"""Policies as people write them: strict YAML documents in `deployments/policies/`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from supply_chain.model.declaration import Classification
from supply_chain.model.image import Model
from supply_chain.model.tier import Gate
from supply_chain.policy.names import Pattern

T = TypeVar("T")

Text = Annotated[str, StringConstraints(pattern=r"\S", max_length=1000)]
Cel = Annotated[str, StringConstraints(pattern=r"\S")]
"""An expression in CEL."""
PLACEHOLDER = re.compile(r"\$\{([a-z_]+)\}")
RULE_ID = r"(?:[a-z0-9-]+|\$\{[a-z_]+\})"
RuleId = Annotated[str, StringConstraints(pattern=rf"^{RULE_ID}(?:\.{RULE_ID})+$")]
Loop = Annotated[str, StringConstraints(pattern=r"^[a-z]\w* in image(?:\.(?:\w+|\$\{[a-z_]+\}))+$")]
"""A list of facts, and the name of its elements."""
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Parameter = bool | int | float | str | tuple[str, ...]


class RuleSeverity(StrEnum):
    """What happens if a rule does not hold."""

    DENY = "deny"
    """The image is refused."""
    WARN = "warn"
    """The verdict notes it."""


class RuleTest(Model):
    """A test of a rule."""

    name: Text = Field(description="what it is about")
    facts: dict[str, Any] = Field(
        default_factory=dict,
        description="changes of the example facts of the gate, as a JSON Merge Patch (RFC 7396): null removes a fact",
    )
    now: AwareDatetime | None = Field(default=None, description="the time of the decision; null: 2026-01-01T00:00:00Z")
    passes: bool = Field(description="whether the rule holds for these facts")


class RuleDocument(Model):
    """A rule: what has to hold, and what is said if it does not."""

    id: RuleId = Field(description="the stable code of its reasons, with dots")
    title: Text = Field(description="one sentence: `Refuse if …`")
    severity: RuleSeverity = Field(
        default=RuleSeverity.DENY, description="deny: refuses; warn: is a note of the verdict"
    )
    when: Cel | None = Field(default=None, description="CEL: to what the rule applies; null: to every image")
    for_each: Loop | None = Field(
        default=None,
        description="`NAME in image.LIST`: each element for which the expression does not hold is a reason",
    )
    expression: Cel | None = Field(
        default=None, description="CEL: what has to hold; null with for_each: each element is a reason"
    )
    message: Text = Field(description="what breaks the rule; {…} is CEL")
    remedy: Text | None = Field(default=None, description="what to do; {…} is CEL; required of a rule that denies")
    effective_on: AwareDatetime | None = Field(default=None, description="warns before this time, denies from then on")
    waivable: bool = Field(default=True, description="whether a signed waiver can accept what breaks the rule")
    break_glass: bool = Field(
        default=True, description="whether a person's break-glass can override the rule at the deploy gate"
    )
    matrix: tuple[dict[Word, str], ...] = Field(
        default=(),
        description="the rule stands once for each of these, with its values in place of ${NAME} in all texts",
    )
    references: tuple[Text, ...] = Field(default=(), description="such as SLSA v1.2, NIST SP 800-204D, SSDF PW.6, CIS")
    tests: tuple[RuleTest, ...] = Field(description="at least one that passes and one that fails")

    @model_validator(mode="after")
    def _is_complete(self) -> RuleDocument:
        if self.expression is None and self.for_each is None:
            raise ValueError("a rule has an expression, or for_each, or both")
        if self.severity is RuleSeverity.DENY and not self.remedy:
            raise ValueError("a rule that denies says what to do: write remedy")
        if {each.passes for each in self.tests} != {True, False}:
            raise ValueError("a rule has at least one test that passes and one that fails")
        return self

    def expand(self) -> tuple[RuleDocument, ...]:
        """Return the rules for which this one stands: itself, or one for each row of its matrix."""
        content = self.model_dump(exclude={"matrix"})
        rows = self.matrix or ({},)
        return tuple(RuleDocument.model_validate(_filled(content, row)) for row in rows)


Some = Annotated[tuple[T, ...], Field(min_length=1)]


class Selector(Model):
    """To which images a policy applies: to those that match every key that is given."""

    applications: Some[Pattern] | None = Field(default=None, description="names, or every name below one: base/*")
    classifications: Some[Classification] | None = Field(default=None, description="as declared")
    kinds: Some[Literal["service", "base"]] | None = Field(default=None, description="of the application, as declared")
    sources: Some[Literal["curated", "upstream"]] | None = Field(
        default=None, description="curated: built on curated bases only; upstream: also with images from elsewhere"
    )
    environments: Some[str] | None = Field(default=None, description="at the deploy gate only")


class PolicyDocument(Model):
    """A policy of one or several gates."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")] = Field(description="verdicts name it")
    version: int = Field(ge=1, description="raised with each change; verdicts name it")
    description: Text = Field(description="for people")
    gates: Some[Gate] = Field(description="the gates that it guards")
    select: Selector = Selector()
    parameters: dict[Word, Parameter] = Field(
        default_factory=dict, description="values that expressions use as `parameters.NAME`"
    )
    tested_with: dict[Word, Parameter] = Field(
        default_factory=dict,
        description="other values of parameters for the tests of the rules, whose results then do not depend on yours",
    )
    rules: Some[RuleDocument]

    @model_validator(mode="after")
    def _is_consistent(self) -> PolicyDocument:
        if self.select.environments is not None and set(self.gates) != {Gate.DEPLOY}:
            raise ValueError("only the deploy gate knows an environment; remove select.environments")
        if unknown := sorted(self.tested_with.keys() - self.parameters.keys()):
            raise ValueError(f"tested_with names {', '.join(unknown)}, which is not a parameter")
        return self


def _filled(value: Any, row: Mapping[str, str]) -> Any:
    """Return a value with the names of a row replaced by its values in all texts."""
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda match: row.get(match[1], match[0]), value)
    if isinstance(value, dict):
        return {_filled(key, row): _filled(each, row) for key, each in value.items()}
    return [_filled(each, row) for each in value] if isinstance(value, (list, tuple)) else value
