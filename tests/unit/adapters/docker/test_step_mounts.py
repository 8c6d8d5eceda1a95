"""What a build step writes to is found in its mount namespace."""

import ctypes
import errno
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from supply_chain.adapters.docker.step_mounts import find_written_directories, list_written_directories

MOUNTS = r"""1 0 0:1 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/upper\040layer,workdir=/w
2 1 0:2 / /proc rw - proc proc rw
3 1 8:1 /snapshots/1/fs /var/cache rw,relatime master:1 - ext4 /dev/vda rw
4 1 8:1 /x /ro ro,relatime - ext4 /dev/vda rw
5 1 0:3 / /dev/shm rw - tmpfs shm rw
6 1 8:1 /y /with\011tab rw,relatime - ext4 /dev/vda rw
"""


def test_upper_layer_and_writable_mounts_on_a_disk_are_written_to():
    """Lower layers, memory file systems and read-only mounts are not."""
    places = list_written_directories(MOUNTS, Path("/root"))

    assert places == [Path("/upper layer"), Path("/root/var/cache"), Path("/root/with\ttab")]


def test_step_that_has_the_root_of_the_host_has_written_nothing():
    """The first process of a step has all mounts of the host for a moment."""
    with find_written_directories(os.getpid()) as places:
        assert places == []


def test_step_that_has_ended_has_written_nothing():
    """A process that nobody has waited for counts as ended."""
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        with find_written_directories(ended.pid) as places:
            assert places == []

    with find_written_directories(ended.pid) as places:
        assert places == []


@pytest.mark.parametrize("call", ["unshare", "setns"])
def test_namespace_that_cannot_be_entered_is_an_error(monkeypatch, call):
    """What the step has written is then unknown."""

    def refused(*_):
        ctypes.set_errno(errno.EPERM)
        return -1

    library = SimpleNamespace(**{"unshare": lambda *_: 0, "setns": lambda *_: 0, call: refused})
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: library)

    with pytest.raises(PermissionError, match="ns/mnt"), find_written_directories(os.getpid()):
        pass
