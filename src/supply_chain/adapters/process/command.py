"""Runs external commands; nothing else in the project starts them.

Commands are argument lists, never shell strings; a fixed script only limits memory. Output goes to the log while it
arrives, up to a limit, and is stored in bounded memory. A command that takes too long, or whose run is cancelled, is
ended together with everything that it started. Secrets are never passed as arguments: they are passed in files or in
the environment.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import resource
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from plumbum import CommandNotFound, local

from supply_chain.adapters.process import tool_errors
from supply_chain.adapters.process.cancellation import end_group, get_current_cancellation
from supply_chain.adapters.process.guardian import guardian
from supply_chain.errors import Cancelled, DiskFull, ToolFailed, ToolMissing, ToolTimedOut
from supply_chain.text import sanitize_text

log = logging.getLogger("supply_chain.command")

IDLE = 0.2
"""Seconds without output after which the output of an ended command is complete."""
WATCH = 1.0
"""Minimum seconds between two calls of a command's `watch`."""
REST = 10
"""The pause before the next call of `watch` is at least this many times as long as the last call took."""
CHUNK = 64 * 1024
LIMIT_SCRIPT = 'ulimit -d "$1" && shift && exec "$@"'
"""Shell script that limits memory, in KiB, and then replaces itself with the command."""
NOT_EXECUTED = (126, 127)
"""Statuses of a shell that could not execute a program."""
LINES = 5000
"""Maximum lines of a command's output in the log."""
PIPE = 1024 * 1024
"""Maximum bytes in a pipe (pipe(7))."""
OF_TOOLS = re.compile(
    r"(?!GRYPE_DB_(UPDATE_URL|CA_CERT)$)"
    r"((GRYPE|SYFT|COSIGN|SIGSTORE|HADOLINT|BUILDX|BUILDKIT|EXPERIMENTAL_BUILDKIT)_.*|TUF_ROOT"
    r"|DOCKER_(AUTH_CONFIG|CONTENT_TRUST|DEFAULT_PLATFORM)"
    r"|GIT_(DIR|WORK_TREE|INDEX_FILE|COMMON_DIR|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES|NAMESPACE"
    r"|REPLACE_REF_BASE))"
)
"""Environment variables that change what a tool finds, makes or trusts. They are not inherited from this process, so
that a tool gives the same result everywhere; a tool gets only those that the caller sets. Variables that say where a
vulnerability database comes from are inherited, because every report names its database.
"""
WHOLE_OUTPUT = "Its whole output is in the log of the run or task that called it (in the UI, or here with --verbose)"
"""Part of an error message: where to find the output of a command that was not `quiet`."""


@dataclass(frozen=True)
class CommandResult:
    """The result of a command that ended by itself."""

    status: int
    stdout: str
    stderr: str
    seconds: float


@dataclass
class _BoundedBuffer:
    """The head and the tail of a stream; the bytes between them are counted and dropped."""

    limit: int
    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    dropped: int = 0

    def add(self, data: bytes) -> None:
        """Append data; keep the first `limit` bytes in the head, and the last `limit` bytes after them in the tail."""
        room = self.limit - len(self.head)
        if room > 0:
            self.head += data[:room]
            data = data[room:]
        self.tail += data
        if len(self.tail) > self.limit:
            self.dropped += len(self.tail) - self.limit
            del self.tail[: len(self.tail) - self.limit]

    def text(self) -> str:
        """Return the text, with a note about the dropped bytes."""
        gap = f"\n… {self.dropped} bytes left out …\n".encode() if self.dropped else b""
        return (bytes(self.head) + gap + bytes(self.tail)).decode("utf-8", "replace")


