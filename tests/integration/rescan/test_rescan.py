"""The rescan from outside: what it signs of each image is what grype alone finds, and nothing is done twice."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from bench.fleet import Fleet
from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.database import open_inventory
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.vulndb import ensure_database, pinned, read_database
from supply_chain.adapters.vulndb.building import _activate, _stage
from supply_chain.adapters.vulndb.current import MODEL, Record
from supply_chain.adapters.vulndb.current import digest_of as database_digest
from supply_chain.errors import DatabaseUnusable
from supply_chain.evidence.sbom import last_listed
from supply_chain.evidence.statement import SBOM, VULNERABILITIES
from supply_chain.fleet.exposure import Judged, Unjudged
from supply_chain.fleet.known import KnownImage
from supply_chain.fleet.reconcile import everything
from supply_chain.model.image import digest_of
from supply_chain.model.tier import TierName
from supply_chain.vulnerability.findings import Report
from supply_chain.vulnerability.reports import last_report
from tests.integration.rescan.conftest import Rescans

pytestmark = pytest.mark.real

Found = set[tuple[str, str, str, str]]


def alone(grype: Tool, environment: dict[str, str], sbom: bytes, work: Path) -> Found:
    """What plain grype finds in an SBOM."""
    file = work / "alone.json"
    file.write_bytes(sbom)
    done = subprocess.run(
        [grype.path, f"sbom:{file}", "--output", "json"], env=environment, capture_output=True, check=True, cwd=work
    )
    return {
        (m["vulnerability"]["id"], m["artifact"]["name"], m["artifact"]["version"], m["artifact"]["type"])
        for m in json.loads(done.stdout)["matches"]
    }


def signed(fleet: Fleet, image: KnownImage) -> list[Report]:
    """Every report that curation signed about an image, the oldest first."""
    found = fleet.store(TierName.EXECUTION).verified(image.ref, TierName.CURATION, VULNERABILITIES)
    return [Report.model_validate(each.predicate["cscm"]) for each in found]


def findings(report: Report) -> Found:
    return {(f.id, f.package, f.version, f.type) for f in report.findings}


def test_every_image_has_what_grype_alone_finds(
    rescans: Rescans, sboms: list[bytes], grype: Tool, plain: dict[str, str], tmp_path: Path
) -> None:
    """Also where two images share an SBOM, whose scan they share; and a second run does nothing at all."""
    images = [*rescans.fleet.add("one", [*sboms, sboms[0]]), *rescans.fleet.add("two", sboms[:2])]
    of = dict(zip((each.ref for each in images), [*sboms, sboms[0], *sboms[:2]], strict=True))

    seen = rescans.run(images)

    assert {each.ref for each in seen} == set(of) and all(isinstance(each, Judged) for each in seen)
    expected = {digest_of(sbom): alone(grype, plain, sbom, tmp_path) for sbom in sboms}
    assert sum(map(len, expected.values())) > len(sboms), "there is something to find"
    for image in images:
        (report,) = signed(rescans.fleet, image)
        assert findings(report) == expected[digest_of(of[image.ref])], image.ref
        assert report.sbom == digest_of(of[image.ref])
    assert Counter(rescans.counted.ran).most_common(1)[0][1] == 1 and len(rescans.counted.ran) == len(sboms)

    again = rescans.run(images)

    assert len(rescans.counted.ran) == len(sboms)
    assert not any(each.signed or each.change for each in _seen(again))
    assert all(len(signed(rescans.fleet, image)) == 1 for image in images)


def _seen(found: Iterable[Judged | Unjudged]) -> list[Judged]:
    return [each for each in found if isinstance(each, Judged)]


def test_a_killed_run_is_gone_on_with(rescans: Rescans, sboms: list[bytes]) -> None:
    """SIGKILL in the middle: nothing that was done is done again, and nothing is missed."""
    images = rescans.fleet.add("one", sboms)

    rescans.killed(images, after=4)
    before = list(rescans.counted.ran)
    seen = rescans.run(images)

    assert len(before) == 4
    assert Counter(rescans.counted.ran) == Counter(digest_of(each).removeprefix("sha256:") for each in sboms)
    assert {each.ref for each in seen} == {each.ref for each in images}
    assert all(len(signed(rescans.fleet, image)) == 1 for image in images)


def replaced(grype: Tool, directory: Path) -> None:
    """Another database takes the place of the one in use, as an update does it."""
    before = read_database(directory).digest
    with _stage(directory) as stage:
        other = directory.with_name("other")
        ensure_database(grype, other, starter_only=True)
        (other / MODEL).resolve().rename(stage / MODEL)
        imported = stage / MODEL / "import.json"
        imported.write_text(imported.read_text().replace(before, "xxh64:0000000000000000"))
        record = Record(kind="starter", digest=database_digest(stage), grype=grype.version)
        _activate(directory, stage, record)
    assert read_database(directory).digest != before


def test_a_run_ends_with_the_database_that_it_began_with(
    grype: Tool, database: Path, fleet: Fleet, sboms: list[bytes], tmp_path: Path
) -> None:
    """It is replaced in the middle, twice, so that the first one is removed: nobody sees a mixture."""
    from orchestration.clock import now  # noqa: PLC0415 - Prefect, which nothing else here needs
    from supply_chain.adapters.tools.grype import Grype  # noqa: PLC0415
    from supply_chain.fleet.rescan import rescan  # noqa: PLC0415

    images, began = fleet.add("one", sboms[:6]), read_database(database).digest
    with pinned(grype, database) as held:
        scanner = Grype(grype, held.environment, held.database, held.knows, now, quiet=True)
        bench = fleet.bench(scanner, tmp_path / "results")
        list(rescan(images[:3], bench))
        replaced(grype, database)
        ensure_database(grype, database, starter_only=True)
        list(rescan(images[3:], bench))

    assert {report.database.digest for image in images for report in signed(fleet, image)} == {began}
    assert not list(database.glob("cscm-scratch-*")), "and the private copy is gone"


def test_a_database_that_is_written_into_stops_the_run(grype: Tool, database: Path) -> None:
    """A hard link is the same file: whoever writes into it instead of replacing it is noticed."""
    with pinned(grype, database) as held:
        file = database / MODEL / "vulnerability.db"
        file.chmod(0o600)
        with file.open("r+b") as opened:
            opened.seek(5000)
            opened.write(b"rubbish")

        with pytest.raises(DatabaseUnusable, match="changed while"):
            held.database()
    with pytest.raises(DatabaseUnusable), pinned(grype, database):
        pass  # what is damaged is not even begun with


def test_an_unreadable_sbom_is_named_and_the_others_are_judged(rescans: Rescans, sboms: list[bytes]) -> None:
    """Its signed reference leads to something else; its neighbours have their reports."""
    images = rescans.fleet.add("one", sboms[:3])
    curation = rescans.fleet.store(TierName.CURATION)
    listed = last_listed(curation.verified(images[1].ref, TierName.CURATION, SBOM))
    assert listed is not None
    predicate = json.loads(json.dumps(listed.evidence.predicate))
    predicate["references"][0]["digest"]["sha256"] = "0" * 64
    predicate["created"] = rescans.fleet.now().isoformat()
    curation.attach(images[1].ref, SBOM, predicate, rescans.fleet.now())

    seen = rescans.run(images)

    (named,) = [each for each in seen if isinstance(each, Unjudged)]
    assert (named.ref, named.code) == (images[1].ref, "evidence.invalid")
    assert {each.ref for each in _seen(seen)} == {images[0].ref, images[2].ref}
    assert last_report(curation.verified(images[0].ref, TierName.CURATION, VULNERABILITIES)) is not None


def test_every_curated_image_is_found_and_nothing_else(fleet: Fleet, sboms: list[bytes], tmp_path: Path) -> None:
    """As the registry lists them, for the inventory knows nothing yet; what is attached is none, nor a copy."""
    images = [*fleet.add("one", sboms[:2]), *fleet.add("two", sboms[:1])]
    fleet.ecr.put_image(
        repositoryName="curated/one",
        imageManifest=json.dumps({"schemaVersion": 2, "layers": [], "config": {}}),
        imageTag="0000000-0123456789ab-encrypted",
    )

    found = list(everything(Ecr(fleet.ecr, fleet.host), open_inventory(f"sqlite:///{tmp_path}/inventory.db")))

    assert {each.ref for each in found} == {each.ref for each in images}
    assert not any(each.running for each in found)
