"""What is made of mmdebstrap's failures; `test_rootfs.py` has what is made of its packages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools.mmdebstrap import make_rootfs
from supply_chain.errors import BuildFailed, ToolFailed
from supply_chain.model.manifest import Rootfs

WANTED = Rootfs(suite="trixie", packages=("python3",))


def played(directory: Path, script: str) -> Tool:
    """mmdebstrap, played by a script that is called with the same arguments."""
    path = directory / "mmdebstrap"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Tool("mmdebstrap", path, "1.3.5")


def test_a_suite_that_cannot_be_had_is_an_error(tmp_path: Path):
    """What mmdebstrap says is passed on; there is no root filesystem."""
    tool = played(tmp_path, "echo 'E: cannot find suite' >&2; exit 1")

    with pytest.raises(ToolFailed, match="cannot find suite"):
        make_rootfs(tool, WANTED, tmp_path / "rootfs.tar", 0, tmp_path / "work")

    assert not (tmp_path / "rootfs.tar").exists()


def test_without_root_it_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The usual reason for a failure is one that can be put right."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    tool = played(tmp_path, "echo 'E: unable to pick chroot mode' >&2; exit 1")

    with pytest.raises(ToolFailed, match="user namespaces"):
        make_rootfs(tool, WANTED, tmp_path / "rootfs.tar", 0, tmp_path / "work")


def test_nothing_fetched_is_no_root_filesystem(tmp_path: Path):
    """An empty image would be built without complaint."""
    tool = played(tmp_path, 'for last; do :; done; cd / && tar cf "$last" --files-from /dev/null')

    with pytest.raises(BuildFailed, match="fetched no packages"):
        make_rootfs(tool, WANTED, tmp_path / "rootfs.tar", 0, tmp_path / "work")


def test_asks_for_what_was_declared(tmp_path: Path):
    """Suite and packages are the declaration's; the mirrors are not named."""
    tool = played(tmp_path, f'echo "$@" > {tmp_path}/asked; exit 1')
    with pytest.raises(ToolFailed):
        make_rootfs(tool, WANTED, tmp_path / "rootfs.tar", 0, tmp_path / "work")

    asked = (tmp_path / "asked").read_text().split()
    assert "--include=python3" in asked
    assert asked[-2:] == ["trixie", str(tmp_path / "work" / "fetched.tar")]
