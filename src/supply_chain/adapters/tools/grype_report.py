"""Reads grype's reports strictly: an incomplete report is an error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

from supply_chain.errors import ScannerFailed
from supply_chain.model.image import Digest
from supply_chain.vulnerability.findings import Database, Distribution, Finding, Report, Severity, make_severity_key

T = TypeVar("T")
LINKED = re.compile(r"/(?=[^/]*\d)([A-Za-z]\w*(?:-[\w.:]+?)+)(?:\.html)?/?$")
"""The identifier at the end of a link to an advisory: …/errata/RHSA-2023:5455, …/AL2/ALAS-2018-1106.html."""


def parse_report(text: str, *, database: Database, packages: int, sbom: Digest | None, scanned: datetime) -> Report:
    """Parse a grype report (`grype -o json`); raise `ScannerFailed` unless it is complete and has the expected form."""
    try:
        data = json.loads(text)
        descriptor = data["descriptor"]
        return Report(
            scanner=descriptor["name"],
            scanner_version=descriptor["version"],
            database=database,
            scanned=scanned,
            sbom=sbom,
            distribution=_distribution(data["distro"]),
            packages=packages,
            findings=tuple(sorted((_finding(m) for m in _read_matches(data)), key=make_severity_key)),
        )
    except (ValueError, OverflowError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ScannerFailed(
            f"The scanner's report cannot be read ({type(error).__name__}: {error}).\n"
            "The image is neither clean nor vulnerable. Check the scanner's version (`cscm doctor`) and scan again."
        ) from error


def _read_matches(data: dict[str, Any]) -> list[Any]:
    """Return all matches; raise `ValueError` if a setting made the scanner leave some out."""
    if data.get("ignoredMatches"):
        raise ValueError(f"a setting of the scanner ignored {len(data['ignoredMatches'])} matches")
    return _require_type(list, data["matches"])


def _distribution(distro: dict[str, Any]) -> Distribution:
    channels = _require_type(list, distro.get("channels"), [])
    return Distribution(name=distro["name"], version=distro["version"], channels=tuple(channels))


def _finding(match: dict[str, Any]) -> Finding:
    vulnerability, artifact = match["vulnerability"], match["artifact"]
    fix = _require_type(dict, vulnerability.get("fix"), {})
    epss = _require_type(list, vulnerability.get("epss"), [])
    related = _require_type(list, match.get("relatedVulnerabilities"), [])
    return Finding(
        id=vulnerability["id"],
        aliases=tuple(sorted({*(r["id"] for r in related), *_list_advisories(vulnerability)})),
        severity=Severity(vulnerability["severity"].lower()),
        package=artifact["name"],
        version=artifact["version"],
        type=artifact["type"],
        fixed_in=tuple(v for v in _require_type(list, fix.get("versions"), []) if v),
        fix_state=fix.get("state") or "unknown",
        known_exploited=bool(vulnerability.get("knownExploited")),
        epss=float(epss[0]["epss"]) if epss else None,
        cvss=max(_list_base_scores(vulnerability, *related), default=None),
        fixed_since=min(map(_day_of, _require_type(list, fix.get("available"), [])), default=None),
        layer=_layer(artifact),
    )


def _list_base_scores(*vulnerabilities: dict[str, Any]) -> Iterator[float]:
    """Yield the base scores of a vulnerability and of the others that it is related to, of every version of CVSS."""
    for vulnerability in vulnerabilities:
        for each in _require_type(list, vulnerability.get("cvss"), []):
            yield float(each["metrics"]["baseScore"])


def _day_of(available: dict[str, Any]) -> datetime:
    """Return the day on which a fixed version was available (`FixAvailable` of grype)."""
    return datetime.strptime(available["date"], "%Y-%m-%d").replace(tzinfo=UTC)


def _layer(artifact: dict[str, Any]) -> str | None:
    """Return the layer of the first file that lists a package; None if its files are not of an image."""
    locations = _require_type(list, artifact.get("locations"), [])
    return next((each["layerID"] for each in locations if each.get("layerID")), None)


def _list_advisories(vulnerability: dict[str, Any]) -> Iterator[str]:
    """Yield the identifiers of the advisories of those who fixed it; grype gives some of them only as a link."""
    for each in _require_type(list, vulnerability.get("advisories"), []):
        linked = LINKED.search(each["link"])
        if name := each["id"] or (linked and linked[1]):
            yield name


def _require_type(kind: type[T], value: Any, missing: T | None = None) -> T:
    """Return `value`, or `missing` if it is None and a default is given; raise `TypeError` unless it is a `kind`."""
    if value is None and missing is not None:
        return missing
    if not isinstance(value, kind):
        raise TypeError(f"{str(value)[:80]!r} in place of a {kind.__name__}")
    return value
