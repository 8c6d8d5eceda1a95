"""Readiness: whether what runs answers, asked over HTTP; the engine's host has to be this machine."""

from __future__ import annotations

import http.client
import re
import socket
import time
from dataclasses import dataclass

from supply_chain.model.container import POLL, Container, Engine, Wait, ended
from supply_chain.model.manifest import Probe


@dataclass(frozen=True)
class Answer:
    """What came of waiting for a container: `seconds` of waiting, and when not ready, why."""

    ready: bool
    seconds: float
    says: str = ""


ANSWER = 64 * 1024
"""Bytes of an answer that are read; only its status counts."""

STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")


def request(address: str, port: int, path: str, timeout: float = 2.0) -> int:
    """The status of a GET request over plain HTTP; `OSError` or `HTTPException` when there is no answer.

    `timeout` (seconds) is for the whole exchange: an application that drips its answer does not hold
    up whoever watches it.
    """
    deadline = time.monotonic() + timeout
    host = f"[{address}]" if ":" in address else address
    words = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: cscm-probe\r\nConnection: close\r\n\r\n"
    answer = b""
    with socket.create_connection((address, port), timeout=timeout) as connection:
        connection.sendall(words.encode())
        while len(answer) < ANSWER and (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            try:
                chunk = connection.recv(4096)
            except (TimeoutError, ConnectionResetError):
                if STATUS.match(answer):
                    break
                raise
            if not chunk:
                break
            answer += chunk
    status = STATUS.match(answer)
    if status is None:
        raise http.client.BadStatusLine(answer[:80].decode("ascii", "replace"))
    return int(status[1])


def trouble_at(address: str, port: int, path: str, timeout: float = 2.0) -> str:
    """Why the address is not well, or nothing when it answers with 2xx."""
    try:
        status = request(address, port, path, timeout)
    except (OSError, http.client.HTTPException) as error:
        return f"no answer from port {port}: {error or type(error).__name__}"
    return "" if 200 <= status < 300 else f"{path} is answered with {status}"


def wait_ready(engine: Engine, container: str, network: str, probe: Probe, wait: Wait) -> Answer:
    """Wait until the container answers on its own address; the engine's host has to be this one."""
    started = time.monotonic()
    said = f"it has no address on {network}"
    while True:
        now = engine.inspect(container)
        if not now.running:
            return Answer(False, time.monotonic() - started, ended(now))
        if address := now.networks.get(network):
            said = trouble_at(address, probe.port, probe.path)
        if not said:
            return Answer(True, time.monotonic() - started)
        if time.monotonic() - started > probe.start_timeout:
            return Answer(False, time.monotonic() - started, said)
        wait(POLL)


def wait_ended(engine: Engine, container: str, timeout: float, wait: Wait) -> Container:
    """The container when it has ended, or as it is after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        now = engine.inspect(container)
        if now.over or time.monotonic() > deadline:
            return now
        wait(POLL)
