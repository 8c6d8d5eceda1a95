"""`evaluate` asks every rule and keeps every reason, and admits nothing without a rule."""

import dataclasses
import inspect
import re
from typing import Any

import pytest
from pydantic import ValidationError

from supply_chain.errors import PolicyInvalid, RuleNotEvaluated
from supply_chain.evidence import checks
from supply_chain.evidence.checks import Check
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy import fact_types, fact_values, facts, loading, reading, verdict
from supply_chain.policy import gate as gate_module
from supply_chain.policy.expressions import Values
from supply_chain.policy.fact_types import DeclaredValues, PlannedValues
from supply_chain.policy.fact_values import make_fact_values, make_working_copy_values
from supply_chain.policy.facts import ReleaseFacts
from supply_chain.policy.gate import SharedResults, evaluate, judge, judge_partly
from supply_chain.policy.outcome import Admitted, Reason, Refused, RuleOutcome, RuleResult, Unjudged
from supply_chain.policy.people import People
from supply_chain.policy.reading import read_deploy_facts, read_intake_facts, read_release_facts
from supply_chain.vulnerability import reports
from supply_chain.vulnerability.vex import csaf
from tests.support.builders import NOON, check, finding, report, source
from tests.support.facts import (
    CURATED,
    FACTS,
    OFFERED,
    intake_facts,
    provenance_of,
    release_facts,
    requirements,
)
from tests.support.policies import INTAKE, POLICIES, policy, refusing, rule


def always(*codes):
    return [refusing(Reason(code=code, fact="fact", remedy="remedy")) for code in codes]


def test_evaluate_keeps_all_reasons_in_order():
    """A refused developer learns all reasons at once."""
    verdict = evaluate(intake_facts(), policy(Gate.INTAKE, *always("a.a", "b.b", "c.c")), NOON)

    assert isinstance(verdict, Refused)
    assert [reason.code for reason in verdict.reasons] == ["a.a", "b.b", "c.c"]
    assert (verdict.image, verdict.gate) == (OFFERED, Gate.INTAKE)


def test_evaluate_admits_image_without_reasons():
    """The verdict contains the facts unchanged and the digest of the policy."""
    rules, given = policy(Gate.INTAKE), intake_facts()
    verdict = evaluate(given, rules, NOON)

    assert isinstance(verdict, Admitted)
    assert (verdict.facts, verdict.policy, verdict.gate) == (given, rules.digest, Gate.INTAKE)


def test_refusal_without_reasons_is_invalid():
    """A refusal without a reason would tell nobody what to do."""
    with pytest.raises(ValidationError):
        Refused(image=OFFERED, gate=Gate.RELEASE, policy="sha256:" + "0" * 64, reasons=())


def test_rule_that_cannot_be_evaluated_is_an_error():
    """It is never an admission, and never a rule that does not apply."""
    for changes in ({"expression": "image.build.name == 'hello'"}, {"when": "image.build.name == 'hello'"}):
        broken = policy(Gate.INTAKE, rule("a.b", **{"expression": "image.digest != ''", **changes}))

        with pytest.raises(RuleNotEvaluated, match=r"a\.b.*build"):
            evaluate(intake_facts(provenance=None), broken, NOON)


def test_image_that_no_policy_selects_is_not_admitted():
    """It is not judged, so nobody knows whether it may pass."""
    others = policy(Gate.INTAKE, select={"applications": ["another"]})

    with pytest.raises(PolicyInvalid, match=r"No policy .* selects hello"):
        evaluate(intake_facts(), others, NOON)


def partly(rules, kind=PlannedValues, **changes):
    """Judge what a working copy has of the facts of the intake gate; return it by rule."""
    facts = intake_facts(**changes)
    built = facts.provenance
    assert built is not None and facts.source_report is not None
    uncurated = None if kind is DeclaredValues else built.uncurated
    values = make_working_copy_values(
        built.declaration, built.source, uncurated, facts.checks, facts.source_report, None
    )
    return {each.rule: each for each in judge_partly(values, kind, rules, NOON)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"provenance": provenance_of(uncurated=("docker.io/library/python:3",), source=source(dirty=True))},
        {"checks": (check(Check.SECRETS, failed=("a.py:1: x", "b.py:2: y")), check(Check.SOURCE, passed=()))},
        {"source_report": report(*[finding("critical"), finding("low", known_exploited=True)], kind="starter")},
    ],
)
def test_rule_that_a_working_copy_decides_has_the_result_of_the_gate(changes):
    """Development and the gate must not disagree."""
    gate = {each.rule: each for each in judge(make_fact_values(intake_facts(**changes), People()), INTAKE, NOON)}

    found = partly(INTAKE, **changes)

    assert list(found) == list(gate)
    judged = {name: each for name, each in found.items() if isinstance(each, RuleResult)}
    assert judged.items() <= gate.items() and len(judged) == 25


