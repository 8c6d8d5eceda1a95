"""Packages of apk, rpm, pacman and portage in an image, compared with those of its curated base.

A step of a build can write any of their records, and they are compared with no archive. So they count only as far as
the base has them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from supply_chain.adapters.image.apk_records import ApkRecord, find_apk_databases, read_apk_records
from supply_chain.adapters.image.debian_packages import STARTS, is_code
from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem, escape_path
from supply_chain.adapters.image.package_records import Digest, name_unread_manager

Files = Filesystem[FileContent]

REMEDY = "install it in the base, or review this line"


@dataclass(frozen=True)
class BasePackages:
    """What is known of the packages of these managers in an image."""

    digests: Mapping[str, tuple[Digest, ...]] | None = None
    """Path without links → digest of each file of the base; None: the image has no base or no such packages."""
    false_claims: tuple[str, ...] = ()
    """`path:line: why` for each record of apk that is false or cannot be believed."""
    packages: tuple[str, ...] = ()
    """Name and version of each package of apk that the base lacks, or has of another source."""
    databases: tuple[str, ...] = ()
    """Package manager and path of each database of rpm, pacman or portage that is not the base's."""
    has_apk: bool = False
    """Whether the image has records of apk that are read."""


def read_base_packages(
    files: Files,
    keeper: ContentStore,
    read_base: Callable[[], Files | None],
    checkpoint: Callable[[], object] = lambda: None,
) -> BasePackages:
    """Return what is known of the packages of apk, rpm, pacman and portage in an image.

    `read_base`, called if there are any, returns the files of the image's curated base; None: it has none. `checkpoint`
    is called for each file and record, and may raise.
    """
    databases = {path: manager for path, node in files.walk() if (manager := name_unread_manager(path, node))}
    if not databases and not find_apk_databases(files, checkpoint):
        return BasePackages()
    base = read_base()
    records, false_claims = read_apk_records(files, keeper, checkpoint)
    own = read_apk_records(base, keeper, checkpoint)[0] if base else []
    same = set(map(_identify, own))
    if base:
        false_claims += _find_false_versions(files, base, keeper, records, own)
    return BasePackages(
        digests=_list_digests(base, checkpoint) if base else None,
        false_claims=tuple(sorted(false_claims)),
        packages=tuple(sorted({each.title for each in records if _identify(each) not in same})),
        databases=tuple(_list_changed(files, base, databases)),
        has_apk=bool(records),
    )


def _list_digests(base: Files, checkpoint: Callable[[], object]) -> dict[str, tuple[Digest, ...]]:
    digests = dict[str, tuple[Digest, ...]]()
    for path, node in base.walk():
        checkpoint()
        if node.content:
            digests[path] = (("sha256", node.content.sha256),)
    return digests


def _find_false_versions(
    files: Files, base: Files, keeper: ContentStore, records: Iterable[ApkRecord], own: Collection[ApkRecord]
) -> Iterator[str]:
    """Yield `path:line: why` for each record with another version or source than its code in the base has.

    A scanner would look for the vulnerabilities of another version than is installed.
    """
    same, claims = set(map(_identify, own)), defaultdict[str, list[ApkRecord]](list)
    for record in records:
        if _identify(record) not in same:
            claims[record.name].append(record)
    for each in own:
        if each.name in claims and _has_code(files, base, keeper, each):
            for record in claims[each.name]:
                about = f"it claims to be {record.describe()}, and its code is that of the base's {each.describe()}"
                yield f"{escape_path(record.path)}:{record.line}: {about}; {REMEDY}"


def _identify(record: ApkRecord) -> tuple[str, str, str]:
    return record.name, record.version, record.source


def _has_code(files: Files, base: Files, keeper: ContentStore, record: ApkRecord) -> bool:
    """Return whether code of a base's package is in an image, and all that is there is unchanged.

    Some of it may be left out. Links do not count: they may lead to another package's code.
    """
    found = [
        (file, installed)
        for path in record.files
        if (file := _find(base, path)) and _is_program(keeper, path, file) and (installed := _find(files, path))
    ]
    return bool(found) and all(file.sha256 == installed.sha256 for file, installed in found)


def _find(files: Files, path: str) -> FileContent | None:
    file = files.resolve(path, follow=False)
    return file[1].content if file else None


def _is_program(keeper: ContentStore, path: str, file: FileContent) -> bool:
    return is_code(path, STARTS[0] if file.machine else (keeper.read(file) or b"")[:4])


def _list_changed(files: Files, base: Files | None, databases: Mapping[str, str]) -> Iterator[str]:
    """Yield each package manager with the first of its files of records that the base has not so."""
    named = set[str]()
    for path, manager in sorted(databases.items()):
        own, below = _find(files, path), _find(base, path) if base else None
        is_base = own is not None and below is not None and own.sha256 == below.sha256
        if manager not in named and not is_base:
            named.add(manager)
            yield f"{manager} ({escape_path(path)})"
