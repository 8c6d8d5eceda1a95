"""Reports about images: tables of images, the history of one, and search results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import itemgetter

from supply_chain.fleet.explain import Explanation
from supply_chain.fleet.image import FleetImage, Running
from supply_chain.fleet.where import Place
from supply_chain.model.image import shorten_digest
from supply_chain.model.tier import CURATION_GATES
from supply_chain.reports.text import escape, format_day, format_megabytes, render_table
from supply_chain.text import pluralize, render_time, sanitize_text

NEVER = "Nobody has looked at what runs yet, so something may be missing: run `cscm inventory`."


def image_rows(images: Iterable[FleetImage]) -> list[dict[str, str]]:
    """Render a table of images: those that run first, then by last push."""
    rows = [((bool(each.running), each.stored.pushed_at), image_row(each)) for each in images]
    return [row for _, row in sorted(rows, key=itemgetter(0), reverse=True)]


def image_row(image: FleetImage) -> dict[str, str]:
    """Render an image of the inventory, for a table or a terminal."""
    last = max(image.judgements, key=lambda each: each.at, default=None)
    return {
        "application": sanitize_text(image.application),
        "digest": shorten_digest(image.ref.digest),
        "revision": sanitize_text(image.source.short) if image.source else "—",
        "owner": sanitize_text(image.owner) or "—",
        "state": _format_state(image),
        "runs in": _format_places(image.running),
        "findings": _format_findings(image),
        **_format_stored(image),
        "judged": format_day(last.at if last else None),
        "tags": sanitize_text(", ".join(image.stored.tags)) or "—",
    }


def _format_state(image: FleetImage) -> str:
    storage = ", gone from the registry" if image.missing else ""
    if image.unreadable:
        return f"unreadable: {sanitize_text(image.unreadable.splitlines()[0])}{storage}"
    storage += "" if image.stored.status == "ACTIVE" else f", {image.stored.status.lower()}"
    if image.blocked:
        return sanitize_text(f"blocked {image.blocked}{storage}")
    refused = [each for gate in CURATION_GATES if (each := image.last(gate)) and not each.passed]
    state = "refused" if refused else "released" if image.released else "not admitted yet"
    codes = sorted({reason.code for each in refused for reason in each.reasons})
    hold = ", held" if image.held else ""
    return sanitize_text(state + (f" ({', '.join(codes)})" if codes else "") + hold + storage)


def _format_stored(image: FleetImage) -> dict[str, str]:
    """Render what the registry says of an image; dashes if it is gone."""
    stored = image.stored
    cells = {
        "size": format_megabytes(stored.size),
        "pushed": format_day(stored.pushed_at),
        "pulled": format_day(stored.pulled_at),
    }
    return dict.fromkeys(cells, "—") if image.missing else cells


def _format_places(running: Sequence[Running]) -> str:
    names = {each.environment or f"{each.workload or each.name} (unrecorded)" for each in running}
    return sanitize_text(", ".join(sorted(names))) or "—"


def _format_workload(running: Running) -> str:
    """Render what runs: a container, or a workload of a cluster with its place and its pods."""
    if not running.cluster:
        return running.name
    pods = f" ({pluralize(len(running.pods), 'pod')}: {', '.join(running.pods)})" if running.pods else ""
    return f"{running.place} {running.workload}{pods}"


def _format_workloads(running: Sequence[Running]) -> str:
    """Render where an image runs: environments, and in clusters the workloads with their pods."""
    names = {
        f"{each.environment or 'unrecorded'}: {_format_workload(each)}"
        if each.cluster
        else each.environment or f"{each.name} (unrecorded)"
        for each in running
    }
    return sanitize_text("; ".join(sorted(names))) or "—"


def _format_findings(image: FleetImage) -> str:
    if image.scan is None:
        return "not scanned"
    exploited = len(image.scan.exploited)
    return str(len(image.scan.findings)) + (f", {exploited} exploited" if exploited else "")


def place_row(place: Place) -> dict[str, str]:
    """Render an image of a search result, for a table or a terminal."""
    return {
        "application": sanitize_text(place.image.application),
        "digest": place.image.short,
        "owner": sanitize_text(place.owner) or "—",
        "runs in": _format_workloads(place.running),
        "match": sanitize_text(place.match),
        "tags": sanitize_text(", ".join(place.tags)) or "—",
    }


def freshness_line(reconciled: datetime | None, not_counted: str = "") -> str:
    """Render how far an answer of the inventory can be trusted: its age, and the images that it does not cover."""
    when = f"as of {render_time(reconciled)} and the events since" if reconciled else NEVER
    return f"{when}\nnot counted: {not_counted}" if not_counted else when


Section = tuple[str, Sequence[str], Sequence[Sequence[str]], str]
"""A title, the column heads, the rows, and the text if there are no rows."""


def _explanation_sections(details: Explanation) -> list[Section]:
    """Return the sections of the page about an image."""
    image = details.image
    facts = [
        ("digest", image.ref.digest),
        ("owner", image.owner or "—"),
        ("state", _format_state(image)),
        ("revision", image.source.revision if image.source else "—"),
        ("source", image.source.repository if image.source else "—"),
        ("tags", ", ".join(image.stored.tags) or "—"),
        *((name, _format_stored(image)[name]) for name in ("size", "pulled")),
        ("SBOM", f"{image.ref.repository}@{image.sbom}" if image.sbom else "not known" if image.unreadable else "none"),
        ("findings", _format_findings(image)),
        *([("cannot be read", " — ".join(image.unreadable.splitlines()))] if image.unreadable else []),
    ]
    runs = [
        (
            each.environment or "unrecorded",
            _format_workload(each),
            each.address,
            _format_health(each),
            render_time(each.since),
        )
        for each in image.running
    ]
    reasons = [(each.gate_name, r.code, r.fact, r.remedy) for each in image.refusals for r in each.reasons]
    events = [(f"{m.at:%Y-%m-%d %H:%M:%S}" if m.at else "?", m.text, m.by or "—", m.evidence) for m in details.timeline]
    below = [
        (
            base.name,
            base.digest,
            "released" if base.released else "not released" if base.is_curated else "no longer there",
        )
        for base in details.built_from
    ]
    above = [(ref.application, ref.digest) for ref in details.built_on_it]
    return [
        ("", ("", ""), facts, ""),
        ("Runs", ("environment", "workload", "address", "health", "since"), runs, "Nowhere."),
        ("Refused", ("gate", "reason", "fact", "remedy"), reasons, "By no gate."),
        ("What happened (UTC)", ("when", "what", "signed by", "evidence"), events, ""),
        ("Built on", ("base", "digest", ""), below, "On no curated base."),
        ("Built on it", ("application", "digest"), above, "Nothing."),
    ]


def explanation_page(details: Explanation) -> str:
    """Render the page about an image: what it is, where it runs, its history, and what is built on it."""
    parts = [f"# {escape(details.image.ref.repository)}@{details.image.ref.short}"]
    for title, head, rows, none in _explanation_sections(details):
        parts += [*([f"## {title}"] if title else []), render_table(head, rows) if rows else none]
    return "\n\n".join(parts) + "\n"


def explanation_lines(details: Explanation) -> str:
    """Render the same for a terminal, with the command that says more."""
    lines = [f"{details.image.ref.repository}@{details.image.ref.short}"]
    for title, _, rows, none in _explanation_sections(details):
        lines += ["", title] if title else []
        cells = [[sanitize_text(cell) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in cells] or [f"  {none}"]
    lines += ["", f"Each rule and the facts that it read: cscm policy explain {details.image.ref.short}"]
    return "\n".join(lines) + "\n"


def _format_health(running: Running) -> str:
    return {True: "healthy", False: "not healthy", None: "not known"}[running.healthy]
