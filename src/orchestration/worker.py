"""`python -m orchestration.worker --pool POOL`: a process worker that starts the project's flow runs and nothing else.

Prefect's own starts whatever command, environment and directory the server gives it: of the work pool, which whoever
may log in may change, of the deployment and of the run. This one starts its own command, in its own environment and
in the directory in which it was started, the project's; `orchestration.flow_run` sees to it that the code is the
project's.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, Self
from uuid import UUID

from httpx import HTTPError
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.exceptions import PrefectException
from prefect.settings import get_current_settings
from prefect.utilities.processutils import setup_signal_handlers_worker
from prefect.workers import process

from orchestration.flow_run import load_declared_flow
from orchestration.push_places import assign_places, is_push
from orchestration.registration.abandoned_runs import FREQUENCY
from supply_chain.text import sanitize_text

OWN = shlex.join([sys.executable, "-m", "orchestration.flow_run"])
LONGEST_PAUSE = 15.0
"""Maximum seconds between two polls for runs. The server marks a queue or deployment as not ready if no worker has
polled it for a minute.
"""


class ProjectJob(process.ProcessJobConfiguration):
    """The settings with which a run is started, whatever the server says."""

    own_command: ClassVar[str]
    project: ClassVar[Path]

    @classmethod
    async def from_template_and_values(
        cls, base_job_template: dict[str, Any], values: dict[str, Any], client: object = None
    ) -> Self:
        """Return the worker's own command, environment and directory; the template and job variables are not read.

        The server's automations expect heartbeats from runs as often as this environment says.
        """
        return cls(command=cls.own_command, env=dict(FREQUENCY), working_dir=cls.project)


class ProjectWorker(process.ProcessWorker):
    """Starts processes as `ProjectJob` says. Pushes whose team has a place in the queue already wait without one.

    While no run is due, it only asks the server how many are, which is one query. A poll for runs costs the server much
    more, because it also records its time at every queue and deployment.
    """

    job_configuration = ProjectJob
    _next_poll = 0.0
    _first: frozenset[UUID] = frozenset()

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Start the runs that are due; poll without counting at least once in `LONGEST_PAUSE` seconds, and after a run.

        A push starts only if it is the first of its place, as the last answer of the server said.
        """
        is_time = monotonic() >= self._next_poll
        if not is_time and not await self._count_due():
            return []
        self._next_poll = monotonic() + LONGEST_PAUSE if is_time else self._next_poll
        try:
            self._first = await assign_places(self.client, self._work_pool_name, self._end_of_fetched(), wake=is_time)
        except (HTTPError, PrefectException) as error:
            self._logger.warning("%s", sanitize_text(f"the places of pushes are unknown: {error!r}"))
        return await super().get_and_submit_flow_runs()

    async def _get_scheduled_flow_runs(self) -> list[WorkerFlowRunResponse]:
        due = await super()._get_scheduled_flow_runs()
        return [each for each in due if not is_push(each.flow_run) or each.flow_run.id in self._first]

    async def run(self, *arguments: Any, **more: Any) -> process.ProcessWorkerResult:
        """Run a flow run's process. Once it has ended, poll again: a push may wait for its place."""
        try:
            return await super().run(*arguments, **more)
        finally:
            self._next_poll = 0.0

    async def _count_due(self) -> int:
        """Return how many runs of the work pool start before the end of the time for which runs are fetched ahead."""
        due = FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(before_=self._end_of_fetched()),
        )
        pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[self._work_pool_name]))
        return await self.client.count_flow_runs(flow_run_filter=due, work_pool_filter=pool)

    @staticmethod
    def _end_of_fetched() -> datetime:
        """Return the end of the time for which runs are fetched ahead."""
        return datetime.now(UTC) + timedelta(seconds=get_current_settings().worker.prefetch_seconds)


def make_worker_class(command: str, project: Path) -> type[ProjectWorker]:
    """Return a worker class that starts each run with `command` in the project's directory."""

    class Job(ProjectJob):
        own_command = command

    Job.project = project

    class Worker(ProjectWorker):
        job_configuration = Job

    return Worker


async def run_worker(pool: str, name: str | None, command: str) -> None:
    """Take up the runs of a work pool until ended."""
    setup_signal_handlers_worker(os.getpid(), "the process worker", print)
    worker = make_worker_class(command, Path.cwd())(work_pool_name=pool, name=name, create_pool_if_not_found=False)
    # used for the hooks of a run that crashed or was cancelled: the worker itself runs them
    process.load_flow_from_flow_run = load_declared_flow  # type: ignore[assignment, attr-defined]
    await worker.start(printer=print)


def main() -> None:
    """Read the arguments and run the worker."""
    parser = argparse.ArgumentParser(prog="python -m orchestration.worker", description=__doc__)
    parser.add_argument("--pool", required=True, help="the work pool whose runs are started")
    parser.add_argument("--name", help="the worker's name on the server")
    parser.add_argument(
        "--command", default=OWN, help="the command that starts a run; for the prefork server of a laptop"
    )
    options = parser.parse_args()
    asyncio.run(run_worker(options.pool, options.name, options.command))


if __name__ == "__main__":
    main()
