"""A journal of a lifecycle plan in memory, with the methods of `adapters.files.plan_journal.FileJournal`."""

from __future__ import annotations

from supply_chain.lifecycle.apply import Entry


class MemoryJournal(list[Entry]):
    """Entries in a list, which a test may change."""

    def entries(self) -> tuple[Entry, ...]:
        return tuple(self)

    def add(self, entry: Entry) -> None:
        self.append(entry)