@dataclass(frozen=True)
class Tool:
    """A program of a known version. A toolbox makes it; it is never searched for when it is used."""

    name: str
    path: Path
    version: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def with_environment(self, **more: str) -> Tool:
        """Return the same program with more variables in its environment."""
        return Tool(self.name, self.path, self.version, {**self.environment, **more})

    def run(
        self,
        *args: str | Path,
        timeout: float,
        cwd: Path | None = None,
        stdin_from: Path | None = None,
        stdout_to: Path | None = None,
        keep: int = 64 * 1024 * 1024,
        check: bool = True,
        quiet: bool = False,
        on_line: Callable[[str], None] | None = None,
        memory: int | None = None,
        watch: Callable[[], object] | None = None,
        own_message: Callable[[str], str] = str,
    ) -> CommandResult:
        """Run the program until it ends; `timeout` is in seconds.

        With `quiet`, its output goes to the log at debug level only. `on_line` is called with every line of both
        streams that is not empty. With `stdin_from`, standard input comes from that
        file; otherwise it is empty. With `stdout_to`, standard output goes to that file and is not part of the result.
        `keep` limits the bytes that are stored of each stream. `memory` limits the bytes that each process allocates;
        address space that is only reserved does not count. `watch` is called every second, or less often if it is slow;
        an exception in it ends the command. `own_message` returns what the program itself says in a line of its output,
        if others write there too; only this can name a full disk. Raises `ToolFailed` on a status other than 0 if
        `check` is set, `ToolTimedOut`, `Cancelled`, or `ToolMissing`.
        """
        done = run(
            [str(self.path), *map(str, args)],
            name=self.name,
            timeout=timeout,
            environment=self.environment,
            cwd=cwd,
            stdin_from=stdin_from,
            stdout_to=stdout_to,
            keep=keep,
            quiet=quiet,
            on_line=on_line,
            memory=memory,
            watch=watch,
            own_message=own_message,
        )
        if check and done.status != 0:
            output = (done.stderr or done.stdout)[-2000:].strip()
            raise ToolFailed(
                f"{self.name} {args[0] if args else ''} ended with status {done.status}: {output}\n{WHOLE_OUTPUT}."
            )
        return done


