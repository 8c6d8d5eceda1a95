"""The explanation of a decision names each rule, its result and the facts that it read."""

from supply_chain.model.tier import Gate
from supply_chain.policy.explanation import explain
from supply_chain.policy.outcome import RuleOutcome
from tests.support.builders import NOON, finding, report
from tests.support.facts import deploy_facts, intake_facts
from tests.support.policies import DEPLOY, INTAKE, policy, rule


def test_explanation_has_every_rule_of_the_gate():
    """A rule that does not apply is there too, so that nobody has to guess."""
    found = explain(intake_facts(), INTAKE, NOON)

    assert [each.result.rule for each in found] == [rule.id for rule in INTAKE.rules]
    assert {each.result.result for each in found} == {RuleOutcome.PASSED, RuleOutcome.NOT_APPLICABLE}
    assert all(each.title.startswith(("Refuse", "Note")) and each.facts for each in found)


def test_explanation_shows_the_facts_as_they_were_read():
    """An absent fact is named absent, and a list by its length."""
    facts = deploy_facts(report=report(finding("critical")))

    found = {each.result.rule: each for each in explain(facts, DEPLOY, NOON)}

    assert found["scan.critical"].result.result is RuleOutcome.REFUSED
    assert found["scan.critical"].facts == {
        "image.build": "present", "image.scan": "present", "image.scan.severities": "6 elements",
    }  # fmt: skip
    assert found["approval.missing"].facts == {"image.environment.approval": "False", "image.approval": "absent"}
    assert found["scan.old"].facts["now"] == found["scan.old"].facts["image.scan.scanned"] == "2026-11-24 12:00 UTC"
    assert found["scan.old"].facts["image.build.limits.scan_days"] == "7"


def test_explanation_of_a_loop_names_the_list():
    """The element's own facts are in the reason."""
    each = rule("a.b", for_each="word in image.ignored", expression="word != image.digest")

    (found,) = explain(deploy_facts(ignored_referrers=("x",)), policy(Gate.DEPLOY, each), NOON)

    assert found.facts == {"image.ignored": "1 element", "image.digest": str(deploy_facts().ref.digest)}
