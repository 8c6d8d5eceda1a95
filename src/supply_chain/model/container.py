"""Containers: what is asked of an engine, what it reports, and the port it is asked through.

`ContainerSpec` is made by pure functions from the application's declaration; an `Engine` carries it
out and reports `Container`s. Both hold a `Profile`, so that what runs can be compared with what was
asked for, field by field.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field

from supply_chain.model.image import Digest, Frozen, digest_of, short
from supply_chain.model.manifest import Runtime

MANAGED = "cscm.managed"
APPLICATION = "cscm.application"
ENVIRONMENT = "cscm.environment"
DIGEST = "cscm.digest"
CONFIGURATION = "cscm.configuration"
PREVIOUS = "cscm.previous"
"""The digest that its environment would go back to."""
RUN = "cscm.run"
ROLE = "cscm.role"
OWNER = "cscm.owner"

Role = Literal["application", "front", "probe", "check", "tests"]
Wait = Callable[[float], None]
"""Sleeps that many seconds, or raises `Cancelled` as soon as the run is cancelled."""

POLL = 0.02
"""Seconds between two looks at a container that is starting or stopping."""
LINES = 200
"""Lines of each of a container's streams that are read: what it said last."""
LOG = 256 * 1024
"""Bytes of each of a container's streams that are read, however long its lines are."""


class Profile(Frozen):
    """What a container may do. As asked for in a spec, or as an engine reports it."""

    user: str = Field(description="uid:gid")
    read_only: bool = True
    writable: tuple[str, ...] = Field(default=(), description="paths in memory")
    capabilities: tuple[str, ...] = Field(default=(), description="added, without CAP_")
    dropped: tuple[str, ...] = ("ALL",)
    no_new_privileges: bool = True
    memory: int = Field(description="bytes, swap included")
    pids: int
    cpu: float = Field(default=0.0, description="processors; 0 for as many as there are")
    init: bool = Field(default=False, description="the engine's own first process passes signals on")
    privileged: bool = False
    host_namespaces: tuple[str, ...] = ()
    mounts: tuple[str, ...] = Field(default=(), description="paths of volumes and binds")
    devices: tuple[str, ...] = ()
    security_options: tuple[str, ...] = Field(default=(), description="other than no-new-privileges")


class Published(Frozen):
    """A container's port, reached at an address of the host."""

    address: str
    port: int
    container_port: int


class Volume(Frozen):
    """A named volume and where the container sees it."""

    name: str
    path: str


class ContainerSpec(Frozen):
    """One container, wholly described; nothing of the host's environment gets in."""

    image: str = Field(description="a reference by digest, an image id, or a local name")
    name: str
    labels: dict[str, str]
    profile: Profile
    environment: dict[str, str] = Field(default_factory=dict)
    network: str = Field(default="none", description="a network's name, or `none`")
    published: tuple[Published, ...] = ()
    volumes: tuple[Volume, ...] = ()
    command: tuple[str, ...] = Field(default=(), description="in place of the image's entrypoint and command")
    largest_file: int | None = Field(default=None, description="bytes that a file may grow to; null: any number")
    restart: bool = Field(default=False, description="started again whenever it ends, unless it was stopped")


class Container(Frozen):
    """A container as its engine reports it."""

    id: str
    name: str
    image: Digest = Field(description="the manifest's digest")
    labels: dict[str, str]
    status: str = Field(description="created, running, restarting, paused, exited, dead or removing")
    pid: int = Field(description="of its first process on the engine's host; 0 when it does not run")
    exit_code: int
    out_of_memory: bool
    error: str
    restarts: int
    restart: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    profile: Profile
    environment: dict[str, str]
    command: tuple[str, ...]
    networks: dict[str, str] = Field(description="network → the container's address there, or empty")
    published: tuple[Published, ...]

    @property
    def running(self) -> bool:
        return self.status == "running"

    @property
    def over(self) -> bool:
        """Whether it has ended, or could not even begin, and the engine will not start it again."""
        return self.status in ("exited", "dead") or bool(self.status == "created" and self.error)


class HostAccess(Frozen):
    """What of its host and of other containers a container can reach, beyond what engines give to all, as reported."""

    container: str = Field(description="its id")
    name: str
    image: Digest
    status: str
    privileged: bool = False
    capabilities: tuple[str, ...] = Field(default=(), description="those that engines do not give to all")
    paths: tuple[str, ...] = Field(default=(), description="of the host, mounted directly or by a volume")
    devices: tuple[str, ...] = ()
    host_namespaces: tuple[str, ...] = ()
    shared: dict[str, str] = Field(default_factory=dict, description="namespace → the container that it is of")
    volumes: tuple[str, ...] = Field(default=(), description="names")
    unconfined: tuple[str, ...] = Field(default=(), description="security options that take a protection away")


