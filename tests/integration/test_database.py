"""The starter database with the real scanner: exact matches, clear errors, and the official one from a mirror."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cscm_laptop.vulndb import ensure_database
from supply_chain.adapters.image.packaged_files import PackagedFiles
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.tools.grype import Grype
from supply_chain.adapters.tools.syft import Syft
from supply_chain.adapters.vulndb import (
    Database,
    has_distribution,
    make_grype_environment,
    read_database,
    read_publications,
)
from supply_chain.evidence.examination import Examination
from supply_chain.vulnerability.scanner import Sbom
from tests.contract import scanner
from tests.support.access import nowhere

pytestmark = pytest.mark.real


DIGESTS = {"3.40.1": "xxh64:2064f4f13c881a0f"}
"""The digest that grype 0.121.2 computes for the shipped feed, by version of the SQLite library."""

OS_RELEASE = 'ID=debian\nVERSION_ID="{}"\nVERSION_CODENAME={}\n'
PACKAGE = """Package: {}
Status: install ok installed
Source: {}
Version: {}
Architecture: amd64
Maintainer: nobody
Description: nothing
"""

Scan = Callable[[str], dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def grype(toolbox: Toolbox) -> Tool:
    return toolbox.find("grype")


@pytest.fixture(scope="module")
def directory(grype: Tool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the starter database."""
    directory = tmp_path_factory.mktemp("database")
    ensure_database(grype, directory, starter_only=True)
    return directory


@pytest.fixture
def scan(grype: Tool, directory: Path, tmp_path: Path) -> Scan:
    """A function that scans files; returns the findings by `package id`."""
    tool = grype.with_environment(**make_grype_environment(directory))

    def scan(source: str) -> dict[str, dict[str, Any]]:
        done = tool.run(source, "--output", "json", timeout=60, quiet=True)
        matches = json.loads(done.stdout)["matches"]
        found = {f"{one['artifact']['name']} {one['vulnerability']['id']}": one["vulnerability"] for one in matches}
        assert len(found) == len(matches)
        return found

    return scan


def requirements(directory: Path, text: str) -> str:
    (directory / "requirements.txt").write_text(text)
    return f"dir:{directory}"


def debian(directory: Path, version: str, codename: str, *packages: tuple[str, str, str]) -> str:
    """Write a root filesystem of a Debian release with the given packages."""
    (directory / "etc").mkdir()
    (directory / "etc/os-release").write_text(OS_RELEASE.format(version, codename))
    status = directory / "var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    for package in packages:
        (status / package[0]).write_text(PACKAGE.format(*package))
    return f"dir:{directory}"


def scanner_of(grype: Tool, directory: Path) -> Grype:
    """Return the adapter with the database of a directory."""
    return Grype(
        tool=grype,
        environment=make_grype_environment(directory),
        database=lambda: read_database(directory).facts,
        knows=partial(has_distribution, directory),
        now=lambda: datetime.now(UTC),
        publications=partial(read_publications, directory),
    )


