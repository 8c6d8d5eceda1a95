"""Tasks of an isolation: quarantine an application, preserve evidence, recover, and find what to isolate."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

from blocks.execution_ports import ExecutionPorts
from orchestration.events import emit
from orchestration.locks import LockKind, lock_name, run_lock
from orchestration.steps import continue_after_error, run_in_thread, step, wait_for_all
from supply_chain.errors import SupplyChainError
from supply_chain.evidence.image_status import compute_image_status, read_image_status
from supply_chain.execution.deployment import Expected
from supply_chain.execution.environment import KubernetesEnvironment
from supply_chain.execution.isolation.case import Case
from supply_chain.execution.isolation.record import IsolationRecord
from supply_chain.execution.isolation.sequence import IsolationPorts, preserve, quarantine, recover
from supply_chain.execution.records import read_expected
from supply_chain.execution.response import CANCELS, find_deployments, find_isolating
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import name_curated_repository
from supply_chain.text import join_lines

DEPLOYMENT = 300.0
"""Maximum seconds to wait for a deployment that is under way, before it is unknown whether something is isolated."""


@step("quarantine")
def quarantine_step(case: Case, ports: IsolationPorts) -> Case:
    """Deny all traffic of what runs, and let no more of it run."""
    return quarantine(case, ports)


@step("preserve")
def preserve_step(case: Case, ports: IsolationPorts) -> IsolationRecord:
    """Collect what an investigation needs, seal it, and sign the record."""
    return preserve(case, ports)


@step("recover")
def recover_step(
    case: Case, record: IsolationRecord, environment: KubernetesEnvironment, ports: IsolationPorts
) -> IsolationRecord:
    """Roll back or scale to zero, as the environment says, and sign what runs since."""
    recovered = recover(case, record, environment.response.recovery, ports)
    emit(
        "deployment.isolated",
        ImageRef(repository=name_curated_repository(recovered.application), digest=recovered.digest),
        environment=recovered.environment,
        case=recovered.id,
        seconds=recovered.seconds,
        recovery=str(recovered.recovery),
    )
    return recovered


@dataclass
class IsolationTargets:
    """Deployments that their environments isolate, each with the reason; what is unknown."""

    deployments: list[tuple[Expected, str]] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def add_unknown(self, environment: str, error: SupplyChainError) -> None:
        """Add that an error prevents knowing what an environment isolates."""
        self.unread.append(f"whether something is to be isolated in {environment} is unknown: {join_lines(error)}")


@step("find what to isolate")
async def find_isolating_step(ref: ImageRef, event: str, ports: ExecutionPorts) -> IsolationTargets:
    """Return the deployments of an image that their environments isolate now.

    The event alone isolates nothing, because anybody who can emit events could claim one: a block has to be signed, and
    deviations have to be there, also after a deployment that is under way: it deviates from the record until it has
    its own. An environment that cannot be read prevents no isolation in others.
    """
    targets, documents = IsolationTargets(), ports.workbench.environment_documents()
    for name, error in documents.unreadable.items():
        targets.add_unknown(name, error)
    clusters = [each for each in documents.readable if isinstance(each, KubernetesEnvironment)]
    environments = [
        each for each in clusters if each.response.isolate and ports.workbench.environment_state(each).active
    ]
    if not environments:
        return targets
    deployments = find_deployments(ref, await _read_records([each.name for each in environments], ref, ports))
    block = None
    if event in CANCELS and deployments:
        block = compute_image_status((await run_in_thread(read_image_status, ref, ports.evidence)).evidence).block

    async def find_in(environment: KubernetesEnvironment) -> None:
        here = [each for each in deployments if each.environment == environment.name]
        if block:
            targets.deployments += find_isolating(here, environment.response, block=block)
        elif here and event not in CANCELS:
            with continue_after_error(partial(targets.add_unknown, environment.name)):
                targets.deployments += await _find_deviating(ref, here, environment, ports)

    await wait_for_all(*map(find_in, environments))
    return targets


async def _find_deviating(
    ref: ImageRef, expected: Sequence[Expected], environment: KubernetesEnvironment, ports: ExecutionPorts
) -> tuple[tuple[Expected, str], ...]:
    """Return what is to be isolated because of deviations that are there while nothing is being deployed."""
    target = await ports.load_target(environment)
    if not find_isolating(expected, environment.response, await run_in_thread(target.observe, expected)):
        return ()
    async with run_lock(lock_name(LockKind.DEPLOY, environment.name, ref.application), DEPLOYMENT):
        current = find_deployments(ref, await _read_records([environment.name], ref, ports))
        return find_isolating(current, environment.response, await run_in_thread(target.observe, current))


async def _read_records(environments: Collection[str], ref: ImageRef, ports: ExecutionPorts) -> tuple[Expected, ...]:
    return await run_in_thread(
        read_expected, environments, ports.repositories, ports.registry, ports.evidence, ref.application
    )
