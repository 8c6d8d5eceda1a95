"""The program of the collector, with a directory in place of /proc: what it lists, and what it cannot be misled by."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supply_chain.execution.isolation import collector_program as program
from supply_chain.execution.isolation.collector import COMMAND, PROGRAM, read_output
from supply_chain.model.image import digest_of

STARTED = 1_000_000_000.0


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory as /proc, with one process that has an empty directory as its root."""
    monkeypatch.setattr(program, "find_boot", lambda: STARTED - 10)
    made = tmp_path / "proc"
    process = made / "1"
    (process / "root").mkdir(parents=True)
    (made / "self").mkdir()
    (process / "status").write_text("Name:\tsubject\nState:\tS (sleeping)\nPPid:\t0\nUid:\t7\t7\t7\t7\n")
    (process / "stat").write_text(f"1 (a ) b) S {'0 ' * 18}{10 * os.sysconf('SC_CLK_TCK')} 0")
    (process / "cmdline").write_bytes(b"/subject\0-v\xff\0")
    (process / "exe").symlink_to("/subject (deleted)")
    (process / "cwd").symlink_to("/home")
    return made


def search(root: Path, since: float = 0.0, left: int = 1000) -> program.Search:
    """Return a search that ran, and that was over after so many questions."""
    asked = iter(range(left))
    made = program.Search(str(root), since, lambda: next(asked, None) is None)
    made.run()
    return made


def later_than(path: Path) -> float:
    """Return a time after the last change of a path."""
    return path.lstat().st_ctime + 0.001


def test_process_is_described_with_values_of_proc(proc: Path) -> None:
    """Also one with parentheses in its name, whose program was deleted."""
    assert program.list_processes(str(proc)) == [
        {
            "pid": 1, "parent": "0", "name": "subject", "state": "S (sleeping)", "users": "7\t7\t7\t7",
            "started": "2001-09-09T01:46:40+00:00", "command": ["/subject", "-v\\xff"],
            "program": "/subject (deleted)", "directory": "/home",
        }
    ]  # fmt: skip


def test_process_that_ended_meanwhile_has_no_details(proc: Path) -> None:
    """It was there when the numbers were listed."""
    found = program.read_process(str(proc), 2)

    assert found["pid"] == 2 and {value for key, value in found.items() if key != "pid"} == {None}


def test_processes_are_sorted_by_pid(proc: Path) -> None:
    """What is no number is no process."""
    for number in ("10", "9"):
        (proc / number).mkdir()

    assert [each["pid"] for each in program.list_processes(str(proc))] == [1, 9, 10]


def test_changed_files_are_listed_at_every_depth(tmp_path: Path) -> None:
    """With the time of the change of the inode, which nobody can set back, size, mode and digest."""
    (tmp_path / "old").write_bytes(b"before")
    (tmp_path / "a/b").mkdir(parents=True)
    os.utime(tmp_path / "a/b", (1, 1))
    since = later_than(tmp_path / "a/b")
    while not (tmp_path / "a/b/new").exists() or (tmp_path / "a/b/new").stat().st_ctime < since:
        (tmp_path / "a/b/new").write_bytes(b"malware")
    (tmp_path / "a/b/new").chmod(0o755)
    os.utime(tmp_path / "a/b/new", (STARTED, STARTED))

    found = search(tmp_path, since).files

    assert "/old" not in found and "/a" not in found
    new = found["/a/b/new"]
    assert (new["path"], new["mode"], new["size"]) == ("/a/b/new", "-rwxr-xr-x", 7)
    assert (new["user"], new["group"], new["digest"]) == (os.getuid(), os.getgid(), digest_of(b"malware"))
    assert new["modified"] == "2001-09-09T01:46:40+00:00"
    assert datetime.fromisoformat(new["changed"]).timestamp() >= since - 0.001
    assert "/a/b/new" in search(tmp_path, (tmp_path / "a/b/new").stat().st_ctime).files


