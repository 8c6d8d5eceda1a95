"""A found names the evidence of each rule that refuses, and how to ask for a waiver."""

from datetime import timedelta

import pytest

from supply_chain.evidence.statement import (
    APPROVAL,
    ENCRYPTION,
    LIFECYCLE,
    PROVENANCE,
    SBOM,
    SIGNATURE,
    SOAK,
    SUMMARY,
    TEST_RESULT,
    VULNERABILITIES,
    VerifiedStatement,
    make_image_statement,
)
from supply_chain.evidence.summary import Summary, name_verifier
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Reason, Refused
from supply_chain.policy.refused_rules import NOT_WAIVABLE, WAIVABLE
from supply_chain.policy.verdict import record
from tests.support.builders import NOON
from tests.support.facts import CURATED, FACTS, requirements
from tests.support.policies import policy, refusing, rule

OTHER = CURATED.with_repository("curated/other").with_digest("sha256:" + "b" * 64)
REASON = Reason(code="a.b", fact="f", remedy="r")
TIMES = {SBOM: "created", SUMMARY: "timeVerified", LIFECYCLE: "at"}


def statement(number, kind, predicate=None, signer=TierName.CURATION, ref=CURATED):
    return VerifiedStatement(
        digest=f"sha256:{number:064}", repository="curated/hello", signer=signer,
        statement=make_image_statement(ref, kind, predicate or {}),
    )  # fmt: skip


def refused_rules(expression, *evidence, gate=Gate.DEPLOY, reason=REASON, facts=None, **changes):
    """Return the refused_rules of a rule that does not hold."""
    denying = rule(reason.code, expression=f"({expression}) && 1 > 2", **changes)
    return refusal(FACTS[gate](evidence=evidence, **(facts or {})), policy(gate, denying)).refused_rules


def refusal(facts, asked):
    found = evaluate(facts, asked, NOON)
    assert isinstance(found, Refused)
    return found


def basis(expression, *evidence, **where):
    """Return the numbers of the statements that a rule rests on."""
    (found,) = refused_rules(expression, *evidence, **where)
    return [int(each.removeprefix("sha256:")) for each in found.evidence]


@pytest.mark.parametrize(("gate", "expression", "kind", "predicate", "signer"), [
    (Gate.DEPLOY, "has(image.build)", PROVENANCE, {}, TierName.DEVELOPMENT),
    (Gate.DEPLOY, "has(image.checks.tests)", TEST_RESULT, {"cscm": {"check": "tests"}}, TierName.DEVELOPMENT),
    (Gate.DEPLOY, "image.checks.tests_reported", TEST_RESULT, {"cscm": {"check": "tests"}}, TierName.DEVELOPMENT),
    (Gate.INTAKE, "has(image.source_scan)", VULNERABILITIES, {}, TierName.DEVELOPMENT),
    (Gate.DEPLOY, "has(image.scan)", VULNERABILITIES, {}, TierName.CURATION),
    (Gate.DEPLOY, "has(image.sbom)", SBOM, {}, TierName.CURATION),
    (Gate.DEPLOY, "has(image.examination)", SBOM, {}, TierName.CURATION),
    (Gate.DEPLOY, "has(image.encryption)", ENCRYPTION, {}, TierName.CURATION),
    (Gate.DEPLOY, "image.signed", SIGNATURE, {}, TierName.CURATION),
    (Gate.DEPLOY, "has(image.verdicts.release)", SUMMARY, {"verifier": {"id": name_verifier(Gate.RELEASE)}},
     TierName.CURATION),
    (Gate.DEPLOY, "has(image.approval)", APPROVAL, {"environment": "staging"}, TierName.EXECUTION),
    (Gate.DEPLOY, "size(image.approvers) > 0", APPROVAL, {"environment": "staging"}, TierName.EXECUTION),
    (Gate.DEPLOY, "has(image.soak)", SOAK, {}, TierName.EXECUTION),
    (Gate.DEPLOY, "has(image.block)", LIFECYCLE, {}, TierName.LIFECYCLE),
])  # fmt: skip
def test_refused_rule_names_the_statement_of_its_facts(gate, expression, kind, predicate, signer):
    """Anybody can look at what decided."""
    others = [statement(at, other) for at, other in enumerate((PROVENANCE, SBOM, SIGNATURE, SOAK), 2) if other != kind]

    assert basis(expression, statement(1, kind, predicate, signer), *others, gate=gate) == [1]
    assert basis(expression, *others, gate=gate) == []


