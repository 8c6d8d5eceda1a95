"""What a signed SBOM lists, read back by the digest that its statement names."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.statement import SBOM, Evidence
from supply_chain.image import ImageRef

LIMIT = 512 * 1024 * 1024
"""Bytes an SBOM may have; more is no inventory but an attack on whoever reads it."""
SYSTEM = ("deb", "rpm", "apk")
"""Types of the packages that a distribution's package manager keeps account of."""

Package = tuple[str, str]
"""Type and name: `("deb", "openssl")`."""


def packages_in(evidence: Sequence[Evidence], content: Callable[[ImageRef], bytes]) -> frozenset[Package] | None:
    """Everything in the last SBOM that is signed here; None where none is.

    `content` gives a referrer's only layer. `EvidenceInvalid` where the layer is not the signed one.
    """
    signed = [e for e in evidence if e.predicate_type == SBOM]
    if not signed:
        return None
    last = signed[-1]
    try:
        (syft,) = [r for r in last.predicate["references"] if r["name"] == "syft"]
        referrer = ImageRef(repository=last.repository, digest=syft["annotations"]["referrer"])
        sbom = _signed(_unzipped(content(referrer)), syft["digest"]["sha256"])
        return frozenset((str(a["type"]), str(a["name"])) for a in json.loads(sbom)["artifacts"])
    except (KeyError, TypeError, ValueError, zlib.error, RecursionError) as error:
        raise EvidenceInvalid(
            f"The SBOM that {last.repository}@{last.digest} names cannot be read: {str(error)[:500]}\n"
            "Run `cscm curate` again; it makes the SBOM anew."
        ) from error


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
