"""The inventory on SQLite."""

import contextlib
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from supply_chain.adapters.database import connection as database
from supply_chain.adapters.database import open_inventory
from supply_chain.adapters.database.connection import instant
from supply_chain.adapters.database.schema import VERSION, changing, configuration
from supply_chain.adapters.database.tables import metadata
from supply_chain.errors import InventoryFailed, InventoryUnavailable, SettingInvalid
from supply_chain.evidence.sbom import version_in
from supply_chain.model.image import StorageStatus
from tests.contract.inventory import NOON, InventoryContract, digest, entry, scan, stored


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


@pytest.mark.parametrize("step", ["0001", "0002"])
def test_an_older_inventory_says_that_it_knows_nothing_until_it_is_read_anew(tmp_path, step):
    """Of what a step forgot nobody is told that it is in no image."""
    engine = create_engine(f"sqlite:///{tmp_path}/inventory.db")
    with changing(engine) as connection:
        command.upgrade(configuration(connection), step)
        ref = entry(1).image.ref
        image = (ref.repository, ref.digest, "hello", "", digest(801), "mark 1", entry(1).image.model_dump_json())
        connection.exec_driver_sql(
            "INSERT INTO images (repository, digest, application, pushed, sbom, mark, document)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)", image,
        )  # fmt: skip
        connection.exec_driver_sql("INSERT INTO facts VALUES ('reconciled', '2026-11-24T12:00:00+00:00')")
    inventory = open_inventory(f"sqlite:///{tmp_path}/inventory.db")

    assert (inventory.reconciled(), inventory.unlisted(), inventory.unscanned()) == (None, 1, 1)
    assert inventory.marks("hello") == {ref: ""} and len(list(inventory.images())) == 1


def test_an_older_inventory_knows_what_is_archived_without_reading_it_again(tmp_path):
    """However the document was written, and whatever else stands in it."""
    engine = create_engine(f"sqlite:///{tmp_path}/inventory.db")
    archived = {"status": StorageStatus.ARCHIVED}
    images = [
        entry(
            n, owner='"status":"ARCHIVED"', stored=stored(n, **(archived if n else {})), scan=scan() if n else None
        ).image
        for n in range(3)
    ]
    documents = [each.model_dump_json() for each in images[:2]] + [json.dumps(images[2].model_dump(mode="json"))]
    with changing(engine) as connection:
        command.upgrade(configuration(connection), "0003")
        for each, document in zip(images, documents, strict=True):
            row = (each.ref.repository, each.ref.digest, "hello", "", True, "mark", document)
            connection.exec_driver_sql(
                "INSERT INTO images (repository, digest, application, pushed, scanned, mark, document)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)", row,
            )  # fmt: skip
    inventory = open_inventory(f"sqlite:///{tmp_path}/inventory.db")

    assert set(inventory.marks("hello").values()) == {"mark"} and list(inventory.images()) == images
    assert (inventory.unscanned(), inventory.by_starter()) == (2, 2)


def test_an_older_inventory_reads_what_is_gone_again_and_knows_what_cannot_be_read(tmp_path):
    """Of what is gone only the deployments were kept; nothing else is read again for it."""
    engine = create_engine(f"sqlite:///{tmp_path}/inventory.db")
    spoilt = entry(2, owner='"unreadable":""', unreadable="x").image
    documents = [
        entry(1).image.model_dump_json(),
        spoilt.model_dump_json(),
        json.dumps(entry(3).image.model_dump(mode="json")),
    ]
    with changing(engine) as connection:
        command.upgrade(configuration(connection), "0004")
        for number, document in enumerate(documents, 1):
            ref = entry(number).image.ref
            row = (ref.repository, ref.digest, "hello", "", number == 1, "mark", document)
            connection.exec_driver_sql(
                "INSERT INTO images (repository, digest, application, pushed, gone, mark, document)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)", row,
            )  # fmt: skip
    inventory = open_inventory(f"sqlite:///{tmp_path}/inventory.db")

    assert list(inventory.marks("hello").values()) == ["", "mark", "mark"]
    assert (inventory.unreadable(), inventory.unlisted()) == (1, 1)


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
