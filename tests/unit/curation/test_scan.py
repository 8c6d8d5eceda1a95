"""scan: the SBOM and the vulnerability report of an image, attached and signed."""

import dataclasses
import gzip
import threading
from datetime import timedelta

import pytest

from supply_chain.curation.scan import FORMATS, scan
from supply_chain.errors import DatabaseOutdated, ScannerFailed
from supply_chain.evidence.examination import Examination
from supply_chain.evidence.sbom import find_last_sbom
from supply_chain.evidence.statement import SBOM, VULNERABILITIES
from supply_chain.model.image import EncryptedImage, ImageRef, StoredImage
from supply_chain.model.tier import TierName
from supply_chain.vulnerability.findings import Database, Report
from supply_chain.vulnerability.reports import find_last_report
from supply_chain.vulnerability.scanner import Sbom
from tests.support.memory_generator import CYCLONEDX, SPDX, MemoryGenerator
from tests.support.present import present

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
CONTENT = b'{"artifacts": [{"type": "deb", "name": "openssl"}]}'
INVENTORY = Sbom(CONTENT, 1, "syft 1.2.3")
EXAMINED = Examination(conflicts=("a place",))


class Tools(MemoryGenerator):
    """A generator and a scanner that record their calls."""

    def __init__(self, report, examination, generator="syft 1.2.3", current=None):
        super().__init__(dataclasses.replace(INVENTORY, tool=generator), examination)
        self.report, self.scanned = report, []
        self._current = current or (report.scanner_version, report.database) if isinstance(report, Report) else None

    configuration = ""

    def identify(self):
        return self._current

    def scan(self, sbom):
        self.scanned.append(sbom)
        if isinstance(self.report, Exception):
            raise self.report
        return self.report


def encrypted(make):
    stored = StoredImage(ref=REF, tag="t", source=make.source(), blobs=1, size=1)
    return EncryptedImage(stored=stored, key="arn:key")


@pytest.fixture
def scanned(world, make):
    image = encrypted(make)

    def run(report, now=make.noon, force=False, examination=EXAMINED, **settings):
        tools, curation = Tools(report, examination, **settings), world.store(TierName.CURATION)
        made = scan(image, tools, tools, world.registry, curation, lambda: now, days=7, force=force)
        return made, tools

    return run


def test_image_is_scanned_by_digest_from_registry(scanned, make):
    """The result names SBOM and report."""
    report = make.report(make.finding(), sbom=make.digest_of(CONTENT))

    (image, found), tools = scanned(report)

    assert tools.asked == [REF]
    assert found == report
    assert image.encrypted.stored.ref == REF
    assert tools.scanned == [INVENTORY]


def test_sbom_is_attached_in_three_formats(scanned, world, make):
    """The files are compressed and reproducible."""
    (image, _), _ = scanned(make.report())
    (again, _), _ = scanned(make.report(), force=True)

    digests = {each.artifact_type: each.digest for each in world.registry.referrers(REF)}
    contents = {kind: world.registry.content(REF.with_digest(digests[kind])) for kind in FORMATS.values()}
    assert {kind: gzip.decompress(content) for kind, content in contents.items()} == {
        FORMATS["syft"]: CONTENT,
        FORMATS["cyclonedx"]: CYCLONEDX,
        FORMATS["spdx"]: SPDX,
    }
    assert image.sbom == again.sbom
    assert digests[FORMATS["syft"]] == image.sbom


def test_signed_statements_refer_to_sbom_and_findings(scanned, world, make):
    """They name the digests of content and referrer; the gate reads the report from its statement."""
    report = make.report(make.finding("critical"))
    (image, _), _ = scanned(report)

    found = {e.predicate_type: e for e in world.store(TierName.EXECUTION).read_verified(REF, TierName.CURATION)}
    assert set(found) == {SBOM, VULNERABILITIES}
    assert present(find_last_report(found.values())).value == report
    syft, *others = found[SBOM].predicate["references"]
    assert (syft["name"], syft["annotations"]["referrer"]) == ("syft", image.sbom)
    assert f"sha256:{syft['digest']['sha256']}" == make.digest_of(CONTENT)
    assert syft["annotations"]["packages"] == 1 and len(others) == 2
    assert image.report == found[VULNERABILITIES].digest


def test_sbom_is_converted_during_scan(world, threads, make):
    """Both wait for each other."""
    together = threading.Barrier(2, timeout=60)

    class Patient(Tools):
        def convert(self, sbom):
            together.wait()
            return super().convert(sbom)

        def scan(self, sbom):
            together.wait()
            return super().scan(sbom)

    tools = Patient(make.report(), EXAMINED)
    scan(encrypted(make), tools, tools, world.registry, world.store(TierName.CURATION), lambda: make.noon, days=7)

    assert len(tools.scanned) == 1


def test_failed_conversion_leaves_no_sbom(world, make):
    """Other tools would miss a format."""

    class Broken(Tools):
        def convert(self, sbom):
            raise ScannerFailed("it broke\nmend it")

    tools = Broken(make.report(), EXAMINED)
    store = world.store(TierName.CURATION)
    with pytest.raises(ScannerFailed):
        scan(encrypted(make), tools, tools, world.registry, store, lambda: make.noon, days=7)

    assert store.read_verified(REF, TierName.CURATION) == ()


