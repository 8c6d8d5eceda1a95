"""Search for a vulnerability, a package, an image or a base in all curated images."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum

from pydantic import Field

from supply_chain.errors import DeclarationInvalid
from supply_chain.fleet.image import FleetImage, Running
from supply_chain.fleet.inventory import Inventory
from supply_chain.fleet.packages import parse_package
from supply_chain.model.image import DIGEST, HEXADECIMAL, ImageRef, Model
from supply_chain.model.tier import BASES, CURATED
from supply_chain.text import pluralize

ADVISORY = re.compile(
    r"(?i)CVE-\d{4}-\d{4,}|(?:GHSA|CGA)(?:-[0-9a-z]{4}){3}|TEMP-\d{7}-[0-9A-F]{6}"
    r"|(?!CVE-)[A-Z]+[A-Z0-9]*(?:-[A-Z]+)*-\d{3,}[-:]\d+(?:-\d+)?"
)
"""CVE-2026-1234, GHSA-xxxx-xxxx-xxxx, DSA-5001-1, RHSA-2026:1, SUSE-SU-2026:1-1; other text may name a package."""
MISSPELT = re.compile(r"(?i)CVE[\W_]?\d|(?-i:CVE-)|GHSA[\W_]|(?:DSA|DLA|USN|RHSA|ELSA|ALSA|RLSA)[\W_]?\d{3}")
"""The start of a misspelt advisory, but not of a package name such as cve-bin-tool."""
NAMED_BASE = f"{BASES.removeprefix(CURATED)}/"


class SearchKind(StrEnum):
    """The kind of thing that a question is about."""

    VULNERABILITY = "vulnerability"
    PACKAGE = "package"
    DIGEST = "digest"
    BASE = "base"


class Question(Model):
    """A parsed question."""

    kind: SearchKind
    name: str
    version: str | None = None

    def __str__(self) -> str:
        return f"the {self.kind} {self.name}" + (f" in version {self.version}" if self.version else "")


class Place(Model):
    """An image that matches a question."""

    image: ImageRef
    owner: str
    tags: tuple[str, ...]
    match: str = Field(description="what in the image matches the question")
    running: tuple[Running, ...]


def parse_question(text: str) -> Question:
    """Parse a question: `CVE-…`, `package[@version]`, a package URL, a digest or its first digits, or `base/NAME`.

    The type in a package URL is ignored: packages of every type with this name match. Raises `DeclarationInvalid` for
    anything else.
    """
    question = text.strip()
    if re.fullmatch(rf"(?:.*@)?({DIGEST})", question) or HEXADECIMAL.fullmatch(question):
        return Question(kind=SearchKind.DIGEST, name=question.rpartition("@")[2])
    if ADVISORY.fullmatch(question):
        return Question(kind=SearchKind.VULNERABILITY, name=question)
    if question.removeprefix(CURATED).startswith(NAMED_BASE):
        return Question(kind=SearchKind.BASE, name=question.removeprefix(CURATED))
    if MISSPELT.match(question):
        raise DeclarationInvalid(
            f"{text!r} is not a complete identifier of a vulnerability.\n"
            "Write CVE-2026-1234, a year and four digits or more, GHSA-2c7j-xj9m-q2vp, three groups of four, or an "
            "advisory to its end: DSA-5001-1, RHSA-2026:1234."
        )
    _, name, version = parse_package(question)
    if len(question.split()) != 1 or not any(map(str.isalnum, name)):
        raise DeclarationInvalid(
            f"{text!r} is not a valid question.\n"
            "Ask for CVE-2026-1234, zlib1g, zlib1g@1:1.2.13, pkg:deb/debian/zlib1g, a digest (12 digits or more), or "
            "base/python."
        )
    return Question(kind=SearchKind.PACKAGE, name=name, version=version or None)


def list_exclusions(inventory: Inventory, question: Question) -> str:
    """Return what an answer leaves out; empty if nothing.

    These are images whose packages or vulnerabilities are unknown, and hints at what the question may have meant.
    """
    return "; ".join(_exclusions(inventory, question))


def _exclusions(inventory: Inventory, question: Question) -> Iterator[str]:
    if question.kind is SearchKind.VULNERABILITY:
        if number := inventory.count_unscanned():
            not_since = "not scanned, or archived or gone and not scanned since (`cscm images` lists them)"
            yield f"{pluralize(number, 'image')} {not_since}"
        if number := inventory.count_by_starter():
            yield f"{pluralize(number, 'image')} of which the starter database covers only some packages"
        return
    if number := inventory.count_unreadable():
        why = "whose evidence cannot be read (`cscm images` lists them, `cscm explain` gives the reason)"
        yield f"{pluralize(number, 'image')} {why}"
    if question.kind is SearchKind.PACKAGE:
        if number := inventory.count_without_sbom():
            yield f"{pluralize(number, 'image')} without an SBOM"
        if question.version and (number := inventory.count_other_versions(question.name, question.version)):
            yield f"{pluralize(number, 'image')} with another version of it (`cscm where {question.name}`)"
    if question.kind is SearchKind.BASE and not _find_bases(question.name, inventory):
        yield "there is no base of that name"


def find_invalid_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that are not package names."""

    def is_package(each: str) -> bool:
        try:
            return parse_question(each).kind is SearchKind.PACKAGE
        except DeclarationInvalid:
            return False

    return tuple(each for each in names if not is_package(each))


