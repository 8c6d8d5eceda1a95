"""The starter database equals the one that grype's own builder makes from the same data.

The builder is a library of grype. A short Go program calls it on workspaces that the tests write from
the feed, in the formats in which grype's own providers deliver their records.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from cscm_laptop.vulndb import FEED
from cscm_laptop.vulndb.feed.compile import PROVIDERS, compile_feed
from cscm_laptop.vulndb.feed.model import Feed, GoRecord, PythonRecord, Window, read_feed
from supply_chain.adapters.process.command import run
from supply_chain.adapters.tools import Pins
from supply_chain.adapters.tools.pins import GoPin
from tests.support.command import ROOT
from tests.support.go import ENVIRONMENT as GO

pytestmark = pytest.mark.real

YEAR_ONE = "0001-01-01 00:00:00+00:00"

VULNERABILITIES = """
    SELECT v.name, v.status, v.published_date, v.modified_date, v.withdrawn_date, v.provider_id, b.value
    FROM vulnerability_handles v JOIN blobs b ON b.id = v.blob_id
"""
AFFECTED = """
    SELECT v.name, v.provider_id, p.ecosystem, lower(p.name), o.name, o.release_id, o.major_version,
           o.minor_version, o.label_version, o.codename, o.channel, b.value
    FROM affected_package_handles a
    JOIN vulnerability_handles v ON v.id = a.vulnerability_id
    JOIN packages p ON p.id = a.package_id
    JOIN blobs b ON b.id = a.blob_id
    LEFT JOIN operating_systems o ON o.id = a.operating_system_id
"""
OTHERS = {
    "aliases": "SELECT name, alias FROM vulnerability_aliases",
    "exploited": "SELECT k.cve, b.value FROM known_exploited_vulnerability_handles k JOIN blobs b ON b.id = k.blob_id",
    "model": "SELECT model, revision, addition FROM db_metadata",
    "systems": "SELECT * FROM operating_system_specifier_overrides",
    "ecosystems": "SELECT * FROM package_specifier_overrides",
    "architectures": "SELECT * FROM architecture_aliases",
}


@pytest.fixture(scope="module")
def feed() -> Feed:
    return read_feed(FEED)


@pytest.fixture(scope="module")
def ours(feed: Feed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("ours") / "vulnerability.db"
    compile_feed(feed, file, "0" * 64)
    return file


@pytest.fixture(scope="module")
def built(feed: Feed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database that grype's builder makes."""
    directory = tmp_path_factory.mktemp("built")
    workspaces = list(write_workspaces(feed, directory))
    builder = build_builder(directory / "source")
    done = run([str(builder), str(directory / "database"), *map(str, workspaces)], name="builder", timeout=300)
    assert done.status == 0, done.stderr
    return directory / "database/vulnerability.db"


def build_builder(directory: Path) -> Path:
    """Compile the program against the pinned grype."""
    pin = Pins.load(ROOT / "deployments/tools.yaml").tools["grype"]
    assert isinstance(pin, GoPin)
    directory.mkdir()
    shutil.copy(Path(__file__).with_name("builder") / "main.go", directory)
    for arguments in (
        ["mod", "init", "builder"],
        ["get", f"github.com/{pin.repository}@v{pin.version}"],
        ["build", "-o", "builder", "."],
    ):
        environment = {**GO, "GOTOOLCHAIN": pin.toolchain}
        done = run(["go", *arguments], name="go", timeout=1800, cwd=directory, environment=environment)
        assert done.status == 0, done.stderr
    return directory / "builder"


# --- the feed, in the formats of grype's providers ---


def write_workspaces(feed: Feed, directory: Path) -> Iterator[Path]:
    records: dict[str, tuple[str, Iterable[dict[str, Any]]]] = {
        "go": ("osv/schema-1.6.1.json", map(osv, feed.go)),
        "python": ("github-security-advisory/schema-1.1.0.json", map(github, feed.python)),
        "debian": ("os/schema-1.1.0.json", debian(feed)),
        "exploited": ("known-exploited/schema-1.0.0.json", exploited(feed)),
    }
    for source, (schema, items) in records.items():
        yield write_workspace(directory / source, PROVIDERS[source], schema, items, feed.sources[source].as_of)


def write_workspace(directory: Path, provider: str, schema: str, items: Iterable[dict[str, Any]], as_of: date) -> Path:
    """Write one result file per record, in the layout of a vunnel workspace."""
    results = directory / "results"
    results.mkdir(parents=True)
    lines = []
    url = f"https://example.org/vunnel/vulnerability/{schema}"
    for number, item in enumerate(items):
        content = json.dumps({"schema": url, "identifier": f"{provider}/{number}", "item": item}).encode()
        (results / f"{number}.json").write_bytes(content)
        lines.append(f"{hashlib.sha256(content).hexdigest()}  results/{number}.json\n")
    listing = "".join(lines).encode()
    (results / "listing.sha256").write_bytes(listing)
    state = {
        "provider": provider,
        "version": 1,
        "distribution_version": 1,
        "processor": "cscm",
        "schema": {"version": schema[-10:-5], "url": url},
        "timestamp": f"{as_of.isoformat()}T00:00:00Z",
        "listing": {
            "path": "results/listing.sha256",
            "digest": hashlib.sha256(listing).hexdigest(),
            "algorithm": "sha256",
        },
        "store": "flat-file",
    }
    (directory / "metadata.json").write_text(json.dumps(state))
    return directory


