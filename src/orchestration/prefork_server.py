"""Imports Prefect and the flows once, and starts each run as a fork: `python -m orchestration.prefork_server SOCKET`.

A run, or a command of `cscm`, that starts by itself spends seconds on imports before its first line. A fork of this
process has the imports already; `prefork_client.py` asks for it. Each is still its own process, with its own
environment, directory, input, output, signals and status, and it ends with the process that asked for it. If code or
settings changed since this process started, or are not those of the one that asks, it answers `cold`, and the run
starts by itself. After a change of code this process replaces itself.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import json
import logging
import os
import pkgutil
import select
import signal
import socket
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

import orchestration
from orchestration.prefork_client import ANSWER, FLOW_RUN, GO, describe_code, describe_process
from orchestration.project import find_project
from supply_chain.adapters.aws.session import read_descriptions
from supply_chain.adapters.process.command import inherit_environment
from supply_chain.errors import SupplyChainError
from supply_chain.policy.loading import read_project_policies

FLOWS = (
    "chain", "build", "curate", "deploy", "monitor", "bases", "promote", "catch_up", "respond", "isolate", "inventory",
    "lifecycle", "daily_report", "rescan", "image_decisions", "sweep", "policy", "verdicts", "break_glass", "vex",
)  # fmt: skip
IMPORTED = (
    "prefect.main", "prefect.engine", "prefect.flow_engine", "prefect.task_engine", "prefect.events.clients",
    "prefect.concurrency.asyncio", "prefect._internal.metrics", "prefect.logging.handlers", "prefect.deployments.steps",
    "prefect.results", "prefect.client.orchestration", "prefect.artifacts", "prefect.utilities.visualization",
    "fastapi.encoders", "anyio._backends._asyncio", "rich._emoji_codes", "orchestration.registration",
    "cryptography.hazmat.backends.openssl", "supply_chain.adapters.database.preview",
    "cscm.main", "cscm.fleet", "cscm.lifecycle", "cscm.rendering", *(f"flows.{name}" for name in FLOWS),
)  # fmt: skip
"""The modules that a run or a command would import."""
SERVICES = ("ecr", "kms", "sqs", "sts")
"""The services of AWS that runs call."""
CODE = ("supply_chain", "orchestration", "cscm", "flows", "tasks", "blocks")
"""Packages of the project: a run that was forked before one of them changed would be one of the old code."""
GRACE = 30.0
"""Seconds that a run has to end after the process that asked for it is gone."""
LARGEST = 4 * 1024 * 1024
SETTINGS = ("CSCM_HOME", "CSCM_PROJECT", "CSCM_PROFILE")
"""Variables that choose the project, its state and its profile."""
FOUND = {
    *("CSCM_HOME", "CSCM_PROJECT", "PYTHONPATH", "PYTHONUNBUFFERED"),
    *("PREFECT_CLI_COLORS", "PREFECT_CLI_PROMPT"),
}
"""Variables that the laptop sets for its parts. A command finds project, state and code by itself, and does not use
Prefect's command line.
"""
FILES = ("pyproject.toml", "prefect.toml", ".env")
"""Files of the project from which Prefect reads settings."""
PR_SET_PDEATHSIG = 1


@dataclass
class ForkEnd:
    """Ends a fork as soon as what has to run at its end has run, without freeing its memory.

    That takes a fifth of a second: it copies all that the fork shares with the server. `atexit` calls this after
    everything that the run and its imports registered. What this module's own imports registered is left out, but for
    the end of the logs: it waits for processes of `multiprocessing`, which end before their step does. `status` is None
    in a process that ends as usual.
    """

    status: int | None = None

    def __call__(self) -> None:
        """End the process, if it has a status and its output can be written."""
        if self.status is None:
            return
        logging.shutdown()
        with contextlib.suppress(OSError, ValueError):  # Python reports it after this
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.status)


def main(path: Path) -> int:
    """Serve until ended; in a fork, return the status of its run.

    Returns 1 at once if the imports started threads, because then it cannot fork safely.
    """
    end = ForkEnd()
    atexit.register(end)
    code = compute_fingerprint()  # before the imports: they take seconds, in which a file may change
    _read_policies()
    preload(IMPORTED)
    settings = Settings(select_settings(os.environ), select_settings(_worker_environment(os.environ)))
    if threading.active_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate())
        print(f"the imports started threads ({names}): runs start without this process", file=sys.stderr, flush=True)
        return 1
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the session reports to the client; nothing waits here
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        directory = os.open(path.parent, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{directory}/{path.name}")  # a socket's name may be 107 bytes long (unix(7))
        os.close(directory)
        path.chmod(0o600)
        listening.listen(64)
        print("ready", file=sys.stderr, flush=True)
        while True:
            connection, _ = listening.accept()
            changed = compute_fingerprint() != code
            if os.fork() == 0:
                listening.close()
                end.status = serve_session(connection, settings, changed)
                return end.status
            connection.close()
            if changed:
                os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - this very program


def preload(modules: Iterable[str]) -> None:
    """Import modules, and do what each run would do first: build Prefect's data models, read AWS's descriptions.

    Forks then do not look for garbage in what this process has, and so copy less of it.
    """
    for name in modules:
        importlib.import_module(name)
    for model in _subclasses(BaseModel):
        if not model.__pydantic_complete__:  # Prefect leaves that to the first use of each
            model.model_rebuild(raise_errors=False)
    read_descriptions(SERVICES)
    gc.collect()
    gc.freeze()


def _subclasses(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for each in model.__subclasses__():
        yield each
        yield from _subclasses(each)


def _read_policies() -> None:
    """Check the policies of the project, so that a fork need not, unless they have changed."""
    with contextlib.suppress(SupplyChainError):  # a run says what is wrong
        read_project_policies(find_project())


@dataclass(frozen=True)
class Settings:
    """The settings of this process, which a fork has too."""

    own: Mapping[str, str]
    """By the variables of this process."""
    of_runs: Mapping[str, str]
    """By the variables that a worker would give to a run."""

    def fits_command(self, given: Mapping[str, str]) -> bool:
        """Return whether a command with these variables would have the same settings by itself.

        It sets none of Prefect's, which lets it use the laptop's server, or all of them. The project and its code it
        finds by itself.
        """
        alone = not any(name.startswith("PREFECT_") for name in given)
        lacking = {name for name in self.own.keys() - given.keys() if not (alone and name.startswith("PREFECT_"))}
        return given.items() <= self.own.items() and lacking <= FOUND


@dataclass(frozen=True)
class Request:
    """What a client asks for."""

    function: str
    """The function to run, as `module:name`."""
    words: Sequence[str]
    """The words of the command line, the name of the program included."""
    environment: Mapping[str, str]
    directory: str
    code: Sequence[str]
    """What `describe_code` says of the client."""
    process: Sequence[str]
    """What `describe_process` says of the client."""
    mask: int
    """The mask of the modes of new files (umask(2))."""
    nice: int
    """The nice value (nice(2))."""

    def can_be_forked(self, settings: Settings) -> bool:
        """Return whether a fork of this process is like the process that the client would start."""
        given, code = select_settings(self.environment), describe_code(orchestration.__file__)
        if self.function == FLOW_RUN:
            return self.code == code and given == settings.of_runs
        alike = self.code == code and self.process == describe_process() and self.nice >= os.nice(0)
        return alike and settings.fits_command(given)


def serve_session(connection: socket.socket, settings: Settings, changed: bool) -> int:
    """Serve one run from a process of its own: start it, report its end, and end it when the client is gone.

    Nothing begins before the client, which may have stopped waiting, has answered once more.
    """
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        request = _receive_request(connection)
        if changed or not request.can_be_forked(settings):
            connection.sendall(b"cold\n")
            os._exit(0)
        connection.sendall(b"ready\n")
        answer, descriptors, _, _ = socket.recv_fds(connection, len(GO), 3)
        if answer != GO or len(descriptors) != 3:
            os._exit(0)
    except (OSError, ValueError, TypeError):
        os._exit(0)  # the client starts the run by itself
    connection.settimeout(None)
    run = os.fork()
    if run == 0:
        return _run(connection, request, descriptors)
    for each in descriptors:
        os.close(each)
    with contextlib.suppress(OSError):
        connection.sendall(f"{run}\n".encode())
    status = _wait_until_ended(connection, run)
    with contextlib.suppress(OSError):
        connection.sendall(f"{status}\n".encode())
    os._exit(0)


def _receive_request(connection: socket.socket) -> Request:
    """Return what the client asks for."""
    connection.settimeout(ANSWER)
    size = int.from_bytes(connection.recv(4), "big")
    if not 0 < size <= LARGEST:
        raise ValueError("not what a run sends")
    content = b""
    while len(content) < size:
        part = connection.recv(size - len(content))
        if not part:
            raise ValueError("it went away")
        content += part
    return Request(**json.loads(content))


def _run(connection: socket.socket, request: Request, descriptors: Sequence[int]) -> int:
    """Become the run; return its status."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    connection.close()
    _become(request, descriptors)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    try:
        pkgutil.resolve_name(request.function)()
    except SystemExit as ended:
        return _exit_status(ended)
    return 0


