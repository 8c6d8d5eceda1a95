"""Runs `cscm` as forks of one process that has imported all of it: `python -m tests.support.prefork DESCRIPTOR`.

A command spends seconds on imports before its first line. A fork of this process has them already, as the runs of the
laptop's pool have (`orchestration.prefork_server`). Each command is still its own process, with its own environment,
directory, output and status.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

LARGEST = 128 * 1024
"""Bytes of one request; a packet of a socket may have about 200 KiB."""
READY = b"ready"


class Prefork:
    """The process that is forked, as the process sees it that asks for commands."""

    def __init__(self, environment: Mapping[str, str], directory: Path) -> None:
        """Start it; it ends with this process. Raises `AssertionError` if its imports fail."""
        self._control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = [sys.executable, "-m", "tests.support.prefork", str(other.fileno())]
        with other, tempfile.TemporaryFile() as log:
            self._process = subprocess.Popen(
                words, cwd=directory, env=dict(environment), pass_fds=[other.fileno()], start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
            other.close()
            self._control.settimeout(120)
            assert self._control.recv(LARGEST) == READY, _content(log)
        self._control.settimeout(None)

    def run(
        self, words: Sequence[str], environment: Mapping[str, str], directory: Path, timeout: float
    ) -> tuple[int, str, str]:
        """Run a command to its end; return status, standard output and standard error."""
        asked = json.dumps({"words": list(words), "environment": dict(environment), "directory": str(directory)})
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            status = self._wait(asked.encode(), [stdout.fileno(), stderr.fileno()], timeout)
            assert status is not None, f"{' '.join(words)} did not end within {timeout:g} s:\n{_content(stderr)}"
            return status, _content(stdout), _content(stderr)

    def _wait(self, asked: bytes, outputs: list[int], timeout: float) -> int | None:
        """Start a command and return its status when it has ended.

        The command is killed if it has not ended in time, which returns None, or if this process stops waiting.
        """
        reading, report = os.pipe()
        with os.fdopen(reading, "rb", 0) as lines:
            try:
                socket.send_fds(self._control, [asked], [*outputs, report])
            finally:
                os.close(report)
            pid, ended = int(lines.readline()), False
            try:
                ended = bool(select.select([lines], [], [], timeout)[0])
            finally:
                if not ended:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            return int(lines.readline()) if ended else None

    def close(self) -> None:
        """End it."""
        self._control.close()
        self._process.wait(30)


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def serve(control: socket.socket) -> int:
    """Fork for each request until the other end is closed; in a fork, return the status of its command."""
    from cscm.main import MODULES  # noqa: PLC0415 - as the command, before Prefect is imported
    from cscm.session import use_prefect  # noqa: PLC0415
    from orchestration.prefork_server import IMPORTED, preload  # noqa: PLC0415

    use_prefect()
    preload((*IMPORTED, *(f"cscm.{each}" for each in MODULES), "cscm.rendering", "orchestration.run_tags"))
    names = [thread.name for thread in threading.enumerate()]
    assert len(names) == 1, f"a process with threads cannot be forked: {names}"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing waits here for the sessions
    control.send(READY)
    while True:
        content, outputs, _, _ = socket.recv_fds(control, LARGEST, 3)
        if not content:
            return 0
        if os.fork() == 0:
            control.close()
            return _session(json.loads(content), outputs)
        for each in outputs:
            os.close(each)


def _session(asked: Mapping[str, object], outputs: Sequence[int]) -> int:
    """Run a command in another fork, and report its process and then its status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    stdout, stderr, report = outputs
    run = os.fork()
    if run == 0:
        os.close(report)
        return _run(asked, [stdout, stderr])
    for each in (stdout, stderr):
        os.close(each)
    with contextlib.suppress(OSError):  # the one who asked is gone
        os.write(report, f"{run}\n".encode())
    status = os.waitstatus_to_exitcode(os.waitpid(run, 0)[1])
    with contextlib.suppress(OSError):
        os.write(report, f"{status}\n".encode())
    os._exit(0)


def _run(asked: Mapping[str, object], outputs: Sequence[int]) -> int:
    """Become the command; return its status."""
    from cscm.main import main  # noqa: PLC0415 - imported before
    from orchestration.prefork_server import become, exit_status  # noqa: PLC0415

    words, environment = asked["words"], asked["environment"]
    assert isinstance(words, list) and isinstance(environment, dict)
    become(["cscm", *words], environment, str(asked["directory"]), outputs)
    try:
        main(args=words, prog_name="cscm")
    except SystemExit as ended:
        return exit_status(ended)
    return 0


if __name__ == "__main__":
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1]))))
