"""What the probe concludes from what it saw."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.development import probe as probing
from supply_chain.development.probe import SEARCHED, Findings, Run
from supply_chain.development.separation import BuildLimits, Room
from supply_chain.errors import CheckNotMade
from supply_chain.evidence.checks import Outcome
from supply_chain.model.container import Change, Container, ContainerSpec, Listener, LocalImage, Logs, Process, profile
from supply_chain.model.manifest import Probe, Runtime, Service, Test
from supply_chain.readiness import Answer
from tests.support import memory_engine as memory
from tests.support.memory_engine import MemoryEngine, Program

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
MANIFEST = Service(
    kind="service",
    name="hello",
    owner="tests",
    test=Test(command=("python3", "-m", "unittest")),
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


@given(st.sets(st.text("/-ab", min_size=1, max_size=8).map("/".__add__), max_size=12).map(sorted))
def test_paths_are_shown_without_the_directories_above_them(paths):
    """In their order; a name that sorts between a directory and what lies in it hides neither."""
    wanted = [path for path in paths if not any(other.startswith(path + "/") for other in paths)]

    assert probing._leaves(paths) == wanted


@pytest.mark.timeout(60)
def test_many_written_paths_are_shown():
    """A program writes as many as it can; compared with each other, these would take an hour."""
    paths = [f"/data/{number:06}" for number in range(100_000)]

    assert probing._leaves(["/data", *paths]) == paths


LIMITS = BuildLimits(memory=2**30, processes=100, cpus=1, disk=2**30, reserve=0)
ROOM = Room(LIMITS, lambda: "")


@dataclass
class Sees:
    """A search that finds a kind of secret wherever a word stands."""

    word: str = "hunter2"
    tools: ClassVar = {"detect-secrets": "1"}

    def kinds(self, text):
        return ("Secret Keyword",) if self.word in text else ()


@pytest.mark.parametrize(
    ("strict", "loose"),
    [
        ({"logs": Logs("a\nhunter2\n", "")}, {}),
        ({"logs": Logs("", "hunter2")}, {}),
        ({}, {"logs": Logs("hunter2" + "." * (SEARCHED - 7), "")}),
        ({"processes": (Process(pid=7, parent=1, uid=10001, command="/app --password=hunter2"),)}, {}),
    ],
    ids=["standard output", "standard error", "only where it may write", "arguments"],
)
def test_a_secret_in_what_a_program_shows_fails_and_is_not_repeated(strict, loose):
    """The evidence says of what kind it is, and no more."""
    found, first = Findings(), run(**strict)
    kinds = probing._secrets(Sees(), first, run(**loose))
    probing._judge_start(found, first, run(**loose), MANIFEST, secret=bool(kinds))
    probing._judge_processes(found, first, MANIFEST)

    probing._judge_secrets(found, kinds)

    assert found.failed == ["What it prints, or a command of it, looks like a secret: Secret Keyword."]
    assert "hunter2" not in repr(found)


def test_what_holds_no_secret_is_shown():
    """It helps whoever looks for a fault."""
    found = Findings()
    probing._judge_start(found, run(), run(), MANIFEST, secret=False)

    probing._judge_secrets(found, probing._secrets(Sees(), run(), run()))

    assert found.failed == [] and found.details["last_output"] == ["listening"]


LATE = f"It was not ready within {MANIFEST.probe.start_timeout} s: "
SILENT = Answer(False, 2.0, "no answer from port 8080: refused")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"answer": Answer(False, 0.1, "it ended with status 2"), "processes": (), "listeners": ()},
            "It was not ready before it was over: it ended with status 2. It last said: listening",
        ),
        (
            {"answer": SILENT, "listeners": (Listener(address="0.0.0.0", port=9090),)},
            f"{LATE}{SILENT.says}. It listens on 0.0.0.0 9090. It last said: listening",
        ),
        (
            {"answer": SILENT, "listeners": (Listener(address="127.0.0.1", port=8080),)},
            f"{LATE}{SILENT.says}. It listens on 127.0.0.1 8080. It last said: listening",
        ),
        (
            {"answer": SILENT, "listeners": ()},
            f"{LATE}{SILENT.says}. It listens on no port. It last said: listening",
        ),
        (
            {"answer": Answer(False, 2.0, "/ is answered with 500")},
            f"{LATE}/ is answered with 500. It last said: listening",
        ),
    ],
    ids=["it ended", "another port", "loopback", "nowhere", "not well"],
)
def test_why_it_was_not_ready_is_told_as_far_as_it_can_be_seen(changes, told):
    """What it listens on, and its own last words; none where they seem to hold a secret."""
    for secret, expected in ((False, told), (True, told.replace(" It last said: listening", ""))):
        found = Findings()

        probing._judge_start(found, run(**changes), run(), MANIFEST, secret=secret)

        assert found.failed[0] == expected


def ends(logs, status=0):
    """An engine in which every container ends at once, with what it printed."""
    engine = MemoryEngine()
    engine.add("image", program=Program(status=status, logs=logs))
    return engine


def of_tests(out, status=0):
    return probing.run_tests(ends(Logs(out, ""), status), "image", MANIFEST, lambda: NOON, "run", Sees(), ROOM)


def test_tests_pass_by_what_they_tested():
    """Status 0 is not enough."""
    assert of_tests("Ran 2 tests in 0.1s\n\nOK").outcome is Outcome.PASSED
    nothing = of_tests("Ran 0 tests in 0.0s\n\nOK")
    assert (nothing.passed, nothing.warned, nothing.failed) == ((), (), ())
    assert nothing.outcome is Outcome.WARNED
    assert nothing.details["output"] == ["Ran 0 tests in 0.0s", "", "OK"]


def test_tests_of_nothing_that_fail_have_failed():
    """The reason is their status."""
    assert of_tests("", status=5).failed == ("`python3 -m unittest` failed: it ended with status 5.",)


@pytest.mark.parametrize("program", [Program(status=0), Program(error="no such file")], ids=["ends", "does not start"])
def test_no_container_outlives_its_check(program):
    """Also of a program that is not in the image; that is a failure of the image's."""
    engine = MemoryEngine()
    engine.add("image", program=program)

    result = probing.run_tests(engine, "image", MANIFEST, lambda: NOON, "run", Sees(), ROOM)

    assert engine.held == {}
    assert bool(result.failed) == bool(program.error)


