"""Tests of the free space of the engine: how much a build may take, and how much has to remain."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from supply_chain.adapters.docker import free_space
from supply_chain.adapters.docker.free_space import MARGIN, FreeSpace
from supply_chain.development.separation import BuildLimits

GIB = 2**30
LIMITS = BuildLimits(memory=GIB, processes=100, cpus=1, disk=10 * GIB, reserve=2 * GIB)
ENGINE = Path("/engine")
CONTAINERD = Path("/containerd")


@pytest.fixture
def disk(monkeypatch):
    """Return a file system with 100 GiB free in blocks of 4 KiB."""
    found = SimpleNamespace(f_bavail=100 * GIB // 4096, f_frsize=4096, f_files=1_000_000, f_favail=900_000)
    monkeypatch.setattr(free_space, "statvfs", lambda _: found)
    return found


def leave(disk, size):
    disk.f_bavail = size // 4096


def test_build_may_take_its_limit_and_the_margin(disk):
    """The reference is the space that was free when the build started."""
    space = FreeSpace((ENGINE,), LIMITS)
    assert space.check_limits() == ""

    leave(disk, 90 * GIB - MARGIN)
    assert space.check_limits() == ""

    leave(disk, 90 * GIB - MARGIN - 4096)
    assert space.check_limits() == (
        "the free space where the engine keeps its images (/engine) fell by more than 10752 MiB since it began"
    )


@pytest.mark.parametrize(("builds", "most"), [(0, 10_752), (1, 10_752), (2, None), (3, None)])
def test_each_running_build_may_take_its_limit(disk, builds, most):
    """Another build may have taken the space; a build without a running step still counts once."""
    space = FreeSpace((ENGINE,), LIMITS, lambda: builds)
    space.check_limits()

    leave(disk, 85 * GIB)

    assert space.check_limits().partition(" fell ")[2] == (f"by more than {most} MiB since it began" if most else "")


@pytest.mark.parametrize(("image", "builds", "most"), [(1, 1, 10), (4, 1, 16), (16, 0, 64), (16, 1, 64), (16, 3, 84)])
def test_build_may_take_four_times_its_image_size(disk, image, builds, most):
    """A large declared image can be built, and the allowance for other builds does not grow with it."""
    space = FreeSpace((ENGINE,), LIMITS, lambda: builds, image * GIB)
    space.check_limits()

    leave(disk, (100 - most) * GIB - MARGIN)
    assert space.check_limits() == ""

    leave(disk, (100 - most) * GIB - MARGIN - 4096)
    assert f"fell by more than {most * 1024 + 512} MiB" in space.check_limits()


@pytest.mark.parametrize("place", [ENGINE, CONTAINERD], ids=str)
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"f_bavail": 50 * GIB // 4096}, "the free space where .* fell by more than"),
        ({"f_bavail": GIB // 4096}, "only 1024 MiB are free where"),
        ({"f_favail": 0}, "only 0 inodes are free where"),
    ],
    ids=["lost", "reserve", "inodes"],
)
def test_every_storage_location_of_images_is_checked(disk, monkeypatch, place, changes, expected):
    """A containerd of the system may keep images on another file system than the engine."""
    space = FreeSpace((ENGINE, CONTAINERD), LIMITS)
    assert space.check_limits() == ""

    changed = SimpleNamespace(**{**vars(disk), **changes})
    monkeypatch.setattr(free_space, "statvfs", lambda each: changed if each == place else disk)

    assert re.match(expected, space.check_limits()) and f"({place})" in space.check_limits()


def test_reserve_remains_free_for_any_number_of_builds(disk):
    """It does not matter who takes the space."""
    space = FreeSpace((ENGINE,), LIMITS, lambda: 100)
    leave(disk, 3 * GIB)
    assert space.check_limits() == ""

    leave(disk, GIB)
    assert "only 1024 MiB are free" in space.check_limits()


def test_empty_files_must_leave_reserve_of_inodes(disk):
    """Without inodes no file can be created, however many bytes are free."""
    space = FreeSpace((ENGINE,), LIMITS)
    disk.f_favail = 50_000
    assert space.check_limits() == ""

    disk.f_favail = 49_999
    assert "only 49999 inodes are free" in space.check_limits() and "5% have to stay" in space.check_limits()


def test_file_system_without_inode_count_has_enough_inodes(disk):
    """An example is btrfs."""
    disk.f_files = disk.f_favail = 0

    assert FreeSpace((ENGINE,), LIMITS).check_limits() == ""
