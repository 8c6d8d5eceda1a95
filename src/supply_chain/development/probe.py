"""Checks that need a running container: the readiness probe, a base's command, the tests.

A service is started twice in parallel, each time as its declaration says, on a network without access to the outside:
once with a read-only root filesystem, and once with a writable one, which shows what the service would write.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal, Protocol
from uuid import uuid4

from supply_chain.concurrency import map_concurrently
from supply_chain.development.reports import LARGEST_REPORT
from supply_chain.development.separation import Room
from supply_chain.development.tested import Tested, judge_tests
from supply_chain.errors import CheckNotMade, EngineFailed, ProgramNotStarted
from supply_chain.evidence.checks import TESTED, TESTS_UNPROVEN, Check, CheckResult
from supply_chain.model.container import (
    DIGEST,
    Change,
    Container,
    ContainerSpec,
    Engine,
    Listener,
    LocalImage,
    Logs,
    Process,
    Profile,
    Wait,
    describe_end,
    find_outside,
    labels,
    profile,
    slug,
)
from supply_chain.model.image import Interval
from supply_chain.model.manifest import Base, Probe, Runtime, Service
from supply_chain.readiness import Answer, trouble_at, wait_until_ended, wait_until_ready

Clock = Callable[[], datetime]


class Search(Protocol):
    """Searches the output of a program for secrets."""

    @property
    def tools(self) -> Mapping[str, str]:
        """Tool → version."""

    def kinds(self, text: str) -> tuple[str, ...]:
        """Return the kinds of secrets that the text seems to contain; raise `CheckNotMade` if the search fails."""


STOPPED_BY_SIGTERM = (0, 143)
"""Statuses after SIGTERM: 0 of a program that handles the signal, 128 + 15 of one that does not."""

TESTS_VERSION = "3"
"""Version of the judgement of test runs. Raise it when more is required, so that the tests run again."""
AT_ONCE = 3
"""Number of containers that run at the same time: two of the probe, and the tests."""
COMMAND_TIMEOUT = 60
"""Seconds that a base's check command may take."""

LATE_OUTPUT = 10
"""Number of times, 0.2 s apart, that the output of tests that succeeded is read again while it is empty. A busy engine
reports the end of a container before it has the output.
"""
LOG_LINES = 10
SEARCHED = 64 * 1024
"""Number of characters at the end of a stream that are searched for secrets."""
LEFT_OUT = ["left out, as it seems to hold a secret"]
"""Replaces output that seems to hold a secret, because many people read evidence and it is stored."""
MOST_PATHS = 20


@dataclass
class Findings:
    """Sentences for a check's result, collected during the check."""

    passed: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def expect(self, holds: bool, passed: str, failed: str) -> None:
        """Add one expectation: the sentence `passed` if it holds, otherwise the sentence `failed`."""
        (self.passed if holds else self.failed).append(passed if holds else failed)

    def result(self, check: Check, tools: Mapping[str, str], started: datetime, finished: datetime) -> CheckResult:
        """Return the check's result with all collected sentences."""
        return CheckResult(
            check=check,
            passed=tuple(self.passed),
            warned=tuple(self.warned),
            failed=tuple(self.failed),
            details=self.details,
            tools=dict(tools),
            interval=Interval(started=started, finished=finished),
        )


@dataclass(frozen=True)
class Run:
    """What one start of a service showed. `answer` is about readiness, `again` about a second request."""

    answer: Answer
    again: str
    listeners: tuple[Listener, ...]
    processes: tuple[Process, ...]
    stop_seconds: float
    end: Container
    logs: Logs
    changes: tuple[Change, ...]


