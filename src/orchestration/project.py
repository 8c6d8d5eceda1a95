"""Finds the project: the clone with `prefect.yaml`, `deployments/` and `bases/`, in which every command runs."""

from __future__ import annotations

from pathlib import Path

from supply_chain.errors import SettingInvalid

MARKER = Path("deployments/profiles/laptop.yaml")


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
