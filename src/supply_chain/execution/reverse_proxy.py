"""The reverse proxy of an application in an environment, on the application's stable address.

The application's containers behind it change. haproxy runs in master-worker mode: on SIGUSR2 a new worker takes over
the listening sockets, and the old worker finishes the requests that it has begun (haproxy management guide, "Stopping
and restarting HAProxy").

The name server is the engine's. While the engine is down, for example during its update, no container moves. The proxy
therefore keeps the last known address (`hold timeout`, as long as haproxy allows).

A proxy with another image or address is another container, and an address belongs to one container at a time. The new
proxy is made ready on the applications' network, which publishes nothing. Then the old proxy leaves the edge network,
the new one joins it, and the address moves with it. While the engine does this, the address refuses connections, and
responses of the old proxy are cut off. The deployment measures that time.
"""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from supply_chain.errors import CheckIncomplete, DeploymentFailed
from supply_chain.execution.environment import DockerEnvironment, DockerPlacement
from supply_chain.model.container import (
    APPLICATION,
    CONFIGURATION,
    ENVIRONMENT,
    MANAGED,
    POLL,
    ROLE,
    Container,
    ContainerSpec,
    Engine,
    Profile,
    Published,
    Volume,
    Wait,
    compute_configuration_digest,
    describe_end,
    make_labels,
    make_slug,
)
from supply_chain.model.image import Digest
from supply_chain.readiness import probe_readiness

DIRECTORY = "/config"
FILE = f"{DIRECTORY}/haproxy.cfg"
PORT = 8080
IDENTITY_PORT = 8081
SWITCH_TIMEOUT = 10.0
"""Seconds that a proxy may take until it serves its new configuration."""
NUDGE = 1.0
"""Seconds after which the reload signal is sent again: a proxy that reads its configuration misses signals."""
FINISH = 10
"""Seconds that an old worker may take to finish the requests that it has begun."""

PROFILE = Profile(user="10001:10001", memory=128 * 1024**2, pids=64, cpu=1.0, mounts=(DIRECTORY,))

CONFIGURATION_FILE = """\
# serves {server} {port} {revision}
global
    log stdout format raw local0 notice
    maxconn 1024
    nbthread 2
    hard-stop-after {finish}s

defaults
    mode http
    log global
    retries 3
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout http-request 10s
    timeout http-keep-alive 2s
    option idle-close-on-response

resolvers engine
    nameserver engine 127.0.0.11:53
    resolve_retries 3
    timeout resolve 1s
    timeout retry 1s
    hold valid 1s
    hold timeout 20d

frontend application
    bind :{listen}
    default_backend application

backend application
    option forwardfor
    server application {server}:{port} resolvers engine init-addr last,libc,none

frontend identity
    bind :{identity}
    http-request return status 200 content-type text/plain string "{server} {revision}"
"""


def render(server: str, port: int, revision: str) -> str:
    """Return the proxy's configuration for one server, which is named as in the engine's name server.

    `revision` is different for each writing; the proxy reports it, which shows which configuration it has read.
    """
    return CONFIGURATION_FILE.format(
        server=server, port=port, revision=revision, listen=PORT, identity=IDENTITY_PORT, finish=FINISH
    )


def parse_target(configuration: str) -> tuple[str, int]:
    """Return the server and port in the first line of a rendered configuration."""
    _, _, server, port, *_ = configuration.partition("\n")[0].split(" ")
    return server, int(port)


def make_server_name(container: Container) -> str:
    """Return the container's name in the engine's name server, which is valid as long as the container exists."""
    return container.id[:12]


@dataclass
class _Revision:
    """A configuration that a proxy was asked to read, and when (monotonic seconds)."""

    revision: str
    at: float


