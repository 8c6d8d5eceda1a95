"""`evaluate` asks every rule and keeps every reason, and admits nothing without a rule."""

import dataclasses
import importlib
import inspect
import re
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from supply_chain.evidence import checks
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy import facts, notes, reading, rules, verdict
from supply_chain.policy import gate as gate_module
from supply_chain.policy.facts import IntakeFacts
from supply_chain.policy.gate import Policy, evaluate, read_sources
from supply_chain.policy.outcome import Admitted, Reason, Refused
from supply_chain.policy.policies import INTAKE, POLICIES
from supply_chain.policy.reading import read_deploy_facts, read_intake_facts, read_release_facts
from supply_chain.vulnerability import reports
from tests.support.builders import NOON, report, source
from tests.support.facts import (
    CURATED,
    FACTS,
    OFFERED,
    intake_facts,
    policy,
    provenance_of,
    release_facts,
    requirements,
    rule,
)


def refusing(*codes):
    return rule(*(Reason(code=code, fact="fact", remedy="remedy") for code in codes))


def test_evaluate_keeps_all_reasons_in_order():
    """A refused developer learns all reasons at once."""
    verdict = evaluate(intake_facts(), policy(Gate.INTAKE, refusing("a", "b"), refusing(), refusing("c")))

    assert isinstance(verdict, Refused)
    assert [reason.code for reason in verdict.reasons] == ["a", "b", "c"]
    assert (verdict.image, verdict.gate) == (OFFERED, Gate.INTAKE)


def test_evaluate_admits_image_without_reasons():
    """The verdict contains the facts unchanged and the digest of the policy."""
    rules, given = policy(Gate.INTAKE, refusing()), intake_facts()
    verdict = evaluate(given, rules)

    assert isinstance(verdict, Admitted)
    assert (verdict.facts, verdict.policy, verdict.gate) == (given, rules.digest, Gate.INTAKE)


def test_policy_without_rules_is_invalid():
    """An empty policy would admit everything."""
    with pytest.raises(ValueError, match="admits everything"):
        policy(Gate.INTAKE)


def test_refusal_without_reasons_is_invalid():
    """A refusal without a reason would tell nobody what to do."""
    with pytest.raises(ValidationError):
        Refused(image=OFFERED, gate=Gate.RELEASE, policy="sha256:" + "0" * 64, reasons=())


def test_evaluate_raises_when_rule_fails():
    """An error in a rule is never an admission."""

    def broken(_):
        raise RuntimeError("no answer")

    with pytest.raises(RuntimeError):
        evaluate(intake_facts(), policy(Gate.INTAKE, broken))


def test_policy_digest_covers_gate_rules_and_notes():
    """Different policies have different digests, and equal policies have equal ones."""
    gate, rules, notes = INTAKE.gate, INTAKE.rules, INTAKE.notes
    policies = [
        INTAKE,
        Policy(gate, rules[1:], notes),
        Policy(gate, rules[::-1], notes),
        Policy(gate, rules, notes[1:]),
        Policy(Gate.RELEASE, rules, notes),
    ]

    assert len({each.digest for each in policies}) == len(policies)
    assert Policy(gate, rules, notes).digest == INTAKE.digest


def test_policy_digest_changes_with_source_of_a_rule(tmp_path, monkeypatch):
    """A changed rule has to judge again what it judged before, even if it has the same name."""
    monkeypatch.syspath_prepend(tmp_path)

    def digest(source):
        (tmp_path / "written_rules.py").write_text(source)
        sys.modules.pop("written_rules", None)
        importlib.invalidate_caches()
        return policy(Gate.INTAKE, importlib.import_module("written_rules").written).digest

    admitting = "def written(facts):\n    return ()\n"
    first, changed, again = digest(admitting), digest(f"{admitting}# another\n"), digest(admitting)

    assert first != changed and first == again
    sys.modules.pop("written_rules")


@pytest.mark.parametrize("module", [rules, notes, reading, facts, checks, reports])
def test_policy_digest_covers_module(module):
    """The rules, the facts that they read, and the functions and tables that they use can all change a verdict."""
    assert inspect.getsource(module) in set(read_sources(INTAKE.rules))


def test_every_gate_has_a_policy():
    """An image cannot pass a gate without a policy."""
    assert set(POLICIES) == set(Gate)
    assert all(policy.gate is gate for gate, policy in POLICIES.items())


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
        Gate.RELEASE: lambda: read_release_facts(CURATED, store, lambda _: (), ()),
        Gate.DEPLOY: lambda: read_deploy_facts(CURATED, requirements(), store, NOON, bases=()),
    }[gate]()

    verdict = evaluate(facts, POLICIES[gate])

    assert isinstance(verdict, Refused)
    assert [reason.code for reason in verdict.reasons] == missing


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
    verdict = evaluate(FACTS[gate](provenance=provenance_of(**changes)), POLICIES[gate])

    assert isinstance(verdict, Admitted)
    assert word in " ".join(verdict.notes)


@pytest.mark.parametrize("kind", ["starter", "official"])
@pytest.mark.parametrize("gate", Gate)
def test_admission_notes_report_of_starter_database(gate, kind):
    """The starter database knows few vulnerabilities; at the intake gate it judges the source."""
    changes: dict[str, Any] = {"source_report" if gate is Gate.INTAKE else "report": report(kind=kind)}

    verdict = evaluate(FACTS[gate](**changes), POLICIES[gate])

    assert ["starter database" in note for note in verdict.notes] == ([True] if kind == "starter" else [])


@pytest.mark.parametrize("facts", [intake_facts(provenance=None, source_report=None), release_facts(report=None)])
def test_missing_provenance_or_report_gives_no_note(facts):
    """A rule refuses what is missing; a note is about an image that is admitted."""
    lenient = POLICIES[Gate.INTAKE if isinstance(facts, IntakeFacts) else Gate.RELEASE]

    assert [each for note in lenient.notes for each in note(facts)] == []


@pytest.mark.parametrize("gate", Gate)
@pytest.mark.parametrize("codes", [(), ("a.b",)], ids=["admitted", "refused"])
def test_verdict_notes_referrers_that_were_ignored(codes, gate):
    """They may explain missing evidence, so both verdicts note them."""
    facts = FACTS[gate](ignored_referrers=("left out 3 of what is attached",))

    verdict = evaluate(facts, Policy(gate, (refusing(*codes),), POLICIES[gate].notes))

    assert verdict.notes == ("left out 3 of what is attached",)
    if codes:
        assert str(verdict).endswith("  note: left out 3 of what is attached")


def test_refusal_text_shows_every_reason_with_remedy():
    """The text is for people."""
    text = str(evaluate(intake_facts(), policy(Gate.INTAKE, refusing("a.b", "c.d"))))

    assert str(OFFERED) in text
    assert "a.b" in text and "c.d" in text and text.count("remedy") == 2


@pytest.mark.parametrize("gate", Gate)
def test_every_fact_is_read(gate):
    """A fact that no rule and no note reads, and that is not recorded, would be collected for nothing."""
    sources = "".join(inspect.getsource(module) for module in (gate_module, notes, rules, verdict))
    read = set(re.findall(r"\bfacts\.(\w+)", sources))

    assert {field.name for field in dataclasses.fields(FACTS[gate]())} <= read
