"""Waivers: signed by somebody who may, for what they name, until they expire; otherwise they have no effect."""

import os
from dataclasses import replace
from datetime import timedelta
from time import process_time
from typing import Any

import pytest

from supply_chain.errors import PolicyInvalid
from supply_chain.evidence.summary import make_summary
from supply_chain.model.image import digest_of
from supply_chain.model.tier import Gate
from supply_chain.policy import fact_values, waivers
from supply_chain.policy import gate as gate_module
from supply_chain.policy.fact_types import PlannedValues
from supply_chain.policy.fact_values import make_working_copy_values
from supply_chain.policy.gate import evaluate, judge_partly
from supply_chain.policy.loading import read_project_waivers, read_unsigned_policies
from supply_chain.policy.outcome import Admitted, Reason, Refused, RuleOutcome, RuleResult, list_used_waivers
from supply_chain.policy.people import FILE, People, read_people
from supply_chain.policy.reviews import Review, ReviewDocument, Reviews
from supply_chain.policy.signed_documents import DocumentKind, Keyring, locate_signature
from supply_chain.policy.vex import Vex
from supply_chain.policy.waivers import (
    DIRECTORY,
    Waiver,
    WaiverDocument,
    Waivers,
    WaiverState,
    find_unmatched,
    read_waivers,
    waive_findings,
)
from supply_chain.vulnerability.findings import Severity
from supply_chain.vulnerability.vex.matching import VexTerms
from supply_chain.vulnerability.vex.statement import Justification
from tests.support.builders import DIGEST, NOON, declaration, finding, report
from tests.support.command import ROOT
from tests.support.facts import CURATED, deploy_facts, intake_facts, release_facts
from tests.support.people import EVERYTHING, Office
from tests.support.policies import POLICIES, policy, refusing, rule, with_waivers

WAIVABLE = {"scan.high": True, "scan.critical": True, "sbom.empty": True, "image.blocked": False, "a.b": True}
NONE = declaration(limits={"critical": 0, "high": 0, "medium": 0})


FOUND = {
    "id": "CVE-2026-1", "aliases": [], "severity": "high", "package": "zlib", "version": "1", "type": "deb",
    "fixed_in": [], "exploited": False, "text": "", "fix": "",
}  # fmt: skip


@pytest.fixture
def office(tmp_path):
    made = Office(tmp_path)
    made.write_people()
    return made


def read(office: Office, now: Any = NOON) -> Waivers:
    people = read_people(office.project / FILE, office.people_owner, now)
    return read_waivers(office.project / DIRECTORY, people, WAIVABLE, now)


def inert(office: Office, now: Any = NOON) -> str:
    """Return why the only waiver has no effect."""
    found = read(office, now)
    (about,) = found.reports
    assert (found.valid, about.state) == ((), WaiverState.INERT)
    return about.why


def judged(office, facts, gate=Gate.RELEASE, now=NOON):
    """Return the verdict by the shipped policies, with the waivers."""
    return evaluate(facts, POLICIES.with_decisions(People(), read(office), Vex()).select_gate(gate), now)


def codes(verdict):
    return [] if isinstance(verdict, Admitted) else [reason.code for reason in verdict.reasons]


def test_signed_waiver_is_active_and_reported_completely(office):
    """Operators see the same of every waiver."""
    office.waive("zlib", digests=(DIGEST,))
    (about,) = read(office).reports

    assert about.state is WaiverState.ACTIVE and about.why == ""
    assert (about.name, about.accepts, about.scope) == ("zlib", ("CVE-2026-1",), ("*", DIGEST))
    assert (about.requester, about.by, about.reason, about.ticket) == ("bob", "ann", "not reachable", "SEC-1")
    soon = NOON + timedelta(days=23)
    assert about.expires_soon(soon) and not about.expires_soon(soon - timedelta(seconds=1))
    assert not about.model_copy(update={"state": WaiverState.INERT}).expires_soon(soon)
    assert not about.model_copy(update={"expires": None}).expires_soon(soon)


def test_expired_waiver_is_named_as_expired(office):
    """Until that second it is active."""
    office.waive("zlib")
    end = NOON + timedelta(days=30)
    (before,), (after,) = (read(office, each).reports for each in (end - timedelta(seconds=1), end))

    assert (before.state, before.why) == (WaiverState.ACTIVE, "")
    assert (after.state, after.why) == (WaiverState.EXPIRED, "it expired on 2026-12-24")


def test_term_counts_from_the_signature(office):
    """As many days as the role says, and not a second more."""
    office.write_people(days=30)
    office.waive("zlib")
    assert read(office).valid

    office.waive("zlib", at=NOON - timedelta(seconds=1))
    assert "ann may waive for 30 days" in inert(office)


def test_inert_waiver_names_every_mistake(office):
    """One correction is enough then."""
    office.write_people(days=1, vulnerabilities=None)
    office.waive("zlib", requester="ann")

    assert len(inert(office).split("; ")) == 4


def test_person_without_vulnerabilities_waives_rules(office):
    """And the other way round."""
    office.write_people(vulnerabilities=None)
    office.waive("rule", rules=("scan.high",))
    assert [each.name for each in read(office).valid] == ["rule"]

    (waiver,) = read(office).valid
    assert not waiver.accepts_vulnerability(dict(FOUND), {"CVE-2026-1"})  # type: ignore[arg-type]


