"""The flow `respond`: published verdicts are corrected at once, and again after promotions were cancelled."""

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from flows import respond
from supply_chain.errors import ClusterUnavailable, ResponseIncomplete, SettingInvalid
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.execution.response import make_response
from supply_chain.model.image import ImageRef
from tasks.isolate import IsolationTargets
from tasks.respond import PromotionsInProgress, RejudgeResult

IMAGE = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
PLACE = DockerEnvironment(name="staging")


async def nothing_to_isolate(ref, event, ports):
    return IsolationTargets()


def replace_steps(monkeypatch, *, unreadable=None, undescribed=None, **steps):
    """Let the flow call these steps, and neither load blocks nor report anything."""

    async def nothing(*_, **__):
        return None

    async def load():
        documents = EnvironmentDocuments((PLACE,), unreadable or {})
        workbench = SimpleNamespace(notify="x/y", environment_documents=lambda: documents)
        return SimpleNamespace(workbench=workbench)

    async def list_undescribed(ref, ports):
        return undescribed or {}, RejudgeResult()

    monkeypatch.setattr(respond, "ExecutionPorts", SimpleNamespace(aload=load))
    fakes = {"acreate_markdown_artifact": nothing, "notify": nothing, "list_undescribed_step": list_undescribed}
    for name, fake in {**fakes, **steps}.items():
        monkeypatch.setattr(respond, name, fake)


@pytest.mark.parametrize(("event", "runs", "judged"), [
    ("cscm.image.blocked", ["promote hello"], 2),
    ("cscm.image.blocked", [], 1),
    ("cscm.image.verdict-changed", ["promote hello"], 1),
    ("cscm.deployment.drifted", ["promote hello"], 0),
])  # fmt: skip
async def test_response_judges_published_verdicts_again_after_cancelling(monkeypatch, event, runs, judged):
    """A promotion that is cancelled may publish an admission until it has ended.

    What was unknown before that and is known then is not reported.
    """
    calls = []

    async def judge(ref, environment, ports):
        assert environment is PLACE
        calls.append("judge")
        return RejudgeResult(facts=[f"corrected {len(calls)}"], unread=[] if len(calls) == judged else ["unknown"])

    async def cancel(ref, event, ports):
        return PromotionsInProgress(runs=runs)

    async def find(ref, event, facts, promotions, again, ports):
        assert again == RejudgeResult(facts=[f"corrected {number + 1}" for number in range(judged)])
        assert promotions.runs == runs and facts == ["c: f"]
        return make_response(event, ref, {}, (), ())

    replace_steps(
        monkeypatch, judge_again_step=judge, cancel_promotions_step=cancel, find_deployments_step=find,
        find_isolating_step=nothing_to_isolate,
    )  # fmt: skip

    await respond.respond.fn(str(IMAGE.with_repository("dev/hello")), event, [{"code": "c", "fact": "f"}])

    assert calls == ["judge"] * judged


@pytest.mark.parametrize("event", ["cscm.image.blocked", "cscm.deployment.drifted"])
async def test_response_isolates_and_reports_each_isolation(monkeypatch, event):
    """One that fails prevents no other; the run fails once all is reported, so that operators get an alert."""
    reported, isolated = [], []
    since = datetime(2026, 11, 24, 12, tzinfo=UTC)

    async def find_isolating(ref, event, ports):
        places: list[Any] = [
            SimpleNamespace(environment=name, application="hello") for name in ("broken", "production")
        ]
        return IsolationTargets([(place, "drift.digest: another") for place in places])

    async def isolate(environment, application, *, reason, by, since):
        isolated.append((environment, application, reason, by, since))
        if environment == "broken":
            raise ClusterUnavailable("it is down\nwait")
        return SimpleNamespace(recovery="scaled to zero")

    async def cancel(ref, event, ports):
        return PromotionsInProgress(runs=[], facts=[])

    async def judge(ref, environment, ports):
        return RejudgeResult()

    async def find(ref, event, facts, promotions, judged, ports):
        reported.extend([*facts, *promotions.facts])
        return make_response(event, ref, {}, (), ())

    replace_steps(
        monkeypatch, judge_again_step=judge, cancel_promotions_step=cancel, find_deployments_step=find,
        find_isolating_step=find_isolating, isolate=isolate,
    )  # fmt: skip

    with pytest.raises(ResponseIncomplete, match="the isolation of hello in broken is incomplete: it is down"):
        await respond.respond.fn(str(IMAGE), event, [], since)

    assert isolated[1] == ("production", "hello", "drift.digest: another", event, since)
    assert [line.partition(":")[0] for line in reported] == [
        "the isolation of hello in broken is incomplete", "hello in production is isolated",
    ]  # fmt: skip


