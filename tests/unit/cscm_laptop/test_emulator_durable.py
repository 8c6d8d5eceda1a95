"""Durability: no response is sent before its state is on disk, and a blob is complete or absent."""

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
    """A service whose state is a list of values, and which records its actions in `events`."""

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
        """Change the state and respond, like an ASGI application."""

        async def send(message: Any) -> None:
            self.events.append(f"{message['type']}:{value}")

        held = holding(send, lambda: settle_all([self.part], changed=True))
        self.state.append(value)
        await held({"type": "http.response.start", "status": 200, "headers": []})
        await held({"type": "http.response.body", "body": b""})


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path / "service.json")


async def test_state_is_on_disk_before_response_starts(service: Service) -> None:
    """The disk comes first, then the first byte of the response."""
    await service.put("a")

    assert service.events == ["disk:a", "http.response.start:a", "http.response.body:a"]


async def test_each_response_waits_for_write_with_its_change(service: Service, tmp_path: Path) -> None:
    """Concurrent changes share writes, and no response is sent before a write that has its change."""
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


async def test_failed_write_sends_no_response(service: Service) -> None:
    """If the disk is full, neither this change nor the next is confirmed."""

    def full() -> None:
        raise OSError("no space left on device")

    service.before_write = full
    for value in ("a", "b"):
        with pytest.raises(OSError, match="no space"):
            await service.put(value)
    service.before_write = lambda: None
    await service.put("c")

    assert service.events == ["disk:a,b,c", "http.response.start:c", "http.response.body:c"]


async def test_read_waits_for_pending_write(service: Service) -> None:
    """A client must not see a change that may still be lost."""
    gate = threading.Event()
    service.before_write = gate.wait
    writing = asyncio.create_task(service.put("a"))
    await asyncio.sleep(0.01)
    reading = asyncio.create_task(settle_all([service.part], changed=False))
    done, _ = await asyncio.wait([reading], timeout=0.05)
    assert not done

    gate.set()
    await asyncio.gather(writing, reading)


async def test_cancelled_request_does_not_cancel_its_write(service: Service, tmp_path: Path) -> None:
    """Otherwise it could overtake a later write."""
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


async def test_unchanged_state_is_not_written(service: Service) -> None:
    """A request that changed nothing costs no write."""
    await service.put("a")
    await settle_all([service.part], changed=True)

    assert service.events.count("disk:a") == 1


def test_write_is_synced_before_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is file, name, directory, so that nothing can be lost."""
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


def test_sweep_removes_temporary_files_of_interrupted_writes(tmp_path: Path) -> None:
    """The state itself stays."""
    (tmp_path / "ecr.json.tmp").write_bytes(b"half")
    write_durably(tmp_path / "ecr.json", b"whole")
    (tmp_path / "kms.json.tmp").write_bytes(b"half")

    sweep(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["ecr.json"]


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_blob_is_absent_until_upload_is_finished(tmp_path: Path) -> None:
    """An upload is not visible before."""
    blobs = Blobs(tmp_path)
    upload = blobs.begin()
    upload.append(b"ab")
    assert not blobs.path(digest_of(b"ab")).exists()

    upload.append(b"cd")
    upload.finish(digest_of(b"abcd"))

    assert blobs.path(digest_of(b"abcd")).read_bytes() == b"abcd"
    assert not list((tmp_path / "uploads").iterdir())


def test_blob_with_wrong_digest_is_refused_and_removed(tmp_path: Path) -> None:
    """Content is stored under its own digest only."""
    blobs = Blobs(tmp_path)
    upload = blobs.begin()
    upload.append(b"ab")

    with pytest.raises(DigestMismatch):
        upload.finish(digest_of(b"other"))

    assert not list((tmp_path / "uploads").iterdir())
    assert not list((tmp_path / "blobs" / "sha256").iterdir())


def test_same_blob_is_written_once(tmp_path: Path) -> None:
    """A file of the wrong length is replaced."""
    blobs = Blobs(tmp_path)
    path = blobs.path(blobs.add(b"content"))
    first = path.stat().st_ino
    blobs.add(b"content")
    assert path.stat().st_ino == first

    path.write_bytes(b"cont")
    blobs.add(b"content")

    assert path.read_bytes() == b"content"


def test_keep_only_removes_unreferenced_blobs(tmp_path: Path) -> None:
    """Unused blobs take no space after the next start."""
    blobs = Blobs(tmp_path)
    referenced, gone = blobs.add(b"kept"), blobs.add(b"gone")

    blobs.keep_only({referenced})

    assert blobs.path(referenced).exists()
    assert not blobs.path(gone).exists()


@pytest.mark.parametrize("digest", ["sha256:../../etc/passwd", "sha512:" + "0" * 64, "sha256:" + "A" * 64, ""])
def test_blob_path_refuses_invalid_digest(tmp_path: Path, digest: str) -> None:
    """A digest must not be used as a path."""
    with pytest.raises(ValueError, match="not a sha256 digest"):
        Blobs(tmp_path).path(digest)
