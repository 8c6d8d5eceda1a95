"""Reports that this machine made, in files: one for each SBOM, database, scanner version and configuration.

They spare work and prove nothing: what a gate believes is signed evidence. As what is found there may be signed
by whoever runs here, the directory is this user's alone, and a file of anybody else counts as none.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from supply_chain.errors import SettingInvalid
from supply_chain.image import Frozen
from supply_chain.scratch import disk_full_told
from supply_chain.vulnerability.findings import Report
from supply_chain.vulnerability.matching import Key


class _Kept(Frozen):
    """What is in a file: a file that was moved to another name is not of that name."""

    key: Key
    report: Report


@dataclass(frozen=True)
class KeptResults:
    """Reports below a directory."""

    directory: Path

    def get(self, key: Key) -> Report | None:
        """The report of this key; None where there is none that is whole, of this user, and of this key."""
        try:
            file = os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return None
        with os.fdopen(file, "rb") as opened:
            about = os.fstat(opened.fileno())
            if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o077:
                return None
            try:
                kept = _Kept.model_validate_json(opened.read())
            except ValidationError:
                return None
        return kept.report if kept.key == key and Key.made(kept.report) == key else None

    def put(self, key: Key, report: Report) -> None:
        """Keep a whole file, or the one before; `SettingInvalid` where the directory is open to others."""
        self._private()
        path = self._path(key)
        with disk_full_told():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            file, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mode 0600
            try:
                with os.fdopen(file, "wb") as opened:  # not forced to the disk: one that is cut off counts as none
                    opened.write(_Kept(key=key, report=report).model_dump_json().encode())
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise

    def forget_others(self, database: str) -> None:
        """Remove what rests on other databases than this one: nobody will ask for it."""
        for place in self.directory.glob("*"):
            if place.name != _name(database):
                shutil.rmtree(place, ignore_errors=True)

    def _path(self, key: Key) -> Path:
        return self.directory / _name(key.database) / f"{key.name}.json"

    def _private(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = self.directory.stat()
        if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o022:
            raise SettingInvalid(
                f"Others can write to {self.directory}, where reports of scans are kept.\n"
                "Name a directory of this user's own in the workbench's block, or take the right away (chmod 700)."
            )


def _name(database: str) -> str:
    """The directory of a database's reports."""
    return re.sub(r"[^A-Za-z0-9]", "-", database) or "none"
