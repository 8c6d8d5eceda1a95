"""Scanner failures: missing, killed, without disk space, invalid output; and unusable or outdated databases."""

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

from .sandbox import Sandbox

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
def scanner(sandbox: Sandbox, does: str) -> Iterator[None]:
    """Replace the scanner by a program that reports its version and then does `does`."""
    (place,) = sandbox.tools.glob("grype-*/grype")
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
def without_scanner(sandbox: Sandbox) -> Iterator[None]:
    (place,) = sandbox.tools.glob("grype-*/grype")
    real = place.readlink()
    place.unlink()
    try:
        yield
    finally:
        place.symlink_to(real)


@contextlib.contextmanager
def database(sandbox: Sandbox) -> Iterator[Path]:
    """Return the active database, which the test may break; it is restored afterwards."""
    backup = sandbox.directory / "kept"
    shutil.copytree(sandbox.database, backup, symlinks=True)
    try:
        yield sandbox.database
    finally:
        shutil.rmtree(sandbox.database)
        backup.rename(sandbox.database)


def test_killed_scanner_stops_curation(sandbox: Sandbox, candidate: ImageRef) -> None:
    """Without a report nothing is signed."""
    with scanner(sandbox, "kill -9 $$"):
        ran = sandbox.cscm("curate", str(candidate))

    assert ran.status == 1
    assert "[scanner.failed]" in ran.error and "status -9" in ran.error, ran.error
    assert sandbox.last_run()["state_type"] == "FAILED"
    assert not sandbox.released(f"curated/{candidate.application}", candidate.digest)


def test_damaged_database_stops_curation(sandbox: Sandbox, candidate: ImageRef) -> None:
    """The error says how to restore the database."""
    with database(sandbox) as directory:
        corrupt(directory)
        ran = sandbox.cscm("curate", str(candidate))

    assert ran.status == 1
    assert "[scanner.database-unusable]" in ran.error and "cscm up" in ran.error, ran.error
    assert not sandbox.released(f"curated/{candidate.application}", candidate.digest)


def test_missing_scanner_is_reported_before_a_scan(sandbox: Sandbox, grype: Callable[[], Grype]) -> None:
    """No other scanner on the machine is used instead."""
    with without_scanner(sandbox), pytest.raises(ToolMissing, match="cscm up"):
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
def test_incomplete_scanner_report_raises_scanner_failed(
    sandbox: Sandbox, grype: Callable[[], Grype], does: str
) -> None:
    """The content and the exit status do not matter."""
    with scanner(sandbox, does), pytest.raises(ScannerFailed):
        grype().scan(SBOM)


def test_scanner_without_disk_space_raises_disk_full(sandbox: Sandbox, grype: Callable[[], Grype]) -> None:
    """A full disk is no fault of the image."""
    with scanner(sandbox, 'exec "$real" "$@" > /dev/full'), pytest.raises(DiskFull, match="no space left"):
        grype().scan(SBOM)


def missing(directory: Path) -> None:
    (directory / "6").unlink()


def corrupt(directory: Path) -> None:
    """Flip a byte of the database, in a file of its own."""
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
    """Use the directory of a scanner five versions ago."""
    (directory / "6").rename(directory / "5")


def own(directory: Path) -> Path:
    return (directory / "6" / "vulnerability.db").resolve()


@pytest.mark.parametrize("broken", [missing, corrupt, cut_off, of_another_schema, of_another_model])
def test_unusable_database_is_an_error(
    sandbox: Sandbox, grype: Callable[[], Grype], broken: Callable[[Path], None]
) -> None:
    """It must not lead to a report without findings."""
    with database(sandbox) as directory:
        broken(directory)
        with pytest.raises(DatabaseUnusable, match="cscm up"):
            grype().scan(SBOM)

    assert grype().scan(SBOM).findings == ()


def test_outdated_official_database_is_an_error(sandbox: Sandbox, grype: Callable[[], Grype]) -> None:
    """Only the starter database may be old, and every verdict says that it was used."""
    with database(sandbox) as directory:
        with contextlib.closing(sqlite3.connect(own(directory))) as db, db:
            old = datetime.now(UTC) - timedelta(days=10)
            db.execute("UPDATE db_metadata SET build_timestamp = ?", (old.strftime("%Y-%m-%d %H:%M:%S+00:00"),))
        renamed = json.loads((directory / "6/cscm.json").read_text())
        (directory / "6/cscm.json").write_text(json.dumps({**renamed, "kind": "official"}))
        recounted(directory, grype())
        with pytest.raises(DatabaseUnusable, match="max allowed age"):
            grype().scan(SBOM)


def recounted(directory: Path, scanner: Grype) -> None:
    """Write the digest again, as grype itself computes it."""
    record = json.loads((directory / "6/import.json").read_text())
    done = scanner.tool.with_environment(
        GRYPE_DB_CACHE_DIR=str(directory), GRYPE_DB_VALIDATE_AGE="false", GRYPE_DB_VALIDATE_BY_HASH_ON_START="true"
    ).run("db", "status", timeout=60, check=False, quiet=True)
    (counted,) = set(re.findall(r"xxh64:[0-9a-f]+", done.stdout + done.stderr)) - {record["digest"]}
    for name in ("import.json", "cscm.json"):
        file = directory / "6" / name
        file.write_text(json.dumps({**json.loads(file.read_text()), "digest": counted}))
