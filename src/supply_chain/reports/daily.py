"""The daily report: what ran last night, what changed, what waits for a person, what failed and what to do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from uuid import UUID

from pydantic import AwareDatetime, Field

from supply_chain.errors import SupplyChainError
from supply_chain.fleet.break_glass import OpenBreakGlass
from supply_chain.model.image import Model, shorten_digest
from supply_chain.reports.people import WaiverNotice
from supply_chain.reports.text import escape, keep_together, render_grid, render_table
from supply_chain.text import pluralize, render_time, sanitize_text

CODE = re.compile(r"\[([a-z]+(?:[.-][a-z]+)+)\]\s*$")
"""The code at the end of an error's message."""
FAILED = ("Failed", "Crashed", "TimedOut")
AWAITS_DECISION = ("Suspended", "Paused")
LATE = "Late"
UNDER_WAY = (
    "Running", "Retrying", "Pending", "Submitting", "InfrastructurePending", "Scheduled", "AwaitingRetry",
    "AwaitingConcurrencySlot", "Waiting", "Queued", "Abandoned",
)  # fmt: skip
"""States of runs without a result yet."""
CALLED_OFF = ("Cancelled", "Cancelling")
NO_SLOT = ("Cancelled", "Deployment concurrency limit reached.")
"""State and message of a run that Prefect cancelled because the one before had not ended in time."""
COVERED = "catch-up/on-pushes"
"""The deployment whose runs Prefect cancels routinely: a run that is already waiting does their work."""
IN_PART = ("Unreadable",)
"""States of runs in which a part could not be done."""
QUIET = ("Completed", "Unneeded", "Cached", "RolledBack", "Skipped", *CALLED_OFF)
"""States that need no action; a run that ended well under any other name found something."""
DIGEST = re.compile(r"sha256:([0-9a-f]{12})[0-9a-f]{52}")
MOST = 50
"""Maximum number of rows in a table; the number of further rows is shown."""
CHANGES = {
    "cscm.image.verdict-changed": "another verdict",
    "cscm.image.blocked": "blocked",
    "cscm.image.unblocked": "unblocked",
    "cscm.image.held": "held",
    "cscm.image.unheld": "no longer held",
    "cscm.image.refused": "refused",
    "cscm.image.signed": "admitted and signed",
    "cscm.image.decided": "decided by a person",
    "cscm.image.break-glass": "break-glass",
    "cscm.deployment.started": "deployed",
    "cscm.deployment.drifted": "drifted",
}
"""Events that report a change."""
STABLE_ARTIFACTS = {
    "images": "every curated image",
    "running": "what runs, and what differs from its record",
    "rescan": "the last rescan, by exposure",
    "rescan-owners": "the last rescan, by owner",
    "rescan-packages": "the last rescan for some packages",
    "lifecycle-plan": "what the lifecycle would do",
    "lifecycle-applied": "what the lifecycle did",
}
"""Artifacts with a stable key, and what each contains."""


class Run(Model):
    """A flow run as Prefect reports it."""

    id: UUID
    name: str
    deployment: str = Field(default="", description="flow/deployment; empty where somebody started it by hand")
    state: str
    message: str = ""
    at: AwareDatetime = Field(description="when it began, or should have")


class Change(Model):
    """A change that one of the chain's events reports."""

    event: str
    about: str = Field(description="the image, by repository and digest")
    at: AwareDatetime
    detail: str = ""


