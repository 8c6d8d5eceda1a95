"""The registry's blobs: files named by their digest, written once and not held in memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import time
from pathlib import Path
from typing import BinaryIO, TypeVar

from cscm_laptop.emulator.durable import sync_directory

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
BLOCK = 256 * 1024
IDLE = 3600.0
"""Seconds without data after which an upload is abandoned, because its client was killed."""

K = TypeVar("K")


class DigestMismatch(Exception):
    """The uploaded content does not have the declared digest."""


class Blobs:
    """Content-addressed files below a directory; a blob exists completely or not at all."""

    def __init__(self, directory: Path) -> None:
        self._stored = directory / "blobs" / "sha256"
        self._incoming = directory / "uploads"
        for place in (self._stored, self._incoming):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)

    def sweep(self) -> None:
        """Remove uploads that were never finished."""
        for leftover in self._incoming.iterdir():
            leftover.unlink()

    def keep_only(self, digests: set[str]) -> None:
        """Remove blobs that are not in `digests`; call this only before any request is served."""
        for path in self._stored.iterdir():
            if f"sha256:{path.name}" not in digests:
                path.unlink()

    def path(self, digest: str) -> Path:
        """Return the path of a blob, existing or not; raise `ValueError` if `digest` is not a sha256 digest."""
        if not DIGEST.fullmatch(digest):
            raise ValueError(f"{digest!r} is not a sha256 digest")
        return self._stored / digest.removeprefix("sha256:")

    def has(self, digest: str, size: int) -> bool:
        """Return whether the blob's file exists and has `size` bytes."""
        try:
            return self.path(digest).stat().st_size == size
        except FileNotFoundError:
            return False

    def begin(self) -> Upload:
        """Return a new, empty upload."""
        identity = secrets.token_hex(16)
        return Upload(identity, self._incoming / identity, self)

    def add(self, data: bytes) -> str:
        """Store `data` as a blob and return its digest; it is on disk when this returns."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if not self.has(digest, len(data)):
            upload = self.begin()
            upload.append(data)
            upload.finish(digest)
        return digest


class Upload:
    """A blob that is being uploaded: data is appended to a file, which is finally named by its digest.

    `at` is the time of the last data (monotonic seconds). `turn` is the lock that serialises its requests.
    """

    def __init__(self, identity: str, path: Path, blobs: Blobs) -> None:
        self.identity, self.size, self.at = identity, 0, time.monotonic()
        self.lock = asyncio.Lock()
        self._path, self._blobs = path, blobs
        self._hash = hashlib.sha256()
        self._file: BinaryIO = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def append(self, data: bytes) -> None:
        """Append the next data."""
        self._file.write(data)
        self._hash.update(data)
        self.size, self.at = self.size + len(data), time.monotonic()

    def finish(self, digest: str) -> None:
        """Turn the upload into a blob that is on disk when this returns.

        Raises `DigestMismatch`, after discarding the data, if it does not have the digest.
        """
        actual = "sha256:" + self._hash.hexdigest()
        if actual != digest:
            self.discard()
            raise DigestMismatch(actual)
        target = self._blobs.path(digest)
        if self._blobs.has(digest, self.size):
            self.discard()
        else:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._path.replace(target)
        sync_directory(target.parent)

    def discard(self) -> None:
        """Remove the data."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def give_up(uploads: dict[K, Upload]) -> None:
    """Discard the uploads that received no data for `IDLE` seconds and that no request works on."""
    for key, upload in list(uploads.items()):
        if time.monotonic() - upload.at > IDLE and not upload.lock.locked():
            upload.discard()
            del uploads[key]