def test_waived_finding_stays_with_its_waiver(office):
    """Rules see it, and by whom it is accepted."""
    office.waive("zlib")
    other = {**FOUND, "id": "CVE-2026-2"}
    (valid,) = read(office).valid
    joined, used = waive_findings([FOUND, other], [valid])  # type: ignore[list-item]

    end = NOON + timedelta(days=30)
    waiver = {"name": "zlib", "digest": valid.digest, "by": "ann", "reason": "not reachable", "expires": end}
    assert joined == [{**FOUND, "waiver": waiver}, other] and list(used) == ["zlib"]


def test_unsigned_or_changed_waiver_has_no_effect(office):
    """Everybody who can write a file could otherwise waive."""
    file = office.waive("zlib")
    file.write_text(file.read_text().replace("CVE-2026-1", "CVE-2026-2"))
    assert inert(office) == "ann signed other content; it was changed since"

    locate_signature(file).unlink()
    assert inert(office) == "nobody signed it"


@pytest.mark.parametrize(
    ("role", "changes", "why"),
    [
        ({}, {"requester": "ann"}, "ann requested it and signed it; another person has to sign"),
        ({"vulnerabilities": None}, {}, "ann may accept no vulnerability"),
        ({}, {"rules": ("scan.nothing",)}, "there is no rule scan.nothing"),
        ({}, {"rules": ("image.blocked",)}, "nobody may waive the rule image.blocked"),
        ({"rules": ["sbom.*"]}, {"rules": ("scan.high",)}, "ann may not waive the rule scan.high"),
        ({"days": 29}, {}, "it lasts until 2026-12-24, and ann may waive for 29 days"),
        ({}, {"expires": NOON.replace(year=9999)}, "it lasts until 9999-11-24, and ann may waive for 90 days"),
    ],
)
def test_waiver_beyond_role_of_signer_has_no_effect(office, role, changes, why):
    """Roles, rules and terms limit what a signature is worth."""
    office.write_people(**role)
    office.waive("zlib", **changes)

    assert inert(office) == why


def test_waiver_by_person_without_role_has_no_effect(office):
    """Bob has a key and no role."""
    office.waive("zlib", signer=office.bob, requester="carl")

    assert inert(office) == "bob may waive nothing"


def test_waiver_by_a_removed_person_has_no_effect(office):
    """The people of today count, not those of the day of the signature."""
    office.waive("zlib")
    assert read(office).valid
    office.ann = office.bob
    office.bob = office.owner
    office.write_people()

    assert inert(office) == "no key that is trusted for it signed it"


def test_waiver_has_no_effect_if_the_people_do_not_count(office):
    """It says that the people are the cause."""
    office.waive("zlib")
    office.write_people(signer=office.bob)

    assert inert(office).startswith("deployments/people.yaml does not count: ")


def test_invalid_waiver_has_no_effect_and_stops_no_gate(office):
    """Its mistakes are named; every other waiver counts."""
    office.waive("zlib")
    office.write(office.project / DIRECTORY / "openssl.yaml", {"reason": "r"}, DocumentKind.WAIVER, None, NOON)
    found = read(office)

    assert [each.name for each in found.valid] == ["zlib"]
    assert [each.state for each in found.reports] == [WaiverState.INERT, WaiverState.ACTIVE]
    assert "openssl.yaml:" in found.reports[0].why


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rules": ("a.b",)}, "rules or vulnerabilities"),
        ({"vulnerabilities": ()}, "rules or vulnerabilities"),
        ({"vulnerabilities": (), "rules": ("a.b",), "packages": ("zlib",)}, "packages narrow vulnerabilities"),
        ({"applications": ()}, "for which images"),
        ({"environments": ("staging",)}, "environments narrow rules"),
        ({"reason": " "}, "reason"),
        ({"reason": "x" * 1001}, "reason"),
        ({"expires": None}, "expires"),
        ({"until": "now"}, "until"),
    ],
)
def test_waiver_without_clear_subject_and_scope_is_invalid(changes, why):
    """A waiver for everything is none."""
    given = {
        "vulnerabilities": ("CVE-1",), "applications": ("*",), "reason": "r", "ticket": "t", "requester": "bob",
        "expires": NOON,
    }  # fmt: skip
    assert WaiverDocument.model_validate(given | {"reason": "x" * 1000})
    with pytest.raises(ValueError, match=why):
        WaiverDocument.model_validate(given | changes)


@pytest.mark.parametrize("scope", ["shop *", "shop/", "*/shop", "base/**", "Shop", "/shop", "**", "a" * 129])
def test_scope_that_can_match_no_name_is_invalid(office, scope):
    """Its person would believe that it covers something."""
    office.waive("zlib", applications=(scope,))

    assert "applications" in inert(office)


@pytest.mark.parametrize(
    ("applications", "environments", "why"),
    [
        (("shop",), (), []),
        (("base/*", "base/python", "base/team/*", "*"), (), []),
        (("shp", "shop", "sho/*"), (), ["no known application matches shp", "no known application matches sho/*"]),
        (("basement/*",), (), ["no known application matches basement/*"]),
        ((), ("staging", "prod"), ["there is no environment prod"]),
    ],
)
def test_scope_that_covers_no_image_is_found(applications, environments, why):
    """A name can be of an application that does not exist yet: this is for people."""
    document = WaiverDocument.model_validate(
        {
            "rules": ["a.b"], "applications": applications, "digests": [] if applications else [DIGEST],
            "environments": environments, "reason": "r", "ticket": "t", "requester": "bob", "expires": NOON,
        }
    )  # fmt: skip

    assert list(find_unmatched(document, ("shop", "base/*"), ("staging",))) == why
    unknown = [each for each in why if "environment" in each]
    assert list(find_unmatched(document, None, ("staging",))) == unknown, "which applications exist is not known"


