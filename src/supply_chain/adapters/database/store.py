"""The inventory on SQLAlchemy, with the same statements for SQLite and PostgreSQL."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, delete, func, insert, select, true, update

from supply_chain.adapters.database import tables as t
from supply_chain.adapters.database.connection import AT_ONCE, connect, format_time, split_batches, translate_errors
from supply_chain.adapters.database.facts import (
    belongs_to,
    list_subjects,
    put_facts,
    put_offered,
    read_base,
    read_facts,
)
from supply_chain.adapters.database.reading import is_image, is_running, list_refs, read, read_all, read_all_deployments
from supply_chain.adapters.database.schema import read_transaction, write_transaction
from supply_chain.adapters.database.writing import clean_name, forget, insert_all, is_archived, put
from supply_chain.fleet.gate_facts import GateSubject, StoredFacts, SubjectState
from supply_chain.fleet.image import FleetImage, HostContainer, Running
from supply_chain.fleet.inventory import Entry
from supply_chain.fleet.packages import normalize_name
from supply_chain.model.image import Digest, ImageRef, StoredManifest
from supply_chain.model.package_url import normalize_version


def open_inventory(address: str) -> SqlInventory:
    """Open the inventory at an address; see `connect`."""
    return SqlInventory(connect(address))


@dataclass(frozen=True)
class SqlInventory:
    """Implements `fleet.inventory.Inventory`. Methods raise `InventoryUnavailable` and `InventoryFailed`."""

    engine: Engine

    def put(self, entries: Iterable[Entry]) -> None:
        """Store images in place of what was stored about the same images; all of them or none."""
        with self._write_transaction("keep images") as connection:
            for entry in entries:
                image, before = entry.image, read_base(connection, entry.image.ref)
                forget(connection, [image.ref])
                put(connection, entry)
                if before != (image.blocked, image.sbom_content):
                    outdated = t.gate_facts.c.image.in_(_select_built_on([image.ref.digest]))
                    connection.execute(delete(t.gate_facts).where(outdated))

    def update_listing(self, repository: str, manifests: Iterable[StoredManifest]) -> None:
        """Update what the registry lists about a repository's images; everything else about them stays."""
        now = {each.digest: each for each in manifests}
        with self._write_transaction("store what the registry lists") as connection:
            rows = connection.execute(
                select(t.images.c.id, t.images.c.digest, t.images.c.document).where(t.images.c.repository == repository)
            ).all()
            for row in rows:
                if stored := now.get(row.digest):
                    document, listed = json.loads(row.document), stored.model_dump(mode="json")
                    if listed != document["stored"]:
                        new = {"document": json.dumps({**document, "stored": listed}), "archived": is_archived(stored)}
                        connection.execute(update(t.images).where(t.images.c.id == row.id).values(new))

    def update_hosts(self, application: str, host_of: Callable[[str], str]) -> None:
        """Update the container host of each environment in an application's deployments."""
        of = select(t.deployments).join(t.images, t.images.c.id == t.deployments.c.image)
        with self._write_transaction("store the environments") as connection:
            for row in connection.execute(of.where(t.images.c.application == application)).all():
                before = json.loads(row.document)
                host = "" if before.get("cluster") else host_of(row.environment)
                if host != before["host"]:
                    document = json.dumps({**before, "host": host})
                    changed = update(t.deployments).where(t.deployments.c.id == row.id)
                    connection.execute(changed.values(document=document))

    def forget(self, refs: Iterable[ImageRef]) -> None:
        """Delete everything about these images."""
        with self._write_transaction("forget images") as connection:
            forget(connection, list(refs))

    def put_offered(self, application: str, marks: Mapping[ImageRef, str]) -> None:
        """Store which images of an application the intake gate judged, in place of earlier ones, with their marks."""
        with self._write_transaction("store what the intake gate judged") as connection:
            put_offered(connection, application, marks)

    def record_host(self, host: str, containers: Sequence[HostContainer], at: datetime) -> None:
        """Store the containers that a host reported at a time, in place of those it reported before."""
        with self._write_transaction("store what a host runs") as connection:
            connection.execute(delete(t.seen).where(t.seen.c.host == host))
            own = {"host": host, "at": format_time(at)}
            rows = [{**each.model_dump(), "pods": json.dumps(each.pods), **own} for each in containers]
            insert_all(connection, t.seen, rows)

    def mark_stale(self, application: str | None = None) -> None:
        """Have all images, or those of an application, read again; what is stored about them stays until then."""
        with self._write_transaction("mark images to be read again") as connection:
            for table in (t.images, t.offered):
                connection.execute(update(table).where(belongs_to(application, table)).values(mark=""))

    def retain_hosts(self, hosts: Collection[str]) -> None:
        """Delete what hosts other than these reported."""
        with self._write_transaction("delete what other hosts ran") as connection:
            connection.execute(delete(t.seen).where(t.seen.c.host.not_in(list(hosts))))

    def count_unreadable(self) -> int:
        """Return the number of images whose evidence cannot be read."""
        return self._count(t.images.c.unreadable)

    def count_without_sbom(self) -> int:
        """Return the number of images with readable evidence but no known SBOM."""
        return self._count(t.images.c.sbom.is_(None) & ~t.images.c.unreadable)

    def count_unscanned(self) -> int:
        """Return the number of images without a scan that counts: never scanned, gone, or archived and not running."""
        return self._count(~t.images.c.scanned | t.images.c.missing | (t.images.c.archived & ~is_running()))

    def count_by_starter(self) -> int:
        """Return the number of images whose last scan used the starter database."""
        return self._count(t.images.c.starter)

    def read_marks(self, application: str) -> dict[ImageRef, str]:
        """Return the mark of each of an application's images, including those that are gone."""
        query = select(t.images.c.repository, t.images.c.digest, t.images.c.mark)
        with self._read_transaction("read the marks of images") as connection:
            rows = connection.execute(query.where(t.images.c.application == application)).all()
        return {ImageRef(repository=row.repository, digest=row.digest): row.mark for row in rows}

    def applications(self) -> tuple[str, ...]:
        """Return the applications that have images, sorted."""
        curated = select(t.images.c.application).where(is_image())
        with self._read_transaction("list applications") as connection:
            names = connection.execute(curated.union(select(t.offered.c.application))).scalars()
            return tuple(sorted(names))

    def images(self, application: str | None = None) -> Iterator[FleetImage]:
        """Yield the images in the registry, by application, newest push first; read in parts to limit memory."""
        with self._read_transaction("list images") as connection:
            refs = list_refs(connection, belongs_to(application) & ~t.images.c.missing)
        for part in split_batches(refs, AT_ONCE):
            with self._read_transaction("read images") as connection:
                images = tuple(read(connection, part))
            yield from (each for each in images if not each.missing)

    def list_removed(self, application: str | None = None) -> tuple[FleetImage, ...]:
        """Return the images that run but are no longer in the registry."""
        return self._read_all(belongs_to(application) & t.images.c.missing)

    def running(self) -> tuple[Running, ...]:
        """Return the last deployment of each application in each environment."""
        with self._read_transaction("list what should run") as connection:
            running, _ = read_all_deployments(connection)
        return tuple(Running.model_validate(each) for group in running.values() for each in group)

    def find_by_digest(self, digest: str) -> tuple[FleetImage, ...]:
        """Return the images whose digest, or the digest of an encrypted copy, starts with `digest`."""
        begins = digest if digest.startswith("sha256:") else f"sha256:{digest}"
        copied = select(t.copies.c.image).where(t.copies.c.digest.startswith(begins, autoescape=True))
        return self._read_all(t.images.c.digest.startswith(begins, autoescape=True) | t.images.c.id.in_(copied))

    def find_affected(self, vulnerability: str) -> tuple[FleetImage, ...]:
        """Return the images in which the last scan found the vulnerability, by its own name or an alias."""
        called = select(t.finding_names.c.finding).where(t.finding_names.c.name == clean_name(vulnerability.upper()))
        return self._read_all(t.images.c.id.in_(select(t.found_in.c.image).where(t.found_in.c.finding.in_(called))))

    def find_carrying(self, package: str, version: str | None = None) -> tuple[tuple[FleetImage, tuple[str, ...]], ...]:
        """Return the images whose SBOM lists the package, or one built from it, with the names in the SBOM."""
        name, called = clean_name(normalize_name(package)), _select_packages(package, version)
        packages: dict[str | None, set[str]] = {}
        with self._read_transaction("find packages") as connection:
            images = read_all(connection, _has_package(called))
            of_sbom = select(t.listed_in.c.sbom, t.packages).join(t.packages, t.packages.c.id == t.listed_in.c.package)
            for row in connection.execute(of_sbom.where(t.packages.c.id.in_(called))):
                packages.setdefault(row.sbom, set()).add(_format_package(row, name))
        return tuple((image, tuple(sorted(packages.get(image.sbom_content, ())))) for image in images)

    def count_other_versions(self, package: str, version: str) -> int:
        """Return the number of images that have the package, but not in this version or an unknown one."""
        return self._count(
            _has_package(_select_packages(package, None)) & ~_has_package(_select_packages(package, version))
        )

    def find_built_on(self, bases: Iterable[Digest]) -> tuple[FleetImage, ...]:
        """Return the images that are built, directly or not, on one of these digests."""
        return self._read_all(t.images.c.id.in_(_select_built_on(bases)))

    def list_subjects(self, application: str | None = None) -> tuple[SubjectState, ...]:
        """Return what gates judge: offered images, those in the registry, and last deployments in environments."""
        with self._read_transaction("list what gates judge") as connection:
            return list_subjects(connection, application)

    def put_facts(self, facts: Iterable[StoredFacts]) -> None:
        """Store facts in place of earlier ones, but for those whose image has another mark by now."""
        with self._write_transaction("store the facts of gates") as connection:
            for each in facts:
                put_facts(connection, each)

    def read_facts(self, subjects: Iterable[GateSubject]) -> Iterator[StoredFacts]:
        """Yield the facts of these subjects that are stored; read in parts to limit memory."""
        for part in split_batches(tuple(subjects), AT_ONCE):
            with self._read_transaction("read the facts of gates") as connection:
                facts = read_facts(connection, part)
            yield from facts

    def find_last_reconciliation(self) -> datetime | None:
        """Return the time of the last reconciliation with registry and hosts; None if there was none."""
        with self._read_transaction("read the time of the last reconciliation") as connection:
            at = connection.execute(select(t.facts.c.value).where(t.facts.c.name == "reconciled")).scalar()
        return datetime.fromisoformat(at) if at else None

    def record_reconciled(self, at: datetime) -> None:
        """Record the time of a reconciliation with registry and hosts."""
        with self._write_transaction("store the time of the reconciliation") as connection:
            connection.execute(delete(t.facts).where(t.facts.c.name == "reconciled"))
            connection.execute(insert(t.facts).values(name="reconciled", value=format_time(at)))

    def _read_all(self, which: ColumnElement[bool]) -> tuple[FleetImage, ...]:
        with self._read_transaction("find images") as connection:
            return read_all(connection, which)

    def _count(self, which: ColumnElement[bool]) -> int:
        with self._read_transaction("count images") as connection:
            return connection.execute(select(func.count()).select_from(t.images).where(which, is_image())).scalar_one()

    @contextlib.contextmanager
    def _write_transaction(self, doing: str) -> Iterator[Connection]:
        with translate_errors(doing), write_transaction(self.engine) as connection:
            yield connection

    @contextlib.contextmanager
    def _read_transaction(self, doing: str) -> Iterator[Connection]:
        with translate_errors(doing), read_transaction(self.engine) as connection:
            yield connection


