"""Make the vulnerability feed, which contains only facts, from a directory of advisory data.

    python scripts/make_feed.py ADVISORIES src/cscm_laptop/vulndb/feed/facts.json.xz

ADVISORIES contains `go-osv.tar.xz` (OSV JSON of golang/vulndb), `pypi-osv.tar.xz` (OSV YAML of
pypa/advisory-database), `debian-<codename>.json` (source → [main, security, {CVE: fixed}]), `kev.json.xz` (CISA) and
`cve-cvss.csv.xz` (CVE;score;severity;vector;source). Their dates are in `SOURCES`, because the files do not contain
them. Only identifiers, packages, versions, symbols, vectors and dates are used; withdrawn advisories are left out.
"""

from __future__ import annotations

import csv
import json
import lzma
import sys
import tarfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import yaml

from cscm_laptop.vulndb.feed.model import (
    DebianRelease,
    Exploited,
    Feed,
    GoPackage,
    GoRecord,
    Package,
    PythonRecord,
    Source,
    Window,
)

SOURCES = {
    "go": Source(origin="https://github.com/golang/vulndb", licence="CC-BY-4.0", as_of=date(2026, 8, 21)),
    "python": Source(
        origin="https://github.com/pypa/advisory-database",
        licence="CC-BY-4.0",
        as_of=date(2024, 10, 10),
    ),
    "debian": Source(origin="changelogs of Debian's own packages", licence="facts", as_of=date(2026, 11, 24)),
    "exploited": Source(origin="https://github.com/cisagov/kev-data", licence="CC0-1.0", as_of=date(2025, 8, 25)),
    "cvss": Source(origin="https://github.com/cisagov/vulnrichment", licence="CC0-1.0", as_of=date(2024, 10, 24)),
}
RELEASES = (("11", "bullseye"), ("12", "bookworm"))


