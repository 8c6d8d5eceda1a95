"""Provides the guardian, a small process that ends our commands when this process is killed.

A kill -9 leaves no time to end anything, and each command leads its own process group, which would live on. This
process tells the guardian about every group. When this process is gone, the guardian sends SIGTERM to the groups that
still run, so that they can clean up, and SIGKILL some seconds later.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator

SCRIPT = r"""
groups=' '
while read -r word group; do
  case $word in
    begun) groups="$groups$group " ;;
    over) groups="${groups%% "$group" *} ${groups#* "$group" }" ;;
  esac
done
[ "$groups" = ' ' ] && exit
for group in $groups; do kill -TERM "-$group"; done
sleep "$1"
for group in $groups; do kill -KILL "-$group"; done
"""

GRACE = 5
"""Seconds that a command has to clean up before it is killed."""


class Guardian:
    """Starts the guardian with the first command, and again if it was ended or in a fork of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._of = 0

    @contextlib.contextmanager
    def guarding(self, group: int) -> Iterator[None]:
        """Have the guardian end the process group if this process ends before the block does."""
        with self._lock:
            self._groups.add(group)
            self._send(f"begun {group}\n")
        try:
            yield
        finally:
            with self._lock:
                self._groups.discard(group)
                self._send(f"over {group}\n")

    def _send(self, word: str) -> None:
        """Write a word to the guardian, or start a new guardian that already knows it."""
        if self._process and self._of == os.getpid():
            with contextlib.suppress(BrokenPipeError):
                _write(self._process, word)
                return
        if self._process and self._process.stdin:
            self._process.stdin.close()
        self._process, self._of = _start(), os.getpid()
        _write(self._process, "".join(f"begun {group}\n" for group in sorted(self._groups)))


def _start() -> subprocess.Popen[bytes]:
    """Start the guardian; it outlives this process for a moment, so it inherits no open files."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", SCRIPT, "cscm-guardian", str(GRACE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        env={"PATH": os.defpath},
        bufsize=0,
    )
    process.returncode = 0  # it ends by itself, and nothing waits for it
    return process


def _write(process: subprocess.Popen[bytes], words: str) -> None:
    assert process.stdin
    process.stdin.write(words.encode())


guardian = Guardian()
"""The guardian of this process."""
