"""The requirements for building bases without root."""

import os

import pytest

from cscm_laptop import namespaces
from cscm_laptop.namespaces import list_missing_mappings
from supply_chain.errors import ToolMissing


@pytest.fixture
def ranges(tmp_path, monkeypatch):
    """Return a function that writes a line to `/etc/subuid`, with newuidmap on PATH."""
    (tmp_path / "newuidmap").write_text("")
    (tmp_path / "newuidmap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(line):
        (tmp_path / "subuid").write_text(line)
        return (tmp_path / "subuid",)

    return make


def test_user_with_subuid_range_meets_requirements(ranges):
    """useradd gives a range to every user."""
    assert list_missing_mappings("ann", ranges("ann:100000:65536\n")) == []


def test_subuid_range_of_other_user_does_not_count(ranges, tmp_path):
    """The name of the other user may have the same prefix."""
    assert list_missing_mappings("ann", ranges("anna:100000:65536\n")) == [f"range in {tmp_path}/subuid"]


def test_all_missing_requirements_are_named(tmp_path, monkeypatch):
    """One check shows everything that is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert list_missing_mappings("ann", (tmp_path / "subuid",)) == ["newuidmap", f"range in {tmp_path}/subuid"]


@pytest.mark.parametrize(("line", "remedy"), [("", "usermod --add-subuids"), (None, "apt-get install uidmap")])
def test_require_fails_with_remedy_for_administrator(ranges, monkeypatch, line, remedy):
    """The check runs before anything else is created."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(namespaces, "RANGES", ranges(line or ""))
    if line is None:
        monkeypatch.setenv("PATH", "")

    with pytest.raises(ToolMissing, match=remedy):
        namespaces.require()


def test_root_has_no_requirements(tmp_path, monkeypatch):
    """Root needs neither newuidmap nor a range."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(namespaces, "RANGES", (tmp_path / "subuid",))
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert namespaces.list_own_missing_mappings() == []
    namespaces.require()
