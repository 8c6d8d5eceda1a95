"""Tests of the engine's own memory: what counts as exceeded, and whose process it is."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from supply_chain.adapters.docker import engine_memory
from supply_chain.adapters.docker.build_guard import LocalEngine
from supply_chain.adapters.docker.engine_memory import EngineMemory, find_engine_process
from supply_chain.development.separation import BuildLimits
from supply_chain.errors import EngineUnavailable

MIB = 1024**2
LIMITS = BuildLimits(memory=512 * MIB, processes=16, cpus=1, disk=64 * MIB, reserve=0)
ENGINE = 7


def write_proc(root: Path, used: int, available: int = 8192) -> None:
    """Write what the kernel shows: the engine's memory, and that of a machine with 16 GiB, in MiB."""
    (root / str(ENGINE)).mkdir(exist_ok=True)
    (root / str(ENGINE) / "status").write_text(f"Name:\tdockerd\nVmRSS:\t  9 kB\nRssAnon:\t{used * 1024} kB\nx: 1\n")
    (root / "meminfo").write_text(f"MemTotal:  {16384 * 1024} kB\nMemFree: 1 kB\nMemAvailable: {available * 1024} kB\n")


@pytest.mark.parametrize(("grown", "builds", "ended"), [(512, 1, False), (513, 1, True), (513, 0, True)])
def test_engine_memory_may_grow_by_limit_of_each_build(tmp_path: Path, grown: int, builds: int, ended: bool) -> None:
    memory = EngineMemory(ENGINE, LIMITS, lambda: builds, tmp_path)
    write_proc(tmp_path, 100)
    assert memory.check_limits() == ""

    write_proc(tmp_path, 100 + grown)

    assert ("grew by more than 512 MiB" in memory.check_limits()) is ended


@pytest.mark.parametrize(("grown", "ended"), [(1024, False), (1025, True)])
def test_each_running_build_adds_its_memory(tmp_path: Path, grown: int, ended: bool) -> None:
    memory = EngineMemory(ENGINE, LIMITS, lambda: 2, tmp_path)
    write_proc(tmp_path, 100)
    memory.check_limits()

    write_proc(tmp_path, 100 + grown)

    assert ("more than 1024 MiB" in memory.check_limits()) is ended


def test_memory_that_the_engine_gave_back_is_not_counted_again(tmp_path: Path) -> None:
    """What an earlier build had left when this one began is not a reserve."""
    memory = EngineMemory(ENGINE, LIMITS, proc=tmp_path)
    for used in (1000, 100):
        write_proc(tmp_path, used)
        assert memory.check_limits() == ""

    write_proc(tmp_path, 613)

    assert memory.check_limits()


@pytest.mark.parametrize(("available", "ended"), [(820, False), (819, True)])
def test_part_of_the_machine_memory_has_to_stay_available(tmp_path: Path, available: int, ended: bool) -> None:
    write_proc(tmp_path, 100, available)

    assert ("5% have to be" in EngineMemory(ENGINE, LIMITS, proc=tmp_path).check_limits()) is ended


def test_ended_engine_exceeds_no_memory_limit(tmp_path: Path) -> None:
    write_proc(tmp_path, 100)

    assert EngineMemory(ENGINE + 1, LIMITS, proc=tmp_path).check_limits() == ""


def test_memory_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    write_proc(tmp_path, 100)
    (tmp_path / str(ENGINE) / "status").write_text("Name:\tdockerd\n")

    with pytest.raises(ValueError, match="has no RssAnon"):
        EngineMemory(ENGINE, LIMITS, proc=tmp_path).check_limits()


def test_local_engine_measures_its_memory() -> None:
    """The real kernel's files, of a process that exists."""
    (look,) = LocalEngine(process=os.getpid()).make_limit_checks(LIMITS, lambda: 1, 0)

    assert look() == ""
    assert LocalEngine().make_limit_checks(LIMITS, lambda: 1, 0) == ()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A socket on which this process listens."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "engine.sock"))
        server.listen()
        yield f"unix://{tmp_path}/engine.sock"


def test_engine_is_the_process_that_listens(address: str, tmp_path: Path) -> None:
    assert find_engine_process(address, tmp_path) == os.getpid()


def test_engine_that_cannot_be_reached_is_unavailable(tmp_path):
    """A build whose engine is not measured could take all memory."""
    with pytest.raises(EngineUnavailable, match=r"The engine at unix:///.* could not be reached"):
        find_engine_process(f"unix://{tmp_path}/engine.sock", tmp_path)


@pytest.mark.parametrize(
    ("listener", "names", "process"),
    [
        (1, {"3": "dockerd", "4": "sh"}, 3),
        (1, {"3": "dockerd", "4": "dockerd"}, None),
        (1, {}, None),
        (0, {"3": "dockerd"}, None),
    ],
    ids=["systemd listens", "two engines", "no engine", "another namespace"],
)
def test_engine_whose_socket_systemd_opened_is_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listener: int, names: dict[str, str], process: int | None
) -> None:
    monkeypatch.setattr(engine_memory, "_read_listener", lambda _: listener)
    for number, name in names.items():
        (tmp_path / number).mkdir()
        (tmp_path / number / "comm").write_text(f"{name}\n")

    assert find_engine_process("unix:///engine.sock", tmp_path) == process
