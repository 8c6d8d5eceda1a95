"""Tests of the guard of a build: what counts as exceeded, and how the build then ends."""

import contextlib
import errno
import fcntl
import itertools
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from supply_chain.adapters.docker import build_guard, free_space
from supply_chain.adapters.docker.build_cgroup import BuildCgroup
from supply_chain.adapters.docker.build_guard import BuildGuard, LocalEngine, measure_written_bytes, prepare_group
from supply_chain.adapters.docker.free_space import MARGIN
from supply_chain.adapters.process.cancellation import Cancellation, current
from supply_chain.adapters.process.command import CommandResult, run
from supply_chain.development.build import BuildOrder
from supply_chain.development.separation import BuildLimits
from supply_chain.errors import BuildLimitExceeded, Cancelled, ToolTimedOut

LIMITS = BuildLimits(memory=2**30, processes=100, cpus=1, disk=64 * 2**20, reserve=0)
ORDER = BuildOrder(
    context=Path("/c"), dockerfile=b"FROM scratch\n", platform="linux/amd64", target=None, name="n", images={},
    fetched={}, annotations={}, epoch=0, timeout=9, reproducible=True, key="0123", caches="0123", max_size=2**20,
)  # fmt: skip


@pytest.fixture
def group(tmp_path, monkeypatch):
    made = BuildCgroup("0123", root=tmp_path)
    monkeypatch.setattr(build_guard, "BuildCgroup", lambda *_: made)
    monkeypatch.setattr(build_guard, "INTERVAL", 0.01)
    return made


@pytest.fixture
def disk(monkeypatch):
    """Return a file system with 100 GiB free, which a test may reduce."""
    found = SimpleNamespace(f_bavail=100 * 2**30, f_frsize=1, f_files=1000, f_favail=1000)
    monkeypatch.setattr(free_space, "statvfs", lambda _: found)
    return found


def never():
    """Return that the build is not over."""
    return False


def guarded(limits, storage, build):
    """Run a build as a builder does: set the limits once, then guard the build."""
    return build_guard.run_guarded(ORDER, prepare_group(ORDER.key, "", limits), limits, LocalEngine(storage), build)


def a_step(group, name):
    """Create the group of a running step, as the kernel shows it."""
    step = group.directory("pids") / "buildkit" / name
    step.mkdir(parents=True)
    (step / "cgroup.procs").write_text("1\n")


def sleeping():
    return run(["sleep", "30"], name="sleep", timeout=60)


def too_many(group):
    """Let the counter of the kernel show that a process could not be created."""
    group.directory("pids").mkdir(parents=True, exist_ok=True)
    (group.directory("pids") / "pids.events").write_text("max 1\n")


def test_guard_ends_build_that_exceeds_process_limit(group):
    """The commands of the build end at once, and the error names the limit."""

    def build():
        too_many(group)
        return sleeping()

    with pytest.raises(BuildLimitExceeded, match="more than 100 processes"):
        guarded(LIMITS, (), build)


def test_guard_ends_build_before_engine_disk_is_full(group, tmp_path):
    """It does not matter who filled the disk: what is written to a full disk is incomplete."""
    scarce = LIMITS.model_copy(update={"reserve": 2**60})

    with pytest.raises(BuildLimitExceeded, match="have to stay"):
        guarded(scarce, (tmp_path,), sleeping)


def test_guard_raises_cancelled_for_cancelled_run(group):
    """The cancellation of the guard follows that of the run."""
    outer = Cancellation()
    token = current.set(outer)

    def build():
        outer.cancel()
        return sleeping()

    try:
        with pytest.raises(Cancelled):
            guarded(LIMITS, (), build)
    finally:
        current.reset(token)


@pytest.mark.parametrize("error", [FileNotFoundError("no such file"), ValueError("no number"), KeyError("f")], ids=repr)
def test_guard_ends_build_that_it_cannot_watch(group, monkeypatch, tmp_path, error):
    """Without the watch nobody would see what the build uses."""

    def unreadable(_):
        raise error

    monkeypatch.setattr(free_space, "statvfs", unreadable)

    with pytest.raises(BuildLimitExceeded, match=f"could not look at what its steps use: {type(error).__name__}: "):
        guarded(LIMITS, (tmp_path,), sleeping)


