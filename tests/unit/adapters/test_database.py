"""Tests of the inventory on SQLite."""

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
from supply_chain.adapters.database.connection import format_time
from supply_chain.adapters.database.schema import VERSION, make_configuration, write_transaction
from supply_chain.adapters.database.tables import metadata
from supply_chain.errors import InventoryFailed, InventoryUnavailable, SettingInvalid
from supply_chain.fleet.image import Note, Running
from supply_chain.model.image import StorageStatus
from supply_chain.model.tier import TierName
from tests.contract.inventory import NOON, InventoryContract, deployment, digest, entry, facts_of, scan, stored
from tests.support.new_inventory import new_inventory


class TestSqlite(InventoryContract):
    @pytest.fixture
    def address(self, tmp_path):
        return new_inventory(tmp_path / "inventory.db")


def test_migrations_produce_the_declared_tables(tmp_path):
    """A table that changes without a migration would be missing in an existing inventory."""
    inventory = open_inventory(f"sqlite:///{tmp_path}/inventory.db")

    with inventory.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION})
        assert compare_metadata(context, metadata) == []


def test_inventory_keeps_its_entries_when_reopened(tmp_path):
    """Another process of the same version opens the same file and finds the same entries."""
    address = f"sqlite:///{tmp_path}/inventory.db"
    open_inventory(address).put([entry(1)])

    assert len(list(open_inventory(address).images())) == 1


@pytest.mark.parametrize("step", ["0001", "0002"])
def test_migrated_inventory_counts_images_as_unread_until_reconciled(tmp_path, step):
    """A migration that drops data must not let a query answer that a package is in no image."""
    engine = create_engine(f"sqlite:///{tmp_path}/inventory.db")
    with write_transaction(engine) as connection:
        command.upgrade(make_configuration(connection), step)
        ref = entry(1).image.ref
        image = (ref.repository, ref.digest, "hello", "", digest(801), "mark 1", entry(1).image.model_dump_json())
        connection.exec_driver_sql(
            "INSERT INTO images (repository, digest, application, pushed, sbom, mark, document)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)", image,
        )  # fmt: skip
        connection.exec_driver_sql("INSERT INTO facts VALUES ('reconciled', '2026-11-24T12:00:00+00:00')")
    inventory = open_inventory(f"sqlite:///{tmp_path}/inventory.db")

    assert (inventory.find_last_reconciliation(), inventory.count_without_sbom(), inventory.count_unscanned()) == (
        None,
        1,
        1,
    )
    assert inventory.read_marks("hello") == {ref: ""} and len(list(inventory.images())) == 1


def test_migrated_inventory_knows_archived_images_without_rereading(tmp_path):
    """The migration reads the storage status from the JSON document, whatever its spacing and its other values."""
    engine = create_engine(f"sqlite:///{tmp_path}/inventory.db")
    archived = {"status": StorageStatus.ARCHIVED}
    images = [
        entry(
            n, owner='"status":"ARCHIVED"', stored=stored(n, **(archived if n else {})), scan=scan() if n else None
        ).image
        for n in range(3)
    ]
    documents = [each.model_dump_json() for each in images[:2]] + [json.dumps(images[2].model_dump(mode="json"))]
    with write_transaction(engine) as connection:
        command.upgrade(make_configuration(connection), "0003")
        for each, document in zip(images, documents, strict=True):
            row = (each.ref.repository, each.ref.digest, "hello", "", True, "mark", document)
            connection.exec_driver_sql(
                "INSERT INTO images (repository, digest, application, pushed, scanned, mark, document)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)", row,
            )  # fmt: skip
    inventory = open_inventory(f"sqlite:///{tmp_path}/inventory.db")

    assert set(inventory.read_marks("hello").values()) == {"mark"} and list(inventory.images()) == images
    assert (inventory.count_unscanned(), inventory.count_by_starter()) == (2, 2)


