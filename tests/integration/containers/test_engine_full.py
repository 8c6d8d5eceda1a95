"""An engine with a full disk: a second engine with its own small disk and namespaces."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supply_chain.adapters.docker.buildx import Buildx, find_client
from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.adapters.tools import Toolbox
from supply_chain.development.build import BuildOrder
from supply_chain.errors import DiskFull, EngineUnavailable

pytestmark = pytest.mark.real

ROOM = 48
"""Size of the engine's disk in MiB."""
NAMESPACES = ("unshare", "--mount", "--net", *(() if os.geteuid() == 0 else ("--map-root-user",)))
ON_A_SMALL_DISK = 'mount -t tmpfs -o "size=$1m" tmpfs "$2" && mount -t tmpfs tmpfs /run && shift 2 && exec dockerd "$@"'
NAME = "cscm.local/full:run"


@pytest.fixture
def engine() -> Iterator[str]:
    """The address of an engine with a small disk."""
    with tempfile.TemporaryDirectory(prefix="cscm-full-") as place:  # a socket's path has at most 107 bytes
        yield from _started(Path(place))


def _started(place: Path) -> Iterator[str]:
    disk, socket = place / "disk", place / "engine.sock"
    disk.mkdir()
    (place / "daemon.json").write_text(json.dumps({"features": {"containerd-snapshotter": True}}))
    options = [
        f"--data-root={disk}/data", f"--exec-root={disk}/exec", f"--pidfile={disk}/pid", f"--host=unix://{socket}",
        f"--config-file={place / 'daemon.json'}", "--group=0",
        "--iptables=false", "--ip6tables=false", "--bridge=none",
    ]  # fmt: skip
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    with (place / "log").open("w") as log:
        words = [*NAMESPACES, "sh", "-c", ON_A_SMALL_DISK, "sh", str(ROOM), str(disk), *options]
        daemon = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, "PATH": path})
    try:
        _wait(f"unix://{socket}", daemon, place / "log")
        yield f"unix://{socket}"
    finally:
        daemon.terminate()
        daemon.wait(30)


def _wait(url: str, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert daemon.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
        with contextlib.suppress(EngineUnavailable):
            DockerEngine.connect(url).versions()
            return
        time.sleep(0.1)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """The context of an image that is larger than the disk and does not compress."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "large").write_bytes(os.urandom(ROOM * 1024**2 + 1))
    (context / "Dockerfile").write_text("FROM scratch\nCOPY large /large\n")
    return context


def order(context: Path, *, reproducible: bool) -> BuildOrder:
    return BuildOrder(
        context=context, dockerfile=(context / "Dockerfile").read_bytes(), platform="linux/amd64", target=None,
        name=NAME, images={}, fetched={}, annotations={}, epoch=0, timeout=120, reproducible=reproducible,
        key="full", caches="full", max_size=2**30,
    )  # fmt: skip


def builder(url: str, toolbox: Toolbox, tmp_path: Path) -> Buildx:
    docker = Tool("docker", find_client(os.environ["PATH"]), "system").with_environment(DOCKER_HOST=url)
    buildx = toolbox.find("buildx").with_environment(DOCKER_HOST=url)
    registry = Registry(RegistryHttp("registry.test", lambda: ("", ""), insecure=True))
    return Buildx(docker, buildx, lambda: contextlib.nullcontext(tmp_path), lambda: "26.1", registry)


@pytest.mark.parametrize("reproducible", [True, False], ids=["archive", "store"])
def test_build_on_full_engine_raises_disk_full(
    engine: str, toolbox: Toolbox, context: Path, tmp_path: Path, reproducible: bool
) -> None:
    """It is no error of the Dockerfile, and no partial image remains."""
    with pytest.raises(DiskFull, match="no space left"):
        builder(engine, toolbox, tmp_path).build(order(context, reproducible=reproducible))

    assert DockerEngine.connect(engine).names("cscm.local/full") == {}


def test_load_into_full_engine_raises_disk_full(engine: str, toolbox: Toolbox, context: Path, tmp_path: Path) -> None:
    """The decrypted copy of a confidential image is loaded like this; no partial image remains."""
    archive = tmp_path / "image.tar"
    subprocess.run(
        [toolbox.find("buildx").path, "build", "--quiet", "--provenance=false",
         f"--output=type=oci,dest={archive},name={NAME}", str(context)],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    assert tarfile.is_tarfile(archive)

    with pytest.raises(DiskFull, match="no space left"):
        DockerEngine.connect(engine).load(archive)

    assert DockerEngine.connect(engine).names("cscm.local/full") == {}