def test_scopes_of_many_waivers_are_compared_with_many_applications():
    """Each with every application would take a minute for 5,000 of both."""
    document = WaiverDocument.model_validate(
        {"rules": ["a.b"], "applications": ["teams/*", "b/*"], "reason": "r", "ticket": "t", "requester": "bob",
         "expires": NOON}
    )  # fmt: skip
    applications = tuple(f"team/{number}/service" for number in range(5000))

    started = process_time()
    found = {why for _ in range(200) for why in find_unmatched(document, applications, ())}

    assert found == {"no known application matches teams/*", "no known application matches b/*"}
    assert process_time() - started < 1


def test_waived_vulnerability_does_not_count_until_the_waiver_expires(office):
    """At the gates, and with its name in the verdict."""
    office.waive("zlib")
    facts = release_facts(NONE, report=report(finding(id="CVE-2026-1", severity=Severity.HIGH)))
    verdict, end = judged(office, facts), NOON + timedelta(days=30)

    assert codes(evaluate(facts, POLICIES.release, NOON)) == ["scan.high"]
    assert isinstance(verdict, Admitted)
    (waiver,) = list_used_waivers(verdict.results)
    assert (waiver.name, waiver.by, waiver.expires) == ("zlib", "ann", end)
    assert [each.rule for each in verdict.results if each.result is RuleOutcome.WAIVED] == ["scan.high"]
    assert any("scan.high is waived: 1 finding" in each and "zlib, signed by ann" in each for each in verdict.notes)
    assert codes(judged(office, facts, now=end - timedelta(seconds=1))) == []
    assert codes(judged(office, facts, now=end)) == ["scan.high"]


def test_every_gate_honours_a_waiver(office):
    """Those of the source are judged by the intake gate."""
    office.waive("zlib")
    found = report(finding(id="CVE-2026-1", severity=Severity.HIGH))

    for gate, facts in (
        (Gate.INTAKE, intake_facts(NONE, source_report=found)),
        (Gate.RELEASE, release_facts(NONE, report=found)),
        (Gate.DEPLOY, deploy_facts(NONE, report=found)),
    ):
        assert len(codes(evaluate(facts, POLICIES.select_gate(gate), NOON))) == 1, gate
        assert isinstance(judged(office, facts, gate), Admitted), gate


def test_other_findings_still_refuse(office):
    """The message counts only those that are not waived."""
    office.waive("zlib")
    findings = [finding(id=f"CVE-2026-{n}", severity=Severity.HIGH) for n in (1, 2)]
    verdict = judged(office, release_facts(NONE, report=report(*findings)))

    assert isinstance(verdict, Refused)
    (reason,) = verdict.reasons
    assert reason.code == "scan.high" and reason.fact.startswith("1 finding of severity high, 0 accepted: CVE-2026-2")
    assert list_used_waivers(verdict.results) == ()


@pytest.mark.parametrize(
    ("changes", "effect"),
    [
        ({"vulnerabilities": ("GHSA-1",)}, True),
        ({"vulnerabilities": ("ghsa-1",)}, True),
        ({"vulnerabilities": ("CVE-2026-11",)}, False),
        ({"packages": ("zlib",)}, True),
        ({"packages": ("openssl",)}, False),
        ({"applications": ("hello",)}, True),
        ({"applications": ("hello/*",)}, False),
        ({"applications": ("other",)}, False),
        ({"applications": (), "digests": (DIGEST,)}, True),
        ({"applications": (), "digests": ("sha256:" + "e" * 64,)}, False),
        ({"applications": ("hello",), "digests": ("sha256:" + "e" * 64,)}, False),
        ({"applications": ("other",), "digests": (DIGEST,)}, False),
        ({"rules": ("scan.high",), "environments": ("staging",)}, True),
        ({"rules": ("scan.high",), "environments": ("production",)}, False),
    ],
    ids=str,
)
def test_waiver_covers_only_what_it_names(office, changes, effect):
    """Vulnerability by name or alias, package, application and digest, and a rule in an environment."""
    office.waive("zlib", **changes)
    found = finding(id="CVE-2026-1", aliases=("GHSA-1",), package="zlib", severity=Severity.HIGH)
    verdict = judged(office, deploy_facts(NONE, report=report(found)), Gate.DEPLOY)

    assert isinstance(verdict, Admitted) is effect


def test_waiver_for_an_environment_has_no_effect_at_earlier_gates(office):
    """They do not know where the image will run."""
    office.waive("zlib", rules=("scan.high",), environments=("staging",))
    facts = release_facts(NONE, report=report(finding(id="CVE-2026-1", severity=Severity.HIGH)))

    assert codes(judged(office, facts)) == ["scan.high"]


