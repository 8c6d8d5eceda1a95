"""The step that makes the SBOM of a stored image and scans it for known vulnerabilities."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

from supply_chain.concurrency import map_concurrently, run_both
from supply_chain.evidence.examination import Examination
from supply_chain.evidence.reading import make_proof
from supply_chain.evidence.sbom import Reference, References, Referred, find_last_sbom
from supply_chain.evidence.statement import SBOM, VULNERABILITIES
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.image import Digest, EncryptedImage, ImageRef, ScannedImage
from supply_chain.model.registry_ports import Attacher
from supply_chain.model.tier import TierName
from supply_chain.vulnerability.findings import Report
from supply_chain.vulnerability.reports import find_current_report, require_no_better
from supply_chain.vulnerability.scanner import Sbom, SbomGenerator, Sboms, Scanner

FORMATS = {
    "syft": "application/vnd.syft+json",
    "cyclonedx": "application/vnd.cyclonedx+json",
    "spdx": "application/spdx+json",
}
"""Format → artifact type of its referrer. The SBOM of record is syft's."""
LEVEL = 6
"""The default of zlib. The highest level takes three times as long and saves 5 % of the size."""


def scan(
    image: EncryptedImage,
    generator: SbomGenerator,
    scanner: Scanner,
    registry: Attacher,
    evidence: EvidenceStore,
    now: Callable[[], datetime],
    *,
    days: int,
    force: bool = False,
) -> tuple[ScannedImage, Report]:
    """Make the SBOM from the registry by digest, scan it, and attach both as evidence.

    An SBOM of the same generator is used again. A report of the same scanner and database on the same SBOM is valid for
    `days`. If `force` is true, both are made again. Raises `DatabaseOutdated` if an earlier report was made with a
    database that knows more than the scanner's.
    """
    ref = image.stored.ref
    attested = evidence.read_verified(ref, TierName.CURATION, SBOM, VULNERABILITIES)
    listed = None if force else find_last_sbom(attested)
    before = listed.read(evidence.referrers.content) if listed and listed.examination else None
    if before is None or before.generator != generator.generator:
        require_no_better(attested, scanner)
        return _make_scan(image, generator, scanner, registry, evidence, now)
    sbom = Sbom(before.content, len(before.packages), before.generator)
    current = find_current_report(attested, scanner, now(), days=days, sbom=sbom.digest)
    if current:
        proven = make_proof([before.evidence, current.evidence])
        reported = current.evidence.digest
        return ScannedImage(encrypted=image, sbom=before.referrer, report=reported, proven=proven), current.value
    report = scanner.scan(sbom)
    attached = evidence.attach(ref, VULNERABILITIES, report.predicate(), now())
    return ScannedImage(encrypted=image, sbom=before.referrer, report=attached), report


def _make_scan(
    image: EncryptedImage,
    generator: SbomGenerator,
    scanner: Scanner,
    registry: Attacher,
    evidence: EvidenceStore,
    now: Callable[[], datetime],
) -> tuple[ScannedImage, Report]:
    """Make the SBOM and the report.

    What the image contains is true whatever a scan finds, so the SBOM is signed in parallel and stays if the scan
    fails.
    """
    ref = image.stored.ref
    made, examination = generator.make_image_sbom(ref)

    def attach() -> Digest:
        return _attach_sboms(generator.convert(made), examination, ref, registry, evidence, now)

    report, sbom = run_both(partial(scanner.scan, made), attach)
    reported = evidence.attach(ref, VULNERABILITIES, report.predicate(), now())
    return ScannedImage(encrypted=image, sbom=sbom, report=reported), report


def make_sboms(
    ref: ImageRef,
    generator: SbomGenerator,
    registry: Attacher,
    evidence: EvidenceStore,
    now: Callable[[], datetime],
) -> None:
    """Make the SBOMs of an image, attach them, and sign their references and an examination of the image."""
    sbom, examination = generator.make_image_sbom(ref)
    _attach_sboms(generator.convert(sbom), examination, ref, registry, evidence, now)


def _attach_sboms(
    sboms: Sboms,
    examination: Examination,
    ref: ImageRef,
    registry: Attacher,
    evidence: EvidenceStore,
    now: Callable[[], datetime],
) -> Digest:
    """Attach the SBOMs, and sign their references and the examination.

    Returns the digest of the referrer of the SBOM of record.
    """
    zipped = _compress(sboms)
    referrers = map_concurrently(lambda name: _attach(ref, name, zipped[name], registry), tuple(zipped))
    attached = dict(zip(zipped, referrers, strict=True))
    evidence.attach(ref, SBOM, _references(sboms, attached, examination, now()).predicate(), now())
    return attached["syft"]


def _contents(sboms: Sboms) -> dict[str, bytes]:
    return {"syft": sboms.record.content, "cyclonedx": sboms.cyclonedx, "spdx": sboms.spdx}


def _compress(sboms: Sboms) -> dict[str, bytes]:
    return {name: gzip.compress(content, LEVEL, mtime=0) for name, content in _contents(sboms).items()}


def _attach(ref: ImageRef, name: str, zipped: bytes, registry: Attacher) -> Digest:
    return registry.attach(
        ref, FORMATS[name], zipped, {"org.opencontainers.image.title": f"{name}.json.gz"},
        media_type=f"{FORMATS[name]}+gzip",
    )  # fmt: skip


def _references(sboms: Sboms, attached: Mapping[str, Digest], examination: Examination, now: datetime) -> References:
    """Return references to the SBOMs, with media type and the digests of content and referrer."""
    record = sboms.record
    return References(
        references=tuple(
            Reference(
                name=name,
                media_type=FORMATS[name],
                digest={"sha256": hashlib.sha256(content).hexdigest()},
                annotations=Referred(referrer=attached[name], generator=record.tool, packages=record.packages),
            )
            for name, content in _contents(sboms).items()
        ),
        examination=examination,
        created=now,
    )
