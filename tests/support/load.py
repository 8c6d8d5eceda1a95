"""Requests at a fixed rate from a network namespace, each counted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

RATE = 200
"""Requests per second."""
ENDS = 60.0
"""Seconds for the last answers."""


@dataclass
class Load:
    """What a client saw, once it has ended."""

    sent: int = 0
    seconds: float = 0.0
    late: float = 0.0
    """The most seconds by which a request began late."""
    failed: list[str] = field(default_factory=list)
    """When each request that failed began, and why."""

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.sent / self.seconds


@contextmanager
def send_requests(program: Path, process: int, url: str) -> Iterator[Load]:
    """Send requests during the block with the compiled client, from the network namespace of a process."""
    words = ["nsenter", f"--net=/proc/{process}/ns/net", str(program), url, str(RATE)]
    load = Load()
    client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert client.stdout and client.stdout.readline() == b"begun\n"
        yield load
    finally:
        output, _ = client.communicate(timeout=ENDS)
    vars(load).update(json.loads(output))
