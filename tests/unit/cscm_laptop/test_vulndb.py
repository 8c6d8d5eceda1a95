"""Tests of the starter database: content of the feed, its compilation, and which database is in use."""

from __future__ import annotations

import contextlib
import hashlib
import json
import lzma
import sqlite3
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from cscm_laptop.vulndb import FEED, ensure_database
from cscm_laptop.vulndb.feed.compile import compile_feed
from cscm_laptop.vulndb.feed.model import Feed, GoPackage, Window, read_feed
from cscm_laptop.vulndb.feed.versions import list_go_ranges, make_python_range, render_constraint
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.vulndb import has_distribution, make_grype_environment, read_database, read_publications
from supply_chain.errors import DatabaseUnusable
from supply_chain.vulnerability import findings
from supply_chain.vulnerability.findings import Distribution

CONTENT = "6080971b0aa21bc1"
"""First digits of the SHA-256 of all rows that the shipped feed compiles to."""

GRYPE = """#!{python}
import json, os, shutil, signal, sys
from pathlib import Path
cache, verb = Path(os.environ["GRYPE_DB_CACHE_DIR"]), sys.argv[2]
place = cache / "6"
def take(file, source):
    (cache / "tmp-v6-import1").mkdir()
    if os.environ.get("DIES"):
        os.kill(os.getpid(), signal.SIGKILL)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    shutil.copy(file, place / "vulnerability.db")
    digest = "xxh64:" + str(hash((place / "vulnerability.db").read_bytes()) & 0xFFFF)
    (place / "import.json").write_text(json.dumps({{"digest": digest, "source": source}}))
    (cache / "tmp-v6-import1").rmdir()
if verb == "update":
    if not os.environ.get("OFFICIAL"):
        sys.exit("[0000]  WARN a warning\\n[0000] ERROR \\033[31munable to reach the server\\033[0m")
    take(os.environ["OFFICIAL"], "https://mirror/official.tar.zst")
elif verb == "import":
    take(sys.argv[3], "manual import")
elif not (place / "vulnerability.db").exists() or (place / "damaged").exists():
    sys.exit("bad db checksum")
"""


@pytest.fixture(scope="module")
def feed() -> Feed:
    return read_feed(FEED)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, feed: Feed) -> Path:
    """Return a copy of the shipped feed with only a few advisories."""
    file = tmp_path_factory.mktemp("feed") / "small.json.xz"
    fewer = feed.model_copy(update={"go": feed.go[:5], "python": feed.python[:5]})
    file.write_bytes(lzma.compress(fewer.model_dump_json().encode()))
    return file


