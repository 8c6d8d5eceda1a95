"""Find and check the container engine of the machine; install and start one if there is none.

An engine that someone else installed or runs is never changed; what it lacks is reported instead. Measured for the
requirements and the recipe for Debian: 26.1 with the containerd image store is the lowest version that keeps an
image's digest from the build to the registry.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.tls import TLSConfig
from requests.exceptions import RequestException

from cscm_laptop import engine_setup
from cscm_laptop.engine_setup import DAEMON_JSON, REMEDY
from cscm_laptop.home import Home
from cscm_laptop.services import Progress, Service, start_time
from supply_chain.adapters.docker.buildx import find_client
from supply_chain.adapters.docker.engine import list_images
from supply_chain.adapters.process.command import run
from supply_chain.errors import EngineUnavailable, EngineUnsuitable
from supply_chain.model.container import OWNER
from supply_chain.model.image import Model

DEFAULT_URL = "unix:///var/run/docker.sock"
DAEMON_PLACES = ("/usr/local/sbin", "/usr/sbin")
PID_FILES = (Path("/var/run/docker.pid"), Path("/var/run/docker/containerd/containerd.pid"))
"""Pid files of dockerd and of the containerd that it starts (moby, daemon/pidfile)."""
WANTED = (26, 1)
STORE = "io.containerd.snapshotter.v1"


class Engine(Model):
    """An engine that meets the requirements of the chain."""

    url: str
    version: str
    client: Path


class Facts(Model):
    """What an engine reports about itself."""

    version: str
    store: str


def read_engine_url(environ: Mapping[str, str] = os.environ) -> str:
    """Return the URL of the engine: DOCKER_HOST, or the default socket."""
    return environ.get("DOCKER_HOST") or DEFAULT_URL


def ask(url: str) -> Facts:
    """Return the engine's version and image store; raise `EngineUnavailable`, with a remedy, if none answers."""
    try:
        client = docker.DockerClient(base_url=url, timeout=10, **_tls(url))
        try:
            info = client.info()
        finally:
            client.close()
    except (DockerException, RequestException) as error:
        if _not_permitted(url):
            raise EngineUnavailable(
                f"This user may not talk to the engine at {url}.\n"
                "Add the user to the group that owns the socket (usermod --append --groups docker NAME) "
                "and log in again."
            ) from error
        raise EngineUnavailable(f"No container engine answers at {url}{_why(url, error)}") from error
    return parse_engine_facts(info)


def _why(url: str, error: Exception) -> str:
    """Return why no engine answers, and the remedy: an installed engine only has to be started."""
    socket = Path(url.removeprefix("unix://"))
    reason = "there is no such socket" if url.startswith("unix://") and not socket.exists() else error
    started = "Docker Engine is installed: start it (as root: `cscm up`, or `systemctl start docker`)."
    return f": {reason}.\n{started if url == DEFAULT_URL and find_daemon() else REMEDY}"


def find_daemon() -> str | None:
    """Return the path of dockerd; look also in directories that are only in an administrator's PATH."""
    return shutil.which("dockerd", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *DAEMON_PLACES]))


def parse_engine_facts(info: Mapping[str, Any]) -> Facts:
    """Read the facts from the answer to `GET /info`."""
    status = dict(info.get("DriverStatus") or [])
    return Facts(version=str(info.get("ServerVersion", "")), store=str(status.get("driver-type", "")))


def _tls(url: str) -> dict[str, Any]:
    if not url.startswith("tcp://") or not os.environ.get("DOCKER_TLS_VERIFY"):
        return {}
    where = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    pair = (str(where / "cert.pem"), str(where / "key.pem"))
    return {"tls": TLSConfig(client_cert=pair, ca_cert=str(where / "ca.pem"), verify=True)}


def _not_permitted(url: str) -> bool:
    socket = Path(url.removeprefix("unix://"))
    return url.startswith("unix://") and socket.exists() and not os.access(socket, os.R_OK | os.W_OK)


def judge(engine: Facts, url: str) -> None:
    """Raise `EngineUnsuitable`, with everything that the engine lacks and each remedy, if it lacks anything."""
    lacks = []
    if parse_engine_version(engine.version) < WANTED:
        lacks.append(
            f"it is version {engine.version or 'unknown'}, and 26.1 or later is needed: upgrade Docker Engine "
            "(https://docs.docker.com/engine/install/)"
        )
    if engine.store != STORE:
        lacks.append(
            'its containerd image store is off: put {"features": {"containerd-snapshotter": true}} into '
            f"{DAEMON_JSON} and restart the engine (images of the old store are hidden, not lost)"
        )
    if lacks:
        raise EngineUnsuitable(f"The engine at {url} lacks what the chain needs:\n- " + "\n- ".join(lacks))