def probe(
    engine: Engine,
    image: str,
    manifest: Service,
    now: Clock,
    run_id: str,
    search: Search,
    room: Room,
    *,
    wait: Wait = time.sleep,
) -> CheckResult:
    """Start the image with its runtime profile, and compare what is observed with the declaration.

    The engine's host must be this machine. Nothing remains in the engine, even if `wait` raises `Cancelled`. Raises
    `CheckNotMade` if something cannot be observed.
    """
    started, found = now(), Findings()
    local, watched = engine.image(image), _with_room_check(wait, room)
    with _network(engine, manifest.name, local.digest, run_id) as network:
        specs = [_spec(image, local, manifest, network, run_id, room, writable=each) for each in (False, True)]
        strict, loose = map_concurrently(lambda spec: _run(engine, spec, manifest, watched), specs)
    kinds = _find_secrets(search, strict, loose)
    _judge_start(found, strict, loose, manifest, secret=bool(kinds))
    if strict.answer.ready:
        _judge_ports(found, strict, manifest)
        _judge_processes(found, strict, manifest)
        _judge_stop(found, strict, manifest)
    _judge_writes(found, strict, loose, local, manifest)
    _judge_logs(found, strict)
    _judge_secrets(found, kinds)
    return found.result(Check.PROBE, list_probe_tools(engine, search), started, now())


def list_probe_tools(engine: Engine, search: Search) -> dict[str, str]:
    """Return everything that these checks depend on, with its version."""
    return {**engine.versions(), **search.tools}


def check_command(
    engine: Engine,
    image: str,
    manifest: Base,
    now: Clock,
    run_id: str,
    search: Search,
    room: Room,
    *,
    wait: Wait = time.sleep,
) -> CheckResult:
    """Run a base's check command in its image and expect status 0.

    The container has no network, a read-only root filesystem and the base's uid.
    """
    return _Command(Check.COMMAND, "check", manifest, manifest.check, COMMAND_TIMEOUT).run(
        engine, image, now, run_id, search, room, wait
    )


def run_tests(
    engine: Engine,
    image: str,
    manifest: Service,
    now: Clock,
    run_id: str,
    search: Search,
    room: Room,
    *,
    wait: Wait = time.sleep,
) -> CheckResult:
    """Run the application's tests in the image of its test stage, without a network.

    Tests may write to the container's root filesystem. A run that takes too long has failed. A run that tested nothing
    has not passed.
    """
    test = manifest.test
    return _Command(Check.TESTS, "tests", manifest, test.command, test.timeout, test.memory, test.report).run(
        engine, image, now, run_id, search, room, wait
    )


@dataclass(frozen=True)
class _Command:
    """A command whose status decides a check; `timeout` is in seconds."""

    check: Check
    role: Literal["check", "tests"]
    manifest: Service | Base
    command: tuple[str, ...]
    timeout: float
    memory: int | None = None
    report: str | None = None

    def run(
        self, engine: Engine, image: str, now: Clock, run_id: str, search: Search, room: Room, wait: Wait
    ) -> CheckResult:
        started = now()
        found = self._run_command(engine, image, run_id, search, room, _with_room_check(wait, room))
        tools = list_probe_tools(engine, search)
        if self.check is Check.TESTS:
            tools |= {"tests": TESTS_VERSION}
        return found.result(self.check, tools, started, now())

    def _run_command(self, engine: Engine, image: str, run_id: str, search: Search, room: Room, wait: Wait) -> Findings:
        clock = time.monotonic()
        spec = self._spec(image, engine.image(image).digest, run_id, room)
        with _container(engine, spec) as container:
            before = self._report(engine, container)
            _start(engine, container)
            end = wait_until_ended(engine, container, self.timeout, wait)
            engine.signal(container, "SIGKILL")
            seconds, logs = time.monotonic() - clock, engine.logs(container)
            if self.check is Check.TESTS and end.over and end.exit_code == 0:
                logs = _await_output(engine, container, logs, wait)
            report = self._report(engine, container) if end.over else None
        found = Findings(
            details={
                "command": list(self.command),
                "image": spec.labels[DIGEST],
                "status": end.exit_code if end.over else None,
                "seconds": round(seconds, 3),
                "timeout_seconds": self.timeout,
                "output": logs.tail(40)[-8000:].splitlines(),
            }
        )
        how = describe_end(end) if end.over else f"it did not end within {self.timeout:g} s and was stopped"
        command, kinds = " ".join(self.command), search.kinds(_joined_output(logs))
        if not (end.over and end.exit_code == 0 and not end.error):
            found.failed.append(f"`{command}` failed: {how}.{'' if kinds else _last_line(logs)}")
        elif self.check is not Check.TESTS:
            found.passed.append(f"`{command}` ended with status 0 after {seconds:.1f} s")
        else:
            tested = judge_tests(self.command, f"{logs.stdout}\n{logs.stderr}", self.report, report, before)
            _add_test_findings(found, command, seconds, tested)
        if kinds:
            found.warned.append(f"`{command}` prints what looks like a secret: {', '.join(kinds)}.")
            found.details["output"] = LEFT_OUT
        return found

    def _report(self, engine: Engine, container: str) -> bytes | None:
        """Return the content of the report file that the declaration names; None if there is none."""
        if self.report is None:
            return None
        with contextlib.suppress(EngineFailed):
            return engine.read(container, self.report, LARGEST_REPORT)
        return None

    def _spec(self, image: str, digest: str, run_id: str, room: Room) -> ContainerSpec:
        """Return the specification of the container, with the declared profile.

        Only tests get a writable root filesystem, and the memory that they declare.
        """
        return ContainerSpec(
            image=image,
            name=f"cscm-{self.role}-{slug(self.manifest.name)}-{uuid4().hex[:8]}",
            labels=labels(self.role, self.manifest.name, digest, run_id),
            profile=_profile(self.manifest.runtime, room, self.memory, writable=self.role == "tests"),
            largest_file=room.limits.disk,
            environment=self.manifest.runtime.environment,
            command=self.command,
        )


