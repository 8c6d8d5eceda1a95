"""The static checks of the intake gate, by the real programs, on the bases that no other test builds.

The intake gate makes them of the other bases and of the examples when their chains run (`chain/test_chain.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from cscm.main import BASES
from supply_chain.adapters.docker.dockerfile import BuildKitReader
from supply_chain.adapters.git.snapshot import take_snapshot
from supply_chain.adapters.image.packaged_files import PackagedFiles
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools import Toolbox, hadolint, syft
from supply_chain.adapters.tools.bandit import scan_source
from supply_chain.adapters.tools.hadolint import lint_dockerfile
from supply_chain.adapters.tools.secrets import find_secrets
from supply_chain.development.snapshot import Snapshot
from supply_chain.errors import CheckIncomplete, ScannerFailed
from supply_chain.evidence.checks import CheckResult, Outcome
from supply_chain.evidence.examination import Examination
from supply_chain.model.declaration import FILE
from tests.support.access import nowhere
from tests.support.command import ROOT

MIB = 1024**2
BUILT = ("go-build", *BASES)
UNBUILT = [path.parent for path in sorted(ROOT.glob(f"bases/*/{FILE}")) if path.parent.name not in BUILT]


def tool(name: str) -> Tool:
    return Tool(name, Path(sys.executable).parent / name, "0")


def now() -> datetime:
    return datetime(2026, 11, 24, tzinfo=UTC)


CHECKS: dict[str, Callable[[Snapshot], CheckResult]] = {
    "hadolint": lambda taken: lint_dockerfile(tool("hadolint"), taken.dockerfile, now),
    "bandit": lambda taken: scan_source(tool("bandit"), taken.context, now),
    "detect-secrets": lambda taken: find_secrets(tool("detect-secrets"), taken.context, now),
}


@pytest.fixture(scope="module")
def take(toolbox: Toolbox) -> Iterator[Callable[[Path], Snapshot]]:
    """A function that takes a snapshot of a directory, one for all checks, which only read it."""
    find_excluded = BuildKitReader(toolbox.find("dockerfile-reader")).find_excluded
    with ExitStack() as snapshots:
        yield cache(lambda path: snapshots.enter_context(take_snapshot(path, None, find_excluded)))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("path", UNBUILT, ids=name)
def test_unbuilt_bases_pass_the_static_checks(take: Callable[[Path], Snapshot], path: Path, check: str) -> None:
    """Whoever builds one of them starts from a Dockerfile that the intake gate admits."""
    assert CHECKS[check](take(path)).outcome is Outcome.PASSED


@pytest.mark.parametrize("check", CHECKS)
def test_project_passes_its_own_static_checks(take: Callable[[Path], Snapshot], check: str) -> None:
    """The project keeps the rules of its intake gate."""
    assert CHECKS[check](take(ROOT)).failed == ()


def test_hadolint_is_ended_at_its_memory_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is not made, and the gate has no result to accept."""
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\n" + "ENV A=1\n" * 80_000)
    monkeypatch.setattr(hadolint, "MEMORY", 64 * MIB)

    with pytest.raises(CheckIncomplete, match="hadolint ended with status"):
        lint_dockerfile(tool("hadolint"), dockerfile, now)


def generator(toolbox: Toolbox) -> syft.Syft:
    return syft.Syft(toolbox.find("syft"), "registry.test", nowhere, examine=lambda _: (Examination(), PackagedFiles()))


def test_syft_is_ended_at_its_memory_limit(toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No SBOM is made from what it had read until then."""
    locked(tmp_path, 1000)
    monkeypatch.setattr(syft, "MEMORY", 64 * MIB)

    with pytest.raises(ScannerFailed, match="syft made no complete SBOM"):
        generator(toolbox).make_directory_sbom(tmp_path)


def test_source_with_too_many_packages_has_no_sbom(
    toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each package costs time at every gate that reads it."""
    locked(tmp_path, 51)
    monkeypatch.setattr(syft, "MAX_PACKAGES", 50)

    with pytest.raises(ScannerFailed, match="has 51 packages, and more than 50 are not judged"):
        generator(toolbox).make_directory_sbom(tmp_path)


def locked(directory: Path, packages: int) -> None:
    """Write a file that locks this many Python packages."""
    (directory / "requirements.txt").write_text("".join(f"package-{n}==1.0\n" for n in range(packages)))
