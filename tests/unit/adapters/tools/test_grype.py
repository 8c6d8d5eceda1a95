"""Tests of the calls of grype and of how its answers are interpreted."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from supply_chain.adapters.tools.grype import Grype
from supply_chain.errors import DatabaseUnusable, ScannerFailed, ToolTimedOut
from supply_chain.vulnerability.findings import Database, Distribution, Severity
from supply_chain.vulnerability.scanner import Sbom

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
FIRST = Database(kind="starter", built=NOON, digest="xxh64:1")
SECOND = FIRST.model_copy(update={"digest": "xxh64:2"})
SBOM = Sbom(b'{"artifacts": []}', 7, "syft 1.2.3")
REPORT: dict[str, Any] = {
    "matches": [
        {
            "vulnerability": {"id": "CVE-2026-0001", "severity": "High", "fix": {"versions": [], "state": "not-fixed"}},
            "relatedVulnerabilities": [],
            "artifact": {"name": "openssl", "version": "3.0.1", "type": "deb"},
        }
    ],
    "distro": {"name": "debian", "version": "12", "idLike": []},
    "descriptor": {"name": "grype", "version": "0.115.0"},
}


@pytest.fixture
def grype(program):
    recorded = program("grype")

    def make(*databases, script="", knows=lambda distribution: True, **kwargs):
        found = iter(databases or (FIRST, FIRST))
        tool = recorded.does(script, **kwargs)
        return Grype(tool, {"GRYPE_DB_CACHE_DIR": "/database"}, lambda: next(found), knows, lambda: NOON), recorded

    return make


def test_scan_matches_sbom_and_names_its_database(grype, tmp_path):
    """The stored SBOM is matched against the configured database only."""
    scanner, recorded = grype(script=f'cp "${{1#sbom:}}" {tmp_path}/matched', stdout=json.dumps(REPORT))

    report = scanner.scan(SBOM)

    assert [(f.id, f.severity) for f in report.findings] == [("CVE-2026-0001", Severity.HIGH)]
    assert (report.database, report.packages, report.scanned) == (FIRST, 7, NOON)
    assert report.sbom == f"sha256:{hashlib.sha256(SBOM.content).hexdigest()}"
    assert json.loads((tmp_path / "matched").read_bytes()) == {"artifacts": [], "artifactRelationships": []}
    assert recorded.environments[0]["GRYPE_DB_CACHE_DIR"] == "/database"
    assert recorded.calls[0][1] == "--config" and recorded.calls[0][3:] == ["--output", "json"]


@pytest.mark.parametrize("owner", ["deb", "apk", "python", "binary"])
def test_packages_are_matched_without_their_owners(grype, tmp_path, owner):
    """grype skips what another package claims to own, such as the program beside a file of a Java runtime."""
    program = {"id": "b", "type": "binary", "name": "busybox", "metadata": None}
    contains = {"type": "contains", "parent": "a", "child": "b"}
    claiming = {"id": "a", "type": owner, "metadata": {"files": ["/bin/busybox"], "release": {"javaVersion": "1"}}}
    document = {
        "artifacts": [claiming, program],
        "artifactRelationships": [{**contains, "type": "ownership-by-file-overlap"}, contains],
        "source": {"id": "c"},
    }
    scanner, recorded = grype(script=f'cp "${{1#sbom:}}" {tmp_path}/matched', stdout=json.dumps(REPORT))
    sbom = Sbom(json.dumps(document).encode(), 2, "syft 1.2.3")

    assert scanner.scan(sbom).sbom == sbom.digest
    assert len(recorded.calls) == 1 and json.loads((tmp_path / "matched").read_bytes()) == {
        "artifacts": [{**claiming, "metadata": {"release": {"javaVersion": "1"}}}, program],
        "artifactRelationships": [contains],
        "source": {"id": "c"},
    }


def test_scan_fails_if_grype_ignored_matches(grype):
    """A silenced finding must not pass as a missing one."""
    scanner, _ = grype(stdout=json.dumps({**REPORT, "ignoredMatches": REPORT["matches"]}))

    with pytest.raises(ScannerFailed, match="ignored 1 matches"):
        scanner.scan(SBOM)


@pytest.mark.parametrize(
    "stdout",
    ["", "{}", json.dumps(REPORT)[:-20], b"\xff\xfe", json.dumps(REPORT).encode() + b"\xff"],
    ids=["nothing", "empty", "cut", "binary", "binary at the end"],
)
def test_scan_fails_for_incomplete_report(grype, stdout):
    """An exit status of zero alone does not prove that the image was scanned."""
    with pytest.raises(ScannerFailed):
        grype(stdout=stdout)[0].scan(SBOM)


def test_scan_fails_if_grype_fails_despite_complete_report(grype):
    """A complete report may still omit findings."""
    with pytest.raises(ScannerFailed, match="it broke"):
        grype(stdout=json.dumps(REPORT), stderr="it broke", status=2)[0].scan(SBOM)


@pytest.mark.parametrize(
    "message",
    [
        "failed to load vulnerability db: database does not exist",
        "the vulnerability database was built 20 weeks ago (max allowed age is 5 days)",
        "failed to load vulnerability db: checksum mismatch",
        "unable to open: file is not a database",
    ],
)
def test_scan_reports_unusable_database(grype, message):
    """An unusable database needs another remedy than a failed scanner."""
    with pytest.raises(DatabaseUnusable):
        grype(stderr=f"ERROR {message}", status=1)[0].scan(SBOM)


def test_scan_fails_if_database_was_replaced_meanwhile(grype):
    """The verdict has to name the database it is based on."""
    with pytest.raises(DatabaseUnusable, match="replaced"):
        grype(FIRST, SECOND, stdout=json.dumps(REPORT))[0].scan(SBOM)


def test_grype_is_ended_at_its_timeout(grype, monkeypatch):
    """A scan must not hang."""
    monkeypatch.setattr("supply_chain.adapters.tools.grype.TIMEOUT", 0.2)

    with pytest.raises(ToolTimedOut):
        grype(script="exec sleep 60")[0].scan(SBOM)


def test_report_says_whether_database_knows_the_distribution(grype):
    """The lookup includes the codename; grype itself finds nothing for an unknown distribution and does not say so."""
    asked = []
    sbom = Sbom(b'{"artifacts": [], "distro": {"id": "debian", "versionCodename": "bookworm"}}', 7, "syft 1.2.3")

    def knows(distribution):
        asked.append(distribution)
        return False

    scanner, _ = grype(stdout=json.dumps(REPORT), knows=knows)

    found = scanner.scan(sbom).distribution

    assert found == Distribution(name="debian", version="12", codename="bookworm", in_database=False)
    assert asked == [found]


def test_finding_has_the_first_date_of_itself_and_its_aliases(grype):
    """Grype's report does not contain when a vulnerability was published."""
    asked, day = [], datetime(2025, 1, 1, tzinfo=UTC)
    one = REPORT["matches"][0]
    second = {**one["vulnerability"], "id": "CVE-2026-0002"}
    matches = [{**one, "relatedVulnerabilities": [{"id": "GHSA-1"}]}, {**one, "vulnerability": second}]

    def publications(names):
        asked.append(sorted(names))
        return {"GHSA-1": day, "CVE-2026-0001": NOON}

    scanner, _ = grype(stdout=json.dumps({**REPORT, "matches": matches}))

    dated = replace(scanner, publications=publications).scan(SBOM)

    assert [(each.id, each.published) for each in dated.findings] == [("CVE-2026-0001", day), ("CVE-2026-0002", None)]
    assert asked == [["CVE-2026-0001", "CVE-2026-0002", "GHSA-1"]]


def test_report_without_distribution_counts_as_unknown(grype):
    """The database is not asked."""
    scanner, _ = grype(stdout=json.dumps({**REPORT, "distro": {"name": "", "version": "", "idLike": None}}))

    assert scanner.scan(SBOM).distribution == Distribution(name="", in_database=False)
