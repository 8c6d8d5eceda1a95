"""Task `scan`: attach the SBOM and the findings of the stored image as evidence."""

from __future__ import annotations

from blocks.curation_ports import CurationPorts
from orchestration.clock import read_clock
from orchestration.events import emit
from orchestration.steps import step
from supply_chain.curation.scan import scan
from supply_chain.model.declaration import Base, Service
from supply_chain.model.image import EncryptedImage, ScannedImage
from supply_chain.vulnerability.findings import Report


@step("scan", tags=["scanner"])
def scan_step(
    image: EncryptedImage, declaration: Service | Base, ports: CurationPorts, force: bool
) -> tuple[ScannedImage, Report]:
    """Scan the image by digest from the registry, and attach SBOM and report to it."""
    scanner, days = ports.workbench.scanner(), declaration.limits.scan_days
    scanned, report = scan(
        image, ports.sbom_generator, scanner, ports.registry, ports.evidence, read_clock, days=days, force=force
    )
    if scanned.proven:
        return scanned, report
    emit(
        "image.scanned",
        image.stored.ref,
        image.stored.source,
        counts=report.counts(),
        database=report.database.model_dump(mode="json"),
        scanner=f"{report.scanner} {report.scanner_version}",
    )
    return scanned, report
