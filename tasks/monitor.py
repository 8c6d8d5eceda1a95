"""Task `monitor`: compare what runs with what the execution tier signed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache, partial

from prefect.artifacts import acreate_table_artifact
from prefect.client.orchestration import get_client
from prefect.variables import Variable

from blocks import ContainerHost
from blocks.execution_ports import ExecutionPorts
from orchestration.clock import now
from orchestration.events import emit
from orchestration.locks import DEPLOY, parse_lock_name
from orchestration.pagination import fetch_all
from orchestration.soaks import read_soaking, store_soaking
from orchestration.steps import continue_after_error, in_thread, step
from supply_chain.errors import SupplyChainError
from supply_chain.evidence.soak import Soak
from supply_chain.execution.break_glass import Judge, judge_again
from supply_chain.execution.deployment import Expected
from supply_chain.execution.environment import DockerEnvironment, Environment
from supply_chain.execution.host import HostObservation, add_entries, read_host
from supply_chain.execution.monitor import drop_deploying
from supply_chain.execution.observation import Deviation, Observation, make_unsigned
from supply_chain.execution.records import read_expected
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName, curated_repository, evidence_repository
from supply_chain.promotion.soaking import continue_soak, find_complete_soak, sign_soak
from supply_chain.reports import observation_rows
from supply_chain.reports.text import artifact_key


@step("monitor")
async def monitor_step(
    environment: str | None, ports: ExecutionPorts, application: str | None = None
) -> tuple[Observation, ...]:
    """Check one environment or all; each deviation becomes a row, and one of a deployment also an event.

    With `application`, check only that one; this is for the holder of its deploy lock. Otherwise, report also an
    environment that is not active, and leave what is being deployed right now for later. If all environments are
    checked, check also what else runs on their hosts.

    What cannot be looked at does not prevent looking at the rest: the error is raised once all else is reported.
    """
    places = (ports.workbench.environment(environment),) if environment else ports.workbench.environments()
    deploying = await _under_way()
    names = [place.name for place in places]
    expected = await in_thread(read_expected, names, ports.repositories, ports.registry, ports.evidence, application)
    observed: list[Observation] = []
    failed: list[SupplyChainError] = []
    for place in places if application is None else ():
        with continue_after_error(failed.append):
            observed += _find_unsigned(place, ports)
    for place in places:
        with continue_after_error(failed.append):
            target = await ports.load_target(place)
            wanted = [each for each in expected if each.environment == place.name]
            found = await in_thread(target.monitor, wanted, application)
            observed += add_entries(found, await in_thread(_judge_again, wanted, place, ports))
    looked: dict[str, HostObservation] = {}
    if environment is None and application is None:
        with continue_after_error(failed.append):
            looked = await _hosts(expected, places)
    for host_observation in looked.values():
        observed = [*add_entries(observed, host_observation.entered), *host_observation.observations]
    deploying |= await _under_way()  # also deployments that began or ended meanwhile: the records were read before
    reported = tuple(observed) if application else drop_deploying(observed, deploying)
    for observation in reported:
        _emit(observation)
    for place in places:
        await _soak([each for each in reported if each.environment == place.name], place, ports)
    table = [row for each in reported for row in observation_rows(each)]
    key = artifact_key("running", application) if application else "running"
    await acreate_table_artifact(key=key, table=table, description="What runs, and what differs from its record")
    await _remember(looked, places, deploying)  # last, so that what a failed check has seen is seen again
    if failed:
        raise failed[0]
    return reported


def _find_unsigned(place: Environment, ports: ExecutionPorts) -> tuple[Observation, ...]:
    state = ports.workbench.environment_state(place)
    return () if state.active else (make_unsigned(place.name, state.why, now()),)


def _judge_again(
    expected: Iterable[Expected], place: Environment, ports: ExecutionPorts
) -> dict[str, tuple[Deviation, ...]]:
    """Judge the deployments of an environment that rest on a break-glass; return container → why it is refused."""
    resting = [each for each in expected if each.break_glass]
    if not resting:
        return {}
    read = partial(ports.deploy_facts, environment=place)
    judge = Judge(read, cache(lambda: ports.workbench.policies().deploy), ports.evidence, now)
    judged = {each.container: judge_again(each, judge) for each in resting}
    return {container: (deviation,) for container, deviation in judged.items() if deviation}


async def _soak(observations: Iterable[Observation], place: Environment, ports: ExecutionPorts) -> None:
    """Store how long each deployment has been healthy; sign and emit a completed soak once for each container.

    Two concurrent calls, or one that is interrupted, may emit it twice or leave it to the reconcile.
    """
    for observation in observations:
        if not observation.application or not observation.wanted:
            continue
        soaking = continue_soak(await read_soaking(place.name, observation.application), observation)
        complete = find_complete_soak(soaking, place.name, place.soak) if soaking else None
        if complete and soaking:
            await _sign_soak(observation.application, complete, ports)
            soaking = soaking.model_copy(update={"reported": complete.asked})
        await store_soaking(place.name, observation.application, soaking)


async def _sign_soak(application: str, soak: Soak, ports: ExecutionPorts) -> None:
    ref = ImageRef(repository=curated_repository(application), digest=soak.digest)
    if await in_thread(sign_soak, soak, ref, ports.evidence):
        emit("deployment.soaked", ref, environment=soak.environment, seconds=int(soak.seconds), looks=soak.looks)


async def _hosts(expected: Sequence[Expected], places: Sequence[Environment]) -> dict[str, HostObservation]:
    """Return what is seen of each host since the last check, by the host's name."""
    found = {}
    on_hosts = [place for place in places if isinstance(place, DockerEnvironment)]
    for name in sorted({place.host for place in on_hosts}):
        here = [place for place in on_hosts if place.host == name]
        wanted = [each for each in expected if each.environment in {place.name for place in here}]
        host: ContainerHost = await ContainerHost.aload(name)
        after = _number(await Variable.aget(_variable(name), default="0"))
        found[name] = await in_thread(read_host, host.engine(), name, wanted, here, after, now)
    return found


async def _remember(
    looked: Mapping[str, HostObservation], places: Sequence[Environment], deploying: Collection[tuple[str, str]]
) -> None:
    """Store the event from which the next check of each host begins.

    A host to which something is being deployed is left out: entries into that container are not reported before the
    deployment is recorded.
    """
    unsettled = {place.place for place in places if any(environment == place.name for environment, _ in deploying)}
    for host, observation in looked.items():
        if host not in unsettled:
            await Variable.aset(_variable(host), str(observation.last), overwrite=True)


def _variable(host: str) -> str:
    return f"events_{host}".replace("-", "_")


def _number(remembered: object) -> int:
    """Return the stored number of the engine's newest event; 0 if it is not a number, so that all events are read."""
    text = str(remembered)
    return int(text) if text.isdecimal() else 0


async def _under_way() -> set[tuple[str, str]]:
    """Return environment and application of the deployments in progress."""
    async with get_client() as client:
        limits = await fetch_all(client.read_global_concurrency_limits)
    held = [parse_lock_name(limit.name) for limit in limits if limit.active_slots]
    return {(about[1], about[2]) for about in held if len(about) == 3 and about[0] == DEPLOY}


def _emit(observation: Observation) -> None:
    if not observation.deviations or not observation.wanted:
        return
    repository = evidence_repository(TierName.EXECUTION, observation.application)
    emit(
        "deployment.drifted",
        ImageRef(repository=repository, digest=observation.wanted),
        environment=observation.environment,
        container=observation.what,
        deviations=[deviation.model_dump() for deviation in observation.deviations],
    )
