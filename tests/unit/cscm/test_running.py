"""How a command runs its flow: with what that takes, and nothing else."""

import sys
from importlib import import_module
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from prefect import flow, flow_engine, task
from prefect.context import FlowRunContext, TaskRunContext

from cscm import lifecycle, running
from cscm.main import main
from supply_chain.lifecycle.plan import write_plan
from tests.unit.cscm.test_lifecycle import planned

IMAGE = "curated/hello@sha256:" + "a" * 64
CALLS = {
    "chain": "{application} --revision abc --environment staging --fresh",
    "develop": "{application} --revision abc --fresh",
    "curate": f"{IMAGE} --fresh",
    "execute": f"{IMAGE} --environment staging --fresh",
    "approve": f"{IMAGE} --environment staging --who ann --why x --deny",
    "monitor": "--environment staging",
    "inventory": "hello --rebuild",
    "rescan": "openssl",
    "bases": "python --fresh",
    "lifecycle plan": "--rules nightly",
    "lifecycle apply": "{plan} --yes --by ann --why x",
    **dict.fromkeys(lifecycle.RULINGS, f"{IMAGE} --why x --by ann"),
}


@pytest.fixture
def given(tmp_path):
    """An application, and a plan."""
    (tmp_path / "supply-chain.yaml").write_text("kind: base\nname: base/x\nowner: me\ncheck: [x]\n")
    write_plan(planned(), tmp_path / "plan.json")
    return {"application": str(tmp_path), "plan": str(tmp_path / "plan.json")}


@pytest.mark.parametrize("command", CALLS)
def test_a_flow_gets_what_it_takes(monkeypatch, given, command):
    """The flow is named in words, so that nothing else would say that it is another, or takes something else."""
    started = []

    def result_of(flow, verbose, /, **parameters):
        started.append((flow, parameters))
        return "done"

    for module in (running, lifecycle):
        monkeypatch.setattr(module, "result_of", result_of)
    words = [word.format(**given) for word in CALLS[command].split()]
    done = CliRunner().invoke(main, [*command.split(), *words])

    assert (done.exit_code, done.output) == (0, "done\n")
    ((entrypoint, parameters),) = started
    module, _, name = entrypoint.partition(":")
    getattr(import_module(module), name).validate_parameters(parameters)


def test_every_command_that_runs_a_flow_is_tried():
    """They are those that can show the whole log."""

    def those(command, name=""):
        if isinstance(command, click.Group):
            return {each for word, inner in command.commands.items() for each in those(inner, f"{name} {word}".strip())}
        return {name} if any("--verbose" in each.opts for each in command.params) else set()

    assert those(main) == set(CALLS)


def test_what_is_no_base_is_told_before_prefect_is_asked(monkeypatch):
    """A misspelt name should not take as long as a right one."""
    monkeypatch.setattr(running, "use_prefect", lambda **_: pytest.fail("Prefect is asked"))

    done = CliRunner().invoke(main, ["bases", "pyhton"])

    assert done.exit_code == 2 and "no base is called pyhton; there are" in done.output


def test_every_flow_run_by_hand_carries_the_projects_tag_and_no_task_run(machine, monkeypatch):
    """The server ends those that were killed; a task run with a tag would ask it for a place each time."""
    found = []

    @task
    async def step():
        found.append(TaskRunContext.get().task_run.tags)

    @flow
    async def within():
        found.append(set(FlowRunContext.get().flow_run.tags))
        await step()

    @flow
    async def whole():
        found.append(set(FlowRunContext.get().flow_run.tags))
        await within()

    monkeypatch.setattr(running, "use_prefect", lambda **_: None)
    monkeypatch.setattr(flow_engine, "TagsContext", flow_engine.TagsContext)  # as it was, afterwards
    monkeypatch.setitem(sys.modules, "trial", SimpleNamespace(whole=whole))

    running.result_of("trial:whole", True)

    assert [set(tags) for tags in found] == [{"cscm"}, {"cscm"}, set()]
