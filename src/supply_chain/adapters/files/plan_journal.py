"""Journal of a lifecycle plan in a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from supply_chain.lifecycle.apply import Entry


@dataclass(frozen=True)
class FileJournal:
    """Implementation of `lifecycle.apply.PlanJournal` with one line per entry; an incomplete line does not count."""

    path: Path

    def entries(self) -> tuple[Entry, ...]:
        """Return the complete entries."""
        return tuple(self._read())

    def _read(self) -> Iterator[Entry]:
        if not self.path.exists():
            return
        for line in self.path.read_bytes().splitlines():
            try:
                yield Entry.model_validate_json(line)
            except ValidationError:
                continue

    def add(self, entry: Entry) -> None:
        """Append an entry and flush it to the disk."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(b"\n" + entry.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())
