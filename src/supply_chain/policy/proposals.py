"""Proposed policies, waivers and VEX documents: they are judged as if an authorised person had signed them now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import PurePath
from typing import Any

from pydantic import TypeAdapter

from supply_chain.errors import DeclarationInvalid
from supply_chain.model.documents import parse_document
from supply_chain.model.image import digest_of
from supply_chain.policy.people import FILE, People
from supply_chain.policy.vex import DIRECTORY as VEX
from supply_chain.policy.vex import SignedDocuments, SignedVex, Vex, VexReport, join_documents, sign_vex
from supply_chain.policy.waivers import DIRECTORY as WAIVERS
from supply_chain.policy.waivers import (
    NAME,
    SignedWaiver,
    WaiverReport,
    Waivers,
    WaiverState,
    decide_waivers,
    find_obstacles,
    parse_waiver,
)
from supply_chain.text import pluralize
from supply_chain.vulnerability.findings import RANKS, Severity
from supply_chain.vulnerability.vex.json_document import parse_json
from supply_chain.vulnerability.vex.reading import read_vex


class ProposalKind(StrEnum):
    """What a proposed file is. Its content says it."""

    POLICY = "policy"
    WAIVER = "waiver"
    VEX = "VEX document"


SUFFIXES = {ProposalKind.POLICY: ".yaml", ProposalKind.WAIVER: ".yaml", ProposalKind.VEX: ".json"}
"""How the name of a file has to end, so that the gates read it."""
ANYTHING = TypeAdapter[Any](Any)


@dataclass(frozen=True)
class Proposal:
    """Proposed files, as path → text for a policy, and as the name of the file → text for the others."""

    policies: Mapping[str, str] = field(default_factory=dict)
    waivers: Mapping[str, str] = field(default_factory=dict)
    vex: Mapping[str, str] = field(default_factory=dict)


def sort_proposals(texts: Mapping[str, str]) -> Proposal:
    """Return proposed files by what they are; `texts` is path → text.

    Raise `DeclarationInvalid` for a file that is no policy, waiver or VEX document, whose name the gates would not
    read, or whose name another file of the same kind has.
    """
    by_kind: dict[ProposalKind, dict[str, str]] = {kind: {} for kind in ProposalKind}
    for path, text in sorted(texts.items()):
        kind, name = _kind_of(text, path), PurePath(path).name
        if PurePath(path).suffix != SUFFIXES[kind]:
            raise DeclarationInvalid(f"{path} is a {kind}, which no gate reads.\nCall it NAME{SUFFIXES[kind]}.")
        key = path if kind is ProposalKind.POLICY else name
        if key in by_kind[kind]:
            raise DeclarationInvalid(f"{path} has the name of another proposed {kind}.\nGive it another one.")
        by_kind[kind][key] = text
    return Proposal(by_kind[ProposalKind.POLICY], by_kind[ProposalKind.WAIVER], by_kind[ProposalKind.VEX])


def _kind_of(text: str, path: str) -> ProposalKind:
    value = _load(text, path)
    if "@context" in value or "document" in value:
        return ProposalKind.VEX
    if "gates" in value:
        return ProposalKind.POLICY
    if "requester" in value:
        return ProposalKind.WAIVER
    raise DeclarationInvalid(
        f"{path} is not a policy (`gates`), waiver (`requester`), OpenVEX document (`@context`) or CSAF document "
        "(`document`).\nName only such files."
    )


def _load(text: str, path: str) -> Mapping[str, Any]:
    """Return the keys of a document in JSON or YAML with their values; none if it is no mapping."""
    value = parse_json(text.encode(), path) if path.endswith(".json") else parse_document(text, ANYTHING, path)
    return value if isinstance(value, Mapping) else {}


@dataclass(frozen=True)
class Decisions:
    """Waivers and statements of issuers."""

    waivers: Waivers = field(default_factory=Waivers)
    vex: Vex = field(default_factory=Vex)


@dataclass(frozen=True)
class ProposedDecisions:
    """Waivers and VEX documents of a project, and what proposed ones make of them."""

    current: Decisions
    proposed: Decisions
    notes: tuple[str, ...]
    """A sentence about each proposed document: as if who had signed it, or why it has no effect."""


@dataclass(frozen=True)
class SignedDecisions:
    """What people and issuers of a project signed, as it was read once."""

    people: People
    waivers: tuple[SignedWaiver | WaiverReport, ...]
    vex: SignedDocuments

    def propose(
        self, proposal: Proposal, current: Mapping[str, bool], proposed: Mapping[str, bool], now: datetime
    ) -> ProposedDecisions:
        """Return these decisions, and those with the proposed ones; each replaces the one with its name, or is added.

        `current` and `proposed` say of each rule of these policies whether it may be waived. Raise `DeclarationInvalid`
        for an invalid document.
        """
        waivers = [_assume_waiver(*each, self.people, proposed, now) for each in proposal.waivers.items()]
        names = {each.name for each in waivers}
        others = [each for each in self.waivers if each.name not in names]
        decided = decide_waivers([*others, *waivers], self.people, proposed, now)
        documents = {file: self._assume_vex(file, text, now) for file, text in proposal.vex.items()}
        joined = join_documents({**self.vex, **documents}, self.people, now)
        unchanged = join_documents(self.vex, self.people, now)
        return ProposedDecisions(
            Decisions(decide_waivers(self.waivers, self.people, current, now), unchanged),
            Decisions(decided, joined if documents else unchanged),
            (
                *(_waiver_note(each) for each in decided.reports if each.name in names),
                *(_vex_note(each) for each in joined.reports if each.name in documents),
            ),
        )

    def _assume_vex(self, file: str, text: str, now: datetime) -> SignedVex | VexReport:
        """Return a document as if an issuer had signed it: that of the document with its name, or else the first."""
        before = self.vex.get(file)
        issuers = [before.by] if isinstance(before, SignedVex) else sorted(self.people.issuers)
        content, by = text.encode(), next(iter(issuers), "")
        statements = read_vex(content, file, by)
        if not by:
            return VexReport(name=file, why=self.people.distrusted or f"{FILE} lists no issuer")
        return sign_vex(file, by, content, statements, now)


def _assume_waiver(
    file: str, text: str, people: People, waivable: Mapping[str, bool], now: datetime
) -> SignedWaiver | WaiverReport:
    """Return a waiver as if the person who may accept most of it had signed it."""
    content, name = text.encode(), PurePath(file).stem
    digest, document = digest_of(content), parse_waiver(content, file)
    why = f"its name has other characters than {NAME.pattern}" if not NAME.fullmatch(name) else people.distrusted
    roles = {by: person.waive for by, person in people.people.items() if person.waive is not None}
    if why or not roles:
        why = why or f"nobody in {FILE} may waive anything"
        return WaiverReport(name=name, state=WaiverState.INERT, why=why)

    def rank(by: str) -> tuple[int, int, str]:
        obstacles = find_obstacles(SignedWaiver(name, digest, document, by, now), roles[by], waivable)
        return len(list(obstacles)), RANKS[roles[by].vulnerabilities or Severity.UNKNOWN], by

    return SignedWaiver(name, digest, document, min(roles, key=rank), now)


def _waiver_note(report: WaiverReport) -> str:
    if report.state is WaiverState.ACTIVE:
        return f"waiver {report.name}, as if {report.by} had signed it ({WAIVERS}/{report.name}.yaml)"
    return f"waiver {report.name}, which would have no effect: {report.why}"


def _vex_note(report: VexReport) -> str:
    if report.why:
        return f"VEX document {report.name}, which would not count: {report.why}"
    count = pluralize(report.statements, "statement")
    return f"VEX document {report.name} with {count}, as if {report.by} had signed it ({VEX}/{report.name})"
