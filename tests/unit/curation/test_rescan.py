"""rescan: what is signed and judged again about an image, and what stays unchanged."""

from datetime import timedelta

import pytest

from supply_chain.curation.rescan import conclude, read_base_decisions, read_evidence
from supply_chain.errors import EvidenceInvalid, ImageNotFound
from supply_chain.evidence.attached_statement import OPENVEX
from supply_chain.evidence.image_status import locate_image_status
from supply_chain.evidence.published import read_current_verdict
from supply_chain.evidence.statement import (
    BUNDLE,
    LIFECYCLE,
    PROVENANCE,
    SBOM,
    SIGNATURE,
    SUMMARY,
    VULNERABILITIES,
    make_image_statement,
)
from supply_chain.evidence.store import PREDICATE
from supply_chain.model.declaration import Classification
from supply_chain.model.image import ImageRef, Material
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.gate import evaluate
from supply_chain.policy.loading import make_gate_policy
from supply_chain.policy.people import FILE, read_people
from supply_chain.policy.reading import read_release_facts
from supply_chain.policy.verdict import record
from supply_chain.policy.vex import Vex
from supply_chain.policy.waivers import DIRECTORY, Waivers, read_waivers
from tests.support.builders import NOON, finding
from tests.support.memory_generator import MemoryGenerator
from tests.support.people import Office
from tests.support.pieces import CURATED, Pieces
from tests.support.policies import RELEASE, policy, rule, with_waivers
from tests.support.present import present
from tests.support.vex import openvex, openvex_statement

BASE = ImageRef(repository="curated/base/python", digest="sha256:" + "9" * 64)


@pytest.fixture
def image(world, make):
    """Return a function that rescans, after `later`, an image that curation admitted at noon."""
    pieces, curation = Pieces(world, make), world.store(TierName.CURATION)
    built = {"materials": (Material(name=BASE.repository, digest=BASE.digest, curated=True),)}
    pieces.scanned["provenance"] = (TierName.DEVELOPMENT, PROVENANCE, make.provenance(built=built))
    for signer, kind, predicate in pieces.scanned.values():
        pieces.attach(CURATED, signer, kind, predicate)
    pieces.attach(BASE, TierName.CURATION, SBOM, make.sbom(world.registry, BASE, "openssl"))
    world.now = make.noon
    facts = read_release_facts(CURATED, curation, lambda ref: (), (), None)
    record(evaluate(facts, RELEASE, NOON), facts, curation, make.noon)

    def rescan(
        report=None,
        later=timedelta(days=1),
        reported=None,
        bases=(),
        layers=lambda ref: (),
        policy=RELEASE,
        minimum=None,
    ):
        world.now = make.noon + later
        found = read_evidence(CURATED, MemoryGenerator(), world.registry, curation, lambda: world.now, reported)
        given, decisions = report or present(found.last.report).value, read_base_decisions(bases, curation)
        return conclude(found, given, curation, world.ecr, layers, bases, decisions, minimum, policy, lambda: world.now)

    return rescan


def count(world, kind):
    found = world.store(TierName.EXECUTION).read_verified(CURATED, TierName.CURATION, kind)
    return len(found)


def test_rescan_with_same_findings_signs_nothing(image, world, make):
    """A newer database that finds the same changes nothing."""
    newer = make.report().database.model_copy(update={"digest": "xxh64:1"})
    concluded = image(make.report(database=newer, at=make.noon + timedelta(days=1)))

    assert (concluded.signed, concluded.change, concluded.passes) == (False, None, True)
    assert (count(world, VULNERABILITIES), count(world, SUMMARY)) == (1, 1)


def test_rescan_with_critical_finding_signs_report_and_refusal(image, world, make):
    """The report is signed before the verdict that rests on it, and the reasons explain the change."""
    concluded = image(make.report(make.finding("critical"), at=make.noon + timedelta(days=1)))

    assert concluded.signed and not concluded.passes
    assert (concluded.change.before, concluded.change.after) == (True, False)
    assert [each.code for each in concluded.change.reasons] == ["scan.critical"]
    assert (count(world, VULNERABILITIES), count(world, SUMMARY)) == (2, 2)


