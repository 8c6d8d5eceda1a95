"""Reports that this machine made, in files: one for each SBOM, database, scanner version and configuration.

They spare work and prove nothing: what a gate believes is signed evidence. As what is found there may be signed
by whoever runs here, the directory is this user's alone, and a file of anybody else counts as none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from supply_chain.adapters.files.private_files import OwnFiles
from supply_chain.model.image import Frozen
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
        content = self._files.read(*_where(key))
        if content is None:
            return None
        try:
            kept = _Kept.model_validate_json(content)
        except ValidationError:
            return None
        return kept.report if kept.key == key and Key.made(kept.report) == key else None

    def put(self, key: Key, report: Report) -> None:
        """Keep it, or what was there before; `SettingInvalid` where the directory is open to others."""
        self._files.write(*_where(key), _Kept(key=key, report=report).model_dump_json().encode())

    def forget_others(self, database: str) -> None:
        """Remove what rests on other databases than this one: nobody will ask for it."""
        self._files.forget_places(_name(database))

    @property
    def _files(self) -> OwnFiles:
        return OwnFiles(self.directory)


def _where(key: Key) -> tuple[str, str]:
    return _name(key.database), f"{key.name}.json"


def _name(database: str) -> str:
    """The directory of a database's reports."""
    return re.sub(r"[^A-Za-z0-9]", "-", database) or "none"
