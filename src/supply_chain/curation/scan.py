"""scan: an SBOM of the stored image, and what is known of everything in it."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from supply_chain.evidence.statement import SBOM, VULNERABILITIES
from supply_chain.evidence.store import EvidenceStore
from supply_chain.image import Digest, EncryptedImage, ImageRef, ScannedImage
from supply_chain.vulnerability.findings import Report
from supply_chain.vulnerability.scanner import Inventory, Sboms, Scanner

FORMATS = {
    "syft": "application/vnd.syft+json",
    "cyclonedx": "application/vnd.cyclonedx+json",
    "spdx": "application/spdx+json",
}
"""Format → artifact type of its referrer. syft's is the SBOM of record."""


class Attacher(Protocol):
    """Attaches plain content as a referrer."""

    def attach(
        self,
        subject: ImageRef,
        artifact_type: str,
        content: bytes,
        annotations: Mapping[str, str],
        media_type: str | None = None,
    ) -> Digest: ...


def scan(
    image: EncryptedImage,
    inventory: Inventory,
    scanner: Scanner,
    registry: Attacher,
    evidence: EvidenceStore,
    now: Callable[[], datetime],
) -> tuple[ScannedImage, Report]:
    """Make the SBOM from the registry by digest, match it, and leave both as evidence."""
    ref = image.stored.ref
    sboms = inventory.of_image(ref)
    report = scanner.scan(sboms)
    attached = {name: _attach(ref, name, content, registry) for name, content in _contents(sboms).items()}
    evidence.attach_all(
        ref,
        [(SBOM, _reference(sboms, attached, now())), (VULNERABILITIES, report.predicate())],
        now(),
    )
    digest = f"sha256:{hashlib.sha256(sboms.syft).hexdigest()}"
    return ScannedImage(encrypted=image, sbom=attached["syft"], report=report.sbom or digest), report


def _contents(sboms: Sboms) -> dict[str, bytes]:
    return {"syft": sboms.syft, "cyclonedx": sboms.cyclonedx, "spdx": sboms.spdx}


def _attach(ref: ImageRef, name: str, content: bytes, registry: Attacher) -> Digest:
    return registry.attach(
        ref, FORMATS[name], gzip.compress(content, mtime=0), {"org.opencontainers.image.title": f"{name}.json.gz"},
        media_type=f"{FORMATS[name]}+gzip",
    )  # fmt: skip


def _reference(sboms: Sboms, attached: Mapping[str, Digest], now: datetime) -> dict[str, object]:
    """in-toto's reference predicate v0.1: the SBOMs by media type and by digest of content and referrer."""
    return {
        "attester": {"id": "urn:cscm:tier:curation"},
        "references": [
            {
                "name": name,
                "mediaType": FORMATS[name],
                "digest": {"sha256": hashlib.sha256(content).hexdigest()},
                "annotations": {"referrer": attached[name], "generator": sboms.tool, "packages": sboms.packages},
            }
            for name, content in _contents(sboms).items()
        ],
        "created": now.isoformat(),
    }
