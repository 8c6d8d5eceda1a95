"""Find the listeners of local ports, and send plain HTTP requests to them (never through a proxy)."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any

from supply_chain.errors import ComponentFailed

HOST = "127.0.0.1"


def is_listening(port: int) -> bool:
    """Return whether something accepts connections on 127.0.0.1 (also if it listens on all addresses)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def is_served(path: Path) -> bool:
    """Return whether something accepts connections on a Unix socket, however long its path is."""
    try:
        directory = os.open(path.parent, os.O_RDONLY)
    except OSError:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(f"/proc/self/fd/{directory}/{path.name}") == 0
    finally:
        os.close(directory)


def find_listener(port: int) -> str | None:
    """Return `name (pid 123)` of the process that listens on the port, or None if this user may not see it."""
    inodes = _listening_inodes(port)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _holds(entry, inodes):
            return f"{_command(entry)} (pid {entry.name})"
    return None


def _listening_inodes(port: int) -> set[str]:
    """Return the sockets in state LISTEN (0A) on the port; see proc(5), /proc/net/tcp."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    return inodes


def _holds(process: Path, inodes: set[str]) -> bool:
    try:
        handles = list((process / "fd").iterdir())
    except OSError:  # the process ended meanwhile, or belongs to another user
        return False
    return any(_target(handle) in inodes for handle in handles)


def _target(handle: Path) -> str:
    """Return the target of a file descriptor's link; empty if it was closed meanwhile.

    The descriptor that lists the directory is always closed by then.
    """
    try:
        return str(handle.readlink())
    except OSError:
        return ""


def _command(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return "a program"
    return " ".join(word.decode("utf-8", "replace") for word in words)[:120] or "a program"


def request(
    method: str,
    port: int,
    path: str,
    *,
    body: Any = None,
    auth: str | None = None,
    timeout: float = 5.0,
) -> tuple[int, Any]:
    """Return the status and the decoded JSON body (None if it is not JSON) of one request to 127.0.0.1.

    `auth` is `user:password` for HTTP Basic; `timeout` is in seconds. Raises `OSError` or `http.client.HTTPException`
    if there is no valid answer.
    """
    headers = {"content-type": "application/json"}
    if auth:
        headers["authorization"] = "Basic " + base64.b64encode(auth.encode()).decode()
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    try:
        return response.status, json.loads(data)
    except ValueError:
        return response.status, None


def answers(port: int, path: str, auth: str | None = None) -> bool:
    """Return whether a GET of the path is answered with status 200."""
    try:
        return request("GET", port, path, auth=auth)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def request_json(method: str, port: int, path: str, *, body: Any = None, auth: str | None = None) -> Any:
    """Return the JSON body of a successful answer; raise `ComponentFailed` for any other answer or none."""
    try:
        status, answer = request(method, port, path, body=body, auth=auth, timeout=30.0)
    except (OSError, http.client.HTTPException) as error:
        raise ComponentFailed(
            f"{method} http://{HOST}:{port}{path} was not answered: {error}\nRun `cscm status`."
        ) from error
    if status >= 300:
        raise ComponentFailed(f"{method} http://{HOST}:{port}{path}: status {status}: {answer}\nRun `cscm doctor`.")
    return answer
