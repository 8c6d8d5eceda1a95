"""Who may decide what, and what is waived, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from pydantic import Field

from supply_chain.fleet.waivers import WaiverUse
from supply_chain.model.image import Model
from supply_chain.policy.people import PeopleDocument, Person, WaiverRole
from supply_chain.policy.reviews import ReviewReport
from supply_chain.policy.waivers import WaiverState
from supply_chain.reports.text import render_table
from supply_chain.text import pluralize, sanitize_lines, sanitize_text


def people_lines(document: PeopleDocument) -> str:
    """Return a line for each person with what they may do."""
    lines = [f"installation {document.installation}, expires {document.expires:%Y-%m-%d}"]
    for name, person in document.people.items():
        lines.append(f"{name}: {'; '.join(_list_roles(person))}")
    if document.vex is not None:
        lines.append(f"VEX documents of: {', '.join(document.vex.issuers)}")
    for name, builder in document.builders.items():
        lines.append(f"builder {name}: build level {builder.level}, as {builder.id}")
    return "\n".join(lines)


def _list_roles(person: Person) -> Iterator[str]:
    for identity in person.identities:
        yield f"signs keyless as {identity.subject} of {identity.issuer}"
    if person.approve:
        yield f"may approve for {', '.join(person.approve)}"
    if acts := [act for act in ("block", "hold") if getattr(person, act)]:
        yield f"may {' and '.join(acts)}"
    if person.review:
        yield "may review"
    if person.policies:
        yield "may change policies"
    yield f"may waive {_waivable(person.waive)}"
    if role := person.break_glass:
        yield f"may break the glass for {', '.join(role.environments)}, for {pluralize(role.hours, 'hour')}"


def _waivable(role: WaiverRole | None) -> str:
    if role is None:
        return "nothing"
    parts = [
        f"the rules {', '.join(role.rules)}" if role.rules else "",
        f"vulnerabilities up to {role.vulnerabilities}" if role.vulnerabilities else "",
    ]
    what = " and ".join(part for part in parts if part) or "nothing"
    return f"{what}, for {pluralize(role.days, 'day')}"


def review_lines(reviews: Sequence[ReviewReport]) -> str:
    """Return each review with its commit and who signed it, or why it does not count."""
    return "\n".join(map(_review_line, reviews)) or "there are no reviews"


def _review_line(review: ReviewReport) -> str:
    if review.why:
        return f"{review.name}: does not count: {review.why}"
    return f"{review.name}: {review.by} reviewed {review.revision} of {review.repository} ({review.reason})"


def waiver_lines(uses: Sequence[WaiverUse]) -> str:
    """Return each waiver with its state, what it accepts, who signed it, and how many images rest on it."""
    return "\n".join(line for each in uses for line in _lines(each)) or "there are no waivers"


def _lines(use: WaiverUse) -> Iterator[str]:
    waiver = use.waiver
    until = f" until {waiver.expires:%Y-%m-%d}" if waiver.expires and waiver.state is WaiverState.ACTIVE else ""
    yield f"{waiver.name}: {waiver.state}{until}{f' ({waiver.why})' if waiver.why else ''}"
    if waiver.accepts:
        yield f"    accepts {', '.join(waiver.accepts)} for {', '.join(waiver.scope)}"
        signed = f", signed by {waiver.by}" if waiver.by else ""
        yield f"    {waiver.reason} ({waiver.ticket}); requested by {waiver.requester}{signed}"
    if waiver.state is WaiverState.ACTIVE:
        yield f"    {_use(use)}"


def _use(use: WaiverUse) -> str:
    owners = f", of {', '.join(use.owners)}" if use.owners else ""
    return f"{pluralize(len(use.images), 'image')}{owners}" if use.images else "no image rests on it"


def waiver_attention_table(uses: Sequence[WaiverUse], now: datetime) -> str:
    """Return a Markdown table of the waivers that expire soon, are not used or have no effect; empty if none is."""
    rows = [
        (use.waiver.name, problem, f"{use.waiver.expires:%Y-%m-%d}" if use.waiver.expires else "", use.waiver.requester,
         ", ".join(use.owners))
        for use in uses
        for problem in _problems(use, now)
    ]  # fmt: skip
    return render_table(("waiver", "what", "expires", "requested by", "owners of its images"), rows) if rows else ""


class WaiverNotice(Model):
    """What the owners of a waiver are notified of."""

    once: str = Field(description="the same for the same waiver at the same stage")
    subject: str
    body: str


def list_waiver_notices(uses: Sequence[WaiverUse], now: datetime) -> tuple[WaiverNotice, ...]:
    """Return a notice for each waiver that expires soon, is not used or has no effect.

    It changes with the waiver and its stage, not with the images that rest on the waiver.
    """
    return tuple(_notice(use, problem, now) for use in uses for problem in _problems(use, now))


def _notice(use: WaiverUse, problem: str, now: datetime) -> WaiverNotice:
    waiver = use.waiver
    stage = "expires soon" if waiver.expires_soon(now) else problem
    people = {"requested by": waiver.requester, "signed by": waiver.by, "owners of its images": ", ".join(use.owners)}
    lines = [f"{what}: {who}" for what, who in people.items() if who]
    expires = [f"expires: {waiver.expires:%Y-%m-%d}"] if waiver.expires else []
    return WaiverNotice(
        once=f"waiver {waiver.name} until {waiver.expires}: {stage}",
        subject=sanitize_text(f"Waiver {waiver.name}: {stage}"),
        body=sanitize_lines("\n".join([problem, *lines, *expires])),
    )


def _problems(use: WaiverUse, now: datetime) -> Iterator[str]:
    waiver = use.waiver
    if waiver.state is not WaiverState.ACTIVE:
        yield f"{waiver.state}: {waiver.why}"
    elif waiver.expires_soon(now):
        yield f"expires soon; {_use(use)}"
    elif not use.images:
        yield "no image rests on it; remove it, unless one will"