@pytest.mark.parametrize(("gate", "expression", "other"), [
    (Gate.DEPLOY, "has(image.checks.tests)", statement(1, TEST_RESULT, {"cscm": {"check": "probe"}})),
    (Gate.DEPLOY, "has(image.checks.tests)", statement(1, TEST_RESULT)),
    (Gate.DEPLOY, "has(image.checks.tests)", statement(1, TEST_RESULT, {"cscm": "tests"})),
    (Gate.DEPLOY, "has(image.scan)", statement(1, VULNERABILITIES, signer=TierName.DEVELOPMENT)),
    (Gate.INTAKE, "has(image.source_scan)", statement(1, VULNERABILITIES)),
    (
        Gate.DEPLOY,
        "has(image.verdicts.release)",
        statement(1, SUMMARY, {"verifier": {"id": name_verifier(Gate.INTAKE)}}),
    ),
    (Gate.DEPLOY, "has(image.verdicts.release)", statement(1, SUMMARY)),
    (Gate.DEPLOY, "has(image.approval)", statement(1, APPROVAL, {"environment": "production"})),
    (Gate.DEPLOY, "has(image.block)", statement(1, LIFECYCLE, ref=OTHER)),
    (Gate.DEPLOY, "size(image.blocked_bases) > 0", statement(1, LIFECYCLE)),
    (Gate.DEPLOY, "image.digest != ''", statement(1, PROVENANCE)),
    (Gate.DEPLOY, "image.environment.approval", statement(1, APPROVAL, {"environment": "staging"})),
])  # fmt: skip
def test_refused_rule_names_no_statement_of_other_facts(gate, expression, other):
    """What is named wrongly would mislead whoever looks for the cause."""
    assert basis(expression, other, gate=gate, facts={"environment": requirements("staging")}
                 if gate is Gate.DEPLOY else None) == []  # fmt: skip


def test_refused_rule_about_a_base_names_the_block_of_the_base():
    """It is a statement about another image."""
    assert basis("size(image.blocked_bases) > 0", statement(1, LIFECYCLE, ref=OTHER)) == [1]


def test_refused_rule_names_the_newest_statement_by_signed_time():
    """The order of reading does not matter; what has no time is the oldest."""
    later, undated = NOON + timedelta(hours=1), statement(3, SBOM, {"created": "someday"})
    dated = [statement(at, SBOM, {"created": each.isoformat()}) for at, each in ((1, NOON), (2, later))]

    assert basis("has(image.sbom)", *dated, undated) == basis("has(image.sbom)", undated, *reversed(dated)) == [2]


def test_refused_rule_about_statements_names_the_newest_of_each_kind():
    """Of each type and signer about this image, as the rule reads them."""
    later = (NOON + timedelta(hours=1)).isoformat()
    read = [statement(1, SBOM, {"created": NOON.isoformat()}), statement(2, SBOM, {"created": later}),
            statement(3, TEST_RESULT), statement(4, TEST_RESULT, signer=TierName.DEVELOPMENT)]  # fmt: skip

    for given in (read, read[::-1]):
        found = basis("size(image.statements) > 0", *given, statement(5, PROVENANCE, ref=OTHER))
        assert sorted(found) == [2, 3, 4]


def test_refused_rule_names_each_statement_once():
    """Two facts may be read from the same one."""
    both = "has(image.sbom) && has(image.examination) && has(image.build)"

    assert basis(both, statement(1, SBOM), statement(2, PROVENANCE)) == [1, 2]


@pytest.mark.parametrize(("waivable", "text"), [(True, WAIVABLE), (False, NOT_WAIVABLE)])
def test_refused_rule_says_whether_and_how_to_ask_for_a_waiver(waivable, text):
    """Nobody waits for an exception that cannot be."""
    (found,) = refused_rules("image.signed", statement(1, SIGNATURE), waivable=waivable)

    assert (found.rule, found.policy, found.waiver) == ("a.b", "test 1", text)
    assert str(found) == f"a.b: rests on {0:012}; {text}"
    (without,) = refused_rules("image.signed", waivable=waivable)
    assert str(without) == f"a.b: {text}"


def test_only_rules_that_refuse_are_listed():
    """A rule that only warns or holds is not one."""
    rules = (
        rule("a.warns", severity="warn", expression="image.digest == ''"),
        rule("a.holds", expression="image.digest != ''"),
        refusing(REASON),
    )  # fmt: skip

    found = refusal(FACTS[Gate.RELEASE](), policy(Gate.RELEASE, *rules))

    assert [each.rule for each in found.refused_rules] == ["a.b"]


def test_refused_rules_are_part_of_text_and_statement(world, make):
    """Command line and enforcers say the same."""
    denying = rule("a.b", expression="image.signed && 1 > 2", waivable=False)
    facts = FACTS[Gate.DEPLOY](evidence=(statement(1, SIGNATURE),))
    refused = refusal(facts, policy(Gate.DEPLOY, denying))
    store = world.store(TierName.EXECUTION)

    record(refused, facts, store, make.noon)

    (found,) = store.read_verified(CURATED.with_repository("evidence/execution/hello"), TierName.EXECUTION)
    assert Summary.model_validate(found.predicate).cscm.refused_rules == refused.refused_rules
    assert found.predicate["cscm"]["refusedRules"] == [
        {"rule": "a.b", "policy": "test 1", "evidence": [f"sha256:{1:064}"], "waiver": NOT_WAIVABLE, "findings": ""}
    ]
    assert f"  a.b: rests on {0:012}; {NOT_WAIVABLE}" in str(refused).splitlines()
