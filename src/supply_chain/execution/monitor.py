"""The comparison of what runs on a container host with what should run.

The signed deployment records say what should run. `read_state` reads what there is, `compare` is pure and returns the
differences, and `monitor` does both for every deployment and for every container that nobody deployed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from supply_chain.errors import CheckIncomplete, ContainerGone, ImageNotFound
from supply_chain.execution.deployment import DockerPlace, Expected, read_docker_place
from supply_chain.execution.environment import DockerEnvironment, name_network
from supply_chain.execution.kubernetes.rendering import make_object_name
from supply_chain.execution.observation import Deviation, Observation, make_moved
from supply_chain.execution.reverse_proxy import PORT, PROFILE
from supply_chain.model.container import (
    APPLICATION,
    ENVIRONMENT,
    Change,
    Container,
    Engine,
    LocalImage,
    Profile,
    Published,
    describe_end,
    find_outside,
    make_slug,
)
from supply_chain.model.image import shorten_digest
from supply_chain.readiness import probe_readiness
from supply_chain.text import truncate_lines

MOST_LISTED = 10
"""Largest number of paths and names in a fact."""

EVERYWHERE = (Change(kind="changed", path="/"),)
"""Stands for the changes of a container that has too many to list."""

DEPLOY_AGAIN = "Find out who changed it, then deploy the application again."


@dataclass(frozen=True)
class DeploymentState:
    """What exists for one deployment. `trouble` is empty if the stable address answers with 2xx."""

    container: Container | None
    image: LocalImage | None
    changes: tuple[Change, ...]
    reverse_proxy: Container | None
    trouble: str


def monitor(
    engine: Engine,
    expected: Sequence[Expected],
    environments: Sequence[DockerEnvironment],
    now: Callable[[], datetime],
    application: str | None = None,
) -> tuple[Observation, ...]:
    """Return one observation for each deployment, and one for each container that nobody deployed.

    With `application`, `expected` contains only its deployments, and of other containers only those that carry its name
    are reported. The containers of an environment are those on its networks and those with its label. Do not call this
    during a deployment to one of these environments: a container without a record counts as one that nobody deployed.
    Raises `EngineUnavailable`; then nothing is known, in particular not that all is well.
    """
    observed = [
        _make_observation(each, read_state(engine, each), now())
        if isinstance(each.place, DockerPlace)
        else make_moved(each, now())
        for each in expected
    ]
    recorded = {each.container for each in expected} | {each.reverse_proxy for each in expected}
    for environment in environments:
        observed += [
            _foreign_observation(environment.name, container, now())
            for container in find_containers(engine, environment)
            if container.id not in recorded and application in (None, container.labels.get(APPLICATION))
        ]
    return tuple(observed)


def read_state(engine: Engine, expected: Expected) -> DeploymentState:
    """Read what exists for one deployment."""
    container = _inspect_if_present(engine, expected.container)
    image: LocalImage | None = None
    changes: tuple[Change, ...] = ()
    if container:
        with contextlib.suppress(ImageNotFound):
            image = engine.image(container.image)
        try:
            changes = engine.changes(container.id)
        except CheckIncomplete:
            changes = EVERYWHERE
        except ContainerGone:  # removed since the inspection
            container = None
    place = read_docker_place(expected)
    return DeploymentState(
        container=container,
        image=image,
        changes=changes,
        reverse_proxy=_inspect_if_present(engine, place.reverse_proxy),
        trouble=probe_readiness(place.address, place.port, expected.probe.path),
    )


def find_containers(engine: Engine, environment: DockerEnvironment) -> tuple[Container, ...]:
    """Every container on the environment's networks or with its label, whoever started it."""
    containers = {
        container.id: container
        for group in (
            engine.find({ENVIRONMENT: environment.name}),
            engine.list_network_containers(environment.network),
            engine.list_network_containers(environment.edge),
        )
        for container in group
    }
    return tuple(containers.values())


