"""The build step with the engine's BuildKit: the Dockerfile that was read is built and recorded as provenance."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from supply_chain.adapters.docker.buildx import Buildx, find_client
from supply_chain.adapters.git.snapshot import take_snapshot
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.development.build import (
    BuildOrder,
    BuildPorts,
    BuildResult,
    DownloadAllowance,
    build,
    make_local_name,
)
from supply_chain.development.build import test_name as name_of_tests
from supply_chain.errors import BuildMaterialsDiffer
from supply_chain.evidence.provenance import make_provenance
from supply_chain.model.declaration import DECLARATION
from supply_chain.model.image import BuiltImage, Material, Source
from tests.support.buildkit import ADDRESS, BuildKit

pytestmark = pytest.mark.real

NAME, RUN = f"reading-{os.getpid()}", "run1"
FETCHED = f"sha256:{hashlib.sha256(b'fetched').hexdigest()}"
DOCKERFILE = f"""\
# escape=`
ARG BASE=curated/base/a
FROM $BASE AS test
# COPY --from=evil/a `
RUN --mount=type=cache,target=/c `
# comment
    x
FROM ${{BASE}}
ADD --checksum={FETCHED} {ADDRESS} /added/
COPY file /
"""


@dataclass(frozen=True)
class Bases:
    """The same image for every name."""

    image: str

    def resolve(self, reference: str, declared: object) -> tuple[str, Material]:
        name = reference.removeprefix("docker.io/").removesuffix(":latest")
        return self.image, Material(name=name, digest=self.image.partition("@")[2], curated=True)

    def config(self, address: str, platform: str) -> bytes:
        return b"{}"

    def check(self, addresses: Collection[str], platform: str | None) -> None:
        pass


@dataclass(frozen=True)
class Swapped:
    """A builder that gives BuildKit another Dockerfile than ordered, as a race or a bug would."""

    builder: Buildx
    content: bytes

    def build(self, *orders: BuildOrder) -> tuple[BuildResult, ...]:
        return self.builder.build(*(replace(order, dockerfile=self.content) for order in orders))

    def versions(self) -> dict[str, str]:
        return {}


@pytest.fixture
def builder(buildkit: BuildKit, tmp_path: Path) -> Iterator[Buildx]:
    docker = Tool("docker", find_client(os.environ["PATH"]), "system")
    (tmp_path / "docker").mkdir()
    config = tmp_path / "docker"
    registry = Registry(RegistryHttp("registry.test", lambda: ("", ""), insecure=True))
    yield Buildx(docker, buildkit.buildx, lambda: contextlib.nullcontext(config), lambda: "26.1", registry)
    image = make_local_name(NAME, RUN)
    subprocess.run(["docker", "rmi", "--force", image, name_of_tests(image)], capture_output=True, check=False)


def make(buildkit: BuildKit, builder: Any, directory: Path) -> BuiltImage:
    """Build a service with the Dockerfile above."""
    declared = {
        "kind": "service", "name": NAME, "owner": "us", "test": {"command": ["/x"]}, "probe": {"port": 8080},
        "build": {"fetch": {"urls": {ADDRESS: FETCHED}}},
    }  # fmt: skip
    directory.mkdir()
    for name, text in (("Dockerfile", DOCKERFILE), ("file", "x"), ("supply-chain.yaml", json.dumps(declared))):
        (directory / name).write_text(text)
    ports = BuildPorts(
        builder=builder,
        reader=buildkit.reader,
        bases=Bases(buildkit.image),
        fetch=hand_over,
        offered=Nothing(),
        evidence=None,  # type: ignore[arg-type] # no image was offered, so no evidence is read
        in_engine={},
        context=lambda snapshot: contextlib.nullcontext(snapshot.context),
        cache_key=lambda source, application: NAME,
        now=lambda: datetime(2026, 11, 27, tzinfo=UTC),
        version="0",
    )
    source = Source(path=".", repository="r", revision="1" * 40, dirty=False, committed=1000)
    with take_snapshot(directory, None, buildkit.reader.find_excluded) as snapshot:
        return build(replace(snapshot, source=source), ports, RUN)


def hand_over(url: str, checksum: str, target: Path, timeout: float, allowance: DownloadAllowance) -> None:
    """Write the file without a network."""
    target.write_text("fetched")


class Nothing:
    """A registry listing without images."""

    def list_newest_first(self, repository: str, tag_prefix: str = "", *, archived: bool = False) -> tuple[()]:
        return ()


def test_build_is_reproducible_and_records_its_materials(buildkit: BuildKit, builder: Buildx, tmp_path: Path) -> None:
    """The materials are images and URLs with their digests."""
    built = make(buildkit, builder, tmp_path / "one")
    again = make(buildkit, builder, tmp_path / "two")

    base = Material(name="curated/base/a", digest=buildkit.image.partition("@")[2], curated=True)
    assert built.materials == (base, Material(name=ADDRESS, digest=FETCHED, curated=False))
    assert (built.base, built.uncurated, again.digest) == (base, (), built.digest)
    declaration = DECLARATION.validate_python(
        {"kind": "base", "name": NAME, "owner": "us", "check": ["/x"]}
    )  # any declaration works, because the materials come from the image
    assert make_provenance(built, declaration).materials == ((base.digest, base.name),)
    listed = subprocess.run(
        ["docker", "images", "--quiet", "--no-trunc", make_local_name(NAME, RUN)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout.split() == [built.digest]


def test_build_runs_no_git(buildkit: BuildKit, builder: Buildx, tmp_path: Path) -> None:
    """Git would use the configuration of a repository above the directory for temporary files, which others may own."""
    git, ran = tmp_path / "bin/git", tmp_path / "ran"
    git.parent.mkdir()
    git.write_text(f'#!/bin/sh\necho "$@" >> {ran}\nexit 1\n')
    git.chmod(0o755)
    path = f"{git.parent}:{os.environ['PATH']}"
    order = BuildOrder(
        context=buildkit.context, dockerfile=b"FROM scratch\nCOPY file /\n", platform="linux/amd64", target=None,
        name=make_local_name(NAME, RUN), images={}, fetched={}, annotations={}, epoch=1000, timeout=300,
        reproducible=True, key=NAME, caches=NAME, max_size=2**20,
    )  # fmt: skip

    replace(builder, buildx=buildkit.buildx.with_environment(PATH=path)).build(order)

    assert not ran.exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("COPY file /", "COPY --from=test /bin/sh /"),
        ("target=/c", "target=/d"),
        (f"ADD --checksum={FETCHED} {ADDRESS} /added/\n", ""),
    ],
)
def test_build_of_another_dockerfile_than_read_fails(
    buildkit: BuildKit, builder: Buildx, tmp_path: Path, before: str, after: str
) -> None:
    """This holds even if only the test stage differs."""
    swapped = Swapped(builder, DOCKERFILE.replace(before, after).encode())

    with pytest.raises(BuildMaterialsDiffer):
        make(buildkit, swapped, tmp_path / "one")
