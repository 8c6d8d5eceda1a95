"""Containers: their specification, their state as an engine reports it, and the protocol of an engine.

Pure functions make a `ContainerSpec` from the application's declaration. An `Engine` creates the container and reports
it as a `Container`. Both have a `Profile`, so that the requested and the actual settings can be compared field by
field.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field

from supply_chain.model.declaration import Runtime
from supply_chain.model.image import Digest, Model, digest_of, shorten_digest

MANAGED = "cscm.managed"
APPLICATION = "cscm.application"
ENVIRONMENT = "cscm.environment"
DIGEST = "cscm.digest"
CONFIGURATION = "cscm.configuration"
QUARANTINE = "cscm.quarantine"
PREVIOUS = "cscm.previous"
"""The digest that a rollback in the same environment would deploy."""
RUN = "cscm.run"
ROLE = "cscm.role"
OWNER = "cscm.owner"
BROUGHT = "brought"
"""The role of an object of a cluster that was brought along; those that the chain makes are of the application's."""

Role = Literal["application", "reverse-proxy", "probe", "check", "tests"]
Transport = Literal["tcp", "udp", "udplite", "sctp"]
Wait = Callable[[float], None]
"""Function that sleeps the given number of seconds, or raises `Cancelled` as soon as the run is cancelled."""

POLL = 0.02
"""Seconds between two checks of a container that is starting or stopping."""
LINES = 200
"""Number of lines that are read from the end of each of a container's streams."""
LOG = 256 * 1024
"""Bytes that are read from each of a container's streams, however long its lines are."""
_HASHED = re.compile(r".*-[0-9a-f]{6}", re.DOTALL)
"""Form of a name that ends with the beginning of a hash."""


class Profile(Model):
    """Permissions and limits of a container."""

    user: str = Field(description="uid:gid")
    read_only: bool = True
    writable: tuple[str, ...] = Field(default=(), description="paths in memory")
    capabilities: tuple[str, ...] = Field(default=(), description="added, without CAP_")
    dropped: tuple[str, ...] = ("ALL",)
    no_new_privileges: bool = True
    memory: int = Field(description="bytes, swap included")
    pids: int
    cpu: float = Field(default=0.0, description="processors; 0 for as many as there are")
    init: bool = Field(default=False, description="whether the engine's init passes signals on")
    privileged: bool = False
    host_namespaces: tuple[str, ...] = ()
    mounts: tuple[str, ...] = Field(default=(), description="paths of volumes and binds")
    devices: tuple[str, ...] = ()
    security_options: tuple[str, ...] = Field(default=(), description="other than no-new-privileges")


class Published(Model):
    """A port of a container that is published at an address of the host."""

    address: str
    port: int
    container_port: int


class Volume(Model):
    """A named volume and its mount path in the container."""

    name: str
    path: str


class ContainerSpec(Model):
    """The complete specification of one container; it takes nothing from the environment of the host."""

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


class Container(Model):
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
        """Return whether the container is running."""
        return self.status == "running"

    @property
    def paused(self) -> bool:
        """Return whether somebody paused the container, which may go on at any time."""
        return self.status == "paused"

    @property
    def over(self) -> bool:
        """Return whether the container has ended or failed to start, and the engine will not start it again."""
        return self.status in ("exited", "dead") or bool(self.status == "created" and self.error)


class HostAccess(Model):
    """What a container can reach of its host and of other containers, beyond what engines give to every container."""

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
"""Container events of the Docker Engine API that give somebody access to a container or copy its content out of it."""


class Action(Model):
    """An action of somebody on a container, as the engine's events report it."""

    at: datetime
    container: str
    kind: ActionKind
    command: str = Field(default="", description="of an exec")


class History(Model):
    """What an engine knows of the actions on its containers."""

    actions: tuple[Action, ...] = ()
    last: int = Field(default=0, description="the newest event, by its time in nanoseconds; the next look names it")
    complete: bool = Field(default=True, description="whether all is known since the event that was named")


class LocalImage(Model):
    """An image in the engine's store."""

    digest: Digest = Field(description="the manifest's digest, which is what the registry calls it")
    environment: dict[str, str]
    command: tuple[str, ...] = Field(description="entrypoint and command")
    volumes: tuple[str, ...]
    labels: dict[str, str]


