"""The history of an image: what happened to it, when, and by which evidence."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from supply_chain.errors import DeclarationInvalid, ImageNotFound
from supply_chain.evidence.statement import (
    APPROVAL,
    BREAK_GLASS,
    DEPLOYMENT,
    ENCRYPTION,
    ISOLATION,
    LIFECYCLE,
    PROVENANCE,
    SBOM,
    SIGNATURE,
    SOAK,
    SUMMARY,
    TEST_RESULT,
    VULNERABILITIES,
)
from supply_chain.evidence.store import BEFORE_ALL
from supply_chain.fleet.image import FleetImage, Judgement, Note
from supply_chain.fleet.inventory import Inventory
from supply_chain.model.image import HEXADECIMAL, Digest, ImageRef, Model, parse_application_name
from supply_chain.model.tier import TierName, name_curated_repository

SAYS = {
    PROVENANCE: "built",
    TEST_RESULT: "checked",
    ENCRYPTION: "encryption attested",
    SBOM: "SBOM made",
    SIGNATURE: "signed",
    SOAK: "a soak",
    APPROVAL: "an approval",
    BREAK_GLASS: "a break-glass",
    ISOLATION: "an isolation",
    LIFECYCLE: "a lifecycle decision",
}
"""Predicate type → a short text for the timeline. A statement of another type is shown by its type."""


class Moment(Model):
    """An event in the history of an image."""

    at: datetime | None = Field(description="None if its source gives no time")
    text: str
    by: str = Field(default="", description="the tier that signed it; empty: the registry")
    evidence: str = Field(default="", description="repository@digest of the referrer")


class Base(Model):
    """A base image that went into the build of this image."""

    name: str
    digest: Digest
    is_curated: bool = Field(description="whether it is still a curated image")
    released: bool = Field(default=False, description="whether it is released")


class Explanation(Model):
    """An image, its history, its bases, and the images built on it."""

    image: FleetImage
    timeline: tuple[Moment, ...]
    built_from: tuple[Base, ...]
    built_on_it: tuple[ImageRef, ...]


def explain(digest: str, inventory: Inventory) -> tuple[Explanation, ...]:
    """Return an explanation of each image whose digest is, or begins with, the given one.

    Raises `DeclarationInvalid` if the text is not a digest or fewer than 12 digits of one, and `ImageNotFound` if the
    inventory has no such image.
    """
    repository, _, begins = digest.strip().rpartition("@")
    if not HEXADECIMAL.fullmatch(begins):
        raise DeclarationInvalid(f"{digest!r} is not a digest.\nName the image by its digest, by 12 digits or more.")
    images = inventory.find_by_digest(begins)
    having = {image.ref.repository for image in images}
    if repository and having and name_curated_repository(parse_application_name(repository)) not in having:
        raise ImageNotFound(
            f"The inventory has no {repository}@{begins}. {', '.join(sorted(having))} has it.\n"
            "Name that image, or only the digest."
        )
    if not images:
        raise ImageNotFound(
            f"The inventory has no curated image {digest}.\n"
            "Look for it with `cscm images`; `cscm inventory` reads the registry again. What the intake gate refused "
            "was never curated: its run report is in the UI, and its verdict in evidence/curation."
        )
    return tuple(
        Explanation(
            image=image,
            timeline=make_timeline(image),
            built_from=tuple(_read_base(each.name, each.digest, inventory) for each in image.bases),
            built_on_it=tuple(each.ref for each in inventory.find_built_on([image.ref.digest])),
        )
        for image in images
    )


def make_timeline(image: FleetImage) -> tuple[Moment, ...]:
    """Return the events in the history of an image, oldest first; events without a time come before all others."""
    stored, moments = image.stored, []
    if not image.missing:
        names = ", ".join(stored.tags) or "—"
        moments.append(Moment(at=stored.pushed_at, text=f"pushed to {image.ref.repository} as {names}"))
    if stored.pulled_at:
        moments.append(Moment(at=stored.pulled_at, text="last pull that ECR recorded"))
    moments += [
        Moment(at=note.at, text=_describe(note, image), by=note.signer, evidence=f"{note.repository}@{note.digest}")
        for note in image.notes
    ]
    return tuple(sorted(moments, key=lambda each: each.at or BEFORE_ALL))


def _describe(note: Note, image: FleetImage) -> str:
    if note.message:
        return note.message
    if note.predicate_type == SUMMARY:
        return next((_describe_verdict(each) for each in image.judgements if each.evidence == note.digest), "a verdict")
    if note.predicate_type == DEPLOYMENT:
        places = [each for each in (*image.deployed, *image.running) if each.since == note.at]
        return f"deployed to {places[0].environment} as {places[0].name}" if places else "deployed"
    if note.predicate_type == VULNERABILITIES:
        return "its source's dependencies scanned" if note.signer is TierName.DEVELOPMENT else "scanned"
    return SAYS.get(note.predicate_type, note.predicate_type)


def _describe_verdict(judgement: Judgement) -> str:
    codes = ", ".join(dict.fromkeys(reason.code for reason in judgement.reasons))
    return (
        f"admitted at the {judgement.gate_name}"
        if judgement.passed
        else f"refused at the {judgement.gate_name}: {codes}"
    )


def _read_base(name: str, digest: Digest, inventory: Inventory) -> Base:
    images = [each for each in inventory.find_by_digest(digest) if not each.missing]
    return Base(
        name=name,
        digest=digest,
        is_curated=bool(images),
        released=any(each.released and not each.blocked for each in images),
    )
