"""The ports of the execution tier: a verdict of the deploy gate reaches the cluster of its environment."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from blocks import execution_ports
from blocks.cluster import KubernetesCluster
from blocks.execution_ports import ExecutionPorts
from blocks.git import GitRepository
from blocks.host import ContainerHost
from blocks.tier_ports import TierPorts
from supply_chain.adapters.process.cancellation import Cancellation
from supply_chain.development.bases import CuratedBases
from supply_chain.errors import (
    AwsFailed,
    BaseMissing,
    Cancelled,
    ClusterRefused,
    ClusterUnavailable,
    EvidenceInvalid,
    ImageNotFound,
    PolicyUnsigned,
    RegistryUnavailable,
    SettingInvalid,
)
from supply_chain.evidence.image_status import Act, sign_decision
from supply_chain.evidence.published import PublishedVerdicts, read_current_verdict
from supply_chain.evidence.summary import make_summary
from supply_chain.execution.delivery.repository import FetchedBranches
from supply_chain.execution.delivery.settings import Delivery, GitDelivery
from supply_chain.execution.delivery.target import GitTarget
from supply_chain.execution.enforcement.enforcement import Enforcement
from supply_chain.execution.enforcement.settings import EnforcementSettings
from supply_chain.execution.enforcement.verification import Verification
from supply_chain.execution.environment import DockerEnvironment, KubernetesEnvironment, KubernetesPlacement
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.execution.isolation.settings import CollectorSettings, ResponseSettings
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.model.declaration import Classification
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.activation import PolicyState
from supply_chain.policy.names import Holder, NameRegister
from supply_chain.policy.outcome import Refused
from tests.support.builders import NOON
from tests.support.facts import CURATED
from tests.support.signer import EcdsaSigner

ENFORCED = KubernetesEnvironment(
    name="production",
    target="kubernetes",
    cluster="main",
    namespace="apps",
    enforcement=EnforcementSettings.model_validate({"mode": "deny", "tolerated_refusals": ["scan.old", "checks.old"]}),
)
PLACES: dict[str, DockerEnvironment | KubernetesEnvironment] = {
    "production": ENFORCED,
    "open": ENFORCED.model_copy(update={"name": "open", "namespace": "open", "enforcement": None}),
    "staging": DockerEnvironment(name="staging"),
}


@pytest.fixture
def ports(world, tmp_path, monkeypatch):
    """Ports of which only one environment has enforcement, in a project without roles."""
    store = world.store(TierName.EXECUTION)
    published = PublishedVerdicts(world.verdict_store(TierName.EXECUTION), world.ecr)
    monkeypatch.setattr(TierPorts, "evidence", property(lambda _: replace(store, publisher=published)))
    workbench = SimpleNamespace(
        environment=PLACES.__getitem__, valid_environment=PLACES.__getitem__, project=tmp_path, tool=None,
        environment_documents=lambda: EnvironmentDocuments(tuple(PLACES.values()), {}),
        environment_state=lambda environment: PolicyState(active=environment is ENFORCED, why="changed"),
    )  # fmt: skip
    tier = SimpleNamespace(session=None, registry="registry.test", verdict_key="", verdict_keys={}, tier="execution")
    monkeypatch.setattr(ExecutionPorts, "verdicts", world.verdict_store(TierName.EXECUTION))
    monkeypatch.setattr(ExecutionPorts, "cached_verdicts", world.verdict_store(TierName.EXECUTION))
    monkeypatch.setattr(ExecutionPorts, "repositories", world.ecr)
    cluster = SimpleNamespace(client=lambda session: pytest.fail("nothing needs the cluster"))
    blocks: Any = tier, workbench, {"main": cluster}
    return ExecutionPorts(*blocks)


def test_enforcement_has_the_settings_of_its_environment(ports):
    """Without `enforcement`, an environment has none, and the error says where to write it."""
    place = ports.enforcement("production").place

    assert (place.environment, place.namespace, place.mode) == ("production", "apps", "deny")
    assert place.tolerated_refusals == {"scan.old", "checks.old"}
    for other in ("open", "staging"):
        with pytest.raises(SettingInvalid, match=f"{other}.yaml"):
            ports.enforcement(other)


def test_kyverno_verifies_with_key_and_applications_of_environment(ports, monkeypatch, world):
    """A verdict is renewed before it is too old for it."""
    key, ages = EcdsaSigner().public, []
    settings = EnforcementSettings.model_validate({"mode": "deny", "kyverno": {"max_days": 7, "secret": "ecr"}})
    placements = {"shop": KubernetesPlacement.model_validate({"replicas": 2}), "hello": None}
    made = ENFORCED.model_copy(update={"enforcement": settings, "applications": placements})
    monkeypatch.setitem(PLACES, "production", made)
    ports.tier.insecure_registry, ports.tier.trusted_verdict_key = True, lambda _: key
    monkeypatch.setattr(execution_ports, "renew_published", lambda *given: ages.append(given[-2]))
    monkeypatch.setattr(type(ports), "_verdict_ports", None)
    monkeypatch.setattr(type(ports), "follow_verdict", lambda *_: None)

    found = ports.enforcement("production").place.verification
    for each in PLACES.values():
        ports.renew_published(CURATED, each)

    assert found == Verification("registry.test", (key,), ("hello", "shop"), timedelta(days=7), "ecr", insecure=True)
    assert ages == [timedelta(days=7), None, None]


def test_unsigned_environment_accepts_no_lapsed_verdict(ports):
    """Whoever can change the file could otherwise let blocked images run on."""
    ports.workbench.environment_state = lambda environment: PolicyState(active=False, why="changed")

    enforcement = ports.enforcement("production")
    assert enforcement.place.tolerated_refusals == frozenset() and not enforcement.state.active


def test_cluster_with_enforcement_follows_published_verdict(ports, monkeypatch):
    """Whatever publishes it: a deployment, a refusal or a response to a block."""
    followed = []
    production = replace(ports.enforcement("production"))
    monkeypatch.setattr(type(production), "follow", lambda self, ref: followed.append((self.place.environment, ref)))

    for environment in ("staging", "production"):
        predicate = make_summary(
            CURATED, Gate.DEPLOY, "sha256:" + "9" * 64, reasons=[], notes=(), inputs=(), now=NOON,
            environment=environment,
        ).predicate()  # fmt: skip
        ports.evidence.publisher.prepare(CURATED, predicate, NOON)()

    assert followed == [("production", CURATED)]


@pytest.mark.parametrize(("error", "raised"), [(None, None), (ClusterRefused, None), (ClusterUnavailable, True)])
def test_verdict_reaches_cluster_after_enforcement_setting_is_removed(ports, monkeypatch, error, raised):
    """The cluster goes on to admit by it. Where nobody may read that, nothing was installed; an outage is an error."""
    followed = []

    def follow(self, ref):
        followed.append((self.place.environment, self.place.namespace, self.place.tolerated_refusals, ref))
        if error:
            raise error("it is so\ngo on")

    monkeypatch.setattr(Enforcement, "follow_installed", follow)
    ports.follow_verdict(CURATED, "staging")
    with pytest.raises(error) if raised else nullcontext():
        ports.follow_verdict(CURATED, "open")

    assert followed == [("open", "open", frozenset(), CURATED)]


def test_cluster_follows_unchanged_verdict(ports, monkeypatch):
    """An earlier run may have published it, and then not have reached the cluster."""
    followed = []
    production = ports.enforcement("production")
    monkeypatch.setattr(type(production), "follow", lambda self, ref: followed.append((self.place.environment, ref)))
    monkeypatch.setattr(execution_ports, "judge_published", lambda *_: None)
    monkeypatch.setattr(type(ports), "_verdict_ports", None)

    assert ports.judge_published(CURATED, ports.workbench.environment("production")) is None
    assert followed == [("production", CURATED)]


def test_cluster_follows_published_verdict_if_gate_is_inactive(ports, monkeypatch):
    """An earlier run may have published the refusal of a blocked image. An outage is raised at once."""
    followed, errors = [], [PolicyUnsigned("it is not active\nSign it."), RegistryUnavailable("it is away\nWait.")]
    production = ports.enforcement("production")
    monkeypatch.setattr(type(production), "follow", lambda self, ref: followed.append((self.place.environment, ref)))

    def judge(*_):
        raise errors[0]

    monkeypatch.setattr(execution_ports, "judge_published", judge)
    while errors:
        with pytest.raises(type(errors[0])):
            ports.judge_published(CURATED, ports.workbench.environment("production"))
        del errors[0]

    assert followed == [("production", CURATED)]


def test_block_is_published_to_inactive_environment(ports, world, monkeypatch):
    """Both of the policies that are not active and of the document: the block is published, and the cluster follows."""
    followed = []
    production = ports.enforcement("production")
    monkeypatch.setattr(type(production), "follow", lambda self, ref: followed.append((self.place.environment, ref)))
    ports.workbench.active_requirements = ports.workbench.policies = raise_unsigned
    assert ports.read_published(CURATED, "production") is None
    publish(ports, "production")
    assert (
        ports.read_published(CURATED, "production").verdict.passed and ports.read_published(CURATED, "staging") is None
    )
    block(world)

    assert isinstance(ports.judge_published(CURATED, ENFORCED), Refused)
    assert not ports.read_published(CURATED, "production").verdict.passed

    assert not read_current_verdict(ports.verdicts, CURATED, Gate.DEPLOY, "production").admits
    assert followed == [("production", CURATED)] * 2


def test_block_is_published_to_environment_without_valid_document(ports, world):
    """Nobody deploys there, and clients of the verdict would go on to admit the image."""
    unreadable = {name: SettingInvalid("Its soak is wrong.\nCorrect it.") for name in ("bad", "unpublished")}
    ports.workbench.environment_documents = lambda: EnvironmentDocuments(tuple(PLACES.values()), unreadable)
    ports.workbench.policies = raise_unsigned
    why = {"bad": "Its soak is wrong", "old": "the environment was removed"}
    for environment in (*why, "staging"):
        publish(ports, environment)
    assert ports.list_undescribed(CURATED) == why
    assert ports.refuse_blocked(CURATED, "old", why["old"]) is None
    block(world)

    for environment, reason in why.items():
        assert isinstance(ports.refuse_blocked(CURATED, environment, reason), Refused)

    for environment, admits in (("bad", False), ("old", False), ("staging", True)):
        current = read_current_verdict(ports.verdicts, CURATED, Gate.DEPLOY, environment)
        assert current.admits is admits
        assert admits or why[environment] in current.verdict.cscm.notes[0]
    assert ports.refuse_blocked(CURATED, "old", why["old"]) is None


def test_enforcement_is_refused_for_contradictory_environments(ports):
    """Two in one namespace would replace each other's; each can be read."""

    def refuse(name):
        raise SettingInvalid("two are in one namespace\nchange one")

    ports.workbench.valid_environment = refuse

    with pytest.raises(SettingInvalid, match="one namespace"):
        ports.enforcement("production")
    assert list(ports.enforcements) == ["production"]


