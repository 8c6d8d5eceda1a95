"""What a machine has to have for bases to be made without root."""

import os

import pytest

from cscm_laptop import namespaces
from cscm_laptop.namespaces import lacks_for
from supply_chain.errors import ToolMissing


@pytest.fixture
def ranges(tmp_path, monkeypatch):
    """`/etc/subuid` with the line given, and no other file; newuidmap is on PATH."""
    (tmp_path / "newuidmap").write_text("")
    (tmp_path / "newuidmap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(line):
        (tmp_path / "subuid").write_text(line)
        return (tmp_path / "subuid",)

    return make


def test_a_user_with_a_range_can_make_the_bases(ranges):
    """useradd gives everybody one."""
    assert lacks_for("ann", ranges("ann:100000:65536\n")) == []


def test_the_range_of_another_user_is_not_ones_own(ranges, tmp_path):
    """Nor is that of one whose name begins alike."""
    assert lacks_for("ann", ranges("anna:100000:65536\n")) == [f"range in {tmp_path}/subuid"]


def test_without_the_program_and_the_files_everything_is_named(tmp_path, monkeypatch):
    """So that one look is enough."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert lacks_for("ann", (tmp_path / "subuid",)) == ["newuidmap", f"range in {tmp_path}/subuid"]


@pytest.mark.parametrize(("line", "remedy"), [("", "usermod --add-subuids"), (None, "apt-get install uidmap")])
def test_a_user_who_cannot_is_told_before_anything_else_is_made(ranges, monkeypatch, line, remedy):
    """With what an administrator does about it."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(namespaces, "RANGES", ranges(line or ""))
    if line is None:
        monkeypatch.setenv("PATH", "")

    with pytest.raises(ToolMissing, match=remedy):
        namespaces.require()


def test_root_needs_none_of_it(tmp_path, monkeypatch):
    """Nor does a user who has it all."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(namespaces, "RANGES", (tmp_path / "subuid",))
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert namespaces.lacks() == []
    namespaces.require()
