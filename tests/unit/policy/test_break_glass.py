"""Break-glass at the deploy gate: one person with the role lets a refused image run until it expires."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from supply_chain.evidence.break_glass import BreakGlass
from supply_chain.evidence.clock import SKEW
from supply_chain.evidence.image_status import Act, ImageStatus, LifecycleDecision
from supply_chain.evidence.summary import find_last_verdict, make_summary
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Admitted, Refused, RuleOutcome, find_used_break_glass
from supply_chain.policy.people import FILE, BreakGlassRole, People, read_people
from supply_chain.policy.policies import GatePolicy
from supply_chain.policy.verdict import record
from supply_chain.policy.vex import Vex
from supply_chain.policy.waivers import DIRECTORY, Waivers, read_waivers
from tests.support.builders import DIGEST, NOON, OTHER, declaration, finding, report
from tests.support.facts import CURATED, deploy_facts, requirements, verdicts
from tests.support.people import Office
from tests.support.policies import DEPLOY, policy, rule
from tests.support.present import present
from tests.support.signer import EcdsaSigner
from tests.support.world import World

END = NOON + timedelta(hours=8)
INSTANT = timedelta(microseconds=1)
NO_WAIVERS = Waivers()
FOUND = "CVE-2026-0001 in openssl 3.0.1"
"""The finding of `builders.finding`."""
OVERRIDDEN = (
    "signature.missing", "verdict.release.refused", "verdict.release.refused: x: f", "scan.critical",
    f"scan.critical: {FOUND}", "image.blocked", "a.b",
)  # fmt: skip
"""What a break-glass is signed for."""
FIRST = OVERRIDDEN[:3]
DECLARED = declaration(environments=["staging", "production"])


@pytest.fixture
def office(tmp_path: Path) -> Office:
    office = Office(tmp_path)
    office.write_people()
    return office


def opened(office: Office, signer: EcdsaSigner | None = None, **changes: Any) -> BreakGlass:
    """Sign a break-glass, as Ann by default."""
    values = {
        "environment": "production", "digest": DIGEST, "by": "ann", "reason": "outage", "at": NOON, "expires": END,
        "overrides": OVERRIDDEN, "installation": "example",
    }  # fmt: skip
    use = BreakGlass.model_validate(values | changes)
    return use.model_copy(update={"signature": (signer or office.ann).sign(use.statement(CURATED)).decode()})


def people(office: Office) -> People:
    return read_people(office.project / FILE, office.people_owner, NOON)


def refused_facts(*uses: BreakGlass, **changes: Any) -> DeployFacts:
    """Return facts of an image that the release gate refused for a critical vulnerability, without a signature."""
    given = {
        "signed": False, "verdicts": verdicts(intake=True, release=False), "report": report(finding("critical")),
        "environment": requirements("production"), "break_glass": uses,
    }  # fmt: skip
    return deploy_facts(DECLARED, **given | changes)


def judged(
    office: Office,
    facts: DeployFacts,
    now: Any = NOON,
    by: GatePolicy[DeployFacts] = DEPLOY,
    waivers: Waivers = NO_WAIVERS,
) -> Admitted[DeployFacts] | Refused:
    return evaluate(facts, by.with_decisions(people(office), waivers, Vex()), now)


def test_break_glass_admits_a_refused_image_until_it_expires(office: Office) -> None:
    """The rules are still listed with their reasons, and the verdict names person, end and reason."""
    facts = refused_facts(opened(office))
    refused = judged(office, refused_facts())
    assert isinstance(refused, Refused)
    codes = {each.code for each in refused.reasons}
    assert codes == {"signature.missing", "verdict.release.refused", "scan.critical"}

    for now in (NOON, END - INSTANT):
        verdict = judged(office, facts, now)
        assert isinstance(verdict, Admitted)
        overridden = [each for each in verdict.results if each.result is RuleOutcome.OVERRIDDEN]
        assert {each.rule for each in overridden} == codes and all(each.reasons for each in overridden)
        assert str(find_used_break_glass(verdict.results)) == "by ann until 2026-11-24 20:00 UTC: outage"
        note = "signature.missing is overridden: there is no signature of this digest by the curation tier's key "
        assert note + "(break-glass by ann until 2026-11-24 20:00 UTC: outage)" in verdict.notes
    after = judged(office, facts, END)
    assert (
        isinstance(after, Refused) and after.reasons == refused.reasons and find_used_break_glass(after.results) is None
    )


def test_break_glass_overrides_no_reason_that_comes_up_later(office: Office) -> None:
    """Its person never saw that. The reasons for which it was signed stay overridden."""
    use = opened(office, overrides=FIRST)

    verdict = judged(office, refused_facts(use))

    assert isinstance(verdict, Refused) and [each.code for each in verdict.reasons] == ["scan.critical"]
    assert any("signature.missing is overridden" in each for each in verdict.notes)
    widened = use.model_copy(update={"overrides": OVERRIDDEN})
    refused = judged(office, refused_facts(widened))
    assert isinstance(refused, Refused) and len(refused.reasons) == 3, "nobody signed the other codes"


def test_each_reason_is_overridden_by_the_use_that_names_it(office: Office) -> None:
    """The verdict ends with the first of them."""
    first = opened(office, overrides=FIRST, reason="first")
    codes = ("scan.critical", f"scan.critical: {FOUND}")
    second = opened(office, overrides=codes, expires=END - timedelta(hours=1), reason="second")

    verdict = judged(office, refused_facts(first, second))

    assert isinstance(verdict, Admitted) and verdict.expires == END - timedelta(hours=1)
    used = {each.rule: each.break_glass.reason for each in verdict.results if each.break_glass}
    assert used == {"signature.missing": "first", "verdict.release.refused": "first", "scan.critical": "second"}
    assert present(find_used_break_glass(verdict.results)).reason == "second"


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": OTHER},
        {"environment": "staging"},
        {"by": "bob"},
        {"expires": END + INSTANT},
        {"at": NOON + SKEW + INSTANT, "expires": END + SKEW},
    ],
    ids=["another image", "another environment", "another name", "too long", "signed in the future"],
)
def test_break_glass_beyond_role_of_its_person_has_no_effect(office: Office, changes: dict[str, Any]) -> None:
    """Execution's key alone lets nothing run."""
    assert isinstance(judged(office, refused_facts(opened(office, **changes))), Refused)


