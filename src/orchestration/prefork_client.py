"""Runs a function of the project in a fork that has imported everything.

As a program, `python -I -S prefork_client.py SOCKET`, it is the command of the laptop's work pool: it asks the prefork
server for a fork that runs `orchestration.flow_run`. The command `cscm` asks for a fork in the same way.

It imports only the smallest parts of the standard library, because its own start is part of the time to save.
"""

import json
import os
import signal
import socket
import sys
from contextlib import suppress

FLOW_RUN = "orchestration.flow_run:main"
COLD = [sys.executable, "-m", "orchestration.flow_run"]


def main(path: str) -> int:
    """Return the status of the flow run; does not return if this process becomes the flow run itself."""
    status = run(path, FLOW_RUN, ["prefect.engine"])
    if status is None:
        os.execv(COLD[0], COLD)  # noqa: S606 # nosec B606 - no shell is wanted
    return status


def run(path: str, function: str, words: list[str]) -> int | None:
    """Run a function (`module:name`) with the words of a command line in a fork; return the status of the fork.

    The fork has the environment, directory, input and output of this process and gets its signals; this process ends as
    the fork does. Returns None if no prefork server answers, or if it has other code or settings.
    """
    asked = json.dumps(
        {
            "function": function,
            "words": words,
            "environment": dict(os.environ),
            "directory": os.getcwd(),  # noqa: PTH109 - pathlib takes longer than all the rest
            "like": describe_process(__file__),
            "mask": _read_mask(),
            "nice": os.nice(0),
        }
    ).encode()
    directory, name = os.path.split(path)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(5)
        handle = os.open(directory, os.O_RDONLY)
        connection.connect(f"/proc/self/fd/{handle}/{name}")  # a socket's name may be 107 bytes long (unix(7))
        os.close(handle)
        socket.send_fds(connection, [len(asked).to_bytes(4, "big")], [0, 1, 2])
        connection.sendall(asked)
        lines = connection.makefile("r", encoding="ascii")
        answer = lines.readline().split()
        connection.settimeout(None)
    except OSError:
        return None
    if len(answer) != 2 or answer[0] != "pid":
        return None
    _forward_signals(int(answer[1]))
    status = int((lines.readline().split() or ["", "1"])[1])  # without an answer, the run did not end well
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def describe_process(file: str) -> list[str]:
    """Return what a fork shares with the prefork server: interpreter, code, and what the kernel shows of the machine.

    `file` is a file of this package.
    """
    code = os.path.dirname(os.path.realpath(file))  # noqa: PTH120 - pathlib takes longer
    namespaces = [os.readlink(f"/proc/self/ns/{each}") for each in ("mnt", "net", "pid", "user")]  # noqa: PTH115 - too
    return [sys.executable, code, *namespaces]


def _read_mask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _forward_signals(run: int) -> None:
    """Let the signals that end or stop this process reach the fork too, except those that this process ignores."""

    def end(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(run, number)

    def stop(_number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(run, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
            os.kill(run, signal.SIGCONT)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
    if signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
        signal.signal(signal.SIGTSTP, stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
