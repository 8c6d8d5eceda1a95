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
    elsewhere: Set[str] = frozenset()
    """Paths where other versions of the image's Debian packages have files, in the form of `drop_library_version`.
    Archives have these packages in other versions only."""
    believed: Set[str] = frozenset()
    """Package managers whose records count, because there was nothing to compare them with."""

    def are_of(self, manager: str, paths: Iterable[str]) -> bool:
        """Return whether a package of this manager, whose record lists the files with these paths, owns them.

        The paths are without links. If there are none, no package owns them.
        """
        if manager in self.believed:
            return True
        proven, elsewhere = self.proven.get(manager, ()), self.elsewhere if manager == DPKG else ()
        listed = tuple(paths)
        return bool(listed) and all(each in proven or drop_library_version(each) in elsewhere for each in listed)


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
