"""What proposed policies would change, for people: the same rows as lines and as a Markdown page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from supply_chain.fleet.preview import Effect, NotJudged, PolicyChange, PolicyPreview
from supply_chain.policy.outcome import Reason
from supply_chain.policy.upcoming import UpcomingRule
from supply_chain.reports.text import ROWS, escape, render_table
from supply_chain.text import pluralize, render_time, truncate_lines

COLUMNS = ("change", "application", "gate", "images", "reasons")
NAMED = 5
"""Number of images and of reasons of a row that are named one by one."""


@dataclass(frozen=True)
class Row:
    """The changes of one application at one gate that have the same effect and the same rules."""

    changes: tuple[PolicyChange, ...]

    @property
    def application(self) -> str:
        """The application."""
        return self.changes[0].subject.image.application

    @property
    def place(self) -> str:
        """The gate, with the environment or where the images run."""
        subject = self.changes[0].subject
        if subject.environment:
            return subject.gate_name
        running = sorted({each for change in self.changes for each in change.running})
        return f"{subject.gate_name}, running in {', '.join(running)}" if running else subject.gate_name

    @property
    def effect(self) -> Effect:
        """What changes."""
        return self.changes[0].effect

    @property
    def images(self) -> str:
        """The images, by the first digits of their digests."""
        names = truncate_lines(NAMED, [each.subject.image.short for each in self.changes])
        return f"{pluralize(len(self.changes), 'image')}: {', '.join(names)}"

    @property
    def reasons(self) -> list[str]:
        """The reasons that the proposed policies have and the current ones lack (+), and the other way round (-)."""
        of = ((sign, each) for change in self.changes for sign, each in _signed(change))
        lines = list(dict.fromkeys(f"{sign} {each.code}: {each.fact}" for sign, each in of))
        more = sum(change.omitted_reasons for change in self.changes) + len(lines[NAMED:])
        return [*lines[:NAMED], *([f"and {more} more"] if more else [])]


def _signed(change: PolicyChange) -> Iterator[tuple[str, Reason]]:
    yield from (("+", each) for each in change.new_reasons)
    yield from (("-", each) for each in change.removed_reasons)


def _rows(preview: PolicyPreview) -> list[Row]:
    """Return the changes in groups: refusals first, then by application and gate."""
    effects = list(Effect)
    groups: dict[tuple[int, str, str, tuple[str, ...]], list[PolicyChange]] = {}
    for each in preview.changes:
        codes = tuple(sorted({f"{sign}{reason.code}" for sign, reason in _signed(each)}))
        key = effects.index(each.effect), each.subject.image.application, each.subject.gate_name, codes
        groups.setdefault(key, []).append(each)
    return [Row(tuple(groups[key])) for key in sorted(groups)]


def _summary(preview: PolicyPreview) -> Iterator[str]:
    """Yield sentences with the policies and the numbers."""
    yield from (f"Proposed: {each}." for each in preview.decisions)
    if not preview.gates:
        yield "The proposed documents have the same effect as the current ones: nothing changes."
        return
    gates = " and ".join(f"the {gate} gate" for gate in preview.gates)
    yield f"Proposed: {', '.join(preview.policies)}, at {gates}." if preview.policies else f"It is judged at {gates}."
    counts = Counter(each.effect for each in preview.changes)
    effects = [f"{counts[effect]} {effect}" for effect in Effect if counts[effect]]
    yield f"{preview.judged} judged: {', '.join(effects) or 'nothing changes'}."
    if preview.not_judged:
        yield f"{len(preview.not_judged)} NOT judged, and neither changed nor unchanged: see the end."


def _unjudged(subjects: Sequence[NotJudged]) -> list[tuple[str, str, str]]:
    """Return place, images and reason of what was not judged."""
    groups: dict[tuple[str, str], list[str]] = {}
    for each in subjects:
        image = each.subject.image
        groups.setdefault((each.subject.gate_name, each.why), []).append(f"{image.application}@{image.short}")
    return [
        (place, f"{len(images)}: {', '.join(truncate_lines(NAMED, images))}", " ".join(why.split("\n")))
        for (place, why), images in sorted(groups.items())
    ]


def policy_preview_lines(preview: PolicyPreview) -> str:
    """Return what changes, by application and gate, with the reasons, and what was not judged."""
    lines = list(_summary(preview))
    for row in _rows(preview):
        lines.append(f"{row.effect}: {row.application}, {row.place}: {row.images}")
        lines += [f"    {each}" for each in row.reasons]
    lines += [f"not judged: {place}: {images}\n    {why}" for place, images, why in _unjudged(preview.not_judged)]
    return "\n".join(lines)


def policy_preview_page(preview: PolicyPreview) -> str:
    """Return the same as a Markdown page with tables."""
    cells = _cells(preview)
    parts = ["# Preview of policies", *map(escape, _summary(preview))]
    if cells:
        parts.append(render_table(COLUMNS, cells[:ROWS]))
    if more := cells[ROWS:]:
        parts.append(f"{len(more)} more rows: `cscm policy preview` prints all.")
    if preview.not_judged:
        parts += ["## Not judged", render_table(("gate", "images", "why"), _unjudged(preview.not_judged)[:ROWS])]
    return "\n\n".join(parts)


def policy_preview_rows(preview: PolicyPreview) -> list[dict[str, str]]:
    """Return the changes as rows of a table, and after them what was not judged."""
    unjudged = [("not judged", "", place, images, why) for place, images, why in _unjudged(preview.not_judged)]
    return [dict(zip(COLUMNS, each, strict=True)) for each in (*_cells(preview), *unjudged)]


def _cells(preview: PolicyPreview) -> list[tuple[str, ...]]:
    return [
        (row.effect.value, row.application, row.place, row.images, "; ".join(row.reasons)) for row in _rows(preview)
    ]


def upcoming_rules_page(rules: Sequence[UpcomingRule], preview: PolicyPreview) -> str:
    """Return Markdown with the rules that begin to refuse, and what `preview`, a preview with them, refuses more."""
    rows = [(each.rule, each.policy, ", ".join(each.gates), render_time(each.effective_on)) for each in rules]
    refused = [each.subject for each in preview.changes if each.effect is Effect.REFUSED]
    applications = sorted({each.image.application for each in refused})
    named = f" ({', '.join(map(escape, truncate_lines(NAMED, applications)))})" if refused else ""
    total = f"Of {preview.judged} stored images and deployments, they would refuse {len(refused)} more today{named}."
    others = f" {len(preview.not_judged)} were not judged: run `cscm inventory`." if preview.not_judged else ""
    return f"{render_table(('rule', 'policy', 'gates', 'refuses from'), rows)}\n\n{total}{others}"
