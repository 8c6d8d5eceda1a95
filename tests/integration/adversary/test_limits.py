"""Builds that exhaust a resource: each ends with a clear error and others continue. The real BuildKit, as root."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from supply_chain.adapters.docker.build_cgroup import BuildCgroup
from supply_chain.adapters.docker.build_guard import LocalEngine
from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.adapters.docker.engine_memory import find_engine_process
from supply_chain.adapters.files.free_space import free_bytes
from supply_chain.adapters.tools import Toolbox
from supply_chain.concurrency import run_both
from supply_chain.errors import BuildFailed, BuildLimitExceeded, ToolTimedOut
from tests.integration.adversary.steps import GIB, LIMITS, MIB, OWNER, Steps, steps_in
from tests.support.eyes import processes
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

CACHE = "--mount=type=cache,target=/cache "


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory, toolbox: Toolbox) -> Iterator[Steps]:
    with steps_in(tmp_path_factory.mktemp("limits"), toolbox) as made:
        yield made


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


def running(word: str) -> bool:
    """Tell whether a build step with this argument runs on this machine."""
    return bool(processes(lambda command, _: word.encode() in command))


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ('RUN ["/step", "fork"]\n', "more than 64 processes"),
        ('RUN ["/step", "eat"]\n', "more than their 512 MiB of memory"),
        ('RUN ["/step", "fill", "/"]\n', "written more than 256 MiB"),
        (f'RUN {CACHE}["/step", "fill", "/cache"]\n', "written more than 256 MiB"),
        ('RUN ["/step", "chroot", "/other", "fill", "/"]\n', "written more than 256 MiB"),
    ],
    ids=["fork bomb", "memory hog", "disk filler", "cache filler", "disk filler with another root"],
)
def test_build_step_above_its_limits_is_ended_and_others_continue(steps: Steps, key: str, step: str, why: str) -> None:
    """Another application builds at the same time, and no process of the first remains."""
    with pytest.raises(BuildLimitExceeded, match=why):
        run_both(
            lambda: steps.builder().build(steps.order(step, key)),
            lambda: steps.result('RUN ["/step", "random", "/said"]\n', uuid.uuid4().hex),
        )

    assert list(BuildCgroup(key, OWNER).processes()) == []
    assert steps.result('RUN ["/step", "random", "/said"]\n', uuid.uuid4().hex)


def test_build_step_cannot_write_an_unlimited_file(steps: Steps, key: str) -> None:
    """The kernel's file size limit needs neither root nor a watcher."""
    with pytest.raises((BuildFailed, BuildLimitExceeded)):
        steps.builder().build(steps.order('RUN ["/step", "grow", "/x"]\n', key))


def seconds_used(group: BuildCgroup) -> float:
    """Return the processor seconds that a cgroup used, for either version of cgroups."""
    if not group.unified:
        return int((group.directory("cpuacct") / "cpuacct.usage").read_text()) / 1e9
    lines = (group.directory("cpu") / "cpu.stat").read_text().splitlines()
    return int(dict(line.split() for line in lines)["usage_usec"]) / 1e6


@pytest.mark.parametrize("what", ["spin", "yell"])
def test_endless_build_step_is_ended_after_its_timeout(steps: Steps, key: str, what: str) -> None:
    """The process in the engine ends too, and endless output is not stored.

    Build steps share the processors: half a processor for 10 seconds gives at most 5 seconds, plus the start.
    """
    mark = uuid.uuid4().hex
    order = steps.order(f'RUN ["/step", "{what}", "{mark}"]\n', key, timeout=10)

    with pytest.raises(ToolTimedOut):
        steps.builder().build(order)

    assert (0.05 if what == "spin" else 0) < seconds_used(BuildCgroup(key, OWNER)) < 6.5
    eventually(lambda: not running(mark))


def connected() -> DockerEngine:
    """Connect to the engine that builds."""
    return DockerEngine.connect(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))


