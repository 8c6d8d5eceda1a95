"""Signed SBOMs: where they are, by the digest in their statement, and the packages that they list."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from pydantic import AwareDatetime, Field

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.examination import EXAMINATION_VERSION, Examination, Identity
from supply_chain.evidence.reading import read_newest_statement
from supply_chain.evidence.statement import SBOM, Foreign, Predicate, VerifiedStatement
from supply_chain.model.image import Digest, ImageRef, digest_of

T = TypeVar("T")

LIMIT = 512 * 1024 * 1024
"""Maximum size of an SBOM in bytes; a larger one is treated as an attack on the reader."""
SYSTEM = ("deb", "rpm", "apk", "alpm", "portage")
"""Types of packages that a distribution's package manager manages, according to grype."""

Package = tuple[str, str, str]
"""Type, name and package URL; a scanner matches by the version, distribution and source package in the URL."""


class Configuration(NamedTuple):
    """What an image's configuration says about its containers (OCI image specification)."""

    user: str
    """The user that its program runs as; empty: root."""
    ports: tuple[str, ...]
    """The exposed ports, such as `8080/tcp`, sorted."""
    labels: Mapping[str, str]
    size: int
    """Bytes of all layers, unpacked."""


class Listing(NamedTuple):
    """What an SBOM lists."""

    packages: frozenset[Package]
    licenses: Mapping[str, frozenset[str]]
    """Licence as declared (an SPDX expression where there is one) → the packages, as `type/name`."""
    unlicensed: frozenset[str]
    """Packages without a licence, as `type/name`."""
    configuration: Configuration | None
    """None if the SBOM does not have it."""
    distribution: Identity | None
    """The distribution whose vulnerabilities a scanner looks for; None if the SBOM names none."""


@dataclass(frozen=True)
class SignedSbom:
    """The SBOM of record (syft JSON) of an image, as it was signed."""

    content: bytes
    generator: str
    referrer: Digest
    evidence: VerifiedStatement

    @property
    def digest(self) -> Digest:
        """Return the digest of the content."""
        return digest_of(self.content)

    @property
    def packages(self) -> frozenset[Package]:
        """Return all packages in the SBOM; raise `EvidenceInvalid` if it is not an SBOM made by syft."""
        return self._read(_packages)

    @property
    def listing(self) -> Listing:
        """Return what the SBOM lists; raise `EvidenceInvalid` if it is not an SBOM made by syft."""
        return self._read(_listing)

    @property
    def manifest(self) -> bytes:
        """Return the image's manifest as syft read it; the caller has to compare it with the image's digest."""
        return self._read(lambda sbom: base64.b64decode(sbom["source"]["metadata"]["manifest"], validate=True))

    def _read(self, find: Callable[[Any], T]) -> T:
        try:
            return find(json.loads(self.content))
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise _unreadable(self.evidence, error) from error


def list_packages(content: bytes) -> frozenset[Package]:
    """Return all packages in an SBOM that syft has just made."""
    return _packages(json.loads(content))


def _packages(sbom: Mapping[str, Any]) -> frozenset[Package]:
    return frozenset(map(_package, sbom["artifacts"]))


def _package(artifact: Mapping[str, Any]) -> Package:
    return str(artifact["type"]), str(artifact["name"]), str(artifact.get("purl", ""))


def _listing(sbom: Mapping[str, Any]) -> Listing:
    licenses, unlicensed = dict[str, set[str]](), set[str]()
    for artifact in sbom["artifacts"]:
        name = f"{artifact['type']}/{artifact['name']}"
        expressions = [str(each.get("spdxExpression") or each["value"]) for each in artifact.get("licenses") or ()]
        for each in expressions:
            licenses.setdefault(each, set()).add(name)
        if not expressions:
            unlicensed.add(name)
    return Listing(
        _packages(sbom),
        {name: frozenset(licenses[name]) for name in sorted(licenses)},
        frozenset(unlicensed),
        _configuration(sbom.get("source", {}).get("metadata", {})),
        _distribution(sbom.get("distro") or {}),
    )


def _distribution(distro: Mapping[str, Any]) -> Identity | None:
    if not distro.get("id"):
        return None
    version, codename = distro.get("versionID") or "", distro.get("versionCodename") or ""
    return Identity(id=_text(distro["id"]), version=_text(version), codename=_text(codename))


def _configuration(metadata: Mapping[str, Any]) -> Configuration | None:
    """Return the configuration of the image that syft read; None if it read no image.

    Raise `TypeError` or `ValueError` for one with other values than texts: whoever builds the image writes it.
    """
    if not metadata.get("config"):
        return None
    config = json.loads(base64.b64decode(metadata["config"])).get("config") or {}
    return Configuration(
        user=_text(config.get("User") or ""),
        ports=tuple(sorted(map(_text, config.get("ExposedPorts") or ()))),
        labels={_text(name): _text(value) for name, value in sorted((config.get("Labels") or {}).items())},
        size=int(metadata["imageSize"]),
    )