@pytest.mark.parametrize("unreadable", ["buildkit", "mnt"])
def test_guard_ends_build_whose_steps_are_unreadable(group, monkeypatch, unreadable):
    """An unreadable group must not count as an empty one."""
    listed, opened = os.scandir, os.open

    def refused(other):
        def look(path, *args, **how):
            if Path(path).name == unreadable:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return other(path, *args, **how)

        return look

    def build():
        a_step(group, "a")
        return sleeping()

    monkeypatch.setattr(os, "scandir", refused(listed))
    monkeypatch.setattr(os, "open", refused(opened))

    with pytest.raises(BuildLimitExceeded, match=f"could not look .*Permission denied.*{unreadable}"):
        guarded(LIMITS, (), build)


def test_guard_ignores_counters_of_group_without_limits(group, monkeypatch):
    """A user other than root may not read the steps, and the group may have counted for other builds."""

    def refused(process, storage):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(build_guard, "find_written_directories", refused)
    too_many(group)
    a_step(group, "a")
    guard = BuildGuard(replace(group, limited=False), LIMITS)

    assert (guard.check_limits(), guard.walk(), guard.explain("exit code: 137")) == ("", "", "")


def test_guard_ignores_memory_file_that_disappears(group):
    """The kernel may remove a group between two reads when a step ends."""
    memory = group.directory("memory")
    memory.mkdir(parents=True, exist_ok=True)
    (memory / "memory.max_usage_in_bytes").write_text("100")

    assert BuildGuard(group, LIMITS).check_limits() == ""


def test_guard_logs_limits_that_cannot_be_set(group, tmp_path, caplog):
    """The build runs without limits, as documented, and the log says so."""
    (tmp_path / "memory").write_text("no directory")
    done = CommandResult(0, "", "", 1.0)

    def build():
        time.sleep(0.1)
        return done

    assert guarded(LIMITS, (tmp_path,), build) is done
    assert not prepare_group("0123", "", LIMITS).limited
    assert "could not be set" in caplog.text


def test_prepare_group_removes_unused_groups(group):
    """Each new name of an application makes a group, and nobody else removes it."""
    left = group.directory("pids").with_name("a" * 32)
    left.mkdir(parents=True)
    os.utime(left, (0, 0))

    prepare_group("0123", "", LIMITS)

    assert not left.exists()


