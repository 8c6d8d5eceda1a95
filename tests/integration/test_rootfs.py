"""The root filesystems of the bases, made by the real mmdebstrap."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import docker
import pytest

from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools.mmdebstrap import make_rootfs
from supply_chain.model.declaration import Base, read_declaration
from tests.support.command import ROOT

pytestmark = pytest.mark.real

EPOCH = 1_700_000_000
BASES = ROOT / "bases"


def made(base: str, directory: Path) -> tuple[Path, dict[str, str]]:
    declaration = read_declaration(BASES / base)
    assert isinstance(declaration, Base) and declaration.rootfs is not None
    tool = Tool("mmdebstrap", Path(shutil.which("mmdebstrap") or "mmdebstrap"), "1")
    target = directory / "rootfs.tar"
    return target, make_rootfs(tool, declaration.rootfs, target, EPOCH, directory / "work")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The tar of the runtime base and its packages."""
    return made("python", tmp_path_factory.mktemp("runtime"))


@pytest.fixture(scope="module")
def image(runtime: tuple[Path, dict[str, str]]) -> Iterator[str]:
    """The runtime base as an image in the engine."""
    client = docker.from_env()
    name = f"cscm-test/rootfs:{uuid4().hex[:12]}"
    repository, _, tag = name.partition(":")
    client.api.import_image_from_file(str(runtime[0]), repository=repository, tag=tag)
    yield name
    client.images.remove(name, force=True)
    client.close()


def test_same_packages_give_the_same_root_filesystem(runtime: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """The base's digest changes only if a package changes."""
    again, packages = made("python", tmp_path)

    assert packages == runtime[1]
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(runtime[0].read_bytes()).digest()


def test_compressed_runtime_base_is_under_30_megabytes(runtime: tuple[Path, dict[str, str]]) -> None:
    """Every application contains it."""
    assert len(gzip.compress(runtime[0].read_bytes(), 6)) < 30_000_000


def test_runtime_base_has_no_shell_and_no_package_manager(runtime: tuple[Path, dict[str, str]]) -> None:
    """An intruder finds no tools; the package lists for the SBOM are still there."""
    with tarfile.open(runtime[0]) as tar:
        names = set(tar.getnames())

    assert not names & {f"usr/bin/{tool}" for tool in ("sh", "dash", "bash", "dpkg", "apt", "apt-get", "pip", "pip3")}
    assert {f"var/lib/dpkg/status.d/{name}" for name in runtime[1]} <= names


def test_check_of_the_python_base_passes_as_its_user(image: str) -> None:
    """It needs certificates, time zones and SQLite, on a read-only root without privileges."""
    declaration = read_declaration(BASES / "python")
    assert isinstance(declaration, Base)
    output = docker.from_env().containers.run(
        image,
        [*declaration.check[:2], f"{declaration.check[2]}\nimport os; print(os.getuid(), os.path.expanduser('~'))"],
        user="10001:10001",
        read_only=True,
        cap_drop=["ALL"],
        network_mode="none",
        remove=True,
    )

    assert output.decode().split() == ["10001", "/home/app"]