async def test_response_reports_failed_search_for_isolations(monkeypatch):
    """What runs may have to be isolated."""

    async def find_isolating(ref, event, ports):
        raise ClusterUnavailable("it is down\nwait")

    monkeypatch.setattr(respond, "find_isolating_step", find_isolating)
    ports: Any = None

    found = await respond._isolate(IMAGE, "cscm.deployment.drifted", datetime.now(UTC), ports)

    assert found.lines == [] and found.left == [
        f"whether something is to be isolated is unknown: it is down — wait [{ClusterUnavailable.code}]"
    ]


async def test_response_to_block_judges_all_environments_before_it_fails(monkeypatch):
    """The document of one environment is invalid, the cluster of another one does not answer, and one was removed.

    The run fails once all is reported, and names each. Nobody would hear of what is left otherwise.
    """
    judged, reported, notified = [], [], []

    async def judge(ref, environment, ports):
        judged.append(environment.name)
        return RejudgeResult(unread=["staging is unknown: it is down"])

    async def refuse(ref, environment, why, ports):
        judged.append((environment, why))
        return RejudgeResult(facts=[f"refused for {environment}"])

    async def cancel(ref, event, ports):
        return PromotionsInProgress(runs=[])

    async def find(ref, event, facts, promotions, again, ports):
        reported.append(again)
        return make_response(event, ref, {}, (), ())

    async def notify(*_, **__):
        notified.append("page")

    async def find_isolating(ref, event, ports):
        return IsolationTargets(unread=["isolation in broken is unknown"])

    undescribed = {"broken": "it is bad", "old": "it was removed"}
    replace_steps(
        monkeypatch, judge_again_step=judge, cancel_promotions_step=cancel, find_deployments_step=find,
        find_isolating_step=find_isolating, refuse_blocked_step=refuse, notify=notify, undescribed=undescribed,
        unreadable={"broken": SettingInvalid("it is bad\ncorrect it")},
    )  # fmt: skip

    with pytest.raises(ResponseIncomplete) as caught:
        await respond.respond.fn(str(IMAGE), "cscm.image.blocked")

    assert judged == ["staging", *undescribed.items()] and notified == ["page"]
    unread = [
        "staging is unknown: it is down",
        "it is unknown whether the published verdict for broken is right, because only blocks were considered: it is "
        f"bad — correct it [{SettingInvalid.code}]",
    ]
    assert reported == [RejudgeResult(["refused for broken", "refused for old"], unread)]
    assert str(caught.value) == (
        f"The response to cscm.image.blocked about {IMAGE} is incomplete, and all else of it is done:\n"
        "  isolation in broken is unknown\n"
        f"  {unread[0]}\n  {unread[1]}\n"
        "Correct what these lines name, then retry the run: it does what is left. [response.incomplete]"
    )


@pytest.mark.parametrize("failing", ["judge", "cancel"])
async def test_unexpected_error_does_not_end_other_parts_of_response(monkeypatch, failing):
    """A part that is cancelled with the run would leave an admission in another environment."""
    ended = []

    async def end_later(*_):
        await asyncio.sleep(0.05)
        ended.append("other")
        return RejudgeResult()

    async def fail(*_):
        raise RuntimeError("a mistake in the code")

    async def cancel(*_):
        return PromotionsInProgress(runs=[])

    undescribed = {"old": "it was removed"}
    replace_steps(
        monkeypatch, judge_again_step=fail if failing == "judge" else end_later, refuse_blocked_step=end_later,
        cancel_promotions_step=fail if failing == "cancel" else cancel, find_isolating_step=nothing_to_isolate,
        undescribed=undescribed,
    )  # fmt: skip

    with pytest.raises(RuntimeError, match="a mistake"):
        await respond.respond.fn(str(IMAGE), "cscm.image.blocked")

    assert ended == ["other"] * (1 if failing == "judge" else 2)
