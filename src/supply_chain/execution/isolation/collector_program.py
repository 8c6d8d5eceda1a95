# ruff: noqa: PTH115, PTH123, PTH208
# Paths are texts here: there may be hundreds of thousands, of 4,096 bytes each.
"""The program of the collector: it prints the processes and the changed files of a container as one document.

It runs in an ephemeral container that shares the processes of that container, with nothing but Python's standard
library. What runs there as the same user can change what it reads and what it prints.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import stat
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

END = "cscm-collected"
"""Begins the last line, which ends with the digest of the document."""
LINE = 8_000
"""Characters of a line; a container runtime splits lines from 16 KiB."""
MOST_FILES, MOST_CONTENTS, MOST_UNREAD = 10_000, 200, 1_000
LARGEST = 256 * 1024 * 1024
"""Bytes of the largest file of which the digest is computed."""
PART = 64 * 1024
VIRTUAL = ("/proc", "/sys")
T = TypeVar("T")


class Search:
    """A search for the files below a directory that changed since a time (seconds since 1970)."""

    def __init__(self, root: str, since: float, is_over: Callable[[], bool]) -> None:
        """Prepare a search, which ends early once `is_over` returns true."""
        self.root, self.since, self.is_over = root, since, is_over
        self.files: dict[str, dict[str, Any]] = {}
        """Path → what is printed about the file."""
        self.unread: dict[str, str] = {}
        """Path, as it is printed → why it was not read."""

    def run(self) -> None:
        """List the changed files. Links are not followed."""
        directories = [""]
        while directories:
            directory = directories.pop()
            for name in self._list(directory):
                path = f"{directory}/{name}"
                if self.is_over() or len(self.files) >= MOST_FILES:
                    self.unread[escape_bytes(path)] = "the search ended before it, because no time or room was left"
                    return
                if path not in VIRTUAL and self._look_at(path):
                    directories.append(path)

    def read_contents(self, most: int) -> Iterator[str]:
        """Yield contents in base64, those of the smallest files first, with at most so many bytes together."""
        sizes = {path: each["size"] for path, each in self.files.items() if each.get("digest") and each["size"]}
        for path in sorted(sizes, key=lambda path: (sizes[path], path))[:MOST_CONTENTS]:
            size = sizes[path]
            if size > most or self.is_over():
                return
            most -= size
            try:
                with self._open(path) as file:
                    yield base64.b64encode(file.read(size)).decode()
            except OSError as error:
                self._note(path, error)

    def _list(self, directory: str) -> Iterator[str]:
        try:
            with os.scandir(f"{self.root}{directory}/") as entries:
                for entry in entries:
                    yield entry.name
        except OSError as error:
            self._note(directory or "/", error)

    def _look_at(self, path: str) -> bool:
        """Add a file if it changed; return whether it is a directory."""
        try:
            status = os.lstat(self.root + path)
        except OSError as error:
            self._note(path, error)
            return False
        if status.st_ctime >= self.since:
            self.files[path] = self._describe(path, status)
        return stat.S_ISDIR(status.st_mode)

    def _describe(self, path: str, status: os.stat_result) -> dict[str, Any]:
        described = {
            "path": escape_bytes(path), "mode": stat.filemode(status.st_mode), "size": status.st_size,
            "user": status.st_uid, "group": status.st_gid,
            "changed": format_instant(status.st_ctime), "modified": format_instant(status.st_mtime),
        }  # fmt: skip
        try:
            if stat.S_ISREG(status.st_mode):
                described["digest"] = self._digest(path)
            elif stat.S_ISLNK(status.st_mode):
                described["target"] = read_link(self.root + path)
        except OSError as error:
            self._note(path, error)
        return described

    def _digest(self, path: str) -> str:
        digest, size = hashlib.sha256(), 0
        with self._open(path) as file:
            while part := file.read(PART):
                size += len(part)
                if size > LARGEST or self.is_over():
                    raise OSError(errno.EFBIG, "it is too large, or no time was left")
                digest.update(part)
        return f"sha256:{digest.hexdigest()}"

    def _open(self, path: str) -> Any:
        """Open a file; one that was replaced by a link or a pipe meanwhile is not followed or waited for."""
        return open(os.open(self.root + path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")

    def _note(self, path: str, error: OSError) -> None:
        if len(self.unread) < MOST_UNREAD:
            self.unread[escape_bytes(path)] = error.strerror or type(error).__name__


def list_processes(proc: str) -> list[dict[str, Any]]:
    """Return the processes below a directory as /proc, by their numbers."""
    numbers = sorted(int(name) for name in os.listdir(proc) if name.isdecimal())
    return [read_process(proc, number) for number in numbers]


def read_process(proc: str, number: int) -> dict[str, Any]:
    """Return what /proc says about a process; null is what cannot be read, for example because it ended."""
    path = f"{proc}/{number}"
    lines = (attempt(read, f"{path}/status") or "").splitlines()
    status = {key: value for key, _, value in (line.partition(":\t") for line in lines)}
    command = attempt(read, f"{path}/cmdline")
    return {
        "pid": number,
        "parent": status.get("PPid"),
        "name": status.get("Name"),
        "state": status.get("State"),
        "users": status.get("Uid"),
        "started": None if (started := attempt(read_start, proc, number)) is None else format_instant(started),
        "command": None if command is None else command.rstrip("\0").split("\0"),
        "program": attempt(read_link, f"{path}/exe"),
        "directory": attempt(read_link, f"{path}/cwd"),
    }


def read_start(proc: str, number: int) -> float:
    """Return when a process started, in seconds since 1970 (proc(5), field `starttime`)."""
    ticks = read(f"{proc}/{number}/stat").rpartition(")")[2].split()[19]
    return find_boot() + int(ticks) / os.sysconf("SC_CLK_TCK")


def find_boot() -> float:
    """Return when the machine started, in seconds since 1970."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def read(path: str) -> str:
    """Return the text of a file, at most 64 KiB."""
    with open(path, "rb") as file:
        return escape_bytes(os.fsdecode(file.read(PART)))


