"""Tests of the command runner: commands and all that they start end, and their output stays within bounds."""

import contextlib
import contextvars
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from supply_chain.adapters.process import cancellation, command
from supply_chain.adapters.process.cancellation import Cancellation, current
from supply_chain.adapters.process.command import LINES, Tool, _BoundedBuffer, run
from supply_chain.errors import Cancelled, DiskFull, ToolFailed, ToolMissing, ToolTimedOut
from supply_chain.text import CONTROL
from tests.support.processes import runs

SH = Tool("sh", Path("/bin/sh"), "1")
PYTHON = Tool("python", Path(sys.executable), "3")
GRANDCHILD = "sh -c 'echo $$ > {0}.tmp; mv {0}.tmp {0}; trap \"\" TERM; while :; do sleep 0.1; done' & "


def gone(pid: int) -> bool:
    """Return whether the process ends within two seconds."""
    for _ in range(100):
        if not runs(pid):
            return True
        time.sleep(0.02)
    return False


def pid_in(path: Path) -> int:
    for _ in range(200):
        if path.exists():
            return int(path.read_text())
        time.sleep(0.02)
    raise AssertionError("the grandchild did not start")


def test_run_returns_both_streams_status_and_duration():
    """Standard output and standard error are kept apart."""
    done = SH.run("-c", "echo out; echo err >&2; exit 3", timeout=10, check=False)

    assert (done.stdout, done.stderr, done.status) == ("out\n", "err\n", 3)
    assert 0 < done.seconds < 10


def test_run_raises_tool_failed_with_stderr_for_nonzero_status():
    """A caller that handles the status itself passes `check=False`."""
    with pytest.raises(ToolFailed, match="status 4: it is broken"):
        SH.run("-c", "echo it is broken >&2; exit 4", timeout=10)


@pytest.mark.parametrize("stream", [1, 2])
def test_run_reports_full_disk_named_on_any_stream(stream):
    """The reason counts even if the caller handles the status; a command that succeeded had enough space."""
    says = f"echo other >&2; echo 'write /tmp/x: No space left on device' >&{stream}"
    with pytest.raises(DiskFull, match="write /tmp/x: No space"):
        SH.run("-c", f"{says}; exit 1", timeout=10, check=False)

    assert SH.run("-c", says, timeout=10).status == 0


def test_run_passes_arguments_without_a_shell():
    """Special characters in an argument must arrive unchanged."""
    words = ["$(id)", "; id", "a  b", "*", "'\"", "", "é\n"]
    done = PYTHON.run("-c", "import sys; print(sys.argv[1:])", *words, timeout=20)

    assert done.stdout.strip() == repr(words)


