"""Task `watch`: report changes in clusters at once, between two looks of `monitor`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from blocks.execution_ports import ExecutionPorts
from orchestration.observations import continue_soaks, emit_drift, find_deploying, publish_running
from orchestration.steps import run_in_thread, step, wait_for_all
from supply_chain.errors import ClusterUnavailable, GitUnavailable
from supply_chain.execution.delivery.target import GitTarget
from supply_chain.execution.deployment import Expected
from supply_chain.execution.environment import KubernetesEnvironment
from supply_chain.execution.kubernetes.namespace import ObjectKey
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.execution.kubernetes.watching import NamespaceWatch
from supply_chain.execution.monitor import drop_deploying
from supply_chain.execution.observation import Observation
from supply_chain.execution.records import read_expected

PERIOD = 5.0
"""Seconds for which changes are waited for at a time; so often deployments in progress are looked for."""
SETTLE = 1.0
"""Seconds after a change in which others that belong to it follow."""
TRANSIENT = frozenset({"drift.unhealthy"})
"""Codes that the next look reports if they last: a pod that moves to another node is replaced in a moment."""


@step("watch", retry=False)
async def watch_step(
    environment: str | None, ports: ExecutionPorts, previous: Sequence[Observation], seconds: float
) -> tuple[Observation, ...]:
    """Watch the clusters of one environment or all for so many seconds, and report each new deviation at once.

    `previous` are the observations that the check before has reported. A cluster that cannot be watched does not end
    the watch of others: the error is raised at the end.
    """
    workbench = ports.workbench
    environments = (workbench.environment(environment),) if environment else workbench.environment_documents().readable
    watched = [each for each in environments if isinstance(each, KubernetesEnvironment)] if seconds > 0 else []
    report, until = Report(list(previous)), time.monotonic() + seconds
    await wait_for_all(*(_watch(each, ports, report, until) for each in watched))
    return tuple(report.reported)


@dataclass
class Report:
    """What was reported: by the check before, and since."""

    previous: list[Observation]
    reported: list[Observation] = field(default_factory=list)

    def select_new(self, observations: Sequence[Observation]) -> list[Observation]:
        """Return the observations with a deviation that was not reported and will not pass by itself."""
        reported = {key for each in (*self.previous, *self.reported) for key in _keys(each)}
        return [each for each in observations if not reported.issuperset(_keys(each))]

    @property
    def latest(self) -> list[Observation]:
        """The last observation of each deployment and of each foreign thing."""
        return [*{(each.environment, each.name): each for each in (*self.previous, *self.reported)}.values()]


def _keys(observation: Observation) -> set[tuple[str, str, str, str]]:
    return {
        (observation.environment, observation.name, each.code, each.fact)
        for each in observation.deviations
        if each.code not in TRANSIENT
    }


async def _watch(environment: KubernetesEnvironment, ports: ExecutionPorts, report: Report, until: float) -> None:
    target = await ports.load_namespace(environment)
    expected, pending = await _read(environment, ports), set[ObjectKey]()
    with await run_in_thread(target.watch) as watch:
        while (left := until - time.monotonic()) > 0:
            pending |= await run_in_thread(watch.wait, min(PERIOD, left))
            if not pending:
                continue
            await asyncio.sleep(SETTLE)
            deploying = {each for each in await find_deploying() if each[0] == environment.name}
            try:
                observations = await _judge(target, watch, expected, pending, deploying)
                if report.select_new(observations):  # perhaps something was deployed since the records were read
                    expected = await _read(environment, ports)
                    deploying |= {each for each in await find_deploying() if each[0] == environment.name}
                    observations = await _judge(target, watch, expected, pending, deploying)
            except (ClusterUnavailable, GitUnavailable):
                continue  # what is pending is judged as soon as they answer
            await _report(report, report.select_new(observations), environment, ports)
            pending = pending if deploying else set()  # what was left out is judged after the deployment


async def _read(environment: KubernetesEnvironment, ports: ExecutionPorts) -> tuple[Expected, ...]:
    return await run_in_thread(read_expected, [environment.name], ports.repositories, ports.registry, ports.evidence)


async def _judge(
    target: KubernetesTarget | GitTarget,
    watch: NamespaceWatch,
    expected: Sequence[Expected],
    changed: Collection[ObjectKey],
    deploying: Collection[tuple[str, str]],
) -> tuple[Observation, ...]:
    observations = await run_in_thread(target.judge_changes, expected, changed, watch.state)
    return drop_deploying(observations, deploying)


async def _report(
    report: Report, new: Sequence[Observation], environment: KubernetesEnvironment, ports: ExecutionPorts
) -> None:
    """Emit the events of new deviations, interrupt the soaks, and publish the page of what runs again."""
    if not new:
        return
    report.reported += new
    for observation in new:
        await emit_drift(observation)
    await continue_soaks(new, environment, ports.evidence)
    await publish_running(report.latest)
