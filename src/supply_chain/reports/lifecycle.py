"""Reports about a lifecycle plan and about its result."""

from __future__ import annotations

from collections import Counter

from supply_chain.lifecycle.apply import Applied, Outcome
from supply_chain.lifecycle.plan import Plan
from supply_chain.reports.text import ROWS, format_megabytes, truncate_rows
from supply_chain.text import sanitize_text


def plan_rows(plan: Plan, most: int = ROWS) -> list[dict[str, str]]:
    """Render a row for each image of a plan, changed images first; the last row gives the number of omitted rows."""
    steps = sorted((s for s in plan.steps if not s.belongs_to), key=lambda s: (not s.touches, str(s.ref)))
    rows = [
        {
            "action": step.action.value,
            "image": f"{step.ref.repository}@{step.ref.short}",
            "rule": step.rule,
            "reason": sanitize_text(step.reason),
            "size": format_megabytes(step.size),
            "with it": str(len(step.dependents) or ""),
            "guarded by": sanitize_text("; ".join(step.protections)),
            "tags": sanitize_text(", ".join(step.tags)),
        }
        for step in steps
    ]
    over = [{"action": "needs approval", "image": sanitize_text(each)} for each in plan.exceeded_limits]
    return [*over, *truncate_rows(rows, most)] or [{"action": "nothing", "image": "no image is known"}]


def plan_lines(plan: Plan) -> str:
    """Render for a terminal what a plan changes, and by which rules the other images stay."""
    lines = [
        f"{step.action.value}: {step.ref} ({', '.join(step.tags) or 'no tag'}): {step.reason} [{step.rule}]"
        for step in plan.changes
    ]
    numbers = Counter(step.rule for step in plan.steps if not step.touches and not step.attached)
    rules = ", ".join(
        f"{number} by {rule}" for rule, number in sorted(numbers.items(), key=lambda each: (-each[1], each))
    )
    over = [f"needs approval: {each}" for each in plan.exceeded_limits]
    return "\n".join([*lines, *([f"keep: {rules}"] if rules else []), *over, str(plan)])


def applied_lines(applied: Applied) -> str:
    """Render the result of a plan for a terminal: a line for each step that was not done, then the totals."""
    lines = [
        sanitize_text(f"{e.outcome.value}: {e.action.value} {e.ref}: {f'{e.code}: ' if e.code else ''}{e.message}")
        for e in applied.entries
        if e.outcome is not Outcome.DONE
    ]
    return "\n".join([*lines, str(applied)])


def applied_rows(applied: Applied, most: int = ROWS) -> list[dict[str, str]]:
    """Render a row for each step of an applied plan: failed ones first, then skipped ones, then the others."""
    order = {Outcome.FAILED: 0, Outcome.SKIPPED: 1, Outcome.DONE: 2}
    entries = sorted(applied.entries, key=lambda e: (order[e.outcome], str(e.ref)))
    rows = [
        {
            "outcome": e.outcome.value,
            "action": e.action.value,
            "image": f"{e.ref.repository}@{e.ref.short}",
            "code": sanitize_text(e.code),
            "message": sanitize_text(e.message),
        }
        for e in entries
    ]
    return truncate_rows(rows, most) or [{"outcome": "nothing", "action": "the plan changes nothing"}]
