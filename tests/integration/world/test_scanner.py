"""The scanner and its database: missing, killed, out of space, talking rubbish, of another schema, damaged, old."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from supply_chain.adapters.tools.grype import Grype
from supply_chain.errors import DatabaseUnusable, DiskFull, ScannerFailed, ToolMissing
from supply_chain.model.image import ImageRef
from supply_chain.vulnerability.scanner import Sbom

from .world import World

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("serving")]

ASKED_ITS_VERSION = 'case "$1" in version|--version) exec "$real" "$@";; esac'
SYFT = {
    "artifacts": [],
    "artifactRelationships": [],
    "source": {"id": "none", "name": "none", "version": "", "type": "directory", "metadata": {"path": "."}},
    "distro": {},
    "descriptor": {"name": "syft", "version": "1.57.0"},
    "schema": {
        "version": "16.0.0",
        "url": "https://raw.githubusercontent.com/anchore/syft/main/schema/json/schema-16.0.0.json",
    },
}
SBOM = Sbom(json.dumps(SYFT).encode(), 0, "syft 1.57.0")


@contextlib.contextmanager
def scanner(world: World, does: str) -> Iterator[None]:
    """In the scanner's place a program that says it is the scanner, and does that."""
    (place,) = world.tools.glob("grype-*/grype")
    real = place.readlink()
    place.unlink()
    place.write_text(f"#!/bin/sh\nreal={real}\n{ASKED_ITS_VERSION}\n{does}\n")
    place.chmod(0o755)
    try:
        yield
    finally:
        place.unlink()
        place.symlink_to(real)


@contextlib.contextmanager
def without_scanner(world: World) -> Iterator[None]:
    (place,) = world.tools.glob("grype-*/grype")
    real = place.readlink()
    place.unlink()
    try:
        yield
    finally:
        place.symlink_to(real)


@contextlib.contextmanager
def database(world: World) -> Iterator[Path]:
    """A database that may be broken: the directory that is in use, and afterwards is as it was."""
    kept = world.directory / "kept"
    shutil.copytree(world.database, kept, symlinks=True)
    try:
        yield world.database
    finally:
        shutil.rmtree(world.database)
        kept.rename(world.database)


def test_a_scanner_that_is_killed_ends_curation(world: World, candidate: ImageRef) -> None:
    """No report is neither clean nor dirty: nothing is signed."""
    with scanner(world, "kill -9 $$"):
        ran = world.cscm("curate", str(candidate))

    assert ran.status == 1
    assert "[scanner.failed]" in ran.error and "status -9" in ran.error, ran.error
    assert world.last_run()["state_type"] == "FAILED"
    assert not world.vended(f"curated/{candidate.application}", candidate.digest)


def test_a_database_that_is_damaged_ends_curation(world: World, candidate: ImageRef) -> None:
    """And the message says how to get a whole one."""
    with database(world) as directory:
        corrupt(directory)
        ran = world.cscm("curate", str(candidate))

    assert ran.status == 1
    assert "[scanner.database-unusable]" in ran.error and "cscm up" in ran.error, ran.error
    assert not world.vended(f"curated/{candidate.application}", candidate.digest)


def test_a_scanner_that_is_missing_is_told_before_a_scan(world: World, grype: Callable[[], Grype]) -> None:
    """There is no other that would be taken in its place."""
    with without_scanner(world), pytest.raises(ToolMissing, match="cscm up"):
        grype()


@pytest.mark.parametrize(
    "does",
    [
        "echo rubbish",
        "head -c 1000 /dev/urandom",
        "exit 0",
        'echo \'{"descriptor": {"name": "grype", "version": "1"}}\'',
        'echo \'{"descriptor": {"name": "grype", "version": "1"}, "matches": {"1": {}}}\'',
        'echo \'{"descriptor": {"name": "grype", "version": "1"}, "matches": [{"cve": "CVE-2026-1"}]}\'',
        '"$real" "$@" | head -c 200',
        "kill -9 $$",
        "echo panic >&2; exit 2",
    ],
    ids=["text", "bytes", "nothing", "no matches", "other matches", "other match", "cut off", "killed", "status 2"],
)
def test_a_report_that_is_not_whole_is_no_report(world: World, grype: Callable[[], Grype], does: str) -> None:
    """Whatever the scanner says, and with whatever status."""
    with scanner(world, does), pytest.raises(ScannerFailed):
        grype().scan(SBOM)


def test_a_scanner_without_space_says_so(world: World, grype: Callable[[], Grype]) -> None:
    """A full disk is none of the image's."""
    with scanner(world, 'exec "$real" "$@" > /dev/full'), pytest.raises(DiskFull, match="no space left"):
        grype().scan(SBOM)


def missing(directory: Path) -> None:
    (directory / "6").unlink()


def corrupt(directory: Path) -> None:
    """One page flipped, in a file of its own."""
    file = own(directory)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def cut_off(directory: Path) -> None:
    file = own(directory)
    file.write_bytes(file.read_bytes()[:50_000])


def of_another_schema(directory: Path) -> None:
    with contextlib.closing(sqlite3.connect(own(directory))) as db, db:
        db.execute("ALTER TABLE db_metadata RENAME TO id")


def of_another_model(directory: Path) -> None:
    """As a scanner five versions ago kept it."""
    (directory / "6").rename(directory / "5")


def own(directory: Path) -> Path:
    return (directory / "6" / "vulnerability.db").resolve()


@pytest.mark.parametrize("broken", [missing, corrupt, cut_off, of_another_schema, of_another_model])
def test_a_database_that_cannot_be_judged_with_is_an_error(
    world: World, grype: Callable[[], Grype], broken: Callable[[Path], None]
) -> None:
    """Never a report without findings."""
    with database(world) as directory, pytest.raises(DatabaseUnusable, match="cscm up"):
        broken(directory)
        grype().scan(SBOM)

    assert grype().scan(SBOM).findings == ()


def test_an_official_database_that_is_too_old_is_an_error(world: World, grype: Callable[[], Grype]) -> None:
    """The starter database is old by nature and says so in every verdict; the official one is to be of this week."""
    with database(world) as directory:
        with contextlib.closing(sqlite3.connect(own(directory))) as db, db:
            old = datetime.now(UTC) - timedelta(days=10)
            db.execute("UPDATE db_metadata SET build_timestamp = ?", (old.strftime("%Y-%m-%d %H:%M:%S+00:00"),))
        renamed = json.loads((directory / "6/cscm.json").read_text())
        (directory / "6/cscm.json").write_text(json.dumps({**renamed, "kind": "official"}))
        recounted(directory, grype())
        with pytest.raises(DatabaseUnusable, match="max allowed age"):
            grype().scan(SBOM)


def recounted(directory: Path, scanner: Grype) -> None:
    """Its digest written down anew, as grype itself counts it."""
    record = json.loads((directory / "6/import.json").read_text())
    done = scanner.tool.with_environment(
        GRYPE_DB_CACHE_DIR=str(directory), GRYPE_DB_VALIDATE_AGE="false", GRYPE_DB_VALIDATE_BY_HASH_ON_START="true"
    ).run("db", "status", timeout=60, check=False, quiet=True)
    (counted,) = set(re.findall(r"xxh64:[0-9a-f]+", done.stdout + done.stderr)) - {record["digest"]}
    for name in ("import.json", "cscm.json"):
        file = directory / "6" / name
        file.write_text(json.dumps({**json.loads(file.read_text()), "digest": counted}))
