"""Reads and writes the facts of gates."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, delete, insert, literal, select, true, update

from supply_chain.adapters.database import tables as t
from supply_chain.adapters.database.reading import Name, is_image, select_deployed
from supply_chain.fleet.gate_facts import GateSubject, StoredFacts, SubjectState, decode_facts, encode_facts
from supply_chain.model.image import Digest, ImageRef
from supply_chain.model.tier import Gate

GATES = tuple(Gate)


def belongs_to(application: str | None, table: Table = t.images) -> ColumnElement[bool]:
    """Return the condition that an image belongs to an application; without a name, every image does."""
    return true() if application is None else table.c.application == application


def list_subjects(connection: Connection, application: str | None) -> tuple[SubjectState, ...]:
    """Return what gates judge of an application's images, or of all; by application, digest and gate."""
    rows = (*connection.execute(_select_offered(application)), *connection.execute(_select_curated(application)))
    return tuple(map(_state, sorted(rows, key=_place)))


def _place(row: Row[Any]) -> tuple[str, str, int, str]:
    return row.application, row.digest, GATES.index(Gate(row.gate)), row.place


def _select_offered(application: str | None) -> Select[Any]:
    offered = t.offered.c
    return select(
        offered.repository, offered.digest, offered.application, offered.mark,
        literal(Gate.INTAKE.value).label("gate"), literal("").label("place"), offered.version,
    ).where(belongs_to(application, t.offered))  # fmt: skip


def _select_curated(application: str | None) -> Select[Any]:
    release = select(
        t.images.c.id.label("image"), literal(Gate.RELEASE.value).label("gate"), literal("").label("place")
    )
    last = select_deployed().subquery()
    deploy = select(last.c.image, literal(Gate.DEPLOY.value), last.c.environment)
    judged = release.where(~t.images.c.missing).union_all(deploy).subquery()
    stored = t.gate_facts.c
    same = (stored.image == judged.c.image) & (stored.gate == judged.c.gate) & (stored.environment == judged.c.place)
    image = t.images.c
    return (
        select(
            image.repository, image.digest, image.application, image.mark, judged.c.gate, judged.c.place, stored.version
        )
        .join(judged, judged.c.image == image.id)
        .outerjoin(t.gate_facts, same)
        .where(belongs_to(application), is_image())
    )  # fmt: skip


def _state(row: Row[Any]) -> SubjectState:
    ref = ImageRef(repository=row.repository, digest=row.digest)
    subject = GateSubject(image=ref, gate=Gate(row.gate), environment=row.place)
    return SubjectState(subject, row.mark, (row.version or "") if row.mark else "")


def put_offered(connection: Connection, application: str, marks: Mapping[ImageRef, str]) -> None:
    """Store which images of an application the intake gate judged; one with another mark has no facts any more."""
    offered = t.offered.c
    of = select(offered.id, offered.repository, offered.digest, offered.mark).where(offered.application == application)
    stored = {(row.repository, row.digest, row.mark): row.id for row in connection.execute(of)}
    entries = {(*_name(ref), mark) for ref, mark in marks.items()}
    for key in stored.keys() - entries:
        connection.execute(delete(t.offered).where(offered.id == stored[key]))
    for repository, digest, mark in sorted(entries - stored.keys()):
        new = insert(t.offered).values(repository=repository, digest=digest, application=application, mark=mark)
        connection.execute(new)


def put_facts(connection: Connection, facts: StoredFacts) -> None:
    """Store the facts of a subject in place of earlier ones, if its image has the same mark."""
    subject, stored = facts.subject, t.gate_facts.c
    if subject.gate is Gate.INTAKE:
        same = _is(subject.image, t.offered) & (t.offered.c.mark == facts.mark)
        new = {"version": facts.version, "content": encode_facts(facts.values)}
        connection.execute(update(t.offered).where(same).values(new))
        return
    image = connection.execute(select(t.images.c.id).where(_is(subject.image), t.images.c.mark == facts.mark)).scalar()
    if image is None:
        return
    key = {"image": image, "gate": subject.gate.value, "environment": subject.environment}
    connection.execute(delete(t.gate_facts).where(*(stored[name] == value for name, value in key.items())))
    content = encode_facts(facts.values)
    connection.execute(insert(t.gate_facts).values(**key, version=facts.version, content=content))


def _is(ref: ImageRef, table: Table = t.images) -> ColumnElement[bool]:
    return (table.c.repository == ref.repository) & (table.c.digest == ref.digest)


def read_facts(connection: Connection, subjects: Sequence[GateSubject]) -> Iterator[StoredFacts]:
    """Read the stored facts of these subjects at once; return an iterator that decodes them one by one, in order."""
    columns = t.images.c.repository, t.images.c.digest, t.images.c.mark, t.gate_facts
    of = select(*columns).join(t.gate_facts, t.gate_facts.c.image == t.images.c.id)
    curated = connection.execute(of.where(t.images.c.digest.in_(_digests(subjects, judged_by_intake=False))))
    rows = {(row.repository, row.digest, row.gate, row.environment): row for row in curated}
    is_selected = t.offered.c.digest.in_(_digests(subjects, judged_by_intake=True)) & t.offered.c.content.is_not(None)
    offered = connection.execute(select(t.offered).where(is_selected))
    rows |= {(row.repository, row.digest, Gate.INTAKE.value, ""): row for row in offered}
    pairs = ((each, rows.get((*_name(each.image), each.gate.value, each.environment))) for each in subjects)
    return (
        StoredFacts(each, row.mark, row.version, decode_facts(row.content, each.gate)) for each, row in pairs if row
    )


def _digests(subjects: Iterable[GateSubject], *, judged_by_intake: bool) -> set[Digest]:
    return {each.image.digest for each in subjects if (each.gate is Gate.INTAKE) is judged_by_intake}


def _name(ref: ImageRef) -> Name:
    return ref.repository, ref.digest


def read_base(connection: Connection, ref: ImageRef) -> tuple[str, str | None]:
    """Return what the facts of images that are built on this one depend on: its block and its SBOM, as stored."""
    document = connection.execute(select(t.images.c.document).where(_is(ref))).scalar()
    stored = json.loads(document) if document else {}
    return stored.get("blocked", ""), stored.get("sbom_content")
