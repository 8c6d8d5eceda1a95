"""Whether a process runs."""

from pathlib import Path


def state_of(pid: int) -> str | None:
    """Return the state of a process as one letter (proc_pid_stat(5)); None if there is none with this number.

    A process that ends between opening and reading its file makes the read fail with ESRCH.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def runs(pid: int) -> bool:
    """Return whether a process runs: it exists, and is no zombie."""
    return state_of(pid) not in (None, "Z", "X")