def test_run_does_not_pass_tool_settings_from_own_environment():
    """A setting that is in no argument and no cache key must not suppress a finding."""
    ours = {"PATH": "/usr/bin:/bin", "HOME": "/home/x", "HTTPS_PROXY": "http://proxy", "SSL_CERT_FILE": "/ca.pem",
            "DOCKER_CONFIG": "/docker", "DOCKER_HOST": "unix:///x", "GRYPE_DB_UPDATE_URL": "http://mirror",
            "GIT_CONFIG_COUNT": "0"}  # fmt: skip
    foreign = ["GRYPE_DISTRO", "SYFT_EXCLUDE", "COSIGN_REPOSITORY", "HADOLINT_IGNORE", "BUILDX_BUILDER", "GIT_DIR",
               "GIT_OBJECT_DIRECTORY", "DOCKER_AUTH_CONFIG", "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY"]  # fmt: skip
    code = (
        "from supply_chain.adapters.process.command import run\n"
        "print(run(['/usr/bin/env'], name='env', timeout=9, environment={'GRYPE_DB_CACHE_DIR': '/d'}).stdout)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], env={**ours, **dict.fromkeys(foreign, "x")},
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip

    got = dict(line.split("=", 1) for line in output.split())
    assert {**ours, "GRYPE_DB_CACHE_DIR": "/d"}.items() <= got.items()
    assert not set(foreign) & set(got)


def test_inherit_passes_changed_environment_to_commands(monkeypatch):
    """A process forked by the prefork server imported plumbum before its environment was set."""
    monkeypatch.setenv("HTTPS_PROXY", "http://mine")
    try:
        command.inherit_environment()
        assert "HTTPS_PROXY=http://mine" in SH.run("-c", "env", timeout=9).stdout.split()
    finally:
        monkeypatch.undo()
        command.inherit_environment()
    assert "http://mine" not in SH.run("-c", "env", timeout=9).stdout


@pytest.mark.parametrize("path", ["/nothing/there", "/etc/hostname", "/etc"])
def test_run_names_program_that_cannot_be_started(path):
    """This includes a file that is not executable."""
    with pytest.raises(ToolMissing, match="nosuch cannot be started"):
        Tool("nosuch", Path(path), "1").run(timeout=1)


def test_timeout_ends_command_and_its_grandchildren(tmp_path):
    """This includes processes that ignore SIGTERM."""
    note = tmp_path / "pid"

    with pytest.raises(ToolTimedOut, match="within 1 s"):
        SH.run("-c", GRANDCHILD.format(note) + "sleep 60", timeout=1)

    assert gone(pid_in(note))


def test_timeout_gives_command_time_to_clean_up(tmp_path):
    """The command receives SIGTERM first, so that it can undo unfinished work."""
    tidy = f"trap 'sleep 0.3; touch {tmp_path}/tidied; exit' TERM; while :; do sleep 0.05; done"

    with pytest.raises(ToolTimedOut):
        SH.run("-c", tidy, timeout=0.3)

    assert (tmp_path / "tidied").exists()


def test_timeout_kills_command_that_ignores_sigterm(monkeypatch):
    """SIGKILL follows after the grace period."""
    monkeypatch.setattr(cancellation.end_group, "__defaults__", (0.2,))
    started = time.monotonic()

    with pytest.raises(ToolTimedOut):
        SH.run("-c", "trap '' TERM; while :; do sleep 0.1; done", timeout=0.3)

    assert time.monotonic() - started < 0.3 + 0.2 + 2


def test_background_processes_end_with_their_command(tmp_path):
    """A finished step leaves no process behind, and the caller does not wait for one."""
    note = tmp_path / "pid"
    started = time.monotonic()

    done = SH.run("-c", GRANDCHILD.format(note) + f"while [ ! -e {note} ]; do sleep 0.02; done; echo done", timeout=20)

    assert done.stdout == "done\n"
    assert gone(pid_in(note))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("does", ["sleep 30", "while :; do echo flood; done"], ids=["waits", "floods"])
def test_process_in_another_group_does_not_delay_the_caller(tmp_path, monkeypatch, does):
    """Such a process keeps the pipes of the command open, but the command is over."""
    monkeypatch.setattr(command, "IDLE", 0.05)
    note = tmp_path / "pid"
    left = f"setsid sh -c 'echo $$ > {note}.tmp; mv {note}.tmp {note}; {does}' <&0 &"
    started = time.monotonic()
    try:
        done = SH.run("-c", f"{left} while [ ! -e {note} ]; do sleep 0.02; done; exit 0", timeout=20)
    finally:
        with contextlib.suppress(ProcessLookupError):  # a process that floods ends when nobody reads its output
            os.kill(pid_in(note), signal.SIGKILL)

    assert done.status == 0
    assert time.monotonic() - started < 5
    assert not [each for each in threading.enumerate() if each.daemon and "run" in each.name]


def test_output_written_just_before_the_end_is_complete():
    """On a busy machine the reader may resume only after the command has ended."""
    read, write = os.pipe()
    over, looks, buffer = threading.Event(), iter([False]), command._BoundedBuffer(100)

    def look(descriptor, seconds):
        if (found := next(looks, True)) is False:
            os.write(write, b"its report")
            os.close(write)
            over.set()
        return found

    with mock.patch.object(command, "_readable", look):
        command._drain(os.fdopen(read, "rb"), buffer, None, over)

    assert buffer.text() == "its report"


def test_cancellation_ends_command_and_its_grandchildren(tmp_path):
    """Another thread cancels while the command runs."""
    note, scope, caught = tmp_path / "pid", Cancellation(), []

    def step():
        current.set(scope)
        try:
            SH.run("-c", GRANDCHILD.format(note) + "sleep 60", timeout=60)
        except Cancelled as error:
            caught.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(step,))
    thread.start()
    pid = pid_in(note)
    scope.cancel()
    thread.join(10)

    assert not thread.is_alive() and len(caught) == 1
    assert gone(pid)


def test_cancelled_step_runs_no_further_command(tmp_path):
    """The next command of a cancelled step ends at once."""
    scope = Cancellation()
    scope.cancel()

    def step():
        current.set(scope)
        with pytest.raises(Cancelled):
            SH.run("-c", f"sleep 5; touch {tmp_path}/ran", timeout=30)

    started = time.monotonic()
    contextvars.copy_context().run(step)

    assert time.monotonic() - started < 4
    assert not (tmp_path / "ran").exists()


def test_exception_in_caller_leaves_no_process(tmp_path, monkeypatch):
    """Any exception counts, including the ones that Prefect raises to stop a run."""
    note = tmp_path / "pid"

    class Terminated(BaseException):
        pass

    def readable(descriptor, seconds, *, real=command._readable):
        if seconds == 60:
            pid_in(note)
            raise Terminated
        return real(descriptor, seconds)

    monkeypatch.setattr(command, "_readable", readable)
    with pytest.raises(Terminated):
        SH.run("-c", GRANDCHILD.format(note) + "sleep 60", timeout=60)

    assert gone(pid_in(note))