def test_migrated_inventory_rereads_removed_images_and_keeps_marks(tmp_path):
    """Only the deployments of a deleted image were stored, so that image alone is read again."""
    engine = create_engine(f"sqlite:///{tmp_path}/inventory.db")
    spoilt = entry(2, owner='"unreadable":""', unreadable="x").image
    documents = [
        entry(1).image.model_dump_json(),
        spoilt.model_dump_json(),
        json.dumps(entry(3).image.model_dump(mode="json")),
    ]
    with write_transaction(engine) as connection:
        command.upgrade(make_configuration(connection), "0004")
        for number, document in enumerate(documents, 1):
            ref = entry(number).image.ref
            row = (ref.repository, ref.digest, "hello", "", number == 1, "mark", document)
            connection.exec_driver_sql(
                "INSERT INTO images (repository, digest, application, pushed, gone, mark, document)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)", row,
            )  # fmt: skip
    inventory = open_inventory(f"sqlite:///{tmp_path}/inventory.db")

    assert list(inventory.read_marks("hello").values()) == ["", "mark", "mark"]
    assert (inventory.count_unreadable(), inventory.count_without_sbom()) == (1, 1)


def test_migrated_inventory_keeps_containers_and_rereads_clusters(tmp_path):
    """What ran on a host before the update still counts as running after it."""
    engine = create_engine(f"sqlite:///{tmp_path}/inventory.db")
    with write_transaction(engine) as connection:
        command.upgrade(make_configuration(connection), "0007")
        for number, address in ((1, "http://127.0.0.1:8080/"), (2, "http://hello.apps.svc:8080/")):
            ref = entry(number).image.ref
            row = (ref.repository, ref.digest, "hello", "", "mark", entry(number).image.model_dump_json())
            connection.exec_driver_sql(
                "INSERT INTO images (repository, digest, application, pushed, mark, document)"
                " VALUES (?, ?, ?, ?, ?, ?)", row,
            )  # fmt: skip
            document = deployment(f"place-{number}").model_copy(update={"address": address}).model_dump_json()
            connection.exec_driver_sql(
                "INSERT INTO deployments (image, environment, since, reverse_proxy, document) VALUES (?, ?, '', '', ?)",
                (number, f"place-{number}", document),
            )
        connection.exec_driver_sql(
            "INSERT INTO seen (host, container, name, digest, running, at) VALUES ('laptop', 'c7', 'by-hand', ?, 1, ?)",
            (digest(1), format_time(NOON)),
        )
    inventory = open_inventory(f"sqlite:///{tmp_path}/inventory.db")

    assert list(inventory.read_marks("hello").values()) == ["mark", ""]
    (image,) = inventory.find_by_digest(digest(1))
    assert [(each.name, each.host, each.pods) for each in image.running][-1] == ("by-hand", "laptop", ())


def test_migrated_inventory_keeps_notes_and_deployments(tmp_path):
    """A text that looks like an earlier field is no field."""
    engine = create_engine(f"sqlite:///{tmp_path}/inventory.db")
    note = Note(
        digest=digest(7), repository="evidence/lifecycle", predicate_type="block", signer=TierName.LIFECYCLE, at=NOON,
        message='x "said":1 "seen":1 "gone":1',
    )  # fmt: skip
    runs = Running(
        environment="staging", application="hello", container="c1", name="n", address="a", host="laptop", since=NOON
    )
    image = entry(1).image.model_copy(update={"notes": (note,), "missing": True})
    document = image.model_dump_json().replace('"message":', '"said":').replace('"missing":', '"gone":')
    with write_transaction(engine) as connection:
        command.upgrade(make_configuration(connection), "0008")
        connection.exec_driver_sql(
            "INSERT INTO images (repository, digest, application, pushed, gone, mark, document) "
            "VALUES (?, ?, ?, ?, true, ?, ?)",
            (image.ref.repository, image.ref.digest, "hello", "", "mark", document),
        )
        connection.exec_driver_sql(
            "INSERT INTO deployments (image, environment, since, reverse_proxy, document) VALUES (1, ?, '', '', ?)",
            ("staging", runs.model_dump_json().replace('"observed_at":', '"seen":')),
        )

    (found,) = open_inventory(f"sqlite:///{tmp_path}/inventory.db").find_by_digest(digest(1))

    assert (found.notes, found.running, found.missing) == ((note,), (runs,), True)


