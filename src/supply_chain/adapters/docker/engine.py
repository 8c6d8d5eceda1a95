"""Adapter for the Docker engine through its SDK, whose terms and errors stay in this package."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tarfile
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import quote

import docker
from docker.errors import APIError, NotFound, create_api_error_from_http_exception
from docker.errors import ImageNotFound as NoSuchImage
from requests.exceptions import HTTPError

from supply_chain.adapters.docker.container_options import make_container_options, make_restart_policy
from supply_chain.adapters.docker.engine_errors import translate_errors
from supply_chain.adapters.docker.engine_reading import (
    PS,
    drop_init,
    parse_access,
    parse_changes,
    parse_container,
    parse_history,
    parse_image,
    parse_image_names,
    parse_processes,
    read_last_lines,
    read_listeners,
)
from supply_chain.adapters.files.free_space import require_space
from supply_chain.errors import CheckIncomplete, ContainerGone, EngineFailed, ImageNotFound, SettingInvalid
from supply_chain.model.container import (
    LINES,
    OWNER,
    Change,
    Container,
    ContainerSpec,
    History,
    HostAccess,
    Listener,
    LocalImage,
    Login,
    Logs,
    Machine,
    Process,
)
from supply_chain.model.image import Digest

log = logging.getLogger("supply_chain.engine")
T = TypeVar("T")

TIMEOUT = 60
"""Seconds after which a call to the engine fails; a pull or a load may send nothing for that long."""

LARGEST_FILE = 16 * 1024 * 1024
"""Maximum bytes of a file that is read from a container."""
MOST_CHANGES = 16 * 1024 * 1024
"""Maximum bytes of the engine's list of changed paths; a container may write files as fast as it can."""
MOST_PROCESSES = 16 * 1024 * 1024
"""Maximum bytes of the engine's list of processes, each with a line of `LONGEST_COMMAND`."""
CHUNK = 64 * 1024
SLACK = 64 * 1024
"""Bytes that the archive of a file may have in addition to the file."""


