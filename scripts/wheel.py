"""Find the wheels in the image of this project."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath

from packageurl import PackageURL

from supply_chain.errors import EvidenceInvalid
from supply_chain.model.image import ImageRef

WHEELS = "opt/release"
"""Where examples/self/Dockerfile puts the wheels."""
PROJECT = "container_supply_chain"
DISTRIBUTIONS = (PROJECT, f"{PROJECT}_laptop")


def wheels_in(exported: Path, ref: ImageRef) -> dict[str, bytes]:
    """Return the wheels below `WHEELS` in an image's exported root filesystem (a tar), by name; the project's first.

    Raises `EvidenceInvalid` unless there is exactly one of each of the `DISTRIBUTIONS`.
    """
    with tarfile.open(exported) as tar:
        contents = {
            path.name: file.read()
            for member in tar
            if (path := PurePosixPath(member.name)).match(f"{WHEELS}/*.whl")
            and member.isreg()
            and (file := tar.extractfile(member))
        }
    wheels = sorted(contents, key=distribution_of)
    if tuple(map(distribution_of, wheels)) != DISTRIBUTIONS:
        raise EvidenceInvalid(
            f"{ref} has {', '.join(wheels) or 'no wheel'} in /{WHEELS}, and a release has one wheel of each of "
            f"{', '.join(DISTRIBUTIONS)}.\nCorrect examples/self/Dockerfile."
        )
    return {name: contents[name] for name in wheels}


def distribution_of(wheel: str) -> str:
    """Return the distribution in a wheel's file name."""
    return wheel.partition("-")[0]


def purl_of(wheel: str) -> str:
    """Return the package URL of a wheel's file name (binary distribution format, "File name convention")."""
    name, version = wheel.split("-")[:2]
    return PackageURL("pypi", name=name, version=version).to_string()
