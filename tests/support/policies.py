"""The policies that ship with the project, and policies of rules with fixed answers."""

from __future__ import annotations

from typing import Any

from supply_chain.model.documents import read_document
from supply_chain.model.image import digest_of
from supply_chain.model.tier import Gate
from supply_chain.policy.documents import PolicyDocument, RuleDocument, RuleSeverity
from supply_chain.policy.expressions import make_language
from supply_chain.policy.loading import DIRECTORY, make_gate_policy, read_policies
from supply_chain.policy.outcome import Reason
from supply_chain.policy.people import People
from supply_chain.policy.policies import GatePolicy, Policy, compile_rule
from supply_chain.policy.vex import Vex
from supply_chain.policy.waivers import Waiver, Waivers
from tests.support.command import ROOT

ENVIRONMENTS = ("staging", "production")
POLICIES = read_policies(ROOT / DIRECTORY, ENVIRONMENTS)
LIBRARY = [read_document(file, PolicyDocument) for file in sorted((ROOT / DIRECTORY / "library").glob("*.yaml"))]
"""The policies of the library, as they are written."""
INTAKE, RELEASE, DEPLOY = POLICIES.intake, POLICIES.release, POLICIES.deploy
TESTS = ({"name": "one", "passes": True}, {"name": "another", "passes": False})


def rule(id: str, **changes: Any) -> RuleDocument:
    """Return a rule that never holds; `changes` make another one of it."""
    given = {"title": "Refuse.", "expression": "image.digest == ''", "message": "wrong", "remedy": "right"}
    return RuleDocument.model_validate({"id": id, "tests": TESTS, **given, **changes})


def refusing(reason: Reason) -> RuleDocument:
    """Return a rule that always gives this reason."""
    return rule(reason.code, message=reason.fact, remedy=reason.remedy)


def with_waivers(policies: GatePolicy[Any], waivers: tuple[Waiver, ...]) -> GatePolicy[Any]:
    """Return the policies of a gate with waivers, and no people or VEX documents."""
    return policies.with_decisions(People(), Waivers(waivers), Vex())


def policy(gate: Gate, *rules: RuleDocument, **changes: Any) -> GatePolicy[Any]:
    """Return a policy with these rules, or with one that always holds; the rules' tests are not run."""
    held = rules or (rule("always.held", severity=RuleSeverity.WARN, expression="image.digest != ''"),)
    given = {"name": "test", "version": 1, "description": "d", "gates": [gate], "rules": held}
    document = PolicyDocument.model_validate({**given, **changes})
    compiled = tuple(compile_rule(each, make_language(gate)) for each in held)
    return make_gate_policy(
        gate, [Policy(document, compiled, compiled, digest_of(document.model_dump_json().encode()))]
    )
