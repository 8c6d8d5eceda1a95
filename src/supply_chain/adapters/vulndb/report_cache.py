"""Caches this machine's scan reports in files, one for each SBOM, database, scanner version and configuration.

The cache saves work and proves nothing: gates trust only signed evidence. A cached report may be signed by the user of
this process, so the directory must belong to this user alone, and files of other users are ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from supply_chain.adapters.files.private_files import PrivateFiles
from supply_chain.model.image import Model
from supply_chain.vulnerability.findings import Report
from supply_chain.vulnerability.matching import Key


class _CachedReport(Model):
    """The content of a file. It includes the key, so that a file that was renamed is not accepted."""

    key: Key
    report: Report


@dataclass(frozen=True)
class ReportCache:
    """The cached reports below a directory."""

    directory: Path

    def get(self, key: Key) -> Report | None:
        """Return the report for this key; None if there is no complete report of this user for this key."""
        content = self._files.read(*_cache_key(key))
        if content is None:
            return None
        try:
            cached = _CachedReport.model_validate_json(content)
        except ValidationError:
            return None
        return cached.report if cached.key == key and Key.of_report(cached.report) == key else None

    def put(self, key: Key, report: Report) -> None:
        """Store a report; raise `SettingInvalid` if others have access to the directory.

        An earlier report stays if the new one cannot be written completely.
        """
        self._files.write(*_cache_key(key), _CachedReport(key=key, report=report).model_dump_json().encode())

    def forget_others(self, database: str) -> None:
        """Remove the reports that were made with other databases, because they are not used any more."""
        self._files.forget_places(_name(database))

    @property
    def _files(self) -> PrivateFiles:
        return PrivateFiles(self.directory)


def _cache_key(key: Key) -> tuple[str, str]:
    return _name(key.database), f"{key.name}.json"


def _name(database: str) -> str:
    """Return the name of the directory for a database's reports."""
    return re.sub(r"[^A-Za-z0-9]", "-", database) or "none"
