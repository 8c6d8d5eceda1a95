"""The library of rules: each policy is valid by itself, tested completely, and means the same to another engine."""

import re
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import cel
import pytest

from supply_chain.model.tier import Gate
from supply_chain.policy.expressions import Values
from supply_chain.policy.fact_values import make_fact_values
from supply_chain.policy.gate import SharedResults, evaluate, judge
from supply_chain.policy.loading import DIRECTORY, read_documents, replace_policies
from supply_chain.policy.outcome import Refused, RuleOutcome
from supply_chain.policy.people import People
from supply_chain.policy.policies import Policies
from supply_chain.policy.rule_tests import TESTED, find_unnoticed, make_example_facts, refuses_nothing_tested
from tests.support.builders import NOON, declaration, finding, report
from tests.support.command import ROOT
from tests.support.facts import FACTS, deploy_facts, release_facts, requirements
from tests.support.policies import ENVIRONMENTS, LIBRARY, POLICIES

FILES = {file: content.decode() for file, content in read_documents(ROOT / DIRECTORY / "library").items()}
ALL = replace_policies(POLICIES, FILES, ENVIRONMENTS)
NAMES = {each.name for each in LIBRARY}
SUBJECTS = {
    "base", "checks", "classification", "container", "duties", "evidence", "own-packages", "provenance", "sbom",
    "schedule", "vulnerabilities",
}  # fmt: skip


def with_policy(name: str, **parameters: object) -> Policies:
    """Return the shipped policies with one of the library, as a file with other parameters."""
    text = FILES[f"{name}.yaml"]
    for key, value in parameters.items():
        line = next(each for each in text.splitlines() if each.startswith(f"  {key}: "))
        text = text.replace(line, f"  {key}: {value}", 1)
    return replace_policies(POLICIES, {f"{name}.yaml": text}, ENVIRONMENTS)


def refusals(facts, policies, now=NOON):
    """Return the codes for which a gate refuses."""
    verdict = evaluate(facts, policies, now)
    return [each.code for each in verdict.reasons] if isinstance(verdict, Refused) else []


def test_library_has_a_policy_for_each_subject():
    """Each is in a file of its name, so that whoever copies it finds it again."""
    assert {name.removesuffix(".yaml") for name in FILES} == NAMES == SUBJECTS


def test_library_is_not_active():
    """Only files directly in the directory are policies of the project."""
    assert not NAMES & {each.document.name for gate in Gate for each in POLICIES.select_gate(gate).policies}
    assert not read_documents(ROOT / DIRECTORY).keys() & FILES.keys()


@pytest.mark.parametrize("name", sorted(SUBJECTS))
def test_policy_is_valid_without_the_others(name):
    """An organisation copies one file."""
    policies = with_policy(name)

    assert name in {each.document.name for gate in Gate for each in policies.select_gate(gate).policies}


@pytest.mark.parametrize("gate", Gate)
def test_no_change_of_a_rule_of_the_library_passes_its_tests(gate):
    """A comparison the other way round, another number, a negation less: a test of the rule fails."""
    rules = [
        rule for policy in ALL.select_gate(gate).policies if policy.document.name in NAMES for rule in policy.tested
    ]

    assert rules and [(each.id, changed) for each in rules for changed in find_unnoticed(each, gate)] == []


@pytest.mark.parametrize("gate", Gate)
def test_parameters_of_the_library_switch_no_rule_off(gate):
    """Whoever copies a policy gets rules that refuse something."""
    policies = ALL.select_gate(gate).policies

    assert [
        rule.id for each in policies for rule in each.rules if refuses_nothing_tested(rule, gate, each.document.select)
    ] == []


def test_pages_named_in_policies_exist():
    """Whoever is refused reads them."""
    texts = [file.read_text(encoding="utf-8") for file in sorted((ROOT / DIRECTORY).rglob("*.yaml"))]
    named = {each for text in texts for each in re.findall(r"docs/[\w/.-]+\w", text)}

    assert named and [each for each in sorted(named) if not (ROOT / each).is_file()] == []


def test_rules_of_the_library_name_their_references():
    """An auditor asks which requirement a rule is for."""
    assert [rule.id for each in LIBRARY for rule in each.rules if not rule.references] == []


@pytest.mark.parametrize("gate", Gate)
def test_second_engine_agrees_about_the_library(gate):
    """An independent implementation of CEL, in Rust, gives the result of each test of each rule."""
    compared = 0
    for rule in (rule for policy in ALL.select_gate(gate).policies for rule in policy.tested):
        for test in rule.document.tests:
            data = {"image": dict(make_example_facts(gate, test.facts)), "now": test.now or TESTED}
            applies = rule.when is None or cel.evaluate(rule.when.text, data)
            expression = rule.loop.holds if rule.loop else rule.expression
            assert expression is not None
            if "getHours" in expression.text:
                continue  # it has no time zones; test_working_hours_follow_the_clock_of_the_place compares with Python
            assert (not applies or cel.evaluate(expression.text, data)) is test.passes, (rule.id, test.name)
            compared += 1
    assert compared > 50


