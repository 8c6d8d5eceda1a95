"""scan: the inventory and what is known of it, both beside the image and both signed."""

import gzip

import pytest

from supply_chain.curation.scan import FORMATS, scan
from supply_chain.errors import ScannerFailed
from supply_chain.evidence.statement import SBOM, VULNERABILITIES
from supply_chain.image import EncryptedImage, ImageRef, StoredImage
from supply_chain.policy.dossier import newest_report
from supply_chain.tier import TierName
from supply_chain.vulnerability.scanner import Sboms

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
SBOMS = Sboms(b'{"artifacts": []}', b"cyclonedx", b"spdx", 7, "syft 1.2.3")


class Tools:
    def __init__(self, report):
        self.report, self.asked = report, []

    def of_image(self, ref):
        self.asked.append(ref)
        return SBOMS

    def scan(self, sboms):
        assert sboms is SBOMS
        if isinstance(self.report, Exception):
            raise self.report
        return self.report


@pytest.fixture
def scanned(world, make):
    image = EncryptedImage(stored=StoredImage(ref=REF, tag="t", source=make.source(), blobs=1, size=1), key="arn:key")

    def run(report):
        tools = Tools(report)
        curation = world.store(TierName.CURATION)
        return scan(image, tools, tools, world.registry, curation, lambda: make.noon), tools

    return run


def test_the_image_is_scanned_by_digest(scanned, make):
    """From the registry, as it is stored; the state names inventory and report."""
    report = make.report(make.finding(), sbom=make.digest_of(SBOMS.syft))

    (image, found), tools = scanned(report)

    assert tools.asked == [REF]
    assert found == report
    assert image.encrypted.stored.ref == REF
    assert image.report == make.digest_of(SBOMS.syft)


def test_the_inventory_lies_beside_the_image_in_three_formats(scanned, world, make):
    """Compressed, and the same bytes every time."""
    (image, _), _ = scanned(make.report())
    (again, _), _ = scanned(make.report())

    held = {kind: content for _, kind, content, _ in world.registry.held["curated/hello"].values()}
    assert {kind: gzip.decompress(held[kind]) for kind in FORMATS.values()} == {
        FORMATS["syft"]: SBOMS.syft,
        FORMATS["cyclonedx"]: b"cyclonedx",
        FORMATS["spdx"]: b"spdx",
    }
    assert image.sbom == again.sbom
    assert world.registry.held["curated/hello"][image.sbom][1] == FORMATS["syft"]


def test_the_signed_statements_lead_to_inventory_and_findings(scanned, world, make):
    """By digest of content and of referrer; the gate reads the report from its statement."""
    report = make.report(make.finding("critical"))
    (image, _), _ = scanned(report)

    found = {e.predicate_type: e for e in world.store(TierName.EXECUTION).verified(REF, TierName.CURATION)}
    assert set(found) == {SBOM, VULNERABILITIES}
    assert newest_report(tuple(found.values())) == report
    syft, *others = found[SBOM].predicate["references"]
    assert (syft["name"], syft["annotations"]["referrer"]) == ("syft", image.sbom)
    assert f"sha256:{syft['digest']['sha256']}" == make.digest_of(SBOMS.syft)
    assert syft["annotations"]["packages"] == 7 and len(others) == 2


def test_a_scan_that_fails_leaves_nothing(scanned, world):
    """No inventory without findings, and nothing signed."""
    with pytest.raises(ScannerFailed):
        scanned(ScannerFailed("it broke\nmend it"))
    assert world.registry.held == {}
