"""Task `monitor`: compare what runs with what the execution tier signed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache, partial

from prefect.variables import Variable

from blocks import ContainerHost
from blocks.execution_ports import ExecutionPorts
from orchestration.clock import read_clock
from orchestration.observations import continue_soaks, emit_drift, find_deploying, publish_running
from orchestration.steps import continue_after_error, run_in_thread, step
from supply_chain.errors import SupplyChainError
from supply_chain.execution.break_glass import Judge, judge_again
from supply_chain.execution.delivery.repository import FetchedBranches
from supply_chain.execution.deployment import DockerPlace, Expected
from supply_chain.execution.environment import DockerEnvironment, Environment
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.execution.host import HostObservation, add_entries, read_host
from supply_chain.execution.monitor import drop_deploying, find_redeployed
from supply_chain.execution.observation import (
    Deviation,
    Observation,
    make_invalid,
    make_unobserved,
    make_unsigned,
)
from supply_chain.execution.records import read_expected
from supply_chain.text import join_lines


@step("monitor")
async def monitor_step(
    name: str | None, ports: ExecutionPorts, application: str | None = None
) -> tuple[Observation, ...]:
    """Check one environment or all; each deviation becomes a row and an event, which comes once for a foreign one.

    `name` is the environment's; None: all. With `application`, check only that one; this is for the holder of its
    deploy lock. Otherwise, report also an environment that is not active, and leave what is being deployed right now
    for later. If all environments are checked, report also the invalid ones, of which those that can be read are
    checked too, and check what else runs on their hosts.

    What cannot be looked at does not prevent looking at the rest: the error is raised once all else is reported.
    """
    documents = ports.workbench.environment_documents() if name is None else EnvironmentDocuments((), {})
    environments = (ports.workbench.environment(name),) if name else documents.readable
    # the holder of an application's deploy lock knows that nothing else is being deployed there
    deploying = set[tuple[str, str]]() if application else await find_deploying()
    names = [name] if name else documents.names
    expected = await run_in_thread(
        read_expected, names, ports.repositories, ports.registry, ports.evidence, application
    )
    observed = [make_invalid(each, join_lines(error), read_clock()) for each, error in documents.invalid.items()]
    failed: list[SupplyChainError] = []
    for environment in environments if application is None else ():
        with continue_after_error(failed.append):
            observed += _find_unsigned(environment, ports)
    fetched = FetchedBranches()
    for environment in environments:
        with continue_after_error(failed.append):
            target = await ports.load_target(environment, fetched)
            local = [each for each in expected if each.environment == environment.name]
            observations = await run_in_thread(target.monitor, local, application)
            observed += add_entries(observations, await run_in_thread(_judge_again, local, environment, ports))
    host_observations: dict[str, HostObservation] = {}
    if name is None and application is None:
        with continue_after_error(failed.append):
            host_observations = await _read_hosts(expected, environments, documents.unreadable)
    unobserved = [each for each in expected if each.environment in documents.unreadable]
    for host_observation in host_observations.values():
        observed += [
            make_unobserved(each, read_clock()) for each in unobserved if each.container in host_observation.entered
        ]
        observed = [*add_entries(observed, host_observation.entered), *host_observation.observations]
    if not application:  # also deployments that began or ended meanwhile: the records were read before
        deploying |= await find_deploying()
        if any(each.deviations for each in observed):
            with continue_after_error(failed.append):
                again = await run_in_thread(read_expected, names, ports.repositories, ports.registry, ports.evidence)
                deploying |= find_redeployed(expected, again)
    reported = drop_deploying(observed, deploying)
    for observation in reported:
        await emit_drift(observation)
    for environment in environments:
        here = [each for each in reported if each.environment == environment.name]
        await continue_soaks(here, environment, ports.evidence)
    await publish_running(reported, application)
    # last, so that what a failed check has seen is seen again
    await _remember(host_observations, environments, deploying)
    if failed:
        raise failed[0]
    return reported


def _find_unsigned(environment: Environment, ports: ExecutionPorts) -> tuple[Observation, ...]:
    state = ports.workbench.environment_state(environment)
    return () if state.active else (make_unsigned(environment.name, state.why, read_clock()),)


def _judge_again(
    expected: Iterable[Expected], environment: Environment, ports: ExecutionPorts
) -> dict[str, tuple[Deviation, ...]]:
    """Judge the deployments of an environment that rest on a break-glass; return container → why it is refused."""
    resting = [each for each in expected if each.break_glass]
    if not resting:
        return {}
    read = partial(ports.deploy_facts, environment=environment)
    judge = Judge(read, cache(lambda: ports.workbench.policies().deploy), ports.evidence, read_clock)
    judged = {each.container: judge_again(each, judge) for each in resting}
    return {container: (deviation,) for container, deviation in judged.items() if deviation}


async def _read_hosts(
    expected: Sequence[Expected], environments: Sequence[Environment], unreadable: Collection[str]
) -> dict[str, HostObservation]:
    """Return what is seen of each host since the last check, by the host's name.

    Deployments to environments that are unreadable may be on each: they are no strangers, and accesses to them count.
    """
    observations = {}
    anywhere = [each for each in expected if each.environment in unreadable and isinstance(each.place, DockerPlace)]
    on_hosts = [each for each in environments if isinstance(each, DockerEnvironment)]
    for name in sorted({each.host for each in on_hosts}):
        here = [each for each in on_hosts if each.host == name]
        names = {each.name for each in here}
        on_host = [*anywhere, *(each for each in expected if each.environment in names)]
        host: ContainerHost = await ContainerHost.aload(name)
        after = _number(await Variable.aget(_variable(name), default="0"))
        observations[name] = await run_in_thread(read_host, host.engine(), name, on_host, here, after, read_clock)
    return observations


async def _remember(
    host_observations: Mapping[str, HostObservation],
    environments: Sequence[Environment],
    deploying: Collection[tuple[str, str]],
) -> None:
    """Store the event from which the next check of each host begins.

    A host to which something is being deployed is left out: entries into that container are not reported before the
    deployment is recorded.
    """
    unsettled = {each.place for each in environments if any(name == each.name for name, _ in deploying)}
    for host, observation in host_observations.items():
        if host not in unsettled:
            await Variable.aset(_variable(host), str(observation.last), overwrite=True)


def _variable(host: str) -> str:
    return f"events_{host}".replace("-", "_")


def _number(remembered: object) -> int:
    """Return the stored number of the engine's newest event; 0 if it is not a number, so that all events are read."""
    text = str(remembered)
    return int(text) if text.isdecimal() else 0