def _text(value: str) -> str:
    """Return a text; raise `UnicodeEncodeError` for half of a surrogate pair, and `AttributeError` for no text."""
    value.encode()
    return value


class Referred(Foreign):
    """The location and the generator of an SBOM. The names are our own."""

    referrer: Digest = Field(description="of the referrer whose only layer it is, gzipped")
    generator: str
    packages: int = Field(description="how many it lists")


class Reference(Foreign):
    """One format of the SBOM (in-toto reference v0.1, "references")."""

    name: str
    media_type: str
    digest: dict[str, str] = Field(description="of its content, unzipped")
    annotations: Referred


class Attester(Foreign):
    """The attester of the references."""

    id: str = "urn:cscm:tier:curation"


class References(Predicate):
    """The predicate of `statement.SBOM`: one SBOM in several formats, the one of record under `syft`."""

    attester: Attester = Attester()
    references: tuple[Reference, ...]
    examination: Examination | None = Field(default=None, description="what no scanner judges; null: not examined")
    created: AwareDatetime


@dataclass(frozen=True)
class Listed:
    """The SBOM of record of an image as its statement describes it; its content is not read yet."""

    content: Digest
    """Digest of the uncompressed SBOM. Two images with the same content share it."""
    referrer: Digest
    generator: str
    packages: int
    evidence: VerifiedStatement
    examination: Examination | None = None
    """What no scanner judges; None if curation did not examine the image, or with an older version of the
    examination."""

    def read(self, content: Callable[[ImageRef], bytes]) -> SignedSbom:
        """Return the SBOM; raise `EvidenceInvalid` if the stored content is not the signed one.

        `content` returns the only layer of a referrer.
        """
        try:
            layer = content(ImageRef(repository=self.evidence.repository, digest=self.referrer))
            sbom = _signed(_unzipped(layer), self.content.removeprefix("sha256:"))
        except (ValueError, zlib.error) as error:
            raise _unreadable(self.evidence, error) from error
        return SignedSbom(sbom, self.generator, self.referrer, self.evidence)


def find_last_sbom(evidence: Iterable[VerifiedStatement]) -> Listed | None:
    """Return the last signed SBOM; None if there is none. Raise `EvidenceInvalid` if its statement names none."""
    last = read_newest_statement(evidence, SBOM, References.model_validate)
    if last is None:
        return None
    try:
        (syft,) = [each for each in last.value.references if each.name == "syft"]
        content, about = f"sha256:{syft.digest['sha256']}", syft.annotations
    except (KeyError, ValueError) as error:
        raise _unreadable(last.evidence, error) from error
    examination = last.value.examination
    current = examination if examination and examination.version == EXAMINATION_VERSION else None
    return Listed(content, about.referrer, about.generator, about.packages, last.evidence, current)


def read_signed_sbom(evidence: Iterable[VerifiedStatement], content: Callable[[ImageRef], bytes]) -> SignedSbom | None:
    """Return the last signed SBOM with its content, or None; raise the errors of `find_last_sbom` and `Listed.read`."""
    listed = find_last_sbom(evidence)
    return None if listed is None else listed.read(content)


def read_sbom_packages(
    evidence: Iterable[VerifiedStatement], content: Callable[[ImageRef], bytes]
) -> frozenset[Package] | None:
    """Return all packages in the last signed SBOM, or None; raise the same errors as `read_signed_sbom`."""
    sbom = read_signed_sbom(evidence, content)
    return None if sbom is None else sbom.packages


def read_sbom_listing(evidence: Iterable[VerifiedStatement], content: Callable[[ImageRef], bytes]) -> Listing | None:
    """Return what the last signed SBOM lists; None if there is none. Raise the same errors as `read_signed_sbom`."""
    sbom = read_signed_sbom(evidence, content)
    return None if sbom is None else sbom.listing


def _unreadable(evidence: VerifiedStatement, error: Exception) -> EvidenceInvalid:
    return EvidenceInvalid(
        f"The SBOM that {evidence.repository}@{evidence.digest} names cannot be read: {str(error)[:500]}\n"
        "Run `cscm curate --force` on the image; it creates the SBOM again, and the last one counts."
    )


def _unzipped(content: bytes) -> bytes:
    unzip = zlib.decompressobj(wbits=31)
    sbom = unzip.decompress(content, LIMIT)
    if not unzip.eof:
        raise ValueError(f"it does not end within {LIMIT} bytes")
    return sbom


def _signed(sbom: bytes, sha256: str) -> bytes:
    if hashlib.sha256(sbom).hexdigest() != sha256:
        raise ValueError("its content is not what was signed")
    return sbom


def select_system_packages(packages: frozenset[Package]) -> frozenset[Package]:
    """Return those of the packages that a distribution's package manager manages."""
    return frozenset(package for package in packages if package[0] in SYSTEM)
