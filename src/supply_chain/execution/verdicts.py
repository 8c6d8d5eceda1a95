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
    admission that expired, for clients that do not know when it ends. Raises the errors of `read_current_verdict` and
    of reading facts, judging and recording.
    """
    try:
        current = read_current_verdict(ports.verdicts, ref, Gate.DEPLOY, environment)
    except VerdictMissing:
        return None
    verdict = _judge_once(read_facts, ports, lambda admits: admits is current.admits is current.verdict.passed)
    if isinstance(verdict, Admitted):  # a refusal by others meanwhile was published before, and is not published again
        return _judge_once(read_facts, ports, lambda admits: admits) or verdict
    return verdict


def _judge_once(
    read_facts: Callable[[], DeployFacts], ports: VerdictPorts, is_published: Callable[[bool], bool]
) -> Admitted[DeployFacts] | Refused | None:
    """Judge an image, and record and return the verdict; None if it is published already."""
    facts = read_facts()
    verdict = evaluate(facts, ports.policy, ports.now())
    if is_published(isinstance(verdict, Admitted)):
        return None
    if isinstance(verdict, Refused):
        record_refusal(verdict, facts, ports.repositories, ports.evidence, ports.now())
    else:
        record(verdict, facts, ports.evidence, ports.now())
    return verdict
