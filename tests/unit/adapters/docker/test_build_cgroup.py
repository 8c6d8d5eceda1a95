"""The control group of a build: which files are written, and what is read of them."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from supply_chain.adapters.docker.build_cgroup import BuildCgroup, group_name, remove_groups, running_builds
from supply_chain.development.separation import BuildLimits

LIMITS = BuildLimits(memory=2**30, processes=100, cpus=1.5, disk=2**30, reserve=0)


OWNER = "0123456789ab"


def rmdir(group):
    """As the kernel does it: a group's files go with it, and one with a process or a group in it stays."""
    processes = group / "cgroup.procs"
    if any(each.is_dir() for each in group.iterdir()) or (processes.is_file() and processes.read_text()):
        raise OSError(errno.EBUSY, "Device or resource busy", str(group))
    shutil.rmtree(group)


@pytest.fixture(params=["v1", "v2"])
def group(request, tmp_path, monkeypatch):
    """A group below a tree like the kernel's."""
    monkeypatch.setattr(Path, "rmdir", rmdir)
    if request.param == "v2":
        (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
        return BuildCgroup("0123", OWNER, tmp_path)
    for controller in ("memory", "pids", "cpu"):
        (tmp_path / controller).mkdir()
    (tmp_path / "memory/memory.memsw.limit_in_bytes").write_text("")
    return BuildCgroup("0123", OWNER, tmp_path)


def test_limits_are_written_where_the_kernel_reads_them(group):
    """By the names of the version that it serves."""
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
def test_counters_begin_at_nothing_and_limits_are_all_set_again(group, running):
    """What an earlier build reached says nothing of this one; a group in which one runs stays, with its limits."""
    group.limit(LIMITS)
    pids = group.directory("pids")
    (pids / "pids.events").write_text("max 1\n")
    (pids / "cgroup.procs").write_text("12\n" if running else "")

    assert group.limit(LIMITS.model_copy(update={"processes": 50, "memory": 2**29}))

    assert group.reached() == ("processes" if running else "")
    assert (pids / "pids.max").read_text() == "50"
    name = "memory.max" if group.unified else "memory.limit_in_bytes"
    assert (group.directory("memory") / name).read_text() == str(2**29)


def test_a_kernel_that_takes_none_is_told(tmp_path):
    """As where the user is not root, or the engine is elsewhere."""
    (tmp_path / "memory").write_text("no directory")

    assert not BuildCgroup("0123", OWNER, tmp_path).limit(LIMITS)


def test_what_was_reached_is_read_from_the_counters(group):
    """Of the group's own steps, which have groups below it."""
    group.limit(LIMITS)
    assert group.reached() == ""

    step = group.directory("memory") / "buildkit/x"
    step.mkdir(parents=True)
    if group.unified:
        (step / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    else:
        (group.directory("memory") / "memory.max_usage_in_bytes").write_text(f"{2**30}\n")
    assert group.reached() == "memory"

    (group.directory("pids") / "pids.events").write_text("max 1\n")
    assert group.reached() == "processes"
    (group.directory("pids") / "pids.events").write_text("max 0\n")
    (group.directory("pids") / "pids.peak").write_text("100\n")
    assert group.reached() == "processes"


def test_one_process_of_each_step_is_found(group):
    """Which is enough to see what its step wrote."""
    for name, content in (("a", "12\n13\n"), ("b", "14\n"), ("c", "")):
        (group.directory("pids") / "buildkit" / name).mkdir(parents=True)
        (group.directory("pids") / "buildkit" / name / "cgroup.procs").write_text(content)

    assert sorted(group.processes()) == [12, 14]


def test_builds_that_run_are_counted_by_their_steps(group):
    """Two steps of a build are one build; a group that is left, and another owner's, is none."""
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

    assert (group.running(), running_builds("other", group.root), running_builds("none", group.root)) == (2, 1, 0)


def test_groups_of_builds_that_are_over_go(group):
    """The kernel removes an empty one, with its files; one in which something runs stays, and so does another's."""
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


def test_last_group_takes_the_directory_above_with_it(group):
    """Nothing of ours stays where no supply chain builds any more."""
    group.directory("memory").mkdir(parents=True)

    remove_groups(OWNER, group.root)

    assert not list(group.root.rglob("cscm.build"))


@pytest.mark.parametrize(("owner", "name"), [("", "/cscm.build/0123"), ("../x", "/cscm.build/---x/0123")])
def test_owner_leads_nowhere_else(owner, name):
    """An engine that one supply chain has for itself has no owner; any other text is a part of a name."""
    assert group_name("0123", owner) == name
    assert str(BuildCgroup("0123", owner, Path("/g")).directory("pids")) == f"/g/pids{name}"


def test_group_that_goes_while_it_is_looked_at_ends_no_look(tmp_path, monkeypatch):
    """A step ends at any time; the guard looks on at the others."""
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
    assert group.reached() == ""


@pytest.mark.parametrize(
    ("error", "gone"),
    [(errno.ENOENT, True), (errno.ENODEV, True), (errno.ESRCH, True), (errno.EACCES, False), (errno.EIO, False)],
    ids=errno.errorcode.get,
)
@pytest.mark.parametrize("what", [(os, "scandir"), (Path, "read_text")], ids=["listing", "reading"])
def test_what_cannot_be_read_is_not_taken_for_nothing(group, monkeypatch, what, error, gone):
    """A group that is gone has no step, and has reached nothing; of any other nobody knows."""
    group.limit(LIMITS)
    for controller, name in (("pids", "cgroup.procs"), ("pids", "pids.events"), ("memory", "memory.events")):
        (group.directory(controller) / name).write_text("7\n")

    def fails(path, **_):
        raise OSError(error, os.strerror(error), str(path))

    monkeypatch.setattr(*what, fails)

    if gone:
        assert (list(group.processes()), group.reached()) == ([], "")
        return
    with pytest.raises(OSError, match=os.strerror(error)):
        list(group.processes())
    with pytest.raises(OSError, match=os.strerror(error)):
        group.reached()
