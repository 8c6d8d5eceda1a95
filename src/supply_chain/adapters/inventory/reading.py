"""Reads images out of the tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select, true

from supply_chain.adapters.inventory import tables as t
from supply_chain.fleet.known import KnownImage


def in_order(wanted: Select[Any]) -> Select[Any]:
    return wanted.order_by(t.images.c.application, t.images.c.pushed.desc(), t.images.c.digest)


def is_copy() -> ColumnElement[bool]:
    """Whether an image is the encrypted copy of another one in its repository, which stands for both."""
    original = t.images.alias()
    return (
        select(t.copies.c.id)
        .join(original, original.c.id == t.copies.c.image)
        .where(t.copies.c.digest == t.images.c.digest, original.c.repository == t.images.c.repository)
        .correlate(t.images)
        .exists()
    )


def read(connection: Connection, ids: Sequence[int]) -> Iterator[KnownImage]:
    """These images in this order."""
    rows = {row.id: row for row in connection.execute(select(t.images).where(t.images.c.id.in_(ids)))}
    findings = _findings(connection, ids)
    of_these = t.images.c.application.in_({row.application for row in rows.values()})
    running, replaced = deployments(connection, of_these)
    others = _others(connection, {row.digest for row in rows.values()})
    for number in ids:
        if row := rows.get(number):  # else it went meanwhile
            known = json.loads(row.document)
            if known["scan"]:
                known["scan"]["findings"] = findings.get(number, [])
            recorded = running.get(number, [])
            own = {each["container"] for each in recorded}
            more = [each for each in others.get(row.digest, ()) if each["container"] not in own]
            yield KnownImage.model_validate(
                {**known, "running": [*recorded, *more], "deployed": replaced.get(number, [])}
            )


def _findings(connection: Connection, ids: Sequence[int]) -> dict[int, list[Any]]:
    """Image → its findings as documents, in the scan's order."""
    wanted = select(t.found_in.c.image, t.findings.c.document).join(t.findings, t.findings.c.id == t.found_in.c.finding)
    rows = connection.execute(
        wanted.where(t.found_in.c.image.in_(ids)).order_by(t.found_in.c.image, t.found_in.c.position)
    )
    found: dict[int, list[Any]] = {}
    for row in rows:
        found.setdefault(row.image, []).append(json.loads(row.document))
    return found


Deployments = dict[int, list[dict[str, Any]]]
"""Image → its deployments as documents, the oldest first."""


def deployments(connection: Connection, of: ColumnElement[bool] | None = None) -> tuple[Deployments, Deployments]:
    """The last deployment of each application in each environment, and those before it; of images like `of`, or all."""
    wanted = select(t.deployments, t.images.c.application).join(t.images, t.images.c.id == t.deployments.c.image)
    rows = connection.execute(
        wanted.where(true() if of is None else of).order_by(t.deployments.c.since, t.deployments.c.id)
    ).all()
    last = {(row.application, row.environment): row.id for row in rows}
    running: Deployments = {}
    replaced: Deployments = {}
    documents = {row.id: json.loads(row.document) for row in rows}
    shown = _shown(connection, [documents[number]["container"] for number in last.values()])
    for row in rows:
        is_last = last[row.application, row.environment] == row.id
        document = {**documents[row.id], **(shown.get(documents[row.id]["container"], {}) if is_last else {})}
        (running if is_last else replaced).setdefault(row.image, []).append(document)
    return running, replaced


def _shown(connection: Connection, containers: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Container → when its host was looked at, and whether it was well."""
    rows = connection.execute(select(t.seen).where(t.seen.c.container.in_(containers)))
    return {row.container: {"seen": row.at, "healthy": row.healthy} for row in rows}


def _others(connection: Connection, digests: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Digest → every container that a host showed of it, with the environment of the deployment whose front it is.

    Of no environment where no record says that it should run.
    """
    shown = connection.execute(
        select(t.seen).where(t.seen.c.digest.in_(list(digests))).order_by(t.seen.c.host, t.seen.c.container)
    ).all()
    fronts = connection.execute(
        select(t.deployments.c.front, t.deployments.c.environment, t.images.c.application)
        .join(t.images, t.images.c.id == t.deployments.c.image)
        .where(t.deployments.c.front.in_([row.container for row in shown]))
    )
    of = {row.front: {"environment": row.environment, "application": row.application} for row in fronts}
    found: dict[str, list[dict[str, Any]]] = {}
    for row in shown:
        found.setdefault(row.digest, []).append(
            {
                "environment": "", "application": "", **of.get(row.container, {}), "container": row.container,
                "name": row.name, "address": "", "host": row.host, "since": row.at, "seen": row.at,
                "healthy": row.healthy,
            }
        )  # fmt: skip
    return found
