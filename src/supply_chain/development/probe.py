"""Checks that need a running container: the readiness probe, a base's command, the tests.

A service is started twice in parallel, each time as its declaration says, on a network without access to the outside:
once with a read-only root filesystem, and once with a writable one, which shows what the service would write.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from uuid import uuid4

from supply_chain.concurrency import map_concurrently
from supply_chain.development.probe_findings import LEFT_OUT, Findings, Run, join_last_lines, join_output, judge_service
from supply_chain.development.reports import LARGEST_REPORT
from supply_chain.development.separation import Room
from supply_chain.development.tested import Tested, judge_tests
from supply_chain.errors import CheckIncomplete, EngineFailed, ProgramNotStarted
from supply_chain.evidence.checks import TESTED, TESTS_UNPROVEN, Check, CheckResult
from supply_chain.model.container import (
    DIGEST,
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
    make_labels,
    make_profile,
    make_slug,
)
from supply_chain.model.declaration import Base, Runtime, Service
from supply_chain.readiness import probe_readiness, wait_until_ended, wait_until_ready

Clock = Callable[[], datetime]


class Search(Protocol):
    """Searches the output of a program for secrets."""

    @property
    def tools(self) -> Mapping[str, str]:
        """Tool → version."""

    def kinds(self, text: str) -> tuple[str, ...]:
        """Return the kinds of secrets that the text seems to contain; raise `CheckIncomplete` if the search fails."""


TESTS_VERSION = "6"
"""Version of the judgement of test runs. Raise it when more is required, so that the tests run again."""
PROBE_VERSION = "3"
"""Version of the probe of a service. Raise it when more is observed, so that images are probed again."""
OBSERVED = 1.0
"""Seconds after its start before which a service that is ready is not stopped: it may open ports after it is ready."""
AT_ONCE = 3
"""Number of containers that run at the same time: two of the probe, and the tests."""
COMMAND_TIMEOUT = 60
"""Seconds that a base's check command may take."""

LATE_OUTPUT = 25
"""Number of times, 0.2 s apart, that the output of tests that succeeded is read again while it is empty. A busy engine
reports the end of a container before it has the output.
"""
QUICK, ATTEMPTS = 10.0, 3
"""Tests that end within so many seconds and print nothing run so many times: an engine may lose the output of a
container that ends at once.
"""


@dataclass(frozen=True)
class CheckSetup:
    """What the checks of a run need to run containers, and to judge them.

    The engine's host must be this machine. `wait` sleeps, or raises `Cancelled`; then nothing remains in the engine.
    """

    engine: Engine
    run_id: str
    search: Search
    room: Room
    now: Clock
    wait: Wait = time.sleep

    def wait_with_room(self, seconds: float) -> None:
        """Wait, and check the host's disk limits afterwards.

        Raises `CheckIncomplete` if a limit is broken. That is not a failure of the application, because others write to
        that disk too.
        """
        self.wait(seconds)
        self.check_room()

    def check_room(self) -> None:
        """Raise `CheckIncomplete` if one of the host's disk limits is broken."""
        try:
            broken = self.room.check_limits()
        except OSError as error:
            broken = f"the disk cannot be looked at: {error}"
        if broken:
            raise CheckIncomplete(
                f"What ran for the check was ended, as {broken}. Nothing was judged.\n"
                "Let the application write less if it was that; else free space on the disk. Then run it again."
            )


def probe(setup: CheckSetup, image: str, declaration: Service) -> CheckResult:
    """Start the image with its runtime profile, and compare what is observed with the declaration.

    Raises `CheckIncomplete` if something cannot be observed.
    """
    started, local = setup.now(), setup.engine.image(image)
    setup.check_room()
    with _network(setup, declaration.name, local.digest) as network:
        specs = [_spec(setup, image, local, declaration, network, writable=each) for each in (False, True)]
        strict, loose = map_concurrently(lambda spec: _run(setup, spec, declaration), specs)
    findings = judge_service(strict, loose, local, declaration, _find_secrets(setup.search, strict, loose))
    return findings.result(Check.PROBE, list_service_tools(setup.engine, setup.search), started, setup.now())


def list_service_tools(engine: Engine, search: Search) -> dict[str, str]:
    """Return everything that the probe of a service depends on, with its version."""
    return {**list_probe_tools(engine, search), "probe": PROBE_VERSION}


def list_probe_tools(engine: Engine, search: Search) -> dict[str, str]:
    """Return everything that these checks depend on, with its version."""
    return {**engine.versions(), **search.tools}


