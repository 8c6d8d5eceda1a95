"""Packages in an image, compared with where they are published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from supply_chain.adapters.image import python_packages
from supply_chain.adapters.image.debian_packages import DebianArchive, read_debian_packages
from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem
from supply_chain.adapters.image.python_packages import PackageIndex, Packages

Files = Filesystem[FileContent]


@dataclass(frozen=True)
class PackageSources:
    """What packages are compared with; None: their own records count."""

    python: PackageIndex | None = None
    debian: DebianArchive | None = None


NO_SOURCES = PackageSources()


def read_packages(
    files: Files, keeper: ContentStore, sources: PackageSources, checkpoint: Callable[[], object] = lambda: None
) -> Packages:
    """Return what is known of the Debian and Python packages in an image.

    `checkpoint` is called for each file, and may raise. Raises `PackageIndexUnavailable` or `PackageIndexFailed`, and
    `ValueError` for more packages than are compared.
    """
    debian = read_debian_packages(files, keeper, sources.debian, checkpoint)
    python = python_packages.read_packages(files, keeper, sources.python, checkpoint, debian.digests)
    return replace(
        python,
        false_claims=(*python.false_claims, *debian.false_claims),
        uncompared_debian=debian.uncompared,
        unknown=debian.unknown,
    )
