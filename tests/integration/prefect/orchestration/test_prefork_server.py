"""Prefork server: a forked run behaves like any other, and runs start without the server too."""

import contextlib
import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from orchestration import prefork_client, prefork_server
from tests.support.processes import runs, state_of

ROOT = Path(__file__).parents[4]
PATIENCE = 300
"""Seconds in which a run that imports everything by itself has ended, however busy the machine is."""
SERVER = """
import atexit, logging, os, signal, sys, tempfile, threading, time, types
from logging import handlers
from pathlib import Path
from plumbum import local
from orchestration import prefork_server

class Kept:
    def __init__(self):
        self.file = os.open("freed", os.O_WRONLY | os.O_CREAT)

    def __del__(self, write=os.write):
        write(self.file, b"freed")

def run():
    assert sys.argv in (["prefect.engine"], ["cscm", "chain"])
    assert local.env["SAID"] == os.environ["SAID"], "and so do the commands that it runs"
    print(os.environ["SAID"], Path.cwd().name, os.environ.get("PREFECT__FLOW_RUN_ID"), flush=True)
    what = os.environ["DOES"]
    if what == "waits":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        Path("pid").write_text(str(os.getpid()))
        time.sleep(60)
    elif what == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "tells":
        print(sys.stdin.read(), oct(os.umask(0)), os.nice(0), time.strftime("%Z"), tempfile.gettempdir(), flush=True)
    elif what == "writes":
        sys.stdout.write("x" * 1_000_000)
    elif what == "leaves work":
        threading.Timer(0.5, lambda: Path("work").open("a").write("thread ")).start()
        atexit.register(lambda: Path("work").open("a").write("atexit "))
        logging.getLogger().addHandler(logging.handlers.MemoryHandler(99, target=logging.FileHandler("work")))
        logging.getLogger().warning("log")
        prefork_server.kept = Kept()
        print("output", end="")
        sys.exit(5)
    elif what == "raises":
        raise RuntimeError("unexpected")
    elif what.isdigit():
        sys.exit(int(what))
    else:
        sys.exit(what)

prefork_server.IMPORTED = ()
prefork_server._worker_environment = dict
prefork_server.compute_fingerprint = lambda: Path(sys.argv[2]).read_text()
tempfile.gettempdir()
sys.modules["cscm.main"] = sys.modules["orchestration.flow_run"] = types.SimpleNamespace(start=run, main=run)
sys.exit(prefork_server.main(Path(sys.argv[1])))
"""


def environment(place, **changes):
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "PREFECT_HOME": str(place)}
    variables |= {"PREFECT_LOGGING_LEVEL": "INFO", "PYTHONOPTIMIZE": "1"}
    everything = {**variables, "SAID": "hello", "DOES": "0", "PREFECT__FLOW_RUN_ID": "the-run", **changes}
    return {name: value for name, value in everything.items() if value is not None}


def directory_in(parent):
    """Return a directory in which the path of the socket exceeds the length limit of sockets."""
    deep = parent / ("x" * 100)
    deep.mkdir()
    (deep / "code").write_text("1")
    return deep


@contextlib.contextmanager
def serving(place):
    """Run the server in a directory."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, place / "prefork.sock", place / "code"],
        env=environment(place),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None and process.stderr.readline() == b"ready\n"
    (place / "server").write_text(str(process.pid))
    yield place
    process.kill()
    process.wait()
    process.stderr.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The directory of a server for all tests that leave it as it is; its start takes a second."""
    with serving(directory_in(tmp_path_factory.mktemp("server"))) as place:
        yield place


@pytest.fixture
def served(server):
    """The directory of the server, without the file that an earlier run left."""
    (server / "pid").unlink(missing_ok=True)
    return server


@pytest.fixture
def own_server(tmp_path):
    """The directory of a server that the test may change."""
    with serving(directory_in(tmp_path)) as place:
        yield place


COMMAND = """
import sys
from orchestration import prefork_client
status = prefork_client.run(sys.argv[1], "cscm.main:start", ["cscm", "chain"])
print("not forked" if status is None else "", end="")
sys.exit(status)
"""


