"""What an operator reads about a run: pure functions from the model's values to markdown and rows.

Names and messages come from outside; they are shown as text and can neither format the page nor
control a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from supply_chain.evidence.checks import CheckResult
from supply_chain.execution.monitor import Observation
from supply_chain.fleet.explain import Explanation
from supply_chain.fleet.exposure import Rescanned, Seen, by_application
from supply_chain.fleet.known import KnownImage, Running
from supply_chain.fleet.where import Place
from supply_chain.image import Frozen, Material, Source, short
from supply_chain.lifecycle.apply import Applied, Outcome
from supply_chain.lifecycle.plan import Plan
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.rules import POLICIES
from supply_chain.promotion.response import Response
from supply_chain.shown import counted, plain
from supply_chain.tier import Boundary
from supply_chain.vulnerability.findings import Finding, Report

SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")

GATES = {
    Boundary.TO_CURATION: "admission to curation",
    Boundary.CURATION: "curation's own gate, before it signs",
    Boundary.TO_EXECUTION: "admission to execution",
}


class Step(Frozen):
    """One step as it went."""

    name: str
    seconds: float
    said: str = ""
    done: bool = Field(default=True, description="whether it came to its end; `said` tells why it did not")


class Story(Frozen):
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


def unbroken(text: str) -> str:
    """Text that a narrow column does not break, for short things such as `12.3 s`."""
    return text.replace(" ", "\u00a0")


def escaped(text: object) -> str:
    """Text that markdown shows as it is."""
    return SPECIAL.sub(r"\\\1", plain(text))


def dossier(story: Story) -> str:
    """The page an operator opens first: what, from where, how long, what was found and decided, where it runs."""
    parts = [
        f"# {escaped(story.application)}",
        f"**{escaped(summary(story))}**",
        _facts(story),
        _decisions(story),
        _running(story),
        _steps(story),
        _checks(story),
        _findings(story),
        _materials(story),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(story: Story) -> str:
    """The run in one sentence: how it ended, or how far it has come."""
    broken = next((step for step in story.steps if not step.done), None)
    if broken:
        return f"Ended in {plain(broken.name)}: {plain(broken.said)}"[:300]
    verdict = story.verdicts[-1] if story.verdicts else None
    if isinstance(verdict, Refused):
        codes = sorted({reason.code for reason in verdict.reasons})
        return plain(f"Refused at {verdict.boundary}, {counted(len(verdict.reasons), 'reason')}: {', '.join(codes)}")
    if story.running:
        return plain(f"Runs {'; '.join(story.running)}")
    if verdict:
        return plain(f"Admitted at {verdict.boundary}: {story.repository}@{short(story.digest or '')}")
    return plain(f"{story.steps[-1].name} done" if story.steps else "Nothing was done")


def _facts(story: Story) -> str:
    rows = [("owner", story.owner)] if story.owner else []
    if story.source:
        known = story.source.revision != "none"
        revision = story.source.revision if known else "none: the source is not in git"
        dirty = " with uncommitted changes" if known and story.source.dirty else ""
        rows += [("source", story.source.repository), ("revision", f"{revision}{dirty}")]
    if story.digest:
        rows += [("image", story.repository or ""), ("digest", story.digest)]
    report = story.report or story.source_report
    if report is None:
        return table(("", ""), rows) if rows else ""
    database = report.database
    note = " — the **starter database**, which covers few packages" if database.kind == "starter" else ""
    rows.append(("scanner", f"{report.scanner} {report.scanner_version}"))
    return table(("", ""), rows) + (
        f"\n| vulnerability database | {escaped(database.kind)}, built {database.built:%Y-%m-%d %H:%M} UTC, "
        f"`{escaped(database.digest)}`{note} |"
    )


def _decisions(story: Story) -> str:
    lines = [line for verdict in story.verdicts for line in _decision(verdict)]
    return "## Decided\n\n" + "\n".join(lines) if lines else ""


def _decision(verdict: Admitted[Any] | Refused) -> list[str]:
    notes = [f"    - note: {escaped(note)}" for note in verdict.notes]
    where = f"at {verdict.boundary} ({GATES[verdict.boundary]}), policy `{verdict.policy[:19]}`"
    if isinstance(verdict, Refused):
        return [
            f"- **Refused** {where}, for {counted(len(verdict.reasons), 'reason')}:",
            *(f"    - `{escaped(r.code)}` {escaped(r.fact)}  \n      → {escaped(r.remedy)}" for r in verdict.reasons),
            *notes,
        ]
    policy = POLICIES[verdict.boundary]
    held = [rule.__name__.replace("_", " ") for rule in policy.rules] if policy.digest == verdict.policy else []
    return [
        f"- **Admitted** {where}",
        *([f"    - every rule held: {escaped(', '.join(held))}"] if held else []),
        *notes,
    ]


def _running(story: Story) -> str:
    if not story.running:
        return "## Running\n\nNowhere from this run."
    return "## Running\n\n" + "\n".join(f"- {escaped(each)}" for each in story.running)


def _steps(story: Story) -> str:
    if not story.steps:
        return ""
    rows = [(unbroken(step.name), unbroken(f"{step.seconds:.1f} s"), step.said) for step in story.steps]
    return "## Steps\n\n" + table(("step", "took", "result"), rows)


def _checks(story: Story) -> str:
    if not story.checks:
        return ""
    rows = [
        (
            c.check.value,
            c.outcome.value,
            unbroken(f"{c.interval.seconds:.1f} s"),
            "; ".join((*c.failed, *c.warned, *c.passed)[:6]),
        )
        for c in story.checks
    ]
    return "## Checks\n\n" + table(("check", "result", "took", "said"), rows)


def _findings(story: Story) -> str:
    if not story.report:
        return ""
    rows = [(name, str(n["total"]), str(n["fixable"])) for name, n in story.report.counts().items()]
    exploited = sum(f.known_exploited for f in story.report.findings)
    return f"## Found\n\n{found(story.report)}, {exploited} of them known to be exploited.\n\n" + table(
        ("severity", "findings", "with a fix"), rows
    )


def _materials(story: Story) -> str:
    if not story.materials:
        return ""
    rows = [(m.name, m.digest, "curated" if m.curated else "not curated") for m in story.materials]
    return "## Built on\n\n" + table(("base", "digest", ""), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are shown as they are."""
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    lines += [f"| {' | '.join(escaped(cell)[:400] for cell in row)} |" for row in rows]
    return "\n".join(lines)


