"""The inventory on SQLAlchemy; the same statements on SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Select, and_, delete, func, insert, or_, select, true, update

from supply_chain.adapters.inventory import tables as t
from supply_chain.adapters.inventory.database import AT_ONCE, connect, instant, parts, told
from supply_chain.adapters.inventory.reading import deployments, in_order, is_copy, read
from supply_chain.adapters.inventory.schema import changing
from supply_chain.adapters.inventory.writing import forget, insert_all, named, put
from supply_chain.fleet.inventory import Entry
from supply_chain.fleet.known import KnownImage, Running, Seen
from supply_chain.image import Digest, ImageRef, StoredManifest


def open_inventory(address: str) -> SqlInventory:
    """The inventory at an address; see `database.connect`."""
    return SqlInventory(connect(address))


@dataclass(frozen=True)
class SqlInventory:
    """Implements `fleet.inventory.Inventory`. Raises `InventoryUnavailable` and `InventoryFailed`."""

    engine: Engine

    def put(self, entries: Iterable[Entry]) -> None:
        with self._changing("keep images") as connection:
            for entry in entries:
                forget(connection, [entry.image.ref])
                put(connection, entry)

    def listed(self, repository: str, manifests: Iterable[StoredManifest]) -> None:
        now = {each.digest: each for each in manifests}
        with self._changing("keep what the registry lists") as connection:
            kept = connection.execute(
                select(t.images.c.id, t.images.c.digest, t.images.c.document).where(t.images.c.repository == repository)
            ).all()
            for row in kept:
                known = json.loads(row.document)
                listed = now[row.digest].model_dump(mode="json") if row.digest in now else known["stored"]
                if listed != known["stored"]:
                    document = json.dumps({**known, "stored": listed})
                    connection.execute(update(t.images).where(t.images.c.id == row.id).values(document=document))

    def forget(self, refs: Iterable[ImageRef]) -> None:
        with self._changing("forget images") as connection:
            forget(connection, list(refs))

    def saw(self, host: str, seen: Sequence[Seen], at: datetime) -> None:
        with self._changing("keep what a host shows") as connection:
            connection.execute(delete(t.seen).where(t.seen.c.host == host))
            rows = [{"host": host, "at": instant(at), **each.model_dump()} for each in seen]
            insert_all(connection, t.seen, rows)

    def distrust(self, application: str | None = None) -> None:
        of = true() if application is None else t.images.c.application == application
        with self._changing("have images read again") as connection:
            connection.execute(update(t.images).where(of).values(mark=""))

    def unread(self) -> int:
        wanted = select(func.count()).select_from(t.images).where(t.images.c.sbom.is_(None), ~is_copy())
        with self._reading("count images") as connection:
            return connection.execute(wanted).scalar_one()

    def marks(self, application: str) -> dict[ImageRef, str]:
        wanted = select(t.images.c.repository, t.images.c.digest, t.images.c.mark)
        with self._reading("tell what it keeps") as connection:
            rows = connection.execute(wanted.where(t.images.c.application == application)).all()
        return {ImageRef(repository=row.repository, digest=row.digest): row.mark for row in rows}

    def applications(self) -> tuple[str, ...]:
        with self._reading("list applications") as connection:
            found = connection.execute(select(t.images.c.application).distinct().order_by(t.images.c.application))
            return tuple(found.scalars())

    def images(self, application: str | None = None) -> Iterator[KnownImage]:
        wanted = select(t.images.c.id).where(~is_copy())
        if application is not None:
            wanted = wanted.where(t.images.c.application == application)
        with self._reading("list images") as connection:
            ids = list(connection.execute(in_order(wanted)).scalars())
        for part in parts(ids, AT_ONCE):
            with self._reading("read images") as connection:
                yield from read(connection, part)

    def running(self) -> tuple[Running, ...]:
        with self._reading("tell what should run") as connection:
            running, _ = deployments(connection)
        return tuple(Running.model_validate(each) for found in running.values() for each in found)

    def of(self, digest: str) -> tuple[KnownImage, ...]:
        begins = digest if digest.startswith("sha256:") else f"sha256:{digest}"
        return self._all(select(t.images.c.id).where(t.images.c.digest.startswith(begins, autoescape=True)))

    def affected(self, vulnerability: str) -> tuple[KnownImage, ...]:
        called = select(t.finding_names.c.finding).where(t.finding_names.c.name == named(vulnerability.upper()))
        return self._all(
            select(t.images.c.id).where(
                t.images.c.id.in_(select(t.found_in.c.image).where(t.found_in.c.finding.in_(called)))
            )
        )

    def carrying(self, package: str, version: str | None = None) -> tuple[KnownImage, ...]:
        if not package:  # what was built from nothing has no name there
            return ()
        called = select(t.packages.c.id).where(
            or_(
                *(
                    and_(name == named(package), true() if version is None else at == named(version))
                    for name, at in (
                        (t.packages.c.name, t.packages.c.version),
                        (t.packages.c.source, t.packages.c.source_version),
                    )
                )
            )
        )
        listed = select(t.listed_in.c.sbom).where(t.listed_in.c.package.in_(called))
        return self._all(select(t.images.c.id).where(t.images.c.sbom.in_(listed)))

    def built_on(self, bases: Iterable[Digest]) -> tuple[KnownImage, ...]:
        upon = select(t.bases.c.image).where(t.bases.c.digest.in_(list(bases)))
        return self._all(select(t.images.c.id).where(t.images.c.id.in_(upon)))

    def reconciled(self) -> datetime | None:
        with self._reading("tell when it was reconciled") as connection:
            at = connection.execute(select(t.facts.c.value).where(t.facts.c.name == "reconciled")).scalar()
        return datetime.fromisoformat(at) if at else None

    def reconciled_at(self, at: datetime) -> None:
        with self._changing("keep when it was reconciled") as connection:
            connection.execute(delete(t.facts).where(t.facts.c.name == "reconciled"))
            connection.execute(insert(t.facts).values(name="reconciled", value=instant(at)))

    def _all(self, wanted: Select[Any]) -> tuple[KnownImage, ...]:
        with self._reading("look images up") as connection:
            ids = list(connection.execute(in_order(wanted.where(~is_copy()))).scalars())
            return tuple(image for part in parts(ids, AT_ONCE) for image in read(connection, part))

    @contextlib.contextmanager
    def _changing(self, doing: str) -> Iterator[Connection]:
        with told(doing), changing(self.engine) as connection:
            yield connection

    @contextlib.contextmanager
    def _reading(self, doing: str) -> Iterator[Connection]:
        with told(doing), self.engine.connect() as connection:
            yield connection