def run(
    argv: Sequence[str],
    *,
    name: str,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin_from: Path | None = None,
    stdout_to: Path | None = None,
    keep: int = 64 * 1024 * 1024,
    quiet: bool = False,
    on_line: Callable[[str], None] | None = None,
    memory: int | None = None,
    watch: Callable[[], object] | None = None,
    own_message: Callable[[str], str] = str,
) -> CommandResult:
    """Run a command in its own process group, as `Tool.run` does; raise `DiskFull` if it failed because a disk is full.

    `on_line` is called with every line of both streams that is not empty.
    """
    log.log(logging.DEBUG if quiet else logging.INFO, "$ %s", sanitize_text(" ".join([name, *argv[1:]])[:2000]))
    scope = get_current_cancellation()
    started = time.monotonic()
    process = _start(argv, name, environment, cwd, (stdin_from, stdout_to), memory)
    buffers, over = (_BoundedBuffer(keep // 2), _BoundedBuffer(keep // 2)), threading.Event()
    talks = [
        threading.Thread(target=copy_context().run, args=talk, daemon=True)
        for talk in _stream_readers(
            process, buffers, _line_logger(not quiet, on_line), _line_logger(False, on_line), over
        )
    ]
    with _watch_end(process) as end, guardian.guarding(process.pid), scope.watching(process):
        status = _wait_for_end(process, partial(_wait_for, end, name, timeout, watch), talks, over)
    if scope.cancelled:
        raise Cancelled(f"{name} was ended because the run was cancelled.")
    done = CommandResult(status, buffers[0].text(), buffers[1].text(), time.monotonic() - started)
    if memory is not None and status in NOT_EXECUTED:
        raise _missing(name, done.stderr.strip())
    if full := status and next(filter(tool_errors.is_disk_full, map(own_message, _output_lines(done))), ""):
        raise DiskFull(
            f"{name} found no space left: {full[-1000:].strip()}\n"
            "Make room where it writes (TMPDIR, the engine's directory, the registry's), and run the step again."
        )
    return done


def _output_lines(done: CommandResult) -> list[str]:
    """Return the lines of a program's output, standard error first; only a line feed ends one."""
    return [*done.stderr.split("\n"), *done.stdout.split("\n")]


def inherit_environment() -> None:
    """Let commands inherit this process's current environment; plumbum otherwise uses a copy from its import."""
    local.env.clear()
    local.env.update({name: value for name, value in os.environ.items() if not OF_TOOLS.fullmatch(name)})


inherit_environment()


def _start(
    argv: Sequence[str],
    name: str,
    environment: Mapping[str, str] | None,
    cwd: Path | None,
    files: tuple[Path | None, Path | None],
    memory: int | None,
) -> subprocess.Popen[bytes]:
    """Start the process as leader of its own group; raise `ToolMissing` if it cannot be started.

    `files` are standard input (None: empty) and standard output (None: a pipe). `memory` is in bytes.
    """
    stdin_from, stdout_to = files
    stdin: IO[bytes] | int = stdin_from.open("rb") if stdin_from else subprocess.DEVNULL
    out: IO[bytes] | int = stdout_to.open("wb") if stdout_to else subprocess.PIPE
    try:
        first, *others = argv if memory is None else _limit_memory(argv, memory)
        process = local[first].popen(
            args=others,
            cwd=str(cwd) if cwd else None,
            env=dict(environment or {}),
            stdin=stdin,
            stdout=out,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, CommandNotFound) as error:
        raise _missing(name, str(error)) from error
    finally:
        for file in (stdin, out):
            if not isinstance(file, int):
                file.close()
    return cast("subprocess.Popen[bytes]", process)


def _missing(name: str, why: str) -> ToolMissing:
    return ToolMissing(
        f"{name} cannot be started: {why}\nRun `cscm doctor`; it says what is missing and how to get it."
    )


@contextlib.contextmanager
def _watch_end(process: subprocess.Popen[bytes]) -> Iterator[int]:
    """Yield a descriptor that becomes readable when the process ends (pidfd_open(2)); on an exception, end its group.

    `Popen.wait` with a timeout checks only every 50 ms. Open the descriptor before anything can wait for the process.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    except BaseException:
        end_group(process)
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()
        raise


def _limit_memory(argv: Sequence[str], memory: int) -> list[str]:
    """Return a command whose processes can each allocate this many bytes (setrlimit(2), RLIMIT_DATA) from their start.

    A limit that is set after the start comes too late for a program that is quick, or on a busy machine. The command
    ends with one of `NOT_EXECUTED` if there is no such program.
    """
    own = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = memory if own == resource.RLIM_INFINITY else min(memory, own)
    return ["/bin/sh", "-c", LIMIT_SCRIPT, "sh", str(most // 1024), *argv]


def _wait_for(end: int, name: str, timeout: float, watch: Callable[[], object] | None) -> None:
    deadline, left, pause = time.monotonic() + timeout, timeout, WATCH
    while watch and left > pause:
        if _readable(end, pause):
            return
        began = time.monotonic()
        watch()
        now = time.monotonic()
        left, pause = max(deadline - now, 0), max(WATCH, REST * (now - began))
    if not _readable(end, left):
        raise ToolTimedOut(
            f"{name} did not end within {timeout:.0f} s and was stopped.\n"
            "Look at its last output in the log; if the work is really that long, raise the timeout."
        )


def _wait_for_end(
    process: subprocess.Popen[bytes],
    await_end: Callable[[], None],
    talks: Sequence[threading.Thread],
    over: threading.Event,
) -> int:
    """Wait until the process ends by itself and all its output is read; return its status. Always end its group."""
    try:
        for talk in talks:
            talk.start()
        await_end()
        return process.wait()
    except BaseException:
        end_group(process)
        raise
    finally:
        end_group(process, grace=0)  # processes that it left behind in its group
        over.set()
        for talk in talks:
            if talk.ident is not None:
                talk.join()


OnLine = Callable[[str], None] | None


def _line_logger(loud: bool, on_line: OnLine) -> OnLine:
    """Return the function that is called with every line that is not empty: it logs up to `LINES` lines if `loud`."""
    if not loud:
        return on_line

    lines = itertools.count(1)

    def log_line(line: str) -> None:
        number = next(lines)
        if number <= LINES:
            log.info("%s", sanitize_text(line[:2000]))
        elif number == LINES + 1:
            log.info("… it says more than %d lines; the rest is not in the log", LINES)
        if on_line:
            on_line(line)

    return log_line


def _stream_readers(
    process: subprocess.Popen[bytes],
    buffers: tuple[_BoundedBuffer, _BoundedBuffer],
    on_stderr: OnLine,
    on_stdout: OnLine,
    over: threading.Event,
) -> Iterator[tuple[Any, ...]]:
    """Yield, for each stream of a command, the function that reads it and its arguments."""
    if process.stdout:
        yield _drain, process.stdout, buffers[0], on_stdout, over
    if process.stderr:
        yield _drain, process.stderr, buffers[1], on_stderr, over


def _readable(descriptor: int, seconds: float) -> bool:
    """Return whether a descriptor becomes readable within so many seconds."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _drain(stream: IO[bytes], buffer: _BoundedBuffer, on_line: OnLine, over: threading.Event) -> None:
    """Read a command's stream to its end; once the command is over, read only what is left in the pipe."""
    rest, left = b"", PIPE // CHUNK
    with stream:
        while left:
            ended = over.is_set()  # read it first: the last output may arrive between a poll and the end
            if not _readable(stream.fileno(), IDLE):  # a process that left its group may hold it open forever
                if ended:
                    break
                continue
            data = os.read(stream.fileno(), CHUNK)
            if not data:
                break
            left -= over.is_set()
            buffer.add(data)
            if on_line:
                rest = _lines(rest + data, on_line)
    if on_line and rest:
        _lines(rest + b"\n", on_line)


def _lines(data: bytes, on_line: Callable[[str], None]) -> bytes:
    """Pass every complete line to `on_line`; return the beginning of the last line, which is at most a chunk long."""
    *lines, rest = data.split(b"\n")
    if len(rest) > CHUNK:
        lines, rest = [*lines, rest], b""
    for line in lines:
        if text := line.decode("utf-8", "replace").rstrip():
            on_line(text)
    return rest
