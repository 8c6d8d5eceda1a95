"""VEX documents: what issuers state about vulnerabilities, joined into the facts of a gate if they signed it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.attached_statement import VEX_TYPES, AttachedStatement
from supply_chain.evidence.clock import SKEW
from supply_chain.model.image import Digest, Model, digest_of
from supply_chain.policy.fact_types import FindingFacts, VexFacts
from supply_chain.policy.people import NO_TERMS, People
from supply_chain.policy.signed_documents import (
    SUFFIX,
    DocumentKind,
    Unsigned,
    read_bundle,
    read_file,
    verify_document,
)
from supply_chain.text import render_time
from supply_chain.vulnerability.vex.json_document import LIMIT
from supply_chain.vulnerability.vex.matching import (
    Image,
    VexAnswer,
    VexConclusion,
    VexIndex,
    VexTerms,
    find_vex_answers,
)
from supply_chain.vulnerability.vex.reading import read_vex, read_vex_value
from supply_chain.vulnerability.vex.statement import VexStatement

DIRECTORY = Path("deployments/vex")
SCANS = ("scan", "source_scan")
"""The groups of facts with findings: the scan of an image, and at the intake gate that of its source."""


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

    def make_index(self, attached: Sequence[VexStatement], now: datetime) -> VexIndex | None:
        """Return the index of these statements and of those that are attached to an image; None if there are none."""
        if not attached:
            return self.index
        return VexIndex.of((*(self.index.statements if self.index else ()), *attached), now)


class SignedVex(NamedTuple):
    """A document that counts."""

    by: str
    """The issuer that signed it."""
    digest: Digest
    statements: tuple[VexStatement, ...]


SignedDocuments = Mapping[str, SignedVex | VexReport]
"""Name of a file → the document that an issuer signed, or why it does not count."""


def read_vex_documents(directory: Path, people: People, now: datetime) -> Vex:
    """Read the VEX documents of a directory. One that is invalid, or not signed by an issuer, does not count."""
    return join_documents(read_signed_vex(directory, people, now), people, now)


def read_signed_vex(directory: Path, people: People, now: datetime) -> SignedDocuments:
    """Read the VEX documents of a directory, in the order of their names."""
    files = sorted(each for each in directory.glob("*.json") if not each.name.endswith(SUFFIX))
    return {file.name: _read(file, people, now) for file in files}


def join_documents(documents: SignedDocuments, people: People, now: datetime) -> Vex:
    """Return what the documents state together, and a report about each."""
    signed = [each for each in documents.values() if isinstance(each, SignedVex)]
    reports = tuple(
        VexReport(name=name, by=each.by, statements=len(each.statements)) if isinstance(each, SignedVex) else each
        for name, each in documents.items()
    )
    if not signed:
        return Vex(terms=people.vex_terms, reports=reports)
    version = digest_of("\n".join([people.vex_terms.version, *(each.digest for each in signed)]).encode())
    statements = [statement for each in signed for statement in each.statements]
    return Vex(VexIndex.of(statements, now), people.vex_terms, version, reports)


def _read(file: Path, people: People, now: datetime) -> SignedVex | VexReport:
    content = read_file(file, LIMIT)
    if content is None:
        return VexReport(name=file.name, why="it is not a file")
    signature = verify_document(
        DocumentKind.VEX, file.name, content, read_bundle(file), people.issuers, people.installation, now
    )
    if isinstance(signature, Unsigned):
        return VexReport(name=file.name, why=people.distrusted or signature.why)
    try:
        statements = read_vex(content, file.name, signature.by)
    except DeclarationInvalid as error:
        return VexReport(name=file.name, why=error.message.rpartition("\n")[0], by=signature.by)
    return sign_vex(file.name, signature.by, content, statements, now)


def sign_vex(
    name: str, by: str, content: bytes, statements: tuple[VexStatement, ...], now: datetime
) -> SignedVex | VexReport:
    """Return a document of an issuer; it does not count if it states something of the future."""
    if why := find_future(statements, now):
        return VexReport(name=name, why=why, by=by)
    return SignedVex(by, digest_of(content), statements)


def read_attached_vex(
    attached: Iterable[AttachedStatement], people: People, now: datetime
) -> tuple[tuple[VexStatement, ...], tuple[str, ...]]:
    """Return the statements of attached documents that an issuer signed, and a sentence about each other document."""
    statements, notes = list[VexStatement](), list[str]()
    for each in attached:
        if each.predicate_type not in VEX_TYPES:
            continue
        result = read_attached(each, people, now)
        if isinstance(result, str):
            notes.append(f"the VEX document {each} does not count: {result}")
        else:
            statements += result
    return tuple(statements), tuple(notes)


def read_attached(attached: AttachedStatement, people: People, now: datetime) -> tuple[VexStatement, ...] | str:
    """Return the statements of a document, or why it does not count."""
    by = people.find_issuer(attached.is_signed_by)
    if by is None:
        return people.distrusted or "no issuer signed it"
    try:
        statements = read_vex_value(attached.predicate, "it", by)
    except DeclarationInvalid as error:
        return error.message.partition("\n")[0]
    return find_future(statements, now) or statements


def find_future(statements: Iterable[VexStatement], now: datetime) -> str:
    """Return that a statement is of the future; empty if none is."""
    late = next((each for each in statements if each.at > now + SKEW), None)
    return f"it states something at {render_time(late.at)}, which is in the future" if late else ""


class _Finding(NamedTuple):
    """A finding, as statements are compared with it."""

    id: str
    aliases: Sequence[str]
    package: str
    version: str
    type: str

    @classmethod
    def of(cls, facts: FindingFacts) -> _Finding:
        return cls(facts["id"], facts["aliases"], facts["package"], facts["version"], facts["type"])


def join_vex(
    listed: Sequence[FindingFacts], image: Image, attached: Sequence[VexStatement], vex: Vex, now: datetime
) -> list[FindingFacts] | None:
    """Return the findings of a scan with what issuers state about them; None if nobody states anything.

    `image` has the packages that the findings are in. `attached` is what issuers state in documents that are attached.
    """
    index = vex.make_index(attached, now)
    if index is None:
        return None
    named = [at for at, each in enumerate(listed) if index.mentions(each["id"], each["aliases"])]
    if not named:
        return None
    answers = find_vex_answers([_Finding.of(listed[at]) for at in named], image, index, vex.terms, now)
    if not any(answers):
        return None
    joined = dict(enumerate(listed)) | {at: _join(listed[at], each) for at, each in zip(named, answers, strict=True)}
    return list(joined.values())


def _join(finding: FindingFacts, answer: VexAnswer | None) -> FindingFacts:
    if answer is None:
        return finding
    if not isinstance(answer, VexConclusion):
        return {**finding, "vex_contradiction": answer.sentence}
    vex: VexFacts = {
        "status": answer.status.value, "text": answer.text, "by": answer.by, "at": answer.at,
        "accepted": answer.accepted,
    }  # fmt: skip
    if answer.justification is not None:
        vex["justification"] = answer.justification.value
    if answer.until is not None:
        vex["until"] = answer.until
    return {**finding, "vex": vex}


def is_accepted(finding: Mapping[str, Any]) -> bool:
    """Return whether a finding does not count: a waiver accepts it, or an issuer's statement that is accepted."""
    return "waiver" in finding or ("vex" in finding and finding["vex"]["accepted"])
