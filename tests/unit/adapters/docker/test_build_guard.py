"""The guard of a build: what counts as broken, and what becomes of the build then."""

import contextlib
import errno
import itertools
import os
import shutil
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from supply_chain.adapters.docker import build_guard, free_space
from supply_chain.adapters.docker.build_cgroup import BuildCgroup
from supply_chain.adapters.docker.build_guard import BuildGuard, limited_group, written_bytes
from supply_chain.adapters.docker.free_space import MARGIN
from supply_chain.adapters.process.command import Cancellation, Done, current, run
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
    """A file system with 100 GiB free, of which a test takes."""
    found = SimpleNamespace(f_bavail=100 * 2**30, f_frsize=1, f_files=1000, f_favail=1000)
    monkeypatch.setattr(free_space, "statvfs", lambda _: found)
    return found


def never():
    """The build goes on."""
    return False


def guarded(limits, storage, build):
    """As a builder does it: the limits once, then the build."""
    return build_guard.guarded(ORDER, limited_group(ORDER.key, "", limits), limits, storage, build)


def a_step(group, name):
    """Runs, as the kernel tells it."""
    step = group.directory("pids") / "buildkit" / name
    step.mkdir(parents=True)
    (step / "cgroup.procs").write_text("1\n")


def sleeping():
    return run(["sleep", "30"], name="sleep", timeout=60)


def too_many(group):
    """The kernel counted a process that could not be made."""
    group.directory("pids").mkdir(parents=True, exist_ok=True)
    (group.directory("pids") / "pids.events").write_text("max 1\n")


def test_a_build_that_breaks_a_limit_is_ended_with_its_commands(group):
    """At once, and told as what it is."""

    def build():
        too_many(group)
        return sleeping()

    with pytest.raises(BuildLimitExceeded, match="more than 100 processes"):
        guarded(LIMITS, (), build)


def test_a_build_ends_before_the_engines_disk_is_full(group, tmp_path):
    """Whoever filled it: nothing that is written then would be whole."""
    scarce = LIMITS.model_copy(update={"reserve": 2**60})

    with pytest.raises(BuildLimitExceeded, match="have to stay"):
        guarded(scarce, (tmp_path,), sleeping)


def test_a_cancelled_run_ends_as_cancelled(group):
    """The guard's own cancellation ends with that of the run."""
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
def test_a_build_that_cannot_be_watched_is_ended(group, monkeypatch, tmp_path, error):
    """Nobody would see what it uses; its own error would be another."""

    def unreadable(_):
        raise error

    monkeypatch.setattr(free_space, "statvfs", unreadable)

    with pytest.raises(BuildLimitExceeded, match=f"could not look at what its steps use: {type(error).__name__}: "):
        guarded(LIMITS, (tmp_path,), sleeping)


@pytest.mark.parametrize("unreadable", ["buildkit", "root"])
def test_a_build_whose_steps_cannot_be_seen_is_ended(group, monkeypatch, unreadable):
    """What the kernel does not tell is not nothing."""
    listed, compared = os.scandir, Path.samefile

    def refused(other):
        def look(path, *args):
            if Path(path).name == unreadable:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return other(path, *args)

        return look

    def build():
        a_step(group, "a")
        return sleeping()

    monkeypatch.setattr(os, "scandir", refused(listed))
    monkeypatch.setattr(Path, "samefile", refused(compared))

    with pytest.raises(BuildLimitExceeded, match=f"could not look .*Permission denied.*{unreadable}"):
        guarded(LIMITS, (), build)


def test_what_a_group_without_limits_says_ends_no_build(group, monkeypatch):
    """Another user than root may not look at the steps, and their group has counted for others."""

    def refused(process, proc):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(build_guard, "_written_places", refused)
    too_many(group)
    a_step(group, "a")
    guard = BuildGuard(replace(group, limited=False), LIMITS, None)

    assert (guard.look(), guard.walk(), guard.explain("exit code: 137")) == ("", "", "")


def test_a_limit_that_goes_while_it_is_looked_at_ends_no_build(group):
    """The kernel has removed the group between two files of it: a step's end is no failure."""
    memory = group.directory("memory")
    memory.mkdir(parents=True, exist_ok=True)
    (memory / "memory.max_usage_in_bytes").write_text("100")

    assert BuildGuard(group, LIMITS, None).look() == ""


def test_limits_that_cannot_be_set_are_logged(group, tmp_path, caplog):
    """The build runs without them, as the documentation says; whoever reads its log sees it."""
    (tmp_path / "memory").write_text("no directory")
    done = Done(0, "", "", 1.0)

    assert guarded(LIMITS, (tmp_path,), lambda: (time.sleep(0.1), done)[1]) is done
    assert not limited_group("0123", "", LIMITS).limited
    assert "could not be set" in caplog.text


@pytest.mark.parametrize(("words", "limited"), [("exit code: 137", True), ("exit code: 1", False)])
def test_memory_is_named_only_where_it_ended_a_step(group, words, limited):
    """A compiler that fails near its limit has failed for another reason."""

    def build():
        memory = group.directory("memory")
        memory.mkdir(parents=True, exist_ok=True)
        (memory / "memory.limit_in_bytes").write_text("100")
        (memory / "memory.max_usage_in_bytes").write_text("100")
        return Done(1, "", words, 1.0)

    if limited:
        with pytest.raises(BuildLimitExceeded, match="1024 MiB of memory"):
            guarded(LIMITS, (), build)
    else:
        assert guarded(LIMITS, (), build).stderr == words