def asking(place, *, command=False, under=(), **changes):
    """Start the client, for a run of the worker or for a command, by a program if `under` names one."""
    words = ["-c", COMMAND] if command else ["-I", "-S", prefork_client.__file__]
    return subprocess.Popen(  # whatever signals the tests themselves ignore, and in no orphaned process group
        ["env", "--default-signal=HUP,INT,TSTP", *under, sys.executable, *words, place / "prefork.sock"],
        process_group=0,
        env=environment(place, **changes),
        cwd=place,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def pid_of(place):
    """Return the PID of the run's process once it exists."""
    for _ in range(200):
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int((place / "pid").read_text())
        time.sleep(0.05)
    raise AssertionError("it did not start")


@pytest.mark.parametrize("status", [0, 3])
def test_forked_run_has_own_environment_directory_output_and_status(served, status):
    """The run behaves as if it had been started by itself."""
    process = asking(served, SAID="my own", DOES=str(status))

    out, err = process.communicate(timeout=30)

    assert (out, process.returncode) == (f"my own {served.name} the-run\n", status), err


def test_forked_runs_are_independent(served):
    """Each run is a fork of the same initial process."""
    first, second = asking(served, SAID="one"), asking(served, SAID="two")

    assert {each.communicate(timeout=30)[0].split()[0] for each in (first, second)} == {"one", "two"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_reaches_forked_run_and_its_end_is_reported(served, number):
    """Prefect cancels a run by a signal."""
    process = asking(served, DOES="waits")
    run = pid_of(served)

    process.send_signal(number)
    process.communicate(timeout=30)

    assert process.returncode == (7 if number == signal.SIGTERM else -number)
    assert not runs(run)


def test_forked_run_ends_if_its_client_is_killed(served):
    """A killed worker leaves nothing running."""
    process = asking(served, DOES="waits")
    run = pid_of(served)

    process.kill()
    process.communicate(timeout=30)

    end = time.monotonic() + 10
    while runs(run) and time.monotonic() < end:
        time.sleep(0.05)
    assert not runs(run)


def assert_starts_alone(place, **changes):
    """Start a run; the real engine runs it, and does not know the run ID."""
    process = asking(place, **changes)
    out, err = process.communicate(timeout=PATIENCE)

    assert "hello" not in out
    assert process.returncode == 1 and "Invalid flow run id" in err + out


def test_run_without_server_starts_alone(tmp_path):
    """It takes longer, and is otherwise the same."""
    assert_starts_alone(directory_in(tmp_path))


def test_run_with_settings_unlike_those_of_server_starts_alone(served):
    """A fork has the settings of the server."""
    assert_starts_alone(served, PREFECT_HOME=str(served / "other"))


def test_server_restarts_after_code_change(own_server):
    """The first run after the change starts alone; later runs are forks of the new code."""
    (own_server / "code").write_text("2")
    assert_starts_alone(own_server)

    end = time.monotonic() + PATIENCE
    while "hello" not in (output := asking(own_server).communicate(timeout=PATIENCE)[0]) and time.monotonic() < end:
        time.sleep(0.2)
    assert output == f"hello {own_server.name} the-run\n"


def test_command_has_input_mask_and_nice_value_of_its_caller(served):
    """A command in a fork behaves as one that was started by itself."""
    under = ("sh", "-c", 'umask 027; exec nice -n 3 "$@"', "sh")
    process = asking(served, command=True, under=under, DOES="tells", TZ="XYZ1", TMPDIR=str(served))

    out, err = process.communicate("typed", timeout=30)

    assert out.splitlines()[1] == f"typed 0o27 {min(os.nice(0) + 3, 19)} XYZ {served}", err


def test_command_is_forked_if_caller_sets_no_prefect_settings(served):
    """A worker gives a run all settings that the server has; a person sets none."""
    out, err = asking(served, command=True, PREFECT_HOME=None, PREFECT_LOGGING_LEVEL=None).communicate(timeout=30)

    assert out == f"hello {served.name} the-run\n", err


@pytest.mark.parametrize(
    ("changes", "under"),
    [
        ({"PREFECT_LOGGING_LEVEL": "DEBUG"}, ()),
        ({"LD_PRELOAD": ""}, ()),
        ({"CSCM_HOME": "/elsewhere"}, ()),
        ({"PREFECT_API_URL": "http://127.0.0.1:1/api", "PREFECT_HOME": None}, ()),
        ({"PYTHONOPTIMIZE": None}, ()),
        ({}, ("unshare", "--user", "--map-root-user", "--mount")),
        ({}, ("unshare", "--uts")),
        ({}, ("setpriv", "--no-new-privs")),
        ({}, ("sh", "-c", 'ulimit -n 77; exec "$@"', "sh")),
        ({}, ("sh", "-c", 'exec "$@" <&-', "sh")),
    ],
)
def test_command_with_other_settings_than_server_is_not_forked(served, changes, under):
    """Its caller may see other files, or have other settings, than the server."""
    process = asking(served, command=True, under=under, **changes)

    out, err = process.communicate(timeout=30)

    assert out == "not forked", err


@pytest.mark.parametrize(
    ("does", "status", "message"), [("is killed", -signal.SIGKILL, ""), ("it is broken", 1, "it is broken\n")]
)
def test_command_ends_with_status_of_fork(served, does, status, message):
    """The status is that of the process, whatever ended it."""
    process = asking(served, command=True, DOES=does)

    assert (process.communicate(timeout=30)[1], process.returncode) == (message, status)


def test_fork_runs_exit_handlers_and_flushes_output(served):
    """Threads and what is registered with `atexit` end first; then logs and output are written. No memory is freed."""
    process = asking(served, command=True, DOES="leaves work")

    out, err = process.communicate(timeout=30)

    assert (out.splitlines()[1:], process.returncode) == (["output"], 5), err
    assert (served / "work").read_text() == "thread atexit log\n"
    assert (served / "freed").read_text() == ""


def test_fork_prints_unexpected_error(served):
    """The status is Python's."""
    process = asking(served, command=True, DOES="raises")

    assert "RuntimeError: unexpected" in process.communicate(timeout=30)[1] and process.returncode == 1


def test_output_with_slow_reader_is_complete(served):
    """A pipe has room for 64 KiB; a stopped and continued process may write only a part of its buffer."""
    process = asking(served, command=True, DOES="writes")
    time.sleep(0.5)
    process.send_signal(signal.SIGTSTP)
    assert wait_for_state(process.pid, "T")
    process.send_signal(signal.SIGCONT)

    out, err = process.communicate(timeout=30)

    assert out.count("x") >= 1_000_000 and process.returncode == 0, err


def test_command_in_removed_directory_is_not_forked(served, tmp_path):
    """It says itself what is wrong."""
    place = tmp_path / "place"
    place.mkdir()
    words = [sys.executable, "-c", f"import os; os.rmdir({str(place)!r})\n{COMMAND}", served / "prefork.sock"]

    done = subprocess.run(words, cwd=place, env=environment(served), capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("not forked", "")


def test_server_that_does_not_answer_runs_nothing(own_server):
    """The command may run by itself meanwhile."""
    (server,) = [int(each) for each in (own_server / "server").read_text().split()]
    os.kill(server, signal.SIGSTOP)
    out, err = asking(own_server, command=True, DOES="waits").communicate(timeout=30)
    os.kill(server, signal.SIGCONT)

    assert out == "not forked", err
    assert asking(own_server, command=True).communicate(timeout=30)[0].startswith("hello")  # it serves the next one
    assert not (own_server / "pid").exists()


def test_client_sends_nothing_to_socket_of_another_user(tmp_path, monkeypatch):
    """A request has the whole environment of the caller."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(tmp_path / "prefork.sock"))
        other.listen()
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

        assert prefork_client.run(str(tmp_path / "prefork.sock"), prefork_client.FLOW_RUN, []) is None
        connection, _ = other.accept()
        with connection:
            assert connection.recv(4) == b""


def test_command_without_server_is_not_forked(tmp_path):
    """Then it runs in its own process."""
    assert asking(directory_in(tmp_path), command=True).communicate(timeout=30)[0] == "not forked"


def test_signal_that_the_client_ignores_does_not_reach_the_fork(served):
    """`nohup` lets a command outlive its terminal."""
    process = asking(served, command=True, under=("nohup",), DOES="waits")
    run = pid_of(served)

    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)

    assert runs(run) and process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert not runs(run)


def test_fork_stops_and_continues_with_its_client(served):
    """Ctrl-Z stops a command in the terminal, and `fg` continues it."""
    process = asking(served, command=True, DOES="waits")
    run = pid_of(served)

    process.send_signal(signal.SIGTSTP)
    stopped = [wait_for_state(each, "T") for each in (run, process.pid)]
    process.send_signal(signal.SIGCONT)
    continued = wait_for_state(run, "S")

    assert (stopped, continued) == ([True, True], True)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


def wait_for_state(pid, state):
    """Return whether a process has a state (proc_pid_stat(5)) within ten seconds."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if state_of(pid) == state:
            return True
        time.sleep(0.02)
    return False


def test_select_settings_leaves_out_variables_of_one_run():
    """Variables of one run and unrelated variables do not matter."""
    found = prefork_server.select_settings(
        {"PREFECT_HOME": "/h", "PREFECT__FLOW_RUN_ID": "1", "CSCM_HOME": "/c", "LANG": "C"}
    )

    assert found == {"PREFECT_HOME": "/h", "CSCM_HOME": "/c"}


def test_fingerprint_changes_with_code(monkeypatch, tmp_path):
    """It is compared before each run, so no run uses old code."""
    room = tmp_path / "supply_chain"
    room.mkdir()
    (room / "a.py").write_text("1")
    monkeypatch.setattr(importlib, "import_module", lambda _: type("Room", (), {"__path__": [str(room)]}))
    before = prefork_server.compute_fingerprint()

    (room / "b.py").write_text("1")

    assert prefork_server.compute_fingerprint() != before


def test_server_imports_flow_of_every_deployment():
    """A missing flow still runs, but starts some seconds later."""
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    started = {each["entrypoint"].partition(":")[0] for each in deployments}

    assert started <= set(prefork_server.IMPORTED)


def test_preloading_builds_models_and_reads_descriptions():
    """Each fork would do both again. A process of its own, because models stay built."""
    script = (
        "import botocore.loaders\n"
        "from prefect.client.schemas.objects import FlowRun\n"
        "from orchestration.prefork_server import preload\n"
        "before = FlowRun.__pydantic_complete__\n"
        "preload(())\n"
        "from supply_chain.adapters.aws.session import AwsSession\n"
        "botocore.loaders.JSONFileLoader.load_file = None\n"
        "AwsSession('key', 'secret', 'arn:aws:iam::1:role/x', 'us-east-1').client('ecr')\n"
        "print(before, FlowRun.__pydantic_complete__)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(Path.cwd()), capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.returncode) == ("False True\n", 0), done.stderr
