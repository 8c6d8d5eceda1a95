"""Temporary directories: private, removed afterwards, and swept if their process was killed."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from supply_chain.errors import DiskFull
from supply_chain.scratch import make_scratch_directory, sweep
from tests.support.present import present

MAKES = """
import sys
from pathlib import Path
from supply_chain.scratch import make_scratch_directory
with make_scratch_directory("work", Path(sys.argv[1])) as directory:
    (directory / "file").touch()
    print(directory, flush=True)
    sys.stdin.read()
"""


def process(place):
    """Start a process that holds a directory below `place`, and return both."""
    made = subprocess.Popen(
        [sys.executable, "-c", MAKES, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return made, present(made.stdout).readline().strip()


def test_scratch_directory_is_private_and_removed_afterwards(tmp_path):
    """Its contents are removed too."""
    with make_scratch_directory("work", tmp_path) as directory:
        assert directory.stat().st_mode & 0o777 == 0o700
        (directory / "deep").mkdir()
        (directory / "deep/file").touch()

    assert not list(tmp_path.iterdir())


def test_sweep_removes_directory_of_killed_process_only(tmp_path):
    """A lock ends with its process."""
    (killed, left), (alive, used) = process(tmp_path), process(tmp_path)
    killed.kill()
    killed.communicate()

    assert [str(path) for path in sweep(tmp_path)] == [left]
    assert [str(path) for path in tmp_path.iterdir()] == [used]
    alive.communicate("")
    assert not list(tmp_path.iterdir())


def test_next_process_sweeps_before_creating_its_directory(tmp_path):
    """No separate call is needed."""
    killed, _ = process(tmp_path)
    killed.kill()
    killed.communicate()
    following, used = process(tmp_path)

    assert [str(path) for path in tmp_path.iterdir()] == [used]
    following.communicate("")


def test_sweep_ignores_other_names_and_links(tmp_path):
    """Only scratch directories are removed, and links are never followed."""
    (tmp_path / "cscm-mine").mkdir()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    (tmp_path / "cscm-scratch-link").symlink_to(tmp_path / "kept")

    assert not sweep(tmp_path)
    assert (tmp_path / "kept/file").exists() and (tmp_path / "cscm-mine").is_dir()


def test_directory_swept_before_it_is_locked_is_created_again(tmp_path, monkeypatch):
    """Another process may sweep in between."""

    opened = os.open

    def sweeps_first(path, flags, *args, **kwargs):
        if str(path).startswith(str(tmp_path)) and not swept:
            swept.append(path)
            Path(path).rmdir()
        return opened(path, flags, *args, **kwargs)

    swept: list[Any] = []
    monkeypatch.setattr("supply_chain.scratch.os.open", sweeps_first)
    with make_scratch_directory("work", tmp_path) as directory:
        assert directory.is_dir() and swept and str(directory) not in swept


def test_full_disk_raises_disk_full(tmp_path):
    """Other system errors are raised unchanged."""
    with pytest.raises(DiskFull, match="no space left at /dev/full"), make_scratch_directory("work", tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", "/dev/full")
    with pytest.raises(DiskFull, match="no space left:"), make_scratch_directory("work", tmp_path):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    with pytest.raises(FileNotFoundError), make_scratch_directory("work", tmp_path) as directory:
        (directory / "none").read_bytes()

    assert not list(tmp_path.iterdir())
