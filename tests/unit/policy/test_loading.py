"""Policies that could not decide are rejected when they are read, with the place and what to do."""

import dataclasses
import json
import shutil
from contextlib import nullcontext
from datetime import timedelta
from itertools import count

import pytest

from supply_chain.errors import DeclarationInvalid, PolicyInvalid, RuleNotEvaluated
from supply_chain.evidence.summary import RefusedRule
from supply_chain.model.tier import Gate
from supply_chain.policy import loading
from supply_chain.policy.documents import RuleSeverity
from supply_chain.policy.expressions import Expression, Values, make_language
from supply_chain.policy.fact_types import NameConflictFacts
from supply_chain.policy.fact_values import make_fact_values
from supply_chain.policy.gate import evaluate, judge, refuse_name
from supply_chain.policy.loading import (
    DIRECTORY,
    fill_parameters,
    make_gate_policy,
    name_versions,
    read_policies,
    read_project_policies,
    read_proposed_policies,
    replace_policies,
)
from supply_chain.policy.outcome import Admitted, Refused, RuleOutcome
from supply_chain.policy.people import People
from supply_chain.policy.policies import Rule
from supply_chain.policy.refused_rules import NOT_WAIVABLE
from supply_chain.policy.rule_tests import TESTED, make_example_facts
from tests.support.builders import NOON, finding, report
from tests.support.command import ROOT
from tests.support.facts import deploy_facts, intake_facts, provenance_of, release_facts, requirements
from tests.support.policies import ENVIRONMENTS, INTAKE, POLICIES, policy, rule

RULE = {
    "id": "own.rule",
    "title": "Refuse if it is of others.",
    "expression": "image.application == 'shop'",
    "message": "it is {image.application}",
    "remedy": "take another",
    "tests": [
        {"name": "ours", "passes": True},
        {"name": "of others", "facts": {"application": "store"}, "passes": False},
    ],
}
POLICY = {"name": "own", "version": 3, "description": "Ours.", "gates": ["deploy"], "rules": [RULE]}
CRITICAL = {
    "id": "CVE-2026-1", "aliases": [], "severity": "critical", "package": "zlib", "version": "1", "type": "deb",
    "fixed_in": [], "exploited": False, "text": "t", "fix": "f",
}  # fmt: skip
PER_FINDING = {
    **RULE,
    "for_each": "finding in image.scan.findings",
    "expression": "finding.severity != 'critical'",
    "message": "{finding.id} in {finding.package}",
    "when": "has(image.scan)",
    "tests": [
        {"name": "none", "passes": True},
        {"name": "a critical one", "facts": {"scan": {"findings": [CRITICAL]}}, "passes": False},
    ],
}


@pytest.fixture
def read(tmp_path):
    """Return a function that reads the shipped policies with one more."""
    directory = tmp_path / "policies"
    shutil.copytree(ROOT / DIRECTORY, directory)

    def read(document):
        (directory / "own.yaml").write_text(json.dumps(document))
        return read_policies(directory, ENVIRONMENTS)

    return read


def with_rule(**changes):
    changed = {key: value for key, value in {**RULE, **changes}.items() if value is not None}
    return {**POLICY, "rules": [changed]}


