"""Reports about a rescan, for operators and owners."""

from __future__ import annotations

from collections.abc import Sequence

from supply_chain.fleet.exposure import MOST_REPORTED, RescanReport, RescanResult
from supply_chain.model.image import shorten_digest
from supply_chain.reports.text import escape, make_overflow_row, render_table, truncate_rows
from supply_chain.text import pluralize, render_time, sanitize_text, truncate_lines
from supply_chain.vulnerability.findings import Finding

TITLES = (
    "image", "runs in", "exploited", "verdict", "worse", "better", "due", "rebuild on", "owner", "what to do", "digest",
)  # fmt: skip


def rescan_rows(rescanned: RescanReport) -> list[dict[str, str]]:
    """Render a row for each image with something to report, most exposed first.

    Rows for images that were not rescanned or not judged come before all others.
    """
    broke_off = [{"image": "broke off", "verdict": _format_left(rescanned)}] if rescanned.images_not_rescanned else []
    unjudged = [
        {
            "image": sanitize_text(f"{each.ref.application} {each.ref.short}"),
            "verdict": "NOT JUDGED",
            "what to do": sanitize_text(f"{each.code}: {each.message}")[:400],
        }
        for each in rescanned.unjudged
    ]
    entries = [*broke_off, *truncate_rows(unjudged), *map(_result_row, rescanned.reported)]
    # Prefect takes columns from the first row
    rows = [{title: row.get(title, "") for title in TITLES} for row in entries]
    return [*rows, *make_overflow_row(rows, rescanned.omitted)] or [
        {
            "image": "nothing to report",
            "verdict": _explain_none(rescanned) or f"{pluralize(rescanned.images, 'image')} rescanned",
        }
    ]


def _format_left(rescanned: RescanReport) -> str:
    total = rescanned.images + rescanned.images_without_packages + rescanned.images_not_rescanned
    return f"{rescanned.images_not_rescanned} of {pluralize(total, 'image')} not rescanned"


def _explain_none(rescanned: RescanReport) -> str:
    """Return a sentence if no image carries the wanted packages; empty if one does or it is unknown."""
    if rescanned.images or rescanned.images_not_rescanned or not rescanned.packages:
        return ""
    archived = f"; {pluralize(rescanned.archived, 'archived image')} not rescanned" if rescanned.archived else ""
    return sanitize_text(f"no curated image that can be pulled contains {', '.join(rescanned.packages)}{archived}")


def _format_places(running: Sequence[str]) -> str:
    return sanitize_text(", ".join(each or "unrecorded" for each in running)) or "—"


def _result_row(result: RescanResult) -> dict[str, str]:
    return {
        "image": sanitize_text(f"{result.ref.application} {result.ref.short}"),
        "runs in": _format_places(result.running),
        "exploited": _format_findings(result.exploited),
        "verdict": _format_verdict(result),
        "worse": _format_findings(result.worse),
        "better": _format_findings(result.better),
        "due": _format_findings(result.due),
        "rebuild on": sanitize_text(
            "; ".join(f"{r.base} {shorten_digest(r.newest)}: {', '.join(r.findings[:5])}" for r in result.rebuild)
        ),
        "owner": sanitize_text(result.owner),
        "what to do": _format_action(result),
        "digest": result.ref.digest,
    }


def _format_verdict(result: RescanResult) -> str:
    now = "passes" if result.passes else "refused"
    if result.change is None:
        return now
    before = {None: "none", True: "passed", False: "refused"}[result.change.before]
    return f"{now}; before: {before}"


def _format_action(result: RescanResult) -> str:
    """Return what the owner of a refused image does next; empty if it passes."""
    if result.passes:
        return ""
    if result.rebuild:
        return "build again on the newer base"
    return "update the packages that are due" if result.due else "cscm explain DIGEST names the reasons"


def _format_findings(findings: Sequence[Finding]) -> str:
    named = list(dict.fromkeys(f"{f.id} in {f.package}" for f in findings))
    return sanitize_text(", ".join(truncate_lines(5, named)))


