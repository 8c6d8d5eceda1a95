"""The conclusions of the probe and of the test run from what they observed."""

import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.development import probe as probing
from supply_chain.development import probe_findings
from supply_chain.development.probe_findings import SEARCHED, Findings, Run, judge_service
from supply_chain.development.separation import BuildLimits, Room
from supply_chain.errors import CheckIncomplete
from supply_chain.evidence.checks import Outcome
from supply_chain.model.container import (
    Change,
    Container,
    ContainerSpec,
    Listener,
    LocalImage,
    Logs,
    Process,
    make_profile,
)
from supply_chain.model.declaration import Probe, Runtime, Service, Test
from supply_chain.readiness import Answer
from tests.support import memory_engine as memory
from tests.support.memory_engine import MemoryEngine, Program

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
DECLARATION = Service(
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
        profile=make_profile(DECLARATION.runtime),
        environment={},
        command=("/app",),
        networks={},
        published=(),
    )
    observed = {
        "answer": Answer(True, 0.2),
        "again": "",
        "listeners": (Listener(address="0.0.0.0", port=8080),),
        "observed": 3.0,
        "processes": (Process(pid=7, parent=1, uid=10001, command="/app"),),
        "stop_seconds": 0.1,
        "end": end,
        "logs": Logs("listening\n", ""),
        "changes": (),
    }
    return Run(**{**observed, **changes})


@pytest.mark.parametrize(("code", "failed"), [(0, False), (143, False), (1, True), (137, True), (2, True)])
def test_probe_fails_exit_code_other_than_0_or_143(code, failed):
    """Only 0 and 143 mean that the program ended on SIGTERM as intended."""
    found = Findings()

    probe_findings._judge_stop(found, run(exit_code=code), DECLARATION)

    assert bool(found.failed) is failed
    assert found.details["exit_code"] == code


def test_probe_reports_no_exit_code_if_program_does_not_stop():
    """A program that is still running has no exit status."""
    found = Findings()

    probe_findings._judge_stop(found, run(status="running"), DECLARATION)

    assert found.failed == ["It did not stop within 5 s of SIGTERM."]
    assert found.details["exit_code"] is None


def test_probe_ignores_undeclared_port_on_loopback():
    """Only the container itself can reach such a port."""
    found = Findings()
    more = (*run().listeners, Listener(address="127.0.0.1", port=9999), Listener(address="::1", port=9998))

    probe_findings._judge_ports(found, run(listeners=more), DECLARATION)

    assert found.failed == []


def test_probe_reports_how_long_it_observed_ports():
    """Nobody knows what a service opens later."""
    found = Findings()

    probe_findings._judge_ports(found, run(observed=3.04), DECLARATION)

    assert found.passed == ["listens on port 8080 and no other in its first 3.0 s"]
    assert found.details["listening_observed_seconds"] == 3.04


def udp(port: int, address: str = "0.0.0.0") -> Listener:
    return Listener(address=address, port=port, protocol="udp")


@pytest.mark.parametrize("port", [53, 9999, 32767, 61000])
def test_probe_fails_if_undeclared_udp_port_is_open(port):
    """Everybody who reaches the container can send to it."""
    found = Findings()

    probe_findings._judge_ports(found, run(listeners=(*run().listeners, udp(port))), DECLARATION)

    assert found.failed == [f"It listens on undeclared ports: {port}/udp. Declare them in runtime.ports."]
    assert found.details["listening"] == ["0.0.0.0 8080", f"0.0.0.0 {port}/udp"]


@pytest.mark.parametrize("port", [32768, 60999])
def test_probe_warns_of_udp_socket_with_port_of_client(port):
    """A client that sends has such a socket; the check does not say that no other port is open."""
    found = Findings()

    probe_findings._judge_ports(found, run(listeners=(*run().listeners, udp(port), udp(port, "::"))), DECLARATION)

    assert (found.passed, found.failed) == (["listens on port 8080"], [])
    assert found.warned == [
        f"It has UDP sockets that receive from any address, and may belong to a server: {port}/udp."
    ]