def test_own_policy_is_asked_besides_the_shipped_ones(read):
    """An image has to pass every policy that selects it, and the refusal names the rule of the organisation."""
    policies = read(POLICY)

    verdict = evaluate(deploy_facts(), policies.deploy, NOON)

    assert isinstance(verdict, Refused)
    assert [(each.code, each.fact, each.remedy) for each in verdict.reasons] == [
        ("own.rule", "it is hello", "take another")
    ]
    (result,) = [each for each in verdict.results if each.result is RuleOutcome.REFUSED]
    assert (result.rule, result.policy) == ("own.rule", "own 3")
    assert policies.deploy.digest != POLICIES.deploy.digest and policies.release.digest == POLICIES.release.digest


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"expression": "image.nothing"}, r"policies/own\.yaml: rule own\.rule: .*undefined field 'nothing'"),
        ({"expression": "image.digest"}, "has to be a BOOL"),
        ({"expression": "1 < 2"}, "reads no fact"),
        ({"for_each": "word in image.ignored", "expression": "1 < 2"}, "reads no fact"),
        ({"matrix": [{"known": "x"}], "remedy": "do ${unknown}"}, "undeclared reference to 'unknown'"),
        ({"when": "image.digest"}, "has to be a BOOL"),
        ({"message": "it is {image.nothing}"}, "undefined field"),
        ({"remedy": "do {image.build}"}, "has to be a STRING or INT"),
        ({"for_each": "f in image.digest"}, "has to be a LIST"),
        ({"for_each": "now in image.ignored"}, "is a fact already"),
        ({"expression": "image.application == parameters.ours"}, "there is no parameter ours"),
        ({"tests": [{"name": "a", "passes": True}, {"name": "b", "passes": False}]}, "its test 'b' passes"),
        (
            {"tests": [{"name": "a", "passes": True, "facts": {"application": "x"}}, RULE["tests"][1]]},
            "its test 'a' fails, and has to be one that passes",
        ),
        (
            {"tests": [RULE["tests"][0], {"name": "c", "passes": False, "facts": {"x": 1}}]},
            r"test 'c': its facts do not fit the deploy gate: there is no fact image\.x",
        ),
        ({"expression": "image.soak.seconds > 1"}, r"test 'ours': rule own\.rule: .*cannot be evaluated"),
    ],
)
def test_rule_that_could_not_decide_is_rejected(read, changes, why):
    """It is found by `cscm policy check`, and no gate decides with it."""
    with pytest.raises(PolicyInvalid, match=why):
        read(with_rule(**changes))


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({**POLICY, "rules": []}, "at least 1"),
        (with_rule(expression=None), "has an expression, or for_each, or both"),
        (with_rule(remedy=None), "says what to do"),
        (with_rule(tests=[RULE["tests"][0]] * 2), "at least one test that passes and one that fails"),
        ({**POLICY, "gates": ["release", "deploy"], "select": {"environments": ["staging"]}}, "only the deploy gate"),
        (with_rule(id="own"), "own.yaml.*id"),
        (with_rule(effective_on="2026-01-01T00:00:00"), "timezone"),
        ({**POLICY, "owner": "me"}, "unknown key"),
        ({**POLICY, "version": 0}, "greater than or equal to 1"),
        ({**POLICY, "gates": []}, "at least 1"),
        (with_rule(title="x" * 1001), "at most 1000"),
        (with_rule(title=" "), "pattern"),
        (with_rule(expression=" "), "pattern"),
    ],
)
def test_document_that_is_incomplete_is_rejected(read, document, why):
    """The message has the line of the mistake."""
    with pytest.raises(DeclarationInvalid, match=why) as error:
        read(document)
    assert str(error.value).partition(":")[0].endswith("/policies/own.yaml")


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({**POLICY, "name": "image"}, "policies of the deploy gate named image are there twice"),
        (with_rule(id="image.blocked"), "rules of the deploy gate with the id image.blocked are there twice"),
        ({**POLICY, "rules": [RULE, {**RULE, "id": "own.other"}]}, "own.rule and own.other say the same"),
        ({**POLICY, "select": {"environments": ["stagin"]}}, "stagin, so that it selects no image"),
        ({**POLICY, "parameters": {"days": 3}}, "no rule uses the parameter days"),
    ],
)
def test_policies_that_contradict_or_do_nothing_are_rejected(read, document, why):
    """Two rules with one id would be one reason, and a selector of nothing is a rule that never fires."""
    with pytest.raises(PolicyInvalid, match=why):
        read(document)


def test_unchanged_policies_are_checked_once_in_a_process(read, monkeypatch):
    """Each gate of a run reads them, and a change of a file counts at once."""
    first = read(POLICY)
    monkeypatch.setattr(loading, "check_policy", None)

    assert read(POLICY).deploy.policies == first.deploy.policies
    with pytest.raises(TypeError):
        read({**POLICY, "version": 4})


@pytest.mark.parametrize("name", ["ours.yml", "OURS.YAML"])
def test_file_that_only_looks_like_a_policy_is_refused(tmp_path, name):
    """Its rules would decide nothing. Hidden files are an editor's."""
    shutil.copytree(ROOT / DIRECTORY, tmp_path / "policies")
    (tmp_path / "policies" / ".#ours.yaml").symlink_to("nowhere")
    before = loading.read_documents(tmp_path / "policies")
    assert {*before} == {file.name for file in (ROOT / DIRECTORY).glob("*.yaml")}
    (tmp_path / "policies" / name).write_text("name: ours")

    with pytest.raises(DeclarationInvalid, match=f"{name} does not have the name of a policy"):
        loading.read_documents(tmp_path / "policies")


