"""Waivers: a rule or a vulnerability is accepted for some images until a day, signed by a person who may do that."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.examination import matches
from supply_chain.model.documents import LIMIT, decode_document, parse_document
from supply_chain.model.image import PATH, Digest, Model, digest_of
from supply_chain.policy.fact_types import FindingFacts, WaiverFacts
from supply_chain.policy.names import list_patterns
from supply_chain.policy.people import People, PersonName, WaiverRole
from supply_chain.policy.signed_documents import (
    DocumentKind,
    Unsigned,
    read_bundle,
    read_file,
    verify_document,
)
from supply_chain.text import sanitize_text
from supply_chain.vulnerability.findings import RANKS, Severity
from supply_chain.vulnerability.vex.matching import list_cves, list_names

DIRECTORY = Path("deployments/waivers")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
"""The name of a waiver."""
EVERY = "*"
"""In the scope of a waiver: every application."""
ANY_PACKAGE = ""
"""No waiver names a package so."""
Text = Annotated[str, StringConstraints(pattern=r"\S", max_length=1000)]
Scope = Annotated[str, StringConstraints(pattern=rf"^(?:\*|{PATH}(?:/\*)?)$", max_length=128)]
"""An application, every name below one (`base/*`), or every application (`*`)."""
SOON = timedelta(days=7)
"""How long before its end a waiver is reported as about to expire."""


class WaiverDocument(Model):
    """What is accepted, where, why and until when. The name of the file is the name of the waiver."""

    rules: tuple[Text, ...] = Field(default=(), description="ids of rules; or vulnerabilities")
    vulnerabilities: tuple[Text, ...] = Field(default=(), description="ids or aliases, such as CVE-2026-1234; or rules")
    packages: tuple[Text, ...] = Field(default=(), description="only in these packages; empty: in every package")
    applications: tuple[Scope, ...] = Field(
        default=(), description="names, every name below one: base/*, or `*`; empty: those of the digests"
    )
    digests: tuple[Digest, ...] = Field(default=(), description="of images; empty: all of the applications")
    environments: tuple[Text, ...] = Field(
        default=(), description="of rules: only at the deploy gate for these; empty: at every gate"
    )
    reason: Text = Field(description="why it is acceptable")
    ticket: Text = Field(description="where it was discussed")
    requester: PersonName = Field(description="who asks for it; somebody else signs")
    expires: AwareDatetime = Field(description="from then on it has no effect")

    @model_validator(mode="after")
    def _has_one_subject_and_a_scope(self) -> WaiverDocument:
        if bool(self.rules) == bool(self.vulnerabilities):
            raise ValueError("a waiver names rules or vulnerabilities, and not both")
        if self.packages and not self.vulnerabilities:
            raise ValueError("packages narrow vulnerabilities; remove packages")
        if self.environments and not self.rules:
            raise ValueError("environments narrow rules of the deploy gate; earlier gates judge vulnerabilities")
        if not self.applications and not self.digests:
            raise ValueError("a waiver says for which images it is: write applications or digests")
        return self


class WaiverState(StrEnum):
    """Whether a waiver has an effect."""

    ACTIVE = "active"
    EXPIRED = "expired"
    INERT = "inert"
    """It has no effect: `why` says what is wrong."""


class WaiverReport(Model):
    """A waiver as operators see it."""

    name: str
    state: WaiverState
    why: str = Field(default="", description="why it has no effect; of an active one, where it has none")
    accepts: tuple[str, ...] = Field(default=(), description="the rules or vulnerabilities")
    scope: tuple[str, ...] = Field(default=(), description="applications, digests and environments")
    reason: str = ""
    ticket: str = ""
    requester: str = ""
    by: str = Field(default="", description="who signed it")
    expires: AwareDatetime | None = None

    def expires_soon(self, now: datetime) -> bool:
        """Return whether it is active and ends within a week."""
        return self.state is WaiverState.ACTIVE and self.expires is not None and self.expires <= now + SOON


@dataclass(frozen=True)
class Waiver:
    """A waiver that somebody signed who may, until it expires."""

    name: str
    digest: Digest
    """The digest of its document."""
    document: WaiverDocument
    by: str
    """Who signed it."""
    severity: Severity | None
    """The worst severity of a finding that its signer may accept, also by waiving a rule; None: none."""

    @property
    def reference(self) -> str:
        """How a verdict names it."""
        return make_waiver_reference(self.name, self.digest)

    def covers(self, image: Mapping[str, Any], now: datetime) -> bool:
        """Return whether it has an effect on an image, whose facts these are, at this time."""
        of, environment = self.document, image.get("environment")
        named = EVERY in of.applications or matches(image["application"], of.applications)
        return (
            now < of.expires
            and (not of.applications or named)
            and (not of.digests or image.get("digest") in of.digests)
            and (not of.environments or (environment is not None and environment["name"] in of.environments))
        )

    @cached_property
    def vulnerabilities(self) -> frozenset[str]:
        """The names of the vulnerabilities, in upper case."""
        return frozenset(each.upper() for each in self.document.vulnerabilities)

    def accepts_vulnerability(self, finding: FindingFacts, names: Set[str]) -> bool:
        """Return whether it accepts the vulnerability of a finding, which has these `names`, in upper case.

        One of them is a vulnerability of the waiver. An advisory is an alias of several CVEs: all of them have to be
        accepted if any is named.
        """
        cves = list_cves(names)
        return self.accepts_severity(finding["severity"]) and (
            finding["id"].upper() in self.vulnerabilities
            or cves <= self.vulnerabilities
            or cves.isdisjoint(self.vulnerabilities)
        )

    def accepts_severity(self, severity: str) -> bool:
        """Return whether its signer may accept findings of a severity. One that nobody rated may be the worst one."""
        rated = Severity(severity)
        rank = RANKS[Severity.CRITICAL if rated is Severity.UNKNOWN else rated]
        return self.severity is not None and rank >= RANKS[self.severity]


@dataclass(frozen=True)
class Waivers:
    """All waivers of a project."""

    valid: tuple[Waiver, ...] = ()
    """Those that have an effect until they expire."""
    reports: tuple[WaiverReport, ...] = ()
    """All of them."""


@dataclass(frozen=True)
class SignedWaiver:
    """A waiver that a person signed. Whether they may is not decided yet."""

    name: str
    digest: Digest
    document: WaiverDocument
    by: str
    at: datetime
    """When it was signed, as the signer states it."""


def read_waivers(directory: Path, people: People, waivable: Mapping[str, bool], now: datetime) -> Waivers:
    """Read the waivers of a directory. One that is invalid, or not signed by somebody who may, has no effect.

    `waivable` says of the id of each rule whether it may be waived. A file that nobody signed is not even parsed.
    """
    return decide_waivers(read_signed_waivers(directory, people, now), people, waivable, now)


def read_signed_waivers(directory: Path, people: People, now: datetime) -> tuple[SignedWaiver | WaiverReport, ...]:
    """Return the waivers of a directory that people signed, and a report about each other file."""
    return tuple(_read(file, people, now) for file in sorted(directory.glob("*.yaml")))


def decide_waivers(
    signed: Iterable[SignedWaiver | WaiverReport], people: People, waivable: Mapping[str, bool], now: datetime
) -> Waivers:
    """Return which waivers have an effect, and a report about each of them and each other file."""
    valid, reports = [], []
    for each in signed:
        decided = _decide(each, people, waivable, now) if isinstance(each, SignedWaiver) else each
        if isinstance(decided, Waiver) and now < decided.document.expires:
            valid.append(decided)
        reports.append(decided if isinstance(decided, WaiverReport) else _report(decided, now))
    return Waivers(tuple(valid), tuple(reports))


def _read(file: Path, people: People, now: datetime) -> SignedWaiver | WaiverReport:
    name, content = file.stem, read_file(file, LIMIT)
    if content is None or not NAME.fullmatch(name):
        why = "it is not a file" if content is None else f"its name has other characters than {NAME.pattern}"
        return WaiverReport(name=sanitize_text(name), state=WaiverState.INERT, why=why)
    signature = verify_document(
        DocumentKind.WAIVER, file.name, content, read_bundle(file), people.keys, people.installation, now
    )
    if isinstance(signature, Unsigned):
        return WaiverReport(name=name, state=WaiverState.INERT, why=people.distrusted or signature.why)
    try:
        return SignedWaiver(name, digest_of(content), parse_waiver(content, file.name), signature.by, signature.at)
    except DeclarationInvalid as error:
        why = error.message.rpartition("\n")[0]
        return WaiverReport(name=name, state=WaiverState.INERT, why=why, by=signature.by)


def _decide(signed: SignedWaiver, people: People, waivable: Mapping[str, bool], now: datetime) -> Waiver | WaiverReport:
    role = people.people[signed.by].waive
    waiver = Waiver(signed.name, signed.digest, signed.document, signed.by, role.vulnerabilities if role else None)
    if obstacles := list(find_obstacles(signed, role, waivable)):
        return _report(waiver, now).model_copy(update={"state": WaiverState.INERT, "why": "; ".join(obstacles)})
    return waiver


@cache
def parse_waiver(content: bytes, name: str) -> WaiverDocument:
    """Return the waiver in a document; raise `DeclarationInvalid`, which calls it `name`."""
    return parse_document(decode_document(content, name), WaiverDocument, name)


def find_obstacles(signed: SignedWaiver, role: WaiverRole | None, waivable: Mapping[str, bool]) -> Iterator[str]:
    """Yield why a waiver has no effect although somebody with this role signed it."""
    document, by = signed.document, signed.by
    if by == document.requester:
        yield f"{by} requested it and signed it; another person has to sign"
    if role is None:
        yield f"{by} may waive nothing"
        return
    if document.vulnerabilities and role.vulnerabilities is None:
        yield f"{by} may accept no vulnerability"
    for rule in document.rules:
        if rule not in waivable:
            yield f"there is no rule {rule}"
        elif not waivable[rule]:
            yield f"nobody may waive the rule {rule}"
        elif not role.allows(rule):
            yield f"{by} may not waive the rule {rule}"
    if document.expires - signed.at > timedelta(days=role.days):
        yield f"it lasts until {document.expires:%Y-%m-%d}, and {by} may waive for {role.days} days"


def find_unmatched(
    document: WaiverDocument, applications: Collection[str] | None, environments: Collection[str]
) -> Iterator[str]:
    """Yield why a part of a waiver's scope covers no image.

    `applications` are the known names and patterns of names; None if they are not known. `environments` are those of
    the project.
    """
    if applications is not None:
        names, matched = _list_matched(tuple(applications))
        for scope in document.applications:
            if scope != EVERY and scope not in matched and names.isdisjoint(list_patterns(scope)):
                yield f"no known application matches {scope}"
    for environment in document.environments:
        if environment not in environments:
            yield f"there is no environment {environment}"


@lru_cache(maxsize=1)
def _list_matched(applications: tuple[str, ...]) -> tuple[Set[str], Set[str]]:
    """Return known names and patterns, and these with every pattern that matches one. All waivers have the same."""
    names = frozenset(applications)
    return names, names.union(*map(list_patterns, names))


def _report(waiver: Waiver, now: datetime) -> WaiverReport:
    of = waiver.document
    expired = of.expires <= now
    return WaiverReport(
        name=waiver.name,
        state=WaiverState.EXPIRED if expired else WaiverState.ACTIVE,
        why=f"it expired on {of.expires:%Y-%m-%d}" if expired else "",
        accepts=(*of.rules, *of.vulnerabilities),
        scope=(*of.applications, *of.digests, *of.environments),
        reason=of.reason,
        ticket=of.ticket,
        requester=of.requester,
        by=waiver.by,
        expires=of.expires,
    )


def waive_rule(waivers: Iterable[Waiver], severities: Set[str]) -> Waiver | None:
    """Return which of the waivers of a rule lasts longest, or None. `waivers` are those that cover the image.

    Its signer may accept all `severities`, which are those of the findings that the rule refuses the image for.
    """
    return max((each for each in waivers if all(map(each.accepts_severity, severities))), key=_end, default=None)


def waive_findings(
    findings: Sequence[FindingFacts], waivers: Sequence[Waiver]
) -> tuple[list[FindingFacts], dict[str, Waiver]]:
    """Return the findings, the accepted ones with their waiver, and the waivers that accept one, by name.

    `waivers` are those that cover the image.
    """
    by_vulnerability: defaultdict[str, list[Waiver]] = defaultdict(list)
    for waiver in waivers:
        for name in waiver.vulnerabilities:
            by_vulnerability[name].append(waiver)
    answers: dict[tuple[str, frozenset[str], str], Mapping[str, Waiver]] = {}
    used: dict[str, Waiver] = {}
    joined, named = list(findings), by_vulnerability.keys()
    for position, finding in enumerate(findings):
        if finding["id"].upper() not in named and named.isdisjoint(map(str.upper, finding["aliases"])):
            continue
        names = list_names(finding["id"], finding["aliases"])
        question = finding["id"], names, finding["severity"]
        if question not in answers:
            answers[question] = _accept_by_package(finding, names, by_vulnerability)
        of = answers[question]
        if (accepting := of.get(finding["package"], of.get(ANY_PACKAGE))) is not None:
            used[accepting.name] = accepting
            joined[position] = {**finding, "waiver": make_waiver_facts(accepting)}
    return joined, used


def _accept_by_package(
    finding: FindingFacts, names: Set[str], by_vulnerability: Mapping[str, Sequence[Waiver]]
) -> Mapping[str, Waiver]:
    """Return the waiver of a vulnerability that lasts longest, by package.

    `ANY_PACKAGE` has that of every other package. Findings of the same vulnerability and severity in other packages
    need no other comparison.
    """
    longest: dict[str, Waiver] = {}
    named = (waiver for name in names for waiver in by_vulnerability.get(name, ()))
    for waiver in sorted(named, key=_end, reverse=True):
        if waiver.accepts_vulnerability(finding, names):
            for package in waiver.document.packages or (ANY_PACKAGE,):
                longest.setdefault(package, waiver)
            if ANY_PACKAGE in longest:
                break
    return longest


def make_waiver_facts(waiver: Waiver) -> WaiverFacts:
    """Return the facts about a waiver that expressions read."""
    return {
        "name": waiver.name,
        "digest": waiver.digest,
        "by": waiver.by,
        "reason": waiver.document.reason,
        "expires": waiver.document.expires,
    }


def make_waiver_reference(name: str, digest: Digest) -> str:
    """Return how a verdict names a waiver: another document of this name is another waiver."""
    return f"{name}@{digest}"


def _end(waiver: Waiver) -> tuple[datetime, str]:
    return waiver.document.expires, waiver.name
