"""Example facts of each gate, for the tests of rules: an image that every shipped rule admits."""

from __future__ import annotations

from datetime import UTC, datetime

from supply_chain.evidence.checks import required
from supply_chain.model.tier import Gate
from supply_chain.policy.fact_types import (
    BuildFacts,
    CheckFacts,
    ChecksFacts,
    DeployValues,
    ImageScanFacts,
    IntakeValues,
    ReleaseValues,
    ScanFacts,
)
from supply_chain.vulnerability.findings import Severity

NOON = datetime(2025, 12, 31, 12, tzinfo=UTC)
DIGEST = f"sha256:{'a' * 64}"
CHECKS = tuple(each.value for each in required("service"))
_CHECKED: CheckFacts = {"failed": [], "examined": True}
_CHECKS: ChecksFacts = {"tests_shown": True, **dict.fromkeys(CHECKS, _CHECKED)}  # type: ignore[typeddict-item]
_BUILD: BuildFacts = {
    "name": "shop", "kind": "service", "owner": "sales", "classification": "internal",
    "environments": ["staging", "production"], "repository": "https://git.example/shop", "path": ".",
    "revision": "0" * 40, "uncommitted": False, "builder": "urn:cscm:builder:hosted:v1", "finished": NOON,
    "level": "SLSA_BUILD_LEVEL_2", "uncurated": [], "required_checks": list(CHECKS),
    "limits": {"scan_days": 7, "unknown_distribution": False},
}  # fmt: skip
_SCAN: ScanFacts = {
    "scanned": NOON, "scanner": "grype", "version": "1.0.0", "database": "official", "database_built": NOON,
    "findings": [],
    "severities": [{"severity": each.value, "found": 0, "fixable": 0, "worst": ""} for each in Severity],
}  # fmt: skip
_IMAGE_SCAN: ImageScanFacts = {**_SCAN}  # type: ignore[typeddict-item]
_EXAMINATION = {
    "distribution": "debian 12", "conflicts": [], "differences": [], "databases": [], "archives": [],
    "unlisted": 0, "accepted": [], "accepted_more": 0,
}  # fmt: skip

INTAKE: IntakeValues = {
    "repository": "dev/shop", "digest": DIGEST, "application": "shop", "build": _BUILD, "checks": _CHECKS,
    "ignored": [], "source_scan": _SCAN,
}  # fmt: skip
RELEASE: ReleaseValues = {
    "repository": "curated/shop", "digest": DIGEST, "application": "shop", "build": _BUILD, "checks": _CHECKS,
    "ignored": [], "blocked_bases": [], "scan": _IMAGE_SCAN, "encryption": {"key": "arn:aws:kms:eu-west-1:1:key/a"},
    "sbom": {"packages": 40, "missing": [], "altered": []},
    "examination": {**_EXAMINATION, "base_distributions": []},  # type: ignore[typeddict-item]
    "copied_bases": [],
}  # fmt: skip
DEPLOY: DeployValues = {
    "repository": "curated/shop", "digest": DIGEST, "application": "shop", "build": _BUILD, "checks": _CHECKS,
    "ignored": [], "blocked_bases": [], "scan": _IMAGE_SCAN, "encryption": {"key": "arn:aws:kms:eu-west-1:1:key/a"},
    "sbom": {"packages": 40},
    "examination": _EXAMINATION,  # type: ignore[typeddict-item]
    "signed": True,
    "verdicts": {"intake": {"passed": True, "at": NOON}, "release": {"passed": True, "at": NOON}},
    "environment": {"name": "staging", "approval": False, "test_report": False},
}  # fmt: skip
EXAMPLES = {Gate.INTAKE: INTAKE, Gate.RELEASE: RELEASE, Gate.DEPLOY: DEPLOY}
"""Gate → its example facts."""