class Listener(Model):
    """A TCP or SCTP socket that listens for connections, or a UDP or UDP-Lite socket that receives from everybody."""

    address: str
    port: int
    protocol: Transport = "tcp"


class Process(Model):
    """A process of a container, with its process and user ids on the engine's host."""

    pid: int
    parent: int
    uid: int
    command: str


class Change(Model):
    """A path whose content differs from the image."""

    kind: Literal["changed", "added", "deleted"]
    path: str


class Machine(Model):
    """The machine that an engine runs on."""

    cpus: int = Field(ge=1, description="processors")
    memory: int = Field(ge=1, description="bytes")
    storage: str = Field(description="the directory in which the engine keeps its images, on that machine")


@dataclass(frozen=True)
class Login:
    """Credentials for a registry."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Logs:
    """The last part of each stream that a container wrote. `cut` is whether there may be an earlier part."""

    stdout: str
    stderr: str
    cut: bool = False

    def tail(self, lines: int = 10) -> str:
        """Return the last `lines` lines of each stream for an error message, standard error last."""
        return "\n".join([*self.stdout.splitlines()[-lines:], *self.stderr.splitlines()[-lines:]])


class ImagePuller(Protocol):
    """Pulls images."""

    def pull(self, repository: str, digest: str, login: Login | None = None) -> LocalImage:
        """Pull `digest` from `repository`, whose name includes the registry's host."""


class ImageLoader(Protocol):
    """Loads images from archives."""

    def load(self, archive: Path) -> LocalImage:
        """Load the one image of an OCI or Docker archive (a tar file)."""


class ImageSaver(Protocol):
    """Saves images as archives."""

    def save(self, image: str, target: Path, most: int) -> bool:
        """Write an image as an OCI archive (a tar file); return False if it has more than `most` bytes."""