def test_break_glass_without_the_persons_signature_has_no_effect(office: Office) -> None:
    """Neither one that nobody signed, nor one that somebody else signed, nor a changed one."""
    good = opened(office)
    for use in (
        good.model_copy(update={"signature": ""}),
        opened(office, office.bob),
        good.model_copy(update={"expires": END + timedelta(hours=1), "at": NOON + timedelta(hours=1)}),
    ):
        assert isinstance(judged(office, refused_facts(use)), Refused)


def test_break_glass_ends_with_the_role_of_its_person(office: Office) -> None:
    """It is verified with today's people, at every decision."""
    facts = refused_facts(opened(office))
    assert isinstance(judged(office, facts), Admitted)

    office.break_glass = {"environments": ["staging"], "hours": 8}
    office.write_people()
    assert isinstance(judged(office, facts), Refused)
    office.break_glass = None
    office.write_people()
    assert isinstance(judged(office, facts), Refused)
    office.break_glass = {"environments": ["production"], "hours": 8}
    office.write_people(signer=office.bob)
    assert isinstance(judged(office, facts), Refused)
    office.ann = EcdsaSigner()
    office.write_people()
    assert isinstance(judged(office, facts), Refused), "her key was replaced"


def test_break_glass_counts_if_clock_of_person_is_minutes_ahead(office: Office) -> None:
    """Clocks differ by minutes."""
    assert isinstance(judged(office, refused_facts(opened(office, at=NOON + SKEW))), Admitted)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"status": ImageStatus(block=LifecycleDecision(act=Act.BLOCK, by="ann", reason="x", at=NOON))},
         "image.blocked"),
        ({"blocked_bases": {"curated/base/python": LifecycleDecision(act=Act.BLOCK, by="a", reason="x", at=NOON)}},
         "base.blocked"),
        ({"report": report(finding("low", known_exploited=True))}, "scan.known-exploited"),
        ({"verdicts": verdicts(release=False)}, "verdict.intake.missing"),
        ({"verdicts": verdicts(intake=True)}, "verdict.release.missing"),
    ],
)  # fmt: skip
def test_break_glass_overrides_no_block_and_no_unknown_image(
    office: Office, changes: dict[str, Any], code: str
) -> None:
    """What is exploited stays stopped, and both gates have to have judged this very digest."""
    verdict = judged(office, refused_facts(opened(office), **changes))

    assert isinstance(verdict, Refused) and [each.code for each in verdict.reasons] == [code]
    assert any("signature.missing is overridden" in each for each in verdict.notes)


