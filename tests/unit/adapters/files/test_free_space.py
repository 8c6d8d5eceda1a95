"""Tests of the free space for temporary files."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from supply_chain.adapters.files import free_space
from supply_chain.adapters.files.free_space import RESERVE, find_shortage, free_bytes, require_space
from supply_chain.errors import DiskFull

BLOCK = 4096


@pytest.mark.parametrize(("missing", "is_short"), [(0, False), (1, True)])
def test_shortage_begins_below_the_reserve(monkeypatch, missing, is_short):
    """Only the blocks that unprivileged users may use count."""
    disk = SimpleNamespace(f_bavail=RESERVE // BLOCK - missing, f_bfree=2 * RESERVE // BLOCK, f_frsize=BLOCK)
    monkeypatch.setattr(free_space, "statvfs", lambda _: disk)

    assert free_bytes(Path("/tmp")) == RESERVE - missing * BLOCK
    assert bool(find_shortage(Path("/tmp"))) is is_short


def test_require_space_raises_disk_full_below_the_reserve(monkeypatch, tmp_path):
    """The message says what was not done, and where there is too little."""
    require_space(tmp_path, "Nothing is written")
    monkeypatch.setattr(free_space, "RESERVE", 2**62)

    with pytest.raises(DiskFull, match=rf"^Nothing is written: Only \d+ MiB are free in {tmp_path}"):
        require_space(tmp_path, "Nothing is written")
