"""What `cscm doctor` asks of a machine."""

import pytest

from supply_chain.laptop.doctor import lacks_for_namespaces


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
    assert lacks_for_namespaces("ann", ranges("ann:100000:65536\n")) == []


def test_the_range_of_another_user_is_not_ones_own(ranges, tmp_path):
    """Nor is that of one whose name begins alike."""
    assert lacks_for_namespaces("ann", ranges("anna:100000:65536\n")) == [f"range in {tmp_path}/subuid"]


def test_without_the_program_and_the_files_everything_is_named(tmp_path, monkeypatch):
    """So that one look is enough."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert lacks_for_namespaces("ann", (tmp_path / "subuid",)) == ["newuidmap", f"range in {tmp_path}/subuid"]