def test_failed_scan_leaves_nothing(scanned, world):
    """There is no SBOM without findings, and nothing is signed."""
    with pytest.raises(ScannerFailed):
        scanned(ScannerFailed("it broke\nmend it"))
    assert world.registry.refs() == ()


@pytest.mark.parametrize("force", [False, True])
def test_older_database_does_not_replace_report_of_newer_one(scanned, world, make, force):
    """The better report is used while it is valid."""
    good = make.report(make.finding("critical"), sbom=make.digest_of(CONTENT))
    scanned(good)
    before = world.registry.refs()
    behind = make.report(database=good.database.model_copy(update={"built": make.noon - timedelta(days=9)}))

    later = make.noon + timedelta(days=0 if force else 8)
    with pytest.raises(DatabaseOutdated):
        scanned(behind, now=later, force=force)
    (_, found), tools = scanned(behind)

    assert found == good and not tools.scanned
    assert world.registry.refs() == before


def reports(world):
    found = world.store(TierName.EXECUTION).read_verified(REF, TierName.CURATION)
    return [e for e in found if e.predicate_type == VULNERABILITIES], [e for e in found if e.predicate_type == SBOM]


def test_same_scan_is_not_repeated(scanned, make, world):
    """SBOM and findings are read from the registry, and the result refers to their proof."""
    report = make.report(make.finding(), sbom=make.digest_of(CONTENT))
    (first, _), _ = scanned(report)
    (again, found), tools = scanned(report, now=make.noon + timedelta(days=6))

    assert (tools.asked, tools.scanned) == ([], [])
    assert found == report and first.proven is None
    ((reported,), (inventory,)) = reports(world)
    assert again.proven.evidence == (inventory.digest, reported.digest)
    assert (again.sbom, again.report) == (first.sbom, first.report)


@pytest.mark.parametrize(
    ("version", "database", "days"),
    [("0.115.0", "xxh64:1", 0), ("0.116.0", "xxh64:0", 0), ("0.115.0", "xxh64:0", 8)],
    ids=["another database", "another scanner", "too old"],
)
def test_changed_scanner_or_database_rescans_existing_sbom(scanned, make, world, version, database, days):
    """The image and its contents are the same."""
    scanned(make.report(sbom=make.digest_of(CONTENT)))
    official = Database(kind="official", built=make.noon - timedelta(days=1), digest=database)
    newer = make.report(make.finding(), sbom=make.digest_of(CONTENT), database=official, scanner_version=version)
    (image, found), tools = scanned(newer, now=make.noon + timedelta(days=days))

    assert tools.asked == [] and tools.scanned == [INVENTORY]
    assert found == newer and image.proven is None
    assert [len(each) for each in reports(world)] == [2, 1]


def test_report_with_future_time_is_repeated(scanned, make):
    """A wrong clock must not extend the validity of a scan."""
    scanned(make.report(sbom=make.digest_of(CONTENT), at=make.noon + timedelta(hours=1)))
    (image, _), tools = scanned(make.report(sbom=make.digest_of(CONTENT)))

    assert image.proven is None and len(tools.scanned) == 1


def test_other_generator_creates_new_sbom(scanned, make, world):
    """It may find more packages."""
    scanned(make.report(sbom=make.digest_of(CONTENT)))
    (image, _), tools = scanned(make.report(make.finding(), sbom=make.digest_of(CONTENT)), generator="syft 1.3.0")

    assert tools.asked == [REF] and image.proven is None
    assert [len(each) for each in reports(world)] == [2, 2]


def test_report_about_other_sbom_is_no_proof(scanned, make):
    """This holds even for the same image."""
    scanned(make.report(sbom=make.other))
    (image, _), tools = scanned(make.report(sbom=make.digest_of(CONTENT)))

    assert image.proven is None and tools.scanned == [INVENTORY]


def test_report_signed_by_other_tier_is_no_proof(scanned, make, world):
    """A scan by development does not replace the scan by curation."""
    development = world.store(TierName.DEVELOPMENT)
    development.attach(REF, VULNERABILITIES, make.report(sbom=make.digest_of(CONTENT)).predicate(), make.noon)
    (image, _), tools = scanned(make.report(sbom=make.digest_of(CONTENT)))

    assert image.proven is None and tools.asked == [REF]


@pytest.mark.parametrize("examination", [None, Examination(version="0")])
def test_image_without_current_examination_gets_new_sbom(scanned, world, make, examination):
    """The new SBOM is signed together with the examination."""
    scanned(make.report(sbom=make.digest_of(CONTENT)), examination=examination)

    _, tools = scanned(make.report(sbom=make.digest_of(CONTENT)), now=make.noon + timedelta(seconds=1))

    assert tools.asked == [REF]
    evidence = world.store(TierName.EXECUTION).read_verified(REF, TierName.CURATION, SBOM)
    assert present(find_last_sbom(evidence)).examination == EXAMINED
