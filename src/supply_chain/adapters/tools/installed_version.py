"""Determines the versions of installed programs, once per file."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import threading
from pathlib import Path

from supply_chain.adapters.process.command import run
from supply_chain.adapters.tools.pins import Pin
from supply_chain.errors import ToolMissing, ToolTimedOut

VERSION_TIMEOUT = 30.0


class Versions:
    """Versions that programs reported, stored in a file by the program's path, modification time and size."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()

    def find_version(self, name: str, pin: Pin, program: Path) -> str | None:
        """Return the program's version, or None if it reports none that can be read."""
        state = program.stat()
        key = f"{program}:{state.st_mtime_ns}:{state.st_size}:{pin.version_pattern}"
        versions = self._read()
        if key not in versions:
            versions[key] = read_version(name, pin, program)
            self._store(key, versions[key])
        return versions[key]

    def _read(self) -> dict[str, str | None]:
        """Return what is stored; treat a file that cannot be read as empty, because it can be created again."""
        try:
            content = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _store(self, key: str, version: str | None) -> None:
        """Add a version to the file; if it cannot be written (a read-only home), the program is asked again later."""
        with self._lock, contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".versions-", dir=self._file.parent)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({**self._read(), key: version}, file, indent=1)
            Path(name).replace(self._file)


def read_version(name: str, pin: Pin, program: Path) -> str | None:
    """Run the program and return its version; None if it cannot be run or reports none that can be read."""
    try:
        done = run([str(program), *pin.version_args], name=name, timeout=VERSION_TIMEOUT, quiet=True)
    except (ToolMissing, ToolTimedOut):  # the file exists, but this machine cannot run it
        return None
    match = re.search(pin.version_pattern, done.stdout + done.stderr, re.MULTILINE)
    return match.group(1) if match and done.status == 0 else None
