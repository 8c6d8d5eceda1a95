"""Migrates a database to the tables of this version."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

LOCK = 0x6373636D
"""The PostgreSQL advisory lock that a migration holds."""
VERSION = "inventory_version"


def make_configuration(connection: Connection) -> Config:
    """Return Alembic's configuration for one connection; no file is read."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def migrate(engine: Engine) -> None:
    """Create or change the tables in one transaction; only one process does so at a time."""
    with write_transaction(engine) as connection:
        config = make_configuration(connection)
        head = ScriptDirectory.from_config(config).get_current_head()
        current = MigrationContext.configure(connection, opts={"version_table": VERSION}).get_current_revision()
        if current != head:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            command.upgrade(config, "head")


SNAPSHOT = {"sqlite": "BEGIN", "postgresql": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"}
"""Statement that lets a whole transaction see one snapshot. The module sqlite3 does not begin one by itself for a read.
"""


@contextlib.contextmanager
def read_transaction(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a transaction that sees the database as it is at its first query."""
    with engine.connect() as connection:
        connection.exec_driver_sql(SNAPSHOT[connection.dialect.name])
        yield connection


@contextlib.contextmanager
def write_transaction(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a transaction that writes; with SQLite, it waits for other writers at its start."""
    with engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection
