"""Tasks of an isolation: quarantine an application, preserve evidence, recover, and find what to isolate."""

from __future__ import annotations

from blocks.execution_ports import ExecutionPorts
from orchestration.events import emit
from orchestration.steps import in_thread, step
from supply_chain.evidence.image_status import image_status, read_image_status
from supply_chain.execution.deployment import Expected
from supply_chain.execution.environment import KubernetesEnvironment
from supply_chain.execution.isolation.case import Case
from supply_chain.execution.isolation.record import IsolationRecord
from supply_chain.execution.isolation.sequence import IsolationPorts, preserve, quarantine, recover
from supply_chain.execution.records import read_expected
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import curated_repository
from supply_chain.promotion.response import CANCELS, find_deployments, find_isolating


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
        ImageRef(repository=curated_repository(recovered.application), digest=recovered.digest),
        environment=recovered.environment,
        case=recovered.id,
        seconds=recovered.seconds,
        recovery=str(recovered.recovery),
    )
    return recovered


@step("find what to isolate")
async def find_isolating_step(ref: ImageRef, happened: str, ports: ExecutionPorts) -> tuple[tuple[Expected, str], ...]:
    """Return the deployments of an image that their environments isolate now, each with the reason.

    The event alone isolates nothing, because anybody who can emit events could claim one: a block has to be signed, and
    deviations have to be there.
    """
    clusters = [each for each in ports.workbench.environments() if isinstance(each, KubernetesEnvironment)]
    places = [each for each in clusters if each.response.isolate and ports.workbench.environment_state(each).active]
    if not places:
        return ()
    names = [each.name for each in places]
    expected = await in_thread(
        read_expected, names, ports.repositories, ports.registry, ports.evidence, ref.application
    )
    deployments = find_deployments(ref, expected)
    block = None
    if happened in CANCELS and deployments:
        block = image_status((await in_thread(read_image_status, ref, ports.evidence)).evidence).block
    isolating: list[tuple[Expected, str]] = []
    for place in places:
        here = [each for each in deployments if each.environment == place.name]
        if here and happened not in CANCELS:
            target = await ports.load_target(place)
            isolating += find_isolating(here, place.response, await in_thread(target.observe, here))
        elif block:
            isolating += find_isolating(here, place.response, block=block)
    return tuple(isolating)