class DailyReport(Model):
    """The runs and events of a night, and what is open at its end. UI pages have addresses below `ui`."""

    since: AwareDatetime
    until: AwareDatetime
    runs: tuple[Run, ...] = ()
    waiting: tuple[Run, ...] = Field(default=(), description="runs that wait for a person, however long")
    changes: tuple[Change, ...] = ()
    artifacts: dict[str, str] = Field(default_factory=dict, description="key → id of the last version")
    views: dict[str, str] = Field(default_factory=dict, description="name → query of the list of runs")
    policies: str = Field(default="", description="what no gate decides, and why; empty: nothing")
    break_glass: tuple[OpenBreakGlass, ...] = Field(default=(), description="deployments that rest on a break-glass")
    upcoming: str = Field(default="", description="the rules that begin to refuse soon, and what they would refuse")
    waivers: str = Field(default="", description="a table of the waivers that expire soon or have no effect")
    waiver_notices: tuple[WaiverNotice, ...] = Field(default=(), description="what their owners are notified of, once")
    dead_letters: int | None = Field(default=None, description="messages that nobody could read; None where unknown")
    ui: str

    @property
    def failed(self) -> tuple[Run, ...]:
        """Scheduled and triggered runs that failed; a person who starts a run by hand sees its result."""
        return tuple(run for run in self.runs if run.state in FAILED and run.deployment)

    @property
    def late(self) -> tuple[Run, ...]:
        """Runs that should have started, but were not picked up or were cancelled for the one before."""
        return tuple(run for run in self.runs if run.state == LATE or _is_missing(run))

    @property
    def notable(self) -> tuple[Run, ...]:
        """Runs whose final state needs attention, such as Refused, Drifted or Unreadable."""
        ordinary = (*FAILED, *AWAITS_DECISION, *QUIET, *UNDER_WAY, LATE)
        return tuple(run for run in self.runs if run.state not in ordinary)

    @property
    def headline(self) -> str:
        """The summary in one line."""
        parts = [
            (len(self.break_glass), "by break-glass"),
            (len(self.waiting), "waits for you" if len(self.waiting) == 1 else "wait for you"),
            (len(self.failed), "failed"),
            (len(self.late), "did not start"),
            (self.dead_letters or 0, "could not be read"),
        ]
        counts = [f"{number} {what}" for number, what in parts if number]
        text = ", ".join([*(["gates do not decide"] if self.policies else []), *counts])
        return text[:1].upper() + text[1:] if text else "Nothing waits for you, and nothing failed"


def find_remedy(message: str) -> str:
    """Return the remedy for an error by the code at the end of its message."""
    code = CODE.search(message)
    for error in _errors_table(SupplyChainError):
        if code and error.code == code[1]:
            return " ".join((error.__doc__ or "").partition("\n\n")[2].split())
    return "Read the run's log, and start it again; an interrupted run leaves no partial result."


def _is_missing(run: Run) -> bool:
    """Return whether a run was cancelled for the one before it and no other run does its work."""
    return (run.state, run.message) == NO_SLOT and run.deployment != COVERED


def _errors_table(of: type[SupplyChainError]) -> Iterator[type[SupplyChainError]]:
    for each in of.__subclasses__():
        yield each
        yield from _errors_table(each)


def daily_report_page(report: DailyReport) -> str:
    """Render the report, in the order in which a reader acts on it."""
    parts = [
        f"# {escape(report.headline)}",
        f"{report.since:%Y-%m-%d %H:%M} to {render_time(report.until)}",
        *_inactive_policies(report.policies),
        *_break_glass(report),
        "## Waits for you",
        _render_table(("since", "run"), [(_format_time(r.at), _link(r, report)) for r in report.waiting], "Nothing."),
        "## Failed, and what to do",
        _render_table(
            ("when", "run", "message", "what to do"),
            [
                (
                    _format_time(last.at),
                    _link(last, report) + _format_rest(more),
                    _format_message(last.message),
                    _suggest_action(kind, report.runs),
                )
                for kind in _group_by_message(report.failed)
                for last, *more in [kind]
            ],
            "Nothing.",
        ),
        "## Did not start",
        _render_table(
            ("due", "run", "message"),
            [(_format_time(r.at), _link(r, report), _format_message(r.message)) for r in report.late],
            "Nothing.",
        ),
        *_dead_messages(report.dead_letters),
        *(["## Rules that begin to refuse", report.upcoming] if report.upcoming else []),
        *(["## Waivers", report.waivers] if report.waivers else []),
        "## What changed",
        _render_table(
            ("when", "what", "image", ""),
            [(_format_time(c.at), CHANGES[c.event], _format_image(c.about), escape(c.detail)) for c in report.changes],
            "Nothing.",
        ),
        "## What was found",
        _render_table(
            ("when", "run", "final state", "message"),
            [
                (_format_time(r.at), _link(r, report), escape(r.state), _format_message(r.message))
                for r in report.notable
            ],
            "Nothing out of the ordinary.",
        ),
        "## What ran",
        _runs_table(report),
        "## Look further",
        _more_links(report),
    ]
    return "\n\n".join(parts) + "\n"


def _inactive_policies(why: str) -> list[str]:
    if not why:
        return []
    do = "Read the files with `cscm policy check`; a person with `policies: true` signs with `cscm policy sign`."
    return ["## Gates do not decide", f"{escape(why[:1].upper() + why[1:])}. {do}"]


