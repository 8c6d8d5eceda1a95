"""Temporary directories: private, gone afterwards, and swept where their process was killed."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from supply_chain.errors import DiskFull
from supply_chain.scratch import scratch, sweep

MAKES = """
import sys
from pathlib import Path
from supply_chain.scratch import scratch
with scratch("work", Path(sys.argv[1])) as directory:
    (directory / "file").touch()
    print(directory, flush=True)
    sys.stdin.read()
"""


def process(place):
    """A process that holds a directory below `place`, and that directory."""
    made = subprocess.Popen(
        [sys.executable, "-c", MAKES, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return made, made.stdout.readline().strip()


def test_a_directory_is_private_and_gone_afterwards(tmp_path):
    """Whatever was put into it."""
    with scratch("work", tmp_path) as directory:
        assert directory.stat().st_mode & 0o777 == 0o700
        (directory / "deep").mkdir()
        (directory / "deep/file").touch()

    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_swept_and_what_is_in_use_is_not(tmp_path):
    """A lock ends with its process."""
    (killed, left), (alive, used) = process(tmp_path), process(tmp_path)
    killed.kill()
    killed.communicate()

    assert [str(path) for path in sweep(tmp_path)] == [left]
    assert [str(path) for path in tmp_path.iterdir()] == [used]
    alive.communicate("")
    assert not list(tmp_path.iterdir())


def test_the_next_process_sweeps_before_it_makes_its_own(tmp_path):
    """Nobody has to ask for it."""
    killed, _ = process(tmp_path)
    killed.kill()
    killed.communicate()
    following, used = process(tmp_path)

    assert [str(path) for path in tmp_path.iterdir()] == [used]
    following.communicate("")


def test_other_names_and_links_are_left_alone(tmp_path):
    """Only what was made here is swept, and never through a link."""
    (tmp_path / "cscm-mine").mkdir()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    (tmp_path / "cscm-scratch-link").symlink_to(tmp_path / "kept")

    assert not sweep(tmp_path)
    assert (tmp_path / "kept/file").exists() and (tmp_path / "cscm-mine").is_dir()


def test_a_directory_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    """Whoever sweeps may come between."""

    opened = os.open

    def sweeps_first(path, flags, *args, **kwargs):
        if str(path).startswith(str(tmp_path)) and not swept:
            swept.append(path)
            Path(path).rmdir()
        return opened(path, flags, *args, **kwargs)

    swept = []
    monkeypatch.setattr("supply_chain.scratch.os.open", sweeps_first)
    with scratch("work", tmp_path) as directory:
        assert directory.is_dir() and swept and str(directory) not in swept


def test_a_full_disk_is_told_as_one(tmp_path):
    """Another error of the system stays what it is."""
    with pytest.raises(DiskFull, match="no space left at /dev/full"), scratch("work", tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", "/dev/full")
    with pytest.raises(DiskFull, match="no space left:"), scratch("work", tmp_path):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    with pytest.raises(FileNotFoundError), scratch("work", tmp_path) as directory:
        (directory / "none").read_bytes()

    assert not list(tmp_path.iterdir())
