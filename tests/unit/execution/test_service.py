"""take_into_service: signs the verdict first, supplies the image by classification and records the deployment last."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace

import pytest

from supply_chain.adapters.process.cancellation import (
    Cancellation,
    current,
    defer_cancellation,
    get_current_cancellation,
)
from supply_chain.errors import AccessDenied, BaseMissing
from supply_chain.evidence.approval import Approval
from supply_chain.evidence.image_status import Act, LifecycleDecision, locate_image_status
from supply_chain.evidence.statement import APPROVAL, DEPLOYMENT, LIFECYCLE, SUMMARY
from supply_chain.evidence.summary import find_last_verdict, make_summary
from supply_chain.execution import docker
from supply_chain.execution.deploy import Order
from supply_chain.execution.deployment import Deployment, DockerPlace
from supply_chain.execution.docker import PROXY, DockerTarget
from supply_chain.execution.environment import DockerEnvironment, DockerPlacement
from supply_chain.execution.service import DeployPorts, take_into_service
from supply_chain.model.container import make_profile
from supply_chain.model.declaration import Classification, Probe
from supply_chain.model.image import Digest, ImageRef
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.outcome import Refused
from supply_chain.policy.policies import GatePolicy
from tests.support.facts import admitted, deploy_facts
from tests.support.memory_engine import MemoryEngine
from tests.support.pieces import Pieces
from tests.support.policies import DEPLOY, policy, rule
from tests.support.present import present
from tests.support.signer import EcdsaSigner
from tests.support.world import World

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
WHERE = REF.with_repository("evidence/execution/hello")
NEWEST, PINNED = "sha256:" + "1" * 64, "sha256:" + "2" * 64


@dataclass
class Around:
    """The world of a deployment, which records the calls in their order."""

    world: World
    make: SimpleNamespace
    asked: list[str] = field(default_factory=list)
    orders: list[tuple[Order, Digest]] = field(default_factory=list)
    may_record: bool = True
    no_proxy: bool = False
    minimum: Classification | None = None
    runs_already: bool = False
    meanwhile: Callable[[], object] = lambda: None
    policy: GatePolicy[DeployFacts] = DEPLOY
    """That of the moment before the image serves."""

    def ensure_repository(self, repository, *, immutable, key):
        if not self.may_record:
            raise AccessDenied("no\nno")
        self.asked.append(f"repository {repository}")

    def released(self, name):
        if self.no_proxy:
            raise BaseMissing("no\nno")
        return name.partition("@")[2] or NEWEST

    def deploy(self, engine, order, supply, *, now, wait, may_serve, recorded):
        """Stand in for the real deployment, which needs an engine that runs containers."""
        kinds = [
            e.predicate_type for e in self.world.store(TierName.EXECUTION).read_verified(WHERE, TierName.EXECUTION)
        ]
        self.asked.append(f"deploy after {kinds}")
        self.orders.append((order, "" if self.runs_already else supply()))
        self.meanwhile()
        may_serve()
        return recorded(Deployment(
            environment=order.environment.name, application="hello", digest=order.digest, container="c" * 64,
            name="staging-hello-1",
            place=DockerPlace(reverse_proxy="f" * 64, proxy=order.proxy, address="127.0.0.1", port=8080),
            probe=Probe(port=8080), settings={}, profile=make_profile(order.declaration.runtime),
            configuration="sha256:" + "e" * 64, changed=True, started_at=self.make.noon,
        ))  # fmt: skip

    def taken(self, *, proxy=None, force=False, max_age=None, **declared):
        declaration = self.make.declaration(**declared)
        verdict = admitted(deploy_facts(declaration, ref=REF), DEPLOY)
        environment = DockerEnvironment(name="staging", proxy=proxy, applications={"hello": DockerPlacement(port=8080)})
        target = DockerTarget(
            environment, MemoryEngine, lambda _: Brought("pulled", self.asked),
            lambda _: Brought("decrypted", self.asked), self.released, "registry", lambda: self.make.noon, time.sleep,
        )  # fmt: skip
        ports = DeployPorts(
            target=target, bases=lambda: (), minimum_classification=lambda _: self.minimum, repositories=self,
            evidence=self.world.store(TierName.EXECUTION),
            policy=self.policy, now=lambda: self.make.noon, to_its_end=defer_cancellation,
            max_age={"staging": max_age}.get,
        )  # fmt: skip
        return take_into_service(verdict, ports, "run", force=force)


@dataclass
class Brought:
    """A supply that records how it supplied an image."""

    how: str
    asked: list[str]

    def supply(self, ref):
        self.asked.append(f"{self.how} {ref.repository}")
        return ref.digest if ref.repository == PROXY else self.how


@pytest.fixture
def around(world, make, monkeypatch):
    around, pieces = Around(world, make), Pieces(world, make)
    for piece in (*pieces.development.values(), *pieces.curated.values()):
        pieces.attach(REF, *piece)
    monkeypatch.setattr(docker, "deploy", around.deploy)
    return around


def test_verdict_is_signed_before_start_and_record_after(around, world):
    """The evidence explains every running container."""
    deployment = around.taken()

    assert around.asked[0] == "repository evidence/execution/hello"
    assert f"deploy after {[SUMMARY]}" in around.asked
    found = world.store(TierName.CURATION).read_verified(WHERE, TierName.EXECUTION)
    assert sorted(e.predicate_type for e in found) == sorted([SUMMARY, DEPLOYMENT])
    (record,) = [e for e in found if e.predicate_type == DEPLOYMENT]
    assert record.predicate["deployment"]["container"] == deployment.container


@pytest.mark.parametrize(("seconds", "signed"), [(0, 2), (1, 1)])
def test_verdict_too_old_within_a_day_is_signed_again(around, world, seconds, signed):
    """A return to an old image would otherwise rest on its old verdict, which does not count any more."""
    around.taken()
    around.taken(max_age=timedelta(days=1, seconds=seconds))

    found = world.store(TierName.CURATION).read_verified(WHERE, TierName.EXECUTION)
    assert [each.predicate_type for each in found].count(SUMMARY) == signed


def blocked(world, make):
    by = LifecycleDecision(act=Act.BLOCK, by="ann", reason="exploited", at=make.noon)
    world.store(TierName.LIFECYCLE).attach(locate_image_status(REF), LIFECYCLE, by.predicate(), make.noon)


def denied(world, make):
    approval = Approval(
        environment="staging", digest=REF.digest, decision="denied", by="bob", reason="not today", decided=make.noon
    )
    world.store(TierName.EXECUTION).attach(WHERE, APPROVAL, approval.predicate(), make.noon)


def refused_by_curation(world, make):
    reasons = [{"code": "scan.critical", "fact": "one", "remedy": "mend it"}]
    at = make.noon + timedelta(minutes=1)
    statement = make_summary(REF, Gate.RELEASE, "sha256:" + "9" * 64, reasons=reasons, notes=(), inputs=(), now=at)
    world.now = at
    world.store(TierName.CURATION).attach(REF, SUMMARY, statement.predicate(), at)


@pytest.mark.parametrize(
    ("signed", "why"),
    [
        (blocked, r"blocked by ann on .*: exploited"),
        (denied, r"bob .*not today.*approval\.denied"),
        (refused_by_curation, r"verdict\.release\.refused"),
    ],
)
def test_image_refused_during_deployment_does_not_serve(around, world, make, signed, why):
    """A block, a denial or a verdict of a rescan takes effect up to the switch, and is an answer, not a failure."""
    around.meanwhile = lambda: signed(world, make)

    verdict = around.taken()

    assert isinstance(verdict, Refused)
    assert re.search(why, "; ".join(f"{each.fact} ({each.code})" for each in verdict.reasons))

    found = world.store(TierName.CURATION).read_verified(WHERE, TierName.EXECUTION)
    assert DEPLOYMENT not in [e.predicate_type for e in found]
    assert not present(find_last_verdict(found, Gate.DEPLOY, REF.digest)).value.passed, (
        "what was signed before is a yes"
    )


def test_image_does_not_serve_if_the_register_requires_more_meanwhile(around):
    """The name register is read again with the evidence."""

    def require():
        around.minimum = Classification.CONFIDENTIAL

    around.meanwhile = require

    verdict = around.taken()

    assert isinstance(verdict, Refused) and [each.code for each in verdict.reasons] == ["name.classification"]


def test_deployment_goes_on_if_a_freeze_begins_meanwhile(around):
    """It began before; a refusal now would also withdraw what runs."""
    frozen = rule("a.freeze", expression="now < timestamp('2020-01-01T00:00:00Z')")
    around.policy = policy(Gate.DEPLOY, rule("a.b", expression="image.digest != ''"), frozen)

    assert isinstance(around.taken(), Deployment)

    around.policy = policy(Gate.DEPLOY, rule("a.b"), frozen)
    assert isinstance(around.taken(), Refused)


def test_deployment_stops_if_reverse_proxy_is_blocked_meanwhile(around, world):
    """Users would reach the application through a blocked image."""
    around.meanwhile = lambda: setattr(around, "no_proxy", True)

    with pytest.raises(BaseMissing):
        around.taken()

    found = world.store(TierName.CURATION).read_verified(WHERE, TierName.EXECUTION)
    assert DEPLOYMENT not in [e.predicate_type for e in found]


def test_deployment_without_write_access_to_records_starts_nothing(around):
    """A container without a record would be a foreign container."""
    around.may_record = False

    with pytest.raises(AccessDenied):
        around.taken()

    assert around.orders == [] and around.asked == []


@pytest.mark.parametrize(("pinned", "proxy"), [(None, NEWEST), (PINNED, PINNED)], ids=["newest", "pinned"])
def test_reverse_proxy_is_pinned_by_environment_or_newest_admitted(around, pinned, proxy):
    """It is brought to the engine together with the image."""
    around.taken(proxy=pinned)

    ((order, _),) = around.orders
    assert order.proxy == proxy
    assert f"pulled {PROXY}" in around.asked


@pytest.mark.parametrize("classification", ["internal", "confidential"])
def test_deployment_of_running_image_pulls_no_image(around, classification):
    """Nothing starts."""
    around.runs_already = True

    around.taken(classification=classification)

    assert not [each for each in around.asked if each.startswith(("pulled", "decrypted"))]


@pytest.mark.parametrize(
    ("classification", "how"), [("public", "pulled"), ("internal", "pulled"), ("confidential", "decrypted")]
)
def test_confidential_image_is_supplied_from_encrypted_copy(around, classification, how):
    """Other images are pulled."""
    around.taken(classification=classification, force=True)

    ((order, brought),) = around.orders
    assert (brought, order.run_id, order.force) == (how, "run", True)


def test_serving_deployment_is_recorded_even_if_run_is_cancelled(around, world, monkeypatch):
    """A block cancels active runs; without a record, the running container could not be found."""
    scope = Cancellation()
    sign = EcdsaSigner.sign

    def signed(signer, *payload):
        get_current_cancellation().wait(0)  # like the command of the signer, which ends with its run
        return sign(signer, *payload)

    monkeypatch.setattr(EcdsaSigner, "sign", signed)
    around.meanwhile = scope.cancel
    token = current.set(scope)
    try:
        around.taken()
    finally:
        current.reset(token)

    found = world.store(TierName.EXECUTION).read_verified(WHERE, TierName.EXECUTION)
    assert scope.cancelled and DEPLOYMENT in [e.predicate_type for e in found]