@pytest.fixture(scope="module")
def grype(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """Return a program that changes the database directory as grype does, without the network."""
    program = tmp_path_factory.mktemp("bin") / "grype"
    program.write_text(GRYPE.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return Tool("grype", program, "0.121.2", {"PYTHONHASHSEED": "1"})


@pytest.fixture
def official(tmp_path: Path, feed: Feed) -> str:
    """Return the path of an official database with its own date."""
    newer = {name: source.model_copy(update={"as_of": date(2026, 11, 23)}) for name, source in feed.sources.items()}
    small = feed.model_copy(update={"sources": newer, "go": (), "python": ()})
    compile_feed(small, tmp_path / "official.db", "0" * 64)
    return str(tmp_path / "official.db")


def rows(path: Path) -> Iterator[str]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        yield from (statement for statement in db.iterdump() if statement.startswith("INSERT"))


def test_feed_contains_facts_and_no_prose(feed: Feed) -> None:
    """The feed ships identifiers, names, versions and dates, and no descriptions written by others."""

    def words(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from words(key)
                yield from words(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                yield from words(inner)
        elif isinstance(value, str):
            yield value

    facts = feed.model_dump(mode="json")
    vendors = {one[key] for one in facts.pop("exploited") for key in ("vendor", "product")}
    facts.pop("sources")

    assert [text for text in words(facts) if " " in text] == []
    assert [text for text in vendors if ". " in text] == []


def test_feed_covers_all_of_its_sources(feed: Feed) -> None:
    """A feed that lost a part would make vulnerable images look clean."""
    assert len(feed.go) == 4274
    assert len(feed.python) == 2651
    assert [release.codename for release in feed.debian] == ["bullseye", "bookworm"]
    assert sum(len(cves) for release in feed.debian for cves in release.fixes.values()) == 94
    assert len(feed.exploited) == 1404


def test_feed_is_dated_by_its_oldest_source(feed: Feed) -> None:
    """A recent source must not make the whole feed look recent."""
    assert feed.built == datetime(2024, 10, 10, tzinfo=UTC)


def test_equal_feeds_compile_to_equal_bytes(feed: Feed, tmp_path: Path) -> None:
    """The digest of a database identifies its content, so the compilation must be reproducible."""
    for name in ("one.db", "two.db"):
        compile_feed(feed, tmp_path / name, "0" * 64)

    assert (tmp_path / "one.db").read_bytes() == (tmp_path / "two.db").read_bytes()


def test_shipped_feed_compiles_to_recorded_rows(feed: Feed, tmp_path: Path) -> None:
    """A change of the feed or of its compilation changes findings and has to be recorded here."""
    compile_feed(feed, tmp_path / "starter.db", "0" * 64)

    assert hashlib.sha256("\n".join(rows(tmp_path / "starter.db")).encode()).hexdigest().startswith(CONTENT)


def test_read_feed_refuses_truncated_file(tmp_path: Path) -> None:
    """A damaged feed must not pass as a smaller feed."""
    half = tmp_path / "facts.json.xz"
    half.write_bytes(FEED.read_bytes()[:50_000])

    with pytest.raises(DatabaseUnusable, match=r"feed .* cannot be read"):
        read_feed(half)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(), ""),
        (Window(fixed="2"), "<2"),
        (Window("1", "2"), ">=1,<2"),
        (Window("1", last="2"), ">=1,<=2"),
        (Window("1"), ">=1"),
    ],
)
def test_constraint_states_both_ends_of_window(window: Window, expected: str) -> None:
    """The two ends of a window alone decide whether a version is affected."""
    assert render_constraint(window) == expected


@pytest.mark.parametrize(
    ("standard", "custom", "expected"),
    [
        ([Window()], [], []),
        ([Window("1", "2"), Window("3")], [], [">=1,<2", ">=3"]),
        ([Window()], [Window(fixed="5.2")], ["<5.2"]),
        ([Window("1.5")], [Window(fixed="2"), Window("3", "4")], [">=1.5,<2", ">=3,<4"]),
        ([Window(fixed="1"), Window("2")], [Window("7", "8")], ["<1", ">=7,<8"]),
        ([Window(fixed="1"), Window("2")], [Window("0.5")], [">=0.5,<1"]),
        ([Window(fixed="1")], [Window()], ["<1"]),
    ],
)
def test_go_ranges_replace_open_standard_windows_by_custom_ones(
    standard: list[Window], custom: list[Window], expected: list[str]
) -> None:
    """Standard Go ranges cannot name a tag that is no Go version; custom ranges can, and never remove a fix."""
    package = GoPackage(name="example.com/m", windows=tuple(standard), custom=tuple(custom))

    assert [one["version"]["constraint"] for one in list_go_ranges(package)] == expected


def test_python_range_without_fix_is_not_fixed() -> None:
    """A vulnerability without a fixed version must not offer a fix."""
    assert make_python_range(Window("1"))["fix"] == {"state": "not-fixed"}
    assert make_python_range(Window("1", "2"))["fix"] == {"version": "2", "state": "fixed"}


def test_python_range_with_date_or_hash_is_not_compared_as_version() -> None:
    """Some advisories name a date or a hash, which must not be read as a very high version."""
    assert make_python_range(Window(fixed="2019-09-12"))["version"] == {"type": "Unknown", "constraint": "<2019-09-12"}
    assert make_python_range(Window(fixed="1.0rc1.post2"))["version"]["type"] == "python"


def test_ensure_database_builds_starter_if_official_is_unavailable(grype: Tool, small: Path, tmp_path: Path) -> None:
    """Without a network there is still a database to scan with, and it is marked as the starter."""
    messages: list[str] = []

    database = ensure_database(grype, tmp_path / "db", small, progress=messages.append)

    assert database.kind == "starter"
    assert database.built == datetime(2024, 10, 10, tzinfo=UTC)
    assert database.facts == findings.Database(kind="starter", built=database.built, digest=database.digest)
    assert database.sources["debian"] == datetime(2026, 11, 24, tzinfo=UTC)
    assert read_database(tmp_path / "db") == database
    assert "no official vulnerability database: unable to reach the server" in messages
    assert any("starter" in line for line in messages)
    assert make_grype_environment(tmp_path / "db")["GRYPE_DB_VALIDATE_AGE"] == "false"


def test_official_database_replaces_starter(grype: Tool, official: str, small: Path, tmp_path: Path) -> None:
    """The official database is used as soon as the network allows it, and its age is checked."""
    ensure_database(grype, tmp_path / "db", small)

    database = ensure_database(grype.with_environment(OFFICIAL=official), tmp_path / "db", small)

    assert (database.kind, database.built) == ("official", datetime(2026, 11, 23, tzinfo=UTC))
    environment = make_grype_environment(tmp_path / "db")
    assert environment["GRYPE_DB_VALIDATE_AGE"] == "true"
    assert environment["GRYPE_DB_MAX_ALLOWED_BUILT_AGE"] == "120h"


def test_official_database_stays_if_update_fails(grype: Tool, official: str, small: Path, tmp_path: Path) -> None:
    """An outage must not replace a database by an older one unnoticed."""
    before = ensure_database(grype.with_environment(OFFICIAL=official), tmp_path / "db", small)
    messages: list[str] = []

    assert ensure_database(grype, tmp_path / "db", small, progress=messages.append) == before
    assert "stays" in messages[-1]


def test_killed_import_keeps_previous_database(grype: Tool, official: str, small: Path, tmp_path: Path) -> None:
    """A scan during or after a killed import still finds a complete database."""
    before = ensure_database(grype.with_environment(OFFICIAL=official), tmp_path / "db", small)

    with pytest.raises(DatabaseUnusable):
        ensure_database(grype.with_environment(DIES="1"), tmp_path / "db", small, starter_only=True)

    assert read_database(tmp_path / "db") == before
    assert list((tmp_path / "db").rglob("tmp-v6-import*")) == []
    assert len(list((tmp_path / "db").glob("database-*"))) == 1


def test_damaged_starter_database_is_rebuilt(grype: Tool, small: Path, tmp_path: Path) -> None:
    """A second run repairs a database that is no longer usable."""
    before = ensure_database(grype, tmp_path / "db", small)
    (tmp_path / "db/6/damaged").touch()

    after = ensure_database(grype, tmp_path / "db", small)

    assert after == before
    assert not (tmp_path / "db/6/damaged").exists()


def test_starter_database_is_reused_while_feed_is_unchanged(grype: Tool, small: Path, tmp_path: Path) -> None:
    """A second start does not repeat the work of the first one."""
    ensure_database(grype, tmp_path / "db", small)
    place = (tmp_path / "db/6").readlink()

    ensure_database(grype, tmp_path / "db", small)

    assert (tmp_path / "db/6").readlink() == place


def test_read_database_refuses_database_of_unknown_origin(grype: Tool, small: Path, tmp_path: Path) -> None:
    """A verdict names its database, and a database that somebody copied there cannot be named."""
    ensure_database(grype, tmp_path / "db", small)
    file = tmp_path / "db/6/import.json"
    file.write_text(json.dumps({"digest": "xxh64:0", "source": "manual import"}))

    with pytest.raises(DatabaseUnusable, match="its origin is unknown"):
        read_database(tmp_path / "db")


def test_read_database_names_remedy_if_database_is_missing(tmp_path: Path) -> None:
    """A missing database must never read as a scan without findings."""
    with pytest.raises(DatabaseUnusable, match="cscm up"):
        read_database(tmp_path)


@pytest.fixture(scope="module")
def systems(grype: Tool, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with more kinds of distributions than the starter has; the tests only read it."""
    directory = tmp_path_factory.mktemp("systems") / "db"
    ensure_database(grype, directory, small, starter_only=True)
    with contextlib.closing(sqlite3.connect(directory / "6/vulnerability.db")) as db, db:
        for number, (name, release, major, minor, label, codename, channel) in enumerate(
            (
                ("ubuntu", "ubuntu", "22", "4", "", "jammy", ""),
                ("ubuntu", "ubuntu", "22", "10", "", "kinetic", ""),
                ("redhat", "rhel", "8", "", "", "", ""),
                ("redhat", "rhel", "8", "", "", "", "eus"),
                ("wolfi", "wolfi", "", "", "", "", ""),
                ("debian", "debian", "14", "", "", "forky", ""),
                ("empty", "empty", "1", "", "", "", ""),
            ),
            start=100,
        ):
            row = (number, name, release, major, minor, label, codename, channel, None, None)
            db.execute("INSERT INTO operating_systems VALUES (?,?,?,?,?,?,?,?,?,?)", row)
            if name != "empty":
                db.execute("INSERT INTO affected_package_handles VALUES (NULL, 1, ?, 1, 1)", (number,))
    return directory


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (("debian", "12", "bookworm"), True),
        (("debian", "12", ""), True),
        (("Debian", "12.5", "Bookworm"), True),
        (("raspbian", "12", "bookworm"), True),
        (("debian", "012", "bookworm"), True),
        (("debian", "99", ""), False),
        (("debian", "12", "trixie"), False),
        (("debian", "", "bookworm"), False),
        (("debian", "12+x", "bookworm"), False),
        (("debian", "twelve", ""), False),
        (("debian", "14", "forky"), False),
        (("debian", "14", ""), True),
        (("ubuntu", "22.04", "jammy"), True),
        (("ubuntu", "22.04.3", "jammy"), True),
        (("ubuntu", "22.10", "jammy"), True),
        (("ubuntu", "22.04", "noble"), False),
        (("ubuntu", "24.04", ""), False),
        (("redhat", "8.9", ""), True),
        (("rocky", "8.9", ""), True),
        (("redhat", "8.9", "", "eus"), True),
        (("redhat", "8.9", "", "eus", "aus"), False),
        (("wolfi", "20230201", ""), True),
        (("wolfi", "", ""), True),
        (("wolfi", "20230201", "other"), False),
        (("empty", "1", ""), False),
        (("slitaz", "5", ""), False),
        (("", "12", ""), False),
    ],
    ids=str,
)
def test_knows_distribution_that_database_has_data_for(
    systems: Path, distribution: tuple[str, ...], expected: bool
) -> None:
    """The lookup uses name, version and codename as grype does, and answers no in doubt."""
    name, version, codename, *channels = distribution

    asked = Distribution(name=name, version=version, codename=codename, channels=tuple(channels))

    assert has_distribution(systems, asked) is expected


def test_publication_is_the_first_of_all_sources(systems: Path) -> None:
    """Names differ in case; a source without a date may have Go's zero time."""
    with contextlib.closing(sqlite3.connect(systems / "6/vulnerability.db")) as db, db:
        for number, (name, day) in enumerate(
            (
                ("CVE-1-1", "2025-02-01 00:00:00+00:00"),
                ("cve-1-1", "2024-12-31 10:30:00+00:00"),
                ("CVE-1-1", "0001-01-01 00:00:00+00:00"),
                ("CVE-1-1", None),
                ("CVE-1-2", None),
                ("CVE-1-3", "2023-01-01 00:00:00+00:00"),
            ),
            start=9000,
        ):
            row = (number, name, "active", day, None, None, "nvd", number)
            db.execute("INSERT INTO vulnerability_handles VALUES (?,?,?,?,?,?,?,?)", row)
    first = datetime(2024, 12, 31, 10, 30, tzinfo=UTC)

    assert read_publications(systems, ["CVE-1-1", "CVE-1-2", "CVE-1-9"]) == {"CVE-1-1": first}
    assert read_publications(systems, []) == {}


def test_publications_raise_if_there_is_no_database(tmp_path: Path) -> None:
    """An unknown date would be another answer."""
    with pytest.raises(DatabaseUnusable):
        read_publications(tmp_path, ["CVE-1-1"])


def test_knows_raises_if_there_is_no_database(tmp_path: Path) -> None:
    """An unknown distribution would be a different answer."""
    with pytest.raises(DatabaseUnusable):
        has_distribution(tmp_path, Distribution(name="debian", version="12"))
