"""Runs the flow run that the environment names, if its code is the project's: `python -m orchestration.flow_run`.

A flow run names a deployment, and the server says which code that deployment runs. Anybody who may log in to the server
can change that. This module therefore takes the code from this machine's `prefect.yaml`: the deployment must be
declared there, and no pull steps run. Any other run ends in the state Foreign, and none of its code is loaded.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow_engine
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import Abort
from prefect.flows import load_flow_from_entrypoint
from prefect.states import Failed

from orchestration.registration import read_declared_entrypoints
from orchestration.registration.prefect_file import read_declared_pool
from orchestration.run_tags import tag_flows

if TYPE_CHECKING:
    from prefect.flows import Flow

FOREIGN = "Foreign"
"""Name of the final state of a run that does not belong to the project."""
GIVEN_WAY = 7
"""Increase of the nice value (nice(2)) of such a run, to which the priority of its queue is added: a response, of the
third queue, gets about a tenth of the processor when another run needs it, and an inventory a thirtieth.
"""
HARMLESS = "prefect.deployments.steps.set_working_directory"
"""The pull step that `prefect deploy` adds. It is not run either, because a worker starts runs in the project."""


class ForeignRun(Exception):
    """A flow run does not belong to a deployment that the project declares."""


async def load_declared_flow(flow_run: FlowRun, **_: object) -> Flow[..., Any]:
    """Load the flow of a run from the project; raise `ForeignRun` if no declared deployment is its own."""
    if flow_run.deployment_id is None:
        raise ForeignRun("it has no deployment")
    async with get_client() as client:
        deployment = await client.read_deployment(flow_run.deployment_id)
        flow = await client.read_flow(deployment.flow_id)
    entrypoint = require_declared_entrypoint(f"{flow.name}/{deployment.name}", deployment, Path.cwd())
    return load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)


def require_declared_entrypoint(name: str, deployment: DeploymentResponse, project: Path) -> str:
    """Return a deployment's entrypoint in the project's `prefect.yaml`; raise `ForeignRun` if the server's differs."""
    entrypoint = read_declared_entrypoints(project).get(name)
    if entrypoint is None:
        raise ForeignRun(f"prefect.yaml declares no deployment {name}")
    if deployment.entrypoint != entrypoint:
        raise ForeignRun(f"{name} names the code {deployment.entrypoint}, and prefect.yaml {entrypoint}")
    if deployment.storage_document_id or any(set(step) != {HARMLESS} for step in deployment.pull_steps or ()):
        raise ForeignRun(f"{name} fetches its code elsewhere, which prefect.yaml does not say")
    return entrypoint


async def _load_or_end(flow_run: FlowRun, **_: object) -> Flow[..., Any]:
    """Load the flow as `load_declared_flow` does, with less priority for runs of limited queues; end a foreign run."""
    give_way(flow_run.work_queue_name)
    try:
        return await load_declared_flow(flow_run)
    except ForeignRun as error:
        message = (
            f"Nothing was run, because {error}. Find out who made or changed it; `cscm up` or `cscm register` corrects "
            "the project's own deployments once prefect.yaml is touched."
        )
        async with get_client() as client:
            await client.set_flow_run_state(flow_run.id, Failed(name=FOREIGN, message=message), force=True)
        raise Abort(message) from error


def give_way(queue: str | None) -> None:
    """Lower the priority of this process if its work queue has a limit: such queues receive floods of events.

    The later the queue's turn is (`priority`), the lower, so that a response does not wait for an inventory.
    """
    pool = read_declared_pool(Path.cwd())
    for each in pool.queues if pool else ():
        if each.name == queue and each.limit:
            os.nice(GIVEN_WAY + each.priority)


def main() -> None:
    """Run `prefect.engine` with only the project's flows; flows within the run carry the project's tag too."""
    os.environ.pop("PREFECT__FLOW_ENTRYPOINT", None)
    flow_engine.load_flow_from_flow_run = _load_or_end  # type: ignore[assignment, attr-defined]
    sys.modules.pop("prefect.engine", None)
    tag_flows()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
