"""The wheel that the image of this project holds."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath

from supply_chain.errors import EvidenceInvalid
from supply_chain.model.image import ImageRef

WHEELS = "opt/release"
"""Where examples/self/Dockerfile keeps it."""


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
