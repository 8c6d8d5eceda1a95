"""respond: an event says that something happened, and only signed evidence proves it."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import StateType

from orchestration import steps
from supply_chain.errors import (
    EngineUnavailable,
    EvidenceInvalid,
    RegistryUnavailable,
    SettingInvalid,
)
from supply_chain.evidence.image_status import locate_image_status
from supply_chain.evidence.statement import LIFECYCLE, PROVENANCE
from supply_chain.execution.deployment import DockerPlace, Expected
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.execution.monitor import monitor
from supply_chain.model.container import make_profile
from supply_chain.model.declaration import Probe, Runtime
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.outcome import Reason, Refused
from tasks import respond
from tests.support.builders import OTHER
from tests.support.memory_engine import MemoryEngine
from tests.support.pieces import Pieces

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
WHERE = REF.with_repository("evidence/execution/hello")
PLACE = DockerPlace(reverse_proxy="f", proxy=OTHER, address="127.0.0.1", port=8080)
EXPECTED = Expected(
    environment="staging", application="hello", digest=REF.digest, container="c1", name="n", place=PLACE,
    probe=Probe(port=8080), settings={}, profile=make_profile(Runtime()),
    configuration=OTHER,
)  # fmt: skip
BLOCKED = "cscm.image.blocked"
STAGING = DockerEnvironment(name="staging", host="h")


@pytest.fixture
def respond_to(world, monkeypatch):
    """Return a function that responds to an event, and tells whether active runs were cancelled."""
    run, cancelled = SimpleNamespace(id=uuid4(), name="promote hello", state_type=StateType.RUNNING), []

    class Client:
        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            return None

        async def set_flow_run_state(self, id, state):
            cancelled.append(id)

        async def read_flow_runs(self, **_):
            return []

    monkeypatch.setattr(respond, "get_client", Client)
    monkeypatch.setattr(respond, "list_promotions", AsyncMock(return_value=[run]))
    ports: Any = SimpleNamespace(
        evidence=world.store(TierName.EXECUTION),
        repositories=SimpleNamespace(repositories=lambda prefix: (WHERE.repository,)),
        registry=None,
        workbench=SimpleNamespace(environment_documents=lambda: EnvironmentDocuments((STAGING,), {})),
    )
    monkeypatch.setattr(respond, "read_expected", lambda *_: ())

    async def handle(event, facts=("by mallory: for fun",), *, ref=REF, judged=None, as_task=False):
        find_deployments = respond.find_deployments_step if as_task else respond.find_deployments_step.fn
        promotions = await respond.cancel_promotions_step.fn(ref, event, ports)
        judged = judged or respond.RejudgeResult()
        return await find_deployments(ref, event, facts, promotions, judged, ports), bool(cancelled)

    handle.ports = ports  # type: ignore[attr-defined]
    return handle


def block(world, make, *acts):
    for number, act in enumerate(acts):
        at = make.noon.replace(second=number)
        predicate = {"act": act, "by": "ann", "reason": "a key in it", "at": at.isoformat()}
        world.store(TierName.LIFECYCLE).attach(locate_image_status(REF), LIFECYCLE, predicate, at)
    world.now = make.noon.replace(minute=1)


@pytest.mark.parametrize(("acts", "cancels"), [((), False), (("block",), True), (("block", "unblock"), False)])
async def test_event_cancels_runs_only_if_block_is_signed(respond_to, world, make, acts, cancels):
    """Anyone can emit an event, and an old one may come again after the unblock."""
    block(world, make, *acts)

    found, cancelled = await respond_to(BLOCKED)

    assert cancelled is cancels
    assert any("by ann" in fact for fact in found.facts) is cancels
    assert not any("mallory" in fact for fact in found.facts), "who and why are the signed statement's"
    assert cancels or found.facts == (respond.NOT_BLOCKED,)


async def test_event_without_block_is_reported_and_cancels_nothing(respond_to):
    """After a changed verdict or drift, active runs still have to pass the gate."""
    found, cancelled = await respond_to("cscm.image.verdict-changed", ("scan.critical: one",))

    assert (found.facts, cancelled, found.on_the_way) == (("scan.critical: one",), False, ("promote hello",))


@pytest.mark.parametrize(("event", "first"), [
    (BLOCKED, respond.NOT_BLOCKED),
    ("cscm.image.verdict-changed", "scan.critical: one"),
])  # fmt: skip
async def test_response_names_changed_published_verdicts_after_the_facts(respond_to, event, first):
    """It also names what could not be judged again."""
    judged = respond.RejudgeResult(facts=["one changed"])
    judged.add(respond.RejudgeResult(facts=["two"], unread=["unknown"]))

    found, _ = await respond_to(event, ("scan.critical: one",), judged=judged)

    assert (found.facts, found.unread) == ((first, "one changed", "two"), ("unknown",))


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("record", "what runs is unknown: it is damaged — go on"),
        ("provenance", "who owns hello is unknown: "),
        ("engine", "the state in staging is unknown: it is down"),
        ("host", "the state in staging is unknown: Prefect has no block"),
    ],
)
async def test_unreadable_facts_do_not_prevent_cancelling_and_reporting(
    respond_to, world, make, monkeypatch, broken, message
):
    """The block holds even if a record, a statement or an engine cannot be read."""
    block(world, make, "block")
    target = SimpleNamespace(observe=failing(EngineUnavailable("it is down")))
    respond_to.ports.load_target = (
        failing(SettingInvalid("Prefect has no block.\nMake it."))
        if broken == "host"
        else AsyncMock(return_value=target)
    )
    monkeypatch.setattr(steps, "task_run", SimpleNamespace(run_count=4))
    if broken == "record":
        monkeypatch.setattr(respond, "read_expected", failing(EvidenceInvalid("it is damaged\ngo on")))
    elif broken == "provenance":
        Pieces(world, make).attach(REF, TierName.DEVELOPMENT, PROVENANCE, {})
    else:
        monkeypatch.setattr(respond, "read_expected", lambda *_: (EXPECTED,))

    found, cancelled = await respond_to(BLOCKED)

    assert cancelled and found.on_the_way == ("promote hello",) and "by ann" in found.facts[0]
    assert found.unread[0].startswith(message)
    assert [each.seen for each in found.running] == (["not observed"] if broken in ("engine", "host") else [])


async def test_response_finds_reverse_proxies_with_owner_and_state(respond_to, world, make, monkeypatch):
    """Only for a base image, the records of all applications are read."""
    asked = []

    def should_run(places, ecr, http, evidence, application):
        asked.append(application)
        return (
            EXPECTED,
            EXPECTED.model_copy(update={"place": PLACE.model_copy(update={"proxy": REF.digest}), "container": "c2"}),
        )

    monkeypatch.setattr(respond, "read_expected", should_run)
    target = SimpleNamespace(observe=lambda expected: monitor(MemoryEngine(), expected, (), lambda: make.noon))
    respond_to.ports.load_target = AsyncMock(return_value=target)
    Pieces(world, make).attach(REF, TierName.DEVELOPMENT, PROVENANCE, make.provenance())

    found, _ = await respond_to(BLOCKED, ref=ImageRef(repository="curated/base/proxy", digest=OTHER))
    await respond_to(BLOCKED)

    assert asked == [None, "hello"] and found.unread == ()
    (reverse_proxy,) = found.running
    assert (reverse_proxy.what, reverse_proxy.owner, found.owner) == (
        "the reverse proxy of hello",
        "web team",
        "unknown",
    )
    assert reverse_proxy.seen.startswith("missing")


async def test_unreadable_block_status_is_reported(respond_to, monkeypatch):
    """No gate can read it either, and nothing is cancelled."""
    monkeypatch.setattr(respond, "read_image_status", failing(EvidenceInvalid("it is damaged")))

    found, cancelled = await respond_to(BLOCKED)

    assert not cancelled and found.unread[0].startswith("whether it is blocked (nothing was cancelled) is unknown")


async def test_response_lists_deployments_to_unreadable_environment(respond_to, monkeypatch):
    """Its host is unknown, and the signed record says that the image runs there."""
    asked = []

    def read(names, *_):
        asked.append(names)
        return (EXPECTED.model_copy(update={"environment": "broken"}),)

    monkeypatch.setattr(respond, "read_expected", read)
    broken = {"broken": SettingInvalid("it is bad\ngo on")}
    respond_to.ports.workbench.environment_documents = lambda: EnvironmentDocuments((STAGING,), broken)

    found, _ = await respond_to("cscm.image.verdict-changed")

    assert [(each.environment, each.seen) for each in found.running] == [("broken", "not observed")]
    assert asked == [("broken", "staging")]


REFUSED = Refused(
    image=REF, gate=Gate.DEPLOY, policy=REF.digest, reasons=(Reason(code="image.blocked", fact="f", remedy="r"),)
)


@pytest.mark.parametrize(("verdict", "facts"), [
    (None, []),
    (REFUSED, ["the published verdict for staging is FAILED now"]),
    (object(), ["the published verdict for staging is PASSED now"]),
])  # fmt: skip
async def test_judge_again_step_reports_changed_verdict(verdict, facts):
    """Somebody has to know that the image may run again, or no longer."""
    ports: Any = SimpleNamespace(
        judge_published=lambda ref, environment: {(REF, STAGING.name): verdict}[ref, environment.name]
    )

    found = await respond.judge_again_step.fn(REF, STAGING, ports)

    assert (found.facts, found.unread) == (facts, [])


async def test_refusal_for_removed_environment_is_reported_with_reason():
    """An image that is not blocked is refused nowhere."""
    answers = {("old", "it was removed"): REFUSED, ("older", "it was removed"): None}
    ports: Any = SimpleNamespace(refuse_blocked=lambda ref, *where: {REF: answers}[ref][where])

    found = [await respond.refuse_blocked_step.fn(REF, *where, ports) for where in answers]

    assert [each.facts for each in found] == [["the published verdict for old is FAILED now (it was removed)"], []]


async def test_environments_without_documents_are_listed():
    """Nothing is unknown then."""
    ports: Any = SimpleNamespace(list_undescribed={REF: {"old": "it was removed"}}.__getitem__)

    assert await respond.list_undescribed_step.fn(REF, ports) == ({"old": "it was removed"}, respond.RejudgeResult())


@pytest.mark.parametrize(("step", "given", "what"), [
    ("judge_again_step", (STAGING,), "whether the published verdict for staging is right"),
    ("refuse_blocked_step", ("old", "it was removed"), "whether the published verdict for old is right"),
    ("list_undescribed_step", (), "whether verdicts for removed environments are right"),
])  # fmt: skip
@pytest.mark.parametrize(("run", "raised"), [(1, True), (4, False)])
async def test_judgement_is_tried_again_and_then_reported(monkeypatch, step, given, what, run, raised):
    """A registry or a cluster may not answer for a moment. Each is a step of its own, so that only it is repeated."""

    def fail(ref, *_):
        assert ref == REF
        raise RegistryUnavailable("it does not answer\ngo on")

    monkeypatch.setattr(steps, "task_run", SimpleNamespace(run_count=run))
    ports: Any = SimpleNamespace(judge_published=fail, refuse_blocked=fail, list_undescribed=fail)
    judge = getattr(respond, step).fn

    if raised:
        with pytest.raises(RegistryUnavailable):
            await judge(REF, *given, ports)
        return
    found = await judge(REF, *given, ports)
    found = found[1] if step == "list_undescribed_step" else found
    assert (found.facts, found.unread) == (
        [], [f"{what} is unknown: it does not answer — go on [{RegistryUnavailable.code}]"],
    )  # fmt: skip
