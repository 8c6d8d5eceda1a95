"""Tests of the selection of files that a check reads."""

import os
from pathlib import Path

import pytest

from supply_chain.adapters.files.selection import describe_files, list_files, measure_bytes, split_arguments


def test_files_below_does_not_follow_links(tmp_path: Path):
    """Links may lead out of the directory or in a circle; a target inside is read at its own path."""
    for name in ("b", "deep/er/a", "deep/c"):
        (tmp_path / "context" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "context" / name).touch()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").touch()
    (tmp_path / "context" / "file").symlink_to(tmp_path / "outside" / "secret")
    (tmp_path / "context" / "directory").symlink_to(tmp_path / "outside")
    (tmp_path / "context" / "circle").symlink_to(".")

    assert list_files(tmp_path / "context") == ("b", "deep/c", "deep/er/a")


@pytest.mark.parametrize("error", [PermissionError, NotADirectoryError, FileNotFoundError])
def test_bytes_below_skips_unreadable_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
):
    """A directory may be replaced or become unreadable meanwhile; the other files still count."""
    for name in ("here/a", "deep/er/b", "closed/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 8192)
    listed = os.scandir

    def fails(path):
        if str(path).endswith("closed"):
            raise error(path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", fails)

    assert 16384 <= measure_bytes(tmp_path, 2**30) < 24576
    assert 4096 < measure_bytes(tmp_path, 4096) < 16384


def test_bytes_below_counts_directory_with_too_long_path(tmp_path: Path):
    """A build step can make one with relative paths, and fill the disk in it."""
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(tmp_path)
        for _ in range(17):
            Path("d" * 250).mkdir()
            os.chdir("d" * 250)
    finally:
        os.chdir(before)
        os.close(before)

    with pytest.raises(OSError, match="File name too long"):
        measure_bytes(tmp_path, 2**30)


def test_portions_splits_file_names_and_protects_leading_dashes():
    """A command line has a maximum length, and a name must not be read as an option."""
    assert [len(part) for part in split_arguments([str(n) for n in range(2500)])] == [1000, 1000, 500]
    assert list(split_arguments(["--exclude"])) == [["./--exclude"]]
    assert list(split_arguments([])) == []


def test_describe_files_counts_and_lists_files():
    """An empty list gives no sentence."""
    assert describe_files("file", "not read", ["a"]) == ("1 file not read: a",)
    assert describe_files("file", "not read", ["a", "b", "c"], most=2) == ("3 files not read: a, b, and 1 more",)
    assert describe_files("file", "not read", []) == ()
