"""The images of one application in memory, on which promotions are planned."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace

from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.evidence.approval import Approval
from supply_chain.evidence.soak import Soak
from supply_chain.evidence.statement import APPROVAL, PROVENANCE, SIGNATURE, SOAK, SUMMARY
from supply_chain.evidence.summary import make_summary
from supply_chain.execution.deployment import Deployment, DockerPlace
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.execution.records import record
from supply_chain.model.container import make_profile
from supply_chain.model.declaration import Probe
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.policies import GatePolicy
from supply_chain.policy.verdict import locate_execution_evidence, locate_verdicts
from supply_chain.promotion.to_curation import (
    find_missed_curations,
    plan_newest_promotion_to_curation,
    plan_promotion_to_curation,
)
from supply_chain.promotion.to_environment import (
    PromotionSources,
    find_missed_deployments,
    plan_promotion_to_environment,
)
from tests.support.pieces import Pieces
from tests.support.policies import DEPLOY

DEV, CURATION, EXECUTION = TierName.DEVELOPMENT, TierName.CURATION, TierName.EXECUTION
PLACES = ("staging", "production")
POLICY = "sha256:" + "9" * 64


def digest(number):
    return f"sha256:{number:064x}"


@dataclass
class Chain:
    """The images of one application by number; the image that was pushed last has the highest number."""

    pieces: Pieces
    make: SimpleNamespace
    running: dict[str, int] = field(default_factory=dict)
    approval: str = "none"
    approvers: int = 1
    asked: int | None = 60
    placed: tuple[str, ...] = PLACES
    after: str | None = None
    policy: GatePolicy[DeployFacts] = DEPLOY
    invalid: dict[str, DeclarationInvalid | SettingInvalid] = field(default_factory=dict)

    def __post_init__(self):
        self.ecr = self.pieces.world.ecr

    def dev(self, number):
        return ImageRef(repository="dev/hello", digest=digest(number))

    def curated(self, number):
        return ImageRef(repository="curated/hello", digest=digest(number))

    def push(self, ref, number=1):
        """List an image in the registry."""
        self.ecr.registry.add(ref, tags=("t",), pushed_at=self.make.noon + timedelta(minutes=number))

    def offer(self, number, *, signed=True, **declared):
        self.push(self.dev(number), number)
        if signed:
            self.pieces.attach(self.dev(number), DEV, PROVENANCE, self._provenance(number, declared))

    def _provenance(self, number, declared):
        what = {"environments": list(PLACES), **declared}
        return self.make.provenance(built={"digest": digest(number)}, **what)

    def judge(self, number, gate, *codes, hour=0):
        """Sign a verdict; without reasons, it admits the image."""
        ref = self.dev(number) if gate is Gate.INTAKE else self.curated(number)
        where = locate_verdicts(ref, gate, admitted=not codes)[0]
        signer = EXECUTION if gate is Gate.DEPLOY else CURATION
        reasons = [{"code": code, "fact": "f", "remedy": "r"} for code in codes]
        at = self.make.noon + timedelta(hours=hour)
        statement = make_summary(ref, gate, POLICY, reasons=reasons, notes=(), inputs=(), now=at)
        self.pieces.attach(where, signer, SUMMARY, statement.predicate())

    def release(self, number, hour=0, **declared):
        self.push(self.curated(number), number)
        self.pieces.attach(self.curated(number), DEV, PROVENANCE, self._provenance(number, declared))
        self.judge(number, Gate.INTAKE)
        self.judge(number, Gate.RELEASE, hour=hour)
        self.pieces.attach(self.curated(number), CURATION, SIGNATURE, {})

    def deploy(self, number, environment="staging", container="1", hour=0):
        self.running[environment] = number
        deployment = Deployment(
            environment=environment, application="hello", digest=digest(number), container=container, name="n",
            place=DockerPlace(reverse_proxy="2", proxy=digest(0), address="127.0.0.1", port=8080),
            probe=Probe(port=8080), settings={},
            profile=make_profile(self.make.declaration().runtime), configuration=digest(0), changed=True,
            started_at=self.make.noon,
        )  # fmt: skip
        at = self.make.noon + timedelta(hours=hour)
        record(deployment, self.curated(number), self.pieces.world.store(EXECUTION), at)

    def soak(self, number, environment="staging", signer=EXECUTION, seconds=60, container="1"):
        until = self.make.noon + timedelta(seconds=seconds)
        statement = Soak(environment=environment, digest=digest(number), container=container, since=self.make.noon,
                         until=until, observations=2, required_seconds=seconds)  # fmt: skip
        self.pieces.attach(self._evidence(number), signer, SOAK, statement.predicate())

    def decide(self, number, decision, environment="production", hour=0, signer=EXECUTION, **changes):
        at = self.make.noon + timedelta(hours=hour)
        statement = Approval(environment=environment, digest=digest(number), decision=decision, reason="so",
                             decided=at, **{"by": "Ada", **changes})  # fmt: skip
        self.pieces.attach(self._evidence(number), signer, APPROVAL, statement.predicate())

    def _evidence(self, number):
        return locate_execution_evidence(self.curated(number))

    # the documents of an operator

    def read(self, name):
        if name not in PLACES:
            raise SettingInvalid(f"There is no environment {name!r}.\nThere are others.")
        if name in self.invalid:
            raise self.invalid[name]
        places = {"hello": {"port": 8080}} if name in self.placed else {}
        approval = self.approval if name == "production" else "none"
        after = self.after if name == "production" else None
        approvers = self.approvers if approval == "signed" else 1
        return DockerEnvironment(
            name=name, applications=places, approval=approval, approvers=approvers, soak=self.asked, after=after
        )

    def current(self, application, environment):
        assert application == "hello"
        number = self.running.get(environment)
        return None if number is None else self.curated(number)

    # the functions under test

    def to_curation(self, number):
        return plan_promotion_to_curation(self.dev(number), self.ecr, self.pieces.world.store(CURATION))

    def newest(self, number):
        return plan_newest_promotion_to_curation(self.dev(number), self.ecr, self.pieces.world.store(CURATION))

    def onward(self, number, after=None):
        return plan_promotion_to_environment(self.curated(number), after, self._sources)

    def missed(self, *, shallow=False):
        found = find_missed_curations(self.ecr, self.pieces.world.store(CURATION), shallow=shallow)
        return (*found, *find_missed_deployments(self._sources))

    @property
    def _sources(self):
        return PromotionSources(
            self.ecr, self.pieces.world.store(EXECUTION), self.read, self.invalid, self.current, self.policy
        )
