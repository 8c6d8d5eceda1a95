"""The flow `respond`: published verdicts are corrected at once, and again after promotions were cancelled."""

from types import SimpleNamespace

import pytest

from flows import respond
from supply_chain.model.image import ImageRef
from supply_chain.promotion.response import make_response
from tasks.respond import JudgedAgain, Stopped

IMAGE = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)


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

    async def nothing(*_, **__):
        return None

    async def load():
        return SimpleNamespace(workbench=SimpleNamespace(notify="x/y"))

    monkeypatch.setattr(respond, "ExecutionPorts", SimpleNamespace(aload=load))
    for name, fake in {
        "judge_again_step": judge, "cancel_promotions_step": cancel, "find_deployments_step": find,
        "acreate_markdown_artifact": nothing, "notify": nothing,
    }.items():  # fmt: skip
        monkeypatch.setattr(respond, name, fake)

    await respond.respond.fn(str(IMAGE.moved_to("dev/hello")), happened, [{"code": "c", "fact": "f"}])

    assert calls == ["judge"] * judged
