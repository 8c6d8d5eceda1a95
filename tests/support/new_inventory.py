"""Inventories without images in SQLite files, each a copy of one that was migrated once in this process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from supply_chain.adapters.database import open_inventory


def new_inventory(path: Path) -> str:
    """Write an inventory of this version to a file that does not exist, and return its address."""
    with path.open("xb") as file:
        file.write(_read_migrated())
    return f"sqlite:///{path}"


@cache
def _read_migrated() -> bytes:
    with TemporaryDirectory() as directory:
        path = Path(directory, "inventory.db")
        open_inventory(f"sqlite:///{path}")
        assert [each.name for each in path.parent.iterdir()] == [path.name], "the file has everything"
        return path.read_bytes()