def check_command(setup: CheckSetup, image: str, declaration: Base) -> CheckResult:
    """Run a base's check command in its image and expect status 0.

    The container has no network, a read-only root filesystem and the base's uid.
    """
    return _Command(setup, Check.COMMAND, "check", declaration, declaration.check, COMMAND_TIMEOUT).run(image)


def run_tests(setup: CheckSetup, image: str, declaration: Service) -> CheckResult:
    """Run the application's tests in the image of its test stage, without a network.

    Tests may write to the container's root filesystem. A run that takes too long has failed. A run that tested nothing
    has not passed.
    """
    test = declaration.test
    return _Command(setup, Check.TESTS, "tests", declaration, test.command, test.timeout, test.memory, test.report).run(
        image
    )


@dataclass(frozen=True)
class _Ended:
    """A container of a command after its end; `before` and `report` are the report's content before and after."""

    end: Container
    seconds: float
    logs: Logs
    before: bytes | None
    report: bytes | None


@dataclass(frozen=True)
class _Command:
    """A command whose status decides a check; `timeout` is in seconds."""

    setup: CheckSetup
    check: Check
    role: Literal["check", "tests"]
    declaration: Service | Base
    command: tuple[str, ...]
    timeout: float
    memory: int | None = None
    report: str | None = None

    def run(self, image: str) -> CheckResult:
        started = self.setup.now()
        findings = self._run_command(image)
        tools = list_probe_tools(self.setup.engine, self.setup.search)
        if self.check is Check.TESTS:
            tools |= {"tests": TESTS_VERSION}
        return findings.result(self.check, tools, started, self.setup.now())

    def _run_command(self, image: str) -> Findings:
        self.setup.check_room()
        spec = self._spec(image)
        for _ in range(ATTEMPTS):
            ended = self._run_once(spec)
            printed = ended.logs.stdout or ended.logs.stderr or self.report is not None
            if printed or not self._succeeded(ended.end) or ended.seconds > QUICK:
                break
        return self._judge(ended, spec)

    def _run_once(self, spec: ContainerSpec) -> _Ended:
        engine, clock = self.setup.engine, time.monotonic()
        with _container(engine, spec) as container:
            before = self._report(container)
            _start(engine, container)
            end = wait_until_ended(engine, container, self.timeout, self.setup.wait_with_room)
            engine.signal(container, "SIGKILL")
            seconds, logs = time.monotonic() - clock, engine.logs(container)
            if self._succeeded(end):
                logs = self._await_output(container, logs)
            report = self._report(container) if end.over else None
        return _Ended(end, seconds, logs, before, report)

    def _await_output(self, container: str, logs: Logs) -> Logs:
        """Return the output of an ended container; read it again while it is empty."""
        for _ in range(LATE_OUTPUT):
            if logs.stdout or logs.stderr:
                break
            self.setup.wait_with_room(0.2)
            logs = self.setup.engine.logs(container)
        return logs

    def _succeeded(self, end: Container) -> bool:
        """Return whether these are tests that ended with status 0."""
        return self.check is Check.TESTS and end.over and end.exit_code == 0 and not end.error

    def _judge(self, ended: _Ended, spec: ContainerSpec) -> Findings:
        end, seconds, logs = ended.end, ended.seconds, ended.logs
        findings = Findings(
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
        command, kinds = " ".join(self.command), self.setup.search.kinds(join_output(logs))
        if not (end.over and end.exit_code == 0 and not end.error):
            findings.failed.append(f"`{command}` failed: {how}.{'' if kinds else join_last_lines(logs)}")
        elif self.check is not Check.TESTS:
            findings.passed.append(f"`{command}` ended with status 0 after {seconds:.1f} s")
        else:
            tested = judge_tests(self.command, f"{logs.stdout}\n{logs.stderr}", self.report, ended.report, ended.before)
            _add_test_findings(findings, command, seconds, tested)
        if kinds:
            findings.warned.append(f"`{command}` prints what looks like a secret: {', '.join(kinds)}.")
            findings.details["output"] = LEFT_OUT
        return findings

    def _report(self, container: str) -> bytes | None:
        """Return the content of the report file that the declaration names; None if there is none."""
        if self.report is None:
            return None
        with contextlib.suppress(EngineFailed):
            return self.setup.engine.read(container, self.report, LARGEST_REPORT)
        return None

    def _spec(self, image: str) -> ContainerSpec:
        """Return the specification of the container, with the declared profile.

        Only tests get a writable root filesystem, and the memory that they declare.
        """
        setup, digest = self.setup, self.setup.engine.image(image).digest
        return ContainerSpec(
            image=image,
            name=f"cscm-{self.role}-{make_slug(self.declaration.name)}-{uuid4().hex[:8]}",
            labels=make_labels(self.role, self.declaration.name, digest, setup.run_id),
            profile=_profile(self.declaration.runtime, setup.room, self.memory, writable=self.role == "tests"),
            largest_file=setup.room.limits.disk,
            environment=self.declaration.runtime.environment,
            command=self.command,
        )


def _add_test_findings(findings: Findings, command: str, seconds: float, tested: Tested) -> None:
    """Add what a test run that ended with status 0 showed; a run that tested nothing has not passed."""
    findings.details[TESTED] = tested.details
    if tested.failed:
        findings.failed.append(f"`{command}` ended with status 0, and {tested.failed}.")
    elif not tested.nothing:
        counted_tests = f", {tested.ran} tests by {tested.by}" if tested.proven else ""
        findings.passed.append(f"`{command}` ended with status 0 after {seconds:.1f} s{counted_tests}")
        if not tested.proven:
            findings.warned.append(f"No report shows that tests ran: {tested.why} ({TESTS_UNPROVEN}).")


def _spec(
    setup: CheckSetup, image: str, local: LocalImage, declaration: Service, network: str, *, writable: bool
) -> ContainerSpec:
    return ContainerSpec(
        image=image,
        name=f"{network}-{'writable' if writable else 'strict'}",
        labels=make_labels("probe", declaration.name, local.digest, setup.run_id),
        profile=_profile(declaration.runtime, setup.room, writable=writable),
        largest_file=setup.room.limits.disk,
        environment=declaration.runtime.environment,
        network=network,
    )


def _profile(runtime: Runtime, room: Room, memory: int | None = None, *, writable: bool) -> Profile:
    """Return the declared profile, with a limit on memory.

    The containers of a check together have no more memory than a build. `memory` in bytes replaces the declared one.
    """
    most = min(memory or runtime.memory, room.limits.memory // AT_ONCE)
    return make_profile(runtime).model_copy(update={"read_only": not writable, "memory": most})


@contextlib.contextmanager
def _network(setup: CheckSetup, application: str, digest: str) -> Iterator[str]:
    """Create an internal network, which only this host reaches; yield its name, and remove it after the block."""
    name = f"cscm-probe-{make_slug(application)}-{uuid4().hex[:8]}"
    try:
        setup.engine.create_network(name, make_labels("probe", application, digest, setup.run_id), internal=True)
        yield name
    finally:
        setup.engine.remove_network(name)


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


def _run(setup: CheckSetup, spec: ContainerSpec, declaration: Service) -> Run:
    """Start a service, wait until it is ready, observe it, ask it to stop, and observe it again."""
    engine, wait, settings = setup.engine, setup.wait_with_room, declaration.probe
    with _container(engine, spec) as name:
        began = time.monotonic()
        _start(engine, name)
        answer = wait_until_ready(engine, name, spec.network, settings, wait)
        again = ""
        listeners: tuple[Listener, ...] = ()
        processes: tuple[Process, ...] = ()
        state = engine.inspect(name)
        if state.running:
            listeners, processes = engine.listeners(name), engine.processes(name)
            again = probe_readiness(state.networks[spec.network], settings.port, settings.path) if answer.ready else ""
        if answer.ready:
            listeners = _look_again(engine, name, listeners, began + OBSERVED, wait)
        clock = time.monotonic()
        engine.signal(name, "SIGTERM")
        end = wait_until_ended(engine, name, settings.stop_timeout, wait)
        stop_seconds = time.monotonic() - clock
        engine.signal(name, "SIGKILL")  # from here on, no process can write unobserved
        changes, logs = engine.changes(name), engine.logs(name)
        wait(0)
    return Run(answer, again, listeners, clock - began, processes, stop_seconds, end, logs, changes)


def _look_again(
    engine: Engine, container: str, listeners: tuple[Listener, ...], until: float, wait: Wait
) -> tuple[Listener, ...]:
    """Wait until a time (monotonic), and return the listeners with those that are there then."""
    wait(max(0.0, until - time.monotonic()))
    state = engine.inspect(container)
    return tuple(dict.fromkeys((*listeners, *(engine.listeners(container) if state.running else ()))))


def _find_secrets(search: Search, *runs: Run) -> tuple[str, ...]:
    """Return the kinds of secrets in the output and in the commands of processes.

    Everybody on the host can see those commands.
    """
    commands = (each.command for run in runs for each in run.processes)
    return search.kinds("\n".join((*(join_output(run.logs) for run in runs), *commands)))