@pytest.mark.parametrize(
    ("limit", "severity", "effect"),
    [
        ("high", Severity.HIGH, True),
        ("high", Severity.MEDIUM, True),
        ("high", Severity.CRITICAL, False),
        ("high", Severity.UNKNOWN, False),
        ("critical", Severity.UNKNOWN, True),
    ],
)
def test_signer_accepts_up_to_a_severity(office, limit, severity, effect):
    """A severity that nobody rated may be the worst."""
    office.write_people(vulnerabilities=limit)
    office.waive("zlib")
    limits = declaration(limits={"critical": 0, "high": 0, "medium": 0, "unknown": 0})
    facts = release_facts(limits, report=report(finding(id="CVE-2026-1", severity=severity)))

    assert isinstance(judged(office, facts), Admitted) is effect


OVER_FINDINGS = {
    "each finding": {"for_each": "each in image.SCAN.findings", "expression": "each.severity == 'low'"},
    "each severity": {"for_each": "each in image.SCAN.severities", "expression": "each.found == 0"},
    "number": {"expression": "size(image.SCAN.findings) == 0"},
    "group": {"expression": "[image.SCAN].all(s, size(s.findings) == 0)"},
}


@pytest.mark.parametrize(("gate", "scan"), [(Gate.INTAKE, "source_scan"), (Gate.RELEASE, "scan")])
@pytest.mark.parametrize("kind", OVER_FINDINGS)
@pytest.mark.parametrize(
    ("limit", "worst", "effect"),
    [("medium", "medium", True), ("medium", "high", False), (None, "medium", False), ("high", "unknown", False)],
)
def test_rule_over_findings_is_waived_up_to_a_severity(office, gate, scan, kind, limit, worst, effect):
    """Otherwise a waiver of the rule would accept what its signer may not accept one by one."""
    office.write_people(vulnerabilities=limit)
    office.waive("rule", rules=("a.b",))
    over = {key: text.replace("SCAN", scan) for key, text in OVER_FINDINGS[kind].items()}
    rules = with_waivers(policy(gate, rule("a.b", **over)), read(office).valid)
    found = report(finding(Severity.LOW), finding(id="CVE-2026-2", severity=Severity(worst)))
    facts = intake_facts(source_report=found) if gate is Gate.INTAKE else release_facts(report=found)

    assert isinstance(evaluate(facts, rules, NOON), Admitted) is effect


def test_finding_that_the_rule_passes_does_not_limit_its_waiver(office):
    """The rule asks about one after the other, and refuses only the lesser one."""
    office.write_people(vulnerabilities="medium")
    office.waive("rule", rules=("a.b",))
    over = {"for_each": "each in image.scan.findings", "expression": "each.severity != 'medium'"}
    rules = with_waivers(policy(Gate.RELEASE, rule("a.b", **over)), read(office).valid)
    found = report(finding(Severity.MEDIUM), finding(id="CVE-2026-2", severity=Severity.CRITICAL))

    assert isinstance(evaluate(release_facts(report=found), rules, NOON), Admitted)


def test_known_exploited_vulnerability_cannot_be_waived(office):
    """Nobody may accept it, whatever the waiver says."""
    office.waive("zlib")
    exploited = finding(id="CVE-2026-1", severity=Severity.HIGH, known_exploited=True)

    assert codes(judged(office, release_facts(NONE, report=report(exploited)))) == ["scan.known-exploited"]


def test_unwaivable_rule_ignores_waivers(office):
    """Neither in its list nor in counts."""
    office.waive("zlib")
    counting = "size(image.scan.findings) == 0"
    loop = {"for_each": "each in image.scan.findings", "expression": "each.severity != 'high'"}
    rules = [
        rule("a.count", expression=counting, waivable=False),
        rule("a.each", waivable=False, **loop),
        rule("a.severities", expression="image.scan.severities.all(s, s.found == 0)", waivable=False),
        rule("b.each", **loop),
    ]
    valid = read(office).valid
    facts = release_facts(report=report(finding(id="CVE-2026-1", severity=Severity.HIGH)))
    bare = policy(Gate.RELEASE, *rules)
    waived = with_waivers(bare, valid)

    assert codes(evaluate(facts, bare, NOON)) == ["a.count", "a.each", "a.severities", "b.each"]
    assert codes(evaluate(facts, waived, NOON)) == ["a.count", "a.each", "a.severities"]


def test_rule_is_waived_as_a_whole(office):
    """By the waiver that lasts longest."""
    office.waive("short", rules=("a.b",), expires=NOON + timedelta(days=1))
    office.waive("long", rules=("a.b", "scan.high"))
    rules = policy(Gate.RELEASE, refusing(Reason(code="a.b", fact="f", remedy="r")))
    verdict = evaluate(release_facts(), with_waivers(rules, read(office).valid), NOON)

    assert [each.name for each in list_used_waivers(verdict.results)] == ["long"]
    assert verdict.notes == ("a.b is waived: f (waiver long, signed by ann, until 2026-12-24: not reachable)",)


def test_waivers_are_looked_up_only_if_a_rule_refuses(office, monkeypatch):
    """An admitted image costs nothing more where a project has thousands of waivers."""
    office.waive("zlib")
    waived = with_waivers(policy(Gate.RELEASE), read(office).valid)
    monkeypatch.setattr(gate_module, "_find_waivers", lambda *_: pytest.fail("they are looked up"))

    assert isinstance(evaluate(release_facts(), waived, NOON), Admitted)


