"""The sequence of an isolation: quarantine at once, preserve as evidence, then recover. Each step can be repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from supply_chain.errors import UNREADABLE, DeploymentFailed, ImageNotFound
from supply_chain.evidence.encryption import KeyWrapper
from supply_chain.evidence.statement import ISOLATION
from supply_chain.evidence.store import CREATED, EvidenceStore
from supply_chain.execution.deployment import Deployment, Expected, read_deployed_image
from supply_chain.execution.isolation.case import Case, Stage
from supply_chain.execution.isolation.collection import (
    Collection,
    SealedBundle,
    encrypt,
    pack,
    wrap_key,
)
from supply_chain.execution.isolation.record import Custody, IsolationRecord, Recovery, find_isolation, find_record
from supply_chain.execution.isolation.settings import RecoveryMode
from supply_chain.model.image import ImageRef, digest_of
from supply_chain.model.registry_ports import RepositoryCreator
from supply_chain.model.tier import TierName, name_curated_repository
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.verdict import locate_execution_evidence
from supply_chain.text import summarize_error

BUNDLE = "application/vnd.cscm.isolation.v1.tar+gzip+encrypted"
"""The artifact type of a sealed bundle."""
MOST_JUDGED = 5
"""Maximum number of earlier images that are judged."""


class Isolator(Protocol):
    """Isolates applications in one environment. Each call can be repeated."""

    def find_case(self, application: str) -> Case | None:
        """Return the last case of an application; None if there is none."""

    def store(self, case: Case) -> Case:
        """Store a case and return it."""

    def is_running(self, application: str) -> bool:
        """Return whether an application runs outside of quarantine."""

    def quarantine(self, case: Case) -> Case:
        """Deny all traffic of what runs of the application, and let no more of it run; return the case as stored.

        What ran goes on running, for the investigation.
        """

    def collect(self, case: Case) -> Collection:
        """Return what an investigation needs of what was isolated, and what was not collected."""


@dataclass(frozen=True)
class IsolationPorts:
    """The dependencies of an isolation."""

    isolator: Isolator
    evidence: EvidenceStore
    repositories: RepositoryCreator
    keys: KeyWrapper
    key: Callable[[], str]
    """Returns the KMS key that seals bundles; raises `SettingInvalid` without one."""
    list_isolations: Callable[[str], Sequence[IsolationRecord]]
    """Application → the last signed record of each of its isolations in the environment."""
    find_deployed: Callable[[str], Expected | None]
    """Application → its last recorded deployment to the environment."""
    list_earlier: Callable[[str], Sequence[ImageRef]]
    """Application → the images that were deployed to the environment, the last one first."""
    judge: Callable[[ImageRef], Admitted[DeployFacts] | Refused]
    deploy: Callable[[Admitted[DeployFacts]], Deployment | Refused]
    now: Callable[[], datetime]
    run: str
    """Identifies the run in the chain of custody."""


def quarantine(new: Case, ports: IsolationPorts) -> Case:
    """Isolate an application; return the case, which is an earlier one if that was interrupted.

    If an earlier one ended and nothing runs since, that one is returned. A case that ended is never opened again: what
    runs since may be what it was rolled back to.
    """
    stored = ports.isolator.find_case(new.application)
    case = _find_continued(stored, new, ports) if stored else new
    if case.id != new.id and case.stage is Stage.ENDED and ports.isolator.is_running(new.application):
        case = new
    if case.stage in (Stage.RECOVERING, Stage.ENDED):
        return case
    return ports.isolator.quarantine(case)


def _find_continued(stored: Case, new: Case, ports: IsolationPorts) -> Case:
    """Return the case that a stored one says is not over; otherwise the new one.

    Whoever may write policies in the namespace may write a stored case. So only its signed record counts. Without one,
    it may be of a run that was killed: its id alone is taken over, by which its pods are found, and all is done again.
    """
    record = find_record(ports.list_isolations(new.application), stored.id)
    if record is None:
        return new if stored.stage in (Stage.RECOVERING, Stage.ENDED) else new.model_copy(update={"id": stored.id})
    is_over = record.recovery is not None and new.since > record.at
    content = record.model_dump(include=Case.model_fields.keys() - {"stage"})
    return Case.model_validate({**content, "stage": Stage.ENDED if is_over else stored.stage})


def preserve(case: Case, ports: IsolationPorts) -> IsolationRecord:
    """Collect what an investigation needs, seal it, and sign the record; return an earlier record of the same case.

    Raises `ImageNotFound` if no deployment of the application is recorded; the application is isolated nevertheless.
    """
    case = _name_image(case, ports)
    place = _place_of(case)
    if earlier := find_isolation(ports.evidence.read_verified(place, TierName.EXECUTION, ISOLATION), case.id):
        return earlier
    assert case.digest and case.isolated  # it is in quarantine
    begun = ports.now()
    collection = ports.isolator.collect(case)
    collected = ports.now()
    bundle = _seal(case, place, collection, ports)
    actor = f"{TierName.EXECUTION}, run {ports.run}"
    acts = ((case.isolated, "quarantined"), (begun, "began to collect"), (collected, "collected"),
            (ports.now(), f"sealed as {bundle.digest}"))  # fmt: skip
    record = IsolationRecord(
        **case.model_dump(exclude={"stage"}),
        pods=collection.pods,
        allowing_policies=collection.allowing_policies,
        items=tuple(item for item, _ in collection.files),
        uncollected=collection.uncollected,
        bundle=bundle,
        custody=tuple(Custody(at=at, by=actor, act=act) for at, act in acts),
        at=ports.now(),
    )
    ports.evidence.attach(place, ISOLATION, record.predicate(), record.at)
    return record


def recover(case: Case, record: IsolationRecord, mode: RecoveryMode, ports: IsolationPorts) -> IsolationRecord:
    """Roll back to the last image that the gate admits now, or leave the application at zero, and sign that."""
    if record.recovery is None:
        ports.isolator.store(case.model_copy(update={"digest": record.digest, "stage": Stage.RECOVERING}))
        recovery = _roll_back(record, ports) if mode is RecoveryMode.ROLL_BACK else Recovery(outcome="scaled-to-zero")
        record = record.model_copy(update={"recovery": recovery, "at": ports.now()})
        ports.evidence.attach(_place_of(record), ISOLATION, record.predicate(), record.at)
    ports.isolator.store(case.model_copy(update={"digest": record.digest, "stage": Stage.ENDED}))
    return record


def _name_image(case: Case, ports: IsolationPorts) -> Case:
    """Return the case with the image that is recorded as deployed, and store it: a later rollback records another."""
    if case.digest:
        return case
    deployed = ports.find_deployed(case.application)
    if deployed is None:
        raise ImageNotFound(
            f"No deployment of {case.application} to {case.environment} is recorded, so nothing was collected.\n"
            f"What runs with its name is isolated. Find out who started it; `cscm monitor` lists it."
        )
    return ports.isolator.store(case.model_copy(update={"digest": deployed.digest}))


def _place_of(case: Case | IsolationRecord) -> ImageRef:
    assert case.digest  # named before
    return locate_execution_evidence(ImageRef(repository=name_curated_repository(case.application), digest=case.digest))


def _seal(case: Case, place: ImageRef, collection: Collection, ports: IsolationPorts) -> SealedBundle:
    """Encrypt what was collected, and attach it; its key is wrapped first, so that nothing unreadable is stored."""
    context = {"image": place.digest, "isolation": case.id}
    content, secret = encrypt(pack(collection.files), context)
    key = ports.key()
    wrapped = wrap_key(ports.keys, key, secret, context)
    ports.repositories.ensure_repository(place.repository, immutable=True, key=None)
    annotations = {CREATED: ports.now().isoformat()}
    referrer = ports.evidence.referrers.attach(place, BUNDLE, content, annotations)
    return SealedBundle(
        referrer=referrer, digest=digest_of(content), key=key, wrapped_key=wrapped, context=context
    )  # fmt: skip


def _roll_back(record: IsolationRecord, ports: IsolationPorts) -> Recovery:
    """Deploy the last earlier image that the gate admits; scale to zero if there is none, or if it does not start."""
    reasons: list[str] = []
    for ref in _list_candidates(record, ports):
        try:
            verdict = ports.judge(ref)
        except (*UNREADABLE, ImageNotFound) as error:
            reasons.append(summarize_error(error))
            continue
        if isinstance(verdict, Refused):
            reasons.append(_describe_refusal(ref, verdict))
            continue
        try:
            deployment = ports.deploy(verdict)
        except DeploymentFailed as error:
            reasons.append(summarize_error(error))
            break
        if isinstance(deployment, Refused):
            reasons.append(_describe_refusal(ref, deployment))
            break
        return Recovery(outcome="rolled-back", digest=ref.digest)
    return Recovery(outcome="scaled-to-zero", why="; ".join(reasons) or "no earlier image was deployed here")


def _describe_refusal(ref: ImageRef, verdict: Refused) -> str:
    return f"{ref.short} is refused ({', '.join(reason.code for reason in verdict.reasons)})"


def _list_candidates(record: IsolationRecord, ports: IsolationPorts) -> Iterator[ImageRef]:
    earlier = dict.fromkeys(ref for ref in ports.list_earlier(record.application) if ref.digest != record.digest)
    yield from list(earlier)[:MOST_JUDGED]


def list_deployed(history: Sequence[Expected], environment: str) -> tuple[ImageRef, ...]:
    """Return the images that were deployed to an environment, the last one first; `history` begins with the oldest."""
    return tuple(read_deployed_image(each) for each in reversed(history) if each.environment == environment)
