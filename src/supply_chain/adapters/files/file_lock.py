"""Locks of open files and directories between processes (flock), which end with the process."""

from __future__ import annotations

import fcntl


def try_lock(file: int) -> bool:
    """Lock an open file, and return whether that succeeded: another process may hold it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
