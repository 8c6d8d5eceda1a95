"""Memory of the engine's own process while it builds.

BuildKit runs `COPY`, `ADD` and the export inside of the engine, where the control group of the build's steps does not
count them.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from supply_chain.development.separation import BuildLimits
from supply_chain.errors import EngineUnavailable
from supply_chain.text import format_mebibytes

PROC = Path("/proc")
AVAILABLE = 0.05
"""Fraction of the machine's memory that has to stay available."""
CREDENTIALS = struct.Struct("3i")
"""Process, user and group of a socket's other side (`struct ucred`, unix(7))."""


@dataclass
class EngineMemory:
    """Compares the engine's memory with that of the first measurement, and the machine's with what has to stay.

    The engine works for all builds at once: each other running build may use a build's memory there.
    """

    process: int
    """Id of the engine's process on this machine."""
    limits: BuildLimits
    builds: Callable[[], int] = lambda: 1
    """Returns the number of running builds, with or without this one; 0 counts as 1."""
    proc: Path = PROC
    _first: int | None = field(default=None, init=False)

    def check_limits(self) -> str:
        """Return the limit that is exceeded now, as a clause of a sentence; empty if none.

        Nothing is exceeded once the engine has ended: its client tells that. Raises `OSError` or `ValueError` if the
        kernel does not provide the numbers.
        """
        machine = self.proc / "meminfo"
        available, total = _read_bytes(machine, "MemAvailable"), _read_bytes(machine, "MemTotal")
        if available < AVAILABLE * total:
            left = format_mebibytes(available)
            return f"only {left} of this machine's memory are available, and {AVAILABLE:.0%} have to be"
        try:
            used = _read_bytes(self.proc / str(self.process) / "status", "RssAnon")
        except (FileNotFoundError, ProcessLookupError):
            return ""
        self._first = used if self._first is None else min(self._first, used)
        if used - self._first <= self.limits.memory:
            return ""
        most = self.limits.memory * max(1, self.builds())
        if used - self._first <= most:
            return ""
        return f"the engine's own memory grew by more than {format_mebibytes(most)} since it began (COPY, ADD, export)"


def _read_bytes(file: Path, name: str) -> int:
    """Return a number of kibibytes in a file of `/proc`, in bytes."""
    match = re.search(rf"^{name}:\s+(\d+) kB$", file.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
    if not match:
        raise ValueError(f"{file} has no {name}")
    return int(match[1]) * 1024


def find_engine_process(address: str, proc: Path = PROC) -> int | None:
    """Return the process that listens on a Unix socket (`unix://…`); None if it cannot be seen from here.

    A socket that systemd opened belongs to systemd (process 1). The engine is then found by its name. Raises
    `EngineUnavailable` if it cannot be reached.
    """
    try:
        listener = _read_listener(f"/{address.removeprefix('unix://').lstrip('/')}")
    except OSError as error:
        raise EngineUnavailable(
            f"The engine at {address} could not be reached: {error}\n"
            "Check that it runs (`cscm doctor`) and that this user may use its socket."
        ) from error
    if listener > 1:
        return listener
    engines = [each for each in proc.glob("[0-9]*/comm") if _read_name(each) == "dockerd"]
    return int(engines[0].parent.name) if listener == 1 and len(engines) == 1 else None


def _read_listener(path: str) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(path)
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return int(CREDENTIALS.unpack(credentials)[0])  # 0 if the process is in another namespace


def _read_name(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # it has ended
        return ""
