"""The parts of package URLs (purl specification) by which advisories, SBOMs and people name packages."""

from __future__ import annotations

import re
from typing import NamedTuple

from packageurl import PackageURL

NAMELESS = re.compile(r"[^?#]*/@[^/?#]*(?:[?#]|$)")
"""A URL without a name; packageurl takes the namespace for the name then."""
NAMESPACED = ("golang", "npm", "composer", "swift", "github")
"""Types of packages whose names include their namespace."""
MARKED = re.compile(r"^(?:v|go)(?=\d)")
"""The prefix of versions of Go and of Go modules that SBOMs have and advisories do not."""


class PackageParts(NamedTuple):
    """What a package URL says; a missing part is empty."""

    type: str = ""
    name: str = ""
    """The name as in an SBOM."""
    version: str = ""
    source: str = ""
    """The name of the source package, as advisories name it."""
    source_version: str = ""
    epoch: str = ""


def normalize_version(text: str) -> str:
    """Return the normal form of a version; empty for none."""
    return MARKED.sub("", text.lower())


def decode_package_url(text: str) -> PackageURL:
    """Return a package URL; raise `ValueError` if it is not a valid one."""
    if NAMELESS.match(text):
        raise ValueError(f"purl is missing the required name component: {text!r}.")
    return PackageURL.from_string(text)


def parse_package_url(text: str) -> PackageParts:
    """Return the parts of a package URL; all are empty if it is not a valid one, which an author may have intended.

    syft writes the source package as `upstream`: `openssl`, `openssl@3.0.15`, or the file name of an RPM,
    `glibc-2.34-100.el9.src.rpm`. Without a version there, the version is the package's own.
    """
    try:
        url = decode_package_url(text)
    except ValueError:
        return PackageParts()
    name = f"{url.namespace}/{url.name}" if url.namespace and url.type in NAMESPACED else url.name
    version, epoch, upstream = url.version or "", url.qualifiers.get("epoch", ""), url.qualifiers.get("upstream", "")
    if upstream.endswith(".src.rpm"):
        source, _, source_version = upstream.removesuffix(".src.rpm").rpartition("-")[0].rpartition("-")
    else:
        source, _, source_version = upstream.partition("@")
    return PackageParts(url.type, name, version, source, (source_version or version) if source else "", epoch)