def _become(request: Request, descriptors: Sequence[int]) -> None:
    """Give this fork what the client has: words, environment, directory, input and output."""
    for number, each in enumerate(descriptors):
        os.dup2(each, number)
        os.close(each)
    os.environ.clear()
    os.environ.update(request.environment)
    _open_streams()
    inherit_environment()
    time.tzset()
    tempfile.tempdir = None  # it was found by the environment of the server
    os.umask(request.mask)
    os.nice(max(0, request.nice - os.nice(0)))
    os.chdir(request.directory)
    sys.argv = [*request.words]


def _open_streams() -> None:
    """Open standard input and output as Python does at its start; those of the server have no buffers."""
    encoding, errors = sys.stdout.encoding, (sys.stdout.errors, sys.stdout.errors, sys.stderr.errors)
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    streams = [
        io.TextIOWrapper(
            os.fdopen(number, "wb" if number else "rb", closefd=False),
            encoding,
            errors[number],
            line_buffering=number == 2 or unbuffered or os.isatty(number),
        )
        for number in range(3)
    ]
    sys.stdin, sys.stdout, sys.stderr = streams


def _exit_status(ended: SystemExit) -> int:
    """Return the status with which Python would end a process; print what it would print."""
    if isinstance(ended.code, int) or ended.code is None:
        return ended.code or 0
    sys.stderr.write(f"{ended.code}\n")
    return 1