def test_policies_of_a_project_know_its_environments(tmp_path):
    """A selector of an environment that is not there selects nothing."""
    shutil.copytree(ROOT / "deployments", tmp_path / "deployments")
    (tmp_path / "deployments/environments/test.yaml").write_text("name: test\n")
    (tmp_path / "own").mkdir()
    for file in (ROOT / DIRECTORY).glob("*.yaml"):
        shutil.copy(file, tmp_path / "own")
    (tmp_path / "own/own.yaml").write_text(json.dumps({**POLICY, "select": {"environments": ["test"]}}))

    assert len(read_proposed_policies(tmp_path, tmp_path / "own").deploy.policies) == 4
    assert len(read_project_policies(tmp_path).deploy.policies) == 3
    with pytest.raises(PolicyInvalid, match=r"select\.environments names test"):
        read_proposed_policies(ROOT, tmp_path / "own")


AGED = {
    **with_rule(
        for_each="finding in image.scan.findings",
        expression="has(finding.published) && now - finding.published <= duration(parameters.age)",
        message="{finding.id}",
        tests=[
            {"name": "new", "facts": {"scan": {"findings": [{**CRITICAL, "published": "2025-12-31T00:00:00Z"}]}},
             "passes": True},
            {"name": "old", "facts": {"scan": {"findings": [{**CRITICAL, "published": "2025-12-30T23:59:59Z"}]}},
             "passes": False},
        ],
    ),
    "tested_with": {"age": "24h"},
}  # fmt: skip


@pytest.mark.parametrize("age", ["24h", "1h", "720h"])
def test_parameter_may_change_without_its_tests(read, age):
    """Whoever copies a policy changes only the parameters; the rule is tested as before, and decides with them."""
    policies = read({**AGED, "parameters": {"age": age}})
    found = report(finding("low", published=NOON - timedelta(hours=24, seconds=1)))

    verdict = evaluate(deploy_facts(report=found), policies.deploy, NOON)

    assert isinstance(verdict, Refused) is (age != "720h")
    (own,) = [each for each in policies.deploy.policies if each.document.name == "own"]
    assert [each.document.expression for each in own.tested] == [
        'has(finding.published) && now - finding.published <= duration("24h")'
    ]
    assert own.rules[0].document.expression == own.tested[0].document.expression.replace("24h", age)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"parameters": {"age": "7d"}}, r"rule own\.rule, test 'new': rule own\.rule: .*cannot be evaluated"),
        ({"parameters": {"age": 7}}, r"test 'new': .*cannot be evaluated: .*duration\(int64\)"),
        ({"parameters": {"age": "7h"}, "tested_with": {"age": "23h"}}, "its test 'new' fails, and has to be one that"),
        ({"parameters": {"age": "7h"}, "tested_with": {}}, "its test 'new' fails, and has to be one that passes"),
        (
            {"parameters": {"age": "7h"}, "tested_with": {"old": "7h"}},
            "tested_with names old, which is not a parameter",
        ),
    ],
)
def test_parameter_with_which_a_rule_cannot_decide_is_rejected(read, changes, why):
    """It is found when it is changed, and not when the first image is judged."""
    with pytest.raises((PolicyInvalid, DeclarationInvalid), match=why):
        read({**AGED, **changes})


def test_directory_need_not_have_a_policy_of_each_gate(tmp_path):
    """Its policies are checked with the project's, and only they are returned."""
    (tmp_path / "own.yaml").write_text(json.dumps(POLICY))

    found = read_proposed_policies(ROOT, tmp_path)

    assert [str(each) for gate in Gate for each in found.select_gate(gate).policies] == ["own 3"]
    with pytest.raises(PolicyInvalid, match=r"no policy: no file there is called \*\.yaml"):
        read_proposed_policies(ROOT, tmp_path / "nothing")
    (tmp_path / "own.yaml").write_text(json.dumps(with_rule(id="image.blocked")))
    with pytest.raises(PolicyInvalid, match=r"image\.blocked are there twice"):
        read_proposed_policies(ROOT, tmp_path)


