"""Statements about the files in an admitted image, so that the files can be verified without the image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from supply_chain.evidence.statement import Statement, Subject
from supply_chain.model.image import ImageRef

RELEASE = "https://in-toto.io/attestation/release/v0.1"
"""in-toto's release predicate v0.1: the files that belong to one release of a package."""


def make_release_statement(purl: str, image: ImageRef, files: Mapping[str, bytes]) -> Statement:
    """Return a statement that files, identified by SHA-256, are the release `purl` and come from the image.

    Everybody who has one of the files and curation's public key can verify it.
    """
    return Statement(
        subject=tuple(
            Subject(name=name, digest={"sha256": hashlib.sha256(content).hexdigest()})
            for name, content in sorted(files.items())
        ),
        predicate_type=RELEASE,
        predicate={"purl": purl, "releaseId": image.digest, "image": str(image)},
    )
