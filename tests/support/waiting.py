"""Waiting for what comes by itself."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

PATIENCE = 300.0
"""Seconds after which something will never come, on the busiest machine."""
PAUSE = 0.1
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody; for servers without TLS. To read the machine's authorities takes 25 ms for each client."""


def eventually(holds: Callable[[], Any], seconds: float = PATIENCE, describe: Callable[[], object] = lambda: "") -> Any:
    """What `holds` gives once it gives something; what takes long to ask is asked less often."""
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if found := holds():
            return found
        now = time.monotonic()
        assert now < deadline, f"not within {seconds:g} s: {describe()}"
        time.sleep(min(max(PAUSE, now - began), deadline - now))


def until_ready(emulator: subprocess.Popen[bytes], host: str, log: Path) -> None:
    """Wait until an emulator answers that was started just now."""

    def ready() -> bool:
        assert emulator.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://{host}/_cscm/health", trust_env=False, verify=PLAIN).status_code == 200
        return False

    eventually(ready, describe=log.read_text)