def test_rule_that_needs_a_built_image_is_named_with_what_it_needs():
    """It is neither passed nor refused: nobody knows yet."""
    found = partly(INTAKE)

    needs = {name: each.needs for name, each in found.items() if isinstance(each, Unjudged)}
    assert needs["image.blocked"] == ("image.block",)
    assert needs["name.taken"] == ("image.name_conflict",)
    assert needs["tests.not-reported"] == ("image.checks.tests", "image.checks.tests_reported")
    checks = {each.value for each in Check} - {"dockerfile", "source", "secrets", "dependencies"}
    assert {name for name in needs if name.startswith(tuple(f"{each}." for each in checks))} > {"content.failed"}
    assert not any(name.startswith(("dockerfile.", "source.", "secrets.")) for name in needs)


def test_rule_about_signed_evidence_alone_is_not_judged():
    """A working copy has no evidence, and passes only because a build would sign it."""
    found = partly(INTAKE)

    for name, group in (("provenance.missing", "image.build"), ("dependencies.report-missing", "image.source_scan")):
        assert found[name] == Unjudged(rule=name, policy=found[name].policy, needs=(group,))


@pytest.mark.parametrize(
    ("change", "needs"),
    [
        ({"expression": "image.build.level != ''"}, ("image.build.level",)),
        ({"message": "{image.digest} is wrong"}, ("image.digest",)),
        ({"remedy": "see {image.build.builder}"}, ("image.build.builder",)),
        ({"when": "has(image.build.finished) && now > image.build.finished"}, ("image.build.finished",)),
        ({"for_each": "sentence in image.ignored", "expression": "sentence != image.build.name"}, ("image.ignored",)),
    ],
)
def test_own_rule_is_judged_only_if_all_its_facts_are_available(change, needs):
    """What decides is the facts that a rule reads, in its expressions and texts, and not its name."""
    given = {"expression": "image.build.name != 'hello'", "message": "{image.build.name}"}
    own = policy(Gate.INTAKE, rule("own.name", **given), rule("own.other", **{**given, **change}))

    found = partly(own)

    assert found["own.name"].result is RuleOutcome.REFUSED
    assert found["own.other"] == Unjudged(rule="own.other", policy="test 1", needs=needs)


def test_rule_about_the_dockerfile_is_not_judged_if_that_cannot_be_built():
    """Nobody knows then which bases it has."""
    found = partly(INTAKE, DeclaredValues)

    assert found["base.uncurated"].needs == ("image.build.uncurated",)
    assert [name for name, each in partly(INTAKE).items() if found[name] != each] == ["base.uncurated"]


def test_working_copy_that_no_policy_selects_is_an_error():
    """As at the gate."""
    with pytest.raises(PolicyInvalid, match=r"No policy .* selects hello"):
        partly(policy(Gate.INTAKE, select={"kinds": ["base"]}))
    unknown = partly(policy(Gate.INTAKE, select={"sources": ["upstream"]}), DeclaredValues)
    assert unknown, "the Dockerfile cannot be read, so that nobody knows"


def test_digest_covers_gate_documents_code_and_engine(monkeypatch):
    """What was judged by another policy, other facts or another engine is judged again."""
    given = policy(Gate.INTAKE)
    others = [policy(Gate.RELEASE), policy(Gate.INTAKE, *always("a.b")), policy(Gate.INTAKE, version=2)]
    assert policy(Gate.INTAKE).digest == given.digest

    for name in ("version", "read_code"):
        loading.compute_code_digest.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(loading, name, lambda *_: "another")
            others.append(policy(Gate.INTAKE))
    loading.compute_code_digest.cache_clear()

    assert len({each.digest for each in (given, *others)}) == 6


@pytest.mark.parametrize("module", [gate_module, reading, facts, fact_types, fact_values, checks, reports, csaf])
def test_digest_covers_module(module):
    """The facts, and the functions and tables that they are joined with, can change a verdict."""
    assert inspect.getsource(module) in loading.read_code()


@pytest.mark.parametrize(
    ("gate", "missing"),
    [
        (Gate.INTAKE, ["provenance.missing", "dependencies.report-missing"]),
        (Gate.RELEASE, ["provenance.missing", "sbom.missing", "scan.missing", "encryption.missing"]),
        (
            Gate.DEPLOY,
            [
                "provenance.missing",
                "signature.missing",
                "verdict.intake.missing",
                "verdict.release.missing",
                "sbom.missing",
                "scan.missing",
                "encryption.missing",
            ],
        ),
    ],
)
def test_gate_lists_everything_missing_if_there_is_no_evidence(world, gate, missing):
    """Without provenance the kind of the application is unknown, so no check is required."""
    store = world.store(TierName.EXECUTION)
    facts = {
        Gate.INTAKE: lambda: read_intake_facts(OFFERED, store, (), None),
        Gate.RELEASE: lambda: read_release_facts(CURATED, store, lambda _: (), (), None),
        Gate.DEPLOY: lambda: read_deploy_facts(CURATED, requirements(), store, bases=(), minimum_classification=None),
    }[gate]()

    verdict = evaluate(facts, POLICIES.select_gate(gate), NOON)

    assert isinstance(verdict, Refused)
    assert sorted(reason.code for reason in verdict.reasons) == sorted(missing)