def test_rescan_with_finding_within_limits_keeps_verdict(image, world, make):
    """A new verdict is signed because it rests on the new report, but its result is the same."""
    concluded = image(make.report(make.finding("low"), at=make.noon + timedelta(days=1)))

    assert concluded.signed and concluded.passes and concluded.change is None
    assert (count(world, VULNERABILITIES), count(world, SUMMARY)) == (2, 2)


def test_rescan_ignores_change_of_epss_alone(image, make):
    """The probability changes every day, and no rule uses it."""
    found = make.finding("low", epss=0.1)
    image(make.report(found, at=make.noon + timedelta(days=1)))
    again = make.report(found.model_copy(update={"epss": 0.2}), at=make.noon + timedelta(days=2))

    assert not image(again, timedelta(days=2)).signed


def test_rescan_completes_verdict_of_interrupted_run(image, world, make):
    """The run ended between report and verdict, which the evidence shows."""
    refused = make.report(make.finding("critical"), at=make.noon + timedelta(days=1))
    world.now = make.noon + timedelta(days=1)
    world.store(TierName.CURATION).attach(CURATED, VULNERABILITIES, refused.predicate(), world.now)

    concluded = image()

    assert not concluded.signed and concluded.news.after is False
    assert image().news is None, "and once it is given, nothing is left to do"
    assert count(world, VULNERABILITIES) == 2


def test_rescan_reports_change_that_interrupted_run_did_not_report(image, make):
    """The run ended after the verdict, or between report and verdict."""
    refused = make.report(make.finding("critical"), at=make.noon + timedelta(days=1))
    first = image(refused)

    again = image(reported=make.noon)
    assert (first.signed, again.signed) == (True, False) and again.news == first.news
    assert (again.change.before, again.change.after) == (True, False)
    for reported in (make.noon + timedelta(days=1), None):
        late = image(reported=reported)
        assert (late.change, late.news) == (None, None), (
            "a run that told it, or of which nobody knows, is not said again"
        )


def test_change_keeps_its_number_over_repeated_verdicts(image, make):
    """A newer report with more findings and the same reasons is no new change."""
    refused = make.finding("critical")
    first = image(make.report(refused, at=make.noon + timedelta(days=1)))
    more = make.report(refused, make.finding("low", id="CVE-2"), at=make.noon + timedelta(days=2))

    again = image(more, timedelta(days=2), reported=make.noon)

    assert again.signed and again.news == first.news
    hour = timedelta(days=2, hours=1)
    later = image(make.report(make.finding("high", id="CVE-3"), refused, at=make.noon + hour), hour, reported=make.noon)
    assert (later.news.before, later.news.after) == (True, False), (
        "whoever heard nothing of it hears of the whole change"
    )
    assert later.news.since != first.news.since
    better = image(make.report(at=make.noon + timedelta(days=3)), timedelta(days=3), reported=make.noon)
    assert better.change is None and (better.news.before, better.news.after) == (False, True)
    assert better.news.since != first.news.since


def test_reversed_verdict_is_reported_after_interrupted_run(image, make):
    """The run ended between the second change and its event."""
    image(make.report(make.finding("critical"), at=make.noon + timedelta(days=1)), reported=make.noon)
    back = image(make.report(at=make.noon + timedelta(days=2)), timedelta(days=2), reported=make.noon)
    more = make.report(make.finding("low"), at=make.noon + timedelta(days=3))

    for found in (
        image(None, timedelta(days=2, hours=1), reported=make.noon),
        image(more, timedelta(days=3), make.noon),
    ):
        assert (found.change, found.news) == (None, back.news)
        assert (found.news.before, found.news.after) == (False, True)
    assert image(None, timedelta(days=4), reported=make.noon + timedelta(days=3)).news is None