def test_image_without_provenance_is_not_overridden(office: Office) -> None:
    """Nobody knows what it is."""
    verdict = judged(office, refused_facts(opened(office), provenance=None))

    assert isinstance(verdict, Refused) and [each.code for each in verdict.reasons] == ["provenance.missing"]


def test_policy_decides_which_rules_can_be_overridden(office: Office) -> None:
    """Also a block, if it says so."""
    blocks = {"id": "image.blocked", "expression": "!has(image.block)"}
    block = LifecycleDecision(act=Act.BLOCK, by="ann", reason="x", at=NOON)
    facts = refused_facts(opened(office), status=ImageStatus(block=block))

    for allowed in (True, False):
        own = policy(Gate.DEPLOY, rule(**blocks, break_glass=allowed))
        assert isinstance(judged(office, facts, by=own), Admitted if allowed else Refused)


def test_break_glass_that_lasts_longest_counts(office: Office) -> None:
    """The verdict ends with it."""
    short = opened(office, expires=END - timedelta(hours=7), reason="short")
    old = opened(office, at=NOON - timedelta(hours=9), expires=NOON - timedelta(hours=1), reason="old")
    for uses in ((short, opened(office), old), (opened(office), short)):
        found = present(find_used_break_glass(judged(office, refused_facts(*uses)).results))
        assert (found.reason, found.expires) == ("outage", END)


def test_image_that_passes_rests_on_no_break_glass(office: Office) -> None:
    """Nothing is overridden, so that the verdict does not end."""
    verdict = judged(
        office, deploy_facts(DECLARED, environment=requirements("production"), break_glass=(opened(office),))
    )

    assert isinstance(verdict, Admitted) and find_used_break_glass(verdict.results) is None and not verdict.notes


def test_note_is_not_overridden(office: Office) -> None:
    """It refuses nothing."""
    own = policy(Gate.DEPLOY, rule("a.b", severity="warn"))
    (result,) = judged(office, refused_facts(opened(office)), by=own).results

    assert (result.result, result.break_glass) == (RuleOutcome.WARNED, None)


def test_waived_rule_needs_no_break_glass(office: Office) -> None:
    """The break-glass overrides only what is still refused."""
    office.waive("all", rules=("scan.critical",))
    waivers = read_waivers(office.project / DIRECTORY, people(office), {"scan.critical": True}, NOON)
    verdict = judged(office, refused_facts(opened(office)), waivers=waivers)

    results = {each.rule: each.result for each in verdict.results}
    assert results["scan.critical"] is RuleOutcome.WAIVED
    assert results["signature.missing"] is RuleOutcome.OVERRIDDEN


@pytest.mark.parametrize("waived", [None, 1, 30])
def test_verdict_names_its_break_glass_and_ends_with_it(world: World, office: Office, waived: int | None) -> None:
    """Or with a waiver that ends first; the levels stay what the build earned."""
    if waived:
        office.waive("all", rules=("scan.critical",), expires=NOON + timedelta(hours=waived))
    waivers = read_waivers(office.project / DIRECTORY, people(office), {"scan.critical": True}, NOON)
    facts, store = refused_facts(opened(office)), world.store(TierName.EXECUTION)
    record(judged(office, facts, waivers=waivers), facts, store, NOON)

    place = CURATED.with_repository("evidence/execution/hello")
    last = present(find_last_verdict(store.read_verified(place, TierName.EXECUTION), Gate.DEPLOY, DIGEST)).value
    assert last.passed and last.cscm.break_glass == "by ann until 2026-11-24 20:00 UTC: outage"
    assert last.cscm.expires == (NOON + timedelta(hours=1) if waived == 1 else END)
    assert last.has_expired(END) and last.verified_levels == ("SLSA_BUILD_LEVEL_1",)