def test_no_gate_can_use_selected_policies(tmp_path):
    """They are not all: without any, an image is not admitted."""
    (tmp_path / "own.yaml").write_text(json.dumps(POLICY))

    with pytest.raises(PolicyInvalid, match="No policy of the intake gate selects hello"):
        evaluate(intake_facts(), read_proposed_policies(ROOT, tmp_path).intake, NOON)


def test_limits_of_a_document_include_their_bounds(read):
    """A first version, a long title, and a parameter that a rule uses."""
    bounded = {**POLICY, "version": 1, "parameters": {"ours": "shop"}, "rules": [
        {**RULE, "title": "x" * 1000, "expression": "image.application == parameters.ours"},
    ]}  # fmt: skip

    assert "own.rule" in {each.id for each in read(bounded).deploy.rules}


def test_list_and_its_elements_cannot_disagree():
    """What the engine says of the list would be lost if no element were found that breaks the rule."""
    (own,) = policy(Gate.DEPLOY, rule("a.b", for_each="word in image.ignored", expression="word != ''")).rules
    assert own.loop is not None
    other = make_language(Gate.DEPLOY).compile("size(image.ignored) == 5", "BOOL")
    broken = dataclasses.replace(own, loop=dataclasses.replace(own.loop, holds=other))

    with pytest.raises(RuleNotEvaluated, match="different results"):
        broken.reasons(Values.of(Gate.DEPLOY, make_example_facts(Gate.DEPLOY, {"ignored": ["x"]}), TESTED))


@pytest.mark.parametrize("wrong", [(), (0,), (10_500,), (3, 12_000)], ids=str)
def test_rule_judges_each_element_of_a_very_long_list(wrong):
    """The engine cannot judge more than 10,000 at once; the rule then neither passes nor ends the run."""
    (own,) = policy(Gate.DEPLOY, rule("a.b", for_each="word in image.ignored", expression="word != ''")).rules
    words = ["" if each in wrong else "x" for each in range(12_001)]

    reasons = own.reasons(Values.of(Gate.DEPLOY, make_example_facts(Gate.DEPLOY, {"ignored": words}), TESTED))

    assert reasons is not None and len(reasons) == len(wrong)


def test_only_rules_that_read_the_time_depend_on_it():
    """A verdict of the others stands until evidence or policy change."""
    assert POLICIES.deploy.depends_on_time and not POLICIES.release.depends_on_time
    assert not policy(Gate.DEPLOY, rule("a.b")).depends_on_time
    assert policy(Gate.DEPLOY, rule("a.b"), rule("c.d", expression="now > image.scan.scanned")).depends_on_time
    assert policy(Gate.DEPLOY, rule("a.b"), rule("c.d", effective_on=NOON)).depends_on_time


def test_rules_of_an_environment_are_those_that_read_its_facts():
    """What they refuse there is not refused elsewhere."""
    assert POLICIES.deploy.environment_rules == {
        "approval.by-committer", "approval.missing", "approval.denied", "approval.too-few", "approval.unverified",
        "placement.not-declared", "soak.missing", "tests.report-missing",
    }  # fmt: skip
    assert POLICIES.release.environment_rules == frozenset()


@pytest.mark.parametrize(
    ("changes", "select", "closed"),
    [
        ({}, {}, True),
        ({"severity": RuleSeverity.WARN}, {}, False),
        ({"effective_on": NOON + timedelta(days=1)}, {}, False),
        ({"effective_on": NOON}, {}, True),
        ({"when": "image.environment.name == 'staging'"}, {}, False),
        ({}, {"environments": ["staging"]}, False),
        ({}, {"applications": ["shop"]}, False),
        ({}, {"applications": ["hello"]}, True),
        ({}, {"classifications": ["confidential"]}, False),
        ({}, {"kinds": ["service"]}, False),
        ({}, {"sources": ["upstream"]}, False),
        ({"message": "{image.digest} waits", "remedy": "wait with {image.digest}"}, {}, True),
        ({"expression": "now < timestamp('2020-01-01T00:00:00Z') || image.bases.size() > 0"}, {}, False),
        ({"expression": "now > timestamp('2020-01-01T00:00:00Z')"}, {}, False),
    ],
)
def test_schedule_that_refuses_everything_now_closes_an_environment(changes, select, closed):
    """A rule that also reads facts of the image says nothing before the image is judged."""
    frozen = rule("a.freeze", **{"expression": "now < timestamp('2020-01-01T00:00:00Z')", **changes})

    assert policy(Gate.DEPLOY, frozen, select=select).is_closed("hello", "production", NOON) is closed


