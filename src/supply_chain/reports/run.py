"""The report about one run: image, source, steps, findings, verdicts, and where the image runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from supply_chain.evidence.checks import CheckResult
from supply_chain.model.image import Material, Model, Source, shorten_digest
from supply_chain.policy.outcome import (
    Admitted,
    Refused,
    RuleOutcome,
    UsedWaiver,
    find_used_break_glass,
    list_used_waivers,
)
from supply_chain.policy.waivers import SOON
from supply_chain.reports.text import ROWS, escape, keep_together, render_table, truncate_rows
from supply_chain.text import pluralize, render_time, sanitize_text, truncate_lines
from supply_chain.vulnerability.findings import Report

LONGEST_REASON = 200
"""Maximum characters of the reason in the line of a check that only warned."""
MOST_REASONS = 20
"""Maximum number of reasons of a refusal on the run's page and in its log; the signed verdict has all."""


class Step(Model):
    """A step of a run, with its duration and result."""

    name: str
    seconds: float
    message: str = ""
    done: bool = Field(default=True, description="whether it came to its end; `message` says why it did not")


class RunReport(Model):
    """What is known of a run so far; later tiers add to it."""

    application: str
    owner: str = ""
    source: Source | None = None
    digest: str | None = None
    repository: str | None = None
    steps: tuple[Step, ...] = ()
    materials: tuple[Material, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    report: Report | None = None
    source_report: Report | None = Field(default=None, description="of the source's own dependencies")
    verdicts: tuple[Admitted[Any] | Refused, ...] = ()
    running: tuple[str, ...] = Field(default=(), description="where it runs now, as `in staging at http://…`")


def run_report_page(run: RunReport, now: datetime) -> str:
    """Render the page about a run: source, verdicts, where the image runs, steps, checks, findings, bases and rules."""
    parts = [
        f"# {escape(run.application)}",
        f"**{escape(run_summary(run))}**",
        _facts(run),
        _verdicts(run, now),
        _running(run),
        _steps(run),
        _checks(run),
        _findings(run),
        _materials(run),
        _rules(run),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def run_summary(run: RunReport) -> str:
    """Summarise a run in one sentence: how it ended, or how far it is."""
    broken = next((step for step in run.steps if not step.done), None)
    if broken:
        return f"Ended in {sanitize_text(broken.name)}: {sanitize_text(broken.message)}"[:300]
    verdict = run.verdicts[-1] if run.verdicts else None
    if isinstance(verdict, Refused):
        codes = sorted({reason.code for reason in verdict.reasons})
        return sanitize_text(
            f"Refused at the {verdict.gate} gate, {pluralize(len(verdict.reasons), 'reason')}: {', '.join(codes)}"
        )
    if run.running:
        return sanitize_text(f"Runs {'; '.join(run.running)}")
    if verdict:
        return sanitize_text(
            f"Admitted at the {verdict.gate} gate: {run.repository}@{shorten_digest(run.digest or '')}"
        )
    return sanitize_text(f"{run.steps[-1].name} done" if run.steps else "Nothing was done")


def _facts(run: RunReport) -> str:
    rows = [("owner", run.owner)] if run.owner else []
    if run.source:
        in_git = run.source.revision != "none"
        revision = run.source.revision if in_git else "none: the source is not in git"
        dirty = " with uncommitted changes" if in_git and run.source.dirty else ""
        rows += [("source", run.source.repository), ("revision", f"{revision}{dirty}")]
    if run.digest:
        rows += [("image", run.repository or ""), ("digest", run.digest)]
    report = run.report or run.source_report
    if report is None:
        return render_table(("", ""), rows) if rows else ""
    database = report.database
    note = " — the **starter database**, which covers few packages" if database.kind == "starter" else ""
    rows.append(("scanner", f"{report.scanner} {report.scanner_version}"))
    return render_table(("", ""), rows) + (
        f"\n| vulnerability database | {escape(database.kind)}, built {render_time(database.built)}, "
        f"`{escape(database.digest)}`{note} |"
    )


def _verdicts(run: RunReport, now: datetime) -> str:
    lines = [line for verdict in run.verdicts for line in _verdict(verdict, now)]
    return "## Verdicts\n\n" + "\n".join(lines) if lines else ""


def _verdict(verdict: Admitted[Any] | Refused, now: datetime) -> list[str]:
    waivers = [f"    - rests on the waiver {_waiver(each, now)}" for each in list_used_waivers(verdict.results)]
    glass = find_used_break_glass(verdict.results)
    notes = [
        *([f"    - **rests on a break-glass** {escape(glass)}"] if glass else []),
        *waivers,
        *(f"    - note: {escape(note)}" for note in verdict.notes),
    ]
    where = f"at the {verdict.gate} gate, policy `{verdict.policy[:19]}`"
    if isinstance(verdict, Refused):
        reasons = [f"`{escape(r.code)}` {escape(r.fact)}  \n      → {escape(r.remedy)}" for r in verdict.reasons]
        return [
            f"- **Refused** {where}, for {pluralize(len(verdict.reasons), 'reason')}:",
            *(f"    - {reason}" for reason in truncate_lines(MOST_REASONS, reasons)),
            *(f"    - {escape(each)}" for each in truncate_lines(MOST_REASONS, list(map(str, verdict.refused_rules)))),
            *notes,
        ]
    end = verdict.expires
    ends = [f"    - it ends on {render_time(end)}{_mark_soon(end, now, 'it ends')}"] if end else []
    return [f"- **Admitted** {where}", *ends, *notes]


def _waiver(waiver: UsedWaiver, now: datetime) -> str:
    return escape(waiver) + _mark_soon(waiver.expires, now, "it expires")


def _mark_soon(end: datetime, now: datetime, what: str) -> str:
    return f" — **{what} within a week**" if end <= now + SOON else ""


def _rules(run: RunReport) -> str:
    """Render each rule with its result at every gate that judged the image, those that did not just pass first."""
    judged = [verdict for verdict in run.verdicts if verdict.results]
    gates = [verdict.gate.value for verdict in judged]
    results = [{each.rule: each.result for each in verdict.results} for verdict in judged]
    order = list(RuleOutcome)
    rules = {
        rule: min(order.index(each[rule]) for each in results if rule in each)
        for rule in dict.fromkeys(rule for each in results for rule in each)
    }
    rows = [[rule, *(each.get(rule, "") for each in results)] for rule in sorted(rules, key=rules.__getitem__)]
    return "## Rules\n\n" + render_table(("rule", *(f"{gate} gate" for gate in gates)), rows) if rows else ""


def _running(run: RunReport) -> str:
    if not run.running:
        return "## Running\n\nNowhere from this run."
    return "## Running\n\n" + "\n".join(f"- {escape(each)}" for each in run.running)


def _steps(run: RunReport) -> str:
    if not run.steps:
        return ""
    rows = [(keep_together(step.name), keep_together(f"{step.seconds:.1f} s"), step.message) for step in run.steps]
    return "## Steps\n\n" + render_table(("step", "took", "result"), rows)


def _checks(run: RunReport) -> str:
    if not run.checks:
        return ""
    rows = [
        (
            c.check.value,
            c.outcome.value,
            keep_together(f"{c.interval.seconds:.1f} s"),
            "; ".join((*c.failed, *c.warned, *c.passed)[:6]),
        )
        for c in run.checks
    ]
    return "## Checks\n\n" + render_table(("check", "result", "took", "details"), rows)


def describe_checks(checks: Sequence[CheckResult]) -> str:
    """Return the result of each check in one line; of one that only warned, also why, by its first warning."""
    return ", ".join(map(_describe_check, checks))


def _describe_check(check: CheckResult) -> str:
    result = f"{check.check} {check.outcome.lower()}"
    why = ", ".join(truncate_lines(1, [each.rstrip(".") for each in check.warned]))
    return f"{result} ({why[:LONGEST_REASON]})" if why and not check.failed else result


def _findings(run: RunReport) -> str:
    if not run.report:
        return ""
    rows = [(name, str(n["total"]), str(n["fixable"])) for name, n in run.report.counts().items()]
    exploited = sum(f.known_exploited for f in run.report.findings)
    return (
        f"## Findings\n\n{findings_summary(run.report)}, {exploited} of them known to be exploited.\n\n"
        + render_table(("severity", "findings", "with a fix"), rows)
    )


def _materials(run: RunReport) -> str:
    if not run.materials:
        return ""
    rows = [(m.name, m.digest, "curated" if m.curated else "not curated") for m in run.materials]
    return "## Bases\n\n" + render_table(("base", "digest", ""), rows)


def findings_summary(report: Report) -> str:
    """Return the number of findings and packages, for a page and for the description of the findings table."""
    return f"{pluralize(len(report.findings), 'finding')} in {pluralize(report.packages, 'package')}"


def findings_table(report: Report, most: int = ROWS) -> list[dict[str, str]]:
    """Render rows for the findings table, worst first.

    The last row gives the number of omitted rows. Without findings, the only row says so.
    """
    rows = [
        {
            "vulnerability": sanitize_text(f.id),
            "severity": f.severity.value,
            "package": sanitize_text(f"{f.package} {f.version}"),
            "type": sanitize_text(f.type),
            "fixed in": sanitize_text(", ".join(f.fixed_in)) or "—",
            "exploited": "yes" if f.known_exploited else "",
            "EPSS": f"{f.epss:.3f}" if f.epss is not None else "",
        }
        for f in report.findings
    ]
    if not rows:
        rows.append(
            {
                "vulnerability": "none found",
                "severity": "",
                "package": f"{pluralize(report.packages, 'package')} looked at",
            }
        )
    return truncate_rows(rows, most)