def test_verdict_rests_on_no_waiver_that_it_does_not_need(office):
    """Otherwise it would end with it."""
    office.waive("zlib")
    office.waive("rule", rules=("scan.high",))
    facts = release_facts(
        declaration(limits={"high": 1}), report=report(finding(id="CVE-2026-1", severity=Severity.HIGH))
    )
    verdict = judged(office, facts)

    assert isinstance(verdict, Admitted) and list_used_waivers(verdict.results) == ()


def test_longest_waiver_of_a_finding_counts(office):
    """A short one does not end what a longer one accepts."""
    office.waive("short", expires=NOON + timedelta(days=1))
    office.waive("long")
    facts = release_facts(NONE, report=report(finding(id="CVE-2026-1", severity=Severity.HIGH)))

    assert [each.name for each in list_used_waivers(judged(office, facts).results)] == ["long"]


@pytest.fixture
def compared(monkeypatch):
    """The comparisons of a waiver with a finding."""
    made: list[Any] = []
    accepts = Waiver.accepts_vulnerability

    def counting(*given: Any) -> bool:
        made.append(given)
        return accepts(*given)

    monkeypatch.setattr(Waiver, "accepts_vulnerability", counting)
    return made


def many_waivers(office: Office, number: int, **changes: Any) -> list[Waiver]:
    """Return valid waivers that differ in their name; `changes` are functions of their number."""
    office.waive("zlib")
    (waiver,) = read(office).valid
    return [
        replace(
            waiver,
            name=f"w{n}",
            document=waiver.document.model_copy(update={name: change(n) for name, change in changes.items()}),
        )
        for n in range(number)
    ]


def test_finding_is_compared_with_one_waiver_of_its_vulnerability(office, compared):
    """The longest one decides; those of other vulnerabilities are not compared."""
    others = many_waivers(office, 300)
    found = [{**FOUND, "id": f"CVE-2026-{n}"} for n in range(100)]

    joined, used = waive_findings(found, others)  # type: ignore[arg-type]

    assert (len(joined), list(used), len(compared)) == (100, ["w99"], 1)


@pytest.mark.parametrize(
    "finding",
    [
        lambda n: {"id": f"CVE-2026-{n}"},
        lambda n: {"package": f"lib{n}"},
        lambda n: {"id": f"CVE-2026-{n % 9}", "package": f"lib{n}"},
        lambda n: {"id": f"GHSA-{n}", "aliases": [f"CVE-2026-{n}"]},
    ],
    ids=["vulnerabilities", "packages of one vulnerability", "both", "aliases"],
)
def test_50000_findings_are_compared_with_5000_waivers_at_most_once_each(office, compared, finding):
    """The number of comparisons is bounded by the sum of both, and not by their product; every tenth is accepted."""
    first = [finding(10 * n) for n in range(5000)]
    waivers = many_waivers(
        office,
        5000,
        vulnerabilities=lambda n: (*first[n].get("aliases", []), first[n].get("id", FOUND["id"])),
        packages=lambda n: (first[n].get("package", FOUND["package"]),),
    )
    found: Any = [{**FOUND, **finding(n)} for n in range(50_000)]

    joined, used = waive_findings(found, waivers)

    assert [each.get("waiver", {}).get("name") for each in joined] == [
        None if n % 10 else f"w{n // 10}" for n in range(50_000)
    ]
    assert len(used) == 5000 and len(compared) <= 55_000


def test_image_with_50000_findings_and_5000_waivers_is_judged(office, compared):
    """Each finding that no waiver accepts counts, and the verdict rests on all waivers."""
    waivers = many_waivers(office, 5000, vulnerabilities=lambda n: (f"CVE-2026-{n}",))
    found = [finding(id=f"CVE-2026-{n}", severity=Severity.HIGH) for n in range(50_000)]
    facts = release_facts(declaration(limits={"high": 45_000}), report=report(*found))

    verdict = evaluate(facts, with_waivers(POLICIES.release, tuple(waivers)), NOON)

    assert isinstance(verdict, Admitted) and len(list_used_waivers(verdict.results)) == 5000
    assert len(compared) <= 55_000


def test_findings_of_one_vulnerability_are_accepted_by_package(office):
    """A waiver for one package lasts as long as it does, one for all packages as long as that."""
    day = timedelta(days=1)
    office.waive("zlib", packages=("zlib",), expires=NOON + 3 * day)
    office.waive("short", packages=("zlib", "bash"), expires=NOON + day)
    office.waive("all", expires=NOON + 2 * day)
    office.waive("late", packages=("zlib",), expires=NOON + day)
    found: Any = [{**FOUND, "package": each} for each in ("zlib", "bash", "", "*")]

    joined, used = waive_findings(found, read(office).valid)

    assert [each["waiver"]["name"] for each in joined] == ["zlib", "all", "all", "all"] and len(used) == 2


def test_waiver_of_a_package_called_star_is_not_for_every_package(office):
    """Only applications have such a scope."""
    office.waive("star", packages=("*",))
    found: Any = [{**FOUND, "package": each} for each in ("zlib", "", "*")]

    joined, _ = waive_findings(found, read(office).valid)

    assert ["waiver" in each for each in joined] == [False, False, True]


def test_severity_of_each_finding_is_compared(office):
    """The same vulnerability is worse in one package than in another."""
    office.write_people(vulnerabilities="medium")
    office.waive("zlib")
    found: Any = [{**FOUND, "severity": each} for each in ("high", "medium", "low", "high")]

    joined, _ = waive_findings(found, read(office).valid)

    assert ["waiver" in each for each in joined] == [False, True, True, False]