def test_deep_directories_and_strange_names_hide_nothing(tmp_path: Path) -> None:
    """More directories than Python's stack is deep, and bytes that are no text."""
    deep = [tmp_path / "/".join("d" * (number + 1)) for number in range(1_200)]
    for path in deep:
        path.mkdir()
    (deep[-1] / os.fsdecode(b"\xff\n")).touch()

    found = search(tmp_path, left=10_000)

    (deep[-1] / os.fsdecode(b"\xff\n")).unlink()
    for path in reversed(deep):  # pytest would remove them recursively
        path.rmdir()
    assert len(found.files) == 1_201 and not found.unread
    assert [each["path"] for each in found.files.values()][-1].endswith("/d/\\xff\n")


def test_links_are_named_and_not_followed(tmp_path: Path) -> None:
    """A link to the root would make the search endless, and a pipe would make it wait."""
    (tmp_path / "link").symlink_to("/")
    os.mkfifo(tmp_path / "pipe")

    found = search(tmp_path).files

    assert found["/link"]["target"] == "/" and found["/pipe"]["mode"].startswith("p")
    assert len(found) == 2 and not [each for each in found.values() if "digest" in each]


def test_file_that_became_a_link_meanwhile_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its target may be a file of the collector's own image."""
    file = tmp_path / "file"
    file.write_bytes(b"x")

    def replace(path: str) -> os.stat_result:
        status = os.lstat(path)
        if path == str(file):
            file.unlink()
            file.symlink_to("/etc/passwd")
        return status

    monkeypatch.setattr(program, "os", SimpleNamespace(**{**vars(os), "lstat": replace}))

    found = search(tmp_path)

    assert "digest" not in found.files["/file"] and "symbolic links" in found.unread["/file"]


def test_virtual_directories_are_not_searched(tmp_path: Path) -> None:
    """They change all the time; those of the same name elsewhere are searched."""
    for name in ("proc/1", "sys/kernel", "a/proc/1"):
        (tmp_path / name).mkdir(parents=True)

    assert sorted(search(tmp_path).files) == ["/a", "/a/proc", "/a/proc/1"]


def test_unreadable_path_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory, a file that vanished, and a file of another user."""
    for name in ("vanished", "closed", "open"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "directory").mkdir()

    def failing(real: Any, name: str, error: OSError) -> Any:
        def call(path: str, *more: int) -> Any:
            if path.rstrip("/").endswith(name):
                raise error
            return real(path, *more)

        return call

    changed = {
        "lstat": failing(os.lstat, "vanished", FileNotFoundError(2, "gone")),
        "open": failing(os.open, "closed", PermissionError(1, "denied")),
        "scandir": failing(os.scandir, "directory", PermissionError(1, "")),
    }
    monkeypatch.setattr(program, "os", SimpleNamespace(**{**vars(os), **changed}))

    found = search(tmp_path)

    assert found.unread == {"/vanished": "gone", "/closed": "denied", "/directory": "PermissionError"}
    assert sorted(found.files) == ["/closed", "/directory", "/open"] and "digest" in found.files["/open"]
    assert search(tmp_path / "absent").unread == {"/": "No such file or directory"}


def test_search_stops_at_limits_of_time_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says where it ended; a container with millions of files must not delay the isolation."""
    for name in "abc":
        (tmp_path / name).mkdir()

    early = search(tmp_path, left=1)
    monkeypatch.setattr(program, "MOST_FILES", 2)
    full = search(tmp_path)

    for found, number in ((early, 1), (full, 2)):
        assert len(found.files) == number and ["no time or room" in why for why in found.unread.values()] == [True]


def test_number_of_unread_paths_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container decides how many there are."""
    for name in "abc":
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(program, "MOST_UNREAD", 2)
    monkeypatch.setattr(program, "LARGEST", 0)

    assert len(search(tmp_path).unread) == 2


def test_large_file_has_no_digest_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may be larger than all disks, or grow while it is read."""
    (tmp_path / "large").write_bytes(b"x" * 11)
    (tmp_path / "small").write_bytes(b"x" * 10)
    monkeypatch.setattr(program, "LARGEST", 10)

    found = search(tmp_path)

    assert found.unread == {"/large": "it is too large, or no time was left"}
    assert found.files["/small"]["digest"] == digest_of(b"x" * 10) and found.files["/large"]["size"] == 11


