"""Waiting for what comes by itself."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

PATIENCE = 300.0
"""Seconds after which something will never come, on the busiest machine."""


def eventually(holds: Callable[[], Any], seconds: float = PATIENCE, describe: Callable[[], object] = lambda: "") -> Any:
    """What `holds` gives once it gives something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s: {describe()}")


def until_ready(emulator: subprocess.Popen[bytes], host: str, log: Path) -> None:
    """Wait until an emulator answers that was started just now."""

    def ready() -> bool:
        assert emulator.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://{host}/_cscm/health", trust_env=False).status_code == 200
        return False

    eventually(ready, describe=log.read_text)