def found(report: Report) -> str:
    """How much was found in how much, for a page and for the findings table's description."""
    return f"{counted(len(report.findings), 'finding')} in {counted(report.packages, 'package')}"


def findings_table(report: Report, most: int = 500) -> list[dict[str, str]]:
    """Rows for the findings table, worst first; the last row says what was left out, the only one that nothing is."""
    rows = [
        {
            "vulnerability": plain(f.id),
            "severity": f.severity.value,
            "package": plain(f"{f.package} {f.version}"),
            "type": plain(f.type),
            "fixed in": plain(", ".join(f.fixed_in)) or "—",
            "exploited": "yes" if f.known_exploited else "",
            "EPSS": f"{f.epss:.3f}" if f.epss is not None else "",
        }
        for f in report.findings[:most]
    ]
    if not rows:
        rows.append(
            {
                "vulnerability": "none found",
                "severity": "",
                "package": f"{counted(report.packages, 'package')} looked at",
            }
        )
    if len(report.findings) > most:
        rows.append({"vulnerability": f"{len(report.findings) - most} more", "severity": "", "package": ""})
    return rows


def observation_rows(observation: Observation) -> list[dict[str, str]]:
    """One row for what runs as it should, else one per deviation."""
    first = {
        "environment": plain(observation.environment),
        "application": plain(observation.application) or "—",
        "status": plain(observation.status) + (", healthy" if observation.healthy else ""),
    }
    last = {
        "address": plain(observation.address),
        "restarts": str(observation.restarts),
        "digest": short(observation.running or observation.wanted),
        "container": plain(observation.name),
    }
    if not observation.deviations:
        return [{**first, "deviation": "none", "what to do": "", **last}]
    return [
        {**first, "deviation": plain(f"{d.code}: {d.fact}"), "what to do": plain(d.remedy), **last}
        for d in observation.deviations
    ]


def observation_lines(observation: Observation) -> str:
    """What an observation comes to, for a terminal: a line, and one more for each deviation."""
    who = f"{observation.environment}/{observation.application or 'unknown'}"
    health = "healthy" if observation.healthy else observation.status
    lines = [
        f"{who}: {observation.name} {health} {short(observation.running or observation.wanted)} {observation.address}"
    ]
    lines += [f"  {d.code}: {d.fact}\n      → {d.remedy}" for d in observation.deviations]
    return "\n".join(lines)


