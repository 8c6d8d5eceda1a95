"""Keep published verdicts of the deploy gate true: judge an image again after something was signed about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from supply_chain.errors import VerdictMissing
from supply_chain.evidence.published import read_current_verdict
from supply_chain.evidence.store import EvidenceStore, Repositories
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.policies import GatePolicy
from supply_chain.policy.verdict import record, record_refusal


@dataclass(frozen=True)
class VerdictPorts:
    """What judging again uses; `verdicts` are the published ones."""

    evidence: EvidenceStore
    verdicts: EvidenceStore
    repositories: Repositories
    policy: GatePolicy[DeployFacts]
    now: Callable[[], datetime]


def judge_published(
    ref: ImageRef, environment: str, read_facts: Callable[[], DeployFacts], ports: VerdictPorts
) -> Admitted[DeployFacts] | Refused | None:
    """Judge an image again if a verdict about it is published for an environment; record and publish a changed one.

    Return the new verdict; None if none is published, or if the published one says the same. A refusal also replaces an
    admission that expired, for clients that do not know when it ends. Raises the errors of
    `read_current_verdict` and of reading facts, judging and recording.
    """
    try:
        current = read_current_verdict(ports.verdicts, ref, Gate.DEPLOY, environment)
    except VerdictMissing:
        return None
    facts = read_facts()
    verdict = evaluate(facts, ports.policy, ports.now())
    if isinstance(verdict, Admitted) is current.admits is current.verdict.passed:
        return None
    if isinstance(verdict, Refused):
        record_refusal(verdict, facts, ports.repositories, ports.evidence, ports.now())
    else:
        record(verdict, facts, ports.evidence, ports.now())
    return verdict
