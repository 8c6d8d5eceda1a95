"""Programs that the tests compile, as `cscm` builds its own: what Go has compiled for those is not compiled again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -trimpath -gcflags=all=-dwarf=false"}


def go_build(source: Path, target: Path, **environment: str) -> None:
    """Compile the program in a directory into `target`, with further variables of Go."""
    words = ["go", "build", "-ldflags", "-s -w", "-o", str(target), "."]
    subprocess.run(words, cwd=source, env={**os.environ, **ENVIRONMENT, **environment}, check=True, timeout=300)
