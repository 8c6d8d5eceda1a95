"""A fleet in a registry of its own, and the real scanner with a count of its completed runs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.fleet import Fleet, derived, emulated
from cscm_laptop.home import Home
from cscm_laptop.vulndb import ensure_database
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.vulndb import make_grype_environment
from tests.integration.rescan.rescans import Counted, Rescans


@pytest.fixture(scope="session")
def grype(toolbox: Toolbox) -> Tool:
    return toolbox.find("grype")


@pytest.fixture(scope="session")
def compiled(grype: Tool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the starter database, which tests only copy."""
    directory = tmp_path_factory.mktemp("compiled") / "database"
    ensure_database(grype, directory, starter_only=True)
    return directory


@pytest.fixture
def database(compiled: Path, tmp_path: Path) -> Path:
    """A directory with the starter database."""
    return Path(shutil.copytree(compiled, tmp_path / "database", symlinks=True))


@pytest.fixture(scope="session")
def real(toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The SBOMs of this environment's packages, and of a Debian root with vulnerable packages."""
    work = tmp_path_factory.mktemp("real")
    release = work / "debian/etc"
    release.mkdir(parents=True)
    (release / "os-release").write_text('ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n')
    status = work / "debian/var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    for name, version in (("openssl", "3.0.9-1"), ("zlib1g", "1:1.2.13.dfsg-1"), ("libssl3", "3.0.9-1")):
        (status / name).write_text(
            f"Package: {name}\nStatus: install ok installed\nSource: {'zlib' if name == 'zlib1g' else 'openssl'}\n"
            f"Version: {version}\nArchitecture: amd64\nMaintainer: nobody\nDescription: nothing\n"
        )
    (work / "debian/requirements.txt").write_text("django==3.2.3\njinja2==2.10\nsalt==3000.1\n")
    installed = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    for each in sorted(installed.glob("*.dist-info"))[:60]:
        (work / "python" / each.name).mkdir(parents=True)
        for name in ("METADATA", "RECORD"):
            (work / "python" / each.name / name).write_bytes((each / name).read_bytes())
    found = []
    for source in (work / "debian", work / "python"):
        output = work / f"{source.name}.json"
        toolbox.find("syft").run("scan", f"dir:{source}", f"--output=syft-json={output}", timeout=300, quiet=True)
        found.append(output.read_bytes())
    return found


@pytest.fixture
def fleet(home: Home, tmp_path: Path) -> Iterator[Fleet]:
    place = tmp_path / "registry"
    place.mkdir()
    with emulated(home.emulator / "bin/python", place) as running:
        yield running


@pytest.fixture
def counted(grype: Tool, tmp_path: Path) -> Counted:
    directory = tmp_path / "counted"
    directory.mkdir()
    return Counted(grype, directory)


@pytest.fixture
def rescans(fleet: Fleet, counted: Counted, database: Path, tmp_path: Path) -> Rescans:
    return Rescans(fleet, counted, database, tmp_path)


@pytest.fixture
def plain(grype: Tool, tmp_path: Path) -> dict[str, str]:
    """The environment variables for grype alone."""
    return make_grype_environment(tmp_path / "database") | {"HOME": str(tmp_path)}


@pytest.fixture
def sboms(real: list[bytes]) -> list[bytes]:
    """Ten different SBOMs."""
    return list(derived(real, 10))
