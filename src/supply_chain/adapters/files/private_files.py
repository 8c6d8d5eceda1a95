"""Cache files of one user, below the user's own directory: complete, and readable by nobody else."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from supply_chain.adapters.files.free_space import find_shortage
from supply_chain.errors import SettingInvalid
from supply_chain.scratch import translate_disk_full, write_private

USED = 24 * 3600.0
"""Seconds after which a read updates a file's time, which shows when the file was last used."""


@dataclass(frozen=True)
class PrivateFiles:
    """Files below a directory, addressed by subdirectory and file name."""

    directory: Path

    def read(self, place: str, name: str) -> bytes | None:
        """Return a file's content; None if there is no file, or if it is not private to this user."""
        path = self.directory / place / name
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a FIFO of others would block
        except OSError:
            return None
        with os.fdopen(file, "rb") as opened:
            about = os.fstat(opened.fileno())
            is_own = about.st_uid == os.geteuid() and not stat.S_IMODE(about.st_mode) & 0o077
            if not is_own or not stat.S_ISREG(about.st_mode):
                return None
            if about.st_mtime < time.time() - USED:
                os.utime(opened.fileno())
            return opened.read()

    def write(self, place: str, name: str, content: bytes) -> None:
        """Replace a file atomically; do nothing where little space is free, because others need it.

        Raise `SettingInvalid` if others can write to the directory.
        """
        self._private()
        if find_shortage(self.directory):
            return
        with translate_disk_full():
            write_private(self.directory / place / name, content, lasting=False)  # no fsync: may be lost in a crash

    def forget_places(self, but: str) -> None:
        """Remove every subdirectory except one."""
        for place in self.directory.glob("*"):
            if place.name != but:
                shutil.rmtree(place, ignore_errors=True)

    def forget_unused(self, seconds: float) -> None:
        """Remove the files that nobody read for `seconds`, which have to be more than `USED`."""
        before = time.time() - seconds
        for file in self._files():
            with contextlib.suppress(OSError):  # already removed, or another user's: it only takes space
                if file.stat(follow_symlinks=False).st_mtime < before:
                    Path(file).unlink()

    def _files(self) -> Iterator[os.DirEntry[str]]:
        for place in self.directory.glob("*"):
            with contextlib.suppress(OSError), os.scandir(place) as entries:
                yield from entries

    def _private(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = self.directory.stat()
        if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o022:
            raise SettingInvalid(
                f"Other users can write to {self.directory}, the cache of this user.\n"
                "Name a directory of this user's own in the workbench's block, or remove their right (chmod 700)."
            )