def write_bomb(target: Path, size: int) -> None:
    """Write a small archive that unpacks to a file of `size` zeros, a multiple of 64 MiB."""
    member = tarfile.TarInfo("zeros")
    member.size = size
    zeros = gzip.compress(bytes(64 * MIB), 1)
    parts = [gzip.compress(member.tobuf()), *[zeros] * (size // (64 * MIB)), gzip.compress(bytes(1024))]
    target.write_bytes(b"".join(parts))  # the members of a gzip file unpack to one stream (RFC 1952, 2.2)


def _tar() -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        member = tarfile.TarInfo("data")
        archive.addfile(member)
    return written.getvalue()


def _zstd(content: bytes, window: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=window, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(content) + packer.flush()


LARGE_DICTIONARY = {
    "xz": lzma.compress(_tar(), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 128 * MIB}]),
    "zst": _zstd(_tar(), 27),
}
"""Valid archives that BuildKit unpacks."""


TAKES = [
    "ADD bomb.tar.gz /bomb\n",
    'RUN ["/step", "unlink", "/"]\n',
]
"""Steps that use disk space which no walk through their files finds."""


@pytest.mark.parametrize("step", TAKES, ids=["ADD of a bomb", "unlinked files"])
def test_build_that_uses_up_free_space_is_ended(steps: Steps, key: str, step: str) -> None:
    """It ends long before the disk is full, and the space is released."""
    storage, order = Path(connected().machine().storage), replace(steps.order(step, key), max_size=64 * MIB)
    if step.startswith("ADD"):
        write_bomb(order.context / "bomb.tar.gz", 6 * GIB)
    before = free_bytes(storage)

    with pytest.raises(BuildLimitExceeded, match=r"fell by more than|have written more than"):
        steps.builder(LIMITS, LocalEngine((storage,))).build(order)

    assert before - free_bytes(storage) < 5 * GIB
    assert list(BuildCgroup(key, OWNER).processes()) == []


def test_copy_that_takes_too_much_of_the_engines_memory_is_ended(steps: Steps, key: str) -> None:
    """COPY runs in the engine, where the control group of the steps does not count it."""
    process = find_engine_process(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    few = LIMITS.model_copy(update={"memory": 64 * MIB})
    order = steps.order('RUN ["/step", "paths", "/tree"]\nFROM scratch\nCOPY --from=0 /tree /tree\n', key)

    with pytest.raises(BuildLimitExceeded, match="engine's own memory grew by more than 64 MiB"):
        steps.builder(few, LocalEngine(process=process)).build(order)

    assert order.name not in {name for names in connected().names("cscm.local/steps").values() for name in names}


@pytest.mark.parametrize("name", ["data.tar.xz", "data.tar.zst"])
def test_archive_with_large_dictionary_is_not_given_to_the_engine(steps: Steps, key: str, name: str) -> None:
    """Unpacking it takes the engine's own memory, which no limit of a build covers."""
    order = replace(steps.order(f"ADD {name} /data\n", key), unpacks=True)
    (order.context / name).write_bytes(LARGE_DICTIONARY[name.rpartition(".")[2]])

    with pytest.raises(BuildLimitExceeded, match=f"ADD of {name} takes more than 64 MiB of the engine's own memory"):
        steps.builder().build(order)

    assert order.name not in {name for names in connected().names("cscm.local/steps").values() for name in names}


def test_sparse_file_of_build_step_is_not_unpacked_in_the_engine(steps: Steps, key: str) -> None:
    """It would fill the engine's disk; the image is larger than the declared maximum."""
    order = replace(steps.order('RUN ["/step", "sparse", "/x"]\n', key), reproducible=True, max_size=64 * MIB)

    with pytest.raises(BuildLimitExceeded, match=r"build\.max_size"):
        steps.builder().build(order)

    assert order.name not in {name for names in connected().names("cscm.local/steps").values() for name in names}


def test_build_ends_before_the_reserve_of_the_disk_is_used(steps: Steps, key: str, tmp_path: Path) -> None:
    """The engine's disk must not become full for others."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(small)], check=True)
    try:
        (small / "filled").write_bytes(b"x" * 40 * MIB)
        scarce = LIMITS.model_copy(update={"reserve": 32 * MIB})
        with pytest.raises(BuildLimitExceeded, match="have to stay"):
            steps.builder(scarce, LocalEngine((small,))).build(steps.order('RUN ["/step", "wait"]\n', key))
    finally:
        subprocess.run(["umount", str(small)], check=True)
