"""The contract of the inventory on PostgreSQL, with a server of the test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from supply_chain.adapters.database import open_inventory
from supply_chain.errors import InventoryUnavailable, SupplyChainError
from tests.contract.inventory import InventoryContract
from tests.support.place import free_port

DEBIAN = Path("/usr/lib/postgresql")
NOBODY = "postgres"
"""The user that runs the server if the tests run as root, because PostgreSQL refuses root."""


def program(name: str) -> str:
    """Return a program of the newest installed PostgreSQL: from Debian's packages, or from PATH."""
    versions = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = str(versions[-1]) if versions else shutil.which(name)
    assert found, f"{name} is needed: install Debian's package postgresql (scripts/test-programs does, as root)"
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty server; its files are removed after the tests."""
    place = Path(f"/tmp/cscm-pg-{uuid4().hex[:8]}")
    place.mkdir(mode=0o700)
    as_root = os.geteuid() == 0
    if as_root:
        shutil.chown(place, NOBODY, NOBODY)
    who = ["runuser", "-u", NOBODY, "--"] if as_root else []
    port = free_port()

    def run(*command: str | Path) -> None:
        done = subprocess.run([*who, *command], capture_output=True, text=True, check=False, cwd=place, timeout=120)
        assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"

    try:
        run(program("initdb"), "--pgdata", place / "data", "--auth", "trust", "--username", "cscm", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={place} -c fsync=off"
        start = (program("pg_ctl"), "--pgdata", place / "data", "--log", place / "log", "--wait", "-o", options)
        run(*start, "start")
        try:
            yield f"postgresql+psycopg://cscm@127.0.0.1:{port}"
        finally:
            run(program("pg_ctl"), "--pgdata", place / "data", "--mode", "immediate", "--wait", "stop")
    finally:
        shutil.rmtree(place, ignore_errors=True)


class TestPostgres(InventoryContract):
    @pytest.fixture
    def address(self, cluster: str) -> str:
        name = f"t{uuid4().hex[:12]}"
        with create_engine(
            f"{cluster}/postgres", isolation_level="AUTOCOMMIT", poolclass=NullPool
        ).connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        return f"{cluster}/{name}"

    def test_missing_database_raises_retryable_inventory_unavailable(self, address: str) -> None:
        """The step can succeed when the server is back."""
        inventory = open_inventory(address)
        at = inventory.engine.url
        with create_engine(
            at.set(database="postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool
        ).connect() as connection:
            connection.execute(text(f"DROP DATABASE {at.database} WITH (FORCE)"))

        with pytest.raises(InventoryUnavailable) as raised:
            inventory.applications()
        assert raised.value.retryable
        assert isinstance(raised.value, SupplyChainError)