@pytest.mark.parametrize("gate", Gate)
@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"uncurated": ("docker.io/library/python",)}, "docker.io/library/python"),
        ({"source": source(dirty=True)}, "uncommitted"),
    ],
)
def test_admission_notes_uncurated_base_and_uncommitted_changes(gate, changes, word):
    """A note informs the operator and does not refuse the image."""
    verdict = evaluate(FACTS[gate](provenance=provenance_of(**changes)), POLICIES.select_gate(gate), NOON)

    assert isinstance(verdict, Admitted)
    assert word in " ".join(verdict.notes)


@pytest.mark.parametrize("kind", ["starter", "official"])
@pytest.mark.parametrize("gate", Gate)
def test_admission_notes_report_of_starter_database(gate, kind):
    """The starter database knows few vulnerabilities; at the intake gate it judges the source."""
    changes: dict[str, Any] = {"source_report" if gate is Gate.INTAKE else "report": report(kind=kind)}

    verdict = evaluate(FACTS[gate](**changes), POLICIES.select_gate(gate), NOON)

    assert ["starter database" in note for note in verdict.notes] == ([True] if kind == "starter" else [])


@pytest.mark.parametrize("facts", [intake_facts(provenance=None, source_report=None), release_facts(report=None)])
def test_missing_provenance_or_report_gives_no_note(facts):
    """A rule refuses what is missing; a note is about what is there."""
    gate = Gate.RELEASE if isinstance(facts, ReleaseFacts) else Gate.INTAKE

    assert evaluate(facts, POLICIES.select_gate(gate), NOON).notes == ()


@pytest.mark.parametrize("gate", Gate)
@pytest.mark.parametrize("refused", [False, True])
def test_verdict_notes_referrers_that_were_ignored(refused, gate):
    """They may explain missing evidence, so both verdicts note them."""
    missing = {"provenance": None} if refused else {}
    facts = FACTS[gate](ignored_referrers=("left out 3 of what is attached",), **missing)

    verdict = evaluate(facts, POLICIES.select_gate(gate), NOON)

    assert isinstance(verdict, Refused) is refused
    assert verdict.notes == ("left out 3 of what is attached",)
    if refused:
        assert str(verdict).endswith("Warnings, which refuse nothing:\n  left out 3 of what is attached")


def test_refusal_text_shows_every_reason_and_a_remedy_in_sequence_once():
    """The text is for people."""
    text = str(evaluate(intake_facts(), policy(Gate.INTAKE, *always("a.b", "c.d")), NOON))

    assert str(OFFERED) in text
    assert "a.b" in text and "c.d" in text and text.count("remedy") == 1


@pytest.mark.parametrize("gate", Gate)
def test_every_fact_is_read(gate):
    """A fact that no rule can read, and that is not recorded, would be collected for nothing."""
    sources = "".join(inspect.getsource(module) for module in (gate_module, fact_values, verdict))
    read = set(re.findall(r"\bfacts\.(\w+)", sources))

    assert {field.name for field in dataclasses.fields(FACTS[gate]())} <= read


def test_policies_share_the_results_of_equal_rules():
    """A preview judges every image twice, by policies that are nearly the same."""
    first, image = policy(Gate.RELEASE, rule("a.a")), make_fact_values(release_facts(), People())
    second = policy(Gate.RELEASE, rule("a.a", severity="warn"), version=2)
    shared = SharedResults(Values.of(Gate.RELEASE, image, NOON))

    (before,) = judge(image, first, NOON, shared)
    (after,) = judge(image, second, NOON, shared)
    assert (before.result, after.result) == (RuleOutcome.REFUSED, RuleOutcome.WARNED)
    assert (before.policy, after.policy) == ("test 1", "test 2") and before.reasons == after.reasons

    shared.reasons[first.rules[0].deciding] = ()
    assert judge(image, second, NOON, shared)[0].result is RuleOutcome.PASSED
    assert judge(image, first, NOON) == (before,)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "b.b"}, {"when": "image.digest != 'x'"}, {"expression": "image.digest == 'x'"}, {"message": "other"},
        {"remedy": "other"}, {"waivable": False}, {"for_each": "each in image.ignored", "expression": "each == ''"},
    ],
    ids=str,
)  # fmt: skip
def test_rule_that_decides_otherwise_shares_no_result(changes):
    """What its reasons say, or whether it has some, may differ."""
    first, second = policy(Gate.RELEASE, rule("a.a")), policy(Gate.RELEASE, rule(**{"id": "a.a", **changes}))

    assert first.rules[0].deciding != second.rules[0].deciding


def test_one_element_of_a_long_list_is_the_only_reason():
    """The list is asked about in parts, and only those that do not hold are asked one by one."""
    high = rule(
        "a.b", for_each="each in image.scan.findings", expression="each.severity != 'high'", message="{each.id}"
    )
    findings = [finding("high" if n == 20 else "low", id=f"CVE-2026-{n}") for n in range(40)]
    verdict = evaluate(release_facts(report=report(*findings)), policy(Gate.RELEASE, high), NOON)

    assert isinstance(verdict, Refused) and [each.fact for each in verdict.reasons] == ["CVE-2026-20"]