def test_unchanged_waivers_are_verified_once(office, monkeypatch):
    """Each gate reads all of them; a person who is removed in between signs none any more."""
    for n in range(50):
        office.waive(f"w{n}")
    assert len(read(office).valid) == 50
    with monkeypatch.context() as patched:
        patched.setattr(Keyring, "find_signer", lambda *_: pytest.fail("it is verified again"))
        people = read_people(office.project / FILE, office.people_owner, NOON)
        assert len(read_waivers(office.project / DIRECTORY, people, WAIVABLE, NOON).valid) == 50

    people = replace(people, keys={"bob": people.keys["bob"]})
    assert read_waivers(office.project / DIRECTORY, people, WAIVABLE, NOON).valid == ()


def test_unsigned_waiver_is_not_parsed(office, monkeypatch):
    """Parsing a large one takes seconds, at every gate."""
    office.waive("zlib", signer=office.owner)
    monkeypatch.setattr(waivers, "parse_document", lambda *_: pytest.fail("it is parsed"))

    assert inert(office) == "no key that is trusted for it signed it"


def test_waiver_with_a_strange_name_has_no_effect(office):
    """Its name is part of signed notes, which nobody else writes."""
    file = office.waive("zlib")
    for name in ("a\nnote: all is well", "ZLIB", "ä"):
        office.write(file.with_name(f"{name}.yaml"), {}, DocumentKind.WAIVER, None, NOON)
    pipe = file.with_name("pipe.yaml")
    os.mkfifo(pipe)
    found = read(office)

    assert [each.name for each in found.valid] == ["zlib"]
    wrong = [each for each in found.reports if each.state is WaiverState.INERT]
    assert [each.why for each in wrong if each.name == "pipe"] == ["it is not a file"] and len(wrong) == 4
    assert not any("\n" in each.name for each in wrong)


def test_expired_waiver_is_not_valid(office):
    """A rescan judges every image again while there is one."""
    office.waive("zlib")

    assert read(office, NOON + timedelta(days=30)).valid == ()


@pytest.mark.parametrize(
    ("names", "effect"),
    [
        (("CVE-2026-1002",), False),
        (("CVE-2026-1001", "CVE-2026-1002"), True),
        (("GHSA-1", "CVE-2026-1002"), False),
        (("RHSA-2026:7",), True),
        (("GHSA-1",), True),
    ],
)
def test_advisory_is_accepted_with_all_of_its_vulnerabilities(office, names, effect):
    """One of several CVEs is not the advisory."""
    office.waive("zlib", vulnerabilities=names)
    advisory = finding(id="RHSA-2026:7", aliases=("CVE-2026-1001", "CVE-2026-1002", "GHSA-1"), severity=Severity.HIGH)

    assert isinstance(judged(office, release_facts(NONE, report=report(advisory))), Admitted) is effect


def test_finding_is_accepted_by_its_own_name(office):
    """An alias that is another vulnerability changes nothing."""
    office.waive("zlib", vulnerabilities=("CVE-2026-1001",))
    twin = finding(id="CVE-2026-1001", aliases=("CVE-2026-1002",), severity=Severity.HIGH)

    assert isinstance(judged(office, release_facts(NONE, report=report(twin))), Admitted)


def test_waiver_is_parsed_once(office, monkeypatch):
    """Each step of a run reads the policies again."""
    office.waive("zlib", reason="it is parsed once")
    read(office)
    monkeypatch.setattr(waivers, "parse_document", lambda *_: pytest.fail("it is parsed again"))

    assert read(office).valid


def test_waived_finding_does_not_change_condition_of_rule(office):
    """Otherwise a person who may waive no rule would switch one off."""
    office.write_people(rules=[])
    office.waive("zlib")
    vetted = rule(
        "a.b", when="image.scan.severities.exists(s, s.found > 0)", expression="image.application == 'vetted'"
    )
    facts = release_facts(NONE, report=report(finding(id="CVE-2026-1", severity=Severity.HIGH)))
    found = policy(Gate.RELEASE, vetted)

    assert codes(evaluate(facts, with_waivers(found, read(office).valid), NOON)) == ["a.b"]


@pytest.mark.parametrize("gate", [Gate.INTAKE, Gate.RELEASE])
def test_deploy_gate_refuses_a_verdict_whose_waiver_was_withdrawn(office, gate):
    """The intake gate judges no image twice, and the signature of the verdict remains."""
    file = office.waive("zlib")
    facts = resting(gate, f"zlib@{digest_of(file.read_bytes())}")

    assert codes(judged(office, facts, Gate.DEPLOY)) == []
    locate_signature(file).unlink()
    assert codes(judged(office, facts, Gate.DEPLOY)) == [f"verdict.{gate}.waived"]
    office.waive("zlib")
    assert codes(judged(office, facts, Gate.DEPLOY)) == []
    ended = {f"verdict.{gate}.waived", f"verdict.{gate}.ended"}
    assert ended <= set(codes(judged(office, facts, Gate.DEPLOY, NOON + timedelta(days=30))))