@pytest.mark.parametrize(("reported", "found"), [(0, 0), (1, 1), (2, 2), (-1, 0)])
def test_new_report_is_compared_with_last_reported_one(image, world, make, reported, found):
    """For an image younger than the last report, this is its first report."""
    for days in (1, 2):
        findings = [make.finding("low", id=f"CVE-2026-{number}") for number in range(days)]
        image(make.report(*findings, at=make.noon + timedelta(days=days)), timedelta(days=days))

    curation = world.store(TierName.CURATION)
    evidence = read_evidence(
        CURATED, MemoryGenerator(), world.registry, curation, lambda: world.now, make.noon + timedelta(days=reported)
    )

    assert len(present(evidence.last_reported.report).value.findings) == found
    assert len(present(evidence.last.report).value.findings) == 2


def test_block_and_unblock_of_base_change_verdict(image, world, make):
    """Nothing else changed, and a second rescan has nothing to do."""

    def say(act, days):
        at = make.noon + timedelta(days=days)
        predicate = {"act": act, "by": "ann", "reason": "a key in it", "at": at.isoformat()}
        world.store(TierName.LIFECYCLE).attach(locate_image_status(BASE), LIFECYCLE, predicate, at)

    assert image(bases=[BASE]).news is None and count(world, SUMMARY) == 1
    say("block", 1)
    blocked = image(later=timedelta(days=2), bases=[BASE])
    again = image(later=timedelta(days=3), bases=[BASE])
    say("unblock", 4)
    unblocked = image(later=timedelta(days=5), bases=[BASE])

    assert [each.code for each in blocked.news.reasons] == ["base.blocked"] and not blocked.passes
    assert (again.news, again.passes) == (None, False)
    assert unblocked.passes and (unblocked.news.before, unblocked.news.after) == (False, True)
    assert (count(world, SUMMARY), count(world, VULNERABILITIES)) == (3, 1)


def test_block_of_base_known_from_layers_changes_verdict(image, world, make):
    """The builder did not declare this base; an unreadable layer is an error."""
    proxy = BASE.with_repository("curated/base/proxy").model_copy(update={"digest": make.other})
    at = make.noon + timedelta(days=1)
    say = {"act": "block", "by": "ann", "reason": "a key in it", "at": at.isoformat()}
    world.store(TierName.LIFECYCLE).attach(locate_image_status(proxy), LIFECYCLE, say, at)
    Pieces(world, make).attach(proxy, TierName.CURATION, SIGNATURE, {})
    Pieces(world, make).attach(proxy, TierName.CURATION, SBOM, make.sbom(world.registry, proxy, "openssl"))

    def layers(ref):
        return (make.other,) if ref in (proxy, CURATED) else (BASE.digest,)

    def unreadable(ref):
        raise ImageNotFound(f"The registry has no {ref}.\nLook.")

    assert image(later=timedelta(days=2), bases=[proxy]).passes
    with pytest.raises(ImageNotFound):
        image(later=timedelta(days=2), bases=[proxy], layers=unreadable)
    found = image(later=timedelta(days=2), bases=[proxy], layers=layers)
    assert [each.code for each in found.news.reasons] == ["base.blocked"]


def test_blocked_image_fails_and_gets_new_verdict_after_unblock(image, world, make):
    """The rescan signs no verdict; one that `curate` signed in the meantime is replaced."""

    def say(act, days):
        at = make.noon + timedelta(days=days)
        predicate = {"act": act, "by": "ann", "reason": "a key in it", "at": at.isoformat()}
        world.store(TierName.LIFECYCLE).attach(locate_image_status(CURATED), LIFECYCLE, predicate, at)

    say("block", 1)
    blocked = image(make.report(make.finding("low"), at=make.noon + timedelta(days=2)), timedelta(days=2))
    assert blocked.signed and (blocked.passes, blocked.news) == (False, None) and count(world, SUMMARY) == 1
    curation = world.store(TierName.CURATION)
    facts = read_release_facts(CURATED, curation, lambda ref: (), (), None)
    record(evaluate(facts, RELEASE, NOON), facts, curation, world.now)
    say("unblock", 3)

    unblocked = image(later=timedelta(days=4))
    assert unblocked.passes and (unblocked.news.before, unblocked.news.after) == (False, True)
    assert count(world, SUMMARY) == 3
    assert image(later=timedelta(days=5)).news is None and count(world, SUMMARY) == 3