def members(archive: Path, suffix: str) -> Iterator[bytes]:
    """Yield the content of an archive's files whose names end with `suffix`."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(suffix):
                file = tar.extractfile(member)
                assert file is not None
                yield file.read()


def windows(ranges: list[dict[str, Any]]) -> tuple[Window, ...]:
    """Return the windows of OSV ranges (https://ossf.github.io/osv-schema/#affectedrangesevents-fields).

    About twelve records repeat an event. They are read as grype's own builder reads them: of two starts, the later
    one counts; an end without a start ends a window that starts at the first version.
    """
    result: list[Window] = []
    start: str | None = None
    for event in (event for one in ranges if one["type"] != "GIT" for event in one["events"]):
        ((kind, version),) = event.items()
        if kind == "introduced":
            start = "" if version == "0" else version
        else:
            end = {"fixed": version} if kind == "fixed" else {"last": version}
            result.append(Window(start or "", **end))
            start = None
    if start is not None:
        result.append(Window(start))
    return tuple(result)


def moment(value: str | datetime | None) -> datetime | None:
    """Return a date of an advisory in UTC; None if there is none or its year is 1."""
    if value is None:
        return None
    time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    time = (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    return time.replace(microsecond=0) if time.year > 1 else None


def vector(record: dict[str, Any], vectors: dict[str, tuple[float, str]]) -> str | None:
    """Return the record's own CVSS vector, else the worst one that is known for one of its CVEs."""
    own = [severity["score"] for severity in record.get("severity", [])]
    candidates = [vectors[alias] for alias in record.get("aliases", []) if alias in vectors]
    return own[0] if own else max(candidates)[1] if candidates else None


def common(record: dict[str, Any], vectors: dict[str, tuple[float, str]]) -> dict[str, Any]:
    """Return the fields that Go and Python records have in common."""
    return {
        "id": record["id"],
        "aliases": tuple(record.get("aliases", [])),
        "published": moment(record.get("published")),
        "modified": moment(record.get("modified")),
        "cvss": vector(record, vectors),
    }


def go_package(affected: dict[str, Any]) -> GoPackage:
    """Return a Go package of an advisory."""
    more = affected.get("ecosystem_specific", {})
    return GoPackage(
        name=affected["package"]["name"],
        windows=windows(affected.get("ranges", [])),
        custom=windows(more.get("custom_ranges", [])),
        imports={one["path"]: tuple(one.get("symbols", [])) for one in more.get("imports", [])},
    )


def go(directory: Path, vectors: dict[str, tuple[float, str]]) -> Iterator[GoRecord]:
    """Yield the Go records."""
    for text in members(directory / "go-osv.tar.xz", ".json"):
        record = json.loads(text)
        if "withdrawn" not in record:
            packages = tuple(go_package(affected) for affected in record["affected"])
            yield GoRecord(**common(record, vectors), packages=packages)


def python_package(affected: dict[str, Any]) -> Package:
    """Return a Python package of an advisory."""
    ranges = windows(affected.get("ranges", []))
    if not ranges:  # the record lists only single versions
        ranges = tuple(Window(version, last=version) for version in affected["versions"])
    return Package(name=affected["package"]["name"], windows=ranges)


def python(directory: Path, vectors: dict[str, tuple[float, str]]) -> Iterator[PythonRecord]:
    """Yield the Python records."""
    for text in members(directory / "pypi-osv.tar.xz", ".yaml"):
        record = yaml.load(text, yaml.CSafeLoader)
        if "withdrawn" not in record:
            packages = tuple(python_package(affected) for affected in record["affected"])
            yield PythonRecord(**common(record, vectors), packages=packages)


def debian(directory: Path) -> Iterator[DebianRelease]:
    """Yield the fixes of each Debian release."""
    for version, codename in RELEASES:
        packages = json.loads((directory / f"debian-{codename}.json").read_text())
        fixes = {name: dict(sorted(fixed.items())) for name, (_, _, fixed) in sorted(packages.items()) if fixed}
        yield DebianRelease(version=version, codename=codename, fixes=fixes)


def exploited(directory: Path) -> Iterator[Exploited]:
    """Yield the vulnerabilities that are known to be exploited."""
    for entry in json.loads(lzma.decompress((directory / "kev.json.xz").read_bytes()))["vulnerabilities"]:
        yield Exploited(
            cve=entry["cveID"],
            vendor=entry["vendorProject"],
            product=entry["product"],
            added=entry["dateAdded"],
            due=entry["dueDate"],
            ransomware=entry["knownRansomwareCampaignUse"].lower(),
            cwes=tuple(entry.get("cwes", [])),
        )


def cvss(directory: Path) -> dict[str, tuple[float, str]]:
    """Return score and vector of each CVE."""
    text = lzma.decompress((directory / "cve-cvss.csv.xz").read_bytes()).decode()
    rows = csv.DictReader(text.splitlines(), delimiter=";")
    return {row["cve"]: (float(row["score"]), row["vector"]) for row in rows}


def make(directory: Path) -> Feed:
    """Return the feed, in a stable order."""
    vectors = cvss(directory)
    releases = tuple(debian(directory))
    cves = sorted({cve for one in releases for fixes in one.fixes.values() for cve in fixes})
    return Feed(
        format=1,
        sources=SOURCES,
        go=tuple(sorted(go(directory, vectors), key=lambda one: one.id)),
        python=tuple(sorted(python(directory, vectors), key=lambda one: one.id)),
        debian=releases,
        debian_cvss={cve: vectors[cve][1] for cve in cves if cve in vectors},
        exploited=tuple(sorted(exploited(directory), key=lambda one: one.cve)),
    )


def main() -> None:
    """Write the feed."""
    directory, target = Path(sys.argv[1]), Path(sys.argv[2])
    feed = make(directory)
    text = feed.model_dump_json(exclude_defaults=True).encode()
    target.write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
    fixes = sum(len(cves) for one in feed.debian for cves in one.fixes.values())
    print(
        f"{target}: {len(feed.go)} Go, {len(feed.python)} Python, {fixes} Debian fixes, "
        f"{len(feed.exploited)} exploited; {target.stat().st_size} bytes"
    )


if __name__ == "__main__":
    main()
