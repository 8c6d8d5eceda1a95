"""Debian packages in an image, compared with what archives published under their names.

A step of a build can write any record of dpkg. Scanners believe it, so a false version or source hides vulnerabilities;
its list of files would say of any code that a package installed it.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Protocol

from supply_chain.adapters.image.debian_version import make_version_key
from supply_chain.adapters.image.distribution import read_distribution
from supply_chain.adapters.image.dpkg_records import (
    ALL,
    DebianPackage,
    Record,
    find_lists,
    list_paths,
    read_records,
)
from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem, Kind, escape_path
from supply_chain.adapters.image.package_records import Digest, resolve_directory
from supply_chain.adapters.image.packaged_files import drop_library_version
from supply_chain.evidence.examination import Identity

Files = Filesystem[FileContent]

ARCHITECTURES = {"386": "i386", "arm": "armhf", "mips64le": "mips64el", "ppc64le": "ppc64el"}
"""A platform's architecture (Go's name) → Debian's name for it, if it is another one."""
MOST_FILES = 1_000_000
"""Maximum files in the Debian packages of an image."""
MOST_NAMED = 3
CODE = re.compile(r".*\.(pyw?|pth|so(\.[\d.]+)?|pl|pm|rb|[cm]?js|jar|sh)", re.IGNORECASE | re.DOTALL)
"""Path of a file with code, whatever it begins with."""
STARTS = (b"\x7fELF", b"#!")
"""Beginning of a program, a library or a script."""
NO_CODE = ("/etc/", "/usr/share/doc/")
"""Where administrators may change a package's files, or leave them out (Debian policy, 10.7 and 12.3)."""


@dataclass(frozen=True)
class PublishedPackage:
    """What archives published, or a base has, as a package of this name, version and architecture."""

    has_name: bool = True
    """Whether an archive has the name."""
    newest: str = ""
    """Newest version of this name in the archives of the image's distribution; empty if they have none, or if there is
    no archive of the distribution."""
    others: Set[str] = frozenset()
    """Other architectures for which the archives have this version."""
    sources: Set[str] = frozenset()
    """Name and version of its source, as `DebianPackage` has them; empty if no archive has this version."""
    files: Mapping[str, Set[bytes]] = field(default_factory=dict)
    """Path in the package → SHA-256 of each regular file; archives can have several packages of a version."""
    code: Set[str] = frozenset()
    """Paths of programs, libraries and scripts, which nobody changes but by installing another version."""
    links: Mapping[str, Set[str]] = field(default_factory=dict)
    """Path of each symbolic link with the name of code, such as `libhat.so.2` → its targets."""


def is_code(path: str, start: bytes) -> bool:
    """Return whether a package's file with this path, which begins so, is code."""
    return not path.startswith(NO_CODE) and bool(start.startswith(STARTS) or CODE.fullmatch(path))


class DebianArchive(Protocol):
    """Archives of Debian packages."""

    def find(
        self, packages: Collection[DebianPackage], distribution: Identity | None
    ) -> Mapping[DebianPackage, PublishedPackage]:
        """Return what was published as each package of an image of a distribution; raise `PackageIndexFailed`.

        Raises `ValueError` for packages with more bytes than are compared.
        """

    def find_paths(
        self, packages: Collection[DebianPackage], distribution: Identity | None
    ) -> Mapping[DebianPackage, Set[str]]:
        """Return the paths of the files in other versions of each package, for its architecture.

        Empty if the archives have none. Raises as `find` does.
        """


@dataclass(frozen=True)
class DebianPackages:
    """What is known of the Debian packages in an image."""

    digests: Mapping[str, tuple[Digest, ...]] | None = None
    """Path without links → digests of what was published to be there; None: the packages' own records count."""
    false_claims: tuple[str, ...] = ()
    """`path:line: why` for each record that claims what no archive published."""
    unknown: tuple[str, ...] = ()
    """Name and version of each package that the archives have in other versions only: they forget the older ones."""
    uncompared: int = 0
    """Number of packages that were not compared, because there is no archive."""
    elsewhere: Mapping[tuple[str, str], Set[str]] = field(default_factory=dict)
    """Where other versions of the unknown packages have files; see `PackagedFiles`."""


