"""Pages about policies: every rule is there, and text of unknown origin formats nothing."""

from supply_chain.model.tier import Gate
from supply_chain.policy.explanation import GateExplanation, explain
from supply_chain.policy.outcome import RuleOutcome, UsedBreakGlass, UsedWaiver
from supply_chain.reports import (
    facts_page,
    policy_explanation_lines,
    policy_explanation_page,
    policy_page,
)
from tests.support.builders import DIGEST, NOON, finding, report
from tests.support.facts import CURATED, deploy_facts
from tests.support.policies import DEPLOY, LIBRARY, POLICIES


def explained(**changes):
    rules = explain(deploy_facts(**changes), DEPLOY, NOON)
    return GateExplanation(image=CURATED, gate=Gate.DEPLOY, environment="staging", rules=rules)


def test_page_has_a_section_for_each_rule():
    """A rule that two gates share is there once; a rule with a matrix names its codes."""
    documents = POLICIES.documents
    page, by_id = policy_page(documents), {rule.id: rule for each in documents for rule in each.rules}

    assert {line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")} == by_id.keys()
    assert page.count("## image.blocked\n") == 1
    assert "expression: !has(image.block)" in page and "- fails: a blocked image\n" in page
    overridable = [rule.break_glass for rule in by_id.values()]
    assert 5 < page.count("- no break-glass overrides it") == overridable.count(False) < len(overridable)
    assert page.count("- nobody may waive it") == sum(not rule.waivable for rule in by_id.values()) > 10
    assert "- references: SSDF RV.2.2" in page and "\nremedy: build a new image" in page
    assert "- codes: `scan.critical`, `scan.high`, " in page and page.count("- codes: ") == sum(
        bool(rule.matrix) for rule in by_id.values()
    )


def test_page_has_parameters_and_selector_of_a_policy():
    """Whoever copies a policy sees what can be changed; headings fit into another page."""
    (document,) = [each for each in LIBRARY if each.name == "duties"]
    lines = policy_page([document], 3).splitlines()

    assert lines[0] == "### Policy duties, version 2" and "#### duties.team" in lines
    assert "It selects environments: production." in lines
    assert "| team | ann, bob |" in lines and "| people | 2 |" in lines
    assert "- passes: one of the team; another one" in lines and "- fails: somebody else; the team's committer" in lines
    assert "It selects" not in policy_page(POLICIES.documents)


def test_facts_page_has_every_fact_with_its_type_and_meaning():
    """Whoever writes a rule finds the facts of the gate there, and what may be absent."""
    pages = dict(zip(Gate, facts_page().split("# Facts of the ")[1:], strict=True))

    assert "- `[image.block]`: A block of an image." in pages[Gate.INTAKE]
    assert "- `image.scan.findings[].exploited` (true or false): Whether it is known" in pages[Gate.DEPLOY]
    assert "- `[image.scan.findings[].epss]` (number): Probability" in pages[Gate.DEPLOY]
    assert "- `image.digest` (text)\n" in pages[Gate.RELEASE] and "- `now` (time)" in pages[Gate.RELEASE]
    assert "image.sbom.missing[]" in pages[Gate.RELEASE] and "image.sbom.missing" not in pages[Gate.DEPLOY]
    assert "- `image.sbom.packages` (integer): The number of packages." in pages[Gate.RELEASE], "a field of its base"


def test_lines_name_result_reason_and_facts():
    """A person sees at a glance what refuses and why."""
    lines = policy_explanation_lines(explained(report=report(finding("critical")))).splitlines()

    assert lines[0] == f"{CURATED} at the deploy gate for staging:"
    at = lines.index("NO    scan.critical  (curated 1)")
    assert "1 finding of severity critical, 0 accepted" in lines[at + 1]
    assert lines[at + 2].endswith("image.scan.severities = 6 elements")
    (image,) = (each.version for each in POLICIES.documents if each.name == "image")
    assert f"ok    image.blocked  (image {image})" in lines and "-     soak.missing  (deploy 1)" in lines


def test_lines_and_page_name_waivers():
    """A rule that a waiver accepts is no plain pass."""
    result = explained().rules[0].result
    waiver = UsedWaiver(name="zlib", digest=DIGEST, by="ann", reason="not *reachable*", expires=NOON)
    waived = result.model_copy(update={"result": RuleOutcome.WAIVED, "waivers": (waiver,)})
    rules = (explained().rules[0].model_copy(update={"result": waived}),)
    given = explained().model_copy(update={"rules": rules})

    lines = policy_explanation_lines(given).splitlines()
    assert lines[1:3] == [
        f"ok*   {result.rule}  ({result.policy})",
        "        waived by zlib, signed by ann, until 2026-11-24: not *reachable*",
    ]
    assert r"waived by zlib, signed by ann, until 2026-11-24: not \*reachable\*" in policy_explanation_page(given)


def test_lines_and_page_name_the_break_glass():
    """A rule that it overrides is no pass."""
    result = explained().rules[0].result
    used = UsedBreakGlass(by="ann", reason="*outage*", expires=NOON)
    overridden = result.model_copy(update={"result": RuleOutcome.OVERRIDDEN, "break_glass": used})
    given = explained().model_copy(update={"rules": (explained().rules[0].model_copy(update={"result": overridden}),)})

    lines = policy_explanation_lines(given).splitlines()
    assert lines[1:3] == [
        f"ok!   {result.rule}  ({result.policy})",
        "        overridden by break-glass by ann until 2026-11-24 12:00 UTC: *outage*",
    ]
    page = policy_explanation_page(given)
    assert r"overridden by break-glass by ann until 2026-11-24 12:00 UTC: \*outage\*" in page


def test_policy_explanation_page_escapes_evidence():
    """Whoever writes a referrer must not write in the page of an operator."""
    page = policy_explanation_page(explained(ignored_referrers=("**bold** <script>",)))

    assert "\\*\\*bold\\*\\*" in page and "<script>" not in page
    assert "| refused |" not in page and "| warned | referrer.ignored |" in page
