"""Tests of how failures of mmdebstrap are handled; `test_rootfs.py` tests how its packages are processed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supply_chain.adapters.files import free_space
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools import mmdebstrap
from supply_chain.adapters.tools.mmdebstrap import make_rootfs
from supply_chain.errors import BuildFailed, DiskFull, ToolFailed
from supply_chain.model.declaration import Rootfs

WANTED = Rootfs(suite="trixie", packages=("python3",))


def played(directory: Path, script: str) -> Tool:
    """Return a script that replaces mmdebstrap and receives the same arguments."""
    path = directory / "mmdebstrap"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Tool("mmdebstrap", path, "1.3.5")


def test_make_rootfs_passes_on_error_of_mmdebstrap(tmp_path: Path):
    """No root filesystem is written."""
    tool = played(tmp_path, "echo 'E: cannot find suite' >&2; exit 1")

    with pytest.raises(ToolFailed, match="cannot find suite"):
        make_rootfs(tool, WANTED, tmp_path / "rootfs.tar", 0, tmp_path / "work")

    assert not (tmp_path / "rootfs.tar").exists()


def test_make_rootfs_without_root_names_missing_user_namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """This is the usual reason for a failure, and the operator can correct it."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    tool = played(tmp_path, "echo 'E: unable to pick chroot mode' >&2; exit 1")

    with pytest.raises(ToolFailed, match="user namespaces"):
        make_rootfs(tool, WANTED, tmp_path / "rootfs.tar", 0, tmp_path / "work")


def test_make_rootfs_fails_if_no_packages_were_fetched(tmp_path: Path):
    """An empty image would otherwise be built without an error."""
    tool = played(tmp_path, 'for last; do :; done; cd / && tar cf "$last" --files-from /dev/null')

    with pytest.raises(BuildFailed, match="fetched no packages"):
        make_rootfs(tool, WANTED, tmp_path / "rootfs.tar", 0, tmp_path / "work")


def test_make_rootfs_ends_before_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A declaration may name all packages of the distribution, and the disk is one that everything else needs, too."""
    monkeypatch.setattr(free_space, "free_bytes", lambda _: free_space.RESERVE - 1)
    monkeypatch.setattr("supply_chain.adapters.process.command.WATCH", 0.05)
    tool = played(tmp_path, "exec sleep 30")

    with pytest.raises(DiskFull, match="The root filesystem is not made: Only 2047 MiB are free"):
        make_rootfs(tool, WANTED, tmp_path / "rootfs.tar", 0, tmp_path / "work")


def test_make_rootfs_limits_memory(tmp_path: Path):
    """A mirror decides how large the lists of packages are."""
    tool = played(tmp_path, f"ulimit -d > {tmp_path}/limit; exit 1")
    with pytest.raises(ToolFailed):
        make_rootfs(tool, WANTED, tmp_path / "rootfs.tar", 0, tmp_path / "work")

    assert (tmp_path / "limit").read_text().strip() == str(mmdebstrap.MEMORY // 1024)


def test_make_rootfs_requests_declared_suite_and_packages(tmp_path: Path):
    """Mirrors are not part of the declaration."""
    tool = played(tmp_path, f'echo "$@" > {tmp_path}/asked; exit 1')
    with pytest.raises(ToolFailed):
        make_rootfs(tool, WANTED, tmp_path / "rootfs.tar", 0, tmp_path / "work")

    asked = (tmp_path / "asked").read_text().split()
    assert "--include=python3" in asked
    assert asked[-2:] == ["trixie", str(tmp_path / "work" / "fetched.tar")]


@pytest.mark.parametrize(("user", "inside"), [(0, True), (1000, False)])
def test_temporary_files_of_a_killed_mmdebstrap_are_in_the_work_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, inside: bool
):
    """Without root they belong to users of a namespace, and this user could not remove them."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    tool = played(tmp_path, f'echo "$TMPDIR" > {tmp_path}/place; exit 1')
    with pytest.raises(ToolFailed):
        make_rootfs(tool, WANTED, tmp_path / "rootfs.tar", 0, tmp_path / "work")

    assert (tmp_path / "place").read_text().startswith(str(tmp_path / "work")) is inside