def _await_output(engine: Engine, container: str, logs: Logs, wait: Wait) -> Logs:
    """Return the output of an ended container; read it again while it is empty."""
    for _ in range(LATE_OUTPUT):
        if logs.stdout or logs.stderr:
            break
        wait(0.2)
        logs = engine.logs(container)
    return logs


def _add_test_findings(found: Findings, command: str, seconds: float, tested: Tested) -> None:
    """Add what a test run that ended with status 0 showed; a run that tested nothing has not passed."""
    found.details[TESTED] = tested.details
    if tested.failed:
        found.failed.append(f"`{command}` ended with status 0, and {tested.failed}.")
    elif not tested.nothing:
        counted_tests = f", {tested.ran} tests by {tested.by}" if tested.proven else ""
        found.passed.append(f"`{command}` ended with status 0 after {seconds:.1f} s{counted_tests}")
        if not tested.proven:
            found.warned.append(f"It is not shown that anything was tested: {tested.why} ({TESTS_UNPROVEN}).")


def _spec(
    image: str, local: LocalImage, manifest: Service, network: str, run_id: str, room: Room, *, writable: bool
) -> ContainerSpec:
    return ContainerSpec(
        image=image,
        name=f"{network}-{'writable' if writable else 'strict'}",
        labels=labels("probe", manifest.name, local.digest, run_id),
        profile=_profile(manifest.runtime, room, writable=writable),
        largest_file=room.limits.disk,
        environment=manifest.runtime.environment,
        network=network,
    )


