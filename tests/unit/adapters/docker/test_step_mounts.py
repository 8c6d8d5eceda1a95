"""What a build step writes to is found in its mount namespace."""

import ctypes
import errno
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from supply_chain.adapters.docker import step_mounts
from supply_chain.adapters.docker.step_mounts import (
    find_missing_capabilities,
    find_written_directories,
    list_written_directories,
)

OVERLAY = r"1 0 0:1 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/upper\040layer,workdir=/w"


def descriptors():
    return sorted(each.name for each in Path("/proc/self/fd").iterdir())


def disk(mount_point, options="rw,relatime"):
    return f"2 1 8:1 /snapshots/1/fs {mount_point} {options} master:1 - ext4 /dev/vda rw"


def written(*lines):
    return list_written_directories("".join(f"{line}\n" for line in lines))


def test_upper_layer_and_writable_mounts_on_a_disk_are_written_to():
    """Lower layers, memory file systems and read-only mounts are not."""
    tmpfs = "5 1 0:3 / /dev/shm rw - tmpfs shm rw"

    assert written(OVERLAY, disk("/var/cache"), disk("/ro", "ro"), tmpfs) == (["/upper layer"], ["/var/cache"])


def test_every_overlay_counts_by_its_upper_directory():
    """A step may mount another stage to write to it, which shows all files of that stage."""
    other = OVERLAY.replace(" / / ", " / /stage ").replace("=/upper", "=/other")

    assert written(OVERLAY, other) == (["/upper layer", "/other layer"], [])


@pytest.mark.parametrize("character", ["\u00a0", "\u2003", "\u2028", "\u0085", "\r", "\x0b", "\x1f"])
def test_white_space_that_the_kernel_does_not_escape_hides_no_mount(character):
    """Whoever writes the Dockerfile chooses where a cache is mounted."""
    place = f"/cache{character}ro"

    assert written(disk(place), disk("/last")) == ([], [place, "/last"])


@pytest.mark.parametrize("character", [" ", "\t", "\n", "\\", ","])
def test_escaped_characters_are_read(character):
    """The kernel writes them as octal numbers."""
    escaped = f"/cache\\{ord(character):03o}"

    assert written(disk(escaped)) == ([], [f"/cache{character}"])


def test_mount_below_another_one_counts_once():
    """The walk through the outer one finds its files."""
    assert written(disk("/cache/inner"), disk("/cache"), disk("/cache2")) == ([], ["/cache", "/cache2"])


def test_step_that_has_the_mounts_of_the_host_has_written_nothing():
    """The first process of a step has them for a moment."""
    with find_written_directories(os.getpid()) as places:
        assert places == []


def test_step_that_has_ended_has_written_nothing():
    """A process that nobody has waited for counts as ended."""
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        with find_written_directories(ended.pid) as places:
            assert places == []

    with find_written_directories(ended.pid) as places:
        assert places == []


@pytest.fixture
def another_namespace(monkeypatch):
    """Let this process seem to have another mount namespace than the host, which is entered without a change."""
    monkeypatch.setattr(os.path, "sameopenfile", lambda first, second: False)
    library = SimpleNamespace(unshare=lambda *_: 0, setns=lambda *_: 0)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: library)
    return library


@pytest.mark.parametrize("call", ["unshare", "setns"])
def test_namespace_that_cannot_be_entered_is_an_error(another_namespace, call):
    """What the step has written is then unknown."""

    def refused(*_):
        ctypes.set_errno(errno.EINVAL)
        return -1

    setattr(another_namespace, call, refused)

    with pytest.raises(OSError, match="mounts cannot be entered"), find_written_directories(os.getpid()):
        pass


@pytest.mark.usefixtures("another_namespace")
def test_step_that_has_the_root_of_the_host_has_written_nothing(monkeypatch):
    """Its namespace is its own before it changes to its own root, and has the mounts of the host until then."""
    same = iter([False, True])  # the namespaces, and then their roots
    monkeypatch.setattr(os.path, "sameopenfile", lambda first, second: next(same))

    with find_written_directories(os.getpid()) as places:
        assert places == []


@pytest.mark.usefixtures("another_namespace")
def test_written_directories_are_of_engine_and_step_root(tmp_path, monkeypatch):
    """The descriptors are closed afterwards. A link leads nowhere, and a file holds nothing of the step."""
    for name in ("engine/overlay2/id/diff", "cache"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("/")
    others = [f"{tmp_path}/{name}" for name in ("cache", "file", "gone", "link", "link/tmp")]
    monkeypatch.setattr(step_mounts, "list_written_directories", lambda _: (["id/diff", f"{tmp_path}/cache"], others))
    before = descriptors()

    with find_written_directories(os.getpid(), [tmp_path / "engine"]) as places:
        assert places[:2] == [tmp_path / "engine/overlay2/id/diff", tmp_path / "cache"]
        assert [each.resolve() for each in places[2:]] == [tmp_path / "cache"]

    assert descriptors() == before


@pytest.mark.usefixtures("another_namespace")
@pytest.mark.parametrize("upper", ["/no/such/directory", "id/diff"])
def test_missing_layer_of_local_engine_is_an_error(tmp_path, monkeypatch, upper):
    """The files of an engine elsewhere cannot be seen."""
    monkeypatch.setattr(step_mounts, "list_written_directories", lambda _: ([upper], []))

    missing = pytest.raises(FileNotFoundError, match="layer is not here")
    with missing, find_written_directories(os.getpid(), [tmp_path]):
        pass

    with find_written_directories(os.getpid()) as places:
        assert places == []


@pytest.mark.parametrize(
    ("effective", "missing"),
    [("000001ffffffffff", []), ("00000000a80425fb", ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN"])],
    ids=["root", "root in a container"],
)
def test_missing_capabilities_are_named(tmp_path, effective, missing):
    """Without them, the guard of a build ends it."""
    (tmp_path / "status").write_text(f"Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{effective}\n")

    assert find_missing_capabilities(tmp_path / "status") == missing