class Engine(ImagePuller, ImageLoader, ImageSaver, Protocol):
    """A container engine with the containerd image store.

    Several supply chains can use one engine, each under its own owner name. Objects that are created carry the owner's
    name, and searches leave out objects of other owners unless a method says otherwise. A call that gives a name or an
    id reaches any object.

    Every call ends within the engine's timeout. A call raises `EngineUnavailable` when the engine does not answer,
    `ContainerGone` for a container that does not exist, and `EngineFailed` for what the engine refuses.
    """

    def versions(self) -> Mapping[str, str]:
        """Return the version of each component; the engine's own is under `engine`."""

    def image(self, reference: str) -> LocalImage:
        """Return an image from the engine's store; raise `ImageNotFound` if it is not there."""

    def names(self, repository: str) -> Mapping[Digest, tuple[str, ...]]:
        """Return the images that have a name in `repository` (with the registry's host), each with all its names."""

    def forget(self, name: str) -> None:
        """Remove an image's only name and thereby the image; raise `EngineFailed` while a container uses it."""

    def create(self, spec: ContainerSpec) -> str:
        """Create a container and return its id; it is not started."""

    def start(self, container: str) -> None:
        """Start a container; raise `PortBusy` if a published port is taken, or `ProgramNotStarted`."""

    def inspect(self, container: str) -> Container:
        """Return the container with this name or id."""

    def find(self, labels: Mapping[str, str]) -> tuple[Container, ...]:
        """Return all containers with these labels, running or not."""

    def containers(self) -> tuple[Container, ...]:
        """Return all containers on the engine, including those of other owners."""

    def list_host_accesses(self) -> tuple[HostAccess, ...]:
        """Return what each container can reach of the host and of other containers, including those of other owners."""

    def history(self, after: int) -> History:
        """Return the actions on all containers after an event.

        `after` is the `last` of an earlier answer, or 0 for everything that the engine knows. An engine keeps few
        events (Docker: the last 256 of all kinds) and loses them when it restarts. If it no longer has the event
        `after`, the answer is not complete.
        """

    def list_network_containers(self, network: str) -> tuple[Container, ...]:
        """Return the containers of all owners on the network; none if the network belongs to another owner."""

    def signal(self, container: str, signal: str) -> None:
        """Send a signal to the container's first process; do nothing if the container has ended."""

    def stop(self, container: str, timeout: int) -> None:
        """Send SIGTERM, and SIGKILL after `timeout` seconds."""

    def remove(self, container: str) -> None:
        """Kill and remove a container and its anonymous volumes; do nothing if it does not exist."""

    def restart_always(self, container: str) -> None:
        """Make the engine restart the container whenever it ends, unless it was stopped."""

    def logs(self, container: str) -> Logs:
        """Return the last `LINES` lines of each stream, at most `LOG` bytes."""

    def changes(self, container: str) -> tuple[Change, ...]:
        """Return the paths that differ from the image, without mounts; raise `CheckIncomplete` for too many."""

    def processes(self, container: str) -> tuple[Process, ...]:
        """Return the processes of the container; raise `CheckIncomplete` if the host cannot list them."""

    def listeners(self, container: str) -> tuple[Listener, ...]:
        """Return the listening TCP sockets and the UDP sockets that receive from everybody.

        The engine's DNS server is left out. Raise `CheckIncomplete` if they cannot be read.
        """

    def create_network(self, name: str, labels: Mapping[str, str], *, internal: bool) -> None:
        """Create a bridge network; do nothing if this supply chain has it already.

        An `internal` network has no connection to the outside. Raise `SettingInvalid` if another owner's network has
        this name and is in use; an unused one is replaced.
        """

    def networks(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return the names of the networks with these labels."""

    def attach(self, network: str, container: str) -> None:
        """Attach a container to another network."""

    def detach(self, network: str, container: str) -> None:
        """Detach a container from a network; the ports that it publishes through this network become free."""

    def remove_network(self, name: str) -> None:
        """Remove a network; do nothing if it does not exist."""

    def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Create a named volume; do nothing if it exists."""

    def volumes(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return the names of the volumes with these labels."""

    def remove_volume(self, name: str) -> None:
        """Remove a volume; do nothing if it does not exist."""

    def write(self, container: str, path: str, content: bytes) -> None:
        """Write a file into a volume of the container, owned by root and readable by all."""

    def read(self, container: str, path: str, most: int = ...) -> bytes:
        """Return the content of a file of the container, which may be in any state.

        Raise `EngineFailed` unless the path is a file of at most `most` bytes.
        """


def make_labels(
    role: Role,
    application: str,
    digest: str,
    run: str,
    *,
    environment: str = "",
    configuration: str = "",
    previous: str = "",
) -> dict[str, str]:
    """Return the labels by which the supply chain recognizes its containers.

    Every label is set, so that a label of the image never takes effect. The engine sets its owner, if it has one.
    """
    return {
        MANAGED: "true",
        OWNER: "",
        ROLE: role,
        APPLICATION: application,
        ENVIRONMENT: environment,
        DIGEST: digest,
        CONFIGURATION: configuration,
        PREVIOUS: previous,
        RUN: run,
    }


def make_profile(runtime: Runtime) -> Profile:
    """Return the hardened profile, which allows only what the declaration asks for."""
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


def compute_configuration_digest(environment: Mapping[str, str], container_profile: Profile) -> Digest:
    """Return one digest of an application's environment variables and profile, independent of their order."""
    value = {"environment": dict(environment), "profile": container_profile.model_dump(mode="json")}
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return digest_of(text.encode())


def make_slug(application: str) -> str:
    """Return the application's name in a form that a container name can have and that is unique per application.

    A name that already looks like such a form gets a hash too: it may be that of another application.
    """
    if "/" not in application and len(application) <= 60 and not _HASHED.fullmatch(application):
        return application
    return f"{application.replace('/', '-')[:50]}-{hashlib.sha256(application.encode()).hexdigest()[:6]}"


def make_container_name(environment: str, application: str, digest: str, number: int) -> str:
    """Return `staging-hello-<first 12 digits of the digest>-<number>`."""
    return f"{environment}-{make_slug(application)}-{shorten_digest(digest)}-{number}"


def describe_end(container: Container) -> str:
    """Describe for people why a container does not run."""
    if container.paused:
        return "it is paused"
    memory = f"{container.profile.memory // 1024**2} MiB of memory"
    if container.out_of_memory:
        return f"it needed more than its {memory} and was ended"
    if container.error:
        return f"it could not be started: {container.error}"
    if container.exit_code == 137:  # the engine does not always report out of memory
        return f"it was killed (status 137), as happens to what needs more than its {memory}"
    return f"it ended with status {container.exit_code}"


def find_outside(changes: Sequence[Change], writable: Sequence[str]) -> tuple[Change, ...]:
    """Return the changes that are neither at nor below a writable path.

    The parent directories of a writable path are left out too: the engine creates them if the image has none, and any
    other file in them is a change of its own.
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