def _break_glass(report: DailyReport) -> list[str]:
    """Return the section on what was deployed although the deploy gate refused it; nothing without one."""
    if not report.break_glass:
        return []
    head = ("image", "environment", "owner", "until", "by", "reason", "state")
    rows = [
        (
            _format_image(str(each.image)),
            escape(each.environment),
            escape(each.owner),
            render_time(each.use.expires),
            escape(each.use.by),
            escape(each.use.reason),
            escape(_state(each, report.until)),
        )
        for each in report.break_glass
    ]
    end = "`cscm approve IMAGE --environment NAME --deny`"
    do = f"Each stays here until another deployment takes its place; to end one now: {end}."
    return ["## Deployed by break-glass", do, _render_table(head, rows, "")]


def _state(use: OpenBreakGlass, now: datetime) -> str:
    if use.reasons:
        return f"refused, and it still runs: {', '.join(use.reasons)}"
    return "expired, and it still runs" if use.use.expires <= now else "in effect"


def _dead_messages(number: int | None) -> list[str]:
    if not number:
        return []
    what = f"{pluralize(number, 'message')} about pushes could not be read"
    do = "`cscm events dead` shows, `cscm events replay --all` tries again, `cscm events discard ID` deletes one."
    return ["## Could not be read", f"{what}: {do}"]


def _runs_table(report: DailyReport) -> str:
    states: dict[str, Counter[str]] = {}
    for run in report.runs:
        states.setdefault(run.deployment or "by hand", Counter())[run.state] += 1
    rows = [
        (name, ", ".join(f"{number} {state}" for state, number in sorted(counts.items())))
        for name, counts in sorted(states.items())
    ]
    return render_table(("deployment", "runs"), rows) if rows else "Nothing."


def _more_links(report: DailyReport) -> str:
    ui = report.ui.rstrip("/")
    links = [
        f"- [{what}]({ui}/artifacts/artifact/{report.artifacts[key]})"
        for key, what in STABLE_ARTIFACTS.items()
        if key in report.artifacts
    ]
    runs = ", ".join(f"[{escape(name)}]({ui}/runs?{query})" for name, query in report.views.items())
    return "\n".join([*links, *([f"- runs: {runs}"] if runs else []), f"- [events of the chain]({ui}/events)"])


def _render_table(head: Sequence[str], rows: Sequence[Sequence[str]], none: str) -> str:
    """Render a table whose cells are already markdown."""
    if not rows:
        return none
    more = len(rows) - MOST
    return render_grid(head, rows[:MOST]) + (f"\n\n… and {more} more." if more > 0 else "")


def _suggest_action(alike: Sequence[Run], runs: Sequence[Run]) -> str:
    """Return what to do about runs with the same message, unless each has succeeded since."""
    well = [_find_later_success(each, runs) for each in alike]
    since = [each.at for each in well if each]
    if len(since) == len(alike):
        return f"Succeeded at {_format_time(max(since))}."
    return escape((f"{len(since)} of them succeeded since. " if since else "") + find_remedy(alike[0].message))


def _find_later_success(failed: Run, runs: Iterable[Run]) -> Run | None:
    """Return a later run of the same deployment and name that came to a result; None if there is none."""
    same, none = (failed.deployment, failed.name), (*FAILED, *AWAITS_DECISION, *UNDER_WAY, *CALLED_OFF, *IN_PART, LATE)
    after = (r for r in runs if (r.deployment, r.name) == same and r.at > failed.at and r.state not in none)
    return next(after, None)


def _link(run: Run, report: DailyReport) -> str:
    return f"[{escape(run.name)}]({report.ui.rstrip('/')}/runs/flow-run/{run.id})"


def _group_by_message(runs: Sequence[Run]) -> list[list[Run]]:
    """Group the runs of each deployment by their message, last run first."""
    kinds: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.at, reverse=True):
        kinds.setdefault((run.deployment, _format_message(run.message)), []).append(run)
    return list(kinds.values())


def _format_rest(runs: Sequence[Run]) -> str:
    return f" and {len(runs)} more" if runs else ""


def _format_message(message: str) -> str:
    """Return the message of a run with shortened digests, so that a table is no wider than its page."""
    text = DIGEST.sub(r"\1", message.removeprefix("Flow run encountered an exception: "))
    return escape(sanitize_text(text)[:300])


def _format_image(about: str) -> str:
    repository, _, digest = about.partition("@")
    return escape(f"{repository}@{shorten_digest(digest)}" if digest else about)


def _format_time(at: datetime) -> str:
    return keep_together(f"{at:%m-%d %H:%M}")


def list_reported_changes(events: Iterable[Change]) -> tuple[Change, ...]:
    """Return the events that report a change, last first, without duplicates."""
    distinct = {(c.event, c.about, c.detail): c for c in sorted(events, key=lambda c: c.at) if c.event in CHANGES}
    return tuple(sorted(distinct.values(), key=lambda c: c.at, reverse=True))
