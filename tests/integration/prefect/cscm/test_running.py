"""The tags of a flow run that a command starts."""

import sys
from types import SimpleNamespace

from prefect import flow, flow_engine, task
from prefect.context import FlowRunContext, TagsContext, TaskRunContext

from cscm import running
from tests.support.present import present


def test_flow_run_by_hand_is_tagged_and_its_task_runs_are_not(machine, monkeypatch):
    """The server ends killed runs with the tag; a tagged task run would cost a concurrency request each time."""
    found = []

    @task
    async def step():
        found.append(set(present(TaskRunContext.get()).task_run.tags))

    @flow
    async def within():
        found.append(set(present(present(FlowRunContext.get()).flow_run).tags))
        await step()

    @flow
    async def outer():
        found.append(set(present(present(FlowRunContext.get()).flow_run).tags))
        await within()

    monkeypatch.setattr(running, "use_prefect", lambda **_: None)
    monkeypatch.setattr(flow_engine, "TagsContext", TagsContext)  # restored afterwards
    monkeypatch.setitem(sys.modules, "trial", SimpleNamespace(outer=outer))

    running.run_flow("trial:outer", True)

    assert found == [{"cscm"}, {"cscm"}, set()]