def moment(value: datetime | None) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if value else "0001-01-01T00:00:00Z"


def events(windows: Iterable[Window]) -> list[dict[str, str]]:
    found = []
    for window in windows:
        found.append({"introduced": window.introduced or "0"})
        if window.fixed:
            found.append({"fixed": window.fixed})
        if window.last:
            found.append({"last_affected": window.last})
    return found


def osv(record: GoRecord) -> dict[str, Any]:
    affected = []
    for package in record.packages:
        specific: dict[str, Any] = {}
        if package.custom:
            specific["custom_ranges"] = [{"type": "ECOSYSTEM", "events": events(package.custom)}]
        if package.imports:
            specific["imports"] = [
                {"path": path, "symbols": list(symbols)} if symbols else {"path": path}
                for path, symbols in package.imports.items()
            ]
        affected.append(
            {
                "package": {"name": package.name, "ecosystem": "Go"},
                "ranges": [{"type": "SEMVER", "events": events(package.windows)}],
                "ecosystem_specific": specific,
            }
        )
    return {
        "schema_version": "1.6.1",
        "id": record.id,
        "aliases": list(record.aliases),
        "published": moment(record.published),
        "modified": moment(record.modified or record.published),
        "severity": [{"type": "CVSS_V3", "score": record.cvss}] if record.cvss else [],
        "affected": affected,
    }


def github(record: PythonRecord) -> dict[str, Any]:
    fixed_in = [
        {
            "ecosystem": "python",
            "name": package.name,
            "namespace": "github:python",
            "identifier": window.fixed or "None",
            "range": " ".join(
                part
                for part in (
                    window.introduced and f">= {window.introduced}",
                    window.fixed and f"< {window.fixed}",
                    window.last and f"<= {window.last}",
                )
                if part
            ),
        }
        for package in record.packages
        for window in package.windows
    ]
    vectors = [{"vector": record.cvss, "version": record.cvss[5:8]}] if record.cvss else []
    return {
        "Vulnerability": {},
        "Advisory": {
            "ghsaId": record.id,
            "CVE": list(record.aliases),
            "cvss_severities": vectors,
            "FixedIn": fixed_in,
            "namespace": "github:python",
            "published": moment(record.published) if record.published else "",
            "updated": moment(record.modified) if record.modified else "",
            "url": "https://example.org",
        },
    }


def debian(feed: Feed) -> Iterator[dict[str, Any]]:
    for release in feed.debian:
        for source, fixes in release.fixes.items():
            for cve, fixed in fixes.items():
                vector = feed.debian_cvss.get(cve)
                namespace = f"debian:{release.version}"
                yield {
                    "Vulnerability": {
                        "Name": cve,
                        "NamespaceName": namespace,
                        "Severity": "Unknown",
                        "CVSS": [{"vector_string": vector, "version": vector[5:8]}] if vector else [],
                        "FixedIn": [
                            {
                                "Name": source,
                                "NamespaceName": namespace,
                                "Version": fixed,
                                "VersionFormat": "dpkg",
                            }
                        ],
                    }
                }


def exploited(feed: Feed) -> Iterator[dict[str, Any]]:
    for one in feed.exploited:
        yield {
            "cveID": one.cve,
            "vendorProject": one.vendor,
            "product": one.product,
            "dateAdded": one.added.isoformat(),
            "dueDate": one.due.isoformat(),
            "knownRansomwareCampaignUse": one.ransomware,
            "cwes": list(one.cwes),
        }


# --- the comparison ---


def content(file: Path, query: str) -> Counter[str]:
    """Return the rows with normalised JSON, without dates of the year one and without references."""
    with contextlib.closing(sqlite3.connect(file)) as db:
        return Counter(repr([normal(value) for value in row]) for row in db.execute(query))


def normal(value: Any) -> Any:
    if value == YEAR_ONE:
        return None
    if isinstance(value, str) and value.startswith("{"):
        body = json.loads(value)
        body.pop("refs", None)
        return json.dumps(body, sort_keys=True)
    return value


@pytest.mark.parametrize("query", [VULNERABILITIES, AFFECTED, *OTHERS.values()])
def test_starter_database_equals_the_one_of_grypes_builder(ours: Path, built: Path, query: str) -> None:
    """Grype finds the same with either database."""
    actual, expected = content(ours, query), content(built, query)

    assert actual
    assert sorted(actual - expected)[:5] == []
    assert sorted(expected - actual)[:5] == []
