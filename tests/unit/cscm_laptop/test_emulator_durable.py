"""No answer before its state is on disk; blobs are files that are whole or not there."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cscm_laptop.emulator.blobs import Blobs, DigestMismatch
from cscm_laptop.emulator.durable import Part, holding, settle_all, sweep, write_durably


class Service:
    """A pretended service: its state is what was put into it, and everything it does is in `events`."""

    def __init__(self, path: Path) -> None:
        self.state: list[str] = []
        self.events: list[str] = []
        self.part = Part(path, lambda: ",".join(self.state).encode(), self.write)
        self.before_write: Callable[[], Any] = lambda: None

    def write(self, path: Path, data: bytes) -> None:
        self.before_write()
        write_durably(path, data)
        self.events.append(f"disk:{data.decode()}")

    async def put(self, value: str) -> None:
        """An ASGI application that changes its state and answers."""

        async def send(message: Any) -> None:
            self.events.append(f"{message['type']}:{value}")

        held = holding(send, lambda: settle_all([self.part], changed=True))
        self.state.append(value)
        await held({"type": "http.response.start", "status": 200, "headers": []})
        await held({"type": "http.response.body", "body": b""})


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path / "service.json")


async def test_the_state_is_on_disk_before_the_answer_begins(service: Service) -> None:
    """First the disk, then the first byte of the answer."""
    await service.put("a")

    assert service.events == ["disk:a", "http.response.start:a", "http.response.body:a"]


async def test_each_of_many_answers_waits_for_a_write_that_has_its_change(service: Service, tmp_path: Path) -> None:
    """Concurrent changes share writes, and none is answered before a write that has it."""
    await asyncio.gather(*(service.put(f"v{number}") for number in range(50)))

    written: set[str] = set()
    for event in service.events:
        kind, _, value = event.partition(":")
        if kind == "disk":
            written = set(value.split(","))
        else:
            assert value in written, event
    writes = [event for event in service.events if event.startswith("disk")]
    assert len(writes) < 10
    assert (tmp_path / "service.json").read_text().split(",") == service.state


async def test_a_failed_write_is_no_answer(service: Service) -> None:
    """When the disk is full the client hears nothing good, and the next change is not told of either."""

    def full() -> None:
        raise OSError("no space left on device")

    service.before_write = full
    for value in ("a", "b"):
        with pytest.raises(OSError, match="no space"):
            await service.put(value)
    service.before_write = lambda: None
    await service.put("c")

    assert service.events == ["disk:a,b,c", "http.response.start:c", "http.response.body:c"]


async def test_a_read_waits_for_the_write_it_may_have_seen(service: Service) -> None:
    """Nobody is told of a change that could still be undone."""
    gate = threading.Event()
    service.before_write = gate.wait
    writing = asyncio.create_task(service.put("a"))
    await asyncio.sleep(0.01)
    reading = asyncio.create_task(settle_all([service.part], changed=False))
    done, _ = await asyncio.wait([reading], timeout=0.05)
    assert not done

    gate.set()
    await asyncio.gather(writing, reading)


async def test_a_client_that_leaves_does_not_end_the_write(service: Service, tmp_path: Path) -> None:
    """A cancelled request leaves its write running, so that a later one cannot be overtaken by it."""
    gate = threading.Event()
    service.before_write = gate.wait
    leaving = asyncio.create_task(service.put("a"))
    await asyncio.sleep(0.01)
    leaving.cancel()
    following = asyncio.create_task(service.put("b"))
    await asyncio.sleep(0.01)
    gate.set()
    await following

    assert [event for event in service.events if event.startswith("disk")] == ["disk:a", "disk:a,b"]
    assert (tmp_path / "service.json").read_text() == "a,b"


async def test_what_did_not_change_is_not_written(service: Service) -> None:
    """A request that only might have changed something costs no write."""
    await service.put("a")
    await settle_all([service.part], changed=True)

    assert service.events.count("disk:a") == 1


def test_a_write_is_synced_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, then name, then directory: the order in which nothing can be lost."""
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(handle: int) -> None:
        order.append("directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def noted_replace(self: Path, target: Path) -> Path:
        order.append("name")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_durably(tmp_path / "state", b"new")
    Blobs(tmp_path).add(b"a blob")

    assert order == ["file", "name", "directory"] * 2
    assert (tmp_path / "state").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o600


def test_leftovers_of_an_interrupted_write_are_swept(tmp_path: Path) -> None:
    """A temporary file goes, the state beside it stays."""
    (tmp_path / "ecr.json.tmp").write_bytes(b"half")
    write_durably(tmp_path / "ecr.json", b"whole")
    (tmp_path / "kms.json.tmp").write_bytes(b"half")

    sweep(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["ecr.json"]


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_a_blob_is_not_there_before_it_is_whole(tmp_path: Path) -> None:
    """An upload shows nothing until it is finished, and then everything."""
    blobs = Blobs(tmp_path)
    upload = blobs.begin()
    upload.append(b"ab")
    assert not blobs.path(digest_of(b"ab")).exists()

    upload.append(b"cd")
    upload.finish(digest_of(b"abcd"))

    assert blobs.path(digest_of(b"abcd")).read_bytes() == b"abcd"
    assert not list((tmp_path / "uploads").iterdir())


def test_a_blob_that_is_something_else_is_refused_and_forgotten(tmp_path: Path) -> None:
    """Bytes are stored under their own digest only."""
    blobs = Blobs(tmp_path)
    upload = blobs.begin()
    upload.append(b"ab")

    with pytest.raises(DigestMismatch):
        upload.finish(digest_of(b"other"))

    assert not list((tmp_path / "uploads").iterdir())
    assert not list((tmp_path / "blobs" / "sha256").iterdir())


def test_a_blob_is_written_once(tmp_path: Path) -> None:
    """The same content again leaves the file alone; a file of the wrong length is replaced."""
    blobs = Blobs(tmp_path)
    path = blobs.path(blobs.add(b"content"))
    first = path.stat().st_ino
    blobs.add(b"content")
    assert path.stat().st_ino == first

    path.write_bytes(b"cont")
    blobs.add(b"content")

    assert path.read_bytes() == b"content"


def test_only_what_is_referred_to_is_kept(tmp_path: Path) -> None:
    """Blobs that no image and no layer names take no space after the next start."""
    blobs = Blobs(tmp_path)
    kept, gone = blobs.add(b"kept"), blobs.add(b"gone")

    blobs.keep_only({kept})

    assert blobs.path(kept).exists()
    assert not blobs.path(gone).exists()


@pytest.mark.parametrize("digest", ["sha256:../../etc/passwd", "sha512:" + "0" * 64, "sha256:" + "A" * 64, ""])
def test_a_digest_is_no_path(tmp_path: Path, digest: str) -> None:
    """What is not a sha256 digest names no file."""
    with pytest.raises(ValueError, match="not a sha256 digest"):
        Blobs(tmp_path).path(digest)
