"""Tests of the control group of a build: which files are written, and what is read from them."""

import errno
import fcntl
import os
import shutil
import time
from pathlib import Path

import pytest

from supply_chain.adapters.docker.build_cgroup import (
    UNUSED,
    BuildCgroup,
    count_running_builds,
    group_name,
    lock_groups,
    remove_groups,
    remove_unused_groups,
)
from supply_chain.development.separation import BuildLimits

LIMITS = BuildLimits(memory=2**30, processes=100, cpus=1.5, disk=2**30, reserve=0)


OWNER = "0123456789ab"


def rmdir(group):
    """Remove a directory as the kernel removes a group: fail if it has a process or a group in it."""
    processes = group / "cgroup.procs"
    if any(each.is_dir() for each in group.iterdir()) or (processes.is_file() and processes.read_text()):
        raise OSError(errno.EBUSY, "Device or resource busy", str(group))
    shutil.rmtree(group)


@pytest.fixture(params=["v1", "v2"])
def group(request, tmp_path, monkeypatch):
    """Return a group below a directory tree like that of the kernel."""
    monkeypatch.setattr(Path, "rmdir", rmdir)
    if request.param == "v2":
        (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
        return BuildCgroup("0123", OWNER, tmp_path)
    for controller in ("memory", "pids", "cpu"):
        (tmp_path / controller).mkdir()
    (tmp_path / "memory/memory.memsw.limit_in_bytes").write_text("")
    return BuildCgroup("0123", OWNER, tmp_path)


def test_limit_writes_the_files_of_the_cgroup_version(group):
    """The names and units differ between cgroup versions 1 and 2."""
    assert group.limit(LIMITS)

    written = {file.name: file.read_text() for file in group.root.rglob(f"cscm.build/{OWNER}/0123/*")}
    assert written["pids.max"] == "100"
    if group.unified:
        assert (written["memory.max"], written["memory.swap.max"]) == (str(2**30), "0")
        assert (written["cpu.max"], written["cpu.weight"]) == ("150000 100000", "25")
        for above in ("", "cscm.build", f"cscm.build/{OWNER}"):
            assert (group.root / above / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    else:
        assert written["memory.limit_in_bytes"] == written["memory.memsw.limit_in_bytes"] == str(2**30)
        assert (written["cpu.cfs_quota_us"], written["cpu.cfs_period_us"]) == ("150000", "100000")
        assert written["cpu.shares"] == "256"


@pytest.mark.parametrize("running", [False, True])
def test_limit_resets_counters_unless_a_build_runs(group, running):
    """The counters of an earlier build say nothing about this one; a group with a running build keeps its counters."""
    group.limit(LIMITS)
    pids = group.directory("pids")
    (pids / "pids.events").write_text("max 1\n")
    (pids / "cgroup.procs").write_text("12\n" if running else "")

    assert group.limit(LIMITS.model_copy(update={"processes": 50, "memory": 2**29}))

    assert group.find_reached_limit() == ("processes" if running else "")
    assert (pids / "pids.max").read_text() == "50"
    name = "memory.max" if group.unified else "memory.limit_in_bytes"
    assert (group.directory("memory") / name).read_text() == str(2**29)


def test_limit_returns_false_if_kernel_refuses(tmp_path):
    """The user may not be root, or the engine may run elsewhere."""
    (tmp_path / "memory").write_text("no directory")

    assert not BuildCgroup("0123", OWNER, tmp_path).limit(LIMITS)


def test_reached_reads_counters_of_the_group_and_its_steps(group):
    """BuildKit creates a group for each step below the group of the build."""
    group.limit(LIMITS)
    assert group.find_reached_limit() == ""

    step = group.directory("memory") / "buildkit/x"
    step.mkdir(parents=True)
    if group.unified:
        (step / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    else:
        (group.directory("memory") / "memory.max_usage_in_bytes").write_text(f"{2**30}\n")
    assert group.find_reached_limit() == "memory"

    (group.directory("pids") / "pids.events").write_text("max 1\n")
    assert group.find_reached_limit() == "processes"
    (group.directory("pids") / "pids.events").write_text("max 0\n")
    (group.directory("pids") / "pids.peak").write_text("100\n")
    assert group.find_reached_limit() == "processes"


def test_processes_returns_one_process_of_each_step(group):
    """One process is enough to measure what its step wrote."""
    for name, content in (("a", "12\n13\n"), ("b", "14\n"), ("c", "")):
        (group.directory("pids") / "buildkit" / name).mkdir(parents=True)
        (group.directory("pids") / "buildkit" / name / "cgroup.procs").write_text(content)

    assert sorted(group.processes()) == [12, 14]


def test_running_counts_builds_and_not_steps(group):
    """Two steps of a build count once; an empty group and a group of another owner do not count."""
    for owner, key, step, content in (
        (OWNER, "0123", "a", "12\n"),
        (OWNER, "0123", "b", "13\n"),
        (OWNER, "4567", "a", "14\n"),
        (OWNER, "89ab", "a", ""),
        ("other", "0123", "a", "15\n"),
    ):
        directory = BuildCgroup(key, owner, group.root).directory("pids") / "buildkit" / step
        directory.mkdir(parents=True)
        (directory / "cgroup.procs").write_text(content)
        (group.directory("pids").parent / "cgroup.procs").write_text("")  # each group has its files

    assert (group.running(), count_running_builds("other", group.root), count_running_builds("none", group.root)) == (
        2,
        1,
        0,
    )


def test_remove_groups_removes_only_empty_groups_of_the_owner(group):
    """The kernel refuses to remove a group in which a process runs."""
    for controller in ("memory", "pids"):
        (group.directory(controller) / "buildkit/x").mkdir(parents=True, exist_ok=True)
    running = group.directory("pids").with_name("4567")
    running.mkdir()
    (running / "cgroup.procs").write_text("1\n")
    others = BuildCgroup("0123", "another", group.root).directory("memory")
    others.mkdir(parents=True)

    remove_groups(OWNER, group.root)

    assert not group.directory("pids").exists() and not group.directory("memory").exists()
    assert running.exists() and others.exists()


@pytest.mark.parametrize("owner", [OWNER, ""])
def test_remove_unused_groups_removes_only_old_groups_without_process(group, owner):
    """A build that is about to start has just made its group; the directory of another owner is no group."""
    old, running, new = (letter * 32 for letter in "abc")
    places = [BuildCgroup(key, owner, group.root).directory("pids") for key in (old, running, new)]
    places.append(BuildCgroup(old, "other", group.root).directory("pids"))
    for each in places:
        (each / "buildkit" / "x").mkdir(parents=True)
        (each / "buildkit" / "x" / "cgroup.procs").write_text("12\n" if each.name == running else "")
    for each in (*places[:2], places[3], places[3].parent):
        os.utime(each, (0, time.time() - UNUSED - 1))

    remove_unused_groups(owner, group.root)

    assert [each.exists() for each in places] == [False, True, True, True]


def test_only_one_build_prepares_groups_at_a_time(tmp_path):
    """Another one would remove the group that this one has just made; without control groups there is none."""
    with lock_groups(tmp_path):
        other = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    began = time.monotonic()
    with lock_groups(tmp_path, 0.2):  # any user of the machine can hold it
        assert time.monotonic() - began >= 0.2
    os.close(other)
    with lock_groups(tmp_path / "missing"):
        pass


def test_remove_groups_removes_parent_directory_of_last_group(group):
    """No directory stays behind after the last supply chain has been removed."""
    group.directory("memory").mkdir(parents=True)

    remove_groups(OWNER, group.root)

    assert not list(group.root.rglob("cscm.build"))


@pytest.mark.parametrize(("owner", "name"), [("", "/cscm.build/0123"), ("../x", "/cscm.build/---x/0123")])
def test_group_name_keeps_owner_within_one_path_component(owner, name):
    """An engine of a single supply chain has no owner; any other text must not lead to another path."""
    assert group_name("0123", owner) == name
    assert str(BuildCgroup("0123", owner, Path("/g")).directory("pids")) == f"/g/pids{name}"


def test_group_that_disappears_during_a_check_is_ignored(tmp_path, monkeypatch):
    """A step may end at any time, and the guard continues with the others."""
    group = BuildCgroup("0123", OWNER, tmp_path)
    for name in ("a", "b"):
        place = group.directory("pids") / "buildkit" / name
        place.mkdir(parents=True)
        (place / "cgroup.procs").write_text("7\n")
    listed = os.scandir

    def gone(path):
        if str(path).endswith("/a"):
            raise FileNotFoundError(errno.ENOENT, "gone", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", gone)

    assert list(group.processes()) == [7]
    assert group.find_reached_limit() == ""


@pytest.mark.parametrize(
    ("error", "gone"),
    [(errno.ENOENT, True), (errno.ENODEV, True), (errno.ESRCH, True), (errno.EACCES, False), (errno.EIO, False)],
    ids=errno.errorcode.get,
)
@pytest.mark.parametrize("what", [(os, "scandir"), (Path, "read_text")], ids=["listing", "reading"])
def test_unreadable_group_raises_unless_it_was_removed(group, monkeypatch, what, error, gone):
    """A removed group has no steps and reached no limit; the state of any other unreadable group is unknown."""
    group.limit(LIMITS)
    for controller, name in (("pids", "cgroup.procs"), ("pids", "pids.events"), ("memory", "memory.events")):
        (group.directory(controller) / name).write_text("7\n")

    def fails(path, **_):
        raise OSError(error, os.strerror(error), str(path))

    monkeypatch.setattr(*what, fails)

    if gone:
        assert (list(group.processes()), group.find_reached_limit()) == ([], "")
        return
    with pytest.raises(OSError, match=os.strerror(error)):
        list(group.processes())
    with pytest.raises(OSError, match=os.strerror(error)):
        group.find_reached_limit()
