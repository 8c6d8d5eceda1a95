"""release: a file that an admitted image holds, signed so that it can be verified without the image."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.statement import Statement, Subject
from supply_chain.image import ImageRef

RELEASE = "https://in-toto.io/attestation/release/v0.1"
"""in-toto's release predicate v0.1: the files that belong to one release of a package."""

WHEELS = "opt/release"
"""Where the image of this project keeps its wheel."""


def released(purl: str, image: ImageRef, files: Mapping[str, bytes]) -> Statement:
    """A statement about files by their SHA-256: that they are the release `purl`, taken from the image.

    Whoever has one of the files and curation's public key can verify it.
    """
    return Statement(
        subject=tuple(
            Subject(name=name, digest={"sha256": hashlib.sha256(content).hexdigest()})
            for name, content in sorted(files.items())
        ),
        predicate_type=RELEASE,
        predicate={"purl": purl, "releaseId": image.digest, "image": str(image)},
    )


def wheel_in(exported: Path, ref: ImageRef) -> tuple[str, bytes]:
    """Name and content of the one wheel below `WHEELS` in an image's exported root filesystem (a tar)."""
    with tarfile.open(exported) as tar:
        found = [
            (path.name, file.read())
            for member in tar
            if (path := PurePosixPath(member.name)).match(f"{WHEELS}/*.whl")
            and member.isreg()
            and (file := tar.extractfile(member))
        ]
    if len(found) != 1:
        raise EvidenceInvalid(
            f"{ref} holds {len(found)} wheels in /{WHEELS}, and a release has one.\nCorrect examples/self/Dockerfile."
        )
    return found[0]


def purl_of(wheel: str) -> str:
    """The package URL that a wheel's file name stands for (binary distribution format, "File name convention")."""
    name, version = wheel.split("-")[:2]
    return f"pkg:pypi/{name.replace('_', '-').lower()}@{version}"
