"""What a break-glass has to name: the rules that refuse an image, and the findings that they refuse it for."""

from __future__ import annotations

from typing import Any

import pytest

from supply_chain.evidence.image_status import Act, ImageStatus, LifecycleDecision
from supply_chain.evidence.summary import Summary, make_summary
from supply_chain.model.image import digest_of
from supply_chain.model.tier import Gate
from supply_chain.policy.documents import RuleDocument
from supply_chain.policy.gate import evaluate, list_overrides
from supply_chain.policy.outcome import Refused
from supply_chain.vulnerability.findings import Finding
from tests.support.builders import NOON, declaration, finding, report
from tests.support.facts import CURATED, deploy_facts, provenance_of, release_facts
from tests.support.policies import DEPLOY, RELEASE, policy, rule

HIGH, LOW = finding("high"), finding("low", id="CVE-2026-0002", package="zlib", version="1.2")
NAMED = {HIGH: "CVE-2026-0001 in openssl 3.0.1", LOW: "CVE-2026-0002 in zlib 1.2"}


def named(*rules: RuleDocument, findings: tuple[Finding, ...] = (HIGH, LOW), **changes: Any) -> tuple[str, ...]:
    facts = deploy_facts(**{"report": report(*findings), **changes})
    return list_overrides(facts, policy(Gate.DEPLOY, *rules) if rules else DEPLOY, NOON)


def test_rule_without_findings_is_named_by_its_code() -> None:
    """What it refuses is this very image, whose digest the break-glass names."""
    assert named(rule("a.b"), rule("a.a")) == ("a.a", "a.b")
    assert named(rule("a.b", expression="image.digest != ''")) == ()


def test_rule_that_only_warns_is_not_named() -> None:
    """It refuses nothing, so there is nothing to override."""
    assert named(rule("a.b", severity="warn")) == ()


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"for_each": "one in image.scan.findings", "expression": "one.severity != 'high'"}, [HIGH]),
        ({"for_each": "one in image.scan.findings", "expression": None}, [HIGH, LOW]),
        ({"for_each": "one in image.scan.severities", "expression": "one.severity != 'low' || one.found == 0"}, [LOW]),
        ({"expression": "size(image.scan.findings) == 0"}, [HIGH, LOW]),
        ({"expression": "size(image.scan.severities) == 0"}, [HIGH, LOW]),
        ({"expression": "image.digest == ''", "when": "size(image.scan.findings) > 0"}, [HIGH, LOW]),
        (
            {"for_each": "one in image.sbom.names", "expression": "one == ''", "when": "size(image.scan.findings) > 0"},
            [HIGH, LOW],
        ),
        ({"expression": "[image.scan].all(s, size(s.findings) == 0)"}, [HIGH, LOW]),
        ({"expression": "image.scan.scanner == ''"}, []),
        ({"expression": "has(image.scan) && image.digest == ''"}, []),
    ],
    ids=[
        "one by one",
        "each",
        "by severity",
        "all at once",
        "all severities",
        "condition",
        "another list",
        "group",
        "no finding",
        "existence",
    ],
)
def test_rule_about_findings_is_named_with_those_that_it_refuses(
    changes: dict[str, Any], refused: list[Finding]
) -> None:
    """If it does not ask about one after the other, nobody knows which it refuses, and another one is new to it."""
    assert named(rule("a.b", **changes)) == ("a.b", *(f"a.b: {NAMED[each]}" for each in refused))


def test_finding_in_several_places_is_named_once() -> None:
    """A person reads what they sign."""
    twice = (HIGH, finding("high", layer="sha256:" + "1" * 64))
    assert named(findings=twice) == ("scan.high", f"scan.high: {NAMED[HIGH]}")


def test_findings_of_shipped_rules_are_named_by_severity() -> None:
    """The owner accepts any number of the severity that is not named."""
    assert named(findings=(HIGH, LOW)) == ("scan.high", f"scan.high: {NAMED[HIGH]}")
    declared = provenance_of(declaration(limits={"low": 0}))
    assert named(findings=(LOW,), provenance=declared) == ("scan.low", f"scan.low: {NAMED[LOW]}")


def test_missing_scan_has_no_findings() -> None:
    """A rule that asks for findings and refuses an image without a scan names its code only."""
    asks = rule("a.b", expression="has(image.scan) && size(image.scan.findings) == 0")
    assert named(asks, report=None) == ("a.b",)


def test_rule_without_override_is_named_too() -> None:
    """Whoever asks decides whether anything may be signed."""
    block = LifecycleDecision(act=Act.BLOCK, by="ann", reason="x", at=NOON)
    assert named(findings=(), status=ImageStatus(block=block)) == ("image.blocked",)


