"""An engine in memory: the stand-in behind the port `Engine`, held to the same contract as the real one.

It runs nothing, and starts nothing again. What a container's program does, a test says with a `Program` of its image.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from supply_chain.errors import (
    CheckIncomplete,
    ContainerGone,
    EngineFailed,
    ImageGone,
    ImageNotFound,
    PortBusy,
    ProgramNotStarted,
    SettingInvalid,
)
from supply_chain.model.container import (
    LINES,
    OWNER,
    Action,
    Change,
    Container,
    ContainerSpec,
    History,
    HostAccess,
    Listener,
    LocalImage,
    Login,
    Logs,
    Process,
    make_profile,
)
from supply_chain.model.declaration import Runtime
from supply_chain.model.image import Digest

SIGNALS = {"SIGTERM": 143, "SIGKILL": 137}
"""The signals that end a program, and the status it then has. Others are only heard."""


@dataclass(frozen=True)
class Program:
    """What the containers of an image do: `status` is how they end at once; without one they run until stopped."""

    status: int | None = None
    error: str = ""
    logs: Logs = field(default_factory=lambda: Logs("", ""))
    changes: tuple[Change, ...] = ()
    processes: tuple[Process, ...] = ()
    listeners: tuple[Listener, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    """What it leaves in its container."""
    brought: Mapping[str, bytes] = field(default_factory=dict)
    """What is in its image."""


@dataclass
class MemoryEngine:
    """An `Engine`. `owned` is the same engine as another supply chain has it; they share all but the owner's name."""

    owner: str = ""
    registry: dict[str, LocalImage] = field(default_factory=dict)
    """What can be pulled, by `<repository>@<digest>`."""
    programs: dict[Digest, Program] = field(default_factory=dict)
    heard: list[tuple[str, str]] = field(default_factory=list)
    """The signals that running containers got, with the container's id."""
    images: dict[Digest, LocalImage] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)
    archives: dict[Digest, bytes] = field(default_factory=dict)
    held: dict[str, Container] = field(default_factory=dict)
    network_labels: dict[str, dict[str, str]] = field(default_factory=dict)
    volume_labels: dict[str, dict[str, str]] = field(default_factory=dict)
    mounted: dict[str, dict[str, str]] = field(default_factory=dict)
    """Container → path → volume."""
    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """By volume and path in it."""
    reached: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By a container's name, what it can reach of the host."""
    done: list[tuple[int, Action]] = field(default_factory=list)
    """Events that the engine keeps, numbered."""

    def owned(self, owner: str) -> MemoryEngine:
        return replace(self, owner=owner)

    def add(self, *names: str, archive: bytes | None = None, program: Program | None = None, **image: object) -> Digest:
        """Put an image into the engine's store, as loading or pulling it would; its digest."""
        content = archive if archive is not None else uuid4().bytes
        digest = str(image.get("digest") or f"sha256:{hashlib.sha256(content).hexdigest()}")
        defaults = {"digest": digest, "environment": {}, "command": ("/app",), "volumes": (), "labels": {}}
        self.images[digest] = LocalImage.model_validate({**defaults, **image})
        self.archives[digest] = content
        self.tags |= dict.fromkeys(names, digest)
        if program:
            self.programs[digest] = program
        return digest

    def container(self, name: str, image: Digest = "", **spec: object) -> Container:
        """A new container of a spec that says no more than it has to; of an image of its own where none is named."""
        defaults = {"image": image or self.add(), "name": name, "labels": {}, "profile": make_profile(Runtime())}
        return self.held[self.create(ContainerSpec.model_validate({**defaults, **spec}))]

    def versions(self) -> Mapping[str, str]:
        return {"engine": "1"}

    def image(self, reference: str) -> LocalImage:
        digest = self.tags.get(reference, reference)
        if digest not in self.images:
            raise ImageNotFound(f"The engine has no {reference}.\nPull or build it first.")
        return self.images[digest]

    def pull(self, repository: str, digest: str, login: Login | None = None) -> LocalImage:
        name = f"{repository}@{digest}"
        if name not in self.registry:
            raise ImageNotFound(f"The engine could not pull {name}.\nThe registry has no such image there.")
        image = self.registry[name]
        self.images[image.digest] = image
        self.tags[name] = image.digest
        return image

    def load(self, archive: Path) -> LocalImage:
        content = archive.read_bytes()
        for digest, stored in self.archives.items():
            if stored == content:
                return self.images[digest]
        raise EngineFailed(f"{archive.name} holds 0 images.\nAn archive of one image is wanted.")

    def save(self, image: str, target: Path, most: int) -> bool:
        content = self.archives[self.image(image).digest]
        target.write_bytes(content)
        return len(content) <= most

    def names(self, repository: str) -> Mapping[Digest, tuple[str, ...]]:
        named = {self.tags[name] for name in self.tags if _repository(name) == repository}
        return {digest: self._names(digest) for digest in self.images if digest in named}

    def forget(self, name: str) -> None:
        digest = self.tags.get(name)
        if digest is None:
            return
        if self._names(digest) == (name,):
            for container in self.held.values():
                if container.image == digest:
                    raise EngineFailed(f"The container {container.id[:12]} is of {name}.\nRemove it first.")
            del self.images[digest]
        del self.tags[name]

    def create(self, spec: ContainerSpec) -> str:
        if any(container.name == spec.name for container in self.held.values()):
            raise EngineFailed(f"There is a container {spec.name}.\nTake another name.")
        try:
            image = self.image(spec.image)
        except ImageNotFound as error:
            raise ImageGone(str(error)) from error
        mounts = tuple(sorted({*image.volumes, *(volume.path for volume in spec.volumes)}))
        made = Container(
            id=uuid4().hex * 2,
            name=spec.name,
            image=image.digest,
            labels={**image.labels, **self._labels(spec.labels)},
            status="created",
            pid=0,
            exit_code=0,
            out_of_memory=False,
            error="",
            restarts=0,
            restart=spec.restart,
            created_at=datetime.now(UTC),
            started_at=None,
            finished_at=None,
            profile=spec.profile.model_copy(update={"mounts": mounts}),
            environment={**image.environment, **spec.environment},
            command=spec.command or image.command,
            networks={spec.network: ""},
            published=spec.published,
        )
        self.held[made.id] = made
        self.mounted[made.id] = {volume.path: volume.name for volume in spec.volumes}
        return made.id

    def start(self, container: str) -> None:
        now = self.inspect(container)
        program, wanted = self._program(now), {(p.address, p.port) for p in now.published}
        for other in self.held.values():
            if other.running and other.id != now.id and wanted & {(p.address, p.port) for p in other.published}:
                raise PortBusy(f"{other.name} listens there.\nEnd what listens there, or choose another port.")
        if program.error:
            self._now(now, error=program.error)
            raise ProgramNotStarted(f"{now.name}: {program.error}\nCorrect the image's entrypoint.")
        self._now(now, status="running", pid=1, started_at=datetime.now(UTC))
        if program.status is not None:
            self._ended(now.id, program.status)

    def inspect(self, container: str) -> Container:
        for each in self.held.values():
            if container in (each.id, each.name):
                return each
        raise ContainerGone(f"The engine has no container {container}.\nSomebody removed it; start the step again.")

    def find(self, labels: Mapping[str, str]) -> tuple[Container, ...]:
        return tuple(c for c in self.held.values() if self._carries(c.labels, labels))

    def containers(self) -> tuple[Container, ...]:
        return tuple(self.held.values())

    def list_host_accesses(self) -> tuple[HostAccess, ...]:
        return tuple(self._access(each) for each in self.held.values())

    def _access(self, container: Container) -> HostAccess:
        facts = {"name": container.name, "image": container.image, "status": container.status}
        volumes = tuple(sorted(self.mounted[container.id].values()))
        return HostAccess(container=container.id, **facts, volumes=volumes, **self.reached.get(container.name, {}))

    def history(self, after: int) -> History:
        recorded = [number for number, _ in self.done]
        return History(
            actions=tuple(action for number, action in self.done if number > after),
            last=max((after, *recorded)),
            complete=not after or after in recorded,
        )

    def list_network_containers(self, network: str) -> tuple[Container, ...]:
        if self._foreign(self.network_labels.get(network, {})):
            return ()
        return tuple(c for c in self.held.values() if network in c.networks)

    def signal(self, container: str, signal: str) -> None:
        now = self.inspect(container)
        if now.running:
            self.heard.append((now.id, signal))
            if signal in SIGNALS:
                self._ended(now.id, SIGNALS[signal])

    def stop(self, container: str, timeout: int) -> None:
        self.signal(container, "SIGTERM")

    def remove(self, container: str) -> None:
        with contextlib.suppress(ContainerGone):
            del self.held[self.inspect(container).id]

    def restart_always(self, container: str) -> None:
        self._now(self.inspect(container), restart=True)

    def logs(self, container: str) -> Logs:
        now = self.inspect(container)
        logs = self._program(now).logs if now.started_at else Logs("", "")
        out, err = (("".join(text.splitlines(keepends=True)[-LINES:])) for text in (logs.stdout, logs.stderr))
        return Logs(out, err, cut=max(out.count("\n"), err.count("\n")) >= LINES)

    def changes(self, container: str) -> tuple[Change, ...]:
        now = self.inspect(container)
        return self._program(now).changes if now.started_at else ()

    def processes(self, container: str) -> tuple[Process, ...]:
        return self._program(self._running(container)).processes

    def listeners(self, container: str) -> tuple[Listener, ...]:
        return self._program(self._running(container)).listeners

    def create_network(self, name: str, labels: Mapping[str, str], *, internal: bool) -> None:
        found = self.network_labels.setdefault(name, self._labels(labels))
        if self._foreign(found):
            if any(name in each.networks for each in self.held.values()):
                raise SettingInvalid(f"{name} belongs to another supply chain ({found[OWNER]}).\nUse another name.")
            self.network_labels[name] = self._labels(labels)

    def networks(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(name for name, has in self.network_labels.items() if self._carries(has, labels))

    def attach(self, network: str, container: str) -> None:
        now = self.inspect(container)
        self._now(now, networks={**now.networks, network: ""})

    def detach(self, network: str, container: str) -> None:
        now = self.inspect(container)
        self._now(now, networks={name: at for name, at in now.networks.items() if name != network})

    def remove_network(self, name: str) -> None:
        self.network_labels.pop(name, None)

    def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        self.volume_labels.setdefault(name, self._labels(labels))

    def volumes(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(name for name, has in self.volume_labels.items() if self._carries(has, labels))

    def remove_volume(self, name: str) -> None:
        self.volume_labels.pop(name, None)
        for volume, path in tuple(self.files):
            if volume == name:
                del self.files[volume, path]

    def write(self, container: str, path: str, content: bytes) -> None:
        self.files[self._file(container, path)] = content

    def read(self, container: str, path: str, most: int = 16 * 1024 * 1024) -> bytes:
        now = self.inspect(container)
        program = self._program(now)
        written = {**program.brought, **(program.files if now.started_at else {})}
        content = written[path] if path in written else self.files.get(self._file(container, path))
        if content is None or len(content) > most:
            raise EngineFailed(f"{container} has no {path}.\nThe engine's own log says more.")
        return content

    def _names(self, digest: Digest) -> tuple[str, ...]:
        return tuple(sorted(name for name, named in self.tags.items() if named == digest))

    def _now(self, container: Container, **changes: object) -> None:
        self.held[container.id] = container.model_copy(update=changes)

    def _ended(self, container: str, status: int) -> None:
        self._now(self.held[container], status="exited", pid=0, exit_code=status, finished_at=datetime.now(UTC))

    def _program(self, container: Container) -> Program:
        return self.programs.get(container.image, Program())

    def _running(self, container: str) -> Container:
        now = self.inspect(container)
        if not now.running:
            raise CheckIncomplete(f"{now.name} is {now.status}.\nThe container has to run.")
        return now

    def _file(self, container: str, path: str) -> tuple[str, str]:
        """The volume and the path in it."""
        for at, volume in self.mounted[self.inspect(container).id].items():
            if PurePosixPath(path).is_relative_to(at):
                return volume, str(PurePosixPath(path).relative_to(at))
        raise EngineFailed(f"{container} has no volume at {path}.\nThe engine's own log says more.")

    def _labels(self, labels: Mapping[str, str]) -> dict[str, str]:
        return {**labels, OWNER: self.owner} if self.owner else dict(labels)

    def _foreign(self, has: Mapping[str, str]) -> bool:
        return bool(self.owner) and (has.get(OWNER) or self.owner) != self.owner

    def _carries(self, has: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
        return wanted.items() <= has.items() and not self._foreign(has)


def _repository(name: str) -> str:
    """Of `<host>:<port>/<repository>:<tag>`, or of one by digest."""
    name = name.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name
