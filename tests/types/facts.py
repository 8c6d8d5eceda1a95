"""A rule holds only at a gate whose facts it reads, and facts are complete. Only type-checked, as `states` is."""

from supply_chain.evidence.image_status import ImageStatus
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy import notes, rules
from supply_chain.policy.facts import DeployFacts, EnvironmentRequirements, IntakeFacts, ReleaseFacts, RequiredSoak
from supply_chain.policy.gate import Policy, evaluate
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.policies import DEPLOY, INTAKE, RELEASE


def rules_at_their_gates() -> None:
    """A rule that reads what several gates know holds at each of them; any other rule at its own gate only."""
    Policy[IntakeFacts](Gate.INTAKE, (rules.image_not_blocked, rules.checks_passed), (notes.uncommitted_changes,))
    Policy[ReleaseFacts](Gate.RELEASE, (rules.image_not_blocked, rules.base_packages_listed), (notes.copied_bases,))
    Policy[DeployFacts](Gate.DEPLOY, (rules.image_not_blocked, rules.sbom_present), (notes.accepted_content,))
    Policy[IntakeFacts](Gate.INTAKE, (rules.sbom_present,), ())  # type: ignore[arg-type]
    Policy[IntakeFacts](Gate.INTAKE, (rules.scan_up_to_date,), ())  # type: ignore[arg-type]
    Policy[ReleaseFacts](Gate.RELEASE, (rules.checks_passed,), ())  # type: ignore[arg-type]
    Policy[ReleaseFacts](Gate.RELEASE, (rules.signature_present,), ())  # type: ignore[arg-type]
    Policy[DeployFacts](Gate.DEPLOY, (rules.base_packages_listed,), ())  # type: ignore[arg-type]
    Policy[DeployFacts](Gate.DEPLOY, (rules.distribution_matches_base,), ())  # type: ignore[arg-type]
    Policy[DeployFacts](Gate.DEPLOY, (rules.source_within_limits,), ())  # type: ignore[arg-type]
    Policy[DeployFacts](Gate.DEPLOY, (rules.image_scanned,), (notes.copied_bases,))  # type: ignore[arg-type]


def verdicts(intake: IntakeFacts, release: ReleaseFacts, deploy: DeployFacts) -> tuple[object, ...]:
    """A policy judges the facts of its own gate, and the verdict says which they were and has to be looked at."""
    admitted: Admitted[IntakeFacts] | Refused = evaluate(intake, INTAKE)
    evaluate(intake, RELEASE)  # type: ignore[misc]
    evaluate(release, DEPLOY)  # type: ignore[misc]
    evaluate(deploy, RELEASE)  # type: ignore[misc]
    other: Admitted[ReleaseFacts] | Refused = evaluate(intake, INTAKE)  # type: ignore[arg-type]
    ignored: Admitted[DeployFacts] = evaluate(deploy, DEPLOY)  # type: ignore[assignment]
    return admitted, other, ignored


def forgotten(ref: ImageRef, status: ImageStatus, soak: RequiredSoak) -> tuple[object, ...]:
    """No fact has a value that was not given."""
    facts = IntakeFacts(  # type: ignore[call-arg]
        ref=ref, provenance=None, checks=(), evidence=(), ignored_referrers=(), holder=None, source_report=None
    )
    more = IntakeFacts(  # type: ignore[call-arg]
        ref=ref,
        provenance=None,
        checks=(),
        status=status,
        evidence=(),
        ignored_referrers=(),
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