@pytest.fixture(scope="module")
def sboms(toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> list[Sbom]:
    """An SBOM with vulnerable packages and one without."""
    syft = Syft(toolbox.find("syft"), "none", nowhere, examine=lambda ref: (Examination(), PackagedFiles()))
    sboms = []
    for packages in ("jinja2==2.10\nsalt==3000.1\n", "jinja2==3.1.6\n"):
        source = tmp_path_factory.mktemp("source")
        requirements(source, packages)
        sboms.append(syft.make_directory_sbom(source))
    return sboms


class TestGrype(scanner.ScannerContract):
    @pytest.fixture
    def harness(self, grype: Tool, directory: Path, sboms: list[Sbom]) -> scanner.Harness:
        return scanner.Harness(scanner_of(grype, directory), *sboms)


def test_findings_have_the_dates_of_the_database(grype: Tool, directory: Path, sboms: list[Sbom]) -> None:
    """Grype's report has no date of publication; a source directory has no layers."""
    found = {each.id: each for each in scanner_of(grype, directory).scan(sboms[0]).findings}

    jinja = found["PYSEC-2021-66"]
    assert jinja.published is not None and jinja.published.date() == date(2021, 2, 1)
    assert {each.layer for each in found.values()} == {None}


def test_same_feed_gives_the_same_digest(grype: Tool, directory: Path, tmp_path: Path) -> None:
    """The digest in a verdict identifies the data, not the time of compilation."""
    digest = ensure_database(grype, tmp_path / "again", starter_only=True).digest

    assert digest == read_database(directory).digest
    assert digest == DIGESTS.get(sqlite3.sqlite_version, digest)


def test_python_finding_has_the_fix_of_its_release_line(scan: Scan, tmp_path: Path) -> None:
    """A fix of another release line would be no help."""
    found = scan(requirements(tmp_path, "jinja2==2.10\nsqlparse==0.4.3\nDjango==3.2.3\n"))

    assert {name for name in found if name.startswith("jinja2")} == {"jinja2 PYSEC-2019-217", "jinja2 PYSEC-2021-66"}
    assert {name for name in found if name.startswith("sqlparse")} == {"sqlparse PYSEC-2023-87"}
    django = found["django PYSEC-2021-98"]
    assert django["fix"] == {"versions": ["3.2.4"], "state": "fixed"}


def test_fixed_python_packages_have_no_findings(scan: Scan, tmp_path: Path) -> None:
    """The fixed version is outside of the affected range."""
    assert scan(requirements(tmp_path, "jinja2==3.1.4\nsqlparse==0.5.0\n")) == {}


def test_known_exploited_vulnerability_is_flagged(scan: Scan, tmp_path: Path) -> None:
    """CISA's catalog lists it."""
    found = scan(requirements(tmp_path, "salt==3000.1\npyspark==3.1.0\n"))

    exploited = {
        name: [one["cve"] for one in vulnerability["knownExploited"]]
        for name, vulnerability in found.items()
        if vulnerability.get("knownExploited")
    }
    assert exploited == {
        "salt PYSEC-2020-102": ["CVE-2020-11651"],
        "salt PYSEC-2020-103": ["CVE-2020-11652"],
        "salt PYSEC-2020-104": ["CVE-2020-16846"],
        "pyspark PYSEC-2022-236": ["CVE-2022-33891"],
    }


def test_go_finding_has_severity_from_its_vector_or_unknown(scan: Scan, tmp_path: Path) -> None:
    """A record without a CVSS vector has the severity Unknown."""
    (tmp_path / "go.mod").write_text("module x\n\ngo 1.21\n\nrequire golang.org/x/net v0.22.0\n")

    found = scan(f"dir:{tmp_path}")

    assert found["golang.org/x/net GO-2024-2687"]["severity"] == "High"
    assert found["golang.org/x/net GO-2024-2687"]["fix"] == {"versions": ["0.23.0"], "state": "fixed"}
    assert found["golang.org/x/net GO-2024-3333"]["severity"] == "Unknown"


def test_go_module_with_custom_ranges_matches_by_its_tags(scan: Scan, tmp_path: Path) -> None:
    """Some modules have tags that are no Go versions."""
    for version, affected in (("v4.9.0+incompatible", True), ("v4.9.1+incompatible", False)):
        (tmp_path / "go.mod").write_text(f"module x\n\ngo 1.21\n\nrequire github.com/wazuh/wazuh {version}\n")

        assert ("github.com/wazuh/wazuh GO-2025-3459" in scan(f"dir:{tmp_path}")) is affected


def test_debian_package_matches_by_its_source_package(scan: Scan, tmp_path: Path) -> None:
    """Advisories of Debian name source packages."""
    found = scan(
        debian(
            tmp_path,
            *("12", "bookworm"),
            ("libapt-pkg6.0", "apt", "2.6.1"),
            ("libpcre2-8-0", "pcre2", "10.42-1+deb12u2"),
            ("tzdata", "tzdata", "2026b-0+deb12u1"),
        )
    )

    assert {name: one["fix"]["versions"] for name, one in found.items()} == {"libapt-pkg6.0 CVE-2026-109518": ["2.6.2"]}


def test_each_debian_release_has_its_own_fixes(scan: Scan, tmp_path: Path) -> None:
    """A fix in bullseye is no fix in bookworm."""
    found = scan(debian(tmp_path, "11", "bullseye", ("dpkg", "dpkg", "1.20.13")))

    assert {name: one["fix"]["versions"] for name, one in found.items()} == {"dpkg CVE-2025-6297": ["1.20.14"]}


def test_debian_release_without_data_has_no_findings(scan: Scan, tmp_path: Path) -> None:
    """The policy therefore has to know which database was used."""
    assert scan(debian(tmp_path, "13", "trixie", ("apt", "apt", "2.6.1"))) == {}


def test_scan_names_its_database_and_the_date_of_each_source(grype: Tool, directory: Path, tmp_path: Path) -> None:
    """A verdict can be traced to data of a date."""
    tool = grype.with_environment(**make_grype_environment(directory))

    report = json.loads(tool.run(requirements(tmp_path, ""), "-o", "json", timeout=60, quiet=True).stdout)

    database = report["descriptor"]["db"]
    assert database["status"]["built"] == "2024-10-10T00:00:00Z"
    assert {name: one["captured"][:10] for name, one in database["providers"].items()} == {
        "debian": "2026-11-24",
        "govulndb": "2026-08-21",
        "kev": "2025-08-25",
        "pypa": "2024-10-10",
    }


def test_tampered_database_gives_no_report_and_is_replaced(grype: Tool, directory: Path, tmp_path: Path) -> None:
    """A removed vulnerability must not lead to a clean report."""
    place = Path(shutil.copytree(directory, tmp_path / "database", symlinks=True))
    before = read_database(place)
    file = place / "6/vulnerability.db"
    content = bytearray(file.read_bytes())
    content[-2000] ^= 1
    file.write_bytes(content)

    tool = grype.with_environment(**make_grype_environment(place))
    done = tool.run(requirements(tmp_path, "jinja2==2.10\n"), "-o", "json", timeout=60, check=False)

    assert (done.status, done.stdout) == (1, "")
    assert "bad db checksum" in done.stderr
    assert ensure_database(grype, place, starter_only=True) == before
    assert tool.run("db", "status", timeout=60).status == 0


@pytest.fixture
def mirror(directory: Path, tmp_path: Path) -> Iterator[tuple[str, Database]]:
    """A mirror that serves a database in the layout of grype's own distribution."""
    offered = read_database(directory)
    place = tmp_path / "mirror/v6"
    place.mkdir(parents=True)
    with tarfile.open(place / "offered.tar.gz", "w:gz") as tar:
        tar.add(directory / "6/vulnerability.db", "vulnerability.db")
    checksum = hashlib.sha256((place / "offered.tar.gz").read_bytes()).hexdigest()
    latest = {"status": "active", "schemaVersion": "v6.1.10", "built": "2024-10-10T00:00:00Z"}
    (place / "latest.json").write_text(
        json.dumps(latest | {"path": "offered.tar.gz", "checksum": f"sha256:{checksum}"})
    )
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "mirror"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", offered
    server.shutdown()
    server.server_close()


def test_official_database_is_preferred_and_reused_during_outage(
    grype: Tool, mirror: tuple[str, Database], tmp_path: Path
) -> None:
    """The starter database is only a fallback."""
    url, offered = mirror
    place = tmp_path / "database"
    online = grype.with_environment(GRYPE_DB_UPDATE_URL=url, GRYPE_DB_MAX_UPDATE_CHECK_FREQUENCY="0")
    offline = grype.with_environment(GRYPE_DB_UPDATE_URL="http://127.0.0.1:9", GRYPE_DB_MAX_UPDATE_CHECK_FREQUENCY="0")

    first = ensure_database(online, place)
    again = ensure_database(online, place)
    later = ensure_database(offline, place)

    assert (first.kind, first.sources) == ("official", offered.sources)
    assert first == again == later


def test_old_official_database_gives_no_report(grype: Tool, mirror: tuple[str, Database], tmp_path: Path) -> None:
    """This one is of 2024, and the maximum age is five days."""
    url, _ = mirror
    place = tmp_path / "database"
    ensure_database(grype.with_environment(GRYPE_DB_UPDATE_URL=url), place)

    tool = grype.with_environment(**make_grype_environment(place))
    done = tool.run(requirements(tmp_path, "jinja2==2.10\n"), "-o", "json", timeout=60, check=False)

    assert (done.status, done.stdout) == (1, "")
    assert "max allowed age is 5 days" in done.stderr


def test_starter_database_is_compiled_if_no_mirror_answers(grype: Tool, tmp_path: Path) -> None:
    """The chain works without a network, and the output says which database is used."""
    messages: list[str] = []

    database = ensure_database(
        grype.with_environment(GRYPE_DB_UPDATE_URL="http://127.0.0.1:9"),
        tmp_path / "database",
        progress=messages.append,
    )

    assert database.kind == "starter"
    assert any("no official vulnerability database" in line for line in messages)


@pytest.fixture(scope="module")
def syft(toolbox: Toolbox) -> Syft:
    return Syft(
        toolbox.find("syft"),
        "127.0.0.1:1",
        nowhere,
        insecure=True,
        examine=lambda ref: (Examination(), PackagedFiles()),
    )


@pytest.fixture(scope="module")
def sbom(syft: Syft, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The SBOM of a Debian 12 root filesystem with a vulnerable package."""
    source = debian(tmp_path_factory.mktemp("root"), "12", "bookworm", ("libapt-pkg6.0", "apt", "2.6.1"))
    document: dict[str, Any] = json.loads(syft.make_directory_sbom(Path(source.removeprefix("dir:"))).content)
    return document


@pytest.mark.parametrize(
    ("release", "recognised"),
    [
        ({}, True),
        ({"versionCodename": ""}, True),
        ({"versionID": "12.5"}, True),
        ({"id": "raspbian"}, True),
        ({"id": "hidden", "idLike": ["debian"]}, True),
        ({"id": "hidden", "idLike": []}, False),
        ({"id": "Debian", "name": ""}, False),
        ({"versionID": "99"}, False),
        ({"versionID": "12+hidden"}, True),
        ({"versionCodename": "hidden"}, False),
        ({"versionCodename": "forky"}, False),
        ({"versionID": "", "version": "99"}, False),
        ({"versionID": "hidden", "version": "99"}, False),
        ({"id": "redhat"}, False),
        (None, False),
    ],
    ids=str,
)
def test_report_says_if_the_distribution_is_unknown(
    grype: Tool, directory: Path, sbom: dict[str, Any], release: dict[str, Any] | None, recognised: bool
) -> None:
    """A changed os-release must not hide findings without notice."""
    distro = {} if release is None else {**sbom["distro"], **release}
    content = json.dumps({**sbom, "distro": distro}).encode()

    report = scanner_of(grype, directory).scan(Sbom(content, len(sbom["artifacts"]), "syft"))

    assert report.distribution is not None
    assert report.distribution.in_database is recognised, report.distribution
    assert bool(report.findings) is recognised