def read_debian_packages(
    files: Files,
    keeper: ContentStore,
    archive: DebianArchive | None,
    architecture: str,
    checkpoint: Callable[[], object] = lambda: None,
    read_base: Callable[[], Files | None] = lambda: None,
) -> DebianPackages:
    """Return what is known of the Debian packages in an image, compared with what `archive` has.

    `architecture` is the image's (Go's name), whose packages alone count; empty: it is not known. A file counts as
    installed by a package only if it is what an archive published. Of a package that no archive has in this version,
    nothing counts as installed, unless the base has it: `read_base`, called if it is needed, returns the files of the
    image's curated base.
    Without an archive, the packages' own records count. `checkpoint` is called for each file, and may raise. Raises
    `PackageIndexUnavailable` or `PackageIndexFailed`, and `ValueError` for more packages than are compared.
    """
    records, false_claims = read_records(files, keeper, checkpoint)
    if archive is None:
        return DebianPackages(uncompared=len(records))
    machine = ARCHITECTURES.get(architecture, architecture)
    own = list[Record]()
    for record in records:
        if not machine or record.package.architecture in (machine, ALL):
            own.append(record)
        else:  # its files would be in other places, where nothing differs
            false_claims.append(record.explain(f"in an image for {machine}"))
    distribution = read_distribution(files, keeper)
    published = dict(archive.find({each.package for each in own}, distribution))
    missing = {package for package, each in published.items() if not each.sources}
    if missing and (base := read_base()) is not None:
        published |= _find_in_base(base, keeper, missing, checkpoint)
    dropped = {package for package, each in published.items() if _is_dropped(package, each)}
    older = _select_with_programs(files, keeper, dropped, checkpoint) if dropped else set[DebianPackage]()
    paths = archive.find_paths(older, distribution) if older else {}
    return _compare(files, own, published, paths, false_claims, checkpoint)


def _is_dropped(package: DebianPackage, published: PublishedPackage) -> bool:
    """Return whether the archives have a package in newer versions only."""
    return not published.sources and published.has_name and not _explain(package, published)


def _select_with_programs(
    files: Files, keeper: ContentStore, packages: Iterable[DebianPackage], checkpoint: Callable[[], object]
) -> set[DebianPackage]:
    """Return the packages whose lists name programs. Where other versions have these is downloaded."""
    lists = find_lists(files, checkpoint)

    def is_program(path: str) -> bool:
        checkpoint()
        file = files.resolve(path, mounted=True)
        return bool(file and file[1].content and file[1].content.machine)

    def names_program(package: DebianPackage) -> bool:
        contents = (keeper.read(each) or b"" for each in lists.get(package.name, ()))
        return any(is_program(path) for content in contents for path in list_paths(content))

    return set(filter(names_program, packages))


def _find_in_base(
    base: Files, keeper: ContentStore, packages: Set[DebianPackage], checkpoint: Callable[[], object]
) -> dict[DebianPackage, PublishedPackage]:
    """Return those of the packages that a curated base has, with the files that its lists name."""
    same = packages & {each.package for each in read_records(base, keeper, checkpoint)[0]}
    lists, links = (find_lists(base, checkpoint), _find_code_links(base)) if same else ({}, {})
    return {package: _describe_installed(base, keeper, package, lists.get(package.name, ()), links) for package in same}


def _find_code_links(base: Files) -> dict[str, dict[str, str]]:
    """Return the path of a file → path and target of each link with the name of code that leads to it."""
    links = defaultdict[str, dict[str, str]](dict)
    for path, node in base.walk():
        if node.kind is Kind.LINK and is_code(path, b"") and (file := base.resolve(path)):
            links[file[0]][path] = node.target
    return links


def _describe_installed(
    base: Files,
    keeper: ContentStore,
    package: DebianPackage,
    lists: Collection[FileContent],
    links: Mapping[str, Mapping[str, str]],
) -> PublishedPackage:
    """Return what a base has of a package: the files that its lists name, and the links to its code."""
    digests, code, leading = dict[str, Set[bytes]](), set[str](), dict[str, Set[str]]()
    for path in (path for each in lists for path in list_paths(keeper.read(each) or b"")):
        file = base.resolve(path)
        if file and file[1].content:
            content = file[1].content
            digests[path] = frozenset({content.sha256})
            start = STARTS[0] if content.machine else (keeper.read(content) or b"")[:4]
            if is_code(path, start):
                code.add(path)
                leading |= {link: {target} for link, target in links.get(file[0], {}).items()}
    return PublishedPackage(sources={package.source}, files=digests, code=code, links=leading)


