"""What a refusal rests on, and how to ask for an exception: one entry for each rule that refuses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from supply_chain.evidence.clock import read_signed_time
from supply_chain.evidence.image_status import Act
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
    is_about,
)
from supply_chain.evidence.store import BEFORE_ALL
from supply_chain.evidence.summary import RefusedRule, name_verifier
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.documents import RuleDocument
from supply_chain.policy.facts import DeployFacts, ImageFacts
from supply_chain.policy.outcome import BASE_BLOCKED, IMAGE_BLOCKED, Reason, RuleOutcome, RuleResult
from supply_chain.policy.policies import GatePolicy

KINDS: Mapping[str, str] = {
    "build": PROVENANCE, "checks": TEST_RESULT, "source_scan": VULNERABILITIES, "scan": VULNERABILITIES, "sbom": SBOM,
    "examination": SBOM, "container": SBOM, "encryption": ENCRYPTION, "signed": SIGNATURE, "verdicts": SUMMARY,
    "approval": APPROVAL, "approvers": APPROVAL, "soak": SOAK, "block": LIFECYCLE, "blocked_bases": LIFECYCLE,
}  # fmt: skip
"""Group of facts (`image.GROUP`) → the predicate type of the statements that it is read from."""
STATEMENTS = "statements"
"""The facts that are read from all statements about the image."""
WAIVABLE = "a signed waiver can accept it (docs/how-to/waivers.md)"
NOT_WAIVABLE = "nobody may waive it"


def find_refused_rules(
    results: Iterable[RuleResult], policy: GatePolicy[Any], facts: ImageFacts
) -> tuple[RefusedRule, ...]:
    """Return for each rule that refuses what it rests on and how to ask for a waiver.

    Its evidence are the newest statements of those that its facts are read from; none if they are missing, or are not
    read from statements.
    """
    rules = {(str(each), rule.id): rule for each in policy.policies for rule in each.rules}
    refusing = (each for each in results if each.result is RuleOutcome.REFUSED)
    refused = ((each, rules[each.policy, each.rule]) for each in refusing)
    return tuple(
        RefusedRule(
            rule=result.rule,
            policy=result.policy,
            evidence=tuple(dict.fromkeys(_find_evidence(rule.reads, facts))),
            waiver=describe_waiver(rule.document),
            findings=result.findings or "",
        )
        for result, rule in refused
    )


def find_block_rules(
    reasons: Iterable[Reason], image: Sequence[VerifiedStatement], bases: Iterable[Sequence[VerifiedStatement]],
    policies: Mapping[str, str],
) -> tuple[RefusedRule, ...]:  # fmt: skip
    """Return for each rule of `block_reasons` the blocks that it rests on.

    `image` and `bases` are the lifecycle's statements about the image and about each blocked base. `policies` has the
    policy of a rule if a gate applied it.
    """
    blocked = {IMAGE_BLOCKED: (image,), BASE_BLOCKED: tuple(bases)}
    return tuple(
        RefusedRule(
            rule=rule,
            policy=policies.get(rule, ""),
            evidence=tuple(dict.fromkeys(map(_find_block, blocked[rule]))),
            waiver=NOT_WAIVABLE,
        )
        for rule in dict.fromkeys(each.code for each in reasons)
    )


def _find_block(statements: Iterable[VerifiedStatement]) -> str:
    return max((each for each in statements if each.predicate["act"] == Act.BLOCK), key=_time_of).digest


def describe_waiver(rule: RuleDocument) -> str:
    """Return whether a waiver can accept what breaks a rule, and how to ask for one."""
    return WAIVABLE if rule.waivable else NOT_WAIVABLE


def _find_evidence(reads: Iterable[str], facts: ImageFacts) -> Iterator[str]:
    """Yield the digest of the newest statement behind each fact; of `STATEMENTS`, of each type and signer."""
    for path in reads:
        group, _, rest = path.removeprefix("image.").partition(".")
        if group == STATEMENTS:
            about = [each for each in facts.evidence if is_about(each.statement, facts.ref)]
            for kind in dict.fromkeys(map(_kind_of, about)):
                yield max((each for each in about if _kind_of(each) == kind), key=_time_of).digest
        basis = [each for each in facts.evidence if _is_basis(each, group, rest.partition(".")[0], facts)]
        if basis:
            yield max(basis, key=_time_of).digest


def _kind_of(statement: VerifiedStatement) -> tuple[str, str]:
    return statement.predicate_type, statement.signer


def _time_of(statement: VerifiedStatement) -> datetime:
    return read_signed_time(statement.statement) or BEFORE_ALL


def _is_basis(each: VerifiedStatement, group: str, name: str, facts: ImageFacts) -> bool:
    """Return whether facts are read from a statement; `name` is what follows the group in the path."""
    if each.predicate_type != KINDS.get(group):
        return False
    is_read = True
    match group:
        case "checks":
            is_read = _part(each, "cscm").get("check") == name.removesuffix("_reported")
        case "source_scan" | "scan":
            is_read = each.signer is (TierName.DEVELOPMENT if group == "source_scan" else TierName.CURATION)
        case "verdicts":
            is_read = _part(each, "verifier").get("id") == name_verifier(Gate(name))
        case "approval" | "approvers":
            assert isinstance(facts, DeployFacts)  # no other gate has these facts
            is_read = each.predicate.get("environment") == facts.environment.name
        case "block" | "blocked_bases":
            is_read = is_about(each.statement, facts.ref) is (group == "block")
    return is_read


def _part(each: VerifiedStatement, key: str) -> Mapping[str, object]:
    part = each.predicate.get(key)
    return part if isinstance(part, dict) else {}