@pytest.mark.parametrize(
    "changes",
    [
        {"applications": ("other",)}, {"vulnerabilities": ("CVE-2026-9",)}, {"expires": NOON + timedelta(days=31)},
        {"reason": "it is another one"},
    ],
)  # fmt: skip
def test_another_waiver_with_the_name_does_not_count_for_a_verdict(office, changes):
    """Nobody knows what the gate would decide with it; also of two files, each counts by its own name."""
    digest = digest_of(office.waive("zlib").read_bytes())
    facts = resting(Gate.RELEASE, f"zlib@{digest}")
    office.waive("copied")
    assert codes(judged(office, facts, Gate.DEPLOY)) == []

    office.waive("zlib", **changes)

    assert codes(judged(office, facts, Gate.DEPLOY)) == ["verdict.release.waived"]
    assert codes(judged(office, resting(Gate.RELEASE, f"copied@{digest}"), Gate.DEPLOY)) == []


def test_verdict_that_names_no_document_rests_on_no_waiver(office):
    """Earlier versions wrote names alone: the image is judged again."""
    office.waive("zlib")

    assert codes(judged(office, resting(Gate.RELEASE, "zlib"), Gate.DEPLOY)) == ["verdict.release.waived"]


@pytest.mark.parametrize("gate", [Gate.INTAKE, Gate.RELEASE])
@pytest.mark.parametrize(("hours", "wanted"), [(1, False), (0, True), (-1, True)])
def test_deploy_gate_refuses_an_admission_that_has_ended(office, gate, hours, wanted):
    """With people.yaml, which was prolonged since: nobody judged the image by the people who decide now."""
    facts = resting(gate, expires=NOON + timedelta(hours=hours))
    verdict = judged(office, facts, Gate.DEPLOY)

    assert codes(verdict) == ([f"verdict.{gate}.ended"] if wanted else [])
    assert verdict.expires == (None if wanted else NOON + timedelta(hours=hours))


def resting(gate, *waivers, expires=NOON + timedelta(days=30)):
    """Return the facts of the deploy gate about an image whose admission by an earlier gate has an end."""
    last = make_summary(
        CURATED, gate, "sha256:" + "9" * 64, reasons=(), notes=(), inputs=(), now=NOON, waivers=waivers,
        expires=expires,
    )  # fmt: skip
    return deploy_facts(verdicts={**deploy_facts().verdicts, gate: last})


def test_project_is_read_with_its_waivers(office):
    """The shipped rules say which of them can be waived."""
    policies = office.project / "deployments/policies"
    policies.mkdir()
    for file in (ROOT / "deployments/policies").glob("*.yaml"):
        (policies / file.name).write_bytes(file.read_bytes())
    office.waive("high", rules=("scan.high",))
    office.waive("blocked", rules=("image.blocked",))
    office.write_people(rules=["scan.*", "image.*"])
    found = read_unsigned_policies(office.project, office.people_owner, NOON)

    assert [(each.name, each.state) for each in found.waivers.reports] == [
        ("blocked", WaiverState.INERT), ("high", WaiverState.ACTIVE),
    ]  # fmt: skip
    assert [each.waivers for each in found.gates] == [found.waivers.valid] * 3
    assert found.release.digest == POLICIES.release.digest
    assert EVERYTHING["rules"]


def test_image_that_no_policy_selects_is_not_admitted_by_a_waiver(office):
    """There is no rule to waive."""
    office.waive("rule", rules=("a.b",))
    nothing = policy(Gate.RELEASE, select={"applications": ["other"]})

    with pytest.raises(PolicyInvalid, match="No policy of the release gate selects hello"):
        evaluate(release_facts(), with_waivers(nothing, read(office).valid), NOON)


def test_working_copy_is_judged_with_waivers(office):
    """What the gate would admit, a check before the build admits too; a digest is not known then."""
    facts = intake_facts(NONE, source_report=report(finding(id="CVE-2026-1", severity=Severity.HIGH)))
    assert facts.provenance is not None and facts.source_report is not None
    built = facts.provenance
    copy: Any = make_working_copy_values(built.declaration, built.source, [], facts.checks, facts.source_report, None)

    def refusals():
        policies = POLICIES.with_decisions(People(), read(office), Vex()).intake
        results = judge_partly(copy, PlannedValues, policies, NOON)
        return [each.rule for each in results if isinstance(each, RuleResult) and each.result is RuleOutcome.REFUSED]

    assert refusals() == ["dependencies.high"]
    office.waive("zlib", applications=(), digests=(DIGEST,))
    assert refusals() == ["dependencies.high"]
    office.waive("zlib")
    assert refusals() == []


def test_only_accepted_elements_of_a_list_are_left_out(office):
    """Those after it are judged, and one that holds needs no waiver."""
    office.waive("zlib")
    high = rule(
        "a.b", for_each="each in image.scan.findings", expression="each.severity != 'high'", message="{each.id}"
    )
    policies = with_waivers(policy(Gate.RELEASE, high), read(office).valid)
    waived, other = (finding(id=f"CVE-2026-{n}", severity=Severity.HIGH) for n in (1, 2))
    low = finding(id="CVE-2026-3", severity=Severity.LOW)

    def facts(of):
        verdict = evaluate(release_facts(report=report(*of)), policies, NOON)
        return [] if isinstance(verdict, Admitted) else [reason.fact for reason in verdict.reasons]

    assert facts([waived, other, low]) == ["CVE-2026-2"]
    assert facts([waived, low]) == facts([low]) == []