def test_migrated_inventory_has_no_facts_of_gates(tmp_path):
    """A preview names the image as not judged until the next reconciliation; nothing else is read again."""
    engine = create_engine(f"sqlite:///{tmp_path}/inventory.db")
    ref = entry(1).image.ref
    with write_transaction(engine) as connection:
        command.upgrade(make_configuration(connection), "0005")
        connection.exec_driver_sql(
            "INSERT INTO images (repository, digest, application, pushed, mark, document) VALUES (?, ?, ?, ?, ?, ?)",
            (ref.repository, ref.digest, "hello", "", "mark 1", entry(1).image.model_dump_json()),
        )
    inventory = open_inventory(f"sqlite:///{tmp_path}/inventory.db")

    (state,) = inventory.list_subjects()
    assert (state.subject.image, state.mark, state.version) == (ref, "mark 1", "")
    inventory.put_facts([facts_of(1)])
    assert [each.version for each in inventory.list_subjects()] == ["v1"]


@pytest.mark.parametrize("address", ["", "inventory.db", "mysql://x/y", "sqlite+aiosqlite:///x", "postgresql://x/y"])
def test_open_inventory_refuses_unsupported_address(address):
    """The error shows a valid example and does not repeat the address, which may contain a password."""
    with pytest.raises(SettingInvalid, match="sqlite:////absolute/path"):
        open_inventory(address)


def test_open_inventory_reports_missing_directory_as_retryable(tmp_path):
    """The directory may exist at the next attempt, for example once a volume is mounted."""
    with pytest.raises(InventoryUnavailable, match="unable to open") as caught:
        open_inventory(f"sqlite:///{tmp_path}/nowhere/inventory.db")
    assert caught.value.retryable


@contextlib.contextmanager
def written_by_another(path):
    """Yield the connection of another writer that has begun to create a new file; `COMMIT` ends its transaction."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.executescript("BEGIN IMMEDIATE; CREATE TABLE x (y);")
        yield other


def test_open_inventory_waits_for_another_writer_of_new_file(tmp_path):
    """SQLite reports "locked" at once while the journal mode changes, so the code has to wait itself."""
    path = tmp_path / "inventory.db"
    with written_by_another(path) as other, ThreadPoolExecutor(1) as pool:
        opened = pool.submit(open_inventory, f"sqlite:///{path}")
        with pytest.raises(TimeoutError):
            opened.result(0.3)
        other.execute("COMMIT")
        opened.result(30).put([entry(1)])


def test_open_inventory_gives_up_waiting_after_busy_timeout(tmp_path, monkeypatch):
    """The failed step is retried later."""
    monkeypatch.setattr(database, "BUSY", 50)
    with written_by_another(tmp_path / "inventory.db"), pytest.raises(InventoryUnavailable, match="database is locked"):
        open_inventory(f"sqlite:///{tmp_path}/inventory.db")


def test_open_inventory_refuses_file_that_is_no_database(tmp_path):
    """The file keeps its content."""
    path = tmp_path / "inventory.db"
    path.write_text("these are my notes, and they are no database at all")

    with pytest.raises(InventoryFailed, match="not a database"):
        open_inventory(f"sqlite:///{path}")
    assert path.read_text().startswith("these are my notes")


def test_instant_text_sorts_chronologically():
    """The order must not depend on the time zone or on a fraction of a second."""
    half = NOON.replace(microsecond=500_000)
    assert sorted([format_time(half), format_time(NOON)]) == [format_time(NOON), format_time(half)]
    assert format_time(NOON.astimezone(None)) == format_time(NOON.astimezone(UTC))
