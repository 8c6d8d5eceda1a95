"""The inventory on SQLite."""

import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from supply_chain.adapters.inventory import database, open_inventory
from supply_chain.adapters.inventory.database import instant
from supply_chain.adapters.inventory.schema import VERSION
from supply_chain.adapters.inventory.tables import metadata
from supply_chain.errors import InventoryFailed, InventoryUnavailable, SettingInvalid
from supply_chain.evidence.sbom import version_in
from tests.inventory.contract import NOON, InventoryContract, entry


class TestSqlite(InventoryContract):
    @pytest.fixture
    def address(self, tmp_path):
        return f"sqlite:///{tmp_path}/inventory.db"


def test_the_steps_lead_to_the_tables(tmp_path):
    """A table that is changed without a step is missing where the inventory was made before."""
    inventory = open_inventory(f"sqlite:///{tmp_path}/inventory.db")

    with inventory.engine.connect() as connection:
        known = MigrationContext.configure(connection, opts={"version_table": VERSION})
        assert compare_metadata(known, metadata) == []


def test_keeps_what_it_has_when_it_is_opened_again(tmp_path):
    """By another process, of the same version."""
    address = f"sqlite:///{tmp_path}/inventory.db"
    open_inventory(address).put([entry(1)])

    assert len(list(open_inventory(address).images())) == 1


@pytest.mark.parametrize("address", ["", "inventory.db", "mysql://x/y", "sqlite+aiosqlite:///x", "postgresql://x/y"])
def test_another_address_is_refused(address):
    """With what would be one, and without the password that may stand in it."""
    with pytest.raises(SettingInvalid, match="sqlite:////absolute/path"):
        open_inventory(address)


def test_a_place_that_cannot_be_is_told(tmp_path):
    """It may be there the next time."""
    with pytest.raises(InventoryUnavailable, match="unable to open") as told:
        open_inventory(f"sqlite:///{tmp_path}/nowhere/inventory.db")
    assert told.value.retryable


@contextlib.contextmanager
def written_by_another(path):
    """A file that is no inventory yet, in the midst of being written; the connection ends it by COMMIT."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.executescript("BEGIN IMMEDIATE; CREATE TABLE x (y);")
        yield other


def test_a_new_file_that_another_one_writes_is_waited_for(tmp_path):
    """Of one that changes how a file is written SQLite itself says that it is locked, and lets nobody wait."""
    path = tmp_path / "inventory.db"
    with written_by_another(path) as other, ThreadPoolExecutor(1) as pool:
        opened = pool.submit(open_inventory, f"sqlite:///{path}")
        with pytest.raises(TimeoutError):
            opened.result(0.3)
        other.execute("COMMIT")
        opened.result(30).put([entry(1)])


def test_it_is_not_waited_for_without_end(tmp_path, monkeypatch):
    """The step is tried again."""
    monkeypatch.setattr(database, "BUSY", 50)
    with written_by_another(tmp_path / "inventory.db"), pytest.raises(InventoryUnavailable, match="database is locked"):
        open_inventory(f"sqlite:///{tmp_path}/inventory.db")


def test_what_is_no_database_is_told(tmp_path):
    """And left as it is."""
    path = tmp_path / "inventory.db"
    path.write_text("these are my notes, and they are no database at all")

    with pytest.raises(InventoryFailed, match="not a database"):
        open_inventory(f"sqlite:///{path}")
    assert path.read_text().startswith("these are my notes")


@pytest.mark.parametrize(
    ("purl", "version"),
    [
        ("pkg:deb/debian/zlib1g@1%3A1.2.13?arch=amd64", "1:1.2.13"),
        ("pkg:npm/%40scope/name@1.0.0", "1.0.0"),
        ("pkg:npm/%40scope/name", ""),
        ("pkg:golang/github.com/a@b/c@v1#sub", "v1"),
        ("pkg:generic/name", ""),
        ("", ""),
    ],
)
def test_the_version_is_read_out_of_a_package_url(purl, version):
    """Decoded, and only where one stands."""
    assert version_in(purl) == version


def test_instants_sort_as_text():
    """Whatever their zone, and whether or not they have a fraction."""
    half = NOON.replace(microsecond=500_000)
    assert sorted([instant(half), instant(NOON)]) == [instant(NOON), instant(half)]
    assert instant(NOON.astimezone(None)) == instant(NOON.astimezone(UTC))
