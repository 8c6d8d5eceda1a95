"""Finds the project: the clone with `prefect.yaml`, `deployments/` and `bases/`, in which every command runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from supply_chain.errors import SettingInvalid

MARKER = Path("deployments/profiles/laptop.yaml")
HOME = "CSCM_HOME"
TOOLS = "tools"
"""Directory of downloaded and built tools, in the home."""


def find_project(start: Path | None = None) -> Path:
    """Return the root of the project around `start` (default: the working directory), else of this checkout.

    Raises `SettingInvalid` if there is neither.
    """
    start = (start or Path.cwd()).resolve()
    for candidate in (start, *start.parents, *Path(__file__).resolve().parents[2:3]):
        if (candidate / MARKER).is_file():
            return candidate
    raise SettingInvalid(
        f"No supply chain project around {start}: there is no {MARKER}.\nRun this inside a clone of the project."
    )


def find_home(project: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of all state on this machine: `.cscm` in the project, unless CSCM_HOME names another."""
    chosen = environ.get(HOME)
    return Path(chosen).expanduser().absolute() if chosen else project / ".cscm"
