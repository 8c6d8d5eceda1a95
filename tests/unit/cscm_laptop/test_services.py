"""Background processes, tested with real ones."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cscm_laptop.ports import answers, is_listening
from cscm_laptop.services import Record, Service, make_child_environment, read_boot_id, read_record, start_time, stop
from supply_chain.errors import ComponentFailed, PortBusy, ToolMissing
from tests.support.processes import state_of

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def service(tmp_path, port):
    """A web server as a background process, which ends after the test."""
    made = Service(
        name="web",
        argv=(sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)),
        log=tmp_path / "log" / "web.log",
        pid_file=tmp_path / "run" / "web.json",
        ready=lambda: answers(port, "/"),
        cwd=tmp_path,
        port=port,
        setting="ports.web in the profile",
        deadline=20,
    )
    yield made
    record = read_record(made.pid_file)
    if record:
        stop(record)


def waiting(tmp_path: Path, *argv: str, **more: object) -> Service:
    """Return a service that is ready when it has created the file `ready`."""
    return Service(
        name="part",
        argv=argv,
        log=tmp_path / "part.log",
        pid_file=tmp_path / "part.json",
        ready=(tmp_path / "ready").exists,
        deadline=10,
        cwd=tmp_path,
        **more,  # type: ignore[arg-type]
    )


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_started_service_answers(service, port):
    """The start ends only when the part is usable."""
    record, started = service.ensure(print)

    assert started
    assert answers(port, "/")
    assert record.is_alive()
    assert record.address == f"127.0.0.1:{port}"


def test_running_service_is_reused(service):
    """A second `cscm up` starts nothing twice."""
    first, _ = service.ensure(print)
    second, started = service.ensure(print)

    assert (second, started) == (first, False)


def test_service_with_changed_settings_is_restarted(service, port):
    """A change of an operator takes effect with the next `cscm up`."""
    first, _ = service.ensure(print)
    second, started = replace(service, environment={"NEW": "1"}).ensure(print)

    assert started
    assert second.pid != first.pid
    assert not first.is_alive()
    assert answers(port, "/")


def test_process_with_one_remaining_thread_is_alive(tmp_path):
    """A process that ends may be in this state for a moment, with its ports still in use."""
    note = tmp_path / "note"
    script = (
        "import ctypes,pathlib,threading,time\n"
        "def lives():\n"
        f"    time.sleep(.2); pathlib.Path({str(note)!r}).touch(); time.sleep(60)\n"
        "threading.Thread(target=lives).start()\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.syscall(60 if __import__('platform').machine() == 'x86_64' else 93, 0)\n"  # exit(2) ends one thread
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        assert until(note.exists)
        assert state_of(process.pid) == "Z"
        assert start_time(process.pid)
    finally:
        process.kill()
    assert until(lambda: start_time(process.pid) is None)
    process.wait()


def test_stop_ends_process_and_frees_port(service, port):
    """A second stop does nothing."""
    record, _ = service.ensure(print)

    stop(record)
    stop(record)

    assert not record.is_alive()
    assert not is_listening(port)


def test_busy_port_error_names_process_and_setting(service, port):
    """A person can act at once."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(PortBusy) as caught:
            service.ensure(print)

    assert f"127.0.0.1:{port}" in str(caught.value)
    assert f"pid {os.getpid()}" in str(caught.value)
    assert "ports.web in the profile" in str(caught.value)
    assert not service.pid_file.exists()


def test_process_that_ends_during_start_shows_its_log(tmp_path):
    """The last lines have the reason."""
    part = waiting(tmp_path, sys.executable, "-c", "import sys; sys.exit('the database is locked')")

    with pytest.raises(ComponentFailed, match="the database is locked"):
        part.ensure(print)

    assert not part.pid_file.exists()


def test_process_that_never_answers_is_ended(tmp_path):
    """A hanging part must not remain."""
    part = replace(waiting(tmp_path, *SLEEP), deadline=0.1)
    with pytest.raises(ComponentFailed, match="did not answer within"):
        part.ensure(print)

    assert part.record() is None


def test_missing_program_is_named(tmp_path):
    """No PID file is left."""
    with pytest.raises(ToolMissing, match="/nowhere/emulator"):
        waiting(tmp_path, "/nowhere/emulator").ensure(print)


def test_stop_never_kills_reused_pid(tmp_path):
    """After a crash, the PID in the file may belong to any process of the user."""
    bystander = subprocess.Popen(SLEEP)
    try:
        record = Record(
            name="part",
            pid=bystander.pid,
            started=(start_time(bystander.pid) or 0) - 1,
            boot=read_boot_id(),
            since="2026-11-24T00:00:00Z",
            address="",
            fingerprint="",
        )

        stop(record)
        stop(record.model_copy(update={"started": start_time(bystander.pid), "boot": "an earlier boot"}))

        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_damaged_pid_file_counts_as_absent(tmp_path):
    """The port still shows whether the part runs."""
    (tmp_path / "part.json").write_text('{"pid": 1')

    assert read_record(tmp_path / "part.json") is None


def test_service_receives_sigint_if_its_parent_ignores_it(tmp_path):
    """A background job of a shell ignores SIGINT and would pass this on."""
    code = (
        "import signal, pathlib\n"
        "pathlib.Path('handler').write_text(repr(signal.getsignal(signal.SIGINT)))\n"
        "pathlib.Path('ready').touch(); import time; time.sleep(60)"
    )
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        record, _ = waiting(tmp_path, sys.executable, "-c", code).ensure(print)
    finally:
        signal.signal(signal.SIGINT, before)
    stop(record)

    assert "default_int_handler" in (tmp_path / "handler").read_text()


def test_stop_ends_child_that_ignores_sigterm(tmp_path):
    """The child ends with its process group."""
    child = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    code = (
        "import subprocess, sys, pathlib, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); pathlib.Path('child').write_text(str(child.pid))\n"
        "pathlib.Path('ready').touch(); time.sleep(60)"
    )
    record, _ = waiting(tmp_path, sys.executable, "-c", code).ensure(print)
    child_pid = int((tmp_path / "child").read_text())

    stop(record)

    assert until(lambda: start_time(child_pid) is None)


def test_stop_signals_process_group_if_configured(tmp_path):
    """The runs of a worker then clean up."""
    child = (
        "import signal, sys, pathlib, time\n"
        "def end(*_): pathlib.Path('cleaned').touch(); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(60)"
    )
    code = (
        "import subprocess, sys, pathlib, signal, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "signal.signal(signal.SIGTERM, lambda *_: (child.wait(5), sys.exit()))\n"
        "pathlib.Path('ready').touch(); time.sleep(60)"
    )
    record, _ = waiting(tmp_path, sys.executable, "-c", code, whole_group=True).ensure(print)

    stop(record)

    assert (tmp_path / "cleaned").exists()


def test_service_environment_excludes_settings_of_caller():
    """An AWS account or Prefect profile of the user must not affect the parts."""
    caller = {
        "AWS_PROFILE": "work",
        "PREFECT_API_URL": "https://example.org",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/home/me",
        "HTTPS_PROXY": "http://proxy:3128",
        "NO_PROXY": "example.org",
    }

    given = make_child_environment({"PREFECT_API_URL": "http://127.0.0.1:4200/api"}, caller)

    assert given == {
        "HOME": "/home/me",
        "HTTPS_PROXY": "http://proxy:3128",
        "NO_PROXY": "example.org,127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "PREFECT_API_URL": "http://127.0.0.1:4200/api",
    }
