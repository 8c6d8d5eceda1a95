"""Check for user namespaces, which mmdebstrap needs if the user is not root."""

from __future__ import annotations

import getpass
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from supply_chain.errors import ToolMissing

RANGES = (Path("/etc/subuid"), Path("/etc/subgid"))


def list_own_missing_mappings() -> list[str]:
    """Return what this user lacks to map other user ids; nothing for root."""
    return [] if os.geteuid() == 0 else list_missing_mappings(getpass.getuser(), RANGES)


def list_missing_mappings(name: str, ranges: Iterable[Path]) -> list[str]:
    """Return what a user lacks to map other user ids: newuidmap(1), or a range in subuid(5) or subgid(5)."""
    missing = [] if shutil.which("newuidmap") else ["newuidmap"]
    entries = ((file, file.read_text(encoding="utf-8").splitlines() if file.is_file() else []) for file in ranges)
    return missing + [
        f"range in {file}" for file, lines in entries if not any(line.startswith(f"{name}:") for line in lines)
    ]


def explain_missing_mappings() -> tuple[str, str] | None:
    """Return what this user lacks, in words, and an administrator's remedy; None if nothing is missing."""
    missing = list_own_missing_mappings()
    if not missing:
        return None
    ranges = f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {getpass.getuser()} (a range nobody has)"
    remedy = "apt-get install uidmap" if missing[:1] == ["newuidmap"] else ranges
    return f"no {', no '.join(missing)}", f"as root: {remedy}"


def require() -> None:
    """Raise `ToolMissing` if no base can be made on this machine, before minutes are spent on other parts."""
    if reason := explain_missing_mappings():
        lack, remedy = reason
        raise ToolMissing(
            "The base images are made with mmdebstrap, which without root needs user namespaces, and there is "
            f"{lack}.\nDo this {remedy}. Then run this again."
        )