def _wait_until_ended(connection: socket.socket, run: int) -> int:
    """Return the run's status, as `subprocess` reports it; end the run when the client closes the connection."""
    watched, asking = os.pidfd_open(run), connection.fileno()
    ended: list[int] = []
    while watched not in ended:
        ended, _, _ = select.select([watched, asking], [], [])
        if ended == [asking] and not connection.recv(1):
            os.kill(run, signal.SIGTERM)
            if not select.select([watched], [], [], GRACE)[0]:
                os.kill(run, signal.SIGKILL)
            break
    return os.waitstatus_to_exitcode(os.waitpid(run, 0)[1])


def _worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a run that a worker starts from this environment: Prefect rewrites its settings."""
    from prefect.settings import get_current_settings  # noqa: PLC0415 - with the other imports, once

    return {**environment, **get_current_settings().to_environment_variables(exclude_unset=True)}


def select_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that configure Prefect, Python, the linker and the project, not those of a single run.

    A command removes PYTHONDONTWRITEBYTECODE from its environment, so it does not count.
    """
    return {
        name: value
        for name, value in environment.items()
        if name in SETTINGS or name.startswith(("PREFECT_", "PYTHON", "LD_"))
        if not name.startswith("PREFECT__") and name != "PYTHONDONTWRITEBYTECODE"
    }


def compute_fingerprint() -> int:
    """Return a number that changes with the project's code, the installed packages and the files with settings.

    It is computed before each run.
    """
    roots = {Path(importlib.import_module(name).__path__[0]) for name in CODE}
    files = [file for root in sorted(roots) for file in root.rglob("*.py")]
    stamps = []
    for file in (*files, *map(Path, (*FILES, sysconfig.get_path("purelib")))):
        with contextlib.suppress(FileNotFoundError):  # removed in between
            stat = file.stat()
            stamps.append((str(file), stat.st_mtime_ns, stat.st_size))
    return hash(tuple(sorted(stamps)))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
