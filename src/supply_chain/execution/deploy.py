"""Deployment of an admitted image, by digest, to a container host: it is ready before the previous container stops.

The applications of an environment share one network without access to the outside. Each is reached through its reverse
proxy, at the address that the environment gives it. The engine's host must be this machine, because the addresses are
those of its loopback interface.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import sleep

from supply_chain.errors import ContainerGone, DeploymentFailed, ImageDamaged, PortBusy, ProgramNotStarted
from supply_chain.execution.configured import ConfiguredService
from supply_chain.execution.deployment import Deployment, DockerPlace, Expected
from supply_chain.execution.downtime import DowntimeMeter
from supply_chain.execution.environment import DockerEnvironment, DockerPlacement
from supply_chain.execution.reverse_proxy import ReverseProxy, make_server_name
from supply_chain.model.container import (
    APPLICATION,
    CONFIGURATION,
    DIGEST,
    ENVIRONMENT,
    MANAGED,
    PREVIOUS,
    ROLE,
    Container,
    ContainerSpec,
    Engine,
    Wait,
    make_container_name,
    make_labels,
)
from supply_chain.model.declaration import Service
from supply_chain.model.image import Digest
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.outcome import Admitted, find_used_break_glass
from supply_chain.readiness import check, probe_readiness, wait_until_ready
from supply_chain.text import summarize_error

SETTLE = 0.3
"""Seconds after which a container that was ready is checked again."""


@dataclass(frozen=True)
class Order(ConfiguredService):
    """A request to deploy an admitted image, as declared, to an environment. `proxy` is the reverse proxy's image.

    If `force` is true, the container is replaced even if the same one already runs.
    """

    admitted: Admitted[DeployFacts]
    declaration: Service
    environment: DockerEnvironment
    proxy: Digest
    run_id: str
    force: bool = False

    @property
    def digest(self) -> Digest:
        """The digest of the image."""
        return self.admitted.facts.ref.digest

    @property
    def placement(self) -> DockerPlacement:
        """The address and configuration of the application in the environment."""
        return self.environment.placement(self.declaration.name)


def deploy(
    engine: Engine,
    order: Order,
    supply: Callable[[], Digest],
    *,
    now: Callable[[], datetime],
    wait: Wait = sleep,
    may_serve: Callable[[], object],
    recorded: Callable[[Deployment], Deployment],
) -> Deployment:
    """Run the admitted image; return the deployment, also if the same one already runs and is healthy.

    `supply` brings the image and the proxy to the engine, and returns the engine's name for the image. It is called
    unless the same deployment already runs: then nothing starts.

    `may_serve` is called when the new container is ready and does not get requests yet; what it raises ends the
    deployment. `recorded` gets the deployment as soon as it serves, before the previous container is stopped, which may
    take a minute. So a run that is cancelled from then on has already recorded its result.

    Raises `DeploymentFailed` with the container's last output if the container does not become ready or the address
    cannot be served, and `PortBusy` if another program listens there. In these cases, and if `wait` raises `Cancelled`
    before the new container serves, the previous container continues to serve and nothing remains of the new one.
    """
    reverse_proxy = ReverseProxy(engine, order.environment, order.declaration.name, order.proxy, order.run_id)
    others, reverse_proxies = _containers(engine, order), {each.id for each in reverse_proxy.list_all()}
    server = reverse_proxy.find_server()
    serving = next((each for each in others if make_server_name(each) == server), None)
    if serving and not order.force and (unchanged := _find_unchanged(order, serving, reverse_proxy, now)):
        with _retire(
            engine, order, reverse_proxy, unchanged.reverse_proxy, [c for c in others if c.id != serving.id], wait
        ):
            return recorded(unchanged)
    reference = supply()
    with contextlib.ExitStack() as undo:
        new = _create(engine, order, reference, others, serving, undo)
        ready_seconds = _wait_until_ready(engine, order, new, wait)
        may_serve()
        with _measure_downtime(order, serving) as meter:
            served_by = _switch(engine, order, reverse_proxy, new, wait)
        undo.pop_all()
    with _retire(engine, order, reverse_proxy, served_by.id, others, wait):
        running = engine.inspect(new.id)
        return recorded(
            Deployment(
                **_expected(order, running, served_by).model_dump(),
                changed=True,
                previous=serving.name if serving else None,
                previous_digest=serving.image if serving else None,
                ready_seconds=round(ready_seconds, 3),
                gap_seconds=round(meter.gap, 3) if meter else None,
                requests=meter.requests if meter else 0,
                failed_requests=meter.failed if meter else 0,
                reverse_proxy_replaced=bool(reverse_proxies) and served_by.id not in reverse_proxies,
                started_at=running.started_at or now(),
            )
        )


def _expected(order: Order, running: Container, reverse_proxy: Container) -> Expected:
    return Expected(
        environment=order.environment.name,
        application=order.declaration.name,
        digest=order.digest,
        container=running.id,
        name=running.name,
        place=DockerPlace(
            reverse_proxy=reverse_proxy.id,
            proxy=order.proxy,
            address=order.placement.address,
            port=order.placement.port,
        ),
        probe=order.declaration.probe,
        settings=order.settings,
        profile=order.profile,
        configuration=order.configuration,
        break_glass=find_used_break_glass(order.admitted.results),
    )


def _containers(engine: Engine, order: Order) -> tuple[Container, ...]:
    """Return the containers of earlier deployments of this application to this environment."""
    return engine.find(
        {
            MANAGED: "true",
            ROLE: "application",
            ENVIRONMENT: order.environment.name,
            APPLICATION: order.declaration.name,
        }
    )


def _find_unchanged(
    order: Order, serving: Container, reverse_proxy: ReverseProxy, now: Callable[[], datetime]
) -> Deployment | None:
    """Return the current deployment if it is the requested one and healthy, otherwise None."""
    place, reverse_proxy_now = order.placement, reverse_proxy.find_fitting()
    same = (
        serving.running
        and serving.image == order.digest
        and serving.labels.get(CONFIGURATION) == order.configuration
        and serving.profile == order.profile
        and serving.restart
    )
    if not same or not reverse_proxy_now or probe_readiness(place.address, place.port, order.declaration.probe.path):
        return None
    return Deployment(
        **_expected(order, serving, reverse_proxy_now).model_dump(),
        changed=False,
        started_at=serving.started_at or now(),
    )


def _create(
    engine: Engine,
    order: Order,
    reference: str,
    others: tuple[Container, ...],
    serving: Container | None,
    undo: contextlib.ExitStack,
) -> Container:
    """Create and start the new container, without waiting until it is ready.

    Raises `ImageDamaged`, before the start, if the engine made it from another image.
    """
    container_labels = make_labels(
        "application",
        order.declaration.name,
        order.digest,
        order.run_id,
        environment=order.environment.name,
        configuration=order.configuration,
        previous=_previous_digest(order, serving),
    )
    network = order.environment.network
    numbers = [int(end) for c in others if (end := c.name.rpartition("-")[2]).isdigit()]
    name = make_container_name(
        order.environment.name, order.declaration.name, order.digest, max(numbers, default=0) + 1
    )
    engine.create_network(network, order.environment.labels, internal=True)
    undo.callback(engine.remove, name)
    identifier = engine.create(
        ContainerSpec(
            image=reference,
            name=name,
            labels=container_labels,
            profile=order.profile,
            environment=order.settings,
            network=network,
        )
    )
    new = engine.inspect(identifier)
    if new.image != container_labels[DIGEST]:
        raise ImageDamaged(
            f"The engine made {name} from {new.image}, and {order.admitted.facts.ref} was admitted.\n"
            "It is not started. An engine with the containerd image store is needed (`cscm doctor`)."
        )
    with contextlib.suppress(ProgramNotStarted):  # the container's error shows it, and is reported later
        engine.start(identifier)
    return new


def _previous_digest(order: Order, serving: Container | None) -> str:
    """Return the digest to roll back to from the new deployment; an empty string if there is none."""
    if serving and serving.image == order.digest:
        return serving.labels.get(PREVIOUS, "")
    return serving.image if serving else ""


def _wait_until_ready(engine: Engine, order: Order, new: Container, wait: Wait) -> float:
    """Wait until the new container is ready, and return the seconds that this took.

    Raises `DeploymentFailed` if it does not become ready, or is no longer ready a moment later.
    """
    probe, network = order.declaration.probe, order.environment.network
    answer = wait_until_ready(engine, new.id, network, probe, wait)
    trouble = answer.says
    if answer.ready:
        wait(SETTLE)
        trouble, _ = check(engine, new.id, network, probe)
    if trouble:
        raise _deployment_error(engine, order, new, trouble)
    return answer.seconds


def _deployment_error(engine: Engine, order: Order, new: Container, trouble: str) -> DeploymentFailed:
    last = engine.logs(new.id).tail(10)[-4000:].strip()
    return DeploymentFailed(
        f"{order.declaration.name} {order.admitted.facts.ref.short} was not deployed to "
        f"{order.environment.name}: {trouble}.\n"
        + (f"Its last output:\n{last}\n" if last else "It wrote nothing.\n")
        + "It was removed; an earlier deployment, if any, still runs. Correct it and deploy again."
    )


@contextlib.contextmanager
def _measure_downtime(order: Order, serving: Container | None) -> Iterator[DowntimeMeter | None]:
    """Yield a meter of the downtime of the address; None if nothing answers there that could be interrupted.

    An address to which the application moves is not measured.
    """
    where = order.placement.address, order.placement.port, order.declaration.probe.path
    if serving is None or probe_readiness(*where):
        yield None
        return
    with DowntimeMeter(*where) as meter:
        yield meter


def _switch(engine: Engine, order: Order, reverse_proxy: ReverseProxy, new: Container, wait: Wait) -> Container:
    """Switch the reverse proxy to the new container, which the engine keeps running from now on; return the proxy."""
    probe = order.declaration.probe
    try:
        served_by = reverse_proxy.switch(new, probe.port, probe.path, wait)
    except PortBusy as error:
        place = order.placement
        raise PortBusy(
            f"Another program listens at {place.address}:{place.port}, the address of {order.declaration.name} in "
            f"{order.environment.name}: {summarize_error(error)}.\nThe new container was removed; an earlier "
            "deployment, if any, still runs. Stop that program, or give the application another port."
        ) from error
    except (DeploymentFailed, ProgramNotStarted) as error:
        raise _deployment_error(engine, order, new, summarize_error(error)) from error
    engine.restart_always(new.id)
    return served_by


@contextlib.contextmanager
def _retire(
    engine: Engine,
    order: Order,
    reverse_proxy: ReverseProxy,
    served_by: str,
    others: Sequence[Container],
    wait: Wait,
) -> Iterator[None]:
    """Stop and remove the previous containers after the block, also if the run is cancelled.

    Unless the block raises, their last requests are answered first. What an interrupted deployment left is removed too:
    `served_by` is the id of the only reverse proxy that stays.
    """
    try:
        yield
        if others:
            reverse_proxy.finish(served_by, wait)
    finally:
        reverse_proxy.remove_all_but(served_by)
        for other in others:
            with contextlib.suppress(ContainerGone):  # somebody else removed it
                engine.stop(other.id, order.declaration.probe.stop_timeout)
            engine.remove(other.id)
