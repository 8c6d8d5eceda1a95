"""Finds the directories that a build step writes to, from its mount namespace (mount_namespaces(7)).

/proc/PID/mountinfo and /proc/PID/root show what is below the root directory of that process, and a step may change it
(chroot(2)). The namespace shows every mount of the step, unless the engine lets a step make namespaces of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from supply_chain.adapters.docker.build_cgroup import suppress_if_gone

NOT_ON_DISK = {"proc", "sysfs", "tmpfs", "cgroup", "cgroup2", "mqueue", "devpts", "devtmpfs"}
OVERLAYS = "overlay2"
"""Directory of Docker's engine to which its overlay driver gives relative paths if an image has many layers."""
OWN = "/proc/thread-self/ns/mnt"
CLONE_FS = 0x200
CLONE_NEWNS = 0x20000
DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
CAPABILITIES = {"CAP_SYS_CHROOT": 18, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21}
"""What entering a namespace of another process needs (setns(2)), with the numbers of linux/capability.h."""
STATUS = Path("/proc/self/status")
HIDDEN = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def find_missing_capabilities(status: Path = STATUS) -> list[str]:
    """Return which capabilities this process lacks to find what a step writes; `status` as in proc_pid_status(5)."""
    text = status.read_text(encoding="ascii", errors="replace")
    effective = next(int(line.split()[1], 16) for line in text.splitlines() if line.startswith("CapEff:"))
    return [name for name, number in CAPABILITIES.items() if not effective >> number & 1]


@contextlib.contextmanager
def find_written_directories(process: int, storage: Sequence[Path] = ()) -> Iterator[list[Path]]:
    """Yield the directories that a step writes to, found by one of its processes; they are valid inside the block only.

    They are the upper directories of its overlays (its root's is the layer that the step creates) and every writable
    mount on a disk (caches). `storage` is where an engine on this machine stores its images. Yields none for a process
    that has ended, nor for the first process of a step while it still has all mounts of the host. Raises `OSError` if
    they cannot be found.
    """
    with ExitStack() as opened:
        yield _find_directories(process, storage, opened)


def _find_directories(process: int, storage: Sequence[Path], opened: ExitStack) -> list[Path]:
    namespace = _open_namespace(process, opened)
    if namespace is None or os.path.sameopenfile(namespace, _keep(opened, os.open(OWN, os.O_RDONLY))):
        return []
    with ThreadPoolExecutor(1) as thread:  # a new one, because it no longer shares its root directory
        inside = thread.submit(_look_into, namespace, opened).result()
    if inside is None:
        return []
    mounts, root = inside
    uppers, others = list_written_directories(mounts)
    places = [each for upper in uppers for each in _find_upper(upper, storage, process)]
    return [*places, *(Path(f"/proc/self/fd/{each}") for each in _open_directories(root, others, opened))]


def _keep(opened: ExitStack, descriptor: int) -> int:
    opened.callback(os.close, descriptor)
    return descriptor


def _open_namespace(process: int, opened: ExitStack) -> int | None:
    """Return a descriptor of the mount namespace of a process; None if the process has ended."""
    with suppress_if_gone():
        return _keep(opened, os.open(f"/proc/{process}/ns/mnt", os.O_RDONLY))
    return None


def _look_into(namespace: int, opened: ExitStack) -> tuple[str, int] | None:
    """Return the mounts of a namespace and a descriptor of its root directory; None if that is the host's directory.

    Inside, each path is one of the step's file system. So nothing runs there but system calls that open a directory or
    a file of the host: no module is imported, and the garbage collector finalizes no object.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    unshare, setns, collects = libc.unshare, libc.setns, gc.isenabled()
    back, own = _keep(opened, os.open(OWN, os.O_RDONLY)), _keep(opened, os.open("/proc/thread-self", os.O_PATH))
    host = os.open("/", DIRECTORY)
    _call(unshare, CLONE_FS)
    gc.disable()
    try:
        _call(setns, namespace, CLONE_NEWNS)
        file, root = os.open("mountinfo", os.O_RDONLY, dir_fd=own), os.open("/", DIRECTORY)
    finally:
        setns(back, CLONE_NEWNS)
        if collects:
            gc.enable()
    with os.fdopen(file, "rb") as mounts:
        text = os.fsdecode(mounts.read())
    return None if os.path.sameopenfile(_keep(opened, root), _keep(opened, host)) else (text, root)


def _call(function: Callable[..., int], *arguments: int) -> None:
    if function(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"A step's mounts cannot be entered: {os.strerror(number)}")


def list_written_directories(mountinfo: str) -> tuple[list[str], list[str]]:
    """Return where mounts can write, from lines as in proc_pid_mountinfo(5).

    Returns the upper directories of overlays, which are paths of the host, and paths below the root directory of the
    mounts, none of which is below another one.
    """
    uppers, others = list[str](), list[str]()
    for line in mountinfo.split("\n")[:-1]:
        before, _, after = line.partition(" - ")
        _, _, _, _, mount_point, options, *_ = before.split(" ")
        kind, _, super_options = after.split(" ", 2)
        upper = dict(each.partition("=")[::2] for each in super_options.split(",")).get("upperdir")
        if kind == "overlay" and upper:
            uppers.append(_unescape(upper))
        elif kind not in NOT_ON_DISK and mount_point != "/" and "rw" in options.split(","):
            others.append(_unescape(mount_point))
    outer = list[str]()
    for each in sorted(others):
        if not any(each == other or each.startswith(f"{other}/") for other in outer):
            outer.append(each)
    return uppers, outer


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _find_upper(upper: str, storage: Sequence[Path], process: int) -> list[Path]:
    """Return the path of the upper directory on this machine; none if it cannot be seen or the step has ended."""
    places = [Path(upper)] if upper.startswith("/") else [each / OVERLAYS / upper for each in storage]
    if here := [each for each in places if each.is_dir()]:
        return here[:1]
    with ExitStack() as opened:
        if storage and _open_namespace(process, opened) is not None:
            raise FileNotFoundError(errno.ENOENT, "The directory of a step's layer is not here", upper)
    return []


def _open_directories(root: int, paths: Sequence[str], opened: ExitStack) -> Iterator[int]:
    """Yield descriptors of directories below a root directory, without following a symbolic link.

    Leaves out files, and mounts that a step has moved since.
    """
    for path in paths:
        try:
            inner = root
            for name in path.strip("/").split("/"):
                inner = _keep(opened, os.open(name, DIRECTORY, dir_fd=inner))
            yield inner
        except OSError as error:
            if error.errno not in HIDDEN:
                raise
