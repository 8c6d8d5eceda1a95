"""Where something is: a vulnerability, a package, an image or a base, in everything that was curated."""

from __future__ import annotations

import re
from enum import StrEnum

from pydantic import Field

from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.sbom import in_url
from supply_chain.fleet.inventory import Inventory
from supply_chain.fleet.known import KnownImage, Running
from supply_chain.image import DIGEST, Frozen, ImageRef
from supply_chain.tier import BASES, CURATED

ADVISORY = re.compile(r"(?i)GHSA(?:-[0-9a-z]{4}){3}|[A-Z]+[A-Z0-9]*-\d{3,}[-:]\d+")
"""CVE-2026-1234, GHSA-xxxx-xxxx-xxxx, DSA-5001-1, RHSA-2026:1; anything else may be a package's name."""
HEXADECIMAL = re.compile(r"(?:sha256:)?[0-9a-f]{12,64}")
NAMED_BASE = f"{BASES.removeprefix(CURATED)}/"


class Sought(StrEnum):
    """What a question is about."""

    VULNERABILITY = "vulnerability"
    PACKAGE = "package"
    DIGEST = "digest"
    BASE = "base"


class Question(Frozen):
    """A question as it was understood."""

    kind: Sought
    name: str
    version: str | None = None

    def __str__(self) -> str:
        return f"the {self.kind} {self.name}" + (f" in version {self.version}" if self.version else "")


class Place(Frozen):
    """An image in which it is."""

    image: ImageRef
    owner: str
    tags: tuple[str, ...]
    why: str = Field(description="what of it is there")
    running: tuple[Running, ...]


def understood(text: str) -> Question:
    """What somebody asks for: `CVE-…`, `package[@version]`, a package URL, a digest or how it begins, `base/NAME`.

    Of a package URL the type is not asked for: packages of one name are all found.

    Raises `DeclarationInvalid` where it is none of them.
    """
    asked = text.strip()
    if re.fullmatch(rf"(?:.*@)?({DIGEST})", asked) or HEXADECIMAL.fullmatch(asked):
        return Question(kind=Sought.DIGEST, name=asked.rpartition("@")[2])
    if ADVISORY.fullmatch(asked):
        return Question(kind=Sought.VULNERABILITY, name=asked)
    if asked.removeprefix(CURATED).startswith(NAMED_BASE):
        return Question(kind=Sought.BASE, name=asked.removeprefix(CURATED))
    if asked.startswith("pkg:"):
        _, name, version = in_url(asked)
    else:
        name, _, version = asked.rpartition("@") if "@" in asked[1:] else (asked, "", "")
    if len(asked.split()) != 1 or not any(map(str.isalnum, name)):
        raise DeclarationInvalid(
            f"{text!r} is nothing that can be looked for.\n"
            "Ask for CVE-2026-1234, zlib1g, zlib1g@1:1.2.13, pkg:deb/debian/zlib1g, a digest (12 digits or more), or "
            "base/python."
        )
    return Question(kind=Sought.PACKAGE, name=name, version=version or None)


def where(question: Question, inventory: Inventory) -> tuple[Place, ...]:
    """Every curated image in which it is, what runs first."""
    found = {str(image.ref): _place(image, why) for image, why in _found(question, inventory)}
    return tuple(sorted(found.values(), key=lambda place: (not place.running, str(place.image))))


def _found(question: Question, inventory: Inventory) -> list[tuple[KnownImage, str]]:
    name = question.name
    match question.kind:
        case Sought.VULNERABILITY:
            return [(image, _findings(image, name)) for image in inventory.affected(name)]
        case Sought.PACKAGE:
            what = f"{name} {question.version}" if question.version else name
            return [(image, f"lists {what}") for image in inventory.carrying(name, question.version)]
        case Sought.BASE:
            bases = tuple(inventory.images(name))
            built = inventory.built_on([base.ref.digest for base in bases])
            return [*((base, "is that base") for base in bases), *((image, f"built on {name}") for image in built)]
        case Sought.DIGEST:
            own = inventory.of(name)
            built = inventory.built_on([image.ref.digest for image in own])
            return [*((image, f"built on {name}") for image in built), *((image, "is that image") for image in own)]


def _findings(image: KnownImage, name: str) -> str:
    wanted = name.upper()
    found = image.scan.findings if image.scan else ()
    return "; ".join(
        str(each) for each in found if wanted in (each.id.upper(), *(alias.upper() for alias in each.aliases))
    )


def _place(image: KnownImage, why: str) -> Place:
    return Place(image=image.ref, owner=image.owner, tags=image.stored.tags, why=why, running=image.running)