def test_gate_names_its_rules_and_its_schedules():
    """A refusal by a rule that there is no longer, or by a time that is over, does not count for ever."""
    frozen = rule("a.freeze", expression="now < timestamp('2020-01-01T00:00:00Z')")
    of = policy(Gate.DEPLOY, rule("a.b"), frozen)

    assert of.ids == {"a.b", "a.freeze"} and of.schedules == {"a.freeze"}


def test_gate_without_a_policy_is_rejected(tmp_path):
    """It would admit everything."""
    with pytest.raises(PolicyInvalid, match="no policy for the intake gate"):
        read_policies(tmp_path, ENVIRONMENTS)


def test_each_element_that_breaks_the_rule_is_a_reason(read):
    """A developer learns every finding at once."""
    policies = read({**POLICY, "rules": [PER_FINDING]})
    found = [finding("critical", id="CVE-1"), finding("high", id="CVE-2"), finding("critical", id="CVE-3")]

    results = judge_deploy(policies, report=report(*found))

    assert [reason.fact for reason in results["own.rule"].reasons] == ["CVE-1 in openssl", "CVE-3 in openssl"]
    assert judge_deploy(policies, report=None)["own.rule"].result is RuleOutcome.NOT_APPLICABLE
    assert judge_deploy(policies)["own.rule"].result is RuleOutcome.PASSED


def test_failing_elements_of_long_list_are_found_by_few_evaluations(monkeypatch):
    """Neither for the reasons nor for the positions: the engine takes about 30 µs for each question."""
    found = [finding("critical" if at in (100, 1499) else "low", id=f"CVE-{at}") for at in range(1500)]
    (asked,) = policy(
        Gate.DEPLOY, rule("a.b", for_each=PER_FINDING["for_each"], expression=PER_FINDING["expression"])
    ).rules
    image = make_fact_values(deploy_facts(report=report(*found)), People())
    values, times, evaluate_one = Values.of(Gate.DEPLOY, image, NOON), count(), Expression.evaluate
    monkeypatch.setattr(Expression, "evaluate", lambda self, of: (next(times), evaluate_one(self, of))[1])

    assert asked.find_refused(values) == (100, 1499)
    assert next(times) < 150


def test_failing_elements_of_a_long_list_are_reasons_in_order(read):
    """The list is asked about in parts: no part hides another, and the next rule reads the complete list."""
    rules = [
        {**PER_FINDING, "id": f"own.{name}", "expression": f"{PER_FINDING['expression']} && {also}"}
        for name, also in (("first", "has(image.scan)"), ("second", "finding.id != ''"))
    ]
    policies = read({**POLICY, "rules": rules})
    found = [finding("critical" if at in (0, 16, 17, 47, 49) else "low", id=f"CVE-{at}") for at in range(50)]

    results = judge_deploy(policies, report=report(*found))

    for name in ("own.first", "own.second"):
        reasons = [reason.fact.split()[0] for reason in results[name].reasons]
        assert reasons == ["CVE-0", "CVE-16", "CVE-17", "CVE-47", "CVE-49"]


def judge_deploy(policies, **changes):
    verdict = evaluate(deploy_facts(**changes), policies.deploy, NOON)
    return {each.rule: each for each in verdict.results}


def test_element_that_cannot_be_evaluated_is_an_error(read):
    """A finding without a probability is not one of probability 0, and one that is refused does not hide it."""
    by_probability = {
        **PER_FINDING,
        "expression": "finding.epss < 0.5",
        "tests": [
            {"name": "none", "passes": True},
            {"name": "likely", "facts": {"scan": {"findings": [{**CRITICAL, "epss": 0.9}]}}, "passes": False},
        ],
    }
    policies = read({**POLICY, "rules": [by_probability]})
    unknown = report(finding(epss=0.9), finding(epss=None, id="CVE-2"))

    with pytest.raises(RuleNotEvaluated, match=r"rule own\.rule.*epss"):
        evaluate(deploy_facts(report=unknown), policies.deploy, NOON)