def test_probe_fails_for_tcp_listener_with_port_of_client():
    """A client's TCP socket does not listen."""
    found = Findings()

    probe_findings._judge_ports(
        found, run(listeners=(*run().listeners, Listener(address="::", port=40000))), DECLARATION
    )

    assert found.failed == ["It listens on undeclared ports: 40000. Declare them in runtime.ports."]


@pytest.mark.parametrize("protocol", ["udplite", "sctp"])
def test_probe_names_protocol_of_undeclared_port(protocol):
    """Port 9998 of TCP may be declared, or closed."""
    found = Findings()

    listener = Listener(address="0.0.0.0", port=9998, protocol=protocol)
    probe_findings._judge_ports(found, run(listeners=(*run().listeners, listener)), DECLARATION)

    assert found.failed == [f"It listens on undeclared ports: 9998/{protocol}. Declare them in runtime.ports."]
    assert found.details["listening"] == ["0.0.0.0 8080", f"0.0.0.0 9998/{protocol}"]


@pytest.mark.parametrize("listener", [udp(8080), udp(9999, "127.0.0.1"), udp(9999, "::1")])
def test_probe_accepts_udp_on_declared_port_and_loopback(listener):
    """A port is declared for both protocols."""
    found = Findings()

    probe_findings._judge_ports(found, run(listeners=(*run().listeners, listener)), DECLARATION)

    assert (found.failed, found.warned) == ([], [])


def test_probe_fails_if_any_process_runs_as_other_user():
    """Every process counts, not only the first."""
    found = Findings()
    more = (*run().processes, Process(pid=8, parent=7, uid=0, command="helper"))

    probe_findings._judge_processes(found, run(processes=more), DECLARATION)

    assert found.failed == ["It runs processes as uid 0; 10001 is declared."]


def test_probe_fails_if_no_process_was_observed():
    """Missing observations are not a pass."""
    found = Findings()

    probe_findings._judge_processes(found, run(processes=()), DECLARATION)

    assert found.failed


def test_probe_ignores_files_that_the_engine_changes():
    """Files that change with a read-only root too were not written by the program."""
    found, image = Findings(), LocalImage(digest=DIGEST, environment={}, command=(), volumes=(), labels={})
    engines = (Change(kind="added", path="/etc/hostname"),)
    own = (
        *engines,
        Change(kind="added", path="/tmp/x"),
        Change(kind="changed", path="/srv"),
        Change(kind="added", path="/srv/log"),
    )

    probe_findings._judge_writes(found, run(changes=engines), run(changes=own), image, DECLARATION)

    assert found.failed == ["It writes to undeclared paths: /srv/log. Declare them in runtime.writable."]
    assert found.details["writes_outside"] == ["/srv", "/srv/log"]


@given(st.sets(st.text("/-ab", min_size=1, max_size=8).map("/".__add__), max_size=12).map(sorted))
def test_leaves_omit_directories_above_listed_paths(paths):
    """The order is kept, also if another name sorts between a directory and its files."""
    wanted = [path for path in paths if not any(other.startswith(path + "/") for other in paths)]

    assert probe_findings._drop_parents(paths) == wanted


@pytest.mark.timeout(60)
def test_leaves_handle_many_paths_in_time():
    """Comparing all pairs of 100,000 paths would take an hour."""
    paths = [f"/data/{number:06}" for number in range(100_000)]

    assert probe_findings._drop_parents(["/data", *paths]) == paths


LIMITS = BuildLimits(memory=2**30, processes=100, cpus=1, disk=2**30, reserve=0)
ROOM = Room(LIMITS, lambda: "")


@dataclass
class Sees:
    """A secret search that finds one kind of secret wherever a given word occurs."""

    word: str = "hunter2"
    tools: ClassVar = {"detect-secrets": "1"}

    def kinds(self, text):
        return ("Secret Keyword",) if self.word in text else ()


