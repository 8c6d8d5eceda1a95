"""Finds the project: the clone with `prefect.yaml`, `deployments/` and `bases/`, in which every command runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from supply_chain.errors import SettingInvalid

MARKER = Path("deployments/profiles/laptop.yaml")
HOME, PROJECT = "CSCM_HOME", "CSCM_PROJECT"
TOOLS = "tools"
"""Directory of downloaded and built tools, in the home."""
PREFORK_SOCKET = Path("run/prefork.sock")
"""Where the laptop's prefork server listens, in the home."""


def find_project(start: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the root of the project: the one around `start`, or that CSCM_PROJECT names, or the checkout of this code.

    Only code that is installed without a checkout takes the project around the working directory: that may be a source
    whose files must not decide which programs run. Raises `SettingInvalid` if there is no project.
    """
    checkout, chosen = Path(__file__).resolve().parents[2], environ.get(PROJECT)
    if start is None and chosen:
        return _require_marker(Path(chosen).expanduser().absolute())
    if start is None and (checkout / MARKER).is_file():
        return checkout
    start = (start or Path.cwd()).resolve()
    for candidate in (start, *start.parents, checkout):
        if (candidate / MARKER).is_file():
            return candidate
    raise SettingInvalid(
        f"No supply chain project around {start}: there is no {MARKER}.\n"
        f"Run this inside a clone of the project, or set {PROJECT} to one."
    )


def _require_marker(project: Path) -> Path:
    if not (project / MARKER).is_file():
        raise SettingInvalid(f"{PROJECT} names {project}, which has no {MARKER}.\nSet it to a clone of the project.")
    return project


def find_home(project: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of all state on this machine: `.cscm` in the project, unless CSCM_HOME names another."""
    chosen = environ.get(HOME)
    return Path(chosen).expanduser().absolute() if chosen else project / ".cscm"
