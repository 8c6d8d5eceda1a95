"""Free space on the engine's file system: what may go while something runs, and what has to stay."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from supply_chain.adapters.docker import free_space
from supply_chain.adapters.docker.free_space import MARGIN, FreeSpace, free_bytes
from supply_chain.development.separation import BuildLimits

GIB = 2**30
LIMITS = BuildLimits(memory=GIB, processes=100, cpus=1, disk=10 * GIB, reserve=2 * GIB)
ENGINE = Path("/engine")
CONTAINERD = Path("/containerd")


@pytest.fixture
def disk(monkeypatch):
    """A file system with 100 GiB free, in blocks of 4 KiB."""
    found = SimpleNamespace(f_bavail=100 * GIB // 4096, f_frsize=4096, f_files=1_000_000, f_favail=900_000)
    monkeypatch.setattr(free_space, "statvfs", lambda _: found)
    return found


def leave(disk, size):
    disk.f_bavail = size // 4096


def test_what_others_may_use_is_free(disk):
    """Not the blocks that are root's alone."""
    assert free_bytes(ENGINE) == 100 * GIB


def test_a_build_may_take_its_limit_and_the_margin(disk):
    """From what was free when it began."""
    space = FreeSpace((ENGINE,), LIMITS)
    assert space.look() == ""

    leave(disk, 90 * GIB - MARGIN)
    assert space.look() == ""

    leave(disk, 90 * GIB - MARGIN - 4096)
    assert space.look() == (
        "the free space where the engine keeps its images (/engine) fell by more than 10752 MiB since it began"
    )


@pytest.mark.parametrize(("builds", "most"), [(0, 10_752), (1, 10_752), (2, None), (3, None)])
def test_each_build_that_runs_may_take_its_limit(disk, builds, most):
    """What went can be another's; of a build none of whose steps runs, the limit counts all the same."""
    space = FreeSpace((ENGINE,), LIMITS, lambda: builds)
    space.look()

    leave(disk, 85 * GIB)

    assert space.look().partition(" fell ")[2] == (f"by more than {most} MiB since it began" if most else "")


@pytest.mark.parametrize(("image", "builds", "most"), [(1, 1, 10), (4, 1, 16), (16, 0, 64), (16, 1, 64), (16, 3, 84)])
def test_a_large_image_may_lie_there_four_times_while_it_is_made(disk, image, builds, most):
    """One that a declaration may ask for can be built; what others may take does not grow with it."""
    space = FreeSpace((ENGINE,), LIMITS, lambda: builds, image * GIB)
    space.look()

    leave(disk, (100 - most) * GIB - MARGIN)
    assert space.look() == ""

    leave(disk, (100 - most) * GIB - MARGIN - 4096)
    assert f"fell by more than {most * 1024 + 512} MiB" in space.look()


@pytest.mark.parametrize("place", [ENGINE, CONTAINERD], ids=str)
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"f_bavail": 50 * GIB // 4096}, "the free space where .* fell by more than"),
        ({"f_bavail": GIB // 4096}, "only 1024 MiB are free where"),
        ({"f_favail": 0}, "only 0 inodes are free where"),
    ],
    ids=["lost", "reserve", "inodes"],
)
def test_each_place_in_which_images_may_lie_is_looked_at(disk, monkeypatch, place, changes, told):
    """A containerd of the system's own keeps them on another file system than the engine's."""
    space = FreeSpace((ENGINE, CONTAINERD), LIMITS)
    assert space.look() == ""

    changed = SimpleNamespace(**{**vars(disk), **changes})
    monkeypatch.setattr(free_space, "statvfs", lambda each: changed if each == place else disk)

    assert re.match(told, space.look()) and f"({place})" in space.look()


def test_the_reserve_stays_however_many_builds_run(disk):
    """Whoever takes it."""
    space = FreeSpace((ENGINE,), LIMITS, lambda: 100)
    leave(disk, 3 * GIB)
    assert space.look() == ""

    leave(disk, GIB)
    assert "only 1024 MiB are free" in space.look()


def test_empty_files_take_inodes_that_have_to_stay(disk):
    """Without them nobody makes a file, however many bytes are free."""
    space = FreeSpace((ENGINE,), LIMITS)
    disk.f_favail = 50_000
    assert space.look() == ""

    disk.f_favail = 49_999
    assert "only 49999 inodes are free" in space.look() and "5% have to stay" in space.look()


def test_a_file_system_that_counts_no_inodes_has_enough(disk):
    """As btrfs does."""
    disk.f_files = disk.f_favail = 0

    assert FreeSpace((ENGINE,), LIMITS).look() == ""