def test_text_element_of_list_cannot_be_waived(office):
    """Lists of texts have no waivers."""
    office.waive("zlib")
    each = rule("a.b", for_each="each in image.ignored", message="{each}")
    policies = with_waivers(policy(Gate.RELEASE, each), read(office).valid)

    assert codes(evaluate(release_facts(ignored_referrers=("a waiver",)), policies, NOON)) == ["a.b"]


def test_longest_waiver_counts_whatever_name_it_uses(office):
    """One of the alias may last longer than one of the vulnerability."""
    office.waive("short", expires=NOON + timedelta(days=1))
    office.waive("long", vulnerabilities=("GHSA-1",))
    both = finding(id="CVE-2026-1", aliases=("GHSA-1",), severity=Severity.HIGH)

    verdict = judged(office, release_facts(NONE, report=report(both)))
    assert [each.name for each in list_used_waivers(verdict.results)] == ["long"]


def test_findings_are_joined_with_waivers_once(office, monkeypatch):
    """However many rules refuse the image."""
    office.waive("zlib")
    rules = [rule(each, expression="size(image.scan.findings) == 0") for each in ("a.b", "b.c")]
    policies = with_waivers(policy(Gate.RELEASE, *rules), read(office).valid)
    joined = []
    apply = fact_values.apply_waivers

    def counting(*given: Any) -> Any:
        joined.append(given)
        return apply(*given)

    monkeypatch.setattr(gate_module, "apply_waivers", counting)
    facts = release_facts(report=report(finding(id="CVE-2026-1", severity=Severity.HIGH)))

    assert codes(evaluate(facts, policies, NOON)) == ["a.b", "b.c"] and len(joined) == 1


def test_waived_rule_does_not_end_an_admission_when_it_becomes_effective(office):
    """The admission ends with the waiver; or when the rule refuses, if the waiver ends before."""
    upcoming = policy(Gate.RELEASE, rule("a.b", effective_on=NOON + timedelta(days=2)))
    office.waive("short", rules=("a.b",), expires=NOON + timedelta(days=1))
    short = with_waivers(upcoming, read(office).valid)
    office.waive("long", rules=("a.b",))
    long = with_waivers(upcoming, read(office).valid)

    assert [evaluate(release_facts(), each, NOON).expires for each in (short, long)] == [
        NOON + timedelta(days=2), NOON + timedelta(days=30),
    ]  # fmt: skip


def test_verdict_is_settled_only_without_waivers_and_time(office):
    """Otherwise a rescan judges the image again."""
    office.waive("zlib")
    waivers = read(office)
    timed = policy(Gate.RELEASE, rule("a.b", expression="now > image.scan.scanned"))

    assert POLICIES.release.is_settled and not timed.is_settled
    assert not POLICIES.with_decisions(People(), waivers, Vex()).release.is_settled


def test_version_of_policies_differs_with_each_decision_input(office):
    """Then published verdicts are judged again; without a change, not in every process."""
    people = read_people(office.project / FILE, office.people_owner, NOON)
    terms = VexTerms(accepted_justifications=frozenset(Justification), investigation_days=1, not_affected_days=365)
    reviewed = ReviewDocument(repository="https://git.example/shop", revision="a" * 40, reason="so")
    office.waive("zlib")
    (given,) = read(office).valid
    office.waive("zlib", reason="it is parsed once")
    changes: list[dict[str, Any]] = [
        {},
        {"digest": DIGEST},
        {"waivers": (given,)},
        {"waivers": read(office).valid},
        {"waivers": (replace(given, by="bob"),)},
        {"waivers": (replace(given, severity=Severity.LOW),)},
        {"people": people},
        {"people": replace(people, issuers={"acme": ()})},
        {"people": replace(people, vex_terms=terms)},
        {"vex": Vex(version="1")},
        *(
            {"reviews": Reviews((Review(reviewed, by, people.people["ann"], "one.yaml", DIGEST),))}
            for by in ("ann", "bob")
        ),
    ]

    versions = [replace(POLICIES.deploy, **each).version for each in changes]

    assert len({*versions}) == len(changes)
    assert terms.version == VexTerms.model_validate_json(terms.model_dump_json()).version
    assert str(sorted(Justification)) in terms.version


@pytest.mark.parametrize("waivable", [(True, True), (True, False), (False, True)], ids=str)
def test_rule_of_several_gates_is_waived_only_if_all_allow_it(office, waivable):
    """A waiver names the rule and no gate."""
    office.waive("rule", rules=("a.b",))
    people = read_people(office.project / FILE, office.people_owner, NOON)
    intake, release = (
        policy(gate, rule("a.b", waivable=each))
        for gate, each in zip((Gate.INTAKE, Gate.RELEASE), waivable, strict=True)
    )

    found = read_project_waivers(office.project, people, replace(POLICIES, intake=intake, release=release), NOON)

    assert bool(found.valid) is all(waivable)


def test_refused_image_is_judged_once_without_waivers(monkeypatch):
    """Most projects have none, and joining them costs as much as the first judgement."""
    monkeypatch.setattr(gate_module, "apply_waivers", lambda *_: pytest.fail("there is no waiver"))
    facts = release_facts(NONE, report=report(finding(severity=Severity.HIGH)))

    assert codes(evaluate(facts, POLICIES.release, NOON)) == ["scan.high"]