def test_prepare_group_lets_no_other_build_prepare_groups_meanwhile(group, monkeypatch):
    """That one would remove an old group between its creation and its first step."""
    limit, root = BuildCgroup.limit, group.root

    def limit_alone(self, limits):
        other = os.open(root, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
        return limit(self, limits)

    monkeypatch.setattr(BuildCgroup, "limit", limit_alone)

    assert prepare_group("0123", "", LIMITS).limited


@pytest.mark.parametrize(("words", "limited"), [("exit code: 137", True), ("exit code: 1", False)])
def test_guard_names_memory_only_if_a_step_was_killed(group, words, limited):
    """A compiler that fails near its memory limit failed for another reason."""

    def build():
        memory = group.directory("memory")
        memory.mkdir(parents=True, exist_ok=True)
        (memory / "memory.limit_in_bytes").write_text("100")
        (memory / "memory.max_usage_in_bytes").write_text("100")
        return CommandResult(1, "", words, 1.0)

    if limited:
        with pytest.raises(BuildLimitExceeded, match="1024 MiB of memory"):
            guarded(LIMITS, (), build)
    else:
        assert guarded(LIMITS, (), build).stderr == words


def test_guard_passes_timeout_of_build(group):
    """A limit that explains the timeout would take precedence."""

    def build():
        raise ToolTimedOut("too long\nraise it")

    with pytest.raises(ToolTimedOut):
        guarded(LIMITS, (), build)


def test_guard_returns_result_of_build_within_limits(group, tmp_path):
    """A build within its limits is not disturbed."""
    done = CommandResult(0, "", "", 1.0)

    def build():
        time.sleep(0.1)
        return done

    assert guarded(LIMITS, (tmp_path,), build) is done


def test_written_bytes_counts_every_written_directory(tmp_path, monkeypatch):
    """Counting stops above the limit; a link is not followed."""
    places = [tmp_path / name for name in ("upper/a", "cache")]
    for place in places:
        place.mkdir(parents=True)
        (place / "file").write_bytes(b"x" * 8192)
    (tmp_path / "upper/link").symlink_to("/")
    written = [tmp_path / "upper", tmp_path / "cache"]
    monkeypatch.setattr(build_guard, "find_written_directories", lambda *_: contextlib.nullcontext(written))

    assert 16384 <= measure_written_bytes(7, 2**30, never) < 24576
    assert 4096 < measure_written_bytes(7, 4096, never) <= 8192


def test_guard_adds_written_bytes_of_all_steps(group, monkeypatch):
    """The limit applies to all running steps together."""
    monkeypatch.setattr(build_guard, "measure_written_bytes", lambda *_: 40 * 2**20)
    guard = BuildGuard(group, LIMITS)
    a_step(group, "a")
    assert guard.walk() == ""

    a_step(group, "b")
    assert "written more than 64 MiB" in guard.walk()


def test_guard_measures_excess_twice_before_it_ends_build(group, monkeypatch):
    """A step that changes its root shows the mounts of the host for a moment."""
    monkeypatch.setattr(build_guard, "INTERVAL", 0)
    found = iter([2**40, 0])
    monkeypatch.setattr(build_guard, "measure_written_bytes", lambda *_: next(found))
    a_step(group, "a")

    assert BuildGuard(group, LIMITS).walk() == ""


def test_guard_ends_build_if_free_space_falls(group, disk):
    """Unpacked archives, deleted open files and another root are invisible in the layers of the steps."""

    def build():
        disk.f_bavail -= LIMITS.disk + MARGIN + 1
        return sleeping()

    with pytest.raises(BuildLimitExceeded, match="fell by more than 576 MiB since it began"):
        guarded(LIMITS, (Path("/engine"),), build)


class Endless:
    """Fake of an endless number of empty files, in one directory or each in a directory below the last."""

    def __init__(self, deep):
        self.deep = deep
        self.begun, self.left = threading.Event(), threading.Event()
        self.most = 500
        """Number of files that may still be read after the build has ended; a walk to the last one does not stop."""

    def scandir(self, path):
        return contextlib.nullcontext(itertools.islice(self.entries(), 1 if self.deep else None))

    def entries(self):
        while self.most:
            self.begun.set()
            time.sleep(0.01)
            self.most -= self.left.is_set()
            yield self

    path = "/endless"

    def is_dir(self, *, follow_symlinks):
        return self.deep

    def stat(self, *, follow_symlinks):
        return SimpleNamespace(st_blocks=0)


@pytest.fixture(params=[False, True], ids=["wide", "deep"])
def endless(request, monkeypatch):
    """Return the endless files that a step has written."""
    files, listed = Endless(request.param), os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (files.scandir if str(path) == files.path else listed)(path))
    written = contextlib.nullcontext([Path(files.path)])
    monkeypatch.setattr(build_guard, "find_written_directories", lambda *_: written)
    return files


def test_guard_sees_loss_of_free_space_during_endless_walk(group, disk, endless):
    """Many files make the walk slow, so free space is checked in parallel."""

    def build():
        a_step(group, "a")
        assert endless.begun.wait(20)
        disk.f_bavail -= LIMITS.disk + MARGIN + 1
        try:
            return sleeping()
        finally:
            endless.left.set()

    with pytest.raises(BuildLimitExceeded, match="fell by more than"):
        guarded(LIMITS, (Path("/engine"),), build)
    assert endless.most


def test_guard_does_not_wait_for_walk_after_build_ends(group, endless):
    """Empty files take no bytes, so the size limit would never end the walk."""
    done = CommandResult(0, "", "", 1.0)

    def build():
        a_step(group, "a")
        assert endless.begun.wait(20)
        endless.left.set()
        return done

    assert guarded(LIMITS, (), build) is done
    assert endless.most
