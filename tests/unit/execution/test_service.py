"""Taking into service: the verdict first, then the image as its classification asks, and the record last."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from supply_chain.app import Probe
from supply_chain.container import profile
from supply_chain.errors import AccessDenied, DeploymentFailed
from supply_chain.evidence.standing import Act, Ruling, standing_place
from supply_chain.evidence.statement import DEPLOYMENT, LIFECYCLE, SUMMARY
from supply_chain.execution import service
from supply_chain.execution.deploy import Deployment
from supply_chain.execution.environment import Environment, Placement
from supply_chain.execution.service import PROXY, Site, take_into_service
from supply_chain.image import CuratedImage, ImageRef
from supply_chain.policy.gate import Dossier
from supply_chain.policy.outcome import Admitted
from supply_chain.tier import Boundary, TierName
from tests.engine.memory import MemoryEngine

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
WHERE = REF.moved_to("evidence/execution/hello")
NEWEST, PINNED = "sha256:" + "1" * 64, "sha256:" + "2" * 64


@dataclass
class Around:
    """The world that a deployment sees, and what was asked of it in which order."""

    world: object
    make: object
    asked: list = field(default_factory=list)
    orders: list = field(default_factory=list)
    may_record: bool = True
    meanwhile: Callable[[], object] = lambda: None

    def ensure_repository(self, repository, *, immutable, key):
        if not self.may_record:
            raise AccessDenied("no\nno")
        self.asked.append(f"repository {repository}")

    def vended(self, name):
        return name.partition("@")[2] or NEWEST

    def deploy(self, engine, order, supply, *, now, wait, may_serve):
        """In place of the real one, which needs an engine that runs things."""
        kinds = [e.predicate_type for e in self.world.store(TierName.EXECUTION).verified(WHERE, TierName.EXECUTION)]
        self.asked.append(f"deploy after {kinds}")
        self.orders.append((order, supply.supply(REF)))
        self.meanwhile()
        may_serve()
        return Deployment(
            environment=order.environment.name, application="hello", digest=order.digest, container="c" * 64,
            name="staging-hello-1", front="f" * 64, proxy=order.proxy, address="127.0.0.1", port=8080,
            probe=Probe(port=8080), settings={}, profile=profile(order.manifest.runtime),
            configuration="sha256:" + "e" * 64, changed=True, started_at=self.make.noon,
        )  # fmt: skip

    def taken(self, *, proxy=None, fresh=False, **declared):
        manifest = self.make.manifest(**declared)
        image = CuratedImage(ref=REF, tag="t", source=self.make.source(), environments=manifest.environments)
        admitted = Admitted[CuratedImage](image=image, boundary=Boundary.TO_EXECUTION, policy="sha256:" + "9" * 64)
        dossier = Dossier(image=image, ref=REF, manifest=manifest, evidence=())
        environment = Environment(name="staging", proxy=proxy, applications={"hello": Placement(port=8080)})
        site = Site(
            engine=MemoryEngine(), plain=Brought("pulled", self.asked), confidential=Brought("decrypted", self.asked),
            vended=self.vended, repositories=self, evidence=self.world.store(TierName.EXECUTION),
            now=lambda: self.make.noon, wait=time.sleep,
        )  # fmt: skip
        return take_into_service(admitted, dossier, environment, site, "run", fresh=fresh)


@dataclass
class Brought:
    """A supply that says how it brought an image."""

    how: str
    asked: list

    def supply(self, ref):
        self.asked.append(f"{self.how} {ref.repository}")
        return ref.digest if ref.repository == PROXY else self.how


@pytest.fixture
def around(world, make, monkeypatch):
    around = Around(world, make)
    monkeypatch.setattr(service, "deploy", around.deploy)
    return around


def test_the_verdict_is_kept_before_anything_starts_and_the_record_after(around, world):
    """Whoever looks at what runs finds why it may."""
    deployment = around.taken()

    assert around.asked[0] == "repository evidence/execution/hello"
    assert f"deploy after {[SUMMARY]}" in around.asked
    found = world.store(TierName.CURATION).verified(WHERE, TierName.EXECUTION)
    assert sorted(e.predicate_type for e in found) == sorted([SUMMARY, DEPLOYMENT])
    (record,) = [e for e in found if e.predicate_type == DEPLOYMENT]
    assert record.predicate["deployment"]["container"] == deployment.container


def test_what_is_blocked_while_it_is_made_ready_does_not_serve(around, world):
    """A block says what runs from the image; that has to be all that ever will."""

    def block():
        by = Ruling(act=Act.BLOCK, by="ann", why="exploited", at=around.make.noon)
        world.store(TierName.LIFECYCLE).attach(standing_place(REF), LIFECYCLE, by.predicate(), around.make.noon)

    around.meanwhile = block

    with pytest.raises(DeploymentFailed, match=r"blocked by ann on .*: exploited, after"):
        around.taken()

    found = world.store(TierName.CURATION).verified(WHERE, TierName.EXECUTION)
    assert [e.predicate_type for e in found] == [SUMMARY]


def test_who_may_not_record_it_starts_nothing(around):
    """A container that no evidence explains would be a stranger."""
    around.may_record = False

    with pytest.raises(AccessDenied):
        around.taken()

    assert around.orders == [] and around.asked == []


@pytest.mark.parametrize(("pinned", "proxy"), [(None, NEWEST), (PINNED, PINNED)], ids=["newest", "pinned"])
def test_the_proxy_is_the_environments_or_the_newest_one_admitted(around, pinned, proxy):
    """It is in the engine before the deployment begins."""
    around.taken(proxy=pinned)

    ((order, _),) = around.orders
    assert order.proxy == proxy
    assert f"pulled {PROXY}" in around.asked[:2]


@pytest.mark.parametrize(
    ("classification", "how"), [("public", "pulled"), ("internal", "pulled"), ("confidential", "decrypted")]
)
def test_what_is_confidential_comes_from_its_encrypted_copy(around, classification, how):
    """And nothing else does."""
    around.taken(classification=classification, fresh=True)

    ((order, brought),) = around.orders
    assert (brought, order.run_id, order.fresh) == (how, "run", True)