def test_enforcement_knows_cluster_and_unreadable_environments(ports):
    """What a cluster has of others was left there; one that moved to a container host is among these."""
    unreadable = {"broken": SettingInvalid("it is invalid\nno")}
    ports.workbench.environment_documents = lambda: EnvironmentDocuments(tuple(PLACES.values()), unreadable)
    ports.workbench.valid_environment = lambda name: None

    assert ports.enforcement("production").environments == {"production", "open", "broken"}


def raise_unsigned(*_):
    raise PolicyUnsigned("It is not active.\nSign it.")


def publish(ports, environment):
    """Publish an admission to an environment."""
    predicate = make_summary(
        CURATED, Gate.DEPLOY, "sha256:" + "9" * 64, reasons=[], notes=(), inputs=(), now=NOON, environment=environment
    ).predicate()
    ports.evidence.publisher.prepare(CURATED, predicate, NOON)()


def block(world):
    world.now = NOON + timedelta(days=3650)
    sign_decision(CURATED, Act.BLOCK, world.store(TierName.LIFECYCLE), world.ecr, by="ann", reason="bad", now=NOON)


def test_decision_version_changes_with_documents_that_decide(ports):
    """Its applications are placed without a signature, and no verdict depends on them."""
    ports.workbench.unsigned_policies = lambda: SimpleNamespace(deploy=SimpleNamespace(version="1"))
    names = {"shop": Holder(owner="shop")}
    ports.workbench.unsigned_names = lambda: NameRegister(names=names)
    before = ports.decision_version()
    places = [*PLACES.values()]
    ports.workbench.environment_documents = lambda: EnvironmentDocuments(tuple(places), {})
    assert ports.decision_version() == before

    places[0] = ENFORCED.model_copy(update={"description": "of the shop"})
    assert ports.decision_version() == before
    places[0] = ENFORCED.model_copy(update={"approval": "required"})
    assert ports.decision_version() != before
    places[0] = ENFORCED
    ports.workbench.unsigned_policies = lambda: SimpleNamespace(deploy=SimpleNamespace(version="2"))
    assert ports.decision_version() != before
    ports.workbench.unsigned_policies = lambda: SimpleNamespace(deploy=SimpleNamespace(version="1"))
    assert ports.decision_version() == before
    names["shop"] = Holder(owner="shop", classification=Classification.CONFIDENTIAL)
    assert ports.decision_version() != before


