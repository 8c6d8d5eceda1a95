"""Copies of the project, from which benchmarks build an example."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1]
EXAMPLE = "examples/hello"


@contextlib.contextmanager
def copied() -> Iterator[Path]:
    """Yield a clone of the project with the same origin, so that the example counts as the same application."""
    with tempfile.TemporaryDirectory(prefix="cscm-bench-") as place:
        copy = Path(place) / PROJECT.name
        subprocess.run(["git", "clone", "-q", str(PROJECT), str(copy)], check=True)
        origin = subprocess.run(
            ["git", "-C", str(PROJECT), "config", "remote.origin.url"], capture_output=True, text=True, check=False
        ).stdout.strip()
        changed = ["set-url", "origin", origin] if origin else ["remove", "origin"]
        subprocess.run(["git", "-C", str(copy), "remote", *changed], check=True)
        yield copy
