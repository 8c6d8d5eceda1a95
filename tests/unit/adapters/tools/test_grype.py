"""What is asked of grype, and what is made of its answers."""

import hashlib
import json
from datetime import UTC, datetime

import pytest

from supply_chain.adapters.tools.grype import Grype
from supply_chain.errors import DatabaseUnusable, ScannerFailed, ToolTimedOut
from supply_chain.vulnerability.findings import Database, Distribution, Severity
from supply_chain.vulnerability.scanner import Sbom

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
FIRST = Database(kind="starter", built=NOON, digest="xxh64:1")
SECOND = FIRST.model_copy(update={"digest": "xxh64:2"})
SBOM = Sbom(b'{"artifacts": []}', 7, "syft 1.2.3")
REPORT = {
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


def test_matches_the_inventory_and_says_with_which_database(grype, tmp_path):
    """The SBOM of record, with the workbench's database and no other."""
    scanner, recorded = grype(script=f'cp "${{1#sbom:}}" {tmp_path}/matched', stdout=json.dumps(REPORT))

    report = scanner.scan(SBOM)

    assert [(f.id, f.severity) for f in report.findings] == [("CVE-2026-0001", Severity.HIGH)]
    assert (report.database, report.packages, report.scanned) == (FIRST, 7, NOON)
    assert report.sbom == f"sha256:{hashlib.sha256(SBOM.content).hexdigest()}"
    assert (tmp_path / "matched").read_bytes() == SBOM.content
    assert recorded.environments[0]["GRYPE_DB_CACHE_DIR"] == "/database"
    assert recorded.calls[0][1] == "--config" and recorded.calls[0][3:] == ["--output", "json"]


CLAIMED = {
    "artifacts": [
        {"id": "a", "type": "deb", "name": "python3-django"},
        {"id": "b", "type": "python", "name": "django"},
    ],
    "artifactRelationships": [{"type": "ownership-by-file-overlap", "parent": "a", "child": "b"}],
}


@pytest.mark.parametrize("kind", ["deb", "rpm", "apk", "alpm", "portage"])
def test_a_package_whose_files_another_claims_is_matched_all_the_same(grype, tmp_path, kind):
    """A distribution's record that an image brings along must not hide what it says it owns."""
    alone = {**REPORT["matches"][0], "artifact": {"name": "django", "version": "4.2", "type": "python"}}
    found = json.dumps({**REPORT, "matches": [alone]})
    script = (
        f'cp "${{1#sbom:}}" {tmp_path}/matched.$n\n'
        f'grep -q python3-django "${{1#sbom:}}" || echo \'{found}\' > "$here/stdout"'
    )
    scanner, recorded = grype(script=script, stdout=json.dumps(REPORT))
    claimed = {**CLAIMED, "artifacts": [{**CLAIMED["artifacts"][0], "type": kind}, CLAIMED["artifacts"][1]]}
    sbom = Sbom(json.dumps(claimed).encode(), 2, "syft 1.2.3")

    report = scanner.scan(sbom)

    assert [(f.package, f.type) for f in report.findings] == [("django", "python"), ("openssl", "deb")]
    assert report.sbom == sbom.digest and len(recorded.calls) == 2
    assert json.loads((tmp_path / "matched.1").read_text())["artifacts"] == [CLAIMED["artifacts"][1]]


def test_without_a_claim_the_inventory_is_matched_once(grype):
    """Twice would take twice as long, and find the same."""
    scanner, recorded = grype(stdout=json.dumps(REPORT))
    scanner.scan(Sbom(json.dumps({**CLAIMED, "artifactRelationships": []}).encode(), 2, "syft 1.2.3"))

    assert len(recorded.calls) == 1


def test_what_a_language_claims_is_matched_once(grype):
    """Whoever claims is there in both cases: without the distribution's packages nothing more would be found."""
    artifacts = [{"id": "a", "type": "python", "name": "django"}, {"id": "b", "type": "python", "name": "other"}]
    scanner, recorded = grype(stdout=json.dumps(REPORT))
    scanner.scan(Sbom(json.dumps({**CLAIMED, "artifacts": artifacts}).encode(), 2, "syft 1.2.3"))

    assert len(recorded.calls) == 1


@pytest.mark.parametrize(("kind", "alone"), [("python", [["b"]]), ("deb", [["b"], ["b"]])])
def test_a_binary_that_anybody_claims_is_matched_by_itself(grype, tmp_path, kind, alone):
    """grype passes over it, whoever says that it owns the file."""
    scanner, recorded = grype(script=f'cp "${{1#sbom:}}" {tmp_path}/matched.$n', stdout=json.dumps(REPORT))
    artifacts = [{"id": "a", "type": kind, "name": "x"}, {"id": "b", "type": "binary", "name": "python"}]
    scanner.scan(Sbom(json.dumps({**CLAIMED, "artifacts": artifacts}).encode(), 2, "syft 1.2.3"))

    matched = [json.loads((tmp_path / f"matched.{n}").read_text())["artifacts"] for n in range(1, len(recorded.calls))]
    assert [[each["id"] for each in artifacts] for artifacts in matched] == alone


def test_what_a_setting_ignored_makes_no_report(grype):
    """A finding that somebody silenced is not one that is not there."""
    scanner, _ = grype(stdout=json.dumps({**REPORT, "ignoredMatches": REPORT["matches"]}))

    with pytest.raises(ScannerFailed, match="ignored 1 matches"):
        scanner.scan(SBOM)


@pytest.mark.parametrize(
    "stdout",
    ["", "{}", json.dumps(REPORT)[:-20], b"\xff\xfe", json.dumps(REPORT).encode() + b"\xff"],
    ids=["nothing", "empty", "cut", "binary", "binary at the end"],
)
def test_success_without_a_whole_report_is_a_failure(grype, stdout):
    """The image is neither clean nor dirty."""
    with pytest.raises(ScannerFailed):
        grype(stdout=stdout)[0].scan(SBOM)


def test_a_report_of_a_scanner_that_failed_is_not_read(grype):
    """It may be whole and still not be all."""
    with pytest.raises(ScannerFailed, match="it broke"):
        grype(stdout=json.dumps(REPORT), stderr="it broke", status=2)[0].scan(SBOM)


@pytest.mark.parametrize(
    "said",
    [
        "failed to load vulnerability db: database does not exist",
        "the vulnerability database was built 20 weeks ago (max allowed age is 5 days)",
        "failed to load vulnerability db: checksum mismatch",
        "unable to open: file is not a database",
    ],
)
def test_a_database_that_cannot_be_used_is_told_apart(grype, said):
    """It has another remedy than a scanner that broke."""
    with pytest.raises(DatabaseUnusable):
        grype(stderr=f"ERROR {said}", status=1)[0].scan(SBOM)


def test_a_database_that_was_replaced_meanwhile_makes_no_report(grype):
    """Nobody could say which one the verdict rests on."""
    with pytest.raises(DatabaseUnusable, match="replaced"):
        grype(FIRST, SECOND, stdout=json.dumps(REPORT))[0].scan(SBOM)


def test_a_grype_that_hangs_is_ended(grype, monkeypatch):
    """After its timeout."""
    monkeypatch.setattr("supply_chain.adapters.tools.grype.TIMEOUT", 0.2)

    with pytest.raises(ToolTimedOut):
        grype(script="exec sleep 60")[0].scan(SBOM)


def test_says_whether_the_database_knows_the_distribution(grype):
    """As grype took it, with the release's name from the inventory; grype itself finds nothing and does not tell."""
    asked = []
    sbom = Sbom(b'{"artifacts": [], "distro": {"id": "debian", "versionCodename": "bookworm"}}', 7, "syft 1.2.3")
    scanner, _ = grype(stdout=json.dumps(REPORT), knows=lambda distribution: bool(asked.append(distribution)))

    found = scanner.scan(sbom).distribution

    assert found == Distribution(name="debian", version="12", codename="bookworm", known=False)
    assert asked == [found]


def test_what_names_no_distribution_is_none_that_is_known(grype):
    """Nothing is looked up for it."""
    scanner, _ = grype(stdout=json.dumps({**REPORT, "distro": {"name": "", "version": "", "idLike": None}}))

    assert scanner.scan(SBOM).distribution == Distribution(name="", known=False)
