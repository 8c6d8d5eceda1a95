"""Writes images to the tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from supply_chain.adapters.database import tables as t
from supply_chain.adapters.database.connection import AT_ONCE, format_time, split_batches
from supply_chain.evidence.sbom import Package
from supply_chain.fleet.inventory import Entry
from supply_chain.fleet.packages import list_package_names
from supply_chain.model.image import Digest, ImageRef, StorageStatus, StoredManifest
from supply_chain.model.package_url import parse_package_url
from supply_chain.text import sanitize_text
from supply_chain.vulnerability.findings import Finding


def put(connection: Connection, entry: Entry) -> None:
    """Insert an image with its bases, copies, deployments, findings and packages."""
    image = entry.image
    document = image.model_dump_json(exclude={"running": True, "deployed": True, "scan": {"findings"}})
    result = connection.execute(
        insert(t.images)
        .values(
            repository=image.ref.repository,
            digest=image.ref.digest,
            application=image.application,
            pushed=format_time(image.stored.pushed_at),
            sbom=image.sbom_content,
            scanned=image.scan is not None,
            archived=is_archived(image.stored),
            starter=image.scan is not None and image.scan.database.kind == "starter",
            missing=image.missing,
            unreadable=bool(image.unreadable),
            mark=entry.mark,
            document=document,
        )
        .returning(t.images.c.id)
    )
    number: int = result.one().id
    insert_all(connection, t.bases, [{"image": number, "digest": base.digest} for base in image.bases])
    insert_all(connection, t.copies, [{"image": number, "digest": copy} for copy in image.copies])
    insert_all(
        connection,
        t.deployments,
        [
            {
                "image": number,
                "environment": d.environment,
                "since": format_time(d.since),
                "reverse_proxy": d.reverse_proxy,
                "document": d.model_dump_json(),
            }
            for d in (*image.deployed, *image.running)
        ],
    )
    _put_findings(connection, number, image.scan.findings if image.scan else ())
    if image.sbom_content:
        _put_packages(connection, image.sbom_content, entry.packages)


def is_archived(stored: StoredManifest) -> bool:
    """Return whether the registry has archived the image."""
    return stored.status is StorageStatus.ARCHIVED


def _put_findings(connection: Connection, image: int, findings: Sequence[Finding]) -> None:
    documents = [finding.model_dump_json() for finding in findings]
    keys = [_key(document) for document in documents]
    ids = _ids(connection, t.findings, keys)
    new = {key: each for key, each in zip(keys, findings, strict=True) if key not in ids}
    _insert_new(
        connection, t.findings, [{"key": key, "document": f.model_dump_json()} for key, f in sorted(new.items())]
    )
    ids |= _ids(connection, t.findings, list(new))
    names = [
        {"finding": ids[key], "name": name}
        for key, each in new.items()
        for name in sorted({clean_name(name.upper()) for name in (each.id, *each.aliases)})
    ]
    _insert_new(connection, t.finding_names, names)
    rows = [{"image": image, "position": place, "finding": ids[key]} for place, key in enumerate(keys)]
    insert_all(connection, t.found_in, rows)


def _package_row(key: str, name: str, purl: str) -> dict[str, str]:
    url = parse_package_url(purl)
    return {
        "key": key,
        "name": clean_name(name),
        "version": clean_name(url.version),
        "source": clean_name(url.source),
        "source_version": clean_name(url.source_version),
    }


def _put_packages(connection: Connection, sbom: Digest, packages: Iterable[Package]) -> None:
    if connection.execute(select(t.listed_in.c.sbom).where(t.listed_in.c.sbom == sbom).limit(1)).scalar():
        return  # equal digest, equal SBOM: its packages are stored already
    rows = {_key(json.dumps(each)): each for each in packages}
    ids = _ids(connection, t.packages, list(rows))
    new = {key: each for key, each in sorted(rows.items()) if key not in ids}
    _insert_new(connection, t.packages, [_package_row(key, name, purl) for key, (_, name, purl) in new.items()])
    ids |= _ids(connection, t.packages, list(new))
    names = [
        {"package": ids[key], "position": place, "name": clean_name(name), "version": clean_name(version)}
        for key, each in new.items()
        for place, (name, version) in enumerate(sorted(list_package_names(each)))
    ]
    _insert_new(connection, t.package_names, names)
    _insert_new(connection, t.listed_in, [{"sbom": sbom, "package": number} for number in ids.values()])


def clean_name(text: str) -> str:
    """Return a name as the tables store it; it comes from outside and may contain anything."""
    return sanitize_text(text)[: t.NAME]


def forget(connection: Connection, refs: Sequence[ImageRef]) -> None:
    """Delete these images."""
    for ref in refs:
        where = (t.images.c.repository == ref.repository, t.images.c.digest == ref.digest)
        connection.execute(delete(t.images).where(*where))


def _ids(connection: Connection, table: Table, keys: Sequence[str]) -> dict[str, int]:
    ids: dict[str, int] = {}
    for part in split_batches(keys, AT_ONCE):
        rows = connection.execute(select(table.c.key, table.c.id).where(table.c.key.in_(part)))
        ids |= {row.key: row.id for row in rows}
    return ids


def insert_all(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert the rows, if there are any."""
    if rows:
        connection.execute(insert(table), rows)


def _insert_new(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert the rows that do not exist yet, even if another process just added them.

    The rows must be sorted, so that two processes that do this never wait for each other.
    """
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    if rows:
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows)


def _key(document: str) -> str:
    return hashlib.sha256(document.encode()).hexdigest()
