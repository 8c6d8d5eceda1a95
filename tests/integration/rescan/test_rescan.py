"""The rescan as a process: its signed reports equal grype's own findings, and no work is repeated."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from bench.fleet import Fleet
from cscm_laptop.vulndb import ensure_database
from cscm_laptop.vulndb.building import _activate, _stage
from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.database import open_inventory
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.vulndb import pin_database, read_database
from supply_chain.adapters.vulndb.current import MODEL, Record
from supply_chain.adapters.vulndb.current import read_digest as database_digest
from supply_chain.errors import DatabaseUnusable
from supply_chain.evidence.sbom import find_last_sbom
from supply_chain.evidence.statement import SBOM, VULNERABILITIES
from supply_chain.fleet.exposure import RescanResult, Unjudged
from supply_chain.fleet.image import FleetImage
from supply_chain.fleet.reconcile import list_all_images
from supply_chain.model.image import digest_of
from supply_chain.model.tier import TierName
from supply_chain.vulnerability.findings import Report
from supply_chain.vulnerability.reports import find_last_report
from tests.integration.rescan.rescans import Rescans

pytestmark = pytest.mark.real

Found = set[tuple[str, str, str, str]]


def alone(grype: Tool, environment: dict[str, str], sbom: bytes, work: Path) -> Found:
    """Return the findings of plain grype in an SBOM."""
    file = work / "alone.json"
    file.write_bytes(sbom)
    done = subprocess.run(
        [grype.path, f"sbom:{file}", "--output", "json"], env=environment, capture_output=True, check=True, cwd=work
    )
    return {
        (m["vulnerability"]["id"], m["artifact"]["name"], m["artifact"]["version"], m["artifact"]["type"])
        for m in json.loads(done.stdout)["matches"]
    }


def signed(fleet: Fleet, image: FleetImage) -> list[Report]:
    """Return every report that curation signed about an image, oldest first."""
    found = fleet.store(TierName.EXECUTION).read_verified(image.ref, TierName.CURATION, VULNERABILITIES)
    return [Report.model_validate(each.predicate["cscm"]) for each in found]


def findings(report: Report) -> Found:
    return {(f.id, f.package, f.version, f.type) for f in report.findings}


def test_rescan_reports_the_findings_of_plain_grype(
    rescans: Rescans, sboms: list[bytes], grype: Tool, plain: dict[str, str], tmp_path: Path
) -> None:
    """Images with the same SBOM share a scan, and a second rescan signs nothing."""
    images = [*rescans.fleet.add("one", [*sboms, sboms[0]]), *rescans.fleet.add("two", sboms[:2])]
    of = dict(zip((each.ref for each in images), [*sboms, sboms[0], *sboms[:2]], strict=True))

    results = rescans.run(images)

    assert {each.ref for each in results} == set(of) and all(isinstance(each, RescanResult) for each in results)
    expected = {digest_of(sbom): alone(grype, plain, sbom, tmp_path) for sbom in sboms}
    assert sum(map(len, expected.values())) > len(sboms), "there is something to find"
    for image in images:
        (report,) = signed(rescans.fleet, image)
        assert findings(report) == expected[digest_of(of[image.ref])], image.ref
        assert report.sbom == digest_of(of[image.ref])
    assert Counter(rescans.counted.ran).most_common(1)[0][1] == 1 and len(rescans.counted.ran) == len(sboms)

    again = rescans.run(images)

    assert len(rescans.counted.ran) == len(sboms)
    assert not any(each.signed or each.change for each in _judged(again))
    assert all(len(signed(rescans.fleet, image)) == 1 for image in images)


def _judged(found: Iterable[RescanResult | Unjudged]) -> list[RescanResult]:
    return [each for each in found if isinstance(each, RescanResult)]


def test_rescan_continues_after_sigkill(rescans: Rescans, sboms: list[bytes]) -> None:
    """Completed scans are not repeated, and no image is missed."""
    images = rescans.fleet.add("one", sboms)

    rescans.killed(images, after=4)
    before = list(rescans.counted.ran)
    results = rescans.run(images)

    assert len(before) == 4
    assert set(Counter(rescans.counted.ran).values()) == {1} and len(rescans.counted.ran) == len(sboms)
    assert {each.ref for each in results} == {each.ref for each in images}
    assert all(len(signed(rescans.fleet, image)) == 1 for image in images)


def replaced(grype: Tool, directory: Path, compiled: Path) -> None:
    """Replace the active database by another one, as an update does."""
    before = read_database(directory).digest
    with _stage(directory) as stage:
        other = directory.with_name("other")
        shutil.copytree(compiled, other, symlinks=True)
        (other / MODEL).resolve().rename(stage / MODEL)
        imported = stage / MODEL / "import.json"
        imported.write_text(imported.read_text().replace(before, "xxh64:0000000000000000"))
        record = Record(kind="starter", digest=database_digest(stage), grype=grype.version)
        _activate(directory, stage, record)
    assert read_database(directory).digest != before


def test_rescan_keeps_the_database_that_it_started_with(
    grype: Tool, database: Path, compiled: Path, fleet: Fleet, sboms: list[bytes], tmp_path: Path
) -> None:
    """The database is replaced twice during the run, and the first one is removed."""
    from orchestration.clock import read_clock  # noqa: PLC0415 - imports Prefect, which no other test here needs
    from supply_chain.adapters.tools.grype import Grype  # noqa: PLC0415
    from supply_chain.fleet.rescan import rescan  # noqa: PLC0415

    images, began = fleet.add("one", sboms[:6]), read_database(database).digest
    with pin_database(grype, database) as held:
        scanner = Grype(grype, held.environment, held.database, held.knows, read_clock, quiet=True)
        ports = fleet.rescan_ports(scanner, tmp_path / "results")
        list(rescan(images[:3], ports))
        replaced(grype, database, compiled)
        ensure_database(grype, database, starter_only=True)
        list(rescan(images[3:], ports))

    assert {report.database.digest for image in images for report in signed(fleet, image)} == {began}
    assert not list(database.glob("cscm-scratch-*")), "and the private copy is gone"


def test_write_into_the_pinned_database_stops_the_run(grype: Tool, database: Path) -> None:
    """The pinned copy is a hard link, so a write into the original changes it too."""
    with pin_database(grype, database) as held:
        file = database / MODEL / "vulnerability.db"
        file.chmod(0o600)
        with file.open("r+b") as opened:
            opened.seek(5000)
            opened.write(b"rubbish")

        with pytest.raises(DatabaseUnusable, match="changed while"):
            held.database()
    with pytest.raises(DatabaseUnusable), pin_database(grype, database):
        pass  # a damaged database cannot be pinned


def test_unreadable_sbom_is_reported_and_other_images_are_scanned(rescans: Rescans, sboms: list[bytes]) -> None:
    """Its signed reference has the wrong digest."""
    images = rescans.fleet.add("one", sboms[:3])
    curation = rescans.fleet.store(TierName.CURATION)
    listed = find_last_sbom(curation.read_verified(images[1].ref, TierName.CURATION, SBOM))
    assert listed is not None
    predicate = json.loads(json.dumps(listed.evidence.predicate))
    predicate["references"][0]["digest"]["sha256"] = "0" * 64
    predicate["created"] = rescans.fleet.now().isoformat()
    curation.attach(images[1].ref, SBOM, predicate, rescans.fleet.now())

    results = rescans.run(images)

    (named,) = [each for each in results if isinstance(each, Unjudged)]
    assert (named.ref, named.code) == (images[1].ref, "evidence.invalid")
    assert {each.ref for each in _judged(results)} == {images[0].ref, images[2].ref}
    assert find_last_report(curation.read_verified(images[0].ref, TierName.CURATION, VULNERABILITIES)) is not None


def test_rescan_lists_all_curated_images_without_referrers_and_copies(
    fleet: Fleet, sboms: list[bytes], tmp_path: Path
) -> None:
    """The registry lists them, although the inventory is empty."""
    images = [*fleet.add("one", sboms[:2]), *fleet.add("two", sboms[:1])]
    fleet.ecr.put_image(
        repositoryName="curated/one",
        imageManifest=json.dumps({"schemaVersion": 2, "layers": [], "config": {}}),
        imageTag="0000000-0123456789ab-encrypted",
    )

    found = list(list_all_images(Ecr(fleet.ecr, fleet.host), open_inventory(f"sqlite:///{tmp_path}/inventory.db")))

    assert {each.ref for each in found} == {each.ref for each in images}
    assert not any(each.running for each in found)
