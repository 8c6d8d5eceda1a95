"""Background processes: start them once, find them again, and stop them only if we started them.

A process is identified by its pid and its start time (proc(5), `/proc/PID/stat` field 22, with the machine's boot
id), so that another process that later gets the same pid is never touched.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from cscm_laptop.ports import HOST, find_listener, is_listening
from supply_chain.errors import ComponentFailed, PortBusy, ToolMissing
from supply_chain.model.image import Model
from supply_chain.scratch import write_private

Progress = Callable[[str], None]

OURS_ALONE = ("AWS_", "PREFECT_", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
"""Prefixes of the caller's variables that a part does not inherit, because they would reconfigure it."""

LAUNCHER = "import os,signal,sys;signal.signal(signal.SIGINT,signal.SIG_DFL);os.execv(sys.argv[1],sys.argv[1:])"
"""Program that restores SIGINT: a shell's background jobs ignore it and their children inherit that."""


class Record(Model):
    """A process that we started, as recorded in its pid file."""

    name: str
    pid: int
    started: int
    boot: str
    since: datetime
    address: str
    fingerprint: str
    whole_group: bool = False

    def is_alive(self) -> bool:
        """Return whether exactly this process still runs."""
        return self.boot == read_boot_id() and start_time(self.pid) == self.started


@dataclass(frozen=True)
class Service:
    """A process to run in the background, and how to find out whether it works.

    `ready` returns whether it answers. `setting` names the setting that changes its port. `deadline` and `grace` are
    the seconds that it has to start and to stop. With `whole_group`, its children also get the signal to stop.
    `changes` is a text whose change makes a running process outdated.
    """

    name: str
    argv: tuple[str, ...]
    log: Path
    pid_file: Path
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    port: int | None = None
    setting: str = ""
    deadline: float = 60.0
    grace: float = 15.0
    whole_group: bool = False
    changes: str = ""

    @property
    def address(self) -> str:
        """Address where the process listens, or empty if it does not listen."""
        return f"{HOST}:{self.port}" if self.port else ""

    @property
    def fingerprint(self) -> str:
        """Hash that changes if the process would be started differently.

        The PATH does not count: it is that of the caller's shell, and a user changes it for other reasons.
        """
        environment = sorted((name, value) for name, value in self.environment.items() if name != "PATH")
        parts = [self.argv, environment, str(self.cwd), self.changes]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def record(self) -> Record | None:
        """Return the process that we started and that still runs, or None."""
        record = read_record(self.pid_file)
        return record if record and record.is_alive() else None

    def ensure(self, progress: Progress) -> tuple[Record, bool]:
        """Return the running, ready process, and whether it was started by this call.

        Raises `PortBusy`, `ComponentFailed` (with the end of its log) or `ToolMissing`.
        """
        running = self.record()
        if running and running.fingerprint == self.fingerprint and self._until_ready(running):
            return running, False
        if running:
            progress(f"{self.name}: starting again, its settings changed or it does not answer")
            stop(running, self.grace)
        self.pid_file.unlink(missing_ok=True)
        if message := self.explain_taken_port():
            raise PortBusy(message)
        record = self._start()
        if not self._until_ready(record):
            self._give_up(record)
        return record, True

    def explain_taken_port(self) -> str:
        """Return who listens on the port and what to do; empty if the port is free or this process runs."""
        if self.port is None or self.record() or not is_listening(self.port):
            return ""
        return (
            f"{self.name} needs {self.address}, where {find_listener(self.port) or 'another program'} listens.\n"
            f"Stop that program, or choose another port: {self.setting}."
        )

    def _start(self) -> Record:
        if not Path(self.argv[0]).exists():
            raise ToolMissing(f"{self.name} cannot be started: {self.argv[0]} does not exist.\nRun `cscm doctor`.")
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            log.write(f"--- {datetime.now(UTC).isoformat(timespec='seconds')} start\n".encode())
            log.flush()
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", LAUNCHER, *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.cwd,
                env=make_child_environment(self.environment),
                start_new_session=True,
            )
        process.returncode = 0  # the process is meant to outlive this object; `stop` waits for it
        record = Record(
            name=self.name,
            pid=process.pid,
            started=start_time(process.pid) or 0,
            boot=read_boot_id(),
            since=datetime.now(UTC),
            address=self.address,
            fingerprint=self.fingerprint,
            whole_group=self.whole_group,
        )
        try:
            write_private(self.pid_file, record.model_dump_json())
        except BaseException:
            os.kill(record.pid, signal.SIGKILL)
            raise
        return record

    def _until_ready(self, record: Record) -> bool:
        """Wait until the process is ready; return False if it ends or its deadline passes first."""
        end = time.monotonic() + self.deadline
        while time.monotonic() < end:
            if not record.is_alive():
                return False
            if self.ready():
                return record.is_alive()
            time.sleep(0.1)
        return False

    def _give_up(self, record: Record) -> None:
        alive = record.is_alive()
        stop(record, self.grace)
        self.pid_file.unlink(missing_ok=True)
        what = f"did not answer within {self.deadline:.0f} s" if alive else "ended while it started"
        raise ComponentFailed(
            f"{self.name} {what}. The end of {self.log}:\n{read_tail(self.log)}\n"
            "Correct what it complains about, then run the command again."
        )


def stop(record: Record, grace: float = 15.0) -> None:
    """End the process, if it is still the one that we started, and what is left of its process group.

    After `grace` seconds, it is killed.
    """
    if not record.is_alive():
        return
    _send(record, signal.SIGTERM, group=record.whole_group)
    end = time.monotonic() + grace
    while record.is_alive() and time.monotonic() < end:
        _reap(record.pid)
        time.sleep(0.05)
    if record.is_alive():
        _send(record, signal.SIGKILL, group=True)
        while record.is_alive():
            _reap(record.pid)
            time.sleep(0.05)
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(record.pid, signal.SIGKILL)  # a group id is not reused while a member lives
    _reap(record.pid)


def _send(record: Record, number: signal.Signals, *, group: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        if group:
            os.killpg(record.pid, number)
        else:
            os.kill(record.pid, number)


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def read_record(pid_file: Path) -> Record | None:
    """Read a pid file; return None if it is missing or damaged."""
    try:
        return Record.model_validate_json(pid_file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def start_time(pid: int) -> int | None:
    """Return when the process started, in clock ticks since boot; None if it ended or is a zombie.

    A process whose first thread has ended has the state of a zombie; while another thread lives, its ports stay open,
    and it counts as running.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the program's name before this may contain any character
    state, threads, started = fields[0], int(fields[17]), int(fields[19])
    return None if state in "ZX" and threads < 2 else started


def read_boot_id() -> str:
    """Return the id of this boot; after each boot, start times and pids begin again."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def make_child_environment(more: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the caller's environment without variables that would reconfigure a part, plus `more`.

    `NO_PROXY` also names this machine.
    """
    inherited = {key: value for key, value in environ.items() if not key.startswith(OURS_ALONE)}
    for name in ("NO_PROXY", "no_proxy"):
        inherited[name] = ",".join(filter(None, [environ.get(name), HOST, "localhost"]))
    return {**inherited, **more}


def read_tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log, for people."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 8192))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return "(there is no log)"
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])
