"""The tests of rules: example facts, their results, and changes of a rule that its tests do not notice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, is_typeddict

from pydantic import Field

from supply_chain.errors import PolicyInvalid, RuleNotEvaluated
from supply_chain.evidence.examination import matches
from supply_chain.model.documents import read_document
from supply_chain.model.image import Model
from supply_chain.model.tier import Gate
from supply_chain.policy.documents import RuleTest, Selector
from supply_chain.policy.expressions import Values, make_language, mutate
from supply_chain.policy.fact_schema import find_element_type, find_mistakes, read_fields
from supply_chain.policy.fact_types import FACTS
from supply_chain.policy.policies import Rule, compile_rule, is_selected

TESTED = datetime(2026, 1, 1, tzinfo=UTC)
"""The time `now` in the tests of rules that name none."""
FILE = Path(__file__).with_name("examples.yaml")
EVERY_IMAGE = Selector()
UPSTREAM = "docker.io/library/python:3"
"""An image that is not curated."""


class Examples(Model):
    """Facts of an image, by the gates that have them."""

    every_gate: dict[str, Any]
    intake: dict[str, Any]
    curated: dict[str, Any] = Field(description="of the release gate and of the deploy gate")
    release: dict[str, Any]
    deploy: dict[str, Any]


@cache
def make_examples(gate: Gate) -> Mapping[str, Any]:
    """Return the facts of an image that every shipped rule of the gate admits; raise `PolicyInvalid` for a mistake."""
    parts = read_document(FILE, Examples)
    curated = {} if gate is Gate.INTAKE else parts.curated
    merged: Mapping[str, Any] = _merged(_merged(parts.every_gate, curated), getattr(parts, gate.value))
    _check(gate, merged)
    return merged


def make_example_facts(gate: Gate, changes: Mapping[str, Any], select: Selector = EVERY_IMAGE) -> Mapping[str, Any]:
    """Return the example facts of a gate, of an image that is selected, with changes (a JSON Merge Patch).

    Raise `PolicyInvalid` if none fit.
    """
    selected = _merged(make_examples(gate), _select_example(make_examples(gate), select))
    facts: Mapping[str, Any] = _merged(selected, _with_times(changes, FACTS[gate]))
    _check(gate, facts, make_examples(gate))
    return facts


def _select_example(image: Mapping[str, Any], select: Selector) -> Mapping[str, Any]:
    """Return changes of the example facts with which a selector matches them."""
    changes: dict[str, Any] = {"build": {}}
    if select.applications is not None and not matches(image["application"], select.applications):
        changes["application"] = select.applications[0].replace("*", image["application"])
    for key, allowed in (("classification", select.classifications), ("kind", select.kinds)):
        if allowed is not None and image["build"][key] not in allowed:
            changes["build"][key] = str(allowed[0])
    if select.sources is not None and "curated" not in select.sources:
        changes["build"]["uncurated"] = [UPSTREAM]
    if select.environments is not None and image["environment"]["name"] not in select.environments:
        changes["environment"] = {"name": select.environments[0]}
    return changes


def _check(gate: Gate, facts: Mapping[str, Any], checked: Mapping[str, Any] | None = None) -> None:
    if mistakes := list(find_mistakes(FACTS[gate], facts, "image", checked)):
        raise PolicyInvalid(f"its facts do not fit the {gate} gate: {'; '.join(mistakes)}")


def _with_times(value: Any, kind: Any) -> Any:
    """Return changes of facts with times in place of texts, which a matrix, and a policy written as JSON, have."""
    if kind is datetime and isinstance(value, str):
        return _parse_time(value)
    if isinstance(value, list):
        return [_with_times(each, find_element_type(kind)) for each in value]
    if isinstance(value, dict) and is_typeddict(kind):
        return {name: _with_times(each, read_fields(kind).get(name)) for name, each in value.items()}
    return value


def _parse_time(text: str) -> datetime | str:
    """Return the time; the text itself if it is none, which is a mistake of the facts."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text


def _merged(facts: Any, changes: Any) -> Any:
    """Return facts with a JSON Merge Patch applied (RFC 7396)."""
    if not isinstance(changes, Mapping):
        return changes
    merged = dict(facts) if isinstance(facts, Mapping) else {}
    for key, change in changes.items():
        if change is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), change)
    return merged


def run_tests(rule: Rule, gate: Gate, select: Selector = EVERY_IMAGE) -> None:
    """Run the tests of a rule; raise `PolicyInvalid` for one with another result."""
    for test, passes in check_results(rule, gate, select):
        if passes is not test.passes:
            result, expected = ("passes" if each else "fails" for each in (passes, test.passes))
            raise PolicyInvalid(f"rule {rule.id}: its test {test.name!r} {result}, and has to be one that {expected}.")


def check_results(rule: Rule, gate: Gate, select: Selector = EVERY_IMAGE) -> list[tuple[RuleTest, bool]]:
    """Return each test with whether the rule holds for its facts; raise `PolicyInvalid` if that cannot be evaluated.

    It holds for an image that its policy does not select, so that a rule which no selected image breaks fails its test.
    """
    results: list[tuple[RuleTest, bool]] = []
    for test in rule.document.tests:
        try:
            results.append((test, _passes(rule, test, gate, select)))
        except (PolicyInvalid, RuleNotEvaluated) as error:
            raise PolicyInvalid(f"rule {rule.id}, test {test.name!r}: {error.message}") from error
    return results


def _passes(rule: Rule, test: RuleTest, gate: Gate, select: Selector) -> bool:
    facts = make_example_facts(gate, test.facts, select)
    values = Values.of(gate, facts, test.now or TESTED, frozenset((rule.names_of_image,)))
    return not (rule.reasons(values) and is_selected(facts, select))


def refuses_nothing_tested(rule: Rule, gate: Gate, select: Selector) -> bool:
    """Return whether all tests pass, also those that fail with `tested_with`: the parameters may switch the rule off.

    Raise `PolicyInvalid` if a test cannot be evaluated.
    """
    return all(passes for _, passes in check_results(rule, gate, select))


def find_unnoticed(rule: Rule, gate: Gate, select: Selector = EVERY_IMAGE) -> Iterator[str]:
    """Yield the expressions that differ from the rule's own in one place, and pass its tests all the same.

    Such a place is not tested: an operator, a number, a text or a negation.
    """
    for key in ("when", "expression"):
        for changed in mutate(getattr(rule.document, key) or ""):
            try:
                run_tests(
                    compile_rule(rule.document.model_copy(update={key: changed}), make_language(gate)), gate, select
                )
            except PolicyInvalid:
                continue
            yield changed
