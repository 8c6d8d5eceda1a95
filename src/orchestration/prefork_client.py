"""Runs `orchestration.flow_run` in a fork that has imported everything: `python -I -S prefork_client.py SOCKET`.

This is the command of the laptop's work pool. It asks the prefork server for a fork, hands over its environment,
directory and output, passes signals on, and ends as the fork ends. If there is no prefork server, or it has other code
or settings, this process becomes `python -m orchestration.flow_run` itself.

It imports only the smallest parts of the standard library, because its own start is part of the time to save.
"""

import json
import os
import signal
import socket
import sys
from contextlib import suppress

COLD = [sys.executable, "-m", "orchestration.flow_run"]


def main(path: str) -> int:
    """Return the status of the run; does not return if this process becomes the run itself."""
    here = os.getcwd()  # noqa: PTH109 - pathlib takes longer than all the rest
    asked = json.dumps({"environment": dict(os.environ), "directory": here}).encode()
    directory, name = os.path.split(path)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(5)
        handle = os.open(directory, os.O_RDONLY)
        connection.connect(f"/proc/self/fd/{handle}/{name}")  # a socket's name may be 107 bytes long (unix(7))
        os.close(handle)
        socket.send_fds(connection, [len(asked).to_bytes(4, "big")], [1, 2])
        connection.sendall(asked)
        lines = connection.makefile("r", encoding="ascii")
        answer = lines.readline().split()
        connection.settimeout(None)
    except OSError:
        answer = []
    if len(answer) != 2 or answer[0] != "pid":
        os.execv(COLD[0], COLD)  # noqa: S606 # nosec B606 - no shell is wanted
    run = int(answer[1])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: _forward_signal(run, number))
    status = int((lines.readline().split() or ["", "1"])[1])  # without an answer, the run did not end well
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _forward_signal(run: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(run, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
