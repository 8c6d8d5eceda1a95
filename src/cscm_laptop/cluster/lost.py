"""Remove the cluster of a lost home: its processes are found by the home's path, the rest by the record's copy."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from cscm_laptop.cluster.host import CopiedRecord, read_copy, restore_host
from cscm_laptop.cluster.place import Place
from cscm_laptop.cluster.pods import end_pods, find_shims, list_commands
from cscm_laptop.cluster.programs import BUILT, ETCD, SERVERS
from cscm_laptop.services import Progress, read_boot_id, start_time

PROGRAMS = frozenset({*SERVERS, ETCD, BUILT, "containerd", "kube-router"})
"""The programs of the components."""
LISTENS = "00010000"
"""The flag of a listening socket in `net/unix` (`__SO_ACCEPTCON`)."""
PATIENCE = 10.0
"""Seconds that the kernel may take to end a killed process."""


def remove_lost_cluster(owner: str, progress: Progress) -> None:
    """End the cluster of an owner whose home is lost and restore what it changed on the host, as root.

    A home that still has its record is not lost: its cluster is left as it is.
    """
    record = read_copy(owner)
    if record is None or os.geteuid() != 0:
        return
    place = Place(record.directory, owner)
    if place.host_record.exists():
        progress(f"cluster: its home {record.directory.parent} exists; `cscm reset` in its project removes it")
        return
    progress(f"cluster: removing that of the lost home {record.directory.parent}")
    _kill(find_components(place.directory))  # at once: their state is lost
    sockets = [path for pid in find_shims(place.socket) for path in list_listening_sockets(pid)]
    end_pods(place)
    for socket in sockets:
        socket.unlink(missing_ok=True)
    restore_host(place, _still_true(record))
    shutil.rmtree(place.directory, ignore_errors=True)


def find_components(directory: Path, processes: Path = Path("/proc")) -> list[int]:
    """Return the ids of the processes of components whose files are in a cluster's directory."""
    return [
        pid
        for pid, (program, *words) in list_commands(processes)
        if Path(program).name in PROGRAMS and any(f"{directory}/" in word for word in words)
    ]


def list_listening_sockets(pid: int, processes: Path = Path("/proc")) -> list[Path]:
    """Return the paths of the Unix sockets on which a process listens (proc(5), `net/unix`)."""
    own: set[str] = set()
    lines: list[str] = []
    with contextlib.suppress(OSError):  # it ended meanwhile
        lines = (processes / str(pid) / "net/unix").read_text(encoding="utf-8").splitlines()[1:]
        for file in (processes / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):  # it was closed meanwhile
                own.add(str(file.readlink()).removeprefix("socket:[").removesuffix("]"))
    sockets = [line.split(maxsplit=7) for line in lines]
    return [Path(each[7]) for each in sockets if len(each) == 8 and each[3] == LISTENS and each[6] in own]


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + PATIENCE
    while any(start_time(pid) is not None for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)


def _still_true(record: CopiedRecord) -> CopiedRecord:
    """Return the record without settings of the kernel if the machine was restarted since, which restored them."""
    return record if record.boot == read_boot_id() else record.model_copy(update={"sysctls": {}})
