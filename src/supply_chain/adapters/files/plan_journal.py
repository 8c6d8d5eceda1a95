"""A lifecycle plan's journal, in a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from supply_chain.lifecycle.apply import Entry


@dataclass(frozen=True)
class FileJournal:
    """Implements `lifecycle.apply.Journal`: a line for each entry. One that was cut off was not written."""

    path: Path

    def entries(self) -> tuple[Entry, ...]:
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
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(b"\n" + entry.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())
