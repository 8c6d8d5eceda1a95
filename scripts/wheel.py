"""Find the wheel in the image of this project."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath

from packageurl import PackageURL

from supply_chain.errors import EvidenceInvalid
from supply_chain.model.image import ImageRef

WHEELS = "opt/release"
"""Where examples/self/Dockerfile puts the wheel."""


def wheel_in(exported: Path, ref: ImageRef) -> tuple[str, bytes]:
    """Return name and content of the only wheel below `WHEELS` in an image's exported root filesystem (a tar).

    Raises `EvidenceInvalid` unless there is exactly one.
    """
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
    """Return the package URL of a wheel's file name (binary distribution format, "File name convention")."""
    name, version = wheel.split("-")[:2]
    return PackageURL("pypi", name=name, version=version).to_string()