@pytest.mark.parametrize(("hours", "valid"), [(0, False), (1, True), (168, True), (169, False)])
def test_role_lasts_an_hour_to_a_week(hours: int, valid: bool) -> None:
    """One that never ends would be another policy."""
    with nullcontext() if valid else pytest.raises(ValueError, match="hours"):
        BreakGlassRole(environments=("production",), hours=hours)


def test_role_names_its_environments() -> None:
    """A role without any would look as if it allowed something."""
    with pytest.raises(ValueError, match="environments"):
        BreakGlassRole(environments=(), hours=1)


def test_break_glass_without_effect_says_why(office: Office) -> None:
    """The person is told before it is part of the evidence."""
    found = people(office)

    assert found.explain_uncounted_break_glass(opened(office), CURATED) == ""
    assert found.explain_uncounted_break_glass(opened(office, office.bob), CURATED) == (
        "it is not signed with a key of ann in deployments/people.yaml"
    )
    bob = opened(office, office.bob, by="bob")
    assert found.explain_uncounted_break_glass(bob, CURATED) == "bob may not break the glass for production"
    elsewhere = opened(office, environment="staging")
    assert found.explain_uncounted_break_glass(elsewhere, CURATED) == "ann may not break the glass for staging"
    long = opened(office, expires=END + timedelta(minutes=1))
    assert found.explain_uncounted_break_glass(long, CURATED) == (
        "it lasts until 2026-11-24 20:01, and ann may break the glass for 8 hours"
    )
    assert People(distrusted="no").explain_uncounted_break_glass(opened(office), CURATED) == "no"


CRITICAL = finding("critical")


@pytest.mark.parametrize(
    ("now", "overridden"),
    [
        ((CRITICAL,), True),
        ((CRITICAL, finding("critical")), True),
        ((CRITICAL, finding("critical", id="CVE-2026-0002")), False),
        ((finding("critical", id="CVE-2026-0002"),), False),
        ((CRITICAL, finding("critical", package="zlib")), False),
        ((CRITICAL, finding("critical", version="3.0.2")), False),
    ],
    ids=["the same", "twice", "one more", "another", "another package", "another version"],
)
def test_break_glass_overrides_no_finding_that_comes_up_later(
    office: Office, now: tuple[Any, ...], overridden: bool
) -> None:
    """Its person never saw that one. With the same code, everything would run until the end."""
    verdict = judged(office, refused_facts(opened(office), report=report(*now)))

    assert isinstance(verdict, Admitted) is overridden
    assert overridden or [each.code for each in getattr(verdict, "reasons", ())] == ["scan.critical"]


def test_break_glass_without_findings_overrides_no_rule_about_findings(office: Office) -> None:
    """Those of earlier versions name only the code."""
    use = opened(office, overrides=(*FIRST, "scan.critical"))

    verdict = judged(office, refused_facts(use))

    assert isinstance(verdict, Refused) and [each.code for each in verdict.reasons] == ["scan.critical"]


def test_waived_finding_needs_no_break_glass(office: Office) -> None:
    """The one that is left does."""
    office.waive("one", vulnerabilities=("CVE-2026-0002",))
    waivers = read_waivers(office.project / DIRECTORY, people(office), {"scan.critical": True}, NOON)
    both = report(CRITICAL, finding("critical", id="CVE-2026-0002"))

    assert isinstance(judged(office, refused_facts(opened(office), report=both), waivers=waivers), Admitted)
    assert isinstance(judged(office, refused_facts(opened(office), report=both)), Refused)


def test_break_glass_does_not_override_later_release_reasons(office: Office) -> None:
    """The code is the same, and what the release gate found since may be anything."""
    reason = {"code": "x", "fact": "f", "remedy": "r"}
    for others in ((), ({**reason, "code": "y"},), ({**reason, "fact": "a finding that the rule has later"},)):
        release = make_summary(
            CURATED, Gate.RELEASE, "sha256:" + "9" * 64, reasons=(reason, *others), notes=(), inputs=(), now=NOON
        )
        given = {**verdicts(intake=True), Gate.RELEASE: release}

        verdict = judged(office, refused_facts(opened(office), verdicts=given))

        codes = [each.code for each in getattr(verdict, "reasons", ())]
        assert codes == (["verdict.release.refused"] if others else [])