@pytest.mark.parametrize(
    ("expression", "codes"),
    [
        ("image.verdicts.release.passed", ["x", "y"]),
        ("image.verdicts.intake.passed && image.verdicts.release.passed", ["x", "y", "z"]),
        ("size(image.verdicts.intake.refused) == 0", ["z"]),
        ("image.signed", []),
        ("has(image.verdicts.release) && image.signed", ["x", "y"]),
    ],
)
def test_rule_about_earlier_gates_is_named_with_their_reasons(expression: str, codes: list[str]) -> None:
    """The gate may refuse the image for something else later."""
    given = {gate: refusal(gate, *of) for gate, of in ((Gate.RELEASE, ("y", "x", "x")), (Gate.INTAKE, ("z",)))}

    found = named(rule("a.b", expression=expression), signed=False, verdicts=given)

    assert found == ("a.b", *(f"a.b: {code}: f" for code in codes))


def test_rule_about_earlier_gates_is_named_with_ended_waivers() -> None:
    """Another one can end while the break-glass lasts."""
    reference = "zlib@sha256:" + "1" * 64
    release = make_summary(
        CURATED, Gate.RELEASE, "sha256:" + "9" * 64, reasons=(), notes=(), inputs=(), now=NOON, waivers=[reference]
    )

    found = named(rule("a.b", expression="size(image.verdicts.release.ended_waivers) == 0"),
                  verdicts={Gate.RELEASE: release})  # fmt: skip

    assert found == ("a.b", f"a.b: waiver {reference}")


def test_reason_of_an_earlier_gate_is_named_with_all_its_findings() -> None:
    """Its text has five findings and a count, so that another one could take the place of the sixth."""
    asks = rule("a.b", expression="image.verdicts.release.passed")
    first, second = (refused_release("CVE-2026-0006", sixth) for sixth in ("CVE-2026-0007", "CVE-2026-0008"))
    assert first.cscm.reasons == second.cscm.reasons

    names = [named(asks, verdicts={Gate.RELEASE: each}, findings=()) for each in (first, second)]

    codes = sorted(f"CVE-2026-000{number} in openssl 3.0.1\n" for number in range(1, 8))
    digest = digest_of("".join(codes).encode())
    reason = f"a.b: scan.high: {first.cscm.reasons[0]['fact']}"
    assert names[0] == ("a.b", f"a.b: findings of scan.high: {digest}", reason)
    assert names[1] != names[0] and {*names[1]} & {*names[0]} == {"a.b", reason}


def test_refusal_without_findings_names_no_digest() -> None:
    """All that it refuses the image for is in its text."""
    verdict = evaluate(release_facts(), policy(Gate.RELEASE, rule("a.b")), NOON)

    assert isinstance(verdict, Refused)
    assert [each.findings for each in verdict.refused_rules] == [""]
    assert [each.findings for each in verdict.results] == [None]


def test_only_a_refusal_has_the_digest_of_its_findings() -> None:
    """What is accepted, overridden or only warned about refuses nothing."""
    warning = rule("a.b", severity="warn", expression="size(image.scan.findings) == 0")
    verdict = evaluate(release_facts(report=report(HIGH)), policy(Gate.RELEASE, warning), NOON)

    assert [each.findings for each in verdict.results] == [None]


def test_deploy_gate_states_no_digest_of_its_findings() -> None:
    """A break-glass names the findings of that gate one by one."""
    verdict = evaluate(deploy_facts(report=report(HIGH)), DEPLOY, NOON)

    assert isinstance(verdict, Refused) and [each.code for each in verdict.reasons] == ["scan.high"]
    assert [each.findings for each in verdict.refused_rules] == [""]


def test_missing_verdict_of_an_earlier_gate_has_no_reasons() -> None:
    """A rule that asks for it names its code only."""
    assert named(rule("a.b", expression="has(image.verdicts.release)"), verdicts={}) == ("a.b",)


def refusal(gate: Gate, *codes: str) -> Summary:
    reasons = [{"code": code, "fact": "f", "remedy": "r"} for code in codes]
    return make_summary(CURATED, gate, "sha256:" + "9" * 64, reasons=reasons, notes=(), inputs=(), now=NOON)


def refused_release(*others: str) -> Summary:
    """Return the refusal of an image with five findings and others, all of one severity and one package."""
    ids = (*(f"CVE-2026-000{number}" for number in range(1, 6)), *others)
    facts = release_facts(report=report(*(finding("high", id=each) for each in ids)))
    verdict = evaluate(facts, RELEASE, NOON)
    assert isinstance(verdict, Refused) and [each.code for each in verdict.reasons] == ["scan.high"]
    return make_summary(
        CURATED, Gate.RELEASE, verdict.policy, reasons=[each.model_dump() for each in verdict.reasons], notes=(),
        inputs=(), now=NOON, refused_rules=verdict.refused_rules,
    )  # fmt: skip