def require_advisory(name: str, packages: Collection[str]) -> None:
    """Raise `DeclarationInvalid` unless `name` is an advisory or `packages` are given.

    A misspelt advisory is always refused.
    """
    if parse_question(name).kind is not SearchKind.VULNERABILITY and not packages:
        raise DeclarationInvalid(
            f"{name!r} is not an advisory.\nWrite CVE-2026-1234 or DSA-5987-1, and then the packages that it is about."
        )


def require_package_names(names: Collection[str]) -> None:
    """Raise `DeclarationInvalid` if there are names that are not package names."""
    if names:
        raise DeclarationInvalid(
            f"Not a package name: {', '.join(map(repr, names))}.\nWrite openssl, openssl@3.0.1 or a package URL."
        )


def find_places(question: Question, inventory: Inventory) -> tuple[Place, ...]:
    """Return every curated image that matches the question; images that run come first."""
    places = {str(image.ref): _place(image, why) for image, why in _find_images(question, inventory)}
    return tuple(sorted(places.values(), key=lambda place: (not place.running, str(place.image))))


def _find_images(question: Question, inventory: Inventory) -> list[tuple[FleetImage, str]]:
    name = question.name
    match question.kind:
        case SearchKind.VULNERABILITY:
            return [(image, _findings(image, name)) for image in inventory.find_affected(name)]
        case SearchKind.PACKAGE:
            listed = inventory.find_carrying(name, question.version)
            return [(image, f"lists {', '.join(packages)}") for image, packages in listed]
        case SearchKind.BASE:
            bases = _find_bases(name, inventory)
            built = inventory.find_built_on([base.ref.digest for base in bases])
            return [*((base, "is that base") for base in bases), *((image, f"built on {name}") for image in built)]
        case SearchKind.DIGEST:
            own = inventory.find_by_digest(name)
            built = inventory.find_built_on([image.ref.digest for image in own])
            return [
                *((image, f"built on {name}") for image in built),
                *((image, _describe_match(image, name)) for image in own),
            ]


def _find_bases(name: str, inventory: Inventory) -> tuple[FleetImage, ...]:
    return *inventory.images(name), *inventory.list_removed(name)


def _describe_match(image: FleetImage, begins: str) -> str:
    own = image.ref.digest.removeprefix("sha256:").startswith(begins.removeprefix("sha256:"))
    return "is that image" if own else "its encrypted copy is that image"


def _findings(image: FleetImage, name: str) -> str:
    vulnerability = name.upper()
    findings = image.scan.findings if image.scan else ()
    return "; ".join(
        str(each) for each in findings if vulnerability in (each.id.upper(), *(alias.upper() for alias in each.aliases))
    )


def _place(image: FleetImage, match: str) -> Place:
    match = f"{match}; gone from the registry" if image.missing else match
    return Place(image=image.ref, owner=image.owner, tags=image.stored.tags, match=match, running=image.running)