def test_file_is_read_in_parts_until_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time may end within a file."""
    (tmp_path / "file").write_bytes(b"abcdef")
    monkeypatch.setattr(program, "PART", 2)

    assert search(tmp_path).files["/file"]["digest"] == digest_of(b"abcdef")
    assert list(search(tmp_path, left=3).unread) == ["/file"]


def test_smallest_files_are_collected_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there is room for; empty ones say nothing."""
    for name, size in (("a", 3), ("b", 1), ("c", 2), ("empty", 0)):
        (tmp_path / name).write_bytes(name[:1].encode() * size)
    found = search(tmp_path)

    def contents(most: int) -> list[bytes]:
        return [base64.b64decode(each) for each in found.read_contents(most)]

    assert contents(6) == [b"b", b"cc", b"aaa"]
    assert contents(5) == contents(3) == [b"b", b"cc"] and contents(0) == []
    (tmp_path / "c").unlink()
    assert contents(6) == [b"b", b"aaa"] and "/c" in found.unread
    monkeypatch.setattr(program, "MOST_CONTENTS", 1)
    assert contents(6) == [b"b"]
    found.is_over = lambda: True
    assert contents(6) == []


def test_collected_output_is_read_back_from_short_lines(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In lines that no runtime splits."""
    monkeypatch.setattr(program, "LINE", 100)
    (proc / "1/root/a").write_bytes(b"content")
    (proc / "1/root/b").symlink_to("a")

    lines = list(program.format_lines(program.collect(str(proc), 0, 100, 60)))
    found = read_output("\n".join([*lines, ""]))

    assert len(lines) > 3 and all(len(line) <= 100 for line in lines)
    assert found.processes == program.list_processes(str(proc))
    assert {each.path: (each.size, each.target) for each in found.files} == {"/a": (7, None), "/b": (1, "a")}
    assert found.contents == {digest_of(b"content"): b"content"} and found.unread == {}
    assert list(program.collect(str(proc), 0, 0, -1)["unread"]) in (["/a"], ["/b"])


@pytest.mark.parametrize(
    ("started", "since", "listed"),
    [(2.0**33, 2.0**33 - 1, False), (2.0**33, 2.0**33, False), (2.0**33, 1.0, True), (1.0, 2.0**33, True)],
    ids=["before", "same second", "clock set forward", "early"],
)
def test_collect_lists_files_changed_since_start_of_first_process(
    proc: Path, monkeypatch: pytest.MonkeyPatch, started: float, since: float, listed: bool
) -> None:
    """The API knows the second; within it, the files of the image may have been unpacked."""
    monkeypatch.setattr(program, "find_boot", lambda: started - 10)
    (proc / "1/root/a").write_bytes(b"content")

    assert bool(program.collect(str(proc), since, 0, 60)["files"]) is listed
    (proc / "1/stat").unlink()
    assert bool(program.collect(str(proc), since, 0, 60)["files"]) is (since == 1.0)


def test_start_of_a_process_is_by_the_clock_of_files(tmp_path: Path) -> None:
    """A file that it writes is newer, and not by much."""
    process = subprocess.Popen(["/bin/sleep", "60"])
    try:
        (tmp_path / "file").write_bytes(b"")
        difference = (tmp_path / "file").stat().st_ctime - program.read_start("/proc", process.pid)
    finally:
        process.kill()
        process.wait()

    assert -0.05 < difference < 30


def test_program_runs_alone_and_prints_its_result() -> None:
    """As the cluster starts it, with this machine's processes; the search ends at once."""
    command = [sys.executable, *COMMAND[1:], "0", "0", "-1"]

    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, env={})

    found: Any = read_output(done.stdout).processes
    assert any(each["parent"] == str(os.getpid()) and "-I" in each["command"] for each in found)


def test_program_says_that_processes_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would list itself, as what was found in the container."""
    monkeypatch.setattr(program, "os", SimpleNamespace(getpid=lambda: 1))

    with pytest.raises(SystemExit, match="does not share"):
        program.main()


def test_program_has_nothing_that_a_kubelet_expands() -> None:
    """A kubelet replaces references to variables in commands."""
    assert "$(" not in PROGRAM