def test_output_of_100_megabytes_is_truncated_in_the_middle():
    """Head and tail are kept, and the omitted bytes are counted."""
    script = (
        "import sys; w = sys.stdout.write; w('first\\n'); [w('x' * 1048575 + '\\n') for _ in range(100)]; w('last\\n')"
    )

    done = PYTHON.run("-c", script, timeout=60, keep=64 * 1024)

    assert len(done.stdout) < 65 * 1024
    assert done.stdout.startswith("first\n") and done.stdout.endswith("last\n")
    assert f"{100 * 1048576 + 11 - 64 * 1024} bytes left out" in done.stdout


def test_output_without_line_end_is_truncated():
    """A single line may be larger than memory."""
    done = PYTHON.run("-c", "import sys; sys.stdout.write('x' * (20 * 1024 * 1024))", timeout=60, keep=1024)

    assert len(done.stdout) < 1100


@pytest.mark.parametrize("sizes", [[0], [5], [6], [4, 4], [3, 3, 3], [1] * 20, [100], [10, 1]])
def test_bounded_output_has_head_and_tail_without_overlap(sizes):
    """Nothing is lost as long as it fits, and nothing is repeated."""
    buffer, written = _BoundedBuffer(3), b""
    for n, size in enumerate(sizes):
        buffer.add(bytes([65 + n]) * size)
        written += bytes([65 + n]) * size

    assert bytes(buffer.head + buffer.tail) == (written if len(written) <= 6 else written[:3] + written[-3:])
    assert buffer.dropped == max(0, len(written) - 6)


def test_flood_on_stderr_does_not_block_stdout():
    """Both pipes are read at the same time."""
    script = "import sys; sys.stderr.write('e\\n' * 500000); sys.stderr.flush(); print('answer')"

    done = PYTHON.run("-c", script, timeout=60, quiet=True, keep=4096)

    assert done.stdout == "answer\n"


def test_command_reads_empty_standard_input():
    """Otherwise a command could wait for somebody to type."""
    assert SH.run("-c", "cat", timeout=20).stdout == ""


def test_run_writes_standard_output_to_requested_file(tmp_path):
    """The output is then not kept in memory."""
    done = SH.run("-c", "echo report; echo said >&2", timeout=10, stdout_to=tmp_path / "report")

    assert (tmp_path / "report").read_text() == "report\n"
    assert (done.stdout, done.stderr) == ("", "said\n")


def test_command_environment_is_extended_and_not_logged(caplog):
    """Arguments are logged; values of the environment may be secrets."""
    caplog.set_level(logging.DEBUG)
    tool = SH.with_environment(FIRST="1").with_environment(SECRET="hunter2")

    done = tool.run("-c", 'test "$SECRET" = hunter2 && echo "$FIRST" "${PATH:+path}"', timeout=10)

    assert done.stdout == "1 path\n"
    assert "hunter2" not in caplog.text.replace('test "$SECRET" = hunter2', "")
    assert "SECRET" not in os.environ
    assert SH.environment == {}


def test_run_logs_command_and_output_unless_quiet(caplog):
    """The lines are logged as they arrive."""
    caplog.set_level(logging.INFO)
    SH.run("-c", "echo loud >&2", timeout=10)
    assert "$ sh -c" in caplog.text and "loud" in [record.message for record in caplog.records]

    caplog.clear()
    SH.run("-c", "echo silent >&2", timeout=10, quiet=True)
    assert caplog.text == ""


def test_log_is_limited_for_a_flood_of_lines(caplog):
    """The log holds the first lines and a note that more followed; the callback receives all lines."""
    caplog.set_level(logging.INFO)
    heard: list[Any] = []

    run(
        [sys.executable, "-c", "import sys; sys.stderr.write('x\\n' * 20000)"],
        name="p",
        timeout=10,
        on_line=heard.append,
    )

    assert len(heard) == 20000
    assert len(caplog.records) == 1 + LINES + 1
    assert "rest is not in the log" in caplog.records[-1].getMessage()


def test_log_replaces_control_characters(caplog):
    """Neither output nor arguments may control the terminal that shows the log."""
    caplog.set_level(logging.INFO)

    SH.run("-c", "printf '\\033[31mred\\007\\n' >&2", "a\x1b[2Jb\nc", timeout=10)

    assert [r.getMessage() for r in caplog.records][1:] == ["·[31mred·"]
    assert not CONTROL.search("".join(r.getMessage() for r in caplog.records))


