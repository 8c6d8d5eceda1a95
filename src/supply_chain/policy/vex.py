"""VEX documents: what issuers state about vulnerabilities, joined into the facts of a gate if they signed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.clock import SKEW
from supply_chain.model.image import Digest, Model, digest_of
from supply_chain.policy.fact_types import FindingFacts, VexFacts
from supply_chain.policy.facts import CuratedFacts, ImageFacts
from supply_chain.policy.people import NO_TERMS, People
from supply_chain.policy.signed_documents import (
    SUFFIX,
    DocumentKind,
    Unsigned,
    read_bundle,
    read_file,
    verify_document,
)
from supply_chain.vulnerability.vex.json_document import LIMIT
from supply_chain.vulnerability.vex.matching import Image, VexConclusion, VexIndex, VexTerms, vex_of
from supply_chain.vulnerability.vex.matching import Vex as Found
from supply_chain.vulnerability.vex.reading import read_vex
from supply_chain.vulnerability.vex.statement import VexStatement

DIRECTORY = Path("deployments/vex")


class VexReport(Model):
    """A VEX document as operators see it."""

    name: str = Field(description="of its file")
    why: str = Field(default="", description="why its statements do not count; empty if they do")
    by: str = Field(default="", description="the issuer that signed it")
    statements: int = Field(
        default=0, description="number of its statements; of several versions of a document, only the newest counts"
    )


@dataclass(frozen=True)
class Vex:
    """The VEX statements of a project that count."""

    index: VexIndex | None = None
    """None if there are none."""
    terms: VexTerms = NO_TERMS
    version: str = ""
    """A text that differs if other statements count."""
    reports: tuple[VexReport, ...] = ()
    """All documents, also those that do not count."""


def read_vex_documents(directory: Path, people: People, now: datetime) -> Vex:
    """Read the VEX documents of a directory. One that is invalid, or not signed by an issuer, does not count."""
    statements: list[VexStatement] = []
    digests, reports = [people.vex_terms.model_dump_json()], []
    for file in sorted(each for each in directory.glob("*.json") if not each.name.endswith(SUFFIX)):
        found = _read(file, people, now)
        if isinstance(found, _Document):
            statements += found.statements
            digests.append(found.digest)
            reports.append(VexReport(name=file.name, by=found.by, statements=len(found.statements)))
        else:
            reports.append(found)
    if not statements:
        return Vex(reports=tuple(reports))
    version = digest_of("\n".join(digests).encode())
    return Vex(VexIndex.of(statements, now), people.vex_terms, version, tuple(reports))


class _Document(NamedTuple):
    """A document that counts."""

    by: str
    digest: Digest
    statements: tuple[VexStatement, ...]


def _read(file: Path, people: People, now: datetime) -> _Document | VexReport:
    content = read_file(file, LIMIT)
    if content is None:
        return VexReport(name=file.name, why="it is not a file")
    signature = verify_document(DocumentKind.VEX, file.name, content, read_bundle(file), people.issuers, now)
    if isinstance(signature, Unsigned):
        return VexReport(name=file.name, why=people.distrusted or signature.why)
    try:
        statements = read_vex(content, file.name, signature.by)
    except DeclarationInvalid as error:
        return VexReport(name=file.name, why=error.message.rpartition("\n")[0], by=signature.by)
    if late := next((each for each in statements if each.at > now + SKEW), None):
        why = f"it states something at {late.at:%Y-%m-%d %H:%M} UTC, which is in the future"
        return VexReport(name=file.name, why=why, by=signature.by)
    return _Document(signature.by, digest_of(content), statements)


def join_vex(image: Mapping[str, Any], facts: ImageFacts, vex: Vex, now: datetime) -> list[FindingFacts] | None:
    """Return the findings of an image with what issuers state about them; None if nobody states anything.

    `image` is the variable of that name. Packages are matched by the package URLs of the SBOM, which the intake gate
    does not have.
    """
    if vex.index is None or not isinstance(facts, CuratedFacts) or facts.report is None:
        return None
    target = Image(facts.ref.digest, facts.packages or ())
    found = vex_of(facts.report.findings, target, vex.index, vex.terms, now)
    return list(map(_join, image["scan"]["findings"], found)) if any(found) else None


def _join(finding: FindingFacts, found: Found | None) -> FindingFacts:
    if found is None:
        return finding
    if not isinstance(found, VexConclusion):
        return {**finding, "vex_contradiction": found.sentence}
    stated: VexFacts = {
        "status": found.status.value, "text": found.text, "by": found.by, "at": found.at, "accepted": found.accepted,
    }  # fmt: skip
    if found.justification is not None:
        stated["justification"] = found.justification.value
    if found.until is not None:
        stated["until"] = found.until
    return {**finding, "vex": stated}


ACCEPTING = frozenset({"waiver", "vex", "accepted"})
"""The facts of a finding that `is_accepted` reads."""


def is_accepted(finding: Mapping[str, Any]) -> bool:
    """Return whether a finding does not count: a waiver accepts it, or an issuer's statement that is accepted."""
    return "waiver" in finding or ("vex" in finding and finding["vex"]["accepted"])
