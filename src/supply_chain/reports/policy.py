"""What policies say, for people: a page with every rule, and the explanation of a decision."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cache
from itertools import pairwise
from typing import is_typeddict

from supply_chain.model.tier import Gate
from supply_chain.policy import fact_types
from supply_chain.policy.documents import PolicyDocument, RuleDocument
from supply_chain.policy.explanation import GateExplanation
from supply_chain.policy.expressions import IMAGE, NOW
from supply_chain.policy.fact_schema import find_element_type, is_optional, read_fields
from supply_chain.policy.fact_types import FACTS
from supply_chain.policy.outcome import RuleOutcome, RuleResult
from supply_chain.reports.text import render_table

TYPES = {str: "text", bool: "true or false", int: "integer", float: "number", datetime: "time"}
MARKS = {
    RuleOutcome.PASSED: "ok", RuleOutcome.WARNED: "note", RuleOutcome.REFUSED: "NO", RuleOutcome.WAIVED: "ok*",
    RuleOutcome.OVERRIDDEN: "ok!", RuleOutcome.NOT_APPLICABLE: "-",
}  # fmt: skip


def policy_page(documents: Iterable[PolicyDocument], level: int = 1) -> str:
    """Return Markdown with each rule of these policies as it is written; names of policies are headings of a level."""
    return "\n".join(line for document in documents for line in _policy(document, "#" * level))


def _policy(document: PolicyDocument, heading: str) -> Iterator[str]:
    yield f"{heading} Policy {document.name}, version {document.version}\n"
    yield f"{document.description} Gates: {', '.join(document.gates)}.\n"
    selected = document.select.model_dump(mode="json", exclude_none=True)
    if selected:
        yield f"It selects {'; '.join(f'{key}: {_listed(values)}' for key, values in selected.items())}.\n"
    if document.parameters:
        yield (
            render_table(("parameter", "value"), [(name, _listed(each)) for name, each in document.parameters.items()])
            + "\n"
        )
    for rule in document.rules:
        yield from _rule(rule, f"{heading}#")


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _rule(rule: RuleDocument, heading: str) -> Iterator[str]:
    effective = f" From {rule.effective_on:%Y-%m-%d %H:%M %Z}; before, it only warns." if rule.effective_on else ""
    yield f"{heading} {rule.id}\n"
    yield f"{rule.title}{effective}\n"
    texts = {key: getattr(rule, key) for key in ("when", "for_each", "expression", "message", "remedy")}
    yield "\n".join(["```", *(f"{key}: {text}" for key, text in texts.items() if text), "```\n"])
    if rule.matrix:
        yield f"- codes: {', '.join(f'`{each.id}`' for each in rule.expand())}"
    yield f"- severity: {rule.severity}"
    if not rule.waivable:
        yield "- nobody may waive it"
    if not rule.break_glass:
        yield "- no break-glass overrides it"
    if rule.references:
        yield f"- references: {', '.join(rule.references)}"
    for word, passes in (("passes", True), ("fails", False)):
        yield f"- {word}: {'; '.join(test.name for test in rule.tests if test.passes is passes)}"
    yield ""


def facts_page() -> str:
    """Return a Markdown page with the facts that the expressions of each gate read."""
    return "\n".join(line for gate, facts in FACTS.items() for line in _facts(gate, facts))


def _facts(gate: Gate, facts: type) -> Iterator[str]:
    yield f"# Facts of the {gate} gate\n"
    yield "A fact in brackets may be absent: ask `has(…)` first. `[]` is a list.\n"
    yield f"- `{NOW}` (time): The time of the decision."
    yield from _fields(facts, IMAGE)
    yield ""


def _fields(facts: type, path: str) -> Iterator[str]:
    meanings = _meanings()
    for name, kind in read_fields(facts).items():
        element = find_element_type(kind)
        fact = f"{path}.{name}{'[]' if element is not kind else ''}"
        text = meanings.get((facts.__name__, name), "") or meanings.get((element.__name__, ""), "")
        word = f" ({TYPES[element]})" if element in TYPES else ""
        yield f"- `{f'[{fact}]' if is_optional(facts, name) else fact}`{word}{f': {text}' if text else ''}"
        if is_typeddict(element):
            yield from _fields(element, fact)


@cache
def _meanings() -> Mapping[tuple[str, str], str]:
    """Return class and field → what it means; a class itself has no field. Fields are also those of its bases."""
    meanings: dict[tuple[str, str], str] = {}
    for node in ast.parse(inspect.getsource(fact_types)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        bases = {ast.unparse(each) for each in node.bases}
        meanings |= {(node.name, field): text for (of, field), text in meanings.items() if of in bases}
        meanings[node.name, ""] = ast.get_docstring(node) or ""
        for field, text in pairwise(node.body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                meanings[node.name, ast.unparse(field.target)] = str(ast.literal_eval(text.value))
    return meanings


def policy_explanation_lines(explanation: GateExplanation) -> str:
    """Return each rule with its result, what it says, and the facts that it read."""
    where = f" for {explanation.environment}" if explanation.environment else ""
    lines = [f"{explanation.image} at the {explanation.gate} gate{where}:"]
    for each in explanation.rules:
        facts = ", ".join(f"{path} = {value}" for path, value in each.facts.items())
        lines.append(f"{MARKS[each.result.result]:<4}  {each.result.rule}  ({each.result.policy})")
        lines += [f"        {reason.fact}" for reason in each.result.reasons]
        lines += [f"        {accepted}" for accepted in _accepted(each.result)]
        lines.append(f"        read: {facts}")
    return "\n".join(lines)


def _accepted(result: RuleResult) -> Iterator[str]:
    """Yield who accepts or overrides what breaks a rule."""
    yield from (f"waived by {waiver}" for waiver in result.waivers)
    if result.break_glass is not None:
        yield f"overridden by break-glass {result.break_glass}"


def policy_explanation_page(explanation: GateExplanation) -> str:
    """Return the same as a Markdown page with a table."""
    where = f" for {explanation.environment}" if explanation.environment else ""
    rows = [
        (
            each.result.result.value,
            each.result.rule,
            "; ".join([*(reason.fact for reason in each.result.reasons), *_accepted(each.result)]) or each.title,
            ", ".join(f"{path} = {value}" for path, value in each.facts.items()),
        )
        for each in explanation.rules
    ]
    heading = f"# {explanation.gate} gate{where}\n\n`{explanation.image}`\n\n"
    return heading + render_table(("result", "rule", "details", "facts"), rows)
