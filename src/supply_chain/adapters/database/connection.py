"""Opens the inventory's database, and translates its errors to the project's errors."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from supply_chain.adapters.database.schema import migrate
from supply_chain.errors import InventoryFailed, InventoryUnavailable, SettingInvalid

AT_ONCE = 200
"""Maximum images that are read at once, and maximum values that one statement names."""
KINDS = ("sqlite", "postgresql+psycopg")
BUSY = 30_000
"""Milliseconds that a writer waits for another writer (SQLite)."""

T = TypeVar("T")


def connect(address: str) -> Engine:
    """Open the database at `sqlite:///PATH` or `postgresql+psycopg://…`, and migrate its tables to this version.

    Raises `SettingInvalid` for any other address, and `InventoryUnavailable` if the database does not answer.
    """
    try:
        url = make_url(address)
    except ArgumentError as error:
        raise _parse_address(address) from error
    if url.drivername not in KINDS:
        raise _parse_address(f"{url.drivername}://…")
    engine = create_engine(url, poolclass=NullPool)  # one connection per use: not shared by processes, and closed
    if url.drivername == "sqlite":
        event.listen(engine, "connect", _sqlite)
    with translate_errors("prepare"):
        migrate(engine)
    return engine


def _parse_address(address: str) -> SettingInvalid:
    return SettingInvalid(
        f"{address!r} is not the address of an inventory.\n"
        "Write sqlite:////absolute/path or postgresql+psycopg://user@host/database in the block `inventory`."
    )


def _sqlite(connection: Any, _: object) -> None:
    for pragma in (f"busy_timeout={BUSY}", "foreign_keys=ON", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")
    _write_ahead(connection)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging, so that readers and a writer can work at once; try again while the file is locked.

    SQLite switches a new file from within a read. There it does not wait for another process that does the same,
    whatever `busy_timeout` is, and reports that the file is locked.
    """
    until = time.monotonic() + BUSY / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(random.uniform(0.01, 0.05))  # noqa: S311 (no secret: keeps two processes from colliding again)
        else:
            return


@contextlib.contextmanager
def translate_errors(doing: str) -> Iterator[None]:
    """Translate the database's errors to the project's errors; `doing` completes "could not …"."""
    try:
        yield
    except OperationalError as error:
        raise InventoryUnavailable(
            f"The inventory's database could not {doing}: {error.orig}\n"
            "Check that it runs and the address in the block `inventory`; the step is retried."
        ) from error
    except DBAPIError as error:
        raise InventoryFailed(
            f"The inventory's database refused to {doing}: {error.orig}\n"
            "Read its log. The inventory can be rebuilt from registry and hosts: `cscm inventory --rebuild`."
        ) from error


def split_batches(values: Sequence[T], size: int) -> Iterator[list[T]]:
    """Yield the values in lists of at most `size`."""
    left = iter(values)
    while part := list(islice(left, size)):
        yield part


def format_time(at: datetime) -> str:
    """Return a time as text in UTC, always with microseconds, so that texts sort as times do."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