def _profile(runtime: Runtime, room: Room, memory: int | None = None, *, writable: bool) -> Profile:
    """Return the declared profile, with a limit on memory.

    The containers of a check together have no more memory than a build. `memory` in bytes replaces the declared one.
    """
    most = min(memory or runtime.memory, room.limits.memory // AT_ONCE)
    return profile(runtime).model_copy(update={"read_only": not writable, "memory": most})


def _with_room_check(wait: Wait, room: Room) -> Wait:
    """Return a function that waits as `wait` does and checks the host's disk limits each time.

    It raises `CheckNotMade` if a limit is broken. That is not a failure of the application, because others write to
    that disk too.
    """
    _check_room(room)

    def watched(seconds: float) -> None:
        wait(seconds)
        _check_room(room)

    return watched


def _check_room(room: Room) -> None:
    try:
        broken = room.check_limits()
    except OSError as error:
        broken = f"the disk cannot be looked at: {error}"
    if broken:
        raise CheckNotMade(
            f"What ran for the check was ended, as {broken}. Nothing was judged.\n"
            "Let the application write less if it was that; else free space on the disk. Then run it again."
        )


@contextlib.contextmanager
def _network(engine: Engine, application: str, digest: str, run_id: str) -> Iterator[str]:
    """Create an internal network, which only this host reaches; yield its name, and remove it after the block."""
    name = f"cscm-probe-{slug(application)}-{uuid4().hex[:8]}"
    try:
        engine.create_network(name, labels("probe", application, digest, run_id), internal=True)
        yield name
    finally:
        engine.remove_network(name)


@contextlib.contextmanager
def _container(engine: Engine, spec: ContainerSpec) -> Iterator[str]:
    """Create a container, yield its name, and remove it at the end of the block, whatever happens."""
    try:
        engine.create(spec)
        yield spec.name
    finally:
        engine.remove(spec.name)


def _start(engine: Engine, container: str) -> None:
    """Start the container; if its program is not in the image, the container's error shows that afterwards."""
    with contextlib.suppress(ProgramNotStarted):
        engine.start(container)


def _run(engine: Engine, spec: ContainerSpec, manifest: Service, wait: Wait) -> Run:
    """Start a service, wait until it is ready, observe it, ask it to stop, and observe it again."""
    wanted = manifest.probe
    with _container(engine, spec) as name:
        _start(engine, name)
        answer = wait_until_ready(engine, name, spec.network, wanted, wait)
        again = ""
        listeners: tuple[Listener, ...] = ()
        processes: tuple[Process, ...] = ()
        state = engine.inspect(name)
        if state.running:
            listeners, processes = engine.listeners(name), engine.processes(name)
            again = trouble_at(state.networks[spec.network], wanted.port, wanted.path) if answer.ready else ""
        clock = time.monotonic()
        engine.signal(name, "SIGTERM")
        end = wait_until_ended(engine, name, wanted.stop_timeout, wait)
        stop_seconds = time.monotonic() - clock
        engine.signal(name, "SIGKILL")  # from here on, no process can write unobserved
        changes, logs = engine.changes(name), engine.logs(name)
        wait(0)
    return Run(answer, again, listeners, processes, stop_seconds, end, logs, changes)


def _judge_start(found: Findings, strict: Run, loose: Run, manifest: Service, *, secret: bool) -> None:
    wanted = manifest.probe
    found.details |= {
        "start_seconds": round(strict.answer.seconds, 3) if strict.answer.ready else None,
        "start_timeout_seconds": wanted.start_timeout,
    }
    found.expect(
        strict.answer.ready,
        f"ready on port {wanted.port} after {strict.answer.seconds:.2f} s",
        _not_ready(strict, wanted) + ("" if secret else _last_line(strict.logs)),
    )
    if not strict.answer.ready and loose.answer.ready:
        found.failed.append("It starts only when its root filesystem is writable.")
    if strict.answer.ready:
        found.expect(
            not strict.again,
            "a second request is answered too",
            f"The first request was answered, a second was not: {strict.again}.",
        )
    found.details["last_output"] = strict.logs.tail(LOG_LINES)[-4000:].splitlines()


def _not_ready(run: Run, wanted: Probe) -> str:
    """Return why it was not ready: it ended, it listens elsewhere, or it does not answer that it is healthy."""
    if not run.processes:
        return f"It was not ready before it was over: {run.answer.says}."
    where = sorted(f"{each.address} {each.port}" for each in run.listeners)
    heard = any(each.port == wanted.port and not _loopback(each) for each in run.listeners)
    listens = "" if heard else f" It listens on {', '.join(where) or 'no port'}."
    return f"It was not ready within {wanted.start_timeout} s: {run.answer.says}.{listens}"


def _loopback(listener: Listener) -> bool:
    return listener.address.startswith(("127.", "::1"))


def _judge_ports(found: Findings, run: Run, manifest: Service) -> None:
    declared = (manifest.probe.port, *manifest.runtime.ports)
    reachable = {each.port for each in run.listeners if not _loopback(each)}
    found.details |= {
        "listening": [f"{each.address} {each.port}" for each in run.listeners],
        "listening_read_from": "the kernel's socket table of the container's network namespace",
    }
    others, silent = sorted(reachable - set(declared)), sorted(set(declared) - reachable)
    ports = ", ".join(map(str, declared))
    found.expect(
        not others,
        f"listens on port{'' if len(declared) == 1 else 's'} {ports} and no other",
        f"It listens on ports nobody declared (runtime.ports): {', '.join(map(str, others))}.",
    )
    if silent:
        found.warned.append(f"It declares ports and does not listen there: {', '.join(map(str, silent))}.")


def _judge_processes(found: Findings, run: Run, manifest: Service) -> None:
    uid = manifest.runtime.uid
    found.details |= {
        "processes": [each.command[:200] for each in run.processes],
        "uids": sorted({each.uid for each in run.processes}),
    }
    others = sorted({each.uid for each in run.processes} - {uid})
    found.expect(
        bool(run.processes) and not others,
        f"runs as uid {uid} ({len(run.processes)} process{'' if len(run.processes) == 1 else 'es'})",
        f"It runs as uid {', '.join(map(str, others)) or 'unknown'}, not only as {uid}.",
    )


def _judge_stop(found: Findings, run: Run, manifest: Service) -> None:
    over = run.end.over
    found.details |= {
        "stop_seconds": round(run.stop_seconds, 3) if over else None,
        "stop_timeout_seconds": manifest.probe.stop_timeout,
        "exit_code": run.end.exit_code if over else None,
    }
    found.expect(
        over,
        f"stopped {run.stop_seconds:.2f} s after SIGTERM",
        f"It did not stop within {manifest.probe.stop_timeout} s of SIGTERM.",
    )
    if over:
        found.expect(
            run.end.exit_code in STOPPED_BY_SIGTERM,
            f"ended with status {run.end.exit_code}",
            f"After SIGTERM it ended with status {run.end.exit_code}; 0 or 143 says that it meant to.",
        )


def _judge_writes(found: Findings, strict: Run, loose: Run, local: LocalImage, manifest: Service) -> None:
    """Add findings about writes outside of the declared paths.

    What the engine itself changes also appears with the read-only root, where the program cannot write; it does not
    count.
    """
    writable = manifest.runtime.writable
    engines = {(change.kind, change.path) for change in strict.changes}
    own = [c for c in find_outside(loose.changes, writable) if (c.kind, c.path) not in engines]
    paths = sorted({change.path for change in own})
    found.details["writes_outside"] = paths[:MOST_PATHS]
    listed = ", ".join(_drop_parents(paths)[:MOST_PATHS])
    found.expect(
        not paths,
        "writes nowhere but where it is declared to",
        f"It writes where nobody declared it to: {listed}.",
    )
    volumes = [path for path in local.volumes if path not in writable]
    if volumes:
        found.failed.append(
            f"The image declares volumes that the application does not declare as writable: {', '.join(volumes)}."
        )


def _drop_parents(paths: Sequence[str]) -> list[str]:
    """Return the paths in their order, without the directories that contain others of them."""
    by_part = sorted(paths, key=lambda path: path.replace("/", "\0"))  # a path is followed by the paths below it
    above = {path for path, following in pairwise(by_part) if following.startswith(path + "/")}
    return [path for path in paths if path not in above]


def _find_secrets(search: Search, *runs: Run) -> tuple[str, ...]:
    """Return the kinds of secrets in the output and in the commands of processes.

    Everybody on the host can see those commands.
    """
    commands = (each.command for run in runs for each in run.processes)
    return search.kinds("\n".join((*(_joined_output(run.logs) for run in runs), *commands)))


def _judge_secrets(found: Findings, kinds: tuple[str, ...]) -> None:
    found.expect(
        not kinds,
        "prints nothing that looks like a secret",
        f"What it prints, or a command of it, looks like a secret: {', '.join(kinds)}.",
    )
    if kinds:
        found.details |= {"last_output": LEFT_OUT, "processes": LEFT_OUT}


def _last_line(logs: Logs) -> str:
    """Return the last lines that contain a letter, as one sentence; an empty string if there are none."""
    lines = [" ".join(line.split()) for line in logs.tail().splitlines() if any(map(str.isalpha, line))]
    return f" It last said: {' | '.join(lines[-3:])[-300:]}" if lines else ""


def _joined_output(logs: Logs) -> str:
    return f"{logs.stdout[-SEARCHED:]}\n{logs.stderr[-SEARCHED:]}"


def _judge_logs(found: Findings, run: Run) -> None:
    out, err = (len(text.splitlines()) for text in (run.logs.stdout, run.logs.stderr))
    found.details |= {"stdout_lines": out, "stderr_lines": err}
    if out:
        found.passed.append("logs to standard output")
    elif err:
        found.warned.append("It logs to standard error only; nothing comes on standard output.")
    else:
        found.warned.append("It logs nothing, neither on standard output nor on standard error.")
