"""The files that a check looks at."""

from pathlib import Path

from supply_chain.adapters.files import files_below, portions, told


def test_links_are_not_followed(tmp_path: Path):
    """Neither out of the directory nor in a circle; what they lead to inside is read where it lies."""
    for name in ("b", "deep/er/a", "deep/c"):
        (tmp_path / "context" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "context" / name).touch()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").touch()
    (tmp_path / "context" / "file").symlink_to(tmp_path / "outside" / "secret")
    (tmp_path / "context" / "directory").symlink_to(tmp_path / "outside")
    (tmp_path / "context" / "circle").symlink_to(".")

    assert files_below(tmp_path / "context") == ("b", "deep/c", "deep/er/a")


def test_no_file_looks_like_an_option():
    """And a command line is never too long."""
    assert [len(part) for part in portions([str(n) for n in range(2500)])] == [1000, 1000, 500]
    assert list(portions(["--exclude"])) == [["./--exclude"]]
    assert list(portions([])) == []


def test_files_are_told_in_a_sentence():
    """Counted; none for none."""
    assert told("file", "not read", ["a"]) == ("1 file not read: a",)
    assert told("file", "not read", ["a", "b", "c"], most=2) == ("3 files not read: a, b, and 1 more",)
    assert told("file", "not read", []) == ()