def parse_engine_version(text: str) -> tuple[int, int]:
    """Return the major and minor version: (26, 1) for `26.1.5+dfsg1`, (0, 0) if the text is not a version."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def check_engine(url: str | None = None) -> Engine:
    """Return the engine without changing anything; raise `EngineUnavailable` or `EngineUnsuitable`."""
    url = url or read_engine_url()
    engine = ask(url)
    judge(engine, url)
    return Engine(url=url, version=engine.version, client=find_client(os.environ.get("PATH", os.defpath)))


def ensure_engine(home: Home, progress: Progress) -> Engine:
    """Return the engine; if there is none and this user may, install and start it first."""
    url = read_engine_url()
    try:
        return check_engine(url)
    except EngineUnavailable:
        if url != DEFAULT_URL or os.geteuid() != 0:
            raise
    engine_setup.configure()  # before the installation, because the package starts the engine
    if find_daemon() is None:
        progress("engine: installing Docker Engine from Debian's packages")
        engine_setup.install()
    start(home, progress)
    return check_engine(url)


def wake(home: Home, progress: Progress) -> None:
    """Start the installed engine if none answers; raise `EngineUnavailable` if that is not possible."""
    url = read_engine_url()
    try:
        ask(url)
    except EngineUnavailable:
        if url != DEFAULT_URL or os.geteuid() != 0 or find_daemon() is None:
            raise
        start(home, progress)


def make_engine_service(home: Home) -> Service:
    """Return the service of dockerd as our own process, for machines without systemd."""
    return Service(
        name="engine",
        argv=(find_daemon() or "/usr/sbin/dockerd",),
        log=home.log / "engine.log",
        pid_file=home.run / "engine.json",
        ready=lambda: engine_answers(DEFAULT_URL),
        deadline=90,
        grace=30,
    )


def start(home: Home, progress: Progress) -> None:
    """Start the engine, through systemd if that is process 1, and wait until it is ready."""
    if Path("/run/systemd/system").is_dir():
        progress("engine: starting it through systemd")
        done = run(["systemctl", "start", "docker.service"], name="systemctl", timeout=120)
        if done.status != 0:
            raise EngineUnavailable(
                f"systemd could not start the engine: {done.stderr[-1000:].strip()}\n"
                "See `journalctl --unit docker.service`, then run this again."
            )
        return
    progress("engine: starting dockerd")
    remove_dead_pid_files()
    make_engine_service(home).ensure(progress)


def remove_dead_pid_files(files: Iterable[Path] = PID_FILES) -> None:
    """Remove the pid files of processes that ended.

    If a process was killed and its parent has not waited for it yet (a zombie), dockerd takes it for a running one.
    It then does not start, or waits in vain for its containerd.
    """
    for file in files:
        try:
            pid = int(file.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            continue
        if start_time(pid) is None:
            file.unlink(missing_ok=True)


@contextmanager
def _connect(timeout: int) -> Iterator[docker.DockerClient]:
    """Yield a client of the engine; raise `EngineUnavailable` if none answers. `timeout` is in seconds."""
    url = read_engine_url()
    ask(url)
    client = docker.DockerClient(base_url=url, timeout=timeout, **_tls(url))
    try:
        yield client
    finally:
        client.close()


def find_foreign_networks(owner: str) -> dict[str, str]:
    """Return name → owner of each network with containers that another supply chain on this engine has.

    Raises `EngineUnavailable` if no engine answers.
    """
    try:
        with _connect(timeout=10) as client:
            foreign = {
                str(network.name): str(network.attrs["Labels"][OWNER])
                for network in client.networks.list(filters={"label": OWNER})
                if network.attrs["Labels"][OWNER] != owner
            }
            return {
                name: other
                for name, other in foreign.items()
                if client.containers.list(all=True, filters={"network": name}, sparse=True)
            }
    except (DockerException, RequestException) as error:
        raise EngineUnavailable(f"The engine did not list its networks: {error}\nTry again.") from error


def clear(label: str, images: str | None, progress: Progress) -> None:
    """Remove the containers, networks and volumes with the label; raise `EngineUnavailable` if no engine answers.

    If `images` is given, also remove the images whose names begin with it, except those that are in use elsewhere.
    """
    with _connect(timeout=60) as client:
        for container in client.containers.list(all=True, filters={"label": label}):
            progress(f"engine: removing the container {container.name}")
            container.remove(force=True, v=True)
        for network in client.networks.list(filters={"label": label}):
            progress(f"engine: removing the network {network.name}")
            network.remove()
        for volume in client.volumes.list(filters={"label": label}):
            progress(f"engine: removing the volume {volume.name}")
            volume.remove()
        for image in list_images(client.api) if images else ():
            for name in (*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())):
                if name.startswith(str(images)):
                    _remove_image(client, name, progress)


def _remove_image(client: docker.DockerClient, name: str, progress: Progress) -> None:
    """Remove an image's name, and the image with its last one; leave what containers of others use."""
    try:
        client.images.remove(name)
    except NotFound:  # it went with another name
        return
    except APIError as error:
        progress(f"engine: leaving the image {name}: {error.explanation or error}")
    else:
        progress(f"engine: removed the image {name}")


def engine_answers(url: str) -> bool:
    """Return whether an engine answers at the URL and accepts requests from this user."""
    try:
        ask(url)
    except EngineUnavailable:
        return False
    return True