def make_setup(engine, room=ROOM, wait=time.sleep):
    return probing.CheckSetup(engine, "run", Sees(), room, lambda: NOON, wait)


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
def test_probe_fails_secret_in_output_without_repeating_it(strict, loose):
    """The evidence names only the kind of the secret."""
    found, first = Findings(), run(**strict)
    kinds = probing._find_secrets(Sees(), first, run(**loose))
    probe_findings._judge_start(found, first, run(**loose), DECLARATION, secret=bool(kinds))
    probe_findings._judge_processes(found, first, DECLARATION)

    probe_findings._judge_secrets(found, kinds, complete=True)

    assert found.failed == ["What it prints, or a command of it, looks like a secret: Secret Keyword."]
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    ("logs", "where"),
    [
        (Logs("a\n", ""), ""),
        (Logs("." * SEARCHED, ""), ""),
        (Logs("a\n", "", cut=True), " in its last 200 lines, of at most 64 KiB"),
        (Logs("", "." * (SEARCHED + 1)), " in its last 200 lines, of at most 64 KiB"),
    ],
    ids=["short", "just all", "cut", "long"],
)
@pytest.mark.parametrize("start", ["strict", "loose"])
def test_probe_says_which_part_of_output_was_searched(logs, where, start):
    """What came before may hold a secret."""
    starts = {"strict": run(), "loose": run()} | {start: run(logs=logs)}

    local = LocalImage(digest=DIGEST, environment={}, command=(), volumes=(), labels={})
    found = judge_service(**starts, local=local, declaration=DECLARATION, secrets=())

    assert f"prints nothing that looks like a secret{where}" in found.passed


def test_probe_shows_last_output_without_secrets():
    """The output helps to find the cause of a failure."""
    found = Findings()
    probe_findings._judge_start(found, run(), run(), DECLARATION, secret=False)

    probe_findings._judge_secrets(found, probing._find_secrets(Sees(), run(), run()), complete=True)

    assert found.failed == [] and found.details["last_output"] == ["listening"]


LATE = f"It was not ready within {DECLARATION.probe.start_timeout} s: "
SILENT = Answer(False, 2.0, "no answer from port 8080: refused")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"answer": Answer(False, 0.1, "it ended with status 2"), "processes": (), "listeners": ()},
            "It ended before it was ready: it ended with status 2. Its last output: listening",
        ),
        (
            {"answer": SILENT, "listeners": (Listener(address="0.0.0.0", port=9090),)},
            f"{LATE}{SILENT.says}. It listens on 0.0.0.0 9090. Its last output: listening",
        ),
        (
            {"answer": SILENT, "listeners": (Listener(address="127.0.0.1", port=8080),)},
            f"{LATE}{SILENT.says}. It listens on 127.0.0.1 8080. Its last output: listening",
        ),
        (
            {"answer": SILENT, "listeners": (udp(8080),)},
            f"{LATE}{SILENT.says}. It listens on 0.0.0.0 8080/udp. Its last output: listening",
        ),
        (
            {"answer": SILENT, "listeners": ()},
            f"{LATE}{SILENT.says}. It listens on no port. Its last output: listening",
        ),
        (
            {"answer": Answer(False, 2.0, "/ is answered with 500")},
            f"{LATE}/ is answered with 500. Its last output: listening",
        ),
    ],
    ids=["it ended", "another port", "loopback", "udp", "nowhere", "not well"],
)
def test_probe_explains_why_service_was_not_ready(changes, reason):
    """The reason lists the ports and the last output, but no output that may hold a secret."""
    for secret, expected in ((False, reason), (True, reason.replace(" Its last output: listening", ""))):
        found = Findings()

        probe_findings._judge_start(found, run(**changes), run(), DECLARATION, secret=secret)

        assert found.failed[0] == expected


def ends(logs, status=0):
    """Return an engine in which every container ends at once with the given logs and status."""
    engine = MemoryEngine()
    engine.add("image", program=Program(status=status, logs=logs))
    return engine


def of_tests(out, status=0):
    return probing.run_tests(make_setup(ends(Logs(out, ""), status)), "image", DECLARATION)