@pytest.mark.parametrize("gate", Gate)
def test_rules_name_every_fact_that_they_read(gate):
    """A fact that no rule names with its group is not given to the engine; the results are the same with all facts."""
    bad = report(finding("critical"), finding("low", id="CVE-2026-2", known_exploited=True, epss=0.9))
    changes: dict[str, Any] = {"source_report" if gate is Gate.INTAKE else "report": bad}
    image = make_fact_values(FACTS[gate](**changes), People())
    policy, everything = ALL.select_gate(gate), SharedResults(Values.of(gate, image, NOON))

    assert judge(image, policy, NOON) == judge(image, policy, NOON, everything)
    (blocked,) = [rule for rule in policy.rules if rule.id == "image.blocked"]
    (exploited,) = [rule for rule in policy.rules if rule.id.endswith("known-exploited")]
    assert {blocked.names_of_image, exploited.names_of_image} <= policy.readers
    assert blocked.names >= {"image", "block", "text"} and "findings" not in blocked.names
    assert "text" in exploited.names and {"findings", "text"} & exploited.names_of_image == {"findings"}


def test_library_admits_the_examples_at_the_earlier_gates():
    """Its parameters fit the example facts; at the deploy gate, people have to approve first."""
    for gate in (Gate.INTAKE, Gate.RELEASE):
        results = judge(make_example_facts(gate, {}), ALL.select_gate(gate), TESTED)
        assert {each.result for each in results} <= {RuleOutcome.PASSED, RuleOutcome.NOT_APPLICABLE}


def test_leeway_ends_days_after_the_fix():
    """A parameter changes it; what the owner accepts stays a limit of its own."""
    day = datetime(2026, 11, 10, tzinfo=NOON.tzinfo)
    facts = deploy_facts(report=report(finding("medium", fixed_since=day)))

    assert refusals(facts, with_policy("vulnerabilities").deploy) == []
    assert refusals(facts, with_policy("vulnerabilities", medium="168h").deploy) == ["vulnerabilities.medium"]


@pytest.mark.parametrize(("severity", "counts_as"), [("unknown", "critical"), ("negligible", "low")])
@pytest.mark.parametrize("hours", [-1, 1])
def test_every_severity_has_a_leeway(severity, counts_as, hours):
    """What nobody rated may be the worst."""
    leeway = {"critical": timedelta(hours=48), "low": timedelta(days=90)}[counts_as]
    facts = deploy_facts(
        declaration(limits=dict.fromkeys(("critical", "high", "medium", "low"), None)),
        report=report(finding(severity, fixed_since=NOON - leeway - timedelta(hours=hours))),
    )

    expected = [f"vulnerabilities.{counts_as}"] if hours > 0 else []
    assert refusals(facts, with_policy("vulnerabilities").deploy) == expected


def test_unrated_finding_counts_as_a_critical_one():
    """Without a fix it has a leeway, and an application does not add it."""
    old = report(finding("unknown", fixed_in=(), published=NOON - timedelta(days=31)))
    assert "vulnerabilities.unfixed" in refusals(deploy_facts(report=old), with_policy("vulnerabilities").deploy)
    added = release_facts(report=report(finding("unknown")))
    assert "own-packages.fixable" in refusals(added, with_policy("own-packages").release)


def test_release_gate_refuses_only_findings_added_by_application():
    """What comes from a base is fixed there."""
    found = report(finding("medium"))
    packages = frozenset({("deb", "openssl", "pkg:deb/debian/openssl@3.0.1")})
    base = {"curated/base/python": packages}
    release = with_policy("own-packages").release

    assert refusals(release_facts(report=found), release) == ["own-packages.fixable"]
    assert refusals(release_facts(report=found, packages=packages, base_packages=base), release) == []


@pytest.mark.parametrize(
    ("local", "open"),
    [
        ("2026-03-27 08:59", False),
        ("2026-03-27 09:00", True),
        ("2026-03-28 12:00", False),
        ("2026-03-29 12:00", False),
        ("2026-03-30 08:59", False),
        ("2026-03-30 09:00", True),
        ("2026-10-23 16:59", True),
        ("2026-10-23 17:00", False),
        ("2026-10-26 08:59", False),
        ("2026-10-26 09:00", True),
    ],
)
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Pacific/Auckland", "UTC"])
def test_working_hours_follow_the_clock_of_the_place(local, open, zone):
    """Before and after the clocks change, an hour is that of the wall."""
    now = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone))
    policies = with_policy("schedule", zone=zone).deploy
    facts = deploy_facts(environment=requirements("production"))

    assert ("schedule.closed" not in refusals(facts, policies, now)) is open


def test_schedule_is_only_of_its_environments():
    """A weekend stops nobody from deploying to staging."""
    saturday = datetime.fromisoformat("2026-11-28T12:00:00+01:00")
    policies = with_policy("schedule").deploy

    assert "schedule.closed" not in refusals(deploy_facts(), policies, saturday)
    assert "schedule.closed" in refusals(deploy_facts(environment=requirements("production")), policies, saturday)
