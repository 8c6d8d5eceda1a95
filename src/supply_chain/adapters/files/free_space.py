"""Free space of the file systems to which temporary files are written."""

from __future__ import annotations

from os import statvfs
from pathlib import Path

from supply_chain.errors import DiskFull
from supply_chain.text import format_mebibytes

RESERVE = 2 * 1024**3
"""Bytes that have to stay free on a disk to which temporary files are written."""


def free_bytes(directory: Path) -> int:
    """Return the bytes that are free for unprivileged users on a directory's file system."""
    status = statvfs(directory)
    return status.f_bavail * status.f_frsize


def find_shortage(directory: Path) -> str:
    """Return an error message if less than `RESERVE` is free on a directory's file system; empty if not."""
    free = free_bytes(directory)
    if free >= RESERVE:
        return ""
    return (
        f"Only {format_mebibytes(free)} are free in {directory}, and {format_mebibytes(RESERVE)} have to stay.\n"
        "Make room there, or set TMPDIR to a larger file system."
    )


def require_space(directory: Path, what: str) -> None:
    """Raise `DiskFull` if less than `RESERVE` is free on a directory's file system; `what` says what is not done."""
    if shortage := find_shortage(directory):
        raise DiskFull(f"{what}: {shortage}")
