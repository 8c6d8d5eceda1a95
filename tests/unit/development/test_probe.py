"""What the probe concludes from what it saw."""

from datetime import UTC, datetime

import pytest

from supply_chain.app import Probe, Runtime, Service, Test
from supply_chain.container import (
    Answer,
    Change,
    Container,
    Listener,
    LocalImage,
    Logs,
    Process,
    profile,
)
from supply_chain.development import probe as probing
from supply_chain.development.probe import Findings, Run

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
MANIFEST = Service(
    kind="service",
    name="hello",
    owner="tests",
    test=Test(command=("true",)),
    probe=Probe(port=8080),
    runtime=Runtime(writable=("/tmp",)),
)


def run(**changes) -> Run:
    end = Container(
        id="1" * 64,
        name="probe",
        image=DIGEST,
        labels={},
        status=changes.pop("status", "exited"),
        pid=0,
        exit_code=changes.pop("exit_code", 0),
        out_of_memory=False,
        error="",
        restarts=0,
        restart=False,
        created_at=NOON,
        started_at=NOON,
        finished_at=NOON,
        profile=profile(MANIFEST.runtime),
        environment={},
        command=("/app",),
        networks={},
        published=(),
    )
    seen = {
        "answer": Answer(True, 0.2),
        "again": "",
        "listeners": (Listener(address="0.0.0.0", port=8080),),
        "processes": (Process(pid=7, parent=1, uid=10001, command="/app"),),
        "stop_seconds": 0.1,
        "end": end,
        "logs": Logs("listening\n", ""),
        "changes": (),
    }
    return Run(**{**seen, **changes})


@pytest.mark.parametrize(("code", "failed"), [(0, False), (143, False), (1, True), (137, True), (2, True)])
def test_only_a_meant_end_is_a_good_one(code, failed):
    """0 and 143 say that the program ended on SIGTERM; anything else that it fell over."""
    found = Findings()

    probing._judge_stop(found, run(exit_code=code), MANIFEST)

    assert bool(found.failed) is failed
    assert found.details["exit_code"] == code


def test_a_program_that_goes_on_has_no_exit_code():
    """What did not end is not given a status it never had."""
    found = Findings()

    probing._judge_stop(found, run(status="running"), MANIFEST)

    assert found.failed == ["It did not stop within 5 s of SIGTERM."]
    assert found.details["exit_code"] is None


def test_a_port_on_loopback_is_nobodys_business():
    """A socket that only the container itself can reach needs no declaration."""
    found = Findings()
    more = (*run().listeners, Listener(address="127.0.0.1", port=9999), Listener(address="::1", port=9998))

    probing._judge_ports(found, run(listeners=more), MANIFEST)

    assert found.failed == []


def test_one_process_as_another_user_is_too_many():
    """Every process counts, not only the first."""
    found = Findings()
    more = (*run().processes, Process(pid=8, parent=7, uid=0, command="helper"))

    probing._judge_processes(found, run(processes=more), MANIFEST)

    assert found.failed == ["It runs as uid 0, not only as 10001."]


def test_no_process_seen_is_no_pass():
    """Nothing to look at is not a good sign."""
    found = Findings()

    probing._judge_processes(found, run(processes=()), MANIFEST)

    assert found.failed


def test_what_the_engine_changes_is_not_held_against_the_program():
    """What differs with a read-only root too, the program cannot have written."""
    found, image = Findings(), LocalImage(digest=DIGEST, environment={}, command=(), volumes=(), labels={})
    engines = (Change(kind="added", path="/etc/hostname"),)
    own = (*engines, Change(kind="added", path="/tmp/x"), Change(kind="changed", path="/srv"))
    own += (Change(kind="added", path="/srv/log"),)

    probing._judge_writes(found, run(changes=engines), run(changes=own), image, MANIFEST)

    assert found.failed == ["It writes where nobody declared it to: /srv/log."]
    assert found.details["writes_outside"] == ["/srv", "/srv/log"]


def test_silence_is_told_apart_from_the_wrong_stream():
    """Both are warnings, each with its own words."""
    silent, wrong = Findings(), Findings()

    probing._judge_logs(silent, run(logs=Logs("", "")))
    probing._judge_logs(wrong, run(logs=Logs("", "x\n")))

    assert "nothing, neither" in silent.warned[0]
    assert "standard error only" in wrong.warned[0]
