"""End all pods of a stopped node, as a power failure would, and remove what they leave in the kernel."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from cscm_laptop.cluster.host import end_processes, find_cgroups, unmount_below
from cscm_laptop.cluster.place import Place

SHIM = "containerd-shim"
TASKS = "containerd/io.containerd.runtime.v2.task/k8s.io"
"""Where containerd has a directory for each container, below the place for what ends with the node."""
GRACE = 5.0
"""Seconds that the processes of pods have to end after SIGTERM."""


def end_pods(place: Place, grace: float = GRACE) -> None:
    """End the processes of all pods and their shims, and remove their mounts, namespaces and sockets.

    kubelet and containerd must have ended. The pods stay in etcd, and start again with the node.
    """
    end_processes(find_cgroups(place.name), grace)
    for pid in find_shims(place.socket):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    sockets = list(_sockets(place.run / TASKS))
    unmount_below(place.directory)
    for socket in sockets:
        socket.unlink(missing_ok=True)
    for name in ("containerd", "runc", "addresses"):
        shutil.rmtree(place.run / name, ignore_errors=True)
    for file in place.run.glob("containerd.sock*"):
        file.unlink()


def find_shims(socket: Path, processes: Path = Path("/proc")) -> list[int]:
    """Return the ids of the shims that belong to the containerd with this socket."""
    return [
        pid for pid, words in list_commands(processes) if Path(words[0]).name.startswith(SHIM) and str(socket) in words
    ]


def list_commands(processes: Path = Path("/proc")) -> Iterator[tuple[int, list[str]]]:
    """Yield the id and the command line of each process."""
    for entry in processes.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                yield int(entry.name), (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")


def _sockets(tasks: Path) -> Iterator[Path]:
    """Yield the sockets of the shims, which containerd puts into a directory that all of a machine share."""
    for file in tasks.glob("*/address"):
        with contextlib.suppress(OSError):
            yield Path(file.read_text(encoding="ascii").strip().removeprefix("unix://"))