def plan_rows(plan: Plan, most: int = 500) -> list[dict[str, str]]:
    """One row for each image of a plan, what is changed first; the last row says what was left out."""
    steps = sorted((s for s in plan.steps if not s.belongs_to), key=lambda s: (not s.touches, str(s.ref)))
    rows = [
        {
            "action": step.action.value,
            "image": f"{step.ref.repository}@{step.ref.short}",
            "rule": step.rule,
            "reason": plain(step.reason),
            "size": f"{step.size / 1e6:.1f} MB",
            "with it": str(len(step.depends) or ""),
            "guarded by": plain("; ".join(step.guards)),
            "tags": plain(", ".join(step.tags)),
        }
        for step in steps[:most]
    ]
    rows += [{"action": "needs approval", "image": plain(each)} for each in plan.over]
    if len(steps) > most:
        rows.append({"action": f"{len(steps) - most} more", "image": ""})
    return rows or [{"action": "nothing", "image": "no image is known"}]


def plan_lines(plan: Plan) -> str:
    """What a plan changes, for a terminal."""
    lines = [
        f"{step.action.value}: {step.ref} ({', '.join(step.tags) or 'no tag'}): {step.reason} [{step.rule}]"
        for step in plan.changes
    ]
    return "\n".join([*lines, *(f"needs approval: {each}" for each in plan.over), str(plan)])


def applied_rows(applied: Applied, most: int = 500) -> list[dict[str, str]]:
    """One row for each step of a plan that was carried out, what failed first, then what was skipped."""
    order = {Outcome.FAILED: 0, Outcome.SKIPPED: 1, Outcome.DONE: 2}
    entries = sorted(applied.entries, key=lambda e: (order[e.outcome], str(e.ref)))
    rows = [
        {
            "outcome": e.outcome.value,
            "action": e.action.value,
            "image": f"{e.ref.repository}@{e.ref.short}",
            "code": plain(e.code),
            "said": plain(e.said),
        }
        for e in entries[:most]
    ]
    if len(entries) > most:
        rows.append({"outcome": f"{len(entries) - most} more", "action": ""})
    return rows or [{"outcome": "nothing", "action": "the plan changes nothing"}]


def image_row(image: KnownImage) -> dict[str, str]:
    """An image of the inventory, for a table or a terminal."""
    last = max(image.judgements, key=lambda each: each.at, default=None)
    return {
        "application": plain(image.application),
        "digest": short(image.ref.digest),
        "revision": plain(image.source.short) if image.source else "—",
        "owner": plain(image.owner) or "—",
        "state": _state(image),
        "runs in": _where(image.running),
        "findings": _counted_findings(image),
        "size": megabytes(image.stored.size),
        "pushed": day(image.stored.pushed_at),
        "pulled": day(image.stored.pulled_at),
        "judged": day(last.at if last else None),
        "tags": plain(", ".join(image.stored.tags)) or "—",
    }


def _state(image: KnownImage) -> str:
    if image.unreadable:
        return f"unreadable: {plain(image.unreadable.splitlines()[0])}"
    refused = [each for boundary in Boundary if (each := image.last(boundary)) and not each.passed]
    state = "refused" if refused else "vended" if image.vended else "never admitted"
    codes = sorted({reason.code for each in refused for reason in each.reasons})
    kept = "" if image.stored.status == "ACTIVE" else f", {image.stored.status.lower()}"
    return plain(state + (f" ({', '.join(codes)})" if codes else "") + kept)


def _where(running: Sequence[Running]) -> str:
    return plain(", ".join(sorted({each.environment or f"{each.name} (unrecorded)" for each in running}))) or "—"


def _counted_findings(image: KnownImage) -> str:
    if image.scan is None:
        return "not scanned"
    exploited = len(image.scan.exploited)
    return str(len(image.scan.findings)) + (f", {exploited} exploited" if exploited else "")


def megabytes(size: int) -> str:
    """Bytes, for people: `12.3 MB`."""
    return f"{size / 1e6:.1f} MB"


def day(at: datetime | None) -> str:
    """A date, or that there is none."""
    return f"{at:%Y-%m-%d}" if at else "never"


def place_row(place: Place) -> dict[str, str]:
    """An image in which something is, for a table or a terminal."""
    return {
        "application": plain(place.image.application),
        "digest": place.image.short,
        "owner": plain(place.owner) or "—",
        "runs in": _where(place.running),
        "why": plain(place.why),
        "tags": plain(", ".join(place.tags)) or "—",
    }


Section = tuple[str, Sequence[str], Sequence[Sequence[str]], str]
"""A title, what is above the columns, the rows, and what is said where there are none."""


