"""Packages in an image, compared with where they are published."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from supply_chain.adapters.image import dpkg_records
from supply_chain.adapters.image.base_packages import BasePackages, read_base_packages
from supply_chain.adapters.image.debian_packages import DebianArchive, DebianPackages, read_debian_packages
from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem
from supply_chain.adapters.image.npm_packages import NpmRegistry, read_npm_packages
from supply_chain.adapters.image.package_records import InstalledFiles, SystemFiles
from supply_chain.adapters.image.packaged_files import PackagedFiles, find_proven
from supply_chain.adapters.image.python_packages import PackageIndex, read_python_packages
from supply_chain.development.content import PackageComparison
from supply_chain.model.image import Digest

Files = Filesystem[FileContent]


@dataclass(frozen=True)
class PackageSources:
    """What packages are compared with; None: their own records count."""

    python: PackageIndex | None = None
    debian: DebianArchive | None = None
    npm: NpmRegistry | None = None
    count_base_layers: Callable[[Sequence[Digest]], int] = lambda _: 0
    """Returns how many of an image's first layers, by their digests, are those of a curated base; 0 if none."""


NO_SOURCES = PackageSources()
UNCOMPARED = {
    kind: re.compile(f".*/(?:{form})", re.DOTALL)
    for kind, form in (
        (".NET", r"[^/]*\.deps\.json|packages\.lock\.json"),
        ("Java", r"[^/]+\.(?:jar|war|ear|par|sar|nar|jpi|hpi|kar|lpkg)"),
        ("Lua", r"[^/]+\.rockspec"),
        ("PHP", r"installed\.json|php/\.registry/(?:.*/)?[^/]+\.reg"),
        ("R", r"DESCRIPTION"),
        ("Ruby", r"specifications/(?:.*/)?[^/]+\.gemspec"),
    )
}
"""Kind of packages that are compared with nothing → the paths by which syft finds them."""


@dataclass(frozen=True)
class SystemPackages:
    """What is known of the distribution's packages in an image."""

    debian: DebianPackages
    others: BasePackages
    read_base: Callable[[], Files | None] = lambda: None
    """Returns the files of the image's curated base."""

    @property
    def files(self) -> SystemFiles:
        """What they installed, as far as it was compared."""
        return SystemFiles(self.debian.digests, self.others.digests, has_apk=self.others.has_apk)

    def find_packaged(self, files: Files, checkpoint: Callable[[], object]) -> PackagedFiles:
        """Return which of an image's files are such a package's own."""
        compared = {dpkg_records.MANAGER: self.debian.digests or {}, **self.others.owned}
        uncompared = (dpkg_records.MANAGER,) if self.debian.uncompared else ()
        return PackagedFiles(
            proven={
                manager: paths
                for manager, digests in compared.items()
                if (paths := frozenset(find_proven(files, digests, checkpoint)))
            },
            elsewhere=self.debian.elsewhere,
            believed={*self.others.believed, *uncompared},
        )


def read_system_packages(
    files: Files,
    keeper: ContentStore,
    sources: PackageSources,
    layers: Sequence[Digest],
    architecture: str = "",
    checkpoint: Callable[[], object] = lambda: None,
) -> SystemPackages:
    """Return what is known of the distribution's packages in an image with these layers.

    `architecture` is the image's; packages of another one are false claims; empty: it is not known. `checkpoint` is
    called for each file, and may raise. Raises `PackageIndexUnavailable` or `PackageIndexFailed`, and `ValueError` for
    more packages than are compared.
    """

    @cache
    def read_base() -> Files | None:
        count = sources.count_base_layers(layers)
        return files.lower(count) if count else None

    debian = read_debian_packages(files, keeper, sources.debian, architecture, checkpoint, read_base)
    return SystemPackages(debian, read_base_packages(files, keeper, read_base, checkpoint), read_base)


def read_packages(
    files: Files,
    keeper: ContentStore,
    sources: PackageSources,
    system: SystemPackages,
    checkpoint: Callable[[], object] = lambda: None,
) -> tuple[InstalledFiles, PackageComparison]:
    """Return what packages installed in an image, and how they compare, with these packages of its distribution.

    Raises as `read_system_packages` does.
    """
    python = read_python_packages(files, keeper, sources.python, checkpoint, system.files)
    installed, debian, others = python.installed, system.debian, system.others
    npm = read_npm_packages(files, keeper, sources.npm, installed, system.read_base, checkpoint)
    return installed, PackageComparison(
        false_claims=(*python.false_claims, *debian.false_claims, *others.false_claims, *npm.false_claims),
        uncompared=python.uncompared,
        uncompared_debian=debian.uncompared,
        unknown=debian.unknown,
        uncompared_apk=others.packages,
        uncompared_databases=others.databases,
        uncompared_npm=npm.uncompared,
        uncompared_files=_count_uncompared(files, keeper, installed, system.read_base, checkpoint),
    )


def _count_uncompared(
    files: Files,
    keeper: ContentStore,
    installed: InstalledFiles,
    read_base: Callable[[], Files | None],
    checkpoint: Callable[[], object],
) -> dict[str, int]:
    """Return kind of packages → number of files by which scanners find them, without those of packages or the base."""
    counted = Counter[str]()
    for path, node in files.walk():
        checkpoint()
        content = node.content
        kind = next((kind for kind, form in UNCOMPARED.items() if content and form.fullmatch(path)), "")
        if content and kind and not installed.lists(path, content, keeper):
            base = read_base()
            below = base.resolve(path) if base else None
            counted[kind] += not (below and below[1].content and below[1].content.sha256 == content.sha256)
    return {kind: number for kind, number in sorted(counted.items()) if number}
