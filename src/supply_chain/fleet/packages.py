"""The normal form of package names and versions, which advisories and people write differently from SBOMs."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from supply_chain.evidence.sbom import Package, in_url, source_in, version_in

SEPARATORS = re.compile(r"[-_.]+")
MAVEN = re.compile(
    r"[^@:=\s]+:([^@:=\s]+)(?::(?:jar|war|pom|aar|bundle))?:([^@:=\s]+?)(?::(?:compile|runtime|provided|test|system))?"
)
"""`group:artifact:version`, as Maven writes it, also with packaging and scope."""
ARCHITECTURE = re.compile(r":(all|any|amd64|arm64|armel|armhf|i386|mips64el|ppc64el|riscv64|s390x)$")
"""The architecture that dpkg appends to a package name."""
MARKED = re.compile(r"^(?:v|go)(?=\d)")
"""The prefix of versions of Go and of Go modules that SBOMs have and advisories do not."""


def asked_for(text: str) -> tuple[str, str, str]:
    """Return type, name and version of a package URL, `name@version` or name; parts that are not given are empty.

    The parts are returned as written. Compare them by `name_of` and `version_of`.
    """
    if text.startswith("pkg:"):
        return in_url(text)
    if coordinates := MAVEN.fullmatch(text):
        return "", coordinates[1], coordinates[2]
    mark = "@" if "@" in text[1:] else "="
    name, _, version = text.rpartition(mark) if mark in text[1:] else (text, "", "")
    return "", ARCHITECTURE.sub("", name), version


def name_of(text: str) -> str:
    """Return the normal form of a name: lower case, `-` for each run of `-_.` (PEP 503), a Maven name's artifact only.

    Syft uses this form for Python packages, and names Java packages by artifact alone. Two packages may get the same
    name: finding too many images is better than finding too few.
    """
    return SEPARATORS.sub("-", text.rpartition(":")[2]).lower()


def version_of(text: str) -> str:
    """Return the normal form of a version; empty for none."""
    return MARKED.sub("", text.lower())


def names_of(package: Package) -> frozenset[tuple[str, str]]:
    """Return all names of a package with a version each: its own, that of its URL, and that of its source package.

    A version is empty if the SBOM gives none: it may be any version. The version of an RPM is returned with and without
    its epoch.
    """
    _, name, purl = package
    version, (source, of_source) = version_in(purl), source_in(purl)
    epoch, *_ = parse_qs(purl.partition("?")[2].partition("#")[0]).get("epoch", [""])
    named = ((name, version), (in_url(purl)[1], version), (source, of_source))
    with_epoch = ((each, f"{epoch}:{at}") for each, at in named if epoch and at)
    return frozenset((name_of(each), version_of(at)) for each, at in (*named, *with_epoch) if name_of(each))