def test_on_line_receives_complete_lines_in_order():
    """This includes a last line without a line end and a line longer than one chunk."""
    lines: list[str] = []
    script = (
        "import sys; w = sys.stdout.write; [w(f'{n}\\n') for n in range(50000)]; w('\\n' + 'x' * 200000 + '\\nend')"
    )

    command.run([sys.executable, "-c", script], name="python", timeout=30, on_line=lines.append)

    assert lines[:50000] == [str(n) for n in range(50000)]
    assert "".join(lines[50000:]) == "x" * 200000 + "end" and lines[-1] == "end"


def test_run_uses_requested_working_directory(tmp_path):
    """The default is the working directory of the caller."""
    assert SH.run("-c", "pwd -P", timeout=10, cwd=tmp_path).stdout.strip() == str(tmp_path.resolve())


def test_run_accepts_output_that_is_not_utf8():
    """Bytes that cannot be decoded are replaced."""
    done = SH.run("-c", r"printf '\377\376ok'", timeout=10)

    assert done.stdout.endswith("ok")


def test_memory_limit_applies_to_command_and_its_children():
    """Untrusted input may make a tool use all memory."""
    takes = "x = bytearray(2**30); print('taken')"
    both = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {takes!r}])\n{takes}\n"

    done = PYTHON.run("-c", both, timeout=60, check=False, memory=2**29)

    assert done.stdout == "" and done.stderr.count("MemoryError") == 2


def test_memory_is_limited_before_the_command_starts():
    """A quick program allocates everything that it needs in its first milliseconds."""
    assert SH.run("-c", "ulimit -S -d; ulimit -H -d", timeout=60, memory=2**29).stdout == "524288\n524288\n"


@pytest.mark.parametrize("content", [None, "#!/no/interpreter\n"], ids=["missing", "without its interpreter"])
def test_limited_program_that_cannot_be_executed_is_missing(tmp_path, content):
    """The shell that limits the memory starts in any case."""
    program = tmp_path / "program"
    if content is not None:
        program.write_text(content)
        program.chmod(0o755)

    with pytest.raises(ToolMissing, match="program cannot be started"):
        Tool("program", program, "1").run(timeout=60, memory=2**29)


def test_memory_limit_is_capped_by_the_callers_own_limit():
    """A process may not raise its hard limit."""
    script = "from tests.unit.adapters.process.test_command import PYTHON; import resource, sys\n"
    script += "resource.setrlimit(resource.RLIMIT_DATA, (2**32, 2**32))\n"
    script += "print(PYTHON.run('-c', 'import time; time.sleep(0.2)', timeout=60, memory=2**33).status)"

    assert PYTHON.run("-c", script, timeout=60).stdout == "0\n"


@pytest.mark.parametrize("part", ["os.pidfd_open", "guardian.guarding"])
def test_command_that_cannot_be_guarded_is_ended(tmp_path, monkeypatch, part):
    """The system may refuse the process descriptor or the registration with the guardian."""
    note = tmp_path / "pid"

    def refused(*_):
        pid_in(note)
        raise PermissionError("not permitted")

    monkeypatch.setattr(f"supply_chain.adapters.process.command.{part}", refused)
    with pytest.raises(PermissionError):
        SH.run("-c", GRANDCHILD.format(note) + "sleep 60", timeout=60, memory=2**33)

    assert gone(pid_in(note))


def test_exception_in_watch_ends_command_and_its_children(tmp_path, monkeypatch):
    """A command that has ended is not watched any more."""
    monkeypatch.setattr(command, "WATCH", 0.05)
    note, looks, late = tmp_path / "pid", [], []

    def watch():
        looks.append(1)
        if note.exists():
            raise ToolFailed("it takes too much")

    with pytest.raises(ToolFailed, match="too much"):
        SH.run("-c", GRANDCHILD.format(note) + "sleep 60", timeout=60, watch=watch)
    assert looks and gone(pid_in(note))
    with pytest.raises(ToolTimedOut):
        SH.run("-c", "sleep 60", timeout=0.2, watch=lambda: None)
    assert SH.run("-c", "exit 0", timeout=60, watch=lambda: late.append(1)).status == 0
    assert not late


def test_slow_watch_takes_little_of_the_running_time(monkeypatch):
    """The timeout of the command still holds."""
    clock, looked = [0.0], [0.0]

    def passes(seconds):
        clock[0] += seconds

    def watch():
        passes(7)
        looked[0] += 7

    monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(command, "_readable", lambda end, seconds: passes(seconds))

    with pytest.raises(ToolTimedOut):
        command._wait_for(0, "slow", 600, watch)
    assert 0 < looked[0] < 600 / 10
    assert clock[0] == 600