ActionKind = Literal["exec_start", "attach", "archive-path", "extract-to-dir", "export", "commit"]
"""Docker Engine API, events of containers: what lets somebody into one, or takes its content away."""


class Action(Frozen):
    """Something that somebody did with a container, as its engine's events say."""

    at: datetime
    container: str
    kind: ActionKind
    command: str = Field(default="", description="of an exec")


class History(Frozen):
    """What an engine knows of what was done with its containers."""

    actions: tuple[Action, ...] = ()
    last: int = Field(default=0, description="the newest event, by its time in nanoseconds; the next look names it")
    complete: bool = Field(default=True, description="whether all is known since the event that was named")


class LocalImage(Frozen):
    """An image in the engine's store."""

    digest: Digest = Field(description="the manifest's digest, which is what the registry calls it")
    environment: dict[str, str]
    command: tuple[str, ...] = Field(description="entrypoint and command")
    volumes: tuple[str, ...]
    labels: dict[str, str]


class Listener(Frozen):
    """A TCP socket that waits for connections."""

    address: str
    port: int


class Process(Frozen):
    """A process of a container, with its numbers on the engine's host."""

    pid: int
    parent: int
    uid: int
    command: str


class Change(Frozen):
    """A path that differs from the image."""

    kind: Literal["changed", "added", "deleted"]
    path: str


class Machine(Frozen):
    """The machine that an engine runs on."""

    cpus: int = Field(ge=1, description="processors")
    memory: int = Field(ge=1, description="bytes")
    storage: str = Field(description="the directory in which the engine keeps its images, on that machine")


@dataclass(frozen=True)
class Login:
    """What a registry wants to be shown."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Logs:
    """What a container wrote, each stream's last part."""

    stdout: str
    stderr: str

    def tail(self, lines: int = 10) -> str:
        """The last lines for an error message; standard error speaks last."""
        return "\n".join([*self.stdout.splitlines()[-lines:], *self.stderr.splitlines()[-lines:]])