def _told(told: Explanation) -> list[Section]:
    """What the page about an image tells."""
    image = told.image
    facts = [
        ("digest", image.ref.digest),
        ("owner", image.owner or "—"),
        ("state", _state(image)),
        ("revision", image.source.revision if image.source else "—"),
        ("source", image.source.repository if image.source else "—"),
        ("tags", ", ".join(image.stored.tags) or "—"),
        ("size", megabytes(image.stored.size)),
        ("pulled", day(image.stored.pulled_at)),
        ("SBOM", f"{image.ref.repository}@{image.sbom}" if image.sbom else "—"),
        ("findings", _counted_findings(image)),
    ]
    runs = [
        (each.environment or "unrecorded", each.name, each.address, _health(each), f"{each.since:%Y-%m-%d %H:%M} UTC")
        for each in image.running
    ]
    refused = [each for boundary in Boundary if (each := image.last(boundary)) and not each.passed]
    reasons = [(str(each.boundary), r.code, r.fact, r.remedy) for each in refused for r in each.reasons]
    events = [(f"{m.at:%Y-%m-%d %H:%M:%S}" if m.at else "?", m.what, m.by or "—", m.evidence) for m in told.timeline]
    below = [
        (base.name, base.digest, "vended" if base.vended else "not vended" if base.known else "no longer there")
        for base in told.built_from
    ]
    above = [(ref.application, ref.digest) for ref in told.built_on_it]
    return [
        ("", ("", ""), facts, ""),
        ("Runs", ("environment", "container", "address", "health", "since"), runs, "Nowhere."),
        ("Refused", ("gate", "reason", "fact", "remedy"), reasons, "By no gate."),
        ("What happened (UTC)", ("when", "what", "signed by", "evidence"), events, ""),
        ("Built on", ("base", "digest", ""), below, "On no curated base."),
        ("Built on it", ("application", "digest"), above, "Nothing."),
    ]


def explanation(told: Explanation) -> str:
    """The page about one image: what it is, where it runs, what happened to it and why, and what hangs on it."""
    parts = [f"# {escaped(told.image.ref.repository)}@{told.image.ref.short}"]
    for title, head, rows, none in _told(told):
        parts += [*([f"## {title}"] if title else []), table(head, rows) if rows else none]
    return "\n\n".join(parts) + "\n"