def owner_rows(rescanned: RescanReport) -> list[dict[str, str]]:
    """Render a row for each application, for its owner."""
    rows = [
        {
            "owner": sanitize_text(each.owner),
            "application": sanitize_text(each.application),
            "runs in": _format_places(each.running),
            **{title: str(getattr(each, title)) for title in ("exploited", "worse", "better", "due", "refused")},
            "rebuild on": sanitize_text(", ".join(each.rebuild)),
        }
        for each in rescanned.applications
    ]
    if rescanned.images_not_rescanned:
        rows = [{"owner": "broke off", "application": _format_left(rescanned)}, *rows]
    return rows or [{"owner": "—", "application": "nothing to report"}]


def rescan_summary(rescanned: RescanReport) -> str:
    """Summarise a rescan in one sentence."""
    carrying = sanitize_text(f" with {', '.join(rescanned.packages)}") if rescanned.packages else ""
    parts = [
        f"{pluralize(rescanned.images, 'image')}{carrying} in {rescanned.seconds:.0f} s",
        f"{pluralize(rescanned.changed, 'verdict')} changed",
        f"{pluralize(rescanned.exploited, 'image')} with known exploited findings",
        f"{pluralize(rescanned.signed, 'report')} signed",
    ]
    if rescanned.archived and rescanned.packages:
        parts.append(f"{pluralize(rescanned.archived, 'archived image')} not rescanned")
    if rescanned.unjudged:
        parts.insert(0, f"{pluralize(len(rescanned.unjudged), 'image')} NOT JUDGED")
    if rescanned.images_not_rescanned:
        parts.insert(0, f"broke off: {_format_left(rescanned)}")
    return _explain_none(rescanned) or "; ".join(parts)


def rescan_message(rescanned: RescanReport) -> str:
    """Render the notification about a rescan: the summary, and a line for each application with something to report."""
    lines = [
        sanitize_text(
            f"{each.owner or 'nobody'}: {each.application}: {each.images_exploited} exploited, "
            f"{each.refused} refused, {each.due} due"
        )
        for each in rescanned.applications
    ]
    return "\n".join([rescan_summary(rescanned), *truncate_lines(MOST_REPORTED, lines)])


def rescan_progress(done: int, total: int, seconds: float, unjudged: int) -> str:
    """Render the progress of a rescan: count, rate and time left."""
    rate = done / seconds if seconds > 0 else 0.0
    left = f"{(total - done) / rate:.0f} s left" if rate else "no rate yet"
    rows = [
        ("done", f"{done} of {total}"),
        ("rate", f"{rate:.1f} images/s"),
        ("left", left),
        ("not judged", str(unjudged)),
    ]
    return render_table(("", ""), rows)


def rescan_page(rescanned: RescanReport) -> str:
    """Render a rescan in markdown: its inputs, its results, and the images that need attention."""
    about = [
        ("database", f"{rescanned.database.kind}, built {render_time(rescanned.database.built)}"),
        ("its digest", rescanned.database.digest),
        ("scanner", rescanned.scanner),
        ("started", f"{rescanned.started:%Y-%m-%d %H:%M:%S} UTC"),
        *([("packages asked for", ", ".join(rescanned.packages))] if rescanned.packages else []),
        ("images rescanned", str(rescanned.images)),
        ("images without the packages asked for", str(rescanned.images_without_packages)),
        ("archived images, not rescanned", str(rescanned.archived)),
        ("rate", f"{rescanned.images / max(rescanned.seconds, 0.001):.1f} images/s"),
    ]
    parts = ["# Rescan", f"**{escape(rescan_summary(rescanned))}**", render_table(("", ""), about)]
    titles = TITLES[:-1]
    rows = [[row.get(title, "") for title in titles] for row in rescan_rows(rescanned)]
    parts.append("## By exposure\n\n" + render_table(titles, rows))
    return "\n\n".join(parts) + "\n"
