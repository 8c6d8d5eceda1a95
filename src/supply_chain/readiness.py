"""Readiness checks of containers by HTTP requests; the engine has to run on this machine."""

from __future__ import annotations

import http.client
import re
import socket
import time
from dataclasses import dataclass

from supply_chain.model.container import POLL, Container, Engine, Wait, describe_end
from supply_chain.model.declaration import Probe


@dataclass(frozen=True)
class Answer:
    """The result of waiting for a container: the `seconds` waited, and why it is not ready."""

    ready: bool
    seconds: float
    says: str = ""


ANSWER = 64 * 1024
"""Maximum number of bytes that are read of an answer; only its status counts."""

LONGEST_PAUSE = 0.25
"""Maximum seconds between two checks of a container."""

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


def probe_readiness(address: str, port: int, path: str, timeout: float = 2.0) -> str:
    """Return why the address is not ready, or an empty text if it answers with 2xx."""
    try:
        status = request(address, port, path, timeout)
    except (OSError, http.client.HTTPException) as error:
        return f"no answer from port {port}: {str(error) or type(error).__name__}"
    return "" if 200 <= status < 300 else f"{path} is answered with {status}"


def check(engine: Engine, container: str, network: str, probe: Probe) -> tuple[str, bool]:
    """Return why a container is not ready, empty if it answers on its own address, and whether it runs."""
    trouble, now = _check(engine, engine.inspect(container), network, probe)
    return trouble, now.running


def _check(engine: Engine, container: Container, network: str, probe: Probe) -> tuple[str, Container]:
    """Return why a container is not ready, as `check` does, and the container as it is afterwards.

    An answer counts only if the container still runs at that address: another one may have it after its end.
    """
    if container.running:
        address = container.networks.get(network)
        trouble = probe_readiness(address, probe.port, probe.path) if address else f"it has no address on {network}"
        container = engine.inspect(container.id)
        if container.running:
            moved = container.networks.get(network) != address
            return trouble or ("its address has changed" if moved else ""), container
    return describe_end(container), container


def wait_until_ready(engine: Engine, container: str, network: str, probe: Probe, wait: Wait) -> Answer:
    """Wait until the container answers on its own address, at most for the probe's start timeout.

    The engine has to run on this machine.
    """
    started, now = time.monotonic(), engine.inspect(container)
    while True:
        trouble, now = _check(engine, now, network, probe)
        seconds = time.monotonic() - started
        ended = not (now.running or now.paused)
        if not trouble or ended or seconds > probe.start_timeout:
            return Answer(not trouble, seconds, trouble)
        wait(_pause_after(seconds))
        now = engine.inspect(container) if now.paused else now


def wait_until_ended(engine: Engine, container: str, timeout: float, wait: Wait) -> Container:
    """Wait until the container has ended, at most `timeout` seconds, and return its last state."""
    started = time.monotonic()
    while True:
        now = engine.inspect(container)
        seconds = time.monotonic() - started
        if now.over or seconds > timeout:
            return now
        wait(_pause_after(seconds))


def _pause_after(seconds: float) -> float:
    """Return the seconds until the next check, after so many of waiting; each check takes the engine some time."""
    return min(max(POLL, seconds / 10), LONGEST_PAUSE)
