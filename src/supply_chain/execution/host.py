"""Detection of what reaches a host without belonging to an environment, and of access to deployed containers.

`read_host` asks the engine; `judge_accesses` and `find_entries` are pure. They do not detect: what happens outside of
containers (root on the host, another engine); a container that starts and ends between two looks; events that the
engine no longer has, or lost in a restart, which is reported as `host.unwatched`; what was done in an exec; and who did
it, because an engine does not report that. Files that are copied into a proxy are not searched for, because the chain
does that itself.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from pydantic import Field

from supply_chain.execution.deployment import Expected
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.execution.observation import Deviation, Observation
from supply_chain.model.container import Action, Engine, History, HostAccess
from supply_chain.model.image import Digest, Model
from supply_chain.text import sanitize_text

UNWATCHED = "host.unwatched"
"""A code that is not a deviation: the engine no longer knows everything since the last look."""
LOOK = "Find out who started it and why. Remove it, or write its image into `agents` of the environment's document."
ENTERED = "Find out who did that, and why. Keep a copy of the container, then deploy the application again."
SECRET = re.compile(r"(?<![\w-])([A-Za-z_]\w*|--?[\w-]+)=\S+")
"""An assignment in a command. Only its name is reported, because the value may be a secret."""
LONGEST = 200


class HostObservation(Model):
    """The result of one look at a host, and what the next look needs."""

    observations: tuple[Observation, ...] = Field(description="of the host itself")
    entered: dict[str, tuple[Deviation, ...]] = Field(
        description="an application's deployed container → the accesses to it or to its reverse proxy"
    )
    last: int = Field(description="the engine's newest event, from which the next observation continues")


def read_host(
    engine: Engine,
    name: str,
    expected: Sequence[Expected],
    environments: Sequence[DockerEnvironment],
    after: int,
    now: Callable[[], datetime],
) -> HostObservation:
    """Look at all containers of a host, and at what was done with them since the event `after`.

    `expected` are all deployments to the `environments` of this host. Raises `EngineUnavailable`.
    """
    accesses, history = engine.list_host_accesses(), engine.history(after)
    ours = {each.container: each.name for each in expected} | {
        each.reverse_proxy: _proxy_name(each) for each in expected
    }
    agents = {agent.image for environment in environments for agent in environment.agents}
    suspects = judge_accesses(accesses, ours, agents)
    observations = [_observation(name, access, deviations, now()) for access, deviations in suspects]
    if not history.complete:
        observations.append(_unwatched_observation(name, now()))
    reverse_proxies = {each.reverse_proxy for each in expected}
    return HostObservation(
        observations=tuple(observations),
        entered=select_deployment_entries(expected, find_entries(history, ours, reverse_proxies)),
        last=history.last,
    )


def judge_accesses(
    accesses: Sequence[HostAccess], ours: Mapping[str, str], agents: Collection[Digest]
) -> tuple[tuple[HostAccess, tuple[Deviation, ...]], ...]:
    """Return the containers that the chain did not deploy and that reach the host or deployed containers.

    Each has the deviations that say what it reaches. Labels do not matter, because anybody can write them. `ours` maps
    the ids of deployed containers to their names. An image in `agents` may reach the host, but no container of the
    chain.
    """
    volumes = {volume for each in accesses if each.container in ours for volume in each.volumes}
    suspects = []
    for access in accesses:
        if access.container in ours:
            continue
        deviations = [*_reaches_ours(access, ours, volumes)]
        if access.image not in agents:
            deviations += _reaches_host(access)
        if deviations:
            suspects.append((access, tuple(deviations)))
    return tuple(suspects)


def _reaches_host(access: HostAccess) -> Iterator[Deviation]:
    name = sanitize_text(access.name)
    if access.privileged:
        yield Deviation(
            code="host.privileged",
            fact=f"{name}, which nobody deployed, is privileged: it has root's rights on the host",
            remedy=LOOK,
        )
    if access.capabilities:
        yield Deviation(
            code="host.capabilities",
            fact=f"{name}, which nobody deployed, has capabilities: {_format_values(access.capabilities)}",
            remedy=LOOK,
        )
    if access.paths:
        yield Deviation(
            code="host.mount",
            fact=f"{name}, which nobody deployed, mounts the host's {_format_values(access.paths)}",
            remedy=LOOK,
        )
    if access.devices:
        yield Deviation(
            code="host.device",
            fact=f"{name}, which nobody deployed, uses devices of the host: {_format_values(access.devices)}",
            remedy=LOOK,
        )
    if access.host_namespaces:
        yield Deviation(
            code="host.namespace",
            fact=f"{name}, which nobody deployed, shares with the host: {_format_values(access.host_namespaces)}",
            remedy=LOOK,
        )
    if access.unconfined:
        yield Deviation(
            code="host.unconfined",
            fact=f"{name}, which nobody deployed, is less confined than by default: "
            f"{_format_values(access.unconfined)}",
            remedy=LOOK,
        )


def _format_values(values: Iterable[str]) -> str:
    return sanitize_text(", ".join(values))


def _reaches_ours(access: HostAccess, ours: Mapping[str, str], volumes: Collection[str]) -> Iterator[Deviation]:
    shared = [f"{space} of {name}" for space, of in access.shared.items() if (name := _name_of(of, ours))]
    shared += [f"the volume {volume}" for volume in access.volumes if volume in volumes]
    if shared:
        yield Deviation(
            code="host.shares",
            fact=f"{sanitize_text(access.name)}, which nobody deployed, shares with what was deployed: "
            f"{_format_values(shared)}",
            remedy="Find out who started it, and remove it.",
        )


def _name_of(container: str, ours: Mapping[str, str]) -> str:
    """Return the name of a deployed container, given by id or name; an empty string for any other container."""
    return ours.get(container) or next((name for name in ours.values() if name == container), "")


def find_entries(
    history: History, ours: Mapping[str, str], reverse_proxies: Collection[str]
) -> dict[str, tuple[Deviation, ...]]:
    """Return the accesses to deployed containers, by container: each command once, with its count and last time.

    Health checks of images are not among them, because the engine runs none in containers of the chain.
    """
    grouped: dict[tuple[str, str, str], list[Action]] = defaultdict(list)
    for each in history.actions:
        own = each.container in reverse_proxies and each.kind in ("archive-path", "extract-to-dir")
        if each.container in ours and not own:
            grouped[each.container, each.kind, each.command].append(each)
    entries: dict[str, list[Deviation]] = defaultdict(list)
    for (container, kind, command), actions in grouped.items():
        entries[container].append(_entry(ours[container], kind, command, actions))
    return {container: tuple(deviations) for container, deviations in entries.items()}


def select_deployment_entries(
    expected: Iterable[Expected], entries: Mapping[str, tuple[Deviation, ...]]
) -> dict[str, tuple[Deviation, ...]]:
    """Return the accesses by the application's container, including those to its reverse proxy."""
    selected = {
        each.container: (*entries.get(each.container, ()), *entries.get(each.reverse_proxy, ())) for each in expected
    }
    return {container: deviations for container, deviations in selected.items() if deviations}


