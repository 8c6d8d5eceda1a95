"""Warm runs: a copy of a process that has imported everything is a run like any other, and without one it runs too."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from orchestration import prefork_client as warmly
from orchestration import prefork_server as warm

ROOT = Path(__file__).parents[3]
SERVER = """
import os, signal, sys, time
from pathlib import Path
from plumbum import local
from orchestration import prefork_server as warm

def engine(*_, **how):
    assert sys.argv == ["prefect.engine"]
    assert local.env["SAID"] == os.environ["SAID"], "and so do the commands that it runs"
    print(os.environ["SAID"], Path.cwd().name, os.environ.get("PREFECT__FLOW_RUN_ID"), flush=True)
    what = os.environ["DOES"]
    if what == "waits":
        Path("pid").write_text(str(os.getpid()))
        time.sleep(60)
    raise SystemExit(int(what))

warm.IMPORTED = ()
warm.as_a_worker_gives_it = dict
warm.fingerprint = lambda: Path(sys.argv[2]).read_text()
warm.runpy.run_module = engine
sys.exit(warm.main(Path(sys.argv[1])))
"""


def environment(place, **changes):
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "PREFECT_HOME": str(place)}
    return {**kept, "SAID": "hello", "DOES": "0", "PREFECT__FLOW_RUN_ID": "the-run", **changes}


@pytest.fixture
def place(tmp_path):
    """A directory whose socket's name is longer than a socket's may be."""
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    (deep / "code").write_text("1")
    return deep


@pytest.fixture
def served(place):
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, place / "warm.sock", place / "code"],
        env=environment(place),
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None and process.stderr.readline() == b"ready\n"
    yield place
    process.kill()
    process.wait()
    process.stderr.close()


def asking(place, **changes):
    return subprocess.Popen(
        [sys.executable, "-I", "-S", warmly.__file__, place / "warm.sock"],
        env=environment(place, **changes),
        cwd=place,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def pid_of(place):
    """The run's own process, once it is there."""
    for _ in range(200):
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int((place / "pid").read_text())
        time.sleep(0.05)
    raise AssertionError("it did not start")


def lives(pid):
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@pytest.mark.parametrize("status", [0, 3])
def test_a_run_has_its_own_environment_directory_output_and_status(served, status):
    """As if it had been started by itself."""
    process = asking(served, SAID="my own", DOES=str(status))

    out, err = process.communicate(timeout=30)

    assert (out, process.returncode) == (f"my own {served.name} the-run\n", status), err


def test_one_run_knows_nothing_of_another(served):
    """Each is a copy of the same beginning."""
    first, second = asking(served, SAID="one"), asking(served, SAID="two")

    assert {each.communicate(timeout=30)[0].split()[0] for each in (first, second)} == {"one", "two"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_run_and_its_end_is_told(served, number):
    """That is how a run is cancelled."""
    process = asking(served, DOES="waits")
    run = pid_of(served)

    process.send_signal(number)
    process.communicate(timeout=30)

    assert process.returncode == -number
    assert not lives(run)


def test_a_run_ends_with_whoever_asked_for_it(served):
    """A worker that is killed leaves nothing running."""
    process = asking(served, DOES="waits")
    run = pid_of(served)

    process.kill()
    process.communicate(timeout=30)

    end = time.monotonic() + 10
    while lives(run) and time.monotonic() < end:
        time.sleep(0.05)
    assert not lives(run)


@pytest.mark.parametrize("why", ["nobody there", "other settings", "other code"])
def test_without_a_fitting_process_it_starts_by_itself(served, place, why):
    """The real engine, which here is not told of a run that it could know."""
    if why == "nobody there":
        (place / "warm.sock").unlink()
    if why == "other code":
        (place / "code").write_text("2")
    changes = {"PREFECT_HOME": str(place / "other")} if why == "other settings" else {}

    process = asking(place, **changes)
    out, err = process.communicate(timeout=60)

    assert "hello" not in out
    assert process.returncode == 1 and "Invalid flow run id" in err + out


def test_after_a_change_of_code_the_process_starts_again(served):
    """The first run after a change starts by itself; those after it are copies of the new code."""
    (served / "code").write_text("2")
    asking(served).communicate(timeout=60)

    end = time.monotonic() + 30
    while "hello" not in (said := asking(served).communicate(timeout=60)[0]) and time.monotonic() < end:
        time.sleep(0.2)
    assert said == f"hello {served.name} the-run\n"


def test_only_what_configures_is_compared():
    """What is of one run alone is not, nor what has nothing to do with it."""
    found = warm.settings_of({"PREFECT_HOME": "/h", "PREFECT__FLOW_RUN_ID": "1", "CSCM_HOME": "/c", "LANG": "C"})

    assert found == {"PREFECT_HOME": "/h", "CSCM_HOME": "/c"}


def test_a_changed_file_changes_the_fingerprint(monkeypatch, tmp_path):
    """Asked before each run, so that none is of yesterday's code."""
    room = tmp_path / "supply_chain"
    room.mkdir()
    (room / "a.py").write_text("1")
    monkeypatch.setattr(warm.importlib, "import_module", lambda _: type("Room", (), {"__path__": [str(room)]}))
    before = warm.fingerprint()

    (room / "b.py").write_text("1")

    assert warm.fingerprint() != before


def test_every_flow_that_a_deployment_starts_is_imported():
    """One that is forgotten runs too, only some seconds later."""
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    started = {each["entrypoint"].partition(":")[0] for each in deployments}

    assert started <= set(warm.IMPORTED)
