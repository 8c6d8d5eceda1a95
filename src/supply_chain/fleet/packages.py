"""How packages are asked for: advisories and people write names and versions in other ways than SBOMs."""

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
"""What dpkg puts after a name."""
MARKED = re.compile(r"^(?:v|go)(?=\d)")
"""How versions of Go's modules, and Go's own, begin in an SBOM and not in an advisory."""


def asked_for(text: str) -> tuple[str, str, str]:
    """Type, name and version of what is asked for: a package URL, `name@version` or a name; what is not said is empty.

    As they are written: what is compared is `name_of` and `version_of` them.
    """
    if text.startswith("pkg:"):
        return in_url(text)
    if coordinates := MAVEN.fullmatch(text):
        return "", coordinates[1], coordinates[2]
    mark = "@" if "@" in text[1:] else "="
    name, _, version = text.rpartition(mark) if mark in text[1:] else (text, "", "")
    return "", ARCHITECTURE.sub("", name), version


def name_of(text: str) -> str:
    """The one way of writing a name: lower case, `-` for every run of `-_.` (PEP 503); of `group:artifact` the latter.

    So syft names Python's packages, and Java's by artifact alone. Two packages may come to have one name: rather
    too many images are found than too few.
    """
    return SEPARATORS.sub("-", text.rpartition(":")[2]).lower()


def version_of(text: str) -> str:
    """The one way of writing a version; empty for none."""
    return MARKED.sub("", text.lower())


def names_of(package: Package) -> frozenset[tuple[str, str]]:
    """Every name of a package, each with a version: its own, its URL's, that of the source it was built from.

    A version is empty where the SBOM gives none: it may be any. An RPM's is there with and without its epoch.
    """
    _, name, purl = package
    version, (source, of_source) = version_in(purl), source_in(purl)
    epoch, *_ = parse_qs(purl.partition("?")[2].partition("#")[0]).get("epoch", [""])
    named = ((name, version), (in_url(purl)[1], version), (source, of_source))
    with_epoch = ((each, f"{epoch}:{at}") for each, at in named if epoch and at)
    return frozenset((name_of(each), version_of(at)) for each, at in (*named, *with_epoch) if name_of(each))