class Engine(Protocol):
    """A container engine with the containerd image store.

    It may serve several supply chains, each with an owner's name of its own: what is made carries
    that name, and whoever looks for things finds none that carry another. By its name or id anything is had.

    Every call ends within the engine's timeout. Raises `EngineUnavailable` when it does not answer,
    `ContainerGone` for a container it does not have, `EngineFailed` for what it refuses.
    """

    def versions(self) -> Mapping[str, str]:
        """Component → version, the engine's own under `engine`."""

    def image(self, reference: str) -> LocalImage:
        """The image in the engine's store; `ImageNotFound`."""

    def pull(self, repository: str, digest: str, login: Login | None = None) -> LocalImage:
        """Fetch `digest` from `repository` (with its registry's host)."""

    def load(self, archive: Path) -> LocalImage:
        """Take in the one image of an OCI or Docker archive (a tar file)."""

    def save(self, image: str, target: Path, most: int) -> bool:
        """Write an image as an OCI archive (a tar file); False where it has more bytes than that."""

    def names(self, repository: str) -> Mapping[Digest, tuple[str, ...]]:
        """The images that have a name in the repository (with its registry's host), and all their names."""

    def forget(self, name: str) -> None:
        """Remove an image's only name, and with it the image; `EngineFailed` while a container is of it."""

    def create(self, spec: ContainerSpec) -> str:
        """A new container's id; it does not run yet."""

    def start(self, container: str) -> None:
        """Start it; `PortBusy` when a published port is taken, `ProgramNotStarted`."""

    def inspect(self, container: str) -> Container:
        """The container by id or name."""

    def find(self, labels: Mapping[str, str]) -> tuple[Container, ...]:
        """All containers, running or not, that carry these labels."""

    def containers(self) -> tuple[Container, ...]:
        """All containers there are, also another owner's."""

    def host_accesses(self) -> tuple[HostAccess, ...]:
        """What each container there is can reach of the host and of others, also another owner's."""

    def history(self, after: int) -> History:
        """What was done with any container after an event, named as an earlier answer's `last`; 0 for all it knows.

        An engine keeps few events (Docker the last 256 of all kinds) and none over its restart: where it does not
        know the event any more, the answer is not complete.
        """

    def on_network(self, network: str) -> tuple[Container, ...]:
        """All containers attached to the network, whoever started them; none on another owner's network."""

    def signal(self, container: str, signal: str) -> None:
        """Send a signal to its first process; one that has ended is left alone."""

    def stop(self, container: str, timeout: int) -> None:
        """SIGTERM, and after `timeout` seconds SIGKILL."""

    def remove(self, container: str) -> None:
        """End and remove it with its anonymous volumes; one that is gone is fine."""

    def restart_always(self, container: str) -> None:
        """From now on it is started again whenever it ends, unless it was stopped."""

    def logs(self, container: str) -> Logs:
        """The last `LINES` of each stream, as far as they fit into `LOG` bytes."""

    def changes(self, container: str) -> tuple[Change, ...]:
        """The paths that differ from the image; mounts are not looked into. `CheckNotMade` where they are too many."""

    def processes(self, container: str) -> tuple[Process, ...]:
        """The processes that run in it; `CheckNotMade` when the host cannot list them."""

    def listeners(self, container: str) -> tuple[Listener, ...]:
        """Its listening TCP sockets, the engine's name server left out; `CheckNotMade`."""

    def create_network(self, name: str, labels: Mapping[str, str], *, internal: bool) -> None:
        """A bridge; one that exists is fine, unless it is another owner's and in use (`SettingInvalid`).

        From an internal one nothing leads outside.
        """

    def networks(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """The names of the networks that carry these labels."""

    def attach(self, network: str, container: str) -> None:
        """Attach a container to one more network."""

    def detach(self, network: str, container: str) -> None:
        """Take a container off a network; what it publishes through that network is free again."""

    def remove_network(self, name: str) -> None:
        """One that is gone is fine."""

    def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """A named volume; one that exists is fine."""

    def volumes(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """The names of the volumes that carry these labels."""

    def remove_volume(self, name: str) -> None:
        """One that is gone is fine."""

    def write(self, container: str, path: str, content: bytes) -> None:
        """Put a file, readable by all and root's, into a volume of the container."""

    def read(self, container: str, path: str, most: int = ...) -> bytes:
        """A file of the container, whatever its state; `EngineFailed` when there is none of at most `most` bytes."""


def labels(
    role: Role,
    application: str,
    digest: str,
    run: str,
    *,
    environment: str = "",
    configuration: str = "",
    previous: str = "",
) -> dict[str, str]:
    """The labels by which the supply chain knows its containers; all of them, so that none is an image's own."""
    return {
        MANAGED: "true",
        ROLE: role,
        APPLICATION: application,
        ENVIRONMENT: environment,
        DIGEST: digest,
        CONFIGURATION: configuration,
        PREVIOUS: previous,
        RUN: run,
    }


def profile(runtime: Runtime) -> Profile:
    """The hardened profile: everything is taken away but what the declaration asks for."""
    return Profile(
        user=f"{runtime.uid}:{runtime.uid}",
        read_only=runtime.read_only_root,
        writable=tuple(sorted(runtime.writable)),
        capabilities=tuple(sorted(runtime.capabilities)),
        memory=runtime.memory,
        pids=runtime.pids,
        cpu=runtime.cpu,
        init=runtime.init,
    )


def configuration_digest(environment: Mapping[str, str], wanted: Profile) -> Digest:
    """One digest for an application's configuration and profile, whatever their order."""
    value = {"environment": dict(environment), "profile": wanted.model_dump(mode="json")}
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return digest_of(text.encode())


def slug(application: str) -> str:
    """The application's name as a container's name may hold it, still unlike any other's."""
    if "/" not in application and len(application) <= 60:
        return application
    return f"{application.replace('/', '-')[:50]}-{hashlib.sha256(application.encode()).hexdigest()[:6]}"


def container_name(environment: str, application: str, digest: str, number: int) -> str:
    """`staging-hello-<first 12 of the digest>-<number>`."""
    return f"{environment}-{slug(application)}-{short(digest)}-{number}"


def ended(container: Container) -> str:
    """How a container that does not run came to that, for people."""
    memory = f"{container.profile.memory // 1024**2} MiB of memory"
    if container.out_of_memory:
        return f"it needed more than its {memory} and was ended"
    if container.error:
        return f"it could not be started: {container.error}"
    if container.exit_code == 137:  # the engine does not always notice why
        return f"it was killed (status 137), as happens to what needs more than its {memory}"
    return f"it ended with status {container.exit_code}"


def outside(changes: Sequence[Change], writable: Sequence[str]) -> tuple[Change, ...]:
    """The changes that lie neither at nor below a writable path.

    The directories above one are left out too: the engine makes them where the image has none, and
    whatever else is put into them is a change of its own.
    """
    return tuple(
        change
        for change in changes
        if not any(
            change.path == path
            or change.path.startswith(path + "/")
            or (path.startswith(change.path + "/") and change.kind != "deleted")
            for path in writable
        )
    )
