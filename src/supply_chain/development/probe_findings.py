"""Findings of checks that run a container, and the comparison of what a service showed with its declaration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from supply_chain.evidence.checks import Check, CheckResult
from supply_chain.model.container import (
    LINES,
    Change,
    Container,
    Listener,
    LocalImage,
    Logs,
    Process,
    Transport,
    find_outside,
)
from supply_chain.model.declaration import Probe, Service
from supply_chain.model.image import Interval
from supply_chain.readiness import Answer

STOPPED_BY_SIGTERM = (0, 143)
"""Statuses after SIGTERM: 0 of a program that handles the signal, 128 + 15 of one that does not."""
LOG_LINES = 10
SEARCHED = 64 * 1024
"""Number of characters at the end of a stream that are searched for secrets."""
LEFT_OUT = ["left out, as it seems to hold a secret"]
"""Replaces output that seems to hold a secret, because many people read evidence and it is stored."""
MOST_PATHS = 20
CLIENT_PORTS = range(32768, 61000)
"""Ports that the kernel gives to sockets of clients (ip(7), `ip_local_port_range`). A UDP socket that sends has one,
and looks like one that only receives.
"""


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
    """What one start of a service showed. `answer` is about readiness, `again` about a second request.

    `listeners` are those of all looks in its first `observed` seconds.
    """

    answer: Answer
    again: str
    listeners: tuple[Listener, ...]
    observed: float
    processes: tuple[Process, ...]
    stop_seconds: float
    end: Container
    logs: Logs
    changes: tuple[Change, ...]


def judge_service(
    strict: Run, loose: Run, local: LocalImage, declaration: Service, secrets: tuple[str, ...]
) -> Findings:
    """Compare two starts of a service, `strict` with a read-only root filesystem, with its declaration.

    `secrets` are the kinds of secrets in the output of both.
    """
    findings = Findings()
    _judge_start(findings, strict, loose, declaration, secret=bool(secrets))
    if strict.answer.ready:
        _judge_ports(findings, strict, declaration)
        _judge_processes(findings, strict, declaration)
        _judge_stop(findings, strict, declaration)
    _judge_writes(findings, strict, loose, local, declaration)
    _judge_logs(findings, strict)
    _judge_secrets(findings, secrets, complete=all(was_searched_completely(each.logs) for each in (strict, loose)))
    return findings


def _judge_start(findings: Findings, strict: Run, loose: Run, declaration: Service, *, secret: bool) -> None:
    probe = declaration.probe
    findings.details |= {
        "start_seconds": round(strict.answer.seconds, 3) if strict.answer.ready else None,
        "start_timeout_seconds": probe.start_timeout,
    }
    findings.expect(
        strict.answer.ready,
        f"ready on port {probe.port} after {strict.answer.seconds:.2f} s",
        _not_ready(strict, probe) + ("" if secret else join_last_lines(strict.logs)),
    )
    if not strict.answer.ready and loose.answer.ready:
        findings.failed.append("It starts only when its root filesystem is writable.")
    if strict.answer.ready:
        findings.expect(
            not strict.again,
            "a second request is answered too",
            f"The first request was answered, a second was not: {strict.again}.",
        )
    findings.details["last_output"] = strict.logs.tail(LOG_LINES)[-4000:].splitlines()


def _not_ready(run: Run, probe: Probe) -> str:
    """Return why it was not ready: it ended, it listens elsewhere, or it does not answer that it is healthy."""
    if not run.processes:
        return f"It ended before it was ready: {run.answer.says}."
    where = sorted(map(_place, run.listeners))
    heard = any(each.port == probe.port and each.protocol == "tcp" and not _loopback(each) for each in run.listeners)
    listens = "" if heard else f" It listens on {', '.join(where) or 'no port'}."
    return f"It was not ready within {probe.start_timeout} s: {run.answer.says}.{listens}"


def _place(listener: Listener) -> str:
    return f"{listener.address} {_port(listener.port, listener.protocol)}"


def _port(port: int, protocol: Transport) -> str:
    return str(port) if protocol == "tcp" else f"{port}/{protocol}"


def _loopback(listener: Listener) -> bool:
    return listener.address.startswith(("127.", "::1"))


def _judge_ports(findings: Findings, run: Run, declaration: Service) -> None:
    declared = (declaration.probe.port, *declaration.runtime.ports)
    reachable = [each for each in run.listeners if not _loopback(each)]
    findings.details |= {
        "listening": [_place(each) for each in run.listeners],
        "listening_read_from": "the kernel's socket tables of the container's network namespace",
        "listening_observed_seconds": round(run.observed, 3),
    }
    undeclared = [each for each in reachable if each.port not in declared]
    perhaps = [each for each in undeclared if each.protocol in ("udp", "udplite") and each.port in CLIENT_PORTS]
    others = [each for each in undeclared if each not in perhaps]
    silent = sorted(set(declared) - {each.port for each in reachable})
    ports = ", ".join(map(str, declared))
    findings.expect(
        not others,
        f"listens on port{'' if len(declared) == 1 else 's'} {ports}"
        + (f" and no other in its first {run.observed:.1f} s" if not perhaps else ""),
        f"It listens on undeclared ports: {_format_ports(others)}. Declare them in runtime.ports.",
    )
    if perhaps:
        findings.warned.append(
            f"It has UDP sockets that receive from any address, and may belong to a server: {_format_ports(perhaps)}."
        )
    if silent:
        findings.warned.append(f"It does not listen on the declared ports: {', '.join(map(str, silent))}.")


def _format_ports(listeners: Sequence[Listener]) -> str:
    ports = sorted({(each.port, each.protocol) for each in listeners})
    return ", ".join(_port(port, protocol) for port, protocol in ports)


def _judge_processes(findings: Findings, run: Run, declaration: Service) -> None:
    uid = declaration.runtime.uid
    findings.details |= {
        "processes": [each.command[:200] for each in run.processes],
        "uids": sorted({each.uid for each in run.processes}),
    }
    others = sorted({each.uid for each in run.processes} - {uid})
    findings.expect(
        bool(run.processes) and not others,
        f"runs as uid {uid} ({len(run.processes)} process{'' if len(run.processes) == 1 else 'es'})",
        f"It runs processes as uid {', '.join(map(str, others)) or 'unknown'}; {uid} is declared.",
    )


def _judge_stop(findings: Findings, run: Run, declaration: Service) -> None:
    over = run.end.over
    findings.details |= {
        "stop_seconds": round(run.stop_seconds, 3) if over else None,
        "stop_timeout_seconds": declaration.probe.stop_timeout,
        "exit_code": run.end.exit_code if over else None,
    }
    findings.expect(
        over,
        f"stopped {run.stop_seconds:.2f} s after SIGTERM",
        f"It did not stop within {declaration.probe.stop_timeout} s of SIGTERM.",
    )
    if over:
        findings.expect(
            run.end.exit_code in STOPPED_BY_SIGTERM,
            f"ended with status {run.end.exit_code}",
            f"After SIGTERM it ended with status {run.end.exit_code}; expected is 0 or 143.",
        )


def _judge_writes(findings: Findings, strict: Run, loose: Run, local: LocalImage, declaration: Service) -> None:
    """Add findings about writes outside of the declared paths.

    What the engine itself changes also appears with the read-only root, where the program cannot write; it does not
    count.
    """
    writable = declaration.runtime.writable
    engines = {(change.kind, change.path) for change in strict.changes}
    own = [c for c in find_outside(loose.changes, writable) if (c.kind, c.path) not in engines]
    paths = sorted({change.path for change in own})
    findings.details["writes_outside"] = paths[:MOST_PATHS]
    listed = ", ".join(_drop_parents(paths)[:MOST_PATHS])
    findings.expect(
        not paths,
        "writes only to declared paths",
        f"It writes to undeclared paths: {listed}. Declare them in runtime.writable.",
    )
    volumes = [path for path in local.volumes if path not in writable]
    if volumes:
        findings.failed.append(
            f"The image declares volumes that the application does not declare as writable: {', '.join(volumes)}."
        )


def _drop_parents(paths: Sequence[str]) -> list[str]:
    """Return the paths in their order, without the directories that contain others of them."""
    by_part = sorted(paths, key=lambda path: path.replace("/", "\0"))  # a path is followed by the paths below it
    above = {path for path, following in pairwise(by_part) if following.startswith(path + "/")}
    return [path for path in paths if path not in above]


def _judge_logs(findings: Findings, run: Run) -> None:
    out, err = (len(text.splitlines()) for text in (run.logs.stdout, run.logs.stderr))
    findings.details |= {"stdout_lines": out, "stderr_lines": err}
    if out:
        findings.passed.append("logs to standard output")
    elif err:
        findings.warned.append("It logs to standard error only; nothing comes on standard output.")
    else:
        findings.warned.append("It logs nothing, neither on standard output nor on standard error.")


def _judge_secrets(findings: Findings, kinds: tuple[str, ...], *, complete: bool) -> None:
    """Add a finding about the kinds of secrets in the output. `complete` is whether all of it was searched."""
    where = "" if complete else f" in its last {LINES} lines, of at most {SEARCHED // 1024} KiB"
    findings.expect(
        not kinds,
        f"prints nothing that looks like a secret{where}",
        f"What it prints, or a command of it, looks like a secret: {', '.join(kinds)}.",
    )
    if kinds:
        findings.details |= {"last_output": LEFT_OUT, "processes": LEFT_OUT}


def join_last_lines(logs: Logs) -> str:
    """Return the last lines that contain a letter, as one sentence; an empty string if there are none."""
    lines = [" ".join(line.split()) for line in logs.tail().splitlines() if any(map(str.isalpha, line))]
    return f" Its last output: {' | '.join(lines[-3:])[-300:]}" if lines else ""


def join_output(logs: Logs) -> str:
    """Return the end of both output streams, which is searched for secrets."""
    return f"{logs.stdout[-SEARCHED:]}\n{logs.stderr[-SEARCHED:]}"


def was_searched_completely(logs: Logs) -> bool:
    """Return whether `join_output` has everything that the streams had."""
    return not logs.cut and max(len(logs.stdout), len(logs.stderr)) <= SEARCHED