async def test_missing_block_of_cluster_is_an_error_only_where_it_is_needed(ports, monkeypatch):
    """Other environments are deployed to and watched, and no verdict counts as known to that cluster."""
    monkeypatch.setattr(ExecutionPorts, "_load", AsyncMock(return_value=(ports.tier, ports.workbench)))
    monkeypatch.setattr(KubernetesCluster, "aload", AsyncMock(side_effect=SettingInvalid("no block main\nMake it.")))

    loaded = await ExecutionPorts.aload()

    loaded.follow_verdict(CURATED, "staging")
    with pytest.raises(SettingInvalid, match="no block main"):
        loaded.follow_verdict(CURATED, "production")


async def test_environment_with_git_delivery_has_git_target(ports, monkeypatch):
    """Each environment of a cluster is deployed to as its document says."""
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    block = GitRepository(address="https://git.example.com/e.git", email="c@example.com", signing_key=SecretStr(key))
    monkeypatch.setattr(KubernetesCluster, "aload", AsyncMock(return_value=KubernetesCluster(in_cluster=True)))
    monkeypatch.setattr(GitRepository, "aload", AsyncMock(return_value=block))
    git = GitDelivery(repository="e", branch="live", path="a", kind="helm")

    direct = await ports.load_target(ENFORCED)
    fetched = FetchedBranches()
    object.__setattr__(ports, "tier", SimpleNamespace(**vars(ports.tier), http=None))
    delivered = await ports.load_target(ENFORCED.model_copy(update={"delivery": Delivery(git=git)}), fetched)

    assert isinstance(direct, KubernetesTarget) and isinstance(delivered, GitTarget)
    assert delivered.fetched is fetched and delivered.find_recorded("hello") is None
    assert (delivered.branch.address, delivered.branch.name) == (block.address, "live")
    cast(AsyncMock, GitRepository.aload).assert_awaited_once_with("e")


