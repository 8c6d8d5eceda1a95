"""SLSA provenance of others: what trusted builders state about an image raises its build level, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pydantic import ValidationError

from supply_chain.evidence.attached_statement import AttachedStatement
from supply_chain.evidence.statement import PROVENANCE, Foreign, names_digest
from supply_chain.model.image import Digest
from supply_chain.policy.people import FILE, People


class VerifiedLevel(NamedTuple):
    """A level of the Build track that the provenance of a trusted builder shows."""

    level: int
    builder: str
    """The name of the builder in the people document."""


class _Builder(Foreign):
    id: str


class _RunDetails(Foreign):
    builder: _Builder


class _BuildDefinition(Foreign):
    build_type: str
    external_parameters: dict[str, Any]


class _Provenance(Foreign):
    """What SLSA requires of provenance ("Build: Provenance", v1)."""

    build_definition: _BuildDefinition
    run_details: _RunDetails


def find_builder_level(
    attached: Iterable[AttachedStatement], digest: Digest, people: People
) -> tuple[VerifiedLevel | None, tuple[str, ...]]:
    """Return the highest level that attached provenance shows, and a sentence about each that does not count."""
    levels, notes = list[VerifiedLevel](), list[str]()
    for each in attached:
        if each.predicate_type != PROVENANCE:
            continue
        result = _read_level(each, digest, people)
        if isinstance(result, str):
            notes.append(f"the provenance {each} does not count: {result}")
        else:
            levels.append(result)
    return max(levels, key=lambda each: each.level, default=None), tuple(notes)


def _read_level(attached: AttachedStatement, digest: Digest, people: People) -> VerifiedLevel | str:
    """Return the level that provenance shows, or why it does not count."""
    signers = people.find_builders(attached.is_signed_by)
    if not signers:
        return people.distrusted or f"no builder in {FILE} signed it"
    try:
        provenance = _Provenance.model_validate(attached.predicate)
    except ValidationError:
        return "it is not SLSA provenance v1"
    if not all(names_digest(each, digest) for each in attached.statement.subject):
        return "it is not about exactly this image"
    own = [name for name in signers if people.builders[name].id == provenance.run_details.builder.id]
    if not own:
        return f"its builder.id is not that of {' or '.join(signers)} in {FILE}"
    return VerifiedLevel(people.builders[own[0]].level, own[0])
