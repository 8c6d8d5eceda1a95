"""Reads and writes the facts of gates."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, literal, select

from supply_chain.adapters.database import tables as t
from supply_chain.adapters.database.reading import Name, is_image, select_deployed
from supply_chain.fleet.gate_facts import GateSubject, StoredFacts, SubjectState, decode_facts, encode_facts
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate


def list_subjects(connection: Connection, which: ColumnElement[bool]) -> tuple[SubjectState, ...]:
    """Return what gates judge of the images that meet a condition, by application."""
    release = select(
        t.images.c.id.label("image"), literal(Gate.RELEASE.value).label("gate"), literal("").label("place")
    )
    last = select_deployed().subquery()
    deploy = select(last.c.image, literal(Gate.DEPLOY.value), last.c.environment)
    judged = release.where(~t.images.c.gone).union_all(deploy).subquery()
    stored = t.gate_facts.c
    same = (stored.image == judged.c.image) & (stored.gate == judged.c.gate) & (stored.environment == judged.c.place)
    image = t.images.c
    found = (
        select(image.repository, image.digest, image.mark, judged.c.gate, judged.c.place, stored.version)
        .join(judged, judged.c.image == image.id)
        .outerjoin(t.gate_facts, same)
        .where(which, is_image())
        .order_by(image.application, image.digest, judged.c.gate.desc(), judged.c.place)
    )
    return tuple(_state(row) for row in connection.execute(found))


def _state(row: Any) -> SubjectState:
    ref = ImageRef(repository=row.repository, digest=row.digest)
    subject = GateSubject(image=ref, gate=Gate(row.gate), environment=row.place)
    return SubjectState(subject, row.mark, (row.version or "") if row.mark else "")


def put_facts(connection: Connection, facts: StoredFacts) -> None:
    """Store the facts of a subject in place of earlier ones, if its image has the same mark."""
    subject, stored = facts.subject, t.gate_facts.c
    image = connection.execute(select(t.images.c.id).where(_is(subject.image), t.images.c.mark == facts.mark)).scalar()
    if image is None:
        return
    key = {"image": image, "gate": subject.gate.value, "environment": subject.environment}
    connection.execute(delete(t.gate_facts).where(*(stored[name] == value for name, value in key.items())))
    content = encode_facts(facts.values)
    connection.execute(insert(t.gate_facts).values(**key, version=facts.version, content=content))


def _is(ref: ImageRef) -> ColumnElement[bool]:
    return (t.images.c.repository == ref.repository) & (t.images.c.digest == ref.digest)


def read_facts(connection: Connection, subjects: Sequence[GateSubject]) -> Iterator[StoredFacts]:
    """Read the stored facts of these subjects at once; return an iterator that decodes them one by one, in order."""
    columns = t.images.c.repository, t.images.c.digest, t.images.c.mark, t.gate_facts
    of = select(*columns).join(t.gate_facts, t.gate_facts.c.image == t.images.c.id)
    rows = connection.execute(of.where(t.images.c.digest.in_({each.image.digest for each in subjects})))
    found = {(row.repository, row.digest, row.gate, row.environment): row for row in rows}
    wanted = ((each, found.get((*_name(each.image), each.gate.value, each.environment))) for each in subjects)
    return (
        StoredFacts(each, row.mark, row.version, decode_facts(row.content, each.gate)) for each, row in wanted if row
    )


def _name(ref: ImageRef) -> Name:
    return ref.repository, ref.digest


def read_base(connection: Connection, ref: ImageRef) -> tuple[str, str | None]:
    """Return what the facts of images that are built on this one depend on: its block and its SBOM, as stored."""
    document = connection.execute(select(t.images.c.document).where(_is(ref))).scalar()
    stored = json.loads(document) if document else {}
    return stored.get("blocked", ""), stored.get("sbom_content")
