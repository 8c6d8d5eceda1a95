"""`python -I -S warmly.py SOCKET`: run `orchestration.flow_run` in a process that has imported everything already.

The command of the laptop's work pool. It asks the warm process for a copy of itself, hands its environment,
directory and output over, passes signals on, and ends as the copy ends. Where there is no warm process, or it
is of other code or other settings, this becomes `python -m orchestration.flow_run` itself, as without it.

It imports the standard library's smallest parts alone: its own start is part of what it makes shorter.
"""

import json
import os
import signal
import socket
import sys
from contextlib import suppress

COLD = [sys.executable, "-m", "orchestration.flow_run"]


def main(path: str) -> int:
    """The status of the run, or none, where this process becomes the run."""
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
        said = lines.readline().split()
        connection.settimeout(None)
    except OSError:
        said = []
    if len(said) != 2 or said[0] != "pid":
        os.execv(COLD[0], COLD)  # noqa: S606 # nosec B606 - no shell is wanted
    run = int(said[1])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: _pass_on(run, number))
    status = int((lines.readline().split() or ["", "1"])[1])  # without a word it did not end well
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _pass_on(run: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(run, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
