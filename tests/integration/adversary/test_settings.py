"""Environment variables of the process that starts a run: they must not hide packages or findings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cscm_laptop.home import Home
from supply_chain.adapters.tools import Toolbox
from tests.support.command import ROOT

pytestmark = pytest.mark.real
LOOK = """
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.vulndb import make_grype_environment, has_distribution, read_database
from supply_chain.adapters.tools.grype import Grype
from supply_chain.adapters.tools.syft import Syft

source, database, syft, grype = map(Path, sys.argv[1:])
about = read_database(database).facts
sbom = Syft(Tool("syft", syft, "1"), "nowhere", nullcontext, examine=None).make_directory_sbom(source)
report = Grype(Tool("grype", grype, "1"), make_grype_environment(database), lambda: about,
               lambda it: has_distribution(database, it), lambda: datetime.now(UTC)).scan(sbom)
print(sbom.packages, *sorted(f"{each.id} {each.package}" for each in report.findings), sep="\\n")
"""


def test_tool_settings_in_the_environment_hide_no_finding(home: Home, toolbox: Toolbox, tmp_path: Path) -> None:
    """The worker's environment is not recorded in arguments, cache keys or evidence."""
    status = tmp_path / "source/var/lib/dpkg/status.d/perl"
    status.parent.mkdir(parents=True)
    status.write_text(
        "Package: perl\nStatus: install ok installed\nVersion: 5.30.0-1\nArchitecture: amd64\nMaintainer: nobody\n"
        "Description: nothing\n"
    )
    release = tmp_path / "source/etc/os-release"
    release.parent.mkdir()
    release.write_text('ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n')
    (tmp_path / "source/requirements.txt").write_text("django==3.2.3\n")
    tools = [toolbox.find(name).path for name in ("syft", "grype")]

    def found(**more: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", LOOK, tmp_path / "source", home.database, *tools],
            env={**os.environ, **more}, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300,
        ).stdout  # fmt: skip

    plain = found()

    assert plain.startswith("2\n") and " perl" in plain and " django" in plain
    assert found(GRYPE_DISTRO="alpine:3.18", GRYPE_BY_CVE="true", SYFT_EXCLUDE="./requirements.txt") == plain
