"""Readiness checks of containers by HTTP requests; the engine has to run on this machine."""

from __future__ import annotations

import http.client
import re
import socket
import time
from dataclasses import dataclass

from supply_chain.model.container import POLL, Container, Engine, Wait, describe_end
from supply_chain.model.manifest import Probe


@dataclass(frozen=True)
class Answer:
    """The result of waiting for a container: the `seconds` waited, and why it is not ready."""

    ready: bool
    seconds: float
    says: str = ""


ANSWER = 64 * 1024
"""Maximum number of bytes that are read of an answer; only its status counts."""

STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")


def request(address: str, port: int, path: str, timeout: float = 2.0) -> int:
    """Send a GET request over plain HTTP and return the status; raise `OSError` or `HTTPException` without an answer.

    `timeout` (seconds) applies to the whole exchange, so that an application that answers slowly does not delay the
    caller.
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
    """Return why the address is not ready, or an empty text if it answers with 2xx."""
    try:
        status = request(address, port, path, timeout)
    except (OSError, http.client.HTTPException) as error:
        return f"no answer from port {port}: {error or type(error).__name__}"
    return "" if 200 <= status < 300 else f"{path} is answered with {status}"


def check(engine: Engine, container: str, network: str, probe: Probe) -> tuple[str, bool]:
    """Return why a container is not ready, empty if it answers on its own address, and whether it runs.

    A container that ends during the request is reported as ended: nobody answers at the address that it had.
    """
    before = engine.inspect(container)
    if not before.running:
        return describe_end(before), False
    address = before.networks.get(network)
    trouble = trouble_at(address, probe.port, probe.path) if address else f"it has no address on {network}"
    if not trouble or (after := engine.inspect(container)).running:
        return trouble, True
    return describe_end(after), False


def wait_until_ready(engine: Engine, container: str, network: str, probe: Probe, wait: Wait) -> Answer:
    """Wait until the container answers on its own address, at most for the probe's start timeout.

    The engine has to run on this machine.
    """
    started = time.monotonic()
    while True:
        trouble, runs = check(engine, container, network, probe)
        seconds = time.monotonic() - started
        if not trouble or not runs or seconds > probe.start_timeout:
            return Answer(not trouble, seconds, trouble)
        wait(POLL)


def wait_until_ended(engine: Engine, container: str, timeout: float, wait: Wait) -> Container:
    """Wait until the container has ended, at most `timeout` seconds, and return its last state."""
    deadline = time.monotonic() + timeout
    while True:
        now = engine.inspect(container)
        if now.over or time.monotonic() > deadline:
            return now
        wait(POLL)