def _select_built_on(bases: Iterable[Digest]) -> Select[tuple[int]]:
    """Return the query for the images that are built, directly or not, on one of these digests."""
    upon = select(t.bases.c.image).where(t.bases.c.digest.in_(list(bases))).cte("upon", recursive=True)
    further = select(t.bases.c.image).join(t.images, t.images.c.digest == t.bases.c.digest)
    upon = upon.union(further.join(upon, upon.c.image == t.images.c.id))  # UNION drops duplicates, so it ends
    return select(upon.c.image)


def _select_packages(package: str, version: str | None) -> Select[tuple[int]]:
    """Return the query for packages of this name, and of this version or an unknown one."""
    at = t.package_names.c.version
    of_version = true() if version is None else at.in_(("", clean_name(normalize_version(version))))
    return select(t.package_names.c.package).where(
        t.package_names.c.name == clean_name(normalize_name(package)), of_version
    )


def _has_package(packages: Select[tuple[int]]) -> ColumnElement[bool]:
    """Return the condition that an image's SBOM lists one of these packages."""
    return t.images.c.sbom.in_(select(t.listed_in.c.sbom).where(t.listed_in.c.package.in_(packages)))


def _format_package(package: Row[Any], searched_name: str) -> str:
    """Return a package as the SBOM names it, with its source package if that is what was asked for."""
    own = f"{package.name} {package.version}".rstrip()
    if normalize_name(package.name) == searched_name or not package.source:
        return own
    return f"{own} (built from {package.source} {package.source_version})"