def test_unreadable_status_of_base_fails_images_built_on_it(image, world, make):
    """The base may be blocked; other images are judged all the same."""
    world.store(TierName.LIFECYCLE).attach(locate_image_status(BASE), LIFECYCLE, {"act": 7}, make.noon)

    with pytest.raises(EvidenceInvalid, match="evidence/lifecycle/base/python"):
        image(bases=[BASE])
    assert read_base_decisions([BASE.with_repository("curated/base/proxy")], world.store(TierName.CURATION)) == {}


@pytest.mark.parametrize(("days", "signed"), [(4, False), (6, True)])
def test_report_is_renewed_before_it_expires(image, make, days, signed):
    """A scan is valid for seven days and is renewed two days before, not every night."""
    again = make.report(at=make.noon + timedelta(days=days))

    concluded = image(again, timedelta(days=days))

    assert (concluded.signed, concluded.change) == (signed, None)


def test_verdict_of_other_policy_is_given_again(image, world):
    """The scan itself is not repeated."""
    other = make_gate_policy(Gate.RELEASE, RELEASE.policies[::-1])

    assert image(policy=other).change is None
    assert (count(world, VULNERABILITIES), count(world, SUMMARY)) == (1, 2)


def test_verdict_that_was_never_published_is_given_again(image, world, make):
    """Verdicts until version 0.2.0 count, but enforcers do not know them."""
    curation = world.store(TierName.CURATION)
    (verdict,) = curation.read_verified(CURATED, TierName.CURATION, SUMMARY)
    for place in world.ecr.repositories("verdicts/"):
        del world.registry.repositories[place]
    world.registry.remove(CURATED.with_digest(verdict.digest))
    earlier = {**verdict.predicate, "verifier": {"id": "urn:cscm:gate:release"}}
    curation.attach(CURATED, SUMMARY, earlier, make.noon)

    assert image().change is None and count(world, SUMMARY) == 2
    assert read_current_verdict(world.verdict_store(TierName.EXECUTION), CURATED, Gate.RELEASE).admits
    image()
    assert count(world, SUMMARY) == 2


def test_raised_minimum_classification_changes_verdict_once(image, world):
    """A changed register is no new evidence of an image; what was admitted under the old one does not stay."""
    refused = image(minimum=Classification.CONFIDENTIAL)
    assert not refused.passes and [each.code for each in refused.news.reasons] == ["name.classification"]
    assert image(minimum=Classification.CONFIDENTIAL).news is None and count(world, SUMMARY) == 2

    assert image(later=timedelta(days=2)).passes and count(world, SUMMARY) == 3
    assert image(minimum=Classification.PUBLIC, later=timedelta(days=3)).passes and count(world, SUMMARY) == 3


def test_verdict_of_policy_that_depends_on_time_is_given_again(image, world):
    """The same evidence may be refused later, without any new statement."""
    until = rule("freeze.begun", expression="now < timestamp('2026-11-25T00:00:00Z')")
    timed = policy(Gate.RELEASE, until)

    assert image(policy=timed, later=timedelta(hours=1)).passes
    refused = image(policy=timed, later=timedelta(days=1))

    assert not refused.passes and count(world, VULNERABILITIES) == 1


def test_rescan_judges_again_when_waiver_starts_or_ends(image, world, make, tmp_path):
    """A new waiver admits the image, its end refuses it, and its removal too."""
    office = Office(tmp_path)
    office.write_people()
    office.waive("zlib")
    people = read_people(tmp_path / FILE, office.people_owner, make.noon)
    waivers = read_waivers(tmp_path / DIRECTORY, people, {}, make.noon).valid
    waived = with_waivers(RELEASE, waivers)
    found = make.report(finding("critical", id="CVE-2026-1"), at=make.noon + timedelta(hours=1))

    assert not image(found, timedelta(hours=1)).passes
    assert image(policy=waived, later=timedelta(hours=2)).passes
    assert not image(later=timedelta(hours=3)).passes
    assert image(policy=waived, later=timedelta(hours=4)).passes
    assert not image(policy=waived, later=timedelta(days=30)).passes