def compare(expected: Expected, state: DeploymentState) -> tuple[Deviation, ...]:
    """Return all differences between what was observed and what should be. Pure."""
    return (
        *_compare_presence(expected, state.container),
        *(_compare_identity(expected, state.container, state.image) if state.container else ()),
        *(_compare_profile(expected.profile, state.container.profile) if state.container else ()),
        *_compare_files(expected, state.changes),
        *_compare_proxy(expected, state.reverse_proxy),
        *_compare_health(expected, state),
    )


def _compare_presence(expected: Expected, container: Container | None) -> Iterable[Deviation]:
    if container is None:
        yield Deviation(
            code="drift.missing",
            fact=f"{expected.name} is gone",
            remedy="Deploy the application again, and find out who removed its container.",
        )
        return
    if not container.running:
        yield Deviation(
            code="drift.stopped",
            fact=f"{container.name} is {container.status}: {describe_end(container)}",
            remedy="Read its logs; start it or deploy the application again.",
        )
    if container.restarts:
        yield Deviation(
            code="drift.restarts",
            fact=f"{container.name} ended and was restarted, {container.restarts} times so far",
            remedy="Read its logs; a deployment resets the count.",
        )


def _compare_identity(expected: Expected, container: Container, image: LocalImage | None) -> Iterable[Deviation]:
    if container.image != expected.digest:
        yield Deviation(
            code="drift.digest",
            fact=f"{container.name} runs {shorten_digest(container.image)} "
            f"instead of {shorten_digest(expected.digest)}",
            remedy=DEPLOY_AGAIN,
        )
    if image is not None and (differs := _compare_settings(expected, container, image)):
        yield Deviation(
            code="drift.configuration",
            fact=f"{container.name} has other settings than its deployment: {differs}",
            remedy=DEPLOY_AGAIN,
        )
    if image is not None and container.command != image.command:
        yield Deviation(
            code="drift.command",
            fact=f"{container.name} runs another command than its image's: {' '.join(container.command)[:200]}",
            remedy=DEPLOY_AGAIN,
        )
    networks = sorted(set(container.networks) - {name_network(expected.environment)})
    if networks or container.published:
        ports = [f"{p.address}:{p.port}" for p in container.published]
        yield Deviation(
            code="drift.network",
            fact=f"{container.name} can be reached past its reverse proxy: {', '.join(networks + ports)}",
            remedy=DEPLOY_AGAIN,
        )


def _compare_settings(expected: Expected, container: Container, image: LocalImage) -> str:
    """Return the names, never the values, of the variables that are not as they should be."""
    settings = {**image.environment, **expected.settings}
    names = set(settings) | set(container.environment)
    return ", ".join(sorted(n for n in names if settings.get(n) != container.environment.get(n)))


def _compare_profile(declared: Profile, actual: Profile) -> Iterable[Deviation]:
    differing = [name for name in Profile.model_fields if getattr(declared, name) != getattr(actual, name)]
    if differing:
        differences = ", ".join(
            f"{name} is {_format_value(getattr(actual, name))}, not {_format_value(getattr(declared, name))}"
            for name in differing
        )
        yield Deviation(
            code="drift.profile", fact=f"its profile differs from the declared one: {differences}", remedy=DEPLOY_AGAIN
        )


