"""Reports about deployments: observations, responses and alerts."""

from __future__ import annotations

from supply_chain.evidence.break_glass import BreakGlass
from supply_chain.execution.isolation.record import IsolationRecord
from supply_chain.execution.observation import Observation
from supply_chain.execution.response import Response
from supply_chain.model.image import ImageRef, shorten_digest
from supply_chain.reports.text import escape, render_table
from supply_chain.text import list_remedies, sanitize_text, truncate_lines

LISTED = 10
"""Number of rules and findings that a notification of a break-glass names."""


def observation_rows(observation: Observation) -> list[dict[str, str]]:
    """Render a row for each deviation; one row without a deviation if there is none."""
    first = {
        "environment": sanitize_text(name_observed_place(observation)),
        "application": sanitize_text(observation.application) or "—",
        "status": sanitize_text(observation.status) + (", healthy" if observation.healthy else ""),
    }
    last = {
        "address": sanitize_text(observation.address),
        "restarts": str(observation.restarts),
        "digest": shorten_digest(observation.running or observation.expected_digest),
        "workload": sanitize_text(observation.what),
    }
    if not observation.deviations:
        return [{**first, "deviation": "none", "what to do": "", **last}]
    return [
        {**first, "deviation": sanitize_text(f"{d.code}: {d.fact}"), "what to do": sanitize_text(d.remedy), **last}
        for d in observation.deviations
    ]


def name_observed_place(observation: Observation) -> str:
    """Return the environment of an observation, or the host if it belongs to none."""
    return observation.environment or f"host {observation.host}"


def observation_lines(observation: Observation) -> str:
    """Render an observation for a terminal: one line, and more for each deviation."""
    who = f"{name_observed_place(observation)}/{observation.application or 'unknown'}"
    health = "healthy" if observation.healthy else observation.status
    lines = [
        f"{who}: {observation.what} {health} "
        f"{shorten_digest(observation.running or observation.expected_digest)} {observation.address}"
    ]
    lines += list_remedies(((f"  {d.code}: {d.fact}", d.remedy) for d in observation.deviations), "      ")
    return "\n".join(lines)


def response_page(response: Response) -> str:
    """Render the notification to the owner of an image about an event."""
    rows = [(r.environment, r.what, r.owner, r.address, r.container, r.seen) for r in response.running]
    nothing = "Nothing is known to run from it." if response.unread else "Nothing runs from it."
    running = render_table(("environment", "what", "owner", "address", "workload", "seen"), rows) if rows else nothing
    parts = [
        f"# {escape(response.image.application)}: {escape(response.event)}",
        f"`{response.image}` of **{escape(response.owner)}**",
        "\n".join(f"- {escape(fact)}" for fact in (*response.facts, *response.unread)),
        f"## What it stops\n\n{escape(response.stops)}",
        "\n".join(f"- in promotion: {escape(run)}" for run in response.on_the_way),
        f"## What runs from it\n\n{running}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def isolation_page(record: IsolationRecord) -> str:
    """Render the report of an isolation."""
    named = {"case": record.id, "image": record.digest, "by": record.by, "reason": record.reason}
    facts = "".join(f"- {name}: {escape(value)}\n" for name, value in named.items())
    pods = [(each.name, each.node, each.uid) for each in record.pods]
    items = [(each.name, str(each.size), each.digest, "its end" if each.truncated else "") for each in record.items]
    custody = [(f"{each.at:%Y-%m-%d %H:%M:%S %Z}", each.by, each.act) for each in record.custody]
    return "\n\n".join(
        (
            f"# {escape(record.application)} in {escape(record.environment)} is isolated",
            facts + "".join(f"- {escape(line)}\n" for line in str(record).splitlines()[1:]),
            f"## Time\n\n{record.seconds:.1f} s from the event to the isolation.",
            f"## In quarantine\n\n{render_table(('pod', 'node', 'uid'), pods)}",
            f"## Sealed\n\n{render_table(('file', 'bytes', 'digest', ''), items)}",
            f"## Chain of custody\n\n{render_table(('when', 'who', 'what'), custody)}\n",
        )
    )


def break_glass_page(use: BreakGlass, image: ImageRef) -> str:
    """Render the notification that a person deploys an image although the deploy gate refuses it."""
    facts = (
        f"by {use.by}: {use.reason}",
        f"overrides {'; '.join(truncate_lines(LISTED, use.overrides))}, and no other reason",
        f"until {use.expires:%Y-%m-%d %H:%M %Z}; then the deployment is judged again",
        f"to end it now: cscm approve {image.short} --environment {use.environment} --deny",
    )
    return f"# Break-glass for {escape(use.environment)}\n\n`{image}`\n\n" + "".join(f"- {escape(f)}\n" for f in facts)


def alert_page(about: str, summary: str, remedy: str) -> str:
    """Render an alert to the operators of the chain."""
    return f"# {escape(summary)}\n\n**{escape(about)}**\n\nWhat to do: {escape(remedy)}\n"