def _entry(name: str, kind: str, command: str, actions: Sequence[Action]) -> Deviation:
    last = max(each.at for each in actions)
    often = f"{len(actions)} times, last " if len(actions) > 1 else ""
    when = f"{often}{last:%Y-%m-%d %H:%M:%S %Z}"
    match kind:
        case "exec_start":
            command_line = sanitize_text(redact_values(command))
            return Deviation(
                code="drift.exec", fact=f"somebody ran a command in {name} ({when}): {command_line}", remedy=ENTERED
            )
        case "attach":
            return Deviation(code="drift.attached", fact=f"somebody attached to {name} ({when})", remedy=ENTERED)
        case "extract-to-dir":
            return Deviation(code="drift.written", fact=f"somebody copied files into {name} ({when})", remedy=ENTERED)
    return Deviation(code="drift.copied", fact=f"somebody copied content out of {name} ({when})", remedy=ENTERED)


def redact_values(command: str) -> str:
    """Return the beginning of a command, without assigned values."""
    redacted = SECRET.sub(r"\1=…", command)
    return redacted if len(redacted) <= LONGEST else f"{redacted[:LONGEST]}…"


def add_entries(
    observations: Iterable[Observation], entries: Mapping[str, tuple[Deviation, ...]]
) -> tuple[Observation, ...]:
    """Return the observations; those of deployments get the deviations of their container."""
    return tuple(
        each.model_copy(update={"deviations": (*each.deviations, *entries[each.container])})
        if each.expected_digest and each.container in entries
        else each
        for each in observations
    )


def _proxy_name(expected: Expected) -> str:
    return f"the reverse proxy of {expected.application} in {expected.environment}"


def _observation(host: str, access: HostAccess, deviations: tuple[Deviation, ...], at: datetime) -> Observation:
    return Observation(
        at=at,
        environment="",
        host=host,
        application="",
        name=access.name,
        container=access.container,
        running=access.image if access.status == "running" else "",
        status=access.status,
        deviations=deviations,
    )


def _unwatched_observation(host: str, at: datetime) -> Observation:
    deviation = Deviation(
        code=UNWATCHED,
        fact="the engine no longer has all events since the last observation: it keeps 256, and none after a restart",
        remedy="If that is not enough, let the host's audit log watch the engine's socket, or monitor more often.",
    )
    return Observation(
        at=at, environment="", host=host, application="", name="the engine's events", container="", status="unknown",
        deviations=(deviation,),
    )  # fmt: skip


def list_drifts(observations: Iterable[Observation]) -> tuple[str, ...]:
    """Return the codes of all deviations, without `host.unwatched`."""
    codes = {deviation.code for each in observations for deviation in each.deviations}
    return tuple(sorted(codes - {UNWATCHED}))
