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
ANSWER = 10.0
"""Seconds in which the prefork server has to answer. Afterwards, nothing that it was asked for begins."""
GO = b"go\n"
"""What the client sends, with its input and output, once the server has answered."""
STATUS = ("Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp:", "Cpus_allowed:")
"""Lines of /proc/self/status that say what a process may do (proc_pid_status(5))."""
NAMESPACES = ("ipc", "mnt", "net", "pid", "time", "user", "uts")


def main(path: str) -> int:
    """Return the status of the flow run; does not return if this process becomes the flow run itself."""
    status = run(path, FLOW_RUN, ["prefect.engine"])
    if status is None:
        os.execv(COLD[0], COLD)  # noqa: S606 # nosec B606 - no shell is wanted
    return status


def run(path: str, function: str, words: list[str]) -> int | None:
    """Run a function (`module:name`) with the words of a command line in a fork; return the status of the fork.

    The fork has the environment, directory, input and output of this process, and gets SIGTERM, SIGINT, SIGHUP and
    SIGTSTP from it. This process ends as the fork does. Returns None, and nothing has run, if no prefork server of the
    same user answers, or if it has other code, settings or rights.
    """
    try:
        for number in (0, 1, 2):
            os.fstat(number)  # raises if it is closed: the next file would take its place
        request = {
            "function": function,
            "words": words,
            "environment": dict(os.environ),
            "directory": os.getcwd(),  # noqa: PTH109 - pathlib takes longer than all the rest
            "code": describe_code(__file__),
            "process": describe_process(),
            "mask": _read_mask(),
            "nice": os.nice(0),
        }
        connection = _ask(path, json.dumps(request).encode())
        lines = connection.makefile("r", encoding="ascii")
        if lines.readline() != "ready\n":
            connection.close()
            return None
    except OSError:
        return None
    connection.settimeout(None)
    runs: list[int] = []
    _forward_signals(runs)
    try:
        socket.send_fds(connection, [GO], [0, 1, 2])
        runs.append(int(lines.readline()))
        status = int(lines.readline())
    except (OSError, ValueError):
        sys.stderr.write("The process that ran this is gone: see log/prefork.log in the directory of the laptop.\n")
        return 1
    if status < 0:
        with suppress(OSError):  # SIGKILL cannot be set
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _ask(path: str, request: bytes) -> socket.socket:
    """Send a request; raise `OSError` if the server is not this user's."""
    directory, name = os.path.split(path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(ANSWER)
        handle = os.open(directory, os.O_RDONLY)
        try:
            connection.connect(f"/proc/self/fd/{handle}/{name}")  # a socket's name may be 107 bytes long (unix(7))
        finally:
            os.close(handle)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)  # pid, uid and gid (unix(7))
        if int.from_bytes(credentials[4:8], sys.byteorder) != os.geteuid():
            raise PermissionError("another user serves this socket")
        connection.sendall(len(request).to_bytes(4, "big") + request)
    except OSError:
        connection.close()
        raise
    return connection


def describe_code(file: str) -> list[str]:
    """Return the interpreter, and the directory of a file of this package."""
    return [sys.executable, os.path.dirname(os.path.realpath(file))]  # noqa: PTH120 - pathlib takes longer


def describe_process() -> list[str]:
    """Return what a fork has from the prefork server: rights, limits, namespaces except for cgroups, and root."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123 - as above
        rights = [line for line in status if line.startswith(STATUS)]
    with open("/proc/self/limits", encoding="ascii") as limits:  # noqa: PTH123
        rights += limits
    namespaces = [os.readlink(f"/proc/self/ns/{each}") for each in NAMESPACES]  # noqa: PTH115
    root = os.stat("/")  # noqa: PTH116
    return [*rights, *namespaces, f"{root.st_dev} {root.st_ino}"]


def _read_mask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _forward_signals(runs: list[int]) -> None:
    """Let the signals that end or stop this process reach the fork too, except those that this process ignores.

    `runs` has the fork's process id once it is known; until then, a signal ends this process, and so the fork.
    """

    def end(number: int, _: object) -> None:
        if not runs:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        with suppress(ProcessLookupError):
            os.kill(runs[0], number)

    def stop(number: int, _: object) -> None:
        with suppress(ProcessLookupError, IndexError):
            os.kill(runs[0], signal.SIGSTOP)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # the kernel ignores it where nobody could continue this process
        signal.signal(number, stop)
        with suppress(ProcessLookupError, IndexError):
            os.kill(runs[0], signal.SIGCONT)

    handlers = {signal.SIGTERM: end, signal.SIGINT: end, signal.SIGHUP: end, signal.SIGTSTP: stop}
    for number, handler in handlers.items():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