async def test_waits_of_target_end_if_step_is_cancelled(ports, monkeypatch):
    """A flow loads its target before the step begins that is cancelled."""
    host = SimpleNamespace(engine=None)
    monkeypatch.setattr(ContainerHost, "aload", AsyncMock(return_value=host))
    monkeypatch.setattr(KubernetesCluster, "aload", AsyncMock(return_value=ports.clusters["main"]))
    object.__setattr__(ports, "tier", SimpleNamespace(**vars(ports.tier), kms=None, http=None, key=str))
    targets = [await ports.load_target(PLACES[name]) for name in ("staging", "production")]
    _, isolation = await ports.load_isolation("production")

    with Cancellation().nested() as step:
        step.cancel()
        for waiting in (*targets, isolation.isolator, ports.enforcement("production")):
            with pytest.raises(Cancelled):
                waiting.wait(60)


async def test_isolation_on_container_host_is_refused_with_remedy(ports):
    """Only what runs in a cluster can be isolated."""
    with pytest.raises(SettingInvalid, match="docker network disconnect"):
        await ports.load_isolation("staging")


async def test_isolation_where_git_delivers_is_refused(ports):
    """Its controller would scale the application up again."""
    git = GitDelivery(repository="e", branch="live", path="a", kind="helm")
    delivered = ENFORCED.model_copy(update={"delivery": Delivery(git=git)})
    object.__setattr__(ports.workbench, "environment", lambda _: delivered)

    with pytest.raises(SettingInvalid, match="delivered by git"):
        await ports.load_isolation("production")