def _format_value(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "nothing"
    return str(value)


def _compare_files(expected: Expected, changes: Sequence[Change]) -> Iterable[Deviation]:
    own = find_outside(changes, expected.profile.writable)
    if own:
        paths = truncate_lines(MOST_LISTED, [f"{change.path} ({change.kind})" for change in own])
        yield Deviation(
            code="drift.files",
            fact=f"{expected.name} has files that are not its image's: {', '.join(paths)}",
            remedy="Keep a copy of the container for the investigation, then deploy the application again.",
        )


def _compare_proxy(expected: Expected, reverse_proxy: Container | None) -> Iterable[Deviation]:
    place = read_docker_place(expected)
    published = (Published(address=place.address, port=place.port, container_port=PORT),)
    if reverse_proxy is None:
        fact = "it is gone"
    elif not reverse_proxy.running:
        fact = f"it is {reverse_proxy.status}: {describe_end(reverse_proxy)}"
    elif reverse_proxy.image != place.proxy:
        fact = f"it runs {shorten_digest(reverse_proxy.image)} instead of {shorten_digest(place.proxy)}"
    elif reverse_proxy.profile != PROFILE or reverse_proxy.published != published:
        fact = "its profile or its address differs from the recorded one"
    else:
        return
    yield Deviation(
        code="drift.reverse-proxy",
        fact=f"the reverse proxy of {expected.application} at {place.address}:{place.port}: {fact}",
        remedy="Deploy the application again; that replaces its reverse proxy.",
    )


def _compare_health(expected: Expected, state: DeploymentState) -> Iterable[Deviation]:
    if state.trouble:
        yield Deviation(
            code="drift.unhealthy",
            fact=f"{expected.url} is not healthy: {state.trouble}",
            remedy="Read the logs of the application and of its reverse proxy.",
        )


def _make_observation(expected: Expected, state: DeploymentState, at: datetime) -> Observation:
    container = state.container
    observation = Observation(
        at=at,
        environment=expected.environment,
        application=expected.application,
        name=expected.name,
        container=expected.container,
        address=expected.url,
        expected_digest=expected.digest,
        healthy=not state.trouble,
        deviations=compare(expected, state),
    )
    return observation.model_copy(update=_state(container)) if container else observation


def _foreign_observation(environment: str, container: Container, at: datetime) -> Observation:
    deviation = Deviation(
        code="drift.foreign",
        fact=f"nobody deployed {container.name} to {environment}; it is {container.status}, "
        f"from {shorten_digest(container.image)}",
        remedy="Find out who started it, and remove it: only the chain deploys here.",
    )
    observation = Observation(
        at=at,
        environment=environment,
        application="",
        name=container.name,
        container=container.id,
        deviations=(deviation,),
    )
    return observation.model_copy(update=_state(container))


def _state(container: Container) -> dict[str, object]:
    return {
        "running": container.image if container.running else "",
        "status": container.status,
        "restarts": container.restarts,
        "exit_code": None if container.running else container.exit_code,
        "started_at": container.started_at,
    }


def _inspect_if_present(engine: Engine, container: str) -> Container | None:
    try:
        return engine.inspect(container)
    except ContainerGone:
        return None


def find_redeployed(before: Iterable[Expected], after: Iterable[Expected]) -> set[tuple[str, str]]:
    """Return environment and application of each record that two readings of the records do not have alike."""
    one, other = ({(each.environment, each.application): each for each in read} for read in (before, after))
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def drop_deploying(
    observations: Sequence[Observation], under_way: Collection[tuple[str, str]]
) -> tuple[Observation, ...]:
    """Return the observations, without those of each (environment, application) that is being deployed now."""
    names = [
        (environment, re.compile(f"{_container_names(environment, application)}|{_object_names(application)}"))
        for environment, application in under_way
    ]
    return tuple(
        o
        for o in observations
        if (o.environment, o.application) not in under_way
        and (o.application or not any(where == o.environment and name.fullmatch(o.name) for where, name in names))
    )


def _container_names(environment: str, application: str) -> str:
    return rf"{re.escape(environment)}-{re.escape(make_slug(application))}-(?:[0-9a-f]{{12}}-\d+|proxy-\w+)"


def _object_names(application: str) -> str:
    name = re.escape(make_object_name(application))
    return rf"{name}-[0-9a-z]+-[0-9a-z]{{5}}|[A-Z]\w+ {name}(?:-[0-9a-z]+)?"
