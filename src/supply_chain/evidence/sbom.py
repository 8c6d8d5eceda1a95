"""What a signed SBOM lists, read back by the digest that its statement names."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote

from pydantic import AwareDatetime, Field

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.examination import EXAMINATION_VERSION, Examination
from supply_chain.evidence.reading import newest
from supply_chain.evidence.statement import SBOM, Evidence, Foreign, Predicate
from supply_chain.model.image import Digest, ImageRef, digest_of

T = TypeVar("T")

LIMIT = 512 * 1024 * 1024
"""Bytes an SBOM may have; more is no inventory but an attack on whoever reads it."""
SYSTEM = ("deb", "rpm", "apk", "alpm", "portage")
"""Types of the packages that a distribution's package manager keeps account of; those that grype takes for such."""

Package = tuple[str, str, str]
"""Type, name, and the package URL, by which a scanner matches: version, distribution and source package."""


@dataclass(frozen=True)
class SignedSbom:
    """The SBOM of record (syft JSON) of an image, as it was signed."""

    content: bytes
    generator: str
    referrer: Digest
    evidence: Evidence

    @property
    def digest(self) -> Digest:
        """Of its content."""
        return digest_of(self.content)

    @property
    def packages(self) -> frozenset[Package]:
        """Everything it lists; `EvidenceInvalid` where it is no SBOM of syft's."""
        return self._read(lambda sbom: frozenset(map(_package, sbom["artifacts"])))

    @property
    def manifest(self) -> bytes:
        """The image's manifest, as syft read it: whoever uses it compares it with the image's digest."""
        return self._read(lambda sbom: base64.b64decode(sbom["source"]["metadata"]["manifest"], validate=True))

    def _read(self, find: Callable[[Any], T]) -> T:
        try:
            return find(json.loads(self.content))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise _unreadable(self.evidence, error) from error


NAMESPACED = ("golang", "npm", "composer", "swift", "github")
"""Types of packages of whose names their namespace is a part."""


def source_in(purl: str) -> tuple[str, str]:
    """Name and version of the source package that a package was built from, as advisories name it; empty for none.

    syft writes it as `upstream`: `openssl`, `openssl@3.0.15`, or an RPM's file, `glibc-2.34-100.el9.src.rpm`. Where
    it gives no version, it is the package's own.
    """
    upstream, *_ = parse_qs(purl.partition("?")[2].partition("#")[0]).get("upstream", [""])
    if upstream.endswith(".src.rpm"):
        name, _, rest = upstream.removesuffix(".src.rpm").rpartition("-")[0].rpartition("-")
        return (name, rest) if name else ("", "")
    name, _, version = upstream.partition("@")
    return name, version or (version_in(purl) if name else "")


def version_in(purl: str) -> str:
    """The version that a package URL names (purl specification, "version"); empty for none."""
    path = purl.partition("?")[0].partition("#")[0]
    return unquote(path.rpartition("@")[2]) if "@" in path.rpartition("/")[2] else ""


def in_url(purl: str) -> tuple[str, str, str]:
    """Type, name and version of a package by its URL, the name as an SBOM has it; what is not said is empty.

    Source: the purl specification.
    """
    bare = purl.removeprefix("pkg:").partition("?")[0].partition("#")[0].strip("/")
    version = version_in(bare)
    kind, _, path = bare.partition("/")
    path = path.rpartition("@")[0] if version else path
    return kind.lower(), unquote(path if kind.lower() in NAMESPACED else path.rpartition("/")[2]), version


def _package(artifact: Mapping[str, Any]) -> Package:
    return str(artifact["type"]), str(artifact["name"]), str(artifact.get("purl", ""))


class Referred(Foreign):
    """Where an SBOM lies, and who made it. The names are the model's own."""

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
    """Who says so."""

    id: str = "urn:cscm:tier:curation"


class References(Predicate):
    """The predicate of `statement.SBOM`: one SBOM in several formats, the one of record under `syft`."""

    attester: Attester = Attester()
    references: tuple[Reference, ...]
    examination: Examination | None = Field(default=None, description="what no scanner judges; null: nobody looked")
    created: AwareDatetime


@dataclass(frozen=True)
class Listed:
    """Where an image's SBOM of record lies and what it is, by the statement about it; it is not read yet."""

    content: Digest
    """Of the SBOM itself, unzipped: two images that contain the same have it in common."""
    referrer: Digest
    generator: str
    packages: int
    evidence: Evidence
    examination: Examination | None = None
    """What no scanner judges; None where nobody looked, or not for all that is looked for today."""

    def read(self, content: Callable[[ImageRef], bytes]) -> SignedSbom:
        """The SBOM; `content` gives a referrer's only layer. `EvidenceInvalid` where that is not the signed one."""
        try:
            layer = content(ImageRef(repository=self.evidence.repository, digest=self.referrer))
            sbom = _signed(_unzipped(layer), self.content.removeprefix("sha256:"))
        except (ValueError, zlib.error) as error:
            raise _unreadable(self.evidence, error) from error
        return SignedSbom(sbom, self.generator, self.referrer, self.evidence)


def last_listed(evidence: Iterable[Evidence]) -> Listed | None:
    """The last SBOM that is signed here; None where none is, `EvidenceInvalid` where the statement names none."""
    last = newest(evidence, SBOM, References.model_validate)
    if last is None:
        return None
    try:
        (syft,) = [each for each in last.value.references if each.name == "syft"]
        content, about = f"sha256:{syft.digest['sha256']}", syft.annotations
    except (KeyError, ValueError) as error:
        raise _unreadable(last.evidence, error) from error
    looked = last.value.examination
    current = looked if looked and looked.version == EXAMINATION_VERSION else None
    return Listed(content, about.referrer, about.generator, about.packages, last.evidence, current)


def sbom_in(evidence: Iterable[Evidence], content: Callable[[ImageRef], bytes]) -> SignedSbom | None:
    """The last SBOM that is signed here; None where none is. Errors as of `last_listed` and `Listed.read`."""
    listed = last_listed(evidence)
    return None if listed is None else listed.read(content)


def packages_in(evidence: Iterable[Evidence], content: Callable[[ImageRef], bytes]) -> frozenset[Package] | None:
    """Everything in the last SBOM that is signed here; None where none is. Errors as of `sbom_in`."""
    found = sbom_in(evidence, content)
    return None if found is None else found.packages


def _unreadable(evidence: Evidence, error: Exception) -> EvidenceInvalid:
    return EvidenceInvalid(
        f"The SBOM that {evidence.repository}@{evidence.digest} names cannot be read: {str(error)[:500]}\n"
        "Run `cscm curate --fresh` on the image; it makes the SBOM anew, and the last one counts."
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


def system_packages(packages: frozenset[Package]) -> frozenset[Package]:
    """Those that a distribution's package manager keeps account of."""
    return frozenset(package for package in packages if package[0] in SYSTEM)