def read_link(path: str) -> str:
    """Return the target of a symbolic link."""
    return escape_bytes(os.readlink(path))


def escape_bytes(text: str) -> str:
    """Return a path or another text of a system with its bytes that are not UTF-8 as `\\xff`."""
    return os.fsencode(text).decode(errors="backslashreplace")


def attempt(function: Callable[..., T], *arguments: Any) -> T | None:
    """Return what a function returns; None if it cannot read."""
    try:
        return function(*arguments)
    except OSError:
        return None


def format_instant(seconds: float) -> str:
    """Return a time in seconds since 1970 in ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def collect(proc: str, since: float, contents: int, seconds: float) -> dict[str, Any]:
    """Return the processes below a directory as /proc, and what changed in the files of the first one since its start.

    `since` is the second of that start, by the clock of then. The process itself knows it better, unless somebody set
    the clock forward since.
    """
    until = time.monotonic() + seconds
    started = attempt(read_start, proc, 1)
    if started is not None and started < since + 1:
        since = started
    search = Search(f"{proc}/1/root", since, lambda: time.monotonic() > until)
    processes = list_processes(proc)
    search.run()
    return {
        "processes": processes,
        "files": list(search.files.values()),
        "contents": list(search.read_contents(contents)),
        "unread": search.unread,
    }


def format_lines(collected: object) -> Iterator[str]:
    """Yield the lines that the collector prints."""
    packed = zlib.compress(json.dumps(collected).encode())
    text = base64.b64encode(packed).decode()
    yield from (text[start : start + LINE] for start in range(0, len(text), LINE))
    yield f"{END} {hashlib.sha256(packed).hexdigest()}"


def main() -> None:
    """Collect by the arguments: the time since when, the bytes of contents, and the seconds that it may take."""
    if os.getpid() == 1:
        sys.exit("the container's runtime does not share its processes")
    since, contents, seconds = sys.argv[1:]
    print("\n".join(format_lines(collect("/proc", float(since), int(contents), float(seconds)))))


if __name__ == "__main__":
    main()
