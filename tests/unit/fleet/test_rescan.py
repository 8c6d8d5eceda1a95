"""The rescan: every image is judged or named, and no result that evidence or cache has is computed again."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from supply_chain.errors import (
    DatabaseUnusable,
    DeclarationInvalid,
    EvidenceInvalid,
    ImageDamaged,
    ImageNotFound,
    RegistryUnavailable,
)
from supply_chain.evidence.image_status import locate_image_status
from supply_chain.evidence.sbom import find_last_sbom
from supply_chain.evidence.statement import ENCRYPTION, LIFECYCLE, PROVENANCE, SBOM, VULNERABILITIES
from supply_chain.fleet.exposure import RescanResult, Unjudged, make_finding_key
from supply_chain.fleet.image import FleetImage, Running
from supply_chain.fleet.rescan import (
    RescanPorts,
    find_fixed,
    is_base,
    read_signed_result,
    sort_bases_first,
    split_into_chunks,
    split_package_names,
)
from supply_chain.fleet.rescan import rescan as part_by_part
from supply_chain.model.image import ImageRef, Material, StorageStatus, StoredManifest
from supply_chain.model.tier import TierName
from supply_chain.vulnerability.matching import match
from tests.support.facts import no_minimum
from tests.support.memory_generator import MemoryGenerator
from tests.support.memory_results import MemoryResults
from tests.support.memory_scanner import MemoryScanner
from tests.support.pieces import CURATION, DEV, Pieces
from tests.support.policies import RELEASE


class NoGenerator(MemoryGenerator):
    """A generator that must not run, because every image here has its SBOM."""

    def make_image_sbom(self, ref):
        raise AssertionError(ref)


def scanner_with(world, report):
    """Return a scanner that reports the same of every image, at the time of the world."""
    return MemoryScanner(report, lambda: world.now)


def rescan(*args, **kwargs):
    """Return all results of a complete rescan."""
    return tuple(part_by_part(*args, **kwargs))


def make_image(name, number, **changes):
    ref = ImageRef(repository=f"curated/{name}", digest="sha256:" + number * 64)
    pushed = changes.pop("pushed")
    return FleetImage(ref=ref, stored=StoredManifest(digest=ref.digest, pushed_at=pushed, size=1), **changes)


@pytest.fixture
def fleet(world, make):
    """Three images without a scan, two of which have the same SBOM content."""
    pieces = Pieces(world, make)
    world.now = make.noon
    images = [make_image(name, number, pushed=make.noon) for name, number in (("aa", "1"), ("bb", "2"), ("cc", "3"))]
    for image, packages in zip(images, (("openssl",), ("openssl",), ("zlib1g",)), strict=True):
        provenance = make.provenance(name=image.application)
        pieces.attach(image.ref, DEV, PROVENANCE, provenance)
        pieces.attach(image.ref, CURATION, ENCRYPTION, pieces.scanned["encryption"][2])
        pieces.attach(image.ref, CURATION, SBOM, make.sbom(world.registry, image.ref, *packages))
    return images


@pytest.fixture
def ports(world, make):
    return RescanPorts(
        generator=NoGenerator(),
        scanner=scanner_with(world, make.report(make.finding("low"))),
        results=MemoryResults(),
        registry=world.registry,
        evidence=world.store(TierName.CURATION),
        repositories=world.ecr,
        layers=lambda ref: (),
        bases=(),
        base_decisions={},
        minimum_classification=no_minimum,
        policy=RELEASE,
        production=frozenset({"production"}),
        now=lambda: world.now,
    )


def test_rescan_judges_every_image_and_scans_each_sbom_once(fleet, ports):
    """Images with equal content share the scan, but each gets its own report."""
    results = rescan(fleet, ports)

    assert [each.ref for each in results] == [each.ref for each in fleet]
    assert len(ports.scanner.scanned) == 2
    assert all(each.signed and each.passes and each.owner == "web team" for each in results)


def test_second_rescan_scans_and_signs_nothing(fleet, ports, world):
    """Without the cache, the signed evidence gives the same result."""
    rescan(fleet, ports)
    before = world.registry.refs()
    found = [*rescan(fleet, ports), *rescan(fleet, replace(ports, results=MemoryResults()))]

    assert len(ports.scanner.scanned) == 2
    assert world.registry.refs() == before
    assert not any(each.signed or each.change or each.is_reportable for each in found)


def test_rescan_with_new_database_signs_only_changed_results(fleet, ports, world, make):
    """An unchanged result is cached and not scanned again the next night."""
    rescan(fleet, ports)
    world.now += timedelta(days=1)
    scanner = scanner_with(world, make.report(make.finding("low"), database=_other(make)))
    later = replace(ports, scanner=scanner)
    results = [*rescan(fleet, later), *rescan(fleet, later)]

    assert len(scanner.scanned) == 2
    assert not any(each.signed for each in results)

    worse = scanner_with(world, make.report(make.finding("critical"), database=_other(make, "xxh64:2")))
    results = rescan(fleet, replace(ports, scanner=worse))
    assert all(each.signed and (each.change.before, each.change.after) == (True, False) for each in results)
    assert all(each.worse and not each.better and each.due for each in results)


def test_rescan_verdict_changes_with_trusted_keys(fleet, ports, world):
    """A key that is no longer trusted turns the verdict, and trusting it again turns it back."""
    rescan(fleet, ports)
    trusted = {tier: key for tier, key in ports.evidence.trusted.items() if tier is not TierName.DEVELOPMENT}
    revoked = replace(ports, evidence=replace(ports.evidence, trusted=trusted))

    for night, passes in ((revoked, False), (ports, True)):
        world.now += timedelta(days=1)
        assert all((each.change.before, each.change.after) == (not passes, passes) for each in rescan(fleet, night))
        assert not any(each.change for each in rescan(fleet, night))


def test_rescan_compares_with_the_last_full_report(fleet, ports, world, make):
    """A run that stopped after signing is reported by the next one, as the same news."""
    rescan(fleet, ports)
    reported_at = world.now
    world.now += timedelta(days=1)
    worse = scanner_with(world, make.report(make.finding("critical"), database=_other(make)))
    killed = {result.ref: result.news for result in rescan(fleet, replace(ports, scanner=worse))}

    for result in rescan(fleet, replace(ports, scanner=worse, last_full_report_time=reported_at)):
        assert result.worse and result.change.before and not result.change.after
        assert result.news and result.news == killed[result.ref]
    assert not any(
        result.worse or result.change or result.news for result in rescan(fleet, replace(ports, scanner=worse))
    )


def test_rolled_back_scanner_report_counts_again(fleet, ports, world, make):
    """Its earlier report is older than that of the bad release, so it is signed again."""
    good = make.report(make.finding("low"))
    bad = make.report(make.finding("critical")).model_copy(update={"scanner_version": "9.9"})
    night = timedelta(hours=2)  # too short for a report to become outdated

    def passes(report):
        world.now += night
        return [
            (each.passes, each.signed) for each in rescan(fleet, replace(ports, scanner=scanner_with(world, report)))
        ]

    assert passes(good) == [(True, True)] * 3
    assert passes(bad) == [(False, True)] * 3
    assert passes(good) == [(True, True)] * 3
    assert passes(good) == [(True, False)] * 3, "and is not signed again"


def test_rescan_keeps_report_of_newer_database(fleet, ports, world, make):
    """A rescan with an older database signs nothing, and fails once that report is too old."""
    older = make.report(make.finding("low"))
    newer = make.report(make.finding("critical"), database=older.database.model_copy(update={"built": make.noon}))
    rescan(fleet, replace(ports, scanner=scanner_with(world, newer)))
    world.now += timedelta(hours=2)
    held = replace(ports, scanner=scanner_with(world, older))

    results = rescan(fleet, held)

    assert [(each.passes, each.signed, each.news) for each in results] == [(False, False, None)] * 3
    assert not held.scanner.scanned
    world.now += timedelta(days=6)
    assert {each.code for each in rescan(fleet, held)} == {"scanner.database-outdated"}
    assert not held.scanner.scanned


def test_report_of_newer_database_on_other_sbom_does_not_count(fleet, ports, world, make):
    """The current content was not scanned with a database as new."""
    good = ports.scanner.report
    newer = make.report(database=good.database.model_copy(update={"built": make.noon}), sbom="sha256:" + "f" * 64)
    ports.evidence.attach(fleet[0].ref, VULNERABILITIES, newer.predicate(), world.now)

    assert rescan(fleet[:1], ports)[0].code == "scanner.database-outdated"


def test_archived_base_is_judged_by_its_last_report(fleet, ports, world, make):
    """It is not scanned, and an unreadable report proposes no rebuild."""
    assert read_signed_result(fleet[0], ports) is None
    rescan(fleet, ports)

    found = read_signed_result(fleet[0], ports)
    assert found is not None
    assert not found.passes and [each.package for each in found.findings] == [make.finding("low").package]
    world.now += timedelta(minutes=1)
    ports.evidence.attach(fleet[0].ref, VULNERABILITIES, {"cscm": {"scanned": world.now.isoformat()}}, world.now)
    assert read_signed_result(fleet[0], ports) is None


def test_status_change_of_base_judges_images_built_with_it_again(fleet, ports, world, make):
    """Other images keep their verdicts."""
    base = ImageRef(repository="curated/base/python", digest="sha256:" + "9" * 64)
    material = Material(name=base.repository, digest=base.digest, curated=True)
    provenance = make.provenance(name=fleet[0].application, built={"materials": (material,)})
    world.now += timedelta(seconds=1)
    world.store(TierName.DEVELOPMENT).attach(fleet[0].ref, PROVENANCE, provenance, world.now)
    assert all(each.passes for each in rescan(fleet, ports))
    block = {"act": "block", "by": "ann", "reason": "x", "at": world.now.isoformat()}
    signed = world.store(TierName.LIFECYCLE).attach(locate_image_status(base), LIFECYCLE, block, world.now)

    results = rescan(fleet, replace(ports, base_decisions={base: frozenset({signed})}))

    assert [each.passes for each in results] == [False, True, True]
    assert [each.code for each in results[0].news.reasons] == ["base.blocked"]


def _other(make, digest="xxh64:1"):
    return make.report().database.model_copy(update={"digest": digest})


def test_rescan_names_unreadable_images_and_judges_the_others(fleet, ports, world):
    """Current evidence decides, not the error that the inventory has stored."""
    listed = find_last_sbom(ports.evidence.read_verified(fleet[2].ref, TierName.CURATION, SBOM))
    assert listed is not None
    world.registry.damage(fleet[2].ref.repository, listed.referrer)
    lost = make_image("d", "4", pushed=world.now)
    world.store(TierName.LIFECYCLE).attach(locate_image_status(fleet[1].ref), LIFECYCLE, {"act": 7}, world.now)
    world.store(TierName.CURATION).attach(lost.ref, SBOM, {"rubbish": 1}, world.now)
    readable = fleet[0].model_copy(update={"unreadable": "it was damaged"})
    reported = []

    results = rescan(
        [readable, *fleet[1:], lost], replace(ports, on_result=lambda ref, result: reported.append(result))
    )

    named = {each.ref: each.code for each in results if isinstance(each, Unjudged)}
    invalid, damaged = EvidenceInvalid.code, ImageDamaged.code
    assert named == {fleet[1].ref: invalid, fleet[2].ref: damaged, lost.ref: invalid}
    assert [each.ref for each in results if isinstance(each, RescanResult)] == [readable.ref]
    assert len(reported) == 4


def test_rescan_marks_registry_failure_as_retryable(fleet, ports, world, monkeypatch):
    """The run may try these images again later."""

    def down(subject):
        raise RegistryUnavailable("it does not answer")

    monkeypatch.setattr(world.registry, "referrers", down)

    assert [each.retryable for each in rescan(fleet, ports)] == [True] * len(fleet)


def test_rescan_raises_for_failure_that_affects_all_images(fleet, ports, monkeypatch):
    """A missing database is not a problem of a single image."""

    def gone(sbom):
        raise DatabaseUnusable("it is gone")

    monkeypatch.setattr(ports.scanner, "scan", gone)

    with pytest.raises(DatabaseUnusable):
        rescan(fleet, ports)


def test_rescan_for_packages_judges_only_images_that_contain_them(fleet, ports):
    """The other images are not scanned."""
    reported = []
    found = rescan(fleet, replace(ports, on_result=lambda ref, result: reported.append(result)), only=("zlib1g",))

    assert [each.ref for each in found] == [fleet[2].ref]
    assert len(ports.scanner.scanned) == 1 and reported.count(None) == 2


def test_rescan_reports_running_refused_image_every_night(fleet, ports, world, make):
    """A refused image that runs nowhere is reported once."""
    running = Running(environment="", application="a", container="c", name="n", address="", host="h", since=make.noon)
    images = [fleet[0].model_copy(update={"running": (running,)}), fleet[2]]
    bad = replace(ports, scanner=scanner_with(world, make.report(make.finding("critical", fixed_in=()))))
    rescan(images, bad)
    world.now += timedelta(days=1)

    assert [(each.passes, each.is_reportable) for each in rescan(images, bad)] == [(False, True), (False, False)]


def test_rescan_scans_blocked_archived_image_that_runs(fleet, ports, world, make):
    """Its evidence suffices; an archived image that runs nowhere waits for its restoration."""
    running = Running(environment="production", application="a", container="c", name="n", address="x", host="h",
                      since=make.noon)  # fmt: skip
    cold, hot = (
        each.model_copy(update={"stored": each.stored.model_copy(update={"status": StorageStatus.ARCHIVED})})
        for each in fleet[:2]
    )
    block = {"act": "block", "by": "ann", "reason": "x", "at": world.now.isoformat()}
    world.store(TierName.LIFECYCLE).attach(locate_image_status(hot.ref), LIFECYCLE, block, world.now)

    def archived(ref):
        raise ImageNotFound(f"The registry has no {ref}.\nLook.")

    bases, others = sort_bases_first([cold, hot.model_copy(update={"running": (running,)})])
    (result,) = rescan(others, replace(ports, layers=archived))

    assert (bases, result.ref) == ([], hot.ref)
    assert result.signed and result.is_reportable and result.in_production and not result.passes


def test_archived_image_counts_as_base_for_rebuilds(fleet, ports, monkeypatch, make):
    """It is not scanned, and images on it are compared with the newest base that passes."""
    old, new = (make_image("base/python", number, pushed=make.noon + timedelta(days=int(number))) for number in "12")
    shelved = old.model_copy(update={"stored": old.stored.model_copy(update={"status": StorageStatus.ARCHIVED})})
    flaw = make.finding("high")
    monkeypatch.setattr(
        "supply_chain.fleet.rescan.read_signed_result",
        lambda image, _: RescanResult(ref=image.ref, passes=False, findings=(flaw,)),
    )

    assert sort_bases_first([*fleet, old, new, shelved]) == ([new, old], fleet)
    fixed = find_fixed([*fleet, shelved, new], [RescanResult(ref=new.ref, passes=True)], ports)
    assert fixed == {old.ref.digest: (new.ref, frozenset({make_finding_key(flaw)}))}


def test_packages_among_separates_advisories_from_packages():
    """Without a package name the question is an error, and does not mean all images."""
    assert split_package_names(("openssl", "CVE-2026-1234", "zlib1g@1")) == (
        ("openssl", "zlib1g@1"),
        ("CVE-2026-1234",),
    )
    assert split_package_names(()) == ((), ())
    with pytest.raises(DeclarationInvalid, match="CVE-2026-1234"):
        split_package_names(("CVE-2026-1234",))


def test_rescan_result_names_environments_of_image(fleet, ports, make):
    """The inventory knows where an image runs."""
    running = Running(environment="production", application="a", container="c", name="n", address="x", host="h",
                      since=make.noon)  # fmt: skip
    (result,) = rescan([fleet[0].model_copy(update={"running": (running,)})], ports)

    assert (result.running, result.in_production) == (("production",), True)


def test_rescan_reads_next_part_while_it_scans_one(fleet, ports, world, threads, monkeypatch):
    """Two parts are never scanned at once, because one uses all processors."""
    monkeypatch.setattr("supply_chain.fleet.rescan.LEAST", 1)
    monkeypatch.setattr("supply_chain.fleet.rescan.FOR_EACH", 0)
    missing, read, busy, referrers = {fleet[0].ref, fleet[2].ref}, threading.Event(), [], world.registry.referrers

    def reading(subject):
        missing.discard(subject)
        if not missing:
            read.set()
        return referrers(subject)

    def matching(*args):
        busy.append(1)
        assert read.wait(10) and len(busy) == 1
        found = match(*args)
        busy.pop()
        return found

    monkeypatch.setattr(world.registry, "referrers", reading)
    results = rescan([fleet[0], fleet[2]], replace(ports, matching=matching))

    assert [each.ref for each in results] == [fleet[0].ref, fleet[2].ref]


def test_chunks_contain_every_image_once_in_order(fleet):
    """A chunk has more than one image."""
    many = fleet * 50
    parts = list(split_into_chunks(many))

    assert [each for part in parts for each in part] == many and len(parts) < 5
    assert not is_base(fleet[0]) and list(split_into_chunks([])) == []
