"""The normal form of package names and versions, which advisories and people write differently from SBOMs."""

from __future__ import annotations

import re

from supply_chain.evidence.sbom import Package
from supply_chain.model.package_url import normalize_version, parse_package_url

SEPARATORS = re.compile(r"[-_.]+")
MAVEN = re.compile(
    r"[^@:=\s]+:([^@:=\s]+)(?::(?:jar|war|pom|aar|bundle))?:([^@:=\s]+?)(?::(?:compile|runtime|provided|test|system))?"
)
"""`group:artifact:version`, as Maven writes it, also with packaging and scope."""
ARCHITECTURE = re.compile(r":(all|any|amd64|arm64|armel|armhf|i386|mips64el|ppc64el|riscv64|s390x)$")
"""The architecture that dpkg appends to a package name."""


def parse_package(text: str) -> tuple[str, str, str]:
    """Return type, name and version of a package URL, `name@version` or name; parts that are not given are empty.

    The parts are returned as written. Compare them by `normalize_name` and `normalize_version`.
    """
    if text.startswith("pkg:"):
        return parse_package_url(text)[:3]
    if coordinates := MAVEN.fullmatch(text):
        return "", coordinates[1], coordinates[2]
    mark = "@" if "@" in text[1:] else "="
    name, _, version = text.rpartition(mark) if mark in text[1:] else (text, "", "")
    return "", ARCHITECTURE.sub("", name), version


def normalize_name(text: str) -> str:
    """Return the normal form of a name: lower case, `-` for each run of `-_.` (PEP 503), a Maven name's artifact only.

    Syft uses this form for Python packages, and names Java packages by artifact alone. Two packages may get the same
    name: finding too many images is better than finding too few.
    """
    return SEPARATORS.sub("-", text.rpartition(":")[2]).lower()


def list_package_names(package: Package) -> frozenset[tuple[str, str]]:
    """Return all names of a package with a version each: its own, that of its URL, and that of its source package.

    A version is empty if the SBOM gives none: it may be any version. The version of an RPM is returned with and without
    its epoch.
    """
    url = parse_package_url(package[2])
    named = ((package[1], url.version), (url.name, url.version), (url.source, url.source_version))
    with_epoch = ((each, f"{url.epoch}:{at}") for each, at in named if url.epoch and at)
    return frozenset(
        (normalize_name(each), normalize_version(at)) for each, at in (*named, *with_epoch) if normalize_name(each)
    )