def test_missing_list_of_for_each_is_an_error():
    """Without `when`, an absent report would be one without findings."""
    per_finding = rule("a.b", for_each="finding in image.scan.findings", expression="!finding.exploited")

    with pytest.raises(RuleNotEvaluated, match=r"There is no image\.scan\.findings"):
        evaluate(release_facts(report=None), policy(Gate.RELEASE, per_finding), NOON)


@pytest.mark.parametrize(
    ("value", "expression", "admitted"),
    [
        (["hello", "it's"], "image.application in parameters.ours", True),
        ("it's \"ä\\ \n", "size(parameters.ours) == 10 && image.signed", True),
        ("\N{GRINNING FACE}", "size(parameters.ours) == 1 && image.signed", True),
        (["other"], "image.application in parameters.ours", False),
        ("hello", "image.application == parameters.ours", True),
        (5, "size(image.application) == parameters.ours", True),
        (True, "image.signed == parameters.ours", True),
        (0.5, "parameters.ours < 1.0 && image.signed", True),
    ],
)
def test_parameter_is_used_as_its_value(value, expression, admitted):
    """The value is data: a quote in it ends no text."""
    document = rule("a.b", expression=expression, message="not {parameters.ours}", remedy="x")
    ours = tuple(value) if isinstance(value, list) else value

    compiled = policy(Gate.DEPLOY, fill_parameters(document, {"ours": ours}, set()))

    assert isinstance(evaluate(deploy_facts(), compiled, NOON), Admitted) is admitted


@pytest.mark.parametrize("name", ["Shop", "a//b", "/a", "a/", "*", "*/a", "a*", "a/*/b", "a b", "", "/*", "x" * 129])
def test_selector_that_matches_no_name_is_rejected(read, name):
    """No application can have such a name, so the policy would guard nothing."""
    with pytest.raises(DeclarationInvalid, match=r"select\.applications\.1"):
        read({**POLICY, "select": {"applications": ["shop/*", name]}})


@pytest.mark.parametrize(
    ("select", "severity", "is_rejected"),
    [
        ({"environments": ["staging", "production"]}, "deny", True),
        ({"environments": ["staging", "production"]}, "warn", False),
        ({"environments": ["staging"]}, "deny", False),
        ({"applications": ["shop", "store"]}, "deny", False),
        ({}, "deny", False),
    ],
)
def test_same_rule_of_two_policies_is_rejected_if_they_select_the_same(select, severity, is_rejected):
    """Whoever changes one of them believes to have changed the rule. One may refuse what the other one notes."""
    own = {**POLICY, "select": {"environments": ["production", "staging"]}, "parameters": {"ours": "shop"}}
    own["rules"] = [{**RULE, "expression": "image.application == parameters.ours"}]
    another = {
        **POLICY,
        "name": "another",
        "select": select,
        "rules": [{**RULE, "id": "another.rule", "expression": 'image.application == "shop"', "severity": severity}],
    }
    proposed = {"own.yaml": json.dumps(own), "another.yaml": json.dumps(another)}
    found = "the deploy gate say the same about the same images: another.rule of another and own.rule of own"

    with pytest.raises(PolicyInvalid, match=found) if is_rejected else nullcontext():
        replace_policies(POLICIES, proposed, ENVIRONMENTS)


@pytest.mark.parametrize(("signed", "broken"), [(True, "never.signed"), (False, "always.signed")])
def test_every_image_is_refused_by_one_of_two_policies_that_contradict(signed, broken):
    """All have to pass, so no order decides. The reason says which one the image breaks."""
    first = policy(Gate.DEPLOY, rule("always.signed", expression="image.signed"), name="first")
    second = policy(Gate.DEPLOY, rule("never.signed", expression="!image.signed"), name="second")
    for order in ((first, second), (second, first)):
        both = make_gate_policy(Gate.DEPLOY, [each.policies[0] for each in order])
        verdict = evaluate(deploy_facts(signed=signed), both, NOON)

        assert isinstance(verdict, Refused) and [each.code for each in verdict.reasons] == [broken]
        assert {each.policy: each.result for each in verdict.results} == {
            "first 1": RuleOutcome.PASSED if signed else RuleOutcome.REFUSED,
            "second 1": RuleOutcome.REFUSED if signed else RuleOutcome.PASSED,
        }


