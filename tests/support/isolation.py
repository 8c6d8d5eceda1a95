"""An isolation of an application that a target runs, with evidence and keys in memory."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import uuid4

from supply_chain.evidence.statement import ISOLATION
from supply_chain.execution.deployment import Deployment, Expected, read_deployed_image
from supply_chain.execution.isolation.case import Case
from supply_chain.execution.isolation.collection import unseal
from supply_chain.execution.isolation.record import IsolationRecord
from supply_chain.execution.isolation.sequence import IsolationPorts, Isolator, preserve, quarantine, recover
from supply_chain.execution.isolation.settings import RecoveryMode
from supply_chain.execution.records import read_isolations
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.outcome import Admitted, Refused
from tests.contract.target import Harness
from tests.support.builders import NOON
from tests.support.facts import admitted, deploy_facts
from tests.support.memory_kms import MemoryKms
from tests.support.policies import DEPLOY
from tests.support.world import World


@dataclass
class Isolation:
    """A harness of a target, whose deployments are recorded, and what isolates them."""

    harness: Harness
    isolator: Isolator
    world: World
    now: Callable[[], datetime]
    kms: MemoryKms = field(default_factory=MemoryKms)
    refusals: dict[str, Refused] = field(default_factory=dict)
    """Digest → the refusal of the deploy gate."""
    key: str = ""

    def __post_init__(self) -> None:
        self.key = self.kms.create("forensics")

    @property
    def ports(self) -> IsolationPorts:
        return IsolationPorts(
            isolator=self.isolator,
            evidence=self.world.store(TierName.EXECUTION),
            repositories=self.world.ecr,
            keys=self.kms,
            key=lambda: self.key,
            list_isolations=self.list_isolations,
            find_deployed=lambda _: self._recorded[-1] if self._recorded else None,
            list_earlier=lambda _: [read_deployed_image(each) for each in reversed(self._recorded)],
            judge=self._judge,
            deploy=self._deploy,
            now=self.now,
            run="12345678",
        )

    @property
    def _recorded(self) -> list[Expected]:
        return [each.expected for each in self.harness.recorded]

    def _judge(self, ref: ImageRef) -> Admitted[DeployFacts] | Refused:
        return self.refusals.get(ref.digest) or admitted(deploy_facts(self.harness.declaration, ref=ref), DEPLOY)

    def _deploy(self, verdict: Admitted[DeployFacts]) -> Deployment:
        return self.harness.deploy(verdict.facts.ref.digest)

    def case(self, application: str = "hello") -> Case:
        """Return a new case about an event at noon."""
        return Case(
            id=uuid4().hex[:8], environment="staging", application=application, by="ann", reason="odd",
            since=NOON,
        )  # fmt: skip

    def run(self, mode: RecoveryMode = RecoveryMode.ROLL_BACK, case: Case | None = None) -> IsolationRecord:
        """Isolate the application, preserve evidence and recover, as the flow does."""
        ports = self.ports
        case = quarantine(quarantine(case or self.case(), ports), ports)
        return recover(case, preserve(case, ports), mode, ports)

    def signed(self, digest: str) -> list[IsolationRecord]:
        """Return the signed records about an image, the oldest first."""
        place = ImageRef(repository="evidence/execution/hello", digest=digest)
        statements = self.world.store(TierName.EXECUTION).read_verified(place, TierName.EXECUTION, ISOLATION)
        return [IsolationRecord.model_validate(each.predicate) for each in statements]

    def list_isolations(self, application: str) -> tuple[IsolationRecord, ...]:
        """Return the last signed record of each isolation of an application."""
        evidence = self.world.store(TierName.EXECUTION)
        return read_isolations("staging", self.world.ecr, self.world.registry, evidence, application)

    def opened(self, record: IsolationRecord) -> bytes:
        """Return the bundle of a record, opened as an investigator does."""
        bundle = record.bundle
        referrer = ImageRef(repository="evidence/execution/hello", digest=bundle.referrer)
        key = self.kms.unwrap(bundle.key, base64.b64decode(bundle.wrapped_key), bundle.context)
        return unseal(bundle, self.world.registry.content(referrer), key)
