"""The flow `respond`: published verdicts are corrected at once, and again after promotions were cancelled."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from flows import respond
from supply_chain.errors import ClusterUnavailable
from supply_chain.model.image import ImageRef
from supply_chain.promotion.response import make_response
from tasks.respond import JudgedAgain, Stopped

IMAGE = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)


async def nothing_to_isolate(ref, happened, ports):
    return ()


def replace_steps(monkeypatch, **steps):
    """Let the flow call these steps, and neither load blocks nor report anything."""

    async def nothing(*_, **__):
        return None

    async def load():
        return SimpleNamespace(workbench=SimpleNamespace(notify="x/y"))

    monkeypatch.setattr(respond, "ExecutionPorts", SimpleNamespace(aload=load))
    for name, fake in {"acreate_markdown_artifact": nothing, "notify": nothing, **steps}.items():
        monkeypatch.setattr(respond, name, fake)


@pytest.mark.parametrize(("happened", "runs", "judged"), [
    ("cscm.image.blocked", ["promote hello"], 2),
    ("cscm.image.blocked", [], 1),
    ("cscm.image.verdict-changed", ["promote hello"], 1),
    ("cscm.deployment.drifted", ["promote hello"], 0),
])  # fmt: skip
async def test_published_verdicts_are_judged_again_after_a_block_and_a_changed_verdict(
    monkeypatch, happened, runs, judged
):
    """A promotion that is cancelled may publish an admission until it has ended."""
    calls = []

    async def judge(ref, ports):
        calls.append("judge")
        return JudgedAgain(facts=[f"corrected {len(calls)}"])

    async def cancel(ref, happened, ports):
        return Stopped(runs=runs)

    async def find(ref, happened, facts, stopped, again, ports):
        assert [each.facts for each in again] == [[f"corrected {number + 1}"] for number in range(judged)]
        assert stopped.runs == runs and facts == ["c: f"]
        return make_response(happened, ref, {}, (), ())

    replace_steps(
        monkeypatch, judge_again_step=judge, cancel_promotions_step=cancel, find_deployments_step=find,
        find_isolating_step=nothing_to_isolate,
    )  # fmt: skip

    await respond.respond.fn(str(IMAGE.moved_to("dev/hello")), happened, [{"code": "c", "fact": "f"}])

    assert calls == ["judge"] * judged


@pytest.mark.parametrize("happened", ["cscm.image.blocked", "cscm.deployment.drifted"])
async def test_response_isolates_and_reports_each_isolation(monkeypatch, happened):
    """One that fails prevents no other; the run fails once all is reported, so that operators get an alert."""
    reported, isolated = [], []
    since = datetime(2026, 11, 24, 12, tzinfo=UTC)

    async def find_isolating(ref, happened, ports):
        places = [SimpleNamespace(environment=name, application="hello") for name in ("broken", "production")]
        return tuple((place, "drift.digest: another") for place in places)

    async def isolate(environment, application, *, reason, by, since):
        isolated.append((environment, application, reason, by, since))
        if environment == "broken":
            raise ClusterUnavailable("it is down\nwait")
        return SimpleNamespace(recovery="scaled to zero")

    async def cancel(ref, happened, ports):
        return Stopped(runs=[], facts=[])

    async def judge(ref, ports):
        return JudgedAgain()

    async def find(ref, happened, facts, stopped, judged, ports):
        reported.extend([*facts, *stopped.facts])
        return make_response(happened, ref, {}, (), ())

    replace_steps(
        monkeypatch, judge_again_step=judge, cancel_promotions_step=cancel, find_deployments_step=find,
        find_isolating_step=find_isolating, isolate=isolate,
    )  # fmt: skip

    with pytest.raises(ClusterUnavailable):
        await respond.respond.fn(str(IMAGE), happened, [], since)

    assert isolated[1] == ("production", "hello", "drift.digest: another", happened, since)
    assert [line.partition(":")[0] for line in reported] == [
        "the isolation of hello in broken is incomplete", "hello in production is isolated",
    ]  # fmt: skip


async def test_response_that_cannot_find_what_to_isolate_reports_and_fails(monkeypatch):
    """What runs may have to be isolated."""

    async def find_isolating(ref, happened, ports):
        raise ClusterUnavailable("it is down\nwait")

    monkeypatch.setattr(respond, "find_isolating_step", find_isolating)
    ports: Any = None

    found = await respond._isolate(IMAGE, "cscm.deployment.drifted", datetime.now(UTC), ports)

    assert isinstance(found.error, ClusterUnavailable) and "it is down" in found.lines[0]