class DockerEngine:
    """Implementation of `Engine` on the Docker SDK.

    `client` is the SDK's client, from a block or from `connect`. Without an owner, resources of all owners are found.
    """

    def __init__(self, client: docker.DockerClient, owner: str = "") -> None:
        self._client = client
        self._owner = owner
        self._api = client.api
        if self._api.timeout is None:
            self._api.timeout = TIMEOUT

    @classmethod
    def connect(cls, url: str = "unix:///var/run/docker.sock", timeout: int = TIMEOUT, owner: str = "") -> DockerEngine:
        """Return the engine at `url`; raise `EngineUnavailable` if nothing answers there."""
        with translate_errors(f"connect to {url}"):
            return cls(docker.DockerClient(base_url=url, timeout=timeout), owner)

    @property
    def local(self) -> bool:
        """Whether the engine is reached through a socket of this machine, so that its processes run here."""
        return str(self._api.base_url).startswith("http+docker://")

    def versions(self) -> Mapping[str, str]:
        """Return the versions by component, the engine's under `engine`."""
        with translate_errors("ask for its version"):
            answer = self._client.version()
        parts = {part["Name"].lower(): part["Version"] for part in answer.get("Components", [])}
        parts.pop("engine", None)
        return {"engine": answer["Version"], **parts}

    def machine(self) -> Machine:
        """Return what the engine reports about its machine."""
        with translate_errors("ask for its machine"):
            answer = self._client.info()
        return Machine(cpus=answer["NCPU"], memory=answer["MemTotal"], storage=answer["DockerRootDir"])

    def image(self, reference: str) -> LocalImage:
        """Return an image of the engine's store; raise `ImageNotFound` if there is none."""
        with translate_errors(f"look for the image {reference}"):
            return parse_image(self._client.images.get(reference).attrs)

    def pull(self, repository: str, digest: str, login: Login | None = None) -> LocalImage:
        """Pull an image by digest from `repository`, which includes the registry's host."""
        auth = {"username": login.username, "password": login.password} if login else None
        with translate_errors(f"pull {repository}@{digest}"):
            self._client.images.pull(repository, tag=digest, auth_config=auth)
        return self.image(f"{repository}@{digest}")

    def load(self, archive: Path) -> LocalImage:
        """Load the only image of an archive; raise `EngineFailed` if the archive holds more or none."""
        with translate_errors(f"load {archive.name}"), archive.open("rb") as stream:
            images = self._client.images.load(stream)
        if len(images) != 1:
            raise EngineFailed(f"{archive.name} holds {len(images)} images.\nAn archive of one image is wanted.")
        return self.image(str(images[0].id))

    def save(self, image: str, target: Path, most: int) -> bool:
        """Write an image as an archive; return False if it has more than `most` bytes.

        Raises `DiskFull` if the archive would use the reserve of free space.
        """
        written = 0
        with translate_errors(f"save {image}"), target.open("wb") as file:
            for chunk in self._client.images.get(image).save():
                require_space(target.parent, f"The image {image} is not saved")
                written += file.write(chunk)
                if written > most:
                    return False
        return True

    def names(self, repository: str) -> Mapping[Digest, tuple[str, ...]]:
        """Return the images that have a name in the repository, each with its names."""
        with translate_errors(f"list the images of {repository}"):
            ids = [entry["Id"] for entry in list_images(self._api, repository)]  # an entry lacks other names
        names = []
        for each in ids:
            with (
                contextlib.suppress(ImageNotFound),
                translate_errors(f"look for the image {each}"),
            ):  # removed in between
                names.append(parse_image_names(self._client.images.get(each).attrs))
        return dict(names)

    def forget(self, name: str) -> None:
        """Remove a name of an image, and the image if it has no other name; ignore a missing one."""
        with translate_errors(f"remove the image {name}"), contextlib.suppress(NoSuchImage):
            self._api.remove_image(name)

    def create(self, spec: ContainerSpec) -> str:
        """Create a container with the owner's label, without starting it, and return its id."""
        with translate_errors(f"create {spec.name}"):
            labelled = spec.model_copy(update={"labels": self._with_owner(spec.labels)})
            result = self._client.containers.create(spec.image, **make_container_options(labelled))
        return str(result.id)

    def start(self, container: str) -> None:
        """Start a container."""
        with translate_errors(f"start {_shorten(container)}"):
            self._api.start(container)

    def inspect(self, container: str) -> Container:
        """Return a container by id or name."""
        with translate_errors(f"inspect {_shorten(container)}"):
            return parse_container(self._api.inspect_container(container))

    def find(self, labels: Mapping[str, str]) -> tuple[Container, ...]:
        """Return this owner's containers with the labels, running or not."""
        return tuple(c for c in self._list({"label": _pairs(labels)}) if not self._is_foreign(c.labels))

    def containers(self) -> tuple[Container, ...]:
        """Return the containers of all owners, running or not."""
        return self._list({})

    def list_host_accesses(self) -> tuple[HostAccess, ...]:
        """Return what each container, of any owner, can reach of the host and of other containers."""
        with translate_errors("list its containers"):
            private = str(self._api.info().get("CgroupVersion")) == "2"
            volumes = self._api.volumes()["Volumes"] or ()
            ids = [entry["Id"] for entry in self._api.containers(all=True)]
        device_of = {each["Name"]: path for each in volumes if (path := _host_path(each))}
        accesses = []
        for each in ids:
            with (
                contextlib.suppress(ContainerGone),
                translate_errors(f"inspect {_shorten(each)}"),
            ):  # removed in between
                accesses.append(parse_access(self._api.inspect_container(each), device_of, private_cgroups=private))
        return tuple(sorted(accesses, key=lambda access: access.name))

    def history(self, after: int) -> History:
        """Return the actions on containers after an event, identified by its time in nanoseconds."""
        with translate_errors("read its events"):  # `until` now: without it, the engine waits for more events
            return parse_history(list(self._api.events(since=1, until=int(time.time()), decode=True)), after)

    def list_network_containers(self, network: str) -> tuple[Container, ...]:
        """Return all containers on a network; none if the network belongs to another owner."""
        if self._is_foreign(self._network(network).get("Labels")):
            return ()
        return self._find_attached(network)

    def signal(self, container: str, signal: str) -> None:
        """Send a signal to a container; ignore one that does not run."""
        with translate_errors(f"signal {_shorten(container)}"):
            try:
                self._api.kill(container, signal)
            except APIError as error:
                if error.status_code != 409:  # it is not running
                    raise

    def stop(self, container: str, timeout: int) -> None:
        """Stop a container, with `timeout` seconds between SIGTERM and SIGKILL."""
        with translate_errors(f"stop {_shorten(container)}"):
            self._api.stop(container, timeout=timeout)

    def remove(self, container: str) -> None:
        """Stop and remove a container and its anonymous volumes; ignore one that is missing or being removed."""
        with translate_errors(f"remove {_shorten(container)}"), contextlib.suppress(NotFound):
            try:
                self._api.remove_container(container, v=True, force=True)
            except APIError as error:
                if error.status_code != HTTPStatus.CONFLICT or "already in progress" not in str(error.explanation):
                    raise

    def restart_always(self, container: str) -> None:
        """Let the engine restart the container whenever it ends, unless it was stopped."""
        with translate_errors(f"update {_shorten(container)}"):
            self._api.update_container(container, restart_policy=make_restart_policy(True))

    def logs(self, container: str) -> Logs:
        """Return the last `LINES` lines of each output stream, at most `LOG` bytes of each."""
        with translate_errors(f"read the logs of {_shorten(container)}"):
            (out, out_cut), (err, err_cut) = (
                read_last_lines(
                    self._api.logs(container, stdout=stdout, stderr=not stdout, tail=LINES, stream=True, follow=False)
                )
                for stdout in (True, False)
            )
        return Logs(out, err, cut=out_cut or err_cut)

    def changes(self, container: str) -> tuple[Change, ...]:
        """Return the paths that differ from the image; raise `CheckIncomplete` if there are too many."""
        with translate_errors(f"compare {_shorten(container)} with its image"):
            listed = self._answer(f"/containers/{quote(container)}/changes", MOST_CHANGES)
        if listed is None:
            raise CheckIncomplete(
                f"{_shorten(container)} has changed more paths than can be looked at.\nLet it write less, and that "
                "below the paths that its declaration makes writable."
            )
        changes = _parse(listed, parse_changes, f"list of what {_shorten(container)} changed")
        return drop_init(changes) if changes and self.inspect(container).profile.init else changes

    def processes(self, container: str) -> tuple[Process, ...]:
        """Return the running processes; raise `CheckIncomplete` if the engine's host cannot list them."""
        try:
            with translate_errors(f"list the processes of {_shorten(container)}"):
                listed = self._answer(f"/containers/{quote(container)}/top?ps_args={quote(PS)}", MOST_PROCESSES)
        except EngineFailed as error:
            raise CheckIncomplete(
                f"The processes of {_shorten(container)} cannot be listed: {error}\n"
                "The engine's host needs the program ps (Debian's package procps)."
            ) from error
        if listed is None:
            raise CheckIncomplete(
                f"{_shorten(container)} has more processes than can be looked at.\nLet it start fewer, with shorter "
                "commands."
            )
        return _parse(listed, parse_processes, f"list of the processes of {_shorten(container)}")

    def listeners(self, container: str) -> tuple[Listener, ...]:
        """Return the open sockets, as the port says; raise `CheckIncomplete` if they cannot be read on this machine."""
        now = self.inspect(container)
        if not self.local:
            raise CheckIncomplete(
                "The listening ports are read on the engine's own machine, and this engine is a remote one.\n"
                "Run development where its engine runs, and give the engine as a unix:// address."
            )
        return read_listeners(now)

    def create_network(self, name: str, labels: Mapping[str, str], *, internal: bool) -> None:
        """Create a bridge network if it does not exist; replace one of another owner that has no containers.

        Raises `SettingInvalid` if another owner's network of this name has containers.
        """
        existing = self._network(name)
        if self._is_foreign(existing.get("Labels")):
            if self._find_attached(name):
                other = existing["Labels"][OWNER]
                raise SettingInvalid(
                    f"{name} belongs to another supply chain on this engine ({other}).\n"
                    "Deploy to an environment of another name, or to another engine (deployments/environments/); where "
                    f"that supply chain is gone, `cscm reset --left-by {other}` removes what it left."
                )
            with translate_errors(f"remove the network {name}"), contextlib.suppress(NotFound):
                self._api.remove_network(existing["Id"])  # it has no containers; its owner creates it again when needed
            existing = {}
        if existing:
            return
        with translate_errors(f"create the network {name}"):
            try:
                self._api.create_network(name, driver="bridge", internal=internal, labels=self._with_owner(labels))
            except APIError as error:
                created = self._network(name) if error.status_code == HTTPStatus.CONFLICT else {}
                if not created or self._is_foreign(created.get("Labels")):
                    raise

    def networks(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return the names of this owner's networks with the labels."""
        with translate_errors("list its networks"):
            networks = self._api.networks(filters={"label": _pairs(labels)})
        return tuple(each["Name"] for each in networks if not self._is_foreign(each.get("Labels")))

    def attach(self, network: str, container: str) -> None:
        """Connect a container to one more network."""
        with translate_errors(f"attach {_shorten(container)} to {network}"):
            self._api.connect_container_to_network(container, network)

    def detach(self, network: str, container: str) -> None:
        """Disconnect a container from a network."""
        with translate_errors(f"detach {_shorten(container)} from {network}"):
            self._api.disconnect_container_from_network(container, network)

    def remove_network(self, name: str) -> None:
        """Remove a network; ignore a missing one."""
        with translate_errors(f"remove the network {name}"), contextlib.suppress(NotFound):
            self._api.remove_network(name)

    def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Create a named volume if it does not exist."""
        with translate_errors(f"create the volume {name}"):
            self._api.create_volume(name, labels=self._with_owner(labels))

    def volumes(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return the names of this owner's volumes with the labels."""
        with translate_errors("list its volumes"):
            volumes = self._api.volumes(filters={"label": _pairs(labels)})["Volumes"] or ()
        return tuple(each["Name"] for each in volumes if not self._is_foreign(each.get("Labels")))

    def remove_volume(self, name: str) -> None:
        """Remove a volume; ignore a missing one."""
        with translate_errors(f"remove the volume {name}"), contextlib.suppress(NotFound):
            self._api.remove_volume(name)

    def write(self, container: str, path: str, content: bytes) -> None:
        """Write a file into a container."""
        target = PurePosixPath(path)
        with translate_errors(f"write {path} in {_shorten(container)}"):
            self._api.put_archive(container, str(target.parent), _tar(target.name, content))

    def read(self, container: str, path: str, most: int = LARGEST_FILE) -> bytes:
        """Return a file of a container; raise `EngineFailed` if it is not a regular file of at most `most` bytes."""
        packed = bytearray()
        with translate_errors(f"read {path} in {_shorten(container)}"):
            stream, _ = self._api.get_archive(container, path)
            for chunk in stream:
                packed += chunk
                if len(packed) > most + SLACK:
                    break
        try:
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                member = archive.next()
                file = archive.extractfile(member) if member and member.isreg() and member.size <= most else None
                if file:
                    return file.read()
        except (tarfile.TarError, EOFError):
            pass
        raise EngineFailed(
            f"{path} in {_shorten(container)} is not a file of at most {most} bytes.\nLinks, directories and larger "
            "files are not read."
        )

    def _answer(self, path: str, most: int) -> bytes | None:
        """Return the engine's answer; None if it has more than `most` bytes, all of which the SDK would read."""
        address, content = f"{self._api.base_url}/v{self._api.api_version}{path}", bytearray()
        with self._api.get(address, stream=True, timeout=self._api.timeout) as answer:
            try:
                answer.raise_for_status()
            except HTTPError as error:
                raise create_api_error_from_http_exception(error) from error
            for chunk in answer.iter_content(CHUNK):
                content += chunk
                if len(content) > most:
                    return None
        return bytes(content)

    def _with_owner(self, labels: Mapping[str, str]) -> dict[str, str]:
        return {**labels, OWNER: self._owner} if self._owner else dict(labels)

    def _is_foreign(self, labels: Mapping[str, str] | None) -> bool:
        """Return whether the labels name another owner; without an owner's label, or with an empty one, they do not."""
        return bool(self._owner) and ((labels or {}).get(OWNER) or self._owner) != self._owner

    def _find_attached(self, network: str) -> tuple[Container, ...]:
        """Return the containers of all owners on a network, running or not."""
        return tuple(c for c in self._list({"network": [network]}) if network in c.networks)

    def _network(self, name: str) -> dict[str, Any]:
        """Return the network as the engine describes it; empty if there is none."""
        with translate_errors(f"look for the network {name}"):
            return next((n for n in self._api.networks(names=[name]) if n["Name"] == name), {})

    def _list(self, filters: Mapping[str, Any]) -> tuple[Container, ...]:
        with translate_errors("list its containers"):
            ids = [entry["Id"] for entry in self._api.containers(all=True, filters=dict(filters))]
        containers = []
        for each in ids:
            with contextlib.suppress(ContainerGone):  # removed in between
                containers.append(self.inspect(each))
        return tuple(sorted(containers, key=lambda c: c.created_at))


def _parse(answer: bytes, parse: Callable[[Any], T], what: str) -> T:
    try:
        return parse(json.loads(answer))
    except ValueError as error:
        raise EngineFailed(f"The engine's {what} cannot be read: {error}\nThe engine's own log says more.") from error


def _host_path(volume: Mapping[str, Any]) -> str:
    """Return the host path that a volume is bound to; empty if the volume is the engine's own."""
    device = str((volume.get("Options") or {}).get("device") or "")
    return device if device.startswith("/") else ""


def _shorten(container: str) -> str:
    """Return a name unchanged, and an id in its short form."""
    return container[:12] if len(container) == 64 else container


def _pairs(labels: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in labels.items()]


def _tar(name: str, content: bytes) -> bytes:
    """Return a tar archive of one file, owned by root and readable by all."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(content), 0o644
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


LISTINGS = 5
"""Number of times that a list is requested from the engine, which aborts it each time an image disappears meanwhile."""


def list_images(api: docker.APIClient, repository: str | None = None) -> list[dict[str, Any]]:
    """Return the engine's list of images; repeat the request if an image disappears meanwhile.

    In that case the engine answers 404 instead of the list.
    """
    for _ in range(LISTINGS - 1):
        with contextlib.suppress(NotFound):
            return list(api.images(name=repository))
    return list(api.images(name=repository))
