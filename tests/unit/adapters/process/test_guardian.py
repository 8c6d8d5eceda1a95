"""Tests that the commands of a killed process end with it."""

import os
import signal
import subprocess
import sys
import time

from supply_chain.adapters.process.guardian import Guardian
from tests.support.present import present
from tests.support.processes import runs

PARENT = """
import sys, threading
from pathlib import Path
from supply_chain.adapters.process import guardian
from supply_chain.adapters.process.command import Tool
guardian.GRACE = 1
sh = Tool("sh", Path("/bin/sh"), "1")
sh.run("-c", "exit 0", timeout=10)
script = 'trap "" TERM; sleep 1234 & echo $! > $0.new; mv $0.new $0; wait'
for number in ("1", "2"):
    threading.Thread(target=sh.run, args=("-c", script, sys.argv[1] + number), kwargs={"timeout": 60}).start()
"""


def eventually(holds):
    deadline = time.monotonic() + 20
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_guardian_ends_commands_of_killed_process_and_their_children(tmp_path):
    """SIGKILL leaves the process no time to end its commands itself."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "pid")])
    notes = [tmp_path / "pid1", tmp_path / "pid2"]
    eventually(lambda: all(note.exists() for note in notes))
    sleepers = [int(note.read_text()) for note in notes]
    assert all(map(runs, sleepers))

    parent.kill()
    parent.wait()

    eventually(lambda: not any(map(runs, sleepers)))


def group() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "1234"], start_new_session=True)


def test_guardian_leaves_group_that_is_no_longer_guarded():
    """The group number may belong to another process by then."""
    mine, other = Guardian(), group()
    with mine.guarding(other.pid):
        pass
    left = group()
    with mine.guarding(left.pid):
        present(present(mine._process).stdin).close()  # as at the end of this process
        left.wait(20)

        mine._process = None
    assert other.poll() is None and left.returncode == -signal.SIGTERM
    other.kill()
    other.wait()


def test_guardian_that_was_killed_is_replaced():
    """The new guardian knows all groups that the old one guarded."""
    mine, first, second = Guardian(), group(), group()
    with mine.guarding(first.pid):
        os.kill(present(mine._process).pid, signal.SIGKILL)
        os.waitpid(present(mine._process).pid, 0)
        with mine.guarding(second.pid):
            present(present(mine._process).stdin).close()
            first.wait(20)
            second.wait(20)
            mine._process = None
