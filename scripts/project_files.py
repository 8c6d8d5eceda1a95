"""The files of the project, as the checks of words read them."""

from __future__ import annotations

import subprocess
from pathlib import Path


def list_files(root: Path, *patterns: str) -> list[str]:
    """Return the files below a directory that git tracks or would add, relative to it and sorted."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return sorted(name for name in set(listed.split("\0")) if name and (root / name).exists())
