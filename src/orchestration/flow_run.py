"""`python -m orchestration.flow_run`: run the flow run that the environment names, if its code is the project's.

A flow run names a deployment, and the server says which code that is of. Whoever may log in to the server may change
that. Here the code is taken from this machine's `prefect.yaml`: the deployment has to be one that it declares, and
no pull steps are run. A run of any other ends as Foreign, and nothing of it is loaded.
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

from orchestration.registration import entrypoints
from orchestration.registration.work_queues import declared_pool
from orchestration.run_tags import tag_flows

if TYPE_CHECKING:
    from prefect.flows import Flow

FOREIGN = "Foreign"
"""The name of the state in which a run ends that is not of the project."""
GIVEN_WAY = 10
"""How much nicer (nice(2)) such a run's processes are: about a tenth of the processor beside another's."""
HARMLESS = "prefect.deployments.steps.set_working_directory"
"""The pull step that `prefect deploy` adds; it is not run either, for a worker starts runs in the project."""


class ForeignRun(Exception):
    """A flow run is of no deployment that the project declares."""


async def load_declared_flow(flow_run: FlowRun, **_: object) -> Flow[..., Any]:
    """Load the flow of a run from the project; raise `ForeignRun` where it is of no declared deployment."""
    if flow_run.deployment_id is None:
        raise ForeignRun("it is of no deployment")
    async with get_client() as client:
        deployment = await client.read_deployment(flow_run.deployment_id)
        flow = await client.read_flow(deployment.flow_id)
    entrypoint = declared_entrypoint(f"{flow.name}/{deployment.name}", deployment, Path.cwd())
    return load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)


def declared_entrypoint(name: str, deployment: DeploymentResponse, project: Path) -> str:
    """The entrypoint of a deployment by the project's own `prefect.yaml`; `ForeignRun` where the server says other."""
    wanted = entrypoints(project).get(name)
    if wanted is None:
        raise ForeignRun(f"prefect.yaml declares no deployment {name}")
    if deployment.entrypoint != wanted:
        raise ForeignRun(f"{name} names the code {deployment.entrypoint}, and prefect.yaml {wanted}")
    if deployment.storage_document_id or any(set(step) != {HARMLESS} for step in deployment.pull_steps or ()):
        raise ForeignRun(f"{name} fetches its code elsewhere, which prefect.yaml does not say")
    return wanted


async def _load_or_end(flow_run: FlowRun, **_: object) -> Flow[..., Any]:
    """As `load_declared_flow`; a foreign run is ended under its name, and one that an event started gives way."""
    give_way(flow_run.work_queue_name)
    try:
        return await load_declared_flow(flow_run)
    except ForeignRun as error:
        message = (
            f"Nothing was run, for {error}. Find out who made or changed it; `cscm up` or `cscm register` corrects "
            "the project's own deployments once prefect.yaml is touched."
        )
        async with get_client() as client:
            await client.set_flow_run_state(flow_run.id, Failed(name=FOREIGN, message=message), force=True)
        raise Abort(message) from error


def give_way(queue: str | None) -> None:
    """Let this process come after those of other runs where its work queue has a limit: these are what floods fill."""
    pool = declared_pool(Path.cwd())
    if pool and any(each.name == queue and each.limit for each in pool.queues):
        os.nice(GIVEN_WAY)


def main() -> None:
    """Be `prefect.engine`, with the project's flows alone. Flows within the run carry the project's tag too."""
    os.environ.pop("PREFECT__FLOW_ENTRYPOINT", None)
    flow_engine.load_flow_from_flow_run = _load_or_end  # type: ignore[assignment, attr-defined]
    sys.modules.pop("prefect.engine", None)
    tag_flows()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