def _compare(
    files: Files,
    records: list[Record],
    published: Mapping[DebianPackage, PublishedPackage],
    paths: Mapping[DebianPackage, Set[str]],
    false_claims: list[str],
    checkpoint: Callable[[], object],
) -> DebianPackages:
    number = sum(len(published[each.package].files) + len(paths.get(each.package, ())) for each in records)
    if number > MOST_FILES:
        raise ValueError(f"its Debian packages have more than {MOST_FILES} files")
    digests, links = defaultdict[str, set[bytes]](set), defaultdict[str, set[str]](set)
    places, directories = dict[str, str](), dict[str, str]()
    for package in {each.package: None for each in records}:
        for path in (*published[package].files, *published[package].links):
            checkpoint()
            places[path] = resolve_directory(files, path, directories)
            digests[places[path]] |= published[package].files.get(path, set())
            for target in published[package].links.get(path, ()):  # whoever merges directories may adjust it
                links[places[path]].add(posixpath.normpath(posixpath.join(posixpath.dirname(path), target)))
    claims = _Published(files, places, digests, links)
    unknown, reasons = list[str](), dict[DebianPackage, str]()
    elsewhere = defaultdict[tuple[str, str], set[str]](set)
    for record in records:
        checkpoint()
        package, each = record.package, published[record.package]
        if package not in reasons:
            reasons[package] = _explain(package, each) or claims.explain_code(each)
        if reasons[package]:
            false_claims.append(record.explain(reasons[package]))
        elif not each.sources:
            unknown.append(escape_path(f"{package.name} {package.version}")[:200])
            for path in paths.get(package, ()):
                place = resolve_directory(files, path, directories)
                elsewhere[package.name, package.version].add(drop_library_version(place))
    return DebianPackages(
        {path: tuple(("sha256", digest) for digest in sorted(listed)) for path, listed in digests.items() if listed},
        tuple(sorted(false_claims)),
        tuple(sorted(set(unknown))),
        elsewhere=elsewhere,
    )


def _explain(package: DebianPackage, published: PublishedPackage) -> str:
    """Return why a record is false, as far as the archives' lists of packages say."""
    if published.sources:
        if package.source in published.sources:
            return ""
        return f"which is of the source {' or '.join(sorted(published.sources))}, not {escape_path(package.source)}"
    if published.others:
        return f"and the archives have it for {' and '.join(sorted(published.others))}"
    # a version that equals the newest, and is not found, is another spelling of it
    if published.newest and make_version_key(package.version) >= make_version_key(published.newest):
        return f"and the newest that the archives have is {published.newest}"
    return ""


@dataclass(frozen=True)
class _Published:
    """What was published to be in an image."""

    files: Files
    places: Mapping[str, str]
    """Path in a package → path without links."""
    digests: Mapping[str, Set[bytes]]
    """Path without links → SHA-256 of the files of all packages."""
    links: Mapping[str, Set[str]]
    """Path without links → absolute paths of the targets of the links of all packages."""

    def explain_code(self, published: PublishedPackage) -> str:
        """Return which code of a package is not what any archive published to be there; empty if none.

        Some of it may be left out. If all of it is, other code may be in its place, as the names of libraries have
        versions.
        """
        places = {self.places[path] for path in (*published.code, *published.links)}
        present = {place: file for place in places if (file := self._find(place)) is not None}
        changed = {file[0] for place, file in present.items() if not self._is_published(place, *file)}
        if changed:
            return f"and what is published differs from {_name_some(changed)}"
        return "but none of its code is in the image" if places and not present else ""

    def _find(self, path: str) -> tuple[str, FileContent] | None:
        """Return the path without links and the content of the file at a path; None if there is none."""
        file = self.files.resolve(path, mounted=True)
        return (file[0], file[1].content) if file and file[1].content else None

    def _is_published(self, place: str, real: str, content: FileContent) -> bool:
        if content.sha256 in self.digests.get(place, ()):
            return True
        targets = map(self._find, self.links.get(place, ()))
        return real in {target[0] for target in targets if target}


def _name_some(paths: Set[str]) -> str:
    named = ", ".join(map(escape_path, sorted(paths)[:MOST_NAMED]))
    return named + (f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else "")