def test_tests_warn_if_none_ran_despite_exit_status_0():
    """Exit status 0 alone is not a pass."""
    assert of_tests("Ran 2 tests in 0.1s\n\nOK").outcome is Outcome.PASSED
    nothing = of_tests("Ran 0 tests in 0.0s\n\nOK")
    assert (nothing.passed, nothing.warned, nothing.failed) == ((), (), ())
    assert nothing.outcome is Outcome.WARNED
    assert nothing.details["output"] == ["Ran 0 tests in 0.0s", "", "OK"]


@dataclass
class Busy(MemoryEngine):
    """An engine that has the output of a container only some time after its end."""

    late: int = 3

    def logs(self, container):
        self.late -= 1
        return Logs("", "") if self.late >= 0 else super().logs(container)


def test_late_test_output_of_engine_is_read():
    """Tests that ran must not pass for tests that printed nothing, because the engine is busy."""
    engine, waits = Busy(), list[float]()
    engine.add("image", program=Program(status=0, logs=Logs("Ran 2 tests in 0.1s\n\nOK", "")))

    result = probing.run_tests(make_setup(engine, wait=waits.append), "image", DECLARATION)

    assert result.outcome is Outcome.PASSED
    assert waits.count(0.2) == 3


@dataclass
class Forgetful(MemoryEngine):
    """An engine that loses the output of its first containers."""

    lost: int = 1
    created: list[str] = field(default_factory=list)

    def create(self, spec):
        self.created.append(spec.name)
        super().create(spec)

    def logs(self, container):
        return Logs("", "") if len(self.created) <= self.lost else super().logs(container)


@pytest.mark.parametrize(("lost", "runs", "outcome"), [(1, 2, Outcome.PASSED), (9, 3, Outcome.WARNED)])
def test_tests_whose_output_the_engine_lost_run_again(lost, runs, outcome):
    """A container that ends at once may leave no output; what never prints anything is not run for ever."""
    engine = Forgetful(lost=lost)
    engine.add("image", program=Program(status=0, logs=Logs("Ran 2 tests in 0.1s\n\nOK", "")))

    result = probing.run_tests(make_setup(engine, wait=lambda _: None), "image", DECLARATION)

    assert (len(engine.created), result.outcome, result.empty) == (runs, outcome, outcome is Outcome.WARNED)
    assert engine.held == {}


OUTPUT = Logs("something", "")
"""Output of a program: for that of one that prints nothing, the check waits."""


def test_failed_tests_report_exit_status():
    """The reason is the status, although no test ran."""
    assert of_tests("", status=5).failed == ("`python3 -m unittest` failed: it ended with status 5.",)


@pytest.mark.parametrize(
    "program",
    [Program(status=0, logs=OUTPUT), Program(error="no such file", logs=OUTPUT)],
    ids=["ends", "does not start"],
)
def test_test_container_is_always_removed(program):
    """A program that is missing in the image is a failure of the image, and its container is removed too."""
    engine = MemoryEngine()
    engine.add("image", program=program)

    result = probing.run_tests(make_setup(engine), "image", DECLARATION)

    assert engine.held == {}
    assert bool(result.failed) == bool(program.error)


def test_test_failure_includes_last_output_lines():
    """Lines without a word are left out."""
    (failed,) = of_tests("one\ntwo\nthree  is\n-----\n\nFAILED (failures=1)\n", status=1).failed

    assert (
        failed
        == "`python3 -m unittest` failed: it ended with status 1. Its last output: two | three is | FAILED (failures=1)"
    )


def test_test_failure_omits_output_with_secret():
    """The secret appears nowhere in the result."""
    result = of_tests("password hunter2\n", status=1)

    assert result.failed == ("`python3 -m unittest` failed: it ended with status 1.",)
    assert "hunter2" not in result.model_dump_json()


def test_secret_in_test_output_is_warning_and_not_repeated():
    """Tests often print made-up secrets."""
    result = of_tests("1 passed\npassword hunter2\n")

    assert result.outcome is Outcome.WARNED and result.passed
    assert "hunter2" not in result.model_dump_json()
    assert result.tools == {"engine": "1", "detect-secrets": "1", "tests": probing.TESTS_VERSION}


