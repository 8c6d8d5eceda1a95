"""The sequence that takes an admitted image into service: record the verdict, deploy the image, sign the record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta

from supply_chain.errors import SupplyChainError
from supply_chain.evidence.store import EvidenceStore
from supply_chain.execution.deployment import Deployment
from supply_chain.execution.records import record
from supply_chain.execution.target import Request, Target
from supply_chain.model.declaration import Service
from supply_chain.model.image import ImageRef
from supply_chain.model.registry_ports import RepositoryCreator
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.gate import evaluate
from supply_chain.policy.names import MinimumClassification
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.policies import GatePolicy
from supply_chain.policy.reading import read_deploy_facts
from supply_chain.policy.rejudge import compute_renewal_limit
from supply_chain.policy.verdict import locate_execution_evidence
from supply_chain.policy.verdict import record as record_verdict


@dataclass(frozen=True)
class DeployPorts:
    """The dependencies of a deployment."""

    target: Target
    bases: Callable[[], Sequence[ImageRef]]
    """Returns the images of all curated bases, as the gate reads them."""
    minimum_classification: MinimumClassification
    repositories: RepositoryCreator
    evidence: EvidenceStore
    policy: GatePolicy[DeployFacts]
    now: Callable[[], datetime]
    to_its_end: Callable[[], AbstractContextManager[object]]
    """Encloses work that is finished even if the run is cancelled."""
    max_age: Callable[[str], timedelta | None]
    """Returns the age from which a verdict does not count any more in an environment; None: it counts at any age."""


def take_into_service(
    admitted: Admitted[DeployFacts], ports: DeployPorts, run: str, *, force: bool = False
) -> Deployment | Refused:
    """Run the image in the environment of the target; `run` marks what is created there.

    Return the new verdict if the gate refuses the image because of what was signed since it admitted it; what ran
    before continues to serve. The verdict is recorded first, so that a run which may not record it starts nothing.
    Raises the errors of `Target.deploy`.
    """
    declaration, ref = admitted.provenance.declaration, admitted.facts.ref
    assert isinstance(declaration, Service)  # the deploy gate admits only services
    ports.repositories.ensure_repository(locate_execution_evidence(ref).repository, immutable=True, key=None)

    def record_admission() -> None:
        now, environment = ports.now(), admitted.facts.environment.name
        too_old = compute_renewal_limit(now, ports.max_age(environment))
        record_verdict(admitted, admitted.facts, ports.evidence, now, too_old)

    def recorded(deployment: Deployment) -> Deployment:
        with ports.to_its_end():  # it serves: without a record, no block would find it
            return record(deployment, ref, ports.evidence, ports.now())

    try:
        return ports.target.deploy(
            Request(admitted, declaration, run, force),
            before_start=record_admission,
            may_serve=lambda: _judge_again(admitted.facts, ports),
            recorded=recorded,
        )
    except _RefusedMeanwhile as ended:
        return ended.verdict


class _RefusedMeanwhile(SupplyChainError):
    """Ends `Target.deploy`, which restores what ran before; no caller of `take_into_service` sees it."""

    def __init__(self, verdict: Refused) -> None:
        why = "; ".join(f"{reason.fact} ({reason.code})" for reason in verdict.reasons)
        super().__init__(f"The gate admitted it, and refuses it now: {why}.")
        self.verdict = verdict


def _judge_again(facts: DeployFacts, ports: DeployPorts) -> None:
    """Judge the image again before it serves; raise `_RefusedMeanwhile` if the gate now refuses it.

    The verdict is as old as the time that it took to pull the image and to make it ready. Blocks and denials since then
    count, but no freeze that has begun since then.
    """
    current = read_deploy_facts(
        facts.ref,
        facts.environment,
        ports.evidence,
        bases=ports.bases(),
        minimum_classification=ports.minimum_classification(facts.ref.application),
    )
    verdict = evaluate(current, ports.policy.for_what_runs, ports.now())
    if isinstance(verdict, Refused):
        record_verdict(verdict, current, ports.evidence, ports.now())
        raise _RefusedMeanwhile(verdict)
