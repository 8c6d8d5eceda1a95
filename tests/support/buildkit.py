"""The engine's BuildKit for tests that need no laptop: a registry with one image, a context, one build at a time."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from supply_chain.adapters.docker.build_record import parse_record
from supply_chain.adapters.docker.dockerfile import BuildKitReader
from supply_chain.adapters.docker.source_policy import make_source_policy
from supply_chain.adapters.process.command import CommandResult, Tool
from supply_chain.adapters.tools import Toolbox
from supply_chain.development.dockerfile import Reading
from supply_chain.development.record import BuildRecord
from supply_chain.scratch import make_scratch_directory
from tests.support.go import go_build
from tests.support.place import free_port
from tests.support.waiting import eventually

HERE = Path(__file__).parent
NAMESPACE = "cscm.test/buildkit"
ADDRESS = "https://files.example.invalid/file"
"""A URL whose content the tests hand to BuildKit."""


@dataclass(frozen=True)
class BuildKit:
    """The engine's BuildKit. `image` is the address by digest of an image with nothing but /bin/sh in it."""

    reader: BuildKitReader
    buildx: Tool
    host: str
    image: str
    context: Path
    fetched: Path

    def read(self, content: bytes, targets: Sequence[str] = ("",)) -> Reading:
        """Read a Dockerfile, all of whose images are that image."""
        arguments = {"SOURCE_DATE_EPOCH": "1000", "BUILDKIT_CACHE_MOUNT_NS": NAMESPACE}
        return self.reader.read(content, targets, "linux/amd64", arguments, NAMESPACE, {})

    def run(self, content: bytes, policy: Mapping[str, Any], *arguments: str, context: Path | None = None) -> Result:
        """Give BuildKit a Dockerfile, read by nobody, under a source policy. Nothing is kept of it but its cache."""
        with make_scratch_directory("buildkit") as work:
            dockerfile = write_dockerfile(content, work / "dockerfile")
            (work / "policy.json").write_text(json.dumps(policy))
            done = self.buildx.with_environment(
                DOCKER_CONFIG=f"{work}/docker",
                BUILDX_CONFIG=f"{work}/buildx",
                BUILDX_METADATA_PROVENANCE="max",
                SOURCE_DATE_EPOCH="1000",
                EXPERIMENTAL_BUILDKIT_SOURCE_POLICY=f"{work}/policy.json",
            ).run(
                "build", "--progress=plain", "--provenance=false", "--sbom=false", "--platform=linux/amd64",
                "--output=type=cacheonly", f"--file={dockerfile}", f"--metadata-file={work}/metadata",
                f"--build-arg=BUILDKIT_CACHE_MOUNT_NS={NAMESPACE}", *arguments, context or self.context,
                timeout=300, check=False, quiet=True,
            )  # fmt: skip
            metadata = json.loads((work / "metadata").read_text()) if done.status == 0 else {}
        return Result(done, metadata)

    def policy(self, images: Sequence[str] = ()) -> dict[str, Any]:
        """What the chain would allow for these images of a Dockerfile, all of them that image."""
        return make_source_policy(dict.fromkeys(images, self.image), {ADDRESS: self.fetched.name})


def write_dockerfile(content: bytes, directory: Path) -> Path:
    """Write a Dockerfile with an ignore file that leaves out nothing, as the chain gives them to BuildKit."""
    directory.mkdir()
    (directory / "Dockerfile").write_bytes(content)
    (directory / "Dockerfile.dockerignore").touch()
    return directory / "Dockerfile"


@dataclass(frozen=True)
class Result:
    """What came of a build."""

    done: CommandResult
    metadata: dict[str, Any]

    @property
    def record(self) -> BuildRecord:
        assert self.done.status == 0, self.done.stderr[-2000:]
        return parse_record(self.metadata)


@contextmanager
def buildkit_in(work: Path, toolbox: Toolbox) -> Iterator[BuildKit]:
    """A registry of its own on the host's loopback, for as long as the block lasts."""
    crane, host = toolbox.find("crane"), f"127.0.0.1:{free_port()}"
    serving = subprocess.Popen(
        [crane.path, "registry", "serve", "--address", host], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: _answers(host))
        context, fetched = work / "context", work / "fetched-of-the-tests"
        context.mkdir()
        fetched.mkdir()
        (context / "file").write_text("of the context\n")
        (fetched / "file").write_text("fetched\n")
        image = _push(crane, host, work)
        yield BuildKit(
            BuildKitReader(toolbox.find("dockerfile-reader")), toolbox.find("buildx"), host, image, context, fetched
        )
    finally:
        serving.terminate()
        serving.wait(10)


def _answers(host: str) -> bool:
    try:
        return httpx.get(f"http://{host}/v2/").status_code == 200
    except httpx.HTTPError:
        return False


def _push(crane: Tool, host: str, work: Path) -> str:
    """An image whose shell succeeds whatever it is asked."""
    go_build(HERE / "subject/shell", work / "sh")
    with tarfile.open(work / "layer.tar", "w") as tar:
        tar.add(work / "sh", "bin/sh")
        for name, line in (("passwd", "root:x:0:0::/:/bin/sh"), ("group", "root:x:0:")):
            (work / name).write_text(f"{line}\n")
            tar.add(work / name, f"etc/{name}")
    name = f"{host}/test/shell:1"
    crane.run("append", "--oci-empty-base", "--new_layer", work / "layer.tar", "--new_tag", name, timeout=60)
    crane.run("mutate", "--set-platform", "linux/amd64", "--tag", name, name, timeout=60)
    return f"{host}/test/shell@{crane.run('digest', name, timeout=60).stdout.strip()}"