def test_rule_only_warns_until_it_is_effective():
    """Everybody sees what will be refused before it is."""
    later = policy(Gate.DEPLOY, rule("a.b", effective_on=NOON + timedelta(days=1)))

    before = evaluate(deploy_facts(), later, NOON)
    after = evaluate(deploy_facts(), later, NOON + timedelta(days=1))

    assert isinstance(before, Admitted) and before.notes == ("wrong",)
    assert before.expires == NOON + timedelta(days=1)
    assert isinstance(after, Refused) and after.expires is None and later.depends_on_time


def test_admission_ends_with_the_first_rule_that_refuses_the_image_then():
    """A rule that the image keeps, or that never refuses, ends nothing; nor does one that does not apply by then."""
    days = [NOON + each * timedelta(days=1) for each in range(5)]
    until = f"now < timestamp('{days[2]:%Y-%m-%dT%H:%M:%SZ}')"
    upcoming = policy(
        Gate.DEPLOY, rule("a.noted", severity="warn", effective_on=days[1]), rule("a.last", effective_on=days[4]),
        rule("a.kept", expression="image.signed", effective_on=days[1]), rule("a.first", effective_on=days[3]),
        rule("a.over", when=until, effective_on=days[2]),
    )  # fmt: skip

    assert evaluate(deploy_facts(), upcoming, NOON).expires == days[3]


@pytest.mark.parametrize(
    ("select", "selected"),
    [
        ({}, True),
        ({"applications": ["hello"]}, True),
        ({"applications": ["hell"]}, False),
        ({"applications": ["hello/*"]}, False),
        ({"applications": ["base/*", "hello"]}, True),
        ({"classifications": ["internal"]}, True),
        ({"classifications": ["confidential"]}, False),
        ({"kinds": ["base"]}, False),
        ({"kinds": ["service"], "environments": ["staging"]}, True),
        ({"environments": ["production"]}, False),
        ({"sources": ["curated"]}, True),
        ({"sources": ["upstream"]}, False),
        ({"sources": ["upstream", "curated"]}, True),
    ],
)
def test_selector_selects_images_that_match_every_key(select, selected):
    """Whatever it does not select is judged by the other policies."""
    own = policy(Gate.DEPLOY, rule("a.b"), select=select).policies[0]
    other = policy(Gate.DEPLOY).policies[0]

    verdict = evaluate(deploy_facts(environment=requirements()), make_gate_policy(Gate.DEPLOY, [own, other]), NOON)

    assert isinstance(verdict, Refused) is selected


def test_selector_selects_images_that_contain_upstream_images():
    """What is built with images from elsewhere may need other rules."""
    built = provenance_of(uncurated=("docker.io/library/python:3",))
    for sources, selected in ((["upstream"], True), (["curated"], False)):
        own = policy(Gate.DEPLOY, rule("a.b"), select={"sources": sources}).policies[0]
        verdict = evaluate(
            deploy_facts(provenance=built), make_gate_policy(Gate.DEPLOY, [own, policy(Gate.DEPLOY).policies[0]]), NOON
        )
        assert isinstance(verdict, Refused) is selected


def test_image_without_provenance_is_selected_by_every_classification():
    """Nobody knows what it is, so no policy is left out."""
    own = policy(
        Gate.DEPLOY,
        rule("a.b"),
        select={"classifications": ["confidential"], "kinds": ["base"], "sources": ["upstream"]},
    )

    assert isinstance(evaluate(deploy_facts(provenance=None), own, NOON), Refused)


def test_name_is_refused_before_the_build_only_by_the_rule():
    """An organisation may remove the rule; then nothing refuses the name."""
    conflict: NameConflictFacts = {"name": "hello", "holder": "them", "source": "us"}

    refused = refuse_name(conflict, INTAKE, NOON)

    assert refused is not None and refused.image is None and refused.application == "hello"
    assert [(each.code, each.fact) for each in refused.reasons] == [("name.taken", "hello is them; this is us")]
    assert refused.refused_rules == (
        RefusedRule(rule="name.taken", policy="intake 4", evidence=(), waiver=NOT_WAIVABLE),
    )
    assert refuse_name(conflict, policy(Gate.INTAKE), NOON) is None
    warning = policy(Gate.INTAKE, rule("name.taken", severity="warn", expression="!has(image.name_conflict)"))
    assert refuse_name(conflict, warning, NOON) is None
    elsewhere = policy(Gate.INTAKE, rule("name.taken", when="has(image.build)"), rule("always.refused"))
    assert refuse_name(conflict, elsewhere, NOON) is None, "it does not apply, and no other rule is asked"