def explanation_lines(told: Explanation) -> str:
    """The same for a terminal."""
    lines = [f"{told.image.ref.repository}@{told.image.ref.short}"]
    for title, _, rows, none in _told(told):
        lines += ["", title] if title else []
        cells = [[plain(cell) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in cells] or [f"  {none}"]
    return "\n".join(lines) + "\n"


def _health(running: Running) -> str:
    return {True: "healthy", False: "not well", None: "not known"}[running.healthy]


def response_page(found: Response) -> str:
    """What is told to the owner of an image about which something happened."""
    rows = [(r.environment, r.address, r.container, r.seen) for r in found.running]
    running = table(("environment", "address", "container", "seen"), rows) if rows else "Nothing runs from it."
    parts = [
        f"# {escaped(found.image.application)}: {escaped(found.happened)}",
        f"`{found.image}` of **{escaped(found.owner)}**",
        "\n".join(f"- {escaped(fact)}" for fact in found.facts),
        f"## What it stops\n\n{escaped(found.stops)}",
        "\n".join(f"- on its way: {escaped(run)}" for run in found.on_the_way),
        f"## What runs from it\n\n{running}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def alert_page(about: str, what: str, remedy: str) -> str:
    """What is told to whoever operates the chain."""
    return f"# {escaped(what)}\n\n**{escaped(about)}**\n\nWhat to do: {escaped(remedy)}\n"


MOST = 500
"""Rows of a table, at most; what is left out is counted in the last one."""


def rescan_rows(rescanned: Rescanned) -> list[dict[str, str]]:
    """One row per image of which there is something to tell, the most exposed first; what was not judged before all."""
    rows = [
        {
            "image": plain(f"{each.ref.application} {each.ref.short}"),
            "verdict": "NOT JUDGED",
            "what to do": plain(f"{each.code}: {each.message}")[:400],
        }
        for each in rescanned.unjudged
    ]
    rows += [_seen_row(each) for each in rescanned.told]
    left = len(rows) - MOST
    if left > 0:
        rows = [*rows[:MOST], {"image": f"{left} more"}]
    return rows or [{"image": "nothing to tell", "verdict": f"{counted(rescanned.images, 'image')} looked at"}]


def _seen_row(seen: Seen) -> dict[str, str]:
    return {
        "image": plain(f"{seen.ref.application} {seen.ref.short}"),
        "runs in": plain(", ".join(seen.running)) or "—",
        "exploited": _ids(seen.exploited),
        "verdict": _verdict(seen),
        "worse": _ids(seen.worse),
        "better": _ids(seen.better),
        "due": _ids(seen.due),
        "rebuild on": plain(
            "; ".join(f"{r.base} {short(r.newest)}: {', '.join(r.findings[:5])}" for r in seen.rebuild)
        ),
        "owner": plain(seen.owner),
        "digest": seen.ref.digest,
    }


def _verdict(seen: Seen) -> str:
    now = "passes" if seen.passes else "refused"
    if seen.change is None:
        return now
    before = {None: "none", True: "passed", False: "refused"}[seen.change.before]
    return f"{now}; before: {before}"


def _ids(findings: Sequence[Finding], most: int = 5) -> str:
    named = list(dict.fromkeys(f"{f.id} in {f.package}" for f in findings))
    more = f" and {len(named) - most} more" if len(named) > most else ""
    return plain(", ".join(named[:most]) + more)


def owner_rows(rescanned: Rescanned) -> list[dict[str, str]]:
    """A line per application for its owner."""
    rows = [
        {
            "owner": plain(owner),
            "application": plain(application),
            "runs in": plain(", ".join(sorted({name for each in images for name in each.running}))) or "—",
            **{
                title: str(sum(len(getattr(each, name)) for each in images))
                for title, name in (
                    ("exploited", "exploited"),
                    ("worse", "worse"),
                    ("better", "better"),
                    ("due", "due"),
                )
            },
            "refused": str(sum(not each.passes for each in images)),
            "rebuild on": plain(", ".join(sorted({r.base for each in images for r in each.rebuild}))),
        }
        for (owner, application), images in by_application(rescanned.told).items()
    ]
    return rows or [{"owner": "—", "application": "nothing to tell anybody"}]


def rescan_summary(rescanned: Rescanned) -> str:
    """A rescan in one sentence."""
    said = [
        f"{counted(rescanned.images, 'image')} in {rescanned.seconds:.0f} s",
        f"{counted(rescanned.changed, 'verdict')} changed",
        f"{counted(rescanned.exploited, 'image')} with known exploited findings",
        f"{counted(rescanned.signed, 'report')} signed",
    ]
    if rescanned.unjudged:
        said.insert(0, f"{counted(len(rescanned.unjudged), 'image')} NOT JUDGED")
    return "; ".join(said)


def rescan_message(rescanned: Rescanned) -> str:
    """What is sent to people: the sentence, and a line for each application of which somebody should hear."""
    lines = [rescan_summary(rescanned)]
    for (owner, application), images in by_application(rescanned.told).items():
        exploited, refused = (sum(bool(each.exploited) for each in images), sum(not each.passes for each in images))
        due = sum(len(each.due) for each in images)
        lines.append(plain(f"{owner or 'nobody'}: {application}: {exploited} exploited, {refused} refused, {due} due"))
    return "\n".join(lines[:MOST])


def rescan_progress(done: int, total: int, seconds: float, unjudged: int) -> str:
    """How far a rescan is: count, rate and time left."""
    rate = done / seconds if seconds > 0 else 0.0
    left = f"{(total - done) / rate:.0f} s left" if rate else "no rate yet"
    rows = [
        ("done", f"{done} of {total}"),
        ("rate", f"{rate:.1f} images/s"),
        ("left", left),
        ("not judged", str(unjudged)),
    ]
    return table(("", ""), rows)


def rescan_page(rescanned: Rescanned) -> str:
    """What a rescan rests on and came to, and the images that ask for somebody, in markdown."""
    about = [
        ("database", f"{rescanned.database.kind}, built {rescanned.database.built:%Y-%m-%d %H:%M} UTC"),
        ("its digest", rescanned.database.digest),
        ("scanner", rescanned.scanner),
        ("started", f"{rescanned.started:%Y-%m-%d %H:%M:%S} UTC"),
        ("images looked at", str(rescanned.images)),
        ("images without the packages asked for", str(rescanned.without)),
        ("archived images, not looked at", str(rescanned.archived)),
        ("rate", f"{rescanned.images / max(rescanned.seconds, 0.001):.1f} images/s"),
    ]
    parts = ["# Rescan", f"**{escaped(rescan_summary(rescanned))}**", table(("", ""), about)]
    titles = ("image", "runs in", "exploited", "verdict", "worse", "better", "due", "rebuild on", "owner", "what to do")
    rows = [[row.get(title, "") for title in titles] for row in rescan_rows(rescanned)]
    parts.append("## By exposure\n\n" + table(titles, rows))
    return "\n\n".join(parts) + "\n"
