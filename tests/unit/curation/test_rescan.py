"""rescan: what is signed and judged anew about an image, and what is left as it is."""

import dataclasses
from datetime import timedelta

import pytest

from supply_chain.curation.rescan import conclude, look
from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.statement import SBOM, SUMMARY, VULNERABILITIES
from supply_chain.policy.dossier import kept
from supply_chain.policy.gate import judge
from supply_chain.policy.rules import POLICIES
from supply_chain.policy.verdict import record
from supply_chain.tier import Boundary, TierName
from supply_chain.vulnerability.scanner import Sbom, Sboms
from tests.unit.pieces import CURATED, Pieces

POLICY = POLICIES[Boundary.CURATION]


class Generator:
    """Makes an SBOM, and says of which images."""

    def __init__(self, generator="syft 1.2.3"):
        self.asked, self.generator = [], generator

    def of_image(self, ref):
        self.asked.append(ref)
        return Sboms(Sbom(b'{"artifacts": []}', 0, self.generator), b"cyclonedx", b"spdx")


@pytest.fixture
def image(world, make):
    """An image that curation admitted at noon, of that time's policy; what is asked of it is asked `later`."""
    pieces, curation = Pieces(world, make), world.store(TierName.CURATION)
    for signer, kind, predicate in pieces.scanned.values():
        pieces.attach(CURATED, signer, kind, predicate)
    world.now = make.noon
    dossier = kept(CURATED, curation, lambda ref: (), ())
    record(judge(dossier, POLICY), dossier, curation, make.noon)

    def rescan(report=None, later=timedelta(days=1)):
        world.now = make.noon + later
        found = look(CURATED, Generator(), world.registry, curation, lambda: world.now)
        given = report or found.report.value
        return conclude(found, given, curation, lambda ref: (), (), lambda: world.now)

    return rescan


def count(world, kind):
    found = world.store(TierName.EXECUTION).verified(CURATED, TierName.CURATION, kind)
    return len(found)


def test_what_finds_the_same_is_not_signed_again(image, world, make):
    """Another database that knows nothing new of it changes nothing."""
    newer = make.report().database.model_copy(update={"digest": "xxh64:1"})
    concluded = image(make.report(database=newer, at=make.noon + timedelta(days=1)))

    assert (concluded.signed, concluded.change, concluded.passes) == (False, None, True)
    assert (count(world, VULNERABILITIES), count(world, SUMMARY)) == (1, 1)


def test_a_new_finding_is_signed_and_turns_the_verdict(image, world, make):
    """The report first, then the verdict that rests on it; the reasons say why."""
    concluded = image(make.report(make.finding("critical"), at=make.noon + timedelta(days=1)))

    assert concluded.signed and not concluded.passes
    assert (concluded.change.before, concluded.change.after, concluded.change.turned) == (True, False, True)
    assert [each.code for each in concluded.change.reasons] == ["scan.critical"]
    assert (count(world, VULNERABILITIES), count(world, SUMMARY)) == (2, 2)


def test_a_new_finding_within_limits_changes_no_verdict(image, world, make):
    """The verdict is given anew, for it rests on the new report; what it says is the same."""
    concluded = image(make.report(make.finding("low"), at=make.noon + timedelta(days=1)))

    assert concluded.signed and concluded.passes and concluded.change is None
    assert (count(world, VULNERABILITIES), count(world, SUMMARY)) == (2, 2)


def test_a_probability_alone_is_no_news(image, make):
    """It changes every day, and no rule asks for it."""
    found = make.finding("low", epss=0.1)
    image(make.report(found, at=make.noon + timedelta(days=1)))
    again = make.report(found.model_copy(update={"epss": 0.2}), at=make.noon + timedelta(days=2))

    assert not image(again, timedelta(days=2)).signed


def test_a_verdict_that_was_not_given_any_more_is_given_by_the_next_run(image, world, make):
    """Killed between the report and the verdict: evidence says what is missing."""
    refused = make.report(make.finding("critical"), at=make.noon + timedelta(days=1))
    world.now = make.noon + timedelta(days=1)
    world.store(TierName.CURATION).attach(CURATED, VULNERABILITIES, refused.predicate(), world.now)

    concluded = image()

    assert not concluded.signed and concluded.change.after is False
    assert image().change is None, "and once it is given, nothing is left to do"
    assert count(world, VULNERABILITIES) == 2


@pytest.mark.parametrize(("days", "signed"), [(4, False), (6, True)])
def test_a_report_is_renewed_before_it_is_too_old(image, make, days, signed):
    """A scan is good for seven days: it is renewed two before, not each night."""
    again = make.report(at=make.noon + timedelta(days=days))

    concluded = image(again, timedelta(days=days))

    assert (concluded.signed, concluded.change) == (signed, None)


def test_the_policy_of_today_judges(image, monkeypatch, world, make):
    """A verdict of another policy is given anew; the scan is not."""
    monkeypatch.setattr("supply_chain.curation.rescan.POLICY", dataclasses.replace(POLICY, version="next"))

    assert image().change is None
    assert (count(world, VULNERABILITIES), count(world, SUMMARY)) == (1, 2)


def test_an_image_without_an_sbom_gets_one(world, make):
    """Made and signed as `scan` does it; it was never judged, and is now."""
    curation, generator = world.store(TierName.CURATION), Generator()
    found = look(CURATED, generator, world.registry, curation, lambda: world.now)
    concluded = conclude(found, make.report(), curation, lambda ref: (), (), lambda: world.now)

    assert generator.asked == [CURATED] and count(world, SBOM) == 1
    assert found.listed.content == make.digest_of(b'{"artifacts": []}')
    assert (concluded.signed, concluded.change.before, concluded.passes) == (True, None, False)
    assert found.limits.scan_days == 7


def test_an_sbom_that_does_not_come_back_is_told(world, monkeypatch):
    """Whatever hides it, nothing is matched in its place."""
    curation = world.store(TierName.CURATION)
    monkeypatch.setattr(world.registry, "referrers", lambda subject: ())

    with pytest.raises(EvidenceInvalid, match="cannot be read back"):
        look(CURATED, Generator(), world.registry, curation, lambda: world.now)