def test_a_failure_ends_with_what_was_said_last():
    """The cause is seen without looking for the log; lines without a word in them say nothing."""
    (failed,) = of_tests("one\ntwo\nthree  is\n-----\n\nFAILED (failures=1)\n", status=1).failed

    assert (
        failed
        == "`python3 -m unittest` failed: it ended with status 1. It last said: two | three is | FAILED (failures=1)"
    )


def test_what_was_said_last_is_no_secret():
    """Neither in the reason nor elsewhere."""
    result = of_tests("password hunter2\n", status=1)

    assert result.failed == ("`python3 -m unittest` failed: it ended with status 1.",)
    assert "hunter2" not in result.model_dump_json()


def test_a_secret_that_tests_print_is_a_warning_and_not_repeated():
    """They are full of made-up ones."""
    result = of_tests("1 passed\npassword hunter2\n")

    assert result.outcome is Outcome.WARNED and result.passed
    assert "hunter2" not in result.model_dump_json()
    assert result.tools == {"engine": "1", "detect-secrets": "1", "tests": probing.TESTS_VERSION}


def test_a_base_is_checked_by_its_status_alone(make):
    """A check command need not say anything."""
    result = probing.check_command(ends(Logs("", "")), "image", make.base(), lambda: NOON, "run", Sees(), ROOM)

    assert result.outcome is Outcome.PASSED


@dataclass
class Specs(MemoryEngine):
    """An engine that shows what it was asked for."""

    specs: list[ContainerSpec] = field(default_factory=list)

    def create(self, spec):
        self.specs.append(spec)
        return super().create(spec)


GREEDY = MANIFEST.model_copy(
    update={
        "test": Test(command=("python3", "-m", "unittest"), memory="4000GiB", timeout=5),
        "runtime": Runtime(memory="4000GiB"),
        "probe": Probe(port=8080, start_timeout=1, stop_timeout=1),
    }
)


