"""A gate judges its own facts only, and facts are complete. Only type-checked, as `states` is."""

from supply_chain.evidence.image_status import ImageStatus
from supply_chain.model.image import ImageRef
from supply_chain.policy.facts import DeployFacts, EnvironmentRequirements, IntakeFacts, ReleaseFacts, RequiredSoak
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Admitted, Refused
from tests.support.builders import NOON
from tests.support.policies import DEPLOY, INTAKE, RELEASE


def verdicts(intake: IntakeFacts, release: ReleaseFacts, deploy: DeployFacts) -> tuple[object, ...]:
    """A policy judges the facts of its own gate, and the verdict says which they were and has to be looked at."""
    admitted: Admitted[IntakeFacts] | Refused = evaluate(intake, INTAKE, NOON)
    evaluate(intake, RELEASE, NOON)  # type: ignore[misc]
    evaluate(release, DEPLOY, NOON)  # type: ignore[misc]
    evaluate(deploy, RELEASE, NOON)  # type: ignore[misc]
    other: Admitted[ReleaseFacts] | Refused = evaluate(intake, INTAKE, NOON)  # type: ignore[arg-type]
    ignored: Admitted[DeployFacts] = evaluate(deploy, DEPLOY, NOON)  # type: ignore[assignment]
    return admitted, other, ignored


def forgotten(ref: ImageRef, status: ImageStatus, soak: RequiredSoak) -> tuple[object, ...]:
    """No fact has a value that was not given."""
    facts = IntakeFacts(  # type: ignore[call-arg]
        ref=ref,
        provenance=None,
        checks=(),
        evidence=(),
        ignored_referrers=(),
        attached=(),
        holder=None,
        source_report=None,
    )
    more = IntakeFacts(  # type: ignore[call-arg]
        ref=ref,
        provenance=None,
        checks=(),
        status=status,
        evidence=(),
        ignored_referrers=(),
        attached=(),
        holder=None,
        source_report=None,
        signed=True,
    )
    requirements = EnvironmentRequirements(name="staging", soak=soak, test_report=True)  # type: ignore[call-arg]
    return facts, more, requirements


def unread(intake: IntakeFacts, release: ReleaseFacts, deploy: DeployFacts) -> tuple[object, ...]:
    """A gate's facts have nothing that only another gate reads, and do not change."""
    deploy.signed = True  # type: ignore[misc]
    return (
        intake.packages,  # type: ignore[attr-defined]
        release.signed,  # type: ignore[attr-defined]
        release.source_report,  # type: ignore[attr-defined]
        deploy.base_packages,  # type: ignore[attr-defined]
        deploy.holder,  # type: ignore[attr-defined]
    )