def test_a_build_that_took_too_long_is_told_as_that(group):
    """Unless a limit explains it."""

    def build():
        raise ToolTimedOut("too long\nraise it")

    with pytest.raises(ToolTimedOut):
        guarded(LIMITS, (), build)


def test_a_good_build_is_left_alone(group, tmp_path):
    """With enough of everything."""
    done = Done(0, "", "", 1.0)

    assert guarded(LIMITS, (tmp_path,), lambda: (time.sleep(0.1), done)[1]) is done


def test_what_a_step_writes_is_its_layer_and_its_caches(tmp_path):
    """Not what lies below its layer, in memory, or in mounts that it can only read."""
    upper, proc = tmp_path / "upper layer", tmp_path / "proc"
    cache, hidden = proc / "7/root/var/cache", proc / "7/root/ro"
    (proc / "self/root").mkdir(parents=True)
    for place in (upper / "a", cache, hidden):
        place.mkdir(parents=True)
        (place / "file").write_bytes(b"x" * 8192)
    (upper / "link").symlink_to("/")
    escaped = str(upper).replace(" ", r"\040")
    (proc / "7/mountinfo").write_text(
        f"1 0 0:1 / / rw - overlay overlay rw,lowerdir=/l,upperdir={escaped},workdir=/w\n"
        "2 1 0:2 / /proc rw - proc proc rw\n"
        "3 1 8:1 /snapshots/1/fs /var/cache rw,relatime master:1 - ext4 /dev/vda rw\n"
        "4 1 8:1 /x /ro ro,relatime - ext4 /dev/vda rw\n"
        "5 1 0:3 / /dev/shm rw - tmpfs shm rw\n"
    )

    assert 16384 <= written_bytes(7, 2**30, never, proc) < 24576
    assert written_bytes(7, 4096, never, proc) > 4096
    assert written_bytes(8, 4096, never, proc) == 0
    (proc / "9").mkdir()
    (proc / "9/root").symlink_to(proc / "self/root")
    shutil.copy(proc / "7/mountinfo", proc / "9/mountinfo")
    assert written_bytes(9, 4096, never, proc) == 0, "a step that has not begun has the mounts of the host"


def test_a_process_that_has_ended_has_written_nothing(tmp_path):
    """Also where nobody has waited for it yet; what cannot be read of one that runs is an error."""
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert written_bytes(ended.pid, 4096, never) == 0

    (tmp_path / "7/mountinfo").mkdir(parents=True)
    (tmp_path / "7/root").mkdir()
    (tmp_path / "self/root").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        written_bytes(7, 4096, never, tmp_path)


def test_too_much_written_breaks_the_limit(group, monkeypatch):
    """All running steps together."""
    monkeypatch.setattr(build_guard, "written_bytes", lambda process, most, over: 40 * 2**20)
    guard = BuildGuard(group, LIMITS, None)
    a_step(group, "a")
    assert guard.walk() == ""

    a_step(group, "b")
    assert "written more than 64 MiB" in guard.walk()


def test_too_much_written_is_looked_at_twice(group, monkeypatch):
    """A step that just changes its root has the host's mounts for a moment."""
    monkeypatch.setattr(build_guard, "INTERVAL", 0)
    found = iter([2**40, 0])
    monkeypatch.setattr(build_guard, "written_bytes", lambda process, most, over: next(found))
    a_step(group, "a")

    assert BuildGuard(group, LIMITS, None).walk() == ""


def test_free_space_that_goes_ends_a_build_whose_steps_show_nothing(group, disk):
    """As where the engine unpacks an archive, a step removes files that it has open, or its root is another."""

    def build():
        disk.f_bavail -= LIMITS.disk + MARGIN + 1
        return sleeping()

    with pytest.raises(BuildLimitExceeded, match="fell by more than 576 MiB since it began"):
        guarded(LIMITS, (Path("/engine"),), build)


class Endless:
    """Empty files without end, all in one directory or each in one below the last; to look at them takes time."""

    def __init__(self, deep):
        self.deep = deep
        self.begun, self.left = threading.Event(), threading.Event()
        self.most = 500
        """Files that are looked at once the build has left; who goes on to the last one does not stop."""

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
    """What a step has written."""
    files, listed = Endless(request.param), os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (files.scandir if str(path) == files.path else listed)(path))
    monkeypatch.setattr(build_guard, "_written_places", lambda process, proc: [Path(files.path)])
    return files


def test_a_walk_without_end_hides_no_loss_of_free_space(group, disk, endless):
    """Files that are many make it slow; free space is looked at all the while."""

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


def test_a_build_that_is_over_waits_for_no_walk(group, endless):
    """Empty files take no bytes at which it would end."""
    done = Done(0, "", "", 1.0)

    def build():
        a_step(group, "a")
        assert endless.begun.wait(20)
        endless.left.set()
        return done

    assert guarded(LIMITS, (), build) is done
    assert endless.most