@pytest.mark.parametrize("asked", [GREEDY, MANIFEST], ids=["more", "less"])
def test_a_declaration_gets_no_more_of_the_host_than_a_build(asked, make):
    """Neither memory, which paths in memory count as, nor a file's size; what asks for less gets that."""
    engine, base = Specs(), make.base().model_copy(update={"runtime": asked.runtime})
    engine.add("image", program=Program(status=0))

    probing.run_tests(engine, "image", asked, lambda: NOON, "run", Sees(), ROOM)
    probing.probe(engine, "image", asked, lambda: NOON, "run", Sees(), ROOM)
    probing.check_command(engine, "image", base, lambda: NOON, "run", Sees(), ROOM)

    most = min(asked.runtime.memory, LIMITS.memory // 3)
    assert [(each.profile.memory, each.largest_file) for each in engine.specs] == [(most, LIMITS.disk)] * 4


TAKEN = "the free space fell by more than 1 MiB since it began"


@pytest.mark.parametrize("found", [TAKEN, OSError(5, "Input/output error")], ids=["taken", "unreadable"])
@pytest.mark.parametrize("check", [probing.probe, probing.run_tests])
def test_a_check_is_not_made_where_the_hosts_disk_is_taken(check, found):
    """It is no failure of the application, which others' evidence would rest on; what it wrote goes all the same."""
    engine, seen = MemoryEngine(), chain([""], repeat(found))
    engine.add("image")

    def look():
        if isinstance(now := next(seen), OSError):
            raise now
        return now

    with pytest.raises(CheckNotMade, match=re.escape(str(found))):
        check(engine, "image", GREEDY, lambda: NOON, "run", Sees(), Room(LIMITS, look))

    assert (engine.held, engine.network_labels) == ({}, {})


def test_a_service_that_does_not_stop_is_ended_before_it_is_looked_at(monkeypatch):
    """It could take the disk meanwhile; what it took before is seen all the same."""
    monkeypatch.delitem(memory.SIGNALS, "SIGTERM")
    engine = MemoryEngine()
    engine.add("image")

    def look():
        return "the free space fell" if {signal for _, signal in engine.heard} == {"SIGTERM", "SIGKILL"} else ""

    with pytest.raises(CheckNotMade, match="the free space fell"):
        probing.probe(engine, "image", GREEDY, lambda: NOON, "run", Sees(), Room(LIMITS, look))


def test_silence_is_told_apart_from_the_wrong_stream():
    """Both are warnings, each with its own words."""
    silent, wrong = Findings(), Findings()

    probing._judge_logs(silent, run(logs=Logs("", "")))
    probing._judge_logs(wrong, run(logs=Logs("", "x\n")))

    assert "nothing, neither" in silent.warned[0]
    assert "standard error only" in wrong.warned[0]


def declared(command=("echo", "12 passed"), report=None):
    test = Test(command=command, report=report)
    return MANIFEST.model_copy(update={"test": test})


def result_of(manifest, out="12 passed", files=None, brought=None):
    engine = MemoryEngine()
    engine.add("image", program=Program(status=0, logs=Logs(out, ""), files=files or {}, brought=brought or {}))
    return probing.run_tests(engine, "image", manifest, lambda: NOON, "run", Sees(), ROOM)


def test_a_command_that_merely_prints_is_a_warning():
    """It may be a runner that nobody knows here; a policy may deny it by its code."""
    result = result_of(declared())

    assert (result.outcome, result.failed, result.shows_tests) == (Outcome.WARNED, (), False)
    (warned,) = result.warned
    assert warned.endswith("(tests.not-shown).") and "test.report" in warned
    assert result.details["tested"] == {"shown": False, "by": "", "ran": 0}


def test_a_runner_that_reports_shows_how_many_tests_ran():
    """The count stands in the evidence."""
    result = result_of(declared(["/venv/bin/pytest", "-q"]), "12 passed in 0.10s")

    assert (result.outcome, result.shows_tests) == (Outcome.PASSED, True)
    assert result.details["tested"] == {"shown": True, "by": "pytest", "ran": 12}
    assert result.passed[0].endswith(", 12 tests by pytest")


@pytest.mark.parametrize(
    ("content", "shown", "failed"),
    [
        (b"<testsuite><testcase/></testsuite>", True, None),
        (b"<testsuite><testcase><error/></testcase></testsuite>", False, "tells of 1 failed tests"),
        (b"rubbish", False, "cannot be read"),
        (None, False, "there is no report at /report.xml (test.report)"),
    ],
)
def test_a_declared_report_decides(content, shown, failed):
    """It is read out of the container that has ended; without it the tests have failed, whatever was printed."""
    result = result_of(declared(report="/report.xml"), files={} if content is None else {"/report.xml": content})

    assert result.shows_tests is shown
    assert bool(result.failed) is bool(failed) and all(failed in each for each in result.failed)


def test_report_that_the_image_brought_shows_nothing():
    """It tells of no run, but one that the tests wrote in its place does."""
    report = {"/r": b"<testsuite><testcase/></testsuite>"}

    brought = result_of(declared(report="/r"), brought=report)
    written = result_of(declared(report="/r"), brought={"/r": b"<testsuite/>"}, files=report)

    assert brought.shows_tests is False
    assert brought.failed == (
        "`echo 12 passed` ended with status 0, and its report /r is the one that the image brought before the run "
        "(test.report).",
    )
    assert written.shows_tests is True


def test_a_report_of_no_tests_is_a_check_of_nothing():
    """The gate refuses it."""
    assert result_of(declared(report="/r"), files={"/r": b"<testsuite/>"}).empty
