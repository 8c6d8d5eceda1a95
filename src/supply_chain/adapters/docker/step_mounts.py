"""Finds the directories that a build step writes to, from its mount namespace (mount_namespaces(7)).

/proc/PID/mountinfo and /proc/PID/root show what is below the root directory of that process, and a step may change it
(chroot(2)). The namespace shows all of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from supply_chain.adapters.docker.build_cgroup import suppress_if_gone

NOT_ON_DISK = {"proc", "sysfs", "tmpfs", "cgroup", "cgroup2", "mqueue", "devpts", "devtmpfs"}
ROOT = Path("/")
CLONE_FS = 0x200
CLONE_NEWNS = 0x20000


@contextlib.contextmanager
def find_written_directories(process: int) -> Iterator[list[Path]]:
    """Yield the directories that a step writes to, found by one of its processes: paths for as long as the block runs.

    These are the upper directory of its root (the layer that it creates) and every writable mount on a disk (caches).
    Yields none for a process that has ended, nor for the first process of a step while it still has the root and all
    mounts of the host. Raises `OSError` if they cannot be read.
    """
    found: tuple[str, int] | None = None
    # EINVAL: ended, but not yet waited for. A thread of its own, as it ends in another namespace.
    with suppress_if_gone(errno.EINVAL), ThreadPoolExecutor(1) as thread:
        found = thread.submit(_enter, process).result()
    if found is None:
        yield []
        return
    mounts, root = found
    try:
        yield list_written_directories(mounts, Path(f"/proc/self/fd/{root}"))
    finally:
        os.close(root)


def _enter(process: int) -> tuple[str, int] | None:
    """Enter the mount namespace of a process; return its mounts and a descriptor of its root directory.

    Returns None if that is the root directory of this process.
    """
    libc, host = ctypes.CDLL(None, use_errno=True), ROOT.stat()
    with contextlib.ExitStack() as opened:
        own = os.open("/proc/thread-self", os.O_PATH)
        opened.callback(os.close, own)
        namespace = os.open(f"/proc/{process}/ns/mnt", os.O_RDONLY)
        opened.callback(os.close, namespace)
        if libc.unshare(CLONE_FS) or libc.setns(namespace, CLONE_NEWNS):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), f"/proc/{process}/ns/mnt")
        if os.path.samestat(ROOT.stat(), host):
            return None
        mounts = os.open("mountinfo", os.O_RDONLY, dir_fd=own)
        with os.fdopen(mounts, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(), os.open(ROOT, os.O_PATH)


def list_written_directories(mounts: str, root: Path) -> list[Path]:
    """Return the directories to which mounts can write, from lines as in proc_pid_mountinfo(5).

    `root` is where the root directory of these mounts can be read.
    """
    places = []
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        _, _, _, _, where, options, *_ = before.split()
        kind, _, settings = after.split(" ", 2)
        upper = dict(each.partition("=")[::2] for each in settings.split(",")).get("upperdir")
        if kind == "overlay" and where == "/" and upper:
            places.append(Path(_unescape(upper)))
        elif kind not in NOT_ON_DISK and where != "/" and "rw" in options.split(","):
            places.append(root / _unescape(where).lstrip("/"))
    return places


def _unescape(path: str) -> str:
    return path.replace(r"\040", " ").replace(r"\011", "\t").replace(r"\012", "\n").replace(r"\134", "\\")