@dataclass(frozen=True)
class ReverseProxy:
    """The reverse proxy of one application in one environment; `image` is the proxy's digest in the engine."""

    engine: Engine
    environment: DockerEnvironment
    application: str
    image: Digest
    run_id: str

    @property
    def place(self) -> DockerPlacement:
        """The address of the application in the environment."""
        return self.environment.placement(self.application)

    @property
    def published(self) -> Published:
        """The proxy's port at that address."""
        return Published(address=self.place.address, port=self.place.port, container_port=PORT)

    @property
    def configuration(self) -> Digest:
        """A digest of the proxy's image, address and profile; a proxy with another one is replaced."""
        facts = {"image": self.image, "address": self.place.address, "port": str(self.place.port)}
        return compute_configuration_digest(facts, PROFILE)

    @property
    def _labels(self) -> dict[str, str]:
        return {
            MANAGED: "true",
            ROLE: "reverse-proxy",
            ENVIRONMENT: self.environment.name,
            APPLICATION: self.application,
        }

    def list_all(self) -> tuple[Container, ...]:
        """Return every proxy that exists for this application and environment."""
        return self.engine.find(self._labels)

    def find_server(self) -> str:
        """Return the server to which a running proxy forwards requests; an empty string if there is none."""
        for reverse_proxy in self.list_all():
            if self._at_address(reverse_proxy) and (identity := self._read_identity(reverse_proxy)):
                return identity.partition(" ")[0]
        return ""

    def find_fitting(self) -> Container | None:
        """Return the running proxy if its image, address and profile are right, otherwise None."""
        for reverse_proxy in self.list_all():
            current = (
                reverse_proxy.labels.get(CONFIGURATION) == self.configuration and reverse_proxy.image == self.image
            )
            if current and self._at_address(reverse_proxy) and reverse_proxy.profile == PROFILE:
                return reverse_proxy
        return None

    def switch(self, target: Container, port: int, path: str, wait: Wait) -> Container:
        """Let `target` serve the stable address, and return the proxy that forwards requests to it.

        If that fails for any reason, everything is restored to the state before.
        """
        with contextlib.ExitStack() as undo:
            fitting, server, place = self.find_fitting(), make_server_name(target), self.place
            reverse_proxy = fitting or self._create(undo)
            revision = (
                self._reconfigure(reverse_proxy, server, port, undo)
                if fitting
                else self._start(reverse_proxy, server, port)
            )
            self._wait_until(reverse_proxy, lambda: self._explain_not_switched(reverse_proxy, revision), wait)
            if not fitting:
                self._wait_until(reverse_proxy, lambda: self._find_trouble(reverse_proxy, path), wait)
                self._take_over(reverse_proxy, undo)
            self._wait_until(reverse_proxy, lambda: probe_readiness(place.address, place.port, path), wait)
            undo.pop_all()
        return self.engine.inspect(reverse_proxy.id)

    def finish(self, reverse_proxy: str, wait: Wait) -> None:
        """Wait until the previous worker has finished its requests, for about `FINISH` seconds at most."""
        deadline = time.monotonic() + FINISH + 1
        while time.monotonic() < deadline:
            try:
                if len(self.engine.processes(reverse_proxy)) <= 2:
                    return
            except CheckIncomplete:
                wait(FINISH)
                return
            wait(POLL)

    def remove_all_but(self, reverse_proxy: str) -> None:
        """Remove the other proxies with their configurations, and configurations without a proxy."""
        retained = self.engine.inspect(reverse_proxy).name
        for other in self.list_all():
            if other.id != reverse_proxy:
                self.engine.remove(other.id)
        for volume in self.engine.volumes(self._labels):
            if volume != retained:
                self.engine.remove_volume(volume)

    def _reconfigure(self, reverse_proxy: Container, server: str, port: int, undo: contextlib.ExitStack) -> _Revision:
        """Let a running proxy read a new configuration; `undo` makes it serve the previous server again."""
        before = parse_target(self.engine.read(reverse_proxy.id, FILE).decode())
        undo.callback(self._switch_back, reverse_proxy, *before)
        return self._reload(reverse_proxy, server, port)

    def _reload(self, reverse_proxy: Container, server: str, port: int) -> _Revision:
        revision = self._configure(reverse_proxy, server, port)
        self.engine.signal(reverse_proxy.id, "SIGUSR2")
        return revision

    def _switch_back(self, reverse_proxy: Container, server: str, port: int) -> None:
        """Serve the previous server again, and release the other one before it is removed."""
        revision = self._reload(reverse_proxy, server, port)
        deadline = time.monotonic() + SWITCH_TIMEOUT
        while self._explain_not_switched(reverse_proxy, revision) and time.monotonic() < deadline:
            time.sleep(POLL)  # not `wait`: the undo is completed even if the run is cancelled
        self.finish(reverse_proxy.id, time.sleep)

    def _start(self, reverse_proxy: Container, server: str, port: int) -> _Revision:
        """Write the configuration of a new proxy, and start it."""
        revision = self._configure(reverse_proxy, server, port)
        self.engine.start(reverse_proxy.id)
        return revision

    def _take_over(self, reverse_proxy: Container, undo: contextlib.ExitStack) -> None:
        """Move the address to a proxy that is ready; `undo` moves it back to the previous one."""
        edge = self.environment.edge
        for other in self.list_all():
            if other.id != reverse_proxy.id and self._at_address(other):
                undo.callback(self.engine.attach, edge, other.id)
                undo.callback(self.engine.remove, reverse_proxy.id)  # undone first, because this frees the address
                self.engine.detach(edge, other.id)
        self.engine.attach(edge, reverse_proxy.id)

    def _create(self, undo: contextlib.ExitStack) -> Container:
        proxy_labels = make_labels(
            "reverse-proxy",
            self.application,
            self.image,
            self.run_id,
            environment=self.environment.name,
            configuration=self.configuration,
        )
        name = f"{self.environment.name}-{make_slug(self.application)}-proxy-{uuid4().hex[:6]}"
        undo.callback(self.engine.remove_volume, name)
        self.engine.create_volume(name, proxy_labels)
        undo.callback(self.engine.remove, name)
        self.engine.create_network(self.environment.edge, self.environment.labels, internal=False)
        identifier = self.engine.create(
            ContainerSpec(
                image=self.image,
                name=name,
                labels=proxy_labels,
                profile=PROFILE,
                network=self.environment.network,
                published=(self.published,),
                volumes=(Volume(name=name, path=DIRECTORY),),
                command=("/usr/sbin/haproxy", "-W", "-db", "-f", FILE),
                restart=True,
            )
        )
        return self.engine.inspect(identifier)

    def _configure(self, reverse_proxy: Container, server: str, port: int) -> _Revision:
        revision = uuid4().hex[:12]
        self.engine.write(reverse_proxy.id, FILE, render(server, port, revision).encode())
        return _Revision(revision, time.monotonic())

    def _at_address(self, reverse_proxy: Container) -> bool:
        """Return whether the proxy runs on the network that gives it the address."""
        return reverse_proxy.running and self.environment.edge in reverse_proxy.networks

    def _internal_address(self, reverse_proxy: Container) -> str:
        """Return the proxy's address on the applications' network; an empty string while it has none."""
        return self.engine.inspect(reverse_proxy.id).networks.get(self.environment.network, "")

    def _find_trouble(self, reverse_proxy: Container, path: str) -> str:
        """Return why a proxy without the address does not reach the application; empty if it does."""
        address = self._internal_address(reverse_proxy)
        return probe_readiness(address, PORT, path) if address else "it has no address"

    def _read_identity(self, reverse_proxy: Container) -> str:
        """Return which server and revision the proxy reports; an empty string while it does not answer."""
        address = self._internal_address(reverse_proxy)
        if not address:
            return ""
        connection = http.client.HTTPConnection(address, IDENTITY_PORT, timeout=2)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read(64).decode("ascii", "replace")
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()

    def _explain_not_switched(self, reverse_proxy: Container, expected: _Revision) -> str:
        """Return why the proxy does not serve its new configuration yet; an empty string if it does.

        Sends the reload signal again every `NUDGE` seconds.
        """
        identity = self._read_identity(reverse_proxy)
        if identity.endswith(f" {expected.revision}"):
            return ""
        if time.monotonic() - expected.at > NUDGE:
            self.engine.signal(reverse_proxy.id, "SIGUSR2")
            expected.at = time.monotonic()
        return f"it serves {identity or 'nothing'}"

    def _wait_until(self, reverse_proxy: Container, trouble: Callable[[], str], wait: Wait) -> None:
        """Wait until `trouble` returns an empty string.

        Raises `DeploymentFailed` after `SWITCH_TIMEOUT` seconds, or as soon as the proxy has ended or was restarted.
        """
        deadline = time.monotonic() + SWITCH_TIMEOUT
        while reason := trouble():
            now = self.engine.inspect(reverse_proxy.id)
            if now.over or now.restarts > reverse_proxy.restarts or time.monotonic() > deadline:
                how = reason if now.running else describe_end(now)
                last = " | ".join(self.engine.logs(reverse_proxy.id).tail(5)[-1000:].splitlines())
                raise DeploymentFailed(
                    f"the reverse proxy of {self.application} in {self.environment.name} does not serve it: {how}"
                    f"{'; it wrote: ' + last if last else ''}\nThe address serves the same as before."
                )
            wait(POLL)