def test_image_without_sbom_gets_one_and_first_verdict(world, make):
    """The SBOM is generated and signed as in `scan`."""
    curation, generator = world.store(TierName.CURATION), MemoryGenerator()
    found = read_evidence(CURATED, generator, world.registry, curation, lambda: world.now)
    concluded = conclude(
        found, make.report(), curation, world.ecr, lambda ref: (), (), {}, None, RELEASE, lambda: world.now
    )

    assert generator.asked == [CURATED] and count(world, SBOM) == 1
    assert found.listed.content == make.digest_of(b'{"artifacts": []}')
    assert (concluded.signed, present(concluded.change).before, concluded.passes) == (True, None, False)
    assert found.limits.scan_days == 7


def test_sbom_that_cannot_be_read_back_is_an_error(world, monkeypatch):
    """No other SBOM is used in its place."""
    curation = world.store(TierName.CURATION)
    monkeypatch.setattr(world.registry, "referrers", lambda subject: ())

    with pytest.raises(EvidenceInvalid, match="cannot be read back"):
        read_evidence(CURATED, MemoryGenerator(), world.registry, curation, lambda: world.now)


def test_image_that_was_not_examined_is_examined_by_rescan(world, make):
    """The gate refuses such an image, and no new curation is needed."""
    curation, generator = world.store(TierName.CURATION), MemoryGenerator()
    pieces = Pieces(world, make)
    before = {**make.sbom(world.registry, CURATED, "openssl"), "examination": None}
    pieces.attach(CURATED, TierName.CURATION, SBOM, before)
    world.now = make.noon + timedelta(days=1)

    read_evidence(CURATED, generator, world.registry, curation, lambda: world.now)

    assert generator.asked == [CURATED]


def test_attached_vex_documents_are_judged_again(image, world, make):
    """Issuers, people and the time decide about them; the verdict after their removal rests on them no more."""

    def inputs():
        (*_, last) = world.store(TierName.EXECUTION).read_verified(CURATED, TierName.CURATION, SUMMARY)
        return {each["uri"] for each in last.predicate["inputAttestations"]}

    before = inputs()
    bundle = make.signer().sign(make_image_statement(CURATED, OPENVEX, openvex()))
    attached = CURATED.with_digest(world.registry.attach(CURATED, BUNDLE, bundle, {PREDICATE: OPENVEX}))

    assert image().passes and inputs() == before | {str(attached)}
    assert count(world, SUMMARY) == 2
    image(later=timedelta(days=2))
    assert count(world, SUMMARY) == 2, "the same verdict on the same evidence is not signed again"
    world.registry.remove(attached)
    assert image(later=timedelta(days=3)).passes and inputs() == before
    assert count(world, SUMMARY) == 3


def test_rule_of_vex_changes_with_issuers(image, world, make, tmp_path):
    """A document by nobody counts once somebody is an issuer."""
    office = Office(tmp_path)
    statement = openvex_statement(f"pkg:oci/hello@{CURATED.digest}", vulnerability={"name": "CVE-2026-1"})
    bundle = office.bob.sign(
        make_image_statement(CURATED, OPENVEX, openvex(statement, timestamp=make.noon.isoformat()))
    )
    world.registry.attach(CURATED, BUNDLE, bundle, {PREDICATE: OPENVEX})
    refused = make.report(make.finding("critical", id="CVE-2026-1"), at=make.noon + timedelta(days=1))
    assert not image(refused).passes

    office.issuers = {"acme": office.bob}
    office.terms = {"justifications": ["vulnerable_code_not_present"]}
    office.write_people()
    people = read_people(tmp_path / FILE, office.people_owner, NOON)
    trusting = RELEASE.with_decisions(people, Waivers(), Vex(terms=people.vex_terms))

    assert image(policy=trusting).passes
    assert not image().passes
