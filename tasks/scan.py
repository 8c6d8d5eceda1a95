"""Task `scan`: attach the SBOM and the findings of the stored image as evidence."""

from __future__ import annotations

from prefect import task

from blocks import Tier, Workbench
from orchestration.clock import now
from orchestration.events import emit
from orchestration.steps import RETRYING, in_thread
from supply_chain.curation.scan import scan as scan_image
from supply_chain.model.image import EncryptedImage, ScannedImage
from supply_chain.model.manifest import Base, Service
from supply_chain.vulnerability.findings import Report


@task(name="scan", task_run_name="scan", tags=["scanner"], **RETRYING)
async def scan(
    image: EncryptedImage, manifest: Service | Base, tier: Tier, workbench: Workbench, force: bool
) -> tuple[ScannedImage, Report]:
    """Scan the image by digest from the registry, and attach SBOM and report to it."""
    scanned, report = await in_thread(
        lambda: scan_image(
            image,
            tier.syft(workbench),
            workbench.grype(),
            tier.http,
            tier.evidence(workbench),
            now,
            days=manifest.limits.scan_days,
            force=force,
        )
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