def test_name_is_judged_once(monkeypatch):
    """Each evaluation asks the engine."""
    calls: list[str] = []
    reasons = Rule.reasons

    def counting(rule, values):
        calls.append(rule.id)
        return reasons(rule, values)

    monkeypatch.setattr(Rule, "reasons", counting)

    assert refuse_name({"name": "hello", "holder": "them", "source": "us"}, INTAKE, NOON) is not None
    assert calls == ["name.taken"]


def test_example_facts_of_a_gate_are_admitted():
    """The tests of rules change one fact of an image that is good otherwise."""
    for gate in Gate:
        results = judge(make_example_facts(gate, {}), POLICIES.select_gate(gate), TESTED)
        assert {each.result for each in results} <= {RuleOutcome.PASSED, RuleOutcome.NOT_APPLICABLE}


def test_same_facts_give_the_same_verdict():
    """A verdict is a function of facts, policies and time."""
    first, second = (evaluate(intake_facts(checks=()), INTAKE, NOON) for _ in range(2))

    assert isinstance(first, Refused) and isinstance(second, Refused)
    assert first.model_dump_json() == second.model_dump_json()


def test_proposed_policy_replaces_the_one_of_its_name():
    """It may be for other gates, and one of another name is added."""
    current = replace_policies(POLICIES, {"a.yaml": json.dumps(POLICY)}, ENVIRONMENTS)
    moved = {**with_rule(), "version": 4, "gates": ["release"]}

    proposed = replace_policies(current, {"b.yaml": json.dumps(moved)}, ENVIRONMENTS)

    def own(policies):
        return {
            gate: [str(p) for p in policies.select_gate(gate).policies if p.document.name == "own"] for gate in Gate
        }

    assert own(current) == {Gate.INTAKE: [], Gate.RELEASE: [], Gate.DEPLOY: ["own 3"]}
    assert own(proposed) == {Gate.INTAKE: [], Gate.RELEASE: ["own 4"], Gate.DEPLOY: []}
    assert proposed.deploy.policies == POLICIES.deploy.policies


def test_proposed_policy_that_cannot_decide_is_rejected():
    """The message names the file; a gate without a policy, or a rule that is there twice, is rejected too."""
    with pytest.raises(PolicyInvalid, match=r"^own.yaml: rule own.rule: "):
        replace_policies(POLICIES, {"own.yaml": json.dumps(with_rule(expression="image.nothing"))}, ENVIRONMENTS)
    only = dataclasses.replace(POLICIES, deploy=policy(Gate.DEPLOY, name="own"))
    with pytest.raises(PolicyInvalid, match="has no policy for the deploy gate"):
        replace_policies(only, {"own.yaml": json.dumps({**POLICY, "gates": ["release"]})}, ENVIRONMENTS)
    twice = {"a.yaml": json.dumps(POLICY), "b.yaml": json.dumps({**POLICY, "name": "another"})}
    with pytest.raises(PolicyInvalid, match=r"own\.rule are there twice"):
        replace_policies(POLICIES, twice, ENVIRONMENTS)


def test_two_policies_of_the_same_version_are_not_signed():
    """Of different gates they are valid. A changed one would be signed again under its version, as the other one."""
    policies = {f"{gate}.yaml": json.dumps({**POLICY, "gates": [gate]}).encode() for gate in ("intake", "deploy")}

    with pytest.raises(PolicyInvalid, match=r"^intake.yaml and deploy.yaml are both version 3 of the policy own\."):
        name_versions(policies)
    changed = json.dumps({**POLICY, "version": 4}).encode()
    named = {"versions/own.3": policies["intake.yaml"], "versions/own.4": changed}
    assert name_versions(policies | {"deploy.yaml": changed}) == named
