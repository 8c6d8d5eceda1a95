"""The rescan of many images: each judged or named, and nothing matched that evidence or a kept report says."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from supply_chain.errors import DatabaseUnusable, EvidenceInvalid, RegistryUnavailable
from supply_chain.evidence.sbom import last_listed
from supply_chain.evidence.standing import standing_place
from supply_chain.evidence.statement import ENCRYPTION, LIFECYCLE, PROVENANCE, SBOM, VULNERABILITIES
from supply_chain.fleet.exposure import Judged, Unjudged
from supply_chain.fleet.known import KnownImage, Running
from supply_chain.fleet.rescan import Bench, as_signed, chunks, is_base
from supply_chain.fleet.rescan import rescan as part_by_part
from supply_chain.image import ImageRef, Material, StoredManifest
from supply_chain.tier import TierName
from supply_chain.vulnerability.matching import match
from tests.unit.pieces import CURATION, DEV, Pieces


class Scanner:
    """Finds what the test says in every SBOM, and counts."""

    configuration = "plain"

    def __init__(self, world, report):
        self.world, self.report, self.scanned = world, report, []

    def current(self):
        return self.report.scanner_version, self.report.database

    def scan(self, sbom):
        self.scanned.append(sbom.digest)
        changes = {"sbom": sbom.digest, "configuration": self.configuration, "scanned": self.world.now}
        return self.report.model_copy(update=changes)


class Memory(dict):
    def put(self, key, report):
        self[key.name] = report

    def get(self, key):
        return super().get(key.name)


class NoGenerator:
    """Everything has its SBOM here."""

    generator = "syft 1.2.3"

    def of_image(self, ref):
        raise AssertionError(ref)


def rescan(*args, **kwargs):
    """All that is found, when all is done."""
    return tuple(part_by_part(*args, **kwargs))


def known(name, number, **changes):
    ref = ImageRef(repository=f"curated/{name}", digest="sha256:" + number * 64)
    pushed = changes.pop("pushed")
    return KnownImage(ref=ref, stored=StoredManifest(digest=ref.digest, pushed_at=pushed, size=1), **changes)


@pytest.fixture
def fleet(world, make):
    """Three images, two of which contain the same; nothing was scanned yet."""
    pieces = Pieces(world, make)
    world.now = make.noon
    images = [known(name, number, pushed=make.noon) for name, number in (("aa", "1"), ("bb", "2"), ("cc", "3"))]
    for image, packages in zip(images, (("openssl",), ("openssl",), ("zlib1g",)), strict=True):
        provenance = make.provenance(name=image.application)
        pieces.attach(image.ref, DEV, PROVENANCE, provenance)
        pieces.attach(image.ref, CURATION, ENCRYPTION, pieces.scanned["encryption"][2])
        pieces.attach(image.ref, CURATION, SBOM, make.sbom(world.registry, image.ref, *packages))
    return images


@pytest.fixture
def bench(world, make):
    return Bench(
        generator=NoGenerator(),
        scanner=Scanner(world, make.report(make.finding("low"))),
        results=Memory(),
        registry=world.registry,
        evidence=world.store(TierName.CURATION),
        layers=lambda ref: (),
        bases=(),
        ruled={},
        production=frozenset({"production"}),
        now=lambda: world.now,
    )


def test_each_image_is_judged_and_each_sbom_matched_once(fleet, bench):
    """Two that contain the same share the scan; each has a report of its own."""
    seen = rescan(fleet, bench)

    assert [each.ref for each in seen] == [each.ref for each in fleet]
    assert len(bench.scanner.scanned) == 2
    assert all(each.signed and each.passes and each.owner == "web team" for each in seen)


def test_a_second_run_scans_and_signs_nothing(fleet, bench, world):
    """Neither with the kept reports, nor where they are lost: evidence says the same."""
    rescan(fleet, bench)
    before = sum(map(len, world.registry.held.values()))
    seen = [*rescan(fleet, bench), *rescan(fleet, replace(bench, results=Memory()))]

    assert len(bench.scanner.scanned) == 2
    assert sum(map(len, world.registry.held.values())) == before
    assert not any(each.signed or each.change or each.tells for each in seen)


def test_another_database_is_matched_once_and_signed_where_it_finds_something_else(fleet, bench, world, make):
    """The next night too: what it found was kept, though it was no news."""
    rescan(fleet, bench)
    world.now += timedelta(days=1)
    scanner = Scanner(world, make.report(make.finding("low"), database=_other(make)))
    later = replace(bench, scanner=scanner)
    seen = [*rescan(fleet, later), *rescan(fleet, later)]

    assert len(scanner.scanned) == 2
    assert not any(each.signed for each in seen)

    worse = Scanner(world, make.report(make.finding("critical"), database=_other(make, "xxh64:2")))
    seen = rescan(fleet, replace(bench, scanner=worse))
    assert all(each.signed and each.change.turned and each.worse and not each.better and each.due for each in seen)


def test_what_was_told_last_is_what_is_compared_with(fleet, bench, world, make):
    """A run that was killed after it had signed is told by the next one, as the same news."""
    rescan(fleet, bench)
    told = world.now
    world.now += timedelta(days=1)
    worse = Scanner(world, make.report(make.finding("critical"), database=_other(make)))
    killed = {seen.ref: seen.news for seen in rescan(fleet, replace(bench, scanner=worse))}

    for seen in rescan(fleet, replace(bench, scanner=worse, told_last=told)):
        assert seen.worse and seen.change.before and not seen.change.after
        assert seen.news and seen.news == killed[seen.ref]
    assert not any(seen.worse or seen.change or seen.news for seen in rescan(fleet, replace(bench, scanner=worse)))


def test_an_archived_base_is_what_its_last_report_says(fleet, bench, world, make):
    """It is not scanned. What cannot be read proposes nothing; what all images would meet is raised."""
    assert as_signed(fleet[0], bench) is None
    rescan(fleet, bench)

    found = as_signed(fleet[0], bench)
    assert not found.passes and [each.package for each in found.findings] == [make.finding("low").package]
    world.now += timedelta(minutes=1)
    bench.evidence.attach(fleet[0].ref, VULNERABILITIES, {"cscm": {"scanned": world.now.isoformat()}}, world.now)
    assert as_signed(fleet[0], bench) is None


def test_a_base_of_which_something_was_said_has_what_names_it_judged(fleet, bench, world, make):
    """And no other image."""
    base = ImageRef(repository="curated/base/python", digest="sha256:" + "9" * 64)
    material = Material(name=base.repository, digest=base.digest, curated=True)
    provenance = make.provenance(name=fleet[0].application, built={"materials": (material,)})
    world.now += timedelta(seconds=1)
    world.store(TierName.DEVELOPMENT).attach(fleet[0].ref, PROVENANCE, provenance, world.now)
    assert all(seen.passes for seen in rescan(fleet, bench))
    block = {"act": "block", "by": "ann", "why": "x", "at": world.now.isoformat()}
    said = world.store(TierName.LIFECYCLE).attach(standing_place(base), LIFECYCLE, block, world.now)

    seen = rescan(fleet, replace(bench, ruled={base.digest: frozenset({said})}))

    assert [each.passes for each in seen] == [False, True, True]
    assert [each.code for each in seen[0].news.reasons] == ["base.blocked"]


def _other(make, digest="xxh64:1"):
    return make.report().database.model_copy(update={"digest": digest})


def test_an_image_that_cannot_be_judged_is_named_and_the_others_are_judged(fleet, bench, world):
    """Its SBOM is not what was signed; one that only says that it is unreadable is named too."""
    listed = last_listed(bench.evidence.verified(fleet[2].ref, TierName.CURATION, SBOM))
    world.registry.change(fleet[2].ref.repository, listed.referrer, b"rubbish")
    lost = known("d", "4", pushed=world.now, unreadable="it is damaged")
    told = []

    seen = rescan([*fleet, lost], replace(bench, told=lambda ref, seen: told.append(seen)))

    named = {each.ref: each.code for each in seen if isinstance(each, Unjudged)}
    assert named == {fleet[2].ref: EvidenceInvalid.code, lost.ref: EvidenceInvalid.code}
    assert [each.ref for each in seen if isinstance(each, Judged)] == [each.ref for each in fleet[:2]]
    assert len(told) == 4


def test_a_registry_that_does_not_answer_is_told_with_what_may_help(fleet, bench, world, monkeypatch):
    """Asked later it may; that is for the run to do."""

    def down(subject):
        raise RegistryUnavailable("it does not answer")

    monkeypatch.setattr(world.registry, "referrers", down)

    assert all(each.retryable for each in rescan(fleet, bench))


def test_what_no_image_could_be_judged_with_ends_the_run(fleet, bench, monkeypatch):
    """A database that is gone is no fault of any image."""

    def gone(sbom):
        raise DatabaseUnusable("it is gone")

    monkeypatch.setattr(bench.scanner, "scan", gone)

    with pytest.raises(DatabaseUnusable):
        rescan(fleet, bench)


def test_an_advisory_concerns_the_images_that_carry_the_package(fleet, bench):
    """The others are not even matched."""
    told = []
    seen = rescan(fleet, replace(bench, told=lambda ref, seen: told.append(seen)), only=("zlib1g",))

    assert [each.ref for each in seen] == [fleet[2].ref]
    assert len(bench.scanner.scanned) == 1 and told.count(None) == 2


def test_where_an_image_runs_is_told(fleet, bench, make):
    """As the inventory has it."""
    running = Running(environment="production", application="a", container="c", name="n", address="x", host="h",
                      since=make.noon)  # fmt: skip
    (seen,) = rescan([fleet[0].model_copy(update={"running": (running,)})], bench)

    assert (seen.running, seen.in_production) == (("production",), True)


def test_while_one_part_is_matched_the_evidence_of_the_next_is_read(fleet, bench, world, monkeypatch):
    """And never two parts are matched at once: matching has work for every processor."""
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
    seen = rescan([fleet[0], fleet[2]], replace(bench, matching=matching))

    assert [each.ref for each in seen] == [fleet[0].ref, fleet[2].ref]


def test_chunks_hold_every_image_once(fleet):
    """In order, and never one image each."""
    many = fleet * 50
    parts = list(chunks(many))

    assert [each for part in parts for each in part] == many and len(parts) < 5
    assert not is_base(fleet[0]) and list(chunks([])) == []
