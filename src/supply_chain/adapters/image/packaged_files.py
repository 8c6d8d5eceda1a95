"""Files of an image that are a distribution package's own, as far as that was compared.

A scanner reports no program that a package owns, because the package's version says more. It takes the records' word
for what a package owns, and a step of a build can write records.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field

from supply_chain.adapters.image.dpkg_records import MANAGER as DPKG
from supply_chain.adapters.image.file_content import FileContent
from supply_chain.adapters.image.filesystem import Filesystem
from supply_chain.adapters.image.package_records import Digest

LIBRARY_VERSION = re.compile(r"(-[0-9.]+)?\.so(\.[0-9]+)*\Z")
"""End of the name of a library with its versions."""


@dataclass(frozen=True)
class PackagedFiles:
    """Which files are a package's own."""

    proven: Mapping[str, Set[str]] = field(default_factory=dict)
    """Package manager → paths without links of its packages' files that an archive published or the curated base has.
    """
    elsewhere: Mapping[tuple[str, str], Set[str]] = field(default_factory=dict)
    """Name and version of each Debian package that archives have in other versions only → paths where these versions
    have files, in the form of `drop_library_version`."""
    believed: Set[str] = frozenset()
    """Package managers whose records count, because there was nothing to compare them with. They count for programs of
    the package's version."""

    def are_of(self, manager: str, packages: Iterable[tuple[str, str]], paths: Iterable[str]) -> bool:
        """Return whether packages of this manager own the files of a program with these paths without links.

        Their records say so. `packages` are name and version of those that have the program's version: neither records
        nor other versions of a package show anything about a program of another version. No package owns a program
        without files.
        """
        same, listed = tuple(packages), tuple(paths)
        if same and manager in self.believed:
            return True
        proven = self.proven.get(manager, ())
        others = [self.elsewhere[each] for each in same if each in self.elsewhere] if manager == DPKG else []

        def is_owned(path: str) -> bool:
            return path in proven or any(drop_library_version(path) in places for places in others)

        return bool(listed) and all(map(is_owned, listed))


def drop_library_version(path: str) -> str:
    """Return a path without the version in the name of a library, such as `libhat.so` for `libhat-2.0.so.1.2`.

    Versions of a package have one library with different numbers. The directory counts, and so does the complete name
    of a program: `python2.7` is not `python3.11`.
    """
    return LIBRARY_VERSION.sub(".so", path)


def find_proven(
    files: Filesystem[FileContent], digests: Mapping[str, tuple[Digest, ...]], checkpoint: Callable[[], object]
) -> Iterator[str]:
    """Yield each path without links whose file has one of these SHA-256."""
    for path, published in digests.items():
        checkpoint()
        file = files.resolve(path, follow=False)
        if file and file[1].content and ("sha256", file[1].content.sha256) in published:
            yield file[0]
