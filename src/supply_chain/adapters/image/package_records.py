"""Files that packages installed, by the records of pip and dpkg and by the image's base, and standard libraries."""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from supply_chain.adapters.image.database_paths import OWN, list_scanned, match_scanned
from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem, Node
from supply_chain.adapters.image.standard_library import StandardLibraries, find_libraries

Files = Filesystem[FileContent]
Digest = tuple[str, bytes]
"""Algorithm (hashlib's name) and digest of a file's content."""

RECORD = ".dist-info/RECORD"
"""End of the path of a package's record ("Recording installed projects")."""
PACKAGES = re.compile(r".*/(site|dist)-packages/", re.DOTALL)
"""Where pip and similar tools install packages with their records."""
CHECKSUMS = re.compile(r"/var/lib/dpkg/(info|status\.d)/[^/]+\.md5sums")
UNREAD = ("rpm", "pacman", "portage")
"""The package managers whose lists of files are not read."""
LARGEST_RECORD, MOST_RECORDS = 4 * 1024 * 1024, 64 * 1024 * 1024
"""Maximum bytes of a record, and of all records, that are read."""


def is_record(path: str) -> bool:
    """Return whether a file with this path may be a record that lists the files of packages."""
    return bool(path.endswith(RECORD) or CHECKSUMS.fullmatch(path))


@dataclass(frozen=True)
class SystemFiles:
    """What the distribution's packages installed, by path without links, as far as it was compared."""

    debian: Mapping[str, tuple[Digest, ...]] | None = None
    """Digests of what Debian packages installed there; None: dpkg's own records count."""
    base: Mapping[str, tuple[Digest, ...]] | None = None
    """Digests of the files of the curated base of an image with records of apk, rpm, pacman or portage; None: the image
    has no such base or no such records."""
    has_apk: bool = False
    """Whether the image has records of apk that are read."""


NOTHING_COMPARED = SystemFiles()


@dataclass(frozen=True)
class InstalledFiles:
    """What the records in an image list, and the standard libraries of interpreters without a record."""

    digests: Mapping[str, tuple[Digest, ...]]
    """Path without links → digests of what packages installed there, the last two of those that records list. Debian's
    packages of Python projects have two records, and one may be of the file before Debian changed it."""
    is_complete: bool
    """Whether it is known what the distribution's packages installed; false for rpm, pacman and portage without a
    curated base."""
    libraries: StandardLibraries

    def lists(self, path: str, content: FileContent, keeper: ContentStore) -> bool:
        """Return whether a package installed this file, unchanged.

        The records of dpkg need its content: a file that is not stored counts as changed.
        """
        return any(_matches(content, digest, keeper) for digest in self.digests.get(path, ()))


def _matches(content: FileContent, recorded: Digest, keeper: ContentStore) -> bool:
    algorithm, digest = recorded
    if algorithm == "sha256":
        return content.sha256 == digest
    stored = keeper.read(content)
    return stored is not None and hashlib.new(algorithm, stored, usedforsecurity=False).digest() == digest


def read_installed_files(
    files: Files,
    keeper: ContentStore,
    is_believed: Callable[[str], bool] = lambda _: True,
    system: SystemFiles = NOTHING_COMPARED,
) -> InstalledFiles:
    """Return the files that pip or dpkg recorded in an image or that are its base's, and its standard libraries.

    `is_believed` tells whether pip's record with this path counts. `system` is what the distribution's packages
    installed: nothing else counts of apk, and nothing of dpkg if it was compared.

    A record that is too large, or beyond `MOST_RECORDS`, lists nothing.
    """
    digests, room, is_complete = dict(system.base or {}), MOST_RECORDS, True
    for name, published in (system.debian or {}).items():
        digests[name] = (*published, *digests.get(name, ()))
    directories = dict[str, str]()
    for path, node in files.walk():
        is_complete = is_complete and (system.base is not None or not name_unread_manager(path, node))
        if node.content is None or not is_record(path) or (path.endswith(RECORD) and not is_believed(path)):
            continue
        if system.debian is not None and CHECKSUMS.fullmatch(path):
            continue
        content = keeper.read(node.content)
        if content is not None and len(content) <= room:
            room -= len(content)
            for name, digest in _parse(path, content):
                installed = resolve_directory(files, name, directories)
                digests[installed] = (*digests.get(installed, ())[-1:], digest)
    return InstalledFiles(digests, is_complete, find_libraries(files, has_apk=system.has_apk and system.base is None))


def name_unread_manager(path: str, node: Node[FileContent]) -> str:
    """Return the package manager whose list of files a file is, if such lists are not read; empty if none.

    Only files in a distribution's own directories count. The path decides, as it does for syft, or else the content.
    """
    if node.content is None:
        return ""
    for manager in UNREAD:
        if path.startswith(tuple(f"{each}/" for each in OWN[manager])):
            if manager == "portage":
                return manager if path.endswith("/CONTENTS") else ""
            is_scanned = bool(node.content.size) and manager in match_scanned(path)
            return manager if is_scanned or node.content.database == manager else ""
    return ""


def find_unread_databases(files: Files, checkpoint: Callable[[], object]) -> dict[str, str]:
    """Return path → package manager of each list of files that is not read, in any place and also through links.

    The path is without links. `checkpoint` is called for each file, and may raise.
    """
    databases = dict[str, str]()
    for path, node, scanned in list_scanned(files, checkpoint):
        if manager := name_unread_manager(path, node):
            databases[path] = manager
        elif scanned in UNREAD and node.content and node.content.size:
            databases[path] = scanned
    return databases


def resolve_directory(files: Files, path: str, resolved: dict[str, str]) -> str:
    """Return a path without links in its directory, such as `/usr/lib/x` for `/lib/x`; `resolved` is a cache."""
    directory, name = posixpath.split(path)
    if directory not in resolved:
        target = files.resolve(directory)
        resolved[directory] = target[0] if target else directory
    return posixpath.join(resolved[directory], name)


def _parse(path: str, content: bytes) -> Iterator[tuple[str, Digest]]:
    if path.endswith(RECORD):
        directory = posixpath.dirname(posixpath.dirname(path))
        listed = parse_record(content, directory) if PACKAGES.match(path) else {}
        return ((name, ("sha256", digest)) for name, digest in listed.items())
    return parse_checksums(content)


def parse_record(content: bytes, directory: str) -> dict[str, bytes]:
    """Return path → SHA-256 of the files below a directory of packages that a record in it lists."""
    listed = dict[str, bytes]()
    try:
        for row in csv.reader(io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")):
            path = posixpath.normpath(posixpath.join(directory, row[0])) if len(row) == 3 else ""
            name, _, value = row[1].partition("=") if path else ("", "", "")
            if path.startswith(f"{directory.rstrip('/')}/") and name == "sha256":
                listed[path] = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except (csv.Error, binascii.Error, ValueError):
        return {}
    return listed


def parse_checksums(content: bytes) -> Iterator[tuple[str, Digest]]:
    """Yield path and MD5 of the files that a Debian package's `md5sums` lists (deb-md5sums(5))."""
    for line in content.decode("utf-8", "surrogateescape").split("\n"):
        if match := re.fullmatch(r"([0-9a-f]{32}) [ *](.+)", line):
            yield posixpath.normpath(f"/{match[2]}"), ("md5", bytes.fromhex(match[1]))