async def test_isolation_has_key_and_environment(ports, monkeypatch):
    """Without a key, what is collected cannot be sealed."""
    monkeypatch.setattr(KubernetesCluster, "aload", AsyncMock(return_value=ports.clusters["main"]))
    object.__setattr__(
        ports, "tier", SimpleNamespace(**vars(ports.tier), kms=None, http=None, key=lambda name: f"the {name}")
    )

    environment, isolation = await ports.load_isolation("production")

    assert environment is ENFORCED and isolation.key() == "the forensics_key"
    assert isolation.find_deployed("hello") is None and isolation.list_earlier("hello") == ()
    with pytest.raises(ImageNotFound):
        isolation.judge(CURATED)


COLLECTOR = CURATED.with_repository("curated/base/python")


@pytest.mark.parametrize("active", [True, False])
def test_collector_is_published_where_the_environment_is_signed(ports, monkeypatch, active):
    """Whoever can write the file could name any curated image."""
    response = ResponseSettings(collector=CollectorSettings(image=str(COLLECTOR)))
    made = ENFORCED.model_copy(update={"response": response})
    monkeypatch.setitem(PLACES, "production", made)
    ports.workbench.environment_state = lambda _: PolicyState(active=active, why="changed")

    assert ports.enforcement("production").place.collector == (str(COLLECTOR) if active else "")
    assert ports.enforcement("production").ports.collector == ports._find_admitted_collector


async def test_collector_has_to_be_released_and_not_blocked(ports, monkeypatch):
    """Where the cluster enforces nothing, the isolation itself asks."""
    monkeypatch.setattr(KubernetesCluster, "aload", AsyncMock(return_value=ports.clusters["main"]))
    given = {**vars(ports.tier), "kms": None, "http": None, "key": str}
    object.__setattr__(ports, "tier", SimpleNamespace(**given))
    ports.workbench.bases, ports.workbench.registries = {}, ()

    _, isolation = await ports.load_isolation("production")

    with pytest.raises(BaseMissing, match="no curated image curated/base/python@"):
        isolation.isolator.find_collector(str(COLLECTOR))
    assert ports._find_admitted_collector(str(COLLECTOR)) == ""
    monkeypatch.setattr(CuratedBases, "find_released", lambda _, name: (f"registry.test/{name}", None))
    assert isolation.isolator.find_collector(str(COLLECTOR)) == f"registry.test/{COLLECTOR}"
    assert ports._find_admitted_collector(str(COLLECTOR)) == f"registry.test/{COLLECTOR}"


def test_bundles_open_with_the_credentials_of_the_user(ports, monkeypatch):
    """Where the tier's keys are, but not in its role."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    ports.tier.session = SimpleNamespace(region="eu-west-1", endpoint_url="http://127.0.0.1:4566")

    client = ports.load_own_kms().client

    assert (client.meta.endpoint_url, client.meta.region_name) == ("http://127.0.0.1:4566", "eu-west-1")
    assert client._request_signer._credentials.access_key == "mine"
    monkeypatch.setenv("AWS_PROFILE", "absent")
    with pytest.raises(AwsFailed, match="your own AWS credentials"):
        ports.load_own_kms()


@pytest.mark.parametrize("error", [EvidenceInvalid, BaseMissing])
def test_unverifiable_collector_is_not_admitted(ports, monkeypatch, error):
    """The rest of the admitted images is published nevertheless."""

    def fail(*_):
        raise error("no\nno")

    monkeypatch.setattr(type(ports), "_find_collector", fail)

    assert ports._find_admitted_collector(str(COLLECTOR)) == ""
