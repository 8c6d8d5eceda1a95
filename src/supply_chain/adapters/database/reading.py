"""Reads images from the tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select, true

from supply_chain.adapters.database import tables as t
from supply_chain.adapters.database.connection import AT_ONCE, split_batches
from supply_chain.fleet.image import FleetImage

Name = tuple[str, str]
"""Repository and digest of an image. They stay the same when the image is read from the registry again."""


def is_running() -> ColumnElement[bool]:
    """Return the condition that an image runs.

    It runs if it is its application's last deployment in an environment, or if a host reported a container of it.
    """
    deployed = select(select_deployed().subquery().c.image)
    return t.images.c.id.in_(deployed) | t.images.c.digest.in_(select(t.seen.c.digest))


def select_deployed() -> Select[tuple[int, str]]:
    """Return the query for the image and environment of each application's last deployment in each environment."""
    place = func.row_number().over(
        partition_by=(t.images.c.application, t.deployments.c.environment),
        order_by=(t.deployments.c.since.desc(), t.deployments.c.id.desc()),
    )
    of = select(t.deployments.c.image, t.deployments.c.environment, place.label("place"))
    ranked = of.join(t.images, t.images.c.id == t.deployments.c.image).subquery()
    return select(ranked.c.image, ranked.c.environment).where(ranked.c.place == 1)


def is_image() -> ColumnElement[bool]:
    """Return the condition that a query about images can return an image.

    The registry must have it, or it must run. It must not be the encrypted copy of another image in its repository,
    because that image stands for both.
    """
    original = t.images.alias()
    copy = (
        select(t.copies.c.id)
        .join(original, original.c.id == t.copies.c.image)
        .where(t.copies.c.digest == t.images.c.digest, original.c.repository == t.images.c.repository)
        .correlate(t.images)
        .exists()
    )
    return (~t.images.c.missing | is_running()) & ~copy


def list_refs(connection: Connection, which: ColumnElement[bool]) -> list[Name]:
    """Return the names of the images that meet a condition, by application, newest push first."""
    of = select(t.images.c.repository, t.images.c.digest).where(which, is_image())
    in_order = of.order_by(t.images.c.application, t.images.c.pushed.desc(), t.images.c.digest)
    return [(row.repository, row.digest) for row in connection.execute(in_order)]


def read(connection: Connection, names: Sequence[Name]) -> Iterator[FleetImage]:
    """Yield these images in this order; skip those that are not in the tables any more."""
    of_these = select(t.images).where(t.images.c.digest.in_({digest for _, digest in names}), is_image())
    by_name = {(row.repository, row.digest): row for row in connection.execute(of_these)}
    rows = [by_name[name] for name in names if name in by_name]
    findings = _findings(connection, [row.id for row in rows])
    running, replaced = read_all_deployments(connection, t.images.c.application.in_({row.application for row in rows}))
    others = _read_other_containers(connection, {row.digest for row in rows})
    for row in rows:
        document = json.loads(row.document) | {"missing": row.missing}
        if document["scan"]:
            document["scan"]["findings"] = findings.get(row.id, [])
        recorded = running.get(row.id, [])
        own = {each["container"] for each in recorded}
        more = [each for each in others.get(row.digest, ()) if each["container"] not in own]
        yield FleetImage.model_validate(
            {**document, "running": [*recorded, *more], "deployed": replaced.get(row.id, [])}
        )


def read_all(connection: Connection, which: ColumnElement[bool]) -> tuple[FleetImage, ...]:
    """Return every image that meets a condition."""
    return tuple(
        image for part in split_batches(list_refs(connection, which), AT_ONCE) for image in read(connection, part)
    )


def _findings(connection: Connection, ids: Sequence[int]) -> dict[int, list[Any]]:
    """Return the findings of each image as documents, in the scan's order."""
    query = select(t.found_in.c.image, t.findings.c.document).join(t.findings, t.findings.c.id == t.found_in.c.finding)
    rows = connection.execute(
        query.where(t.found_in.c.image.in_(ids)).order_by(t.found_in.c.image, t.found_in.c.position)
    )
    findings: dict[int, list[Any]] = {}
    for row in rows:
        findings.setdefault(row.image, []).append(json.loads(row.document))
    return findings


Deployments = dict[int, list[dict[str, Any]]]
"""Image → its deployments as documents, oldest first."""


def read_all_deployments(
    connection: Connection, of: ColumnElement[bool] | None = None
) -> tuple[Deployments, Deployments]:
    """Return each application's last deployment in each environment, and all earlier ones; only of images like `of`."""
    named = (t.images.c.application, t.images.c.digest)
    query = select(t.deployments, *named).join(t.images, t.images.c.id == t.deployments.c.image)
    rows = connection.execute(
        query.where(true() if of is None else of).order_by(t.deployments.c.since, t.deployments.c.id)
    ).all()
    last = {(row.application, row.environment): row.id for row in rows}
    running: Deployments = {}
    replaced: Deployments = {}
    documents = {row.id: json.loads(row.document) for row in rows}
    observations = _read_observations(connection, [documents[number]["container"] for number in last.values()])
    for row in rows:
        is_last = last[row.application, row.environment] == row.id
        observed = observations.get(documents[row.id]["container"], {}) if is_last else {}
        document = {**documents[row.id], **observed.get(row.digest, next(iter(observed.values()), {}))}
        (running if is_last else replaced).setdefault(row.image, []).append(document)
    return running, replaced


def _read_observations(connection: Connection, containers: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return, for each container and digest, when its host was inspected, whether it was healthy, and its pods."""
    observations: dict[str, dict[str, dict[str, Any]]] = {}
    for row in connection.execute(select(t.seen).where(t.seen.c.container.in_(containers)).order_by(t.seen.c.digest)):
        pods = {"workload": row.workload, "pods": json.loads(row.pods)} if row.cluster else {}
        observations.setdefault(row.container, {})[row.digest] = {"observed_at": row.at, "healthy": row.healthy, **pods}
    return observations


def _read_other_containers(connection: Connection, digests: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Return, for each digest, every container of it that a host reported.

    A container gets the environment and application of the deployment whose reverse proxy it is. Both are empty if no
    record says that it should run.
    """
    containers = connection.execute(
        select(t.seen).where(t.seen.c.digest.in_(list(digests))).order_by(t.seen.c.host, t.seen.c.container)
    ).all()
    reverse_proxies = connection.execute(
        select(t.deployments.c.reverse_proxy, t.deployments.c.environment, t.images.c.application)
        .join(t.images, t.images.c.id == t.deployments.c.image)
        .where(t.deployments.c.reverse_proxy.in_([row.container for row in containers]))
    )
    of = {
        row.reverse_proxy: {"environment": row.environment, "application": row.application} for row in reverse_proxies
    }
    others: dict[str, list[dict[str, Any]]] = {}
    for row in containers:
        others.setdefault(row.digest, []).append(
            {
                "environment": "", "application": "", **of.get(row.container, {}), "container": row.container,
                "name": row.name, "address": "", "host": "" if row.cluster else row.host, "since": row.at,
                "observed_at": row.at, "healthy": row.healthy, "cluster": row.cluster, "namespace": row.namespace,
                "workload": row.workload, "pods": json.loads(row.pods),
            }
        )  # fmt: skip
    return others
