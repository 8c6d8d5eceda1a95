"""A flow run uses the code that the project's prefect.yaml declares, whatever the server says."""

import os
import runpy
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect import flow_engine
from prefect.client.schemas.objects import FlowRun

from orchestration import flow_run
from orchestration.flow_run import HARMLESS, ForeignRun, give_way, require_declared_entrypoint
from orchestration.run_tags import FlowTags
from orchestration.worker import OWN, make_worker_class

DECLARED = "deployments:\n  - {name: on-demand, entrypoint: 'flows.chain:chain'}\n"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "prefect.yaml").write_text(DECLARED)
    return tmp_path


def niceness_of(queue):
    give_way(queue)
    return os.nice(0)


def deployment(**changes):
    attributes = {"entrypoint": "flows.chain:chain", "storage_document_id": None, "pull_steps": None}
    return SimpleNamespace(**{**attributes, **changes})


@pytest.mark.parametrize(("queue", "nicer"), [("pushes", 9), ("inventory", 15), ("watch", 0), ("other", 0), (None, 0)])
def test_run_of_limited_queue_lowers_its_priority(project, queue, nicer, monkeypatch):
    """Many runs started by events must not take the processor from other runs."""
    (project / "prefect.yaml").write_text(
        "definitions:\n  limit: 9\n  work_pool: {name: laptop}\n"
        "  queues: [{name: watch, priority: 1}, {name: pushes, priority: 2, limit: 3}, "
        "{name: inventory, priority: 8, limit: 1}]\n" + DECLARED
    )
    monkeypatch.chdir(project)

    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        before = pool.submit(os.nice, 0).result()
        assert pool.submit(niceness_of, queue).result() == min(before + nicer, 19)


@pytest.mark.parametrize("steps", [None, [], [{HARMLESS: {"directory": "/elsewhere"}}]])
def test_declared_deployment_runs_code_of_project(project, steps):
    """The pull step that `prefect deploy` adds is not executed, because the worker starts runs in the project."""
    assert require_declared_entrypoint("chain/on-demand", deployment(pull_steps=steps), project) == "flows.chain:chain"


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("chain/other", {}, "declares no deployment chain/other"),
        ("evil/on-demand", {}, "declares no deployment evil/on-demand"),
        (
            "chain/on-demand",
            {"entrypoint": "os:system"},
            "the code os:system, and prefect.yaml flows.chain:chain",
        ),
        ("chain/on-demand", {"entrypoint": None}, "names the code None"),
        ("chain/on-demand", {"storage_document_id": uuid4()}, "fetches its code elsewhere"),
        (
            "chain/on-demand",
            {"pull_steps": [{HARMLESS: {}}, {"prefect.deployments.steps.run_shell_script": {"script": "id"}}]},
            "fetches its code elsewhere",
        ),
        ("chain/on-demand", {"pull_steps": [{HARMLESS: {}, "prefect.deployments.steps.git_clone": {}}]}, "elsewhere"),
        ("chain/on-demand", {"pull_steps": [{}]}, "elsewhere"),
    ],
)
def test_undeclared_or_changed_deployment_is_refused(project, name, changes, message):
    """Everyone who may log in to the server can create or change a deployment."""
    with pytest.raises(ForeignRun, match=message):
        require_declared_entrypoint(name, deployment(**changes), project)


def test_every_deployment_is_refused_without_declarations(tmp_path):
    """A worker that was started in another directory runs nothing."""
    with pytest.raises(ForeignRun):
        require_declared_entrypoint("chain/on-demand", deployment(), tmp_path)


async def test_run_without_deployment_is_refused():
    """Its command would come from the server alone."""
    with pytest.raises(ForeignRun, match="it has no deployment"):
        await flow_run.load_declared_flow(FlowRun(flow_id=uuid4()))


TEMPLATE = {
    "job_configuration": {
        "command": "{{ command }}",
        "env": "{{ env }}",
        "working_dir": "/etc",
        "stream_output": False,
    },
    "variables": {"properties": {"command": {"default": "id"}, "env": {"default": {"PYTHONPATH": "/tmp"}}}},
}


async def test_worker_uses_its_own_command_environment_and_directory(project, monkeypatch):
    """The work pool's template and job variables cannot change them."""
    monkeypatch.setenv("OF_THE_WORKER", "here")
    monkeypatch.setenv("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "180")
    run = FlowRun(flow_id=uuid4(), name="a-run")
    job_class = make_worker_class("python -m own", project).job_configuration

    job = await job_class.from_template_and_values(TEMPLATE, {"command": "id", "env": {"LD_PRELOAD": "/tmp/x"}})
    job.prepare_for_flow_run(run)

    assert (job.command, job.working_dir, job._command_configured) == ("python -m own", project, True)
    assert job.env["OF_THE_WORKER"] == "here" and str(job.env["PREFECT__FLOW_RUN_ID"]) == str(run.id)
    assert "LD_PRELOAD" not in job.env and job.env.get("PYTHONPATH") != "/tmp"
    assert job.env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30", "the server would take it for abandoned"
    assert OWN.endswith("-m orchestration.flow_run")


def test_flow_run_tags_its_subflows(monkeypatch):
    """Without the tags, the server would leave them Running if the run is killed."""
    contexts = []
    for name in ("load_flow_from_flow_run", "TagsContext"):
        monkeypatch.setattr(flow_engine, name, None)
    monkeypatch.setattr(runpy, "run_module", lambda *_, **__: contexts.append(vars(flow_engine)["TagsContext"]))

    flow_run.main()

    assert contexts == [FlowTags]