def test_base_check_passes_by_exit_status_alone(make):
    """A check command need not print anything."""
    result = probing.check_command(make_setup(ends(Logs("", ""))), "image", make.base())

    assert result.outcome is Outcome.PASSED


@dataclass
class Specs(MemoryEngine):
    """An engine that records the container specifications that it gets."""

    specs: list[ContainerSpec] = field(default_factory=list)

    def create(self, spec):
        self.specs.append(spec)
        return super().create(spec)


GREEDY = DECLARATION.model_copy(
    update={
        "test": Test(command=("python3", "-m", "unittest"), memory="4000GiB", timeout=5),
        "runtime": Runtime(memory="4000GiB"),
        "probe": Probe(port=8080, start_timeout=1, stop_timeout=1),
    }
)


@pytest.mark.parametrize("asked", [GREEDY, DECLARATION], ids=["more", "less"])
def test_check_containers_are_limited_to_build_limits(asked, make):
    """The memory limit also covers tmpfs mounts; a declaration that asks for less gets less."""
    engine, base = Specs(), make.base().model_copy(update={"runtime": asked.runtime})
    engine.add("image", program=Program(status=0, logs=OUTPUT))

    probing.run_tests(make_setup(engine), "image", asked)
    probing.probe(make_setup(engine), "image", asked)
    probing.check_command(make_setup(engine), "image", base)

    most = min(asked.runtime.memory, LIMITS.memory // 3)
    assert [(each.profile.memory, each.largest_file) for each in engine.specs] == [(most, LIMITS.disk)] * 4


TAKEN = "the free space fell by more than 1 MiB since it began"


@pytest.mark.parametrize("found", [TAKEN, OSError(5, "Input/output error")], ids=["taken", "unreadable"])
@pytest.mark.parametrize("check", [probing.probe, probing.run_tests])
def test_check_is_not_made_if_host_disk_is_taken_or_unreadable(check, found):
    """This is no failure of the application, and the containers are removed all the same."""
    engine, answers = MemoryEngine(), chain([""], repeat(found))
    engine.add("image")

    def look():
        if isinstance(now := next(answers), OSError):
            raise now
        return now

    with pytest.raises(CheckIncomplete, match=re.escape(str(found))):
        check(make_setup(engine, Room(LIMITS, look)), "image", GREEDY)

    assert (engine.held, engine.network_labels) == ({}, {})


def test_probe_kills_unstoppable_service_before_measuring_disk(monkeypatch):
    """The service could fill the disk in the meantime; what it filled before is still measured."""
    monkeypatch.delitem(memory.SIGNALS, "SIGTERM")
    monkeypatch.setattr(probing, "OBSERVED", 0)
    engine = MemoryEngine()
    engine.add("image")

    def look():
        return "the free space fell" if {signal for _, signal in engine.heard} == {"SIGTERM", "SIGKILL"} else ""

    with pytest.raises(CheckIncomplete, match="the free space fell"):
        probing.probe(make_setup(engine, Room(LIMITS, look)), "image", GREEDY)


@dataclass
class Opening(MemoryEngine):
    """An engine whose service opens another port after a number of waits, or has ended by then."""

    waited: int = 0
    ends: bool = False

    def wait(self, seconds):
        self.waited += seconds > 0
        if self.ends and self.waited:
            for each in self.held.values():
                self.signal(each.id, "SIGKILL")

    def listeners(self, container):
        late = (udp(9999), Listener(address="0.0.0.0", port=7777)) if self.waited else ()
        return (*super().listeners(container), *late)


@pytest.mark.parametrize(
    ("ends", "others"), [(False, ["0.0.0.0 9999/udp", "0.0.0.0 7777"]), (True, [])], ids=["runs", "ends"]
)
def test_probe_looks_again_before_it_stops_the_service(ends, others, monkeypatch, without_threads):
    """A service may open a port after it is ready."""
    monkeypatch.setattr(probing, "wait_until_ready", lambda *_: Answer(True, 0.1))
    monkeypatch.setattr(probing, "probe_readiness", lambda *_: "")
    monkeypatch.setattr(probing, "OBSERVED", 60)
    engine = Opening(ends=ends)
    engine.add("image", program=Program(listeners=run().listeners, processes=run().processes))

    result = probing.probe(make_setup(engine, wait=engine.wait), "image", DECLARATION)

    assert result.details["listening"] == ["0.0.0.0 8080", *others]
    undeclared = "It listens on undeclared ports: 7777, 9999/udp. Declare them in runtime.ports."
    assert (undeclared in result.failed) == bool(others)
    assert result.tools["probe"] == probing.PROBE_VERSION


def test_probe_warns_differently_of_silence_and_standard_error():
    """The two warnings have different texts."""
    silent, wrong = Findings(), Findings()

    probe_findings._judge_logs(silent, run(logs=Logs("", "")))
    probe_findings._judge_logs(wrong, run(logs=Logs("", "x\n")))

    assert "nothing, neither" in silent.warned[0]
    assert "standard error only" in wrong.warned[0]


def declared(command=("echo", "12 passed"), report=None):
    test = Test(command=command, report=report)
    return DECLARATION.model_copy(update={"test": test})


def result_of(declaration, out="12 passed", files=None, brought=None):
    engine = MemoryEngine()
    engine.add("image", program=Program(status=0, logs=Logs(out, ""), files=files or {}, brought=brought or {}))
    return probing.run_tests(make_setup(engine), "image", declaration)


def test_tests_warn_if_no_runner_shows_tests():
    """The runner may be unknown here; a policy can deny the code of this warning."""
    result = result_of(declared())

    assert (result.outcome, result.failed, result.shows_tests) == (Outcome.WARNED, (), False)
    (warned,) = result.warned
    assert warned.endswith("(tests.report-missing).") and "test.report" in warned
    assert result.details["tested"] == {"proven": False, "by": "", "ran": 0}


def test_known_runner_records_number_of_tests():
    """The count is part of the evidence."""
    result = result_of(declared(["/venv/bin/pytest", "-q"]), "12 passed in 0.10s")

    assert (result.outcome, result.shows_tests) == (Outcome.PASSED, True)
    assert result.details["tested"] == {"proven": True, "by": "pytest", "ran": 12}
    assert result.passed[0].endswith(", 12 tests by pytest")


@pytest.mark.parametrize(
    ("content", "shows_tests", "failed"),
    [
        (b"<testsuite><testcase/></testsuite>", True, None),
        (b"<testsuite><testcase><error/></testcase></testsuite>", False, "tells of 1 failed tests"),
        (b"rubbish", False, "cannot be read"),
        (
            None,
            False,
            "there is no regular file at /report.xml (test.report); paths of runtime.writable are lost at the end",
        ),
    ],
)
def test_declared_report_decides_test_result(content, shows_tests, failed):
    """The report is read from the ended container; without it the tests fail, whatever they printed."""
    result = result_of(declared(report="/report.xml"), files={} if content is None else {"/report.xml": content})

    assert result.shows_tests is shows_tests
    assert bool(result.failed) is bool(failed) and all(failed in each for each in result.failed)


def test_report_from_the_image_itself_shows_no_tests():
    """A report that was in the image before the run proves nothing; one that the run wrote over it counts."""
    report = {"/r": b"<testsuite><testcase/></testsuite>"}

    brought = result_of(declared(report="/r"), brought=report)
    written = result_of(declared(report="/r"), brought={"/r": b"<testsuite/>"}, files=report)

    assert brought.shows_tests is False
    assert brought.failed == (
        "`echo 12 passed` ended with status 0, and its report /r is the one that the image brought before the run "
        "(test.report).",
    )
    assert written.shows_tests is True


def test_report_without_tests_makes_check_empty():
    """The gate refuses an empty check."""
    assert result_of(declared(report="/r"), files={"/r": b"<testsuite/>"}).empty
