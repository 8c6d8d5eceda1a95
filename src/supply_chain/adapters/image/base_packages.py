"""Packages of apk, rpm, pacman and portage in an image, compared with those of its curated base.

A step of a build can write any of their records, and the records are compared with no archive. A record therefore
counts only if the base has it too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from supply_chain.adapters.image.apk_records import MANAGER, ApkRecord, find_apk_databases, read_apk_records
from supply_chain.adapters.image.debian_packages import STARTS, is_code
from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem, escape_path
from supply_chain.adapters.image.package_records import Digest, find_unread_databases
from supply_chain.text import truncate_lines

Files = Filesystem[FileContent]

REMEDY = "install it in the base, or review this line"
MOST_NAMED = 3
"""Maximum files or packages that a reason names."""


@dataclass(frozen=True)
class BasePackages:
    """The packages of these managers in an image, as far as its base proves them."""

    digests: Mapping[str, tuple[Digest, ...]] | None = None
    """Path without links → digest of each file of the base; None: the image has no base or no such packages."""
    owned: Mapping[str, Mapping[str, tuple[Digest, ...]]] = field(default_factory=dict)
    """Package manager of the base → those of `digests` that may belong to its packages in the image. For apk these are
    the files of the packages whose records the image still has. The records of other managers are not read."""
    false_claims: tuple[str, ...] = ()
    """`path:line: why` for each record of apk that is false or cannot be believed."""
    packages: tuple[str, ...] = ()
    """Name and version of each package of apk that the base lacks, or has from another source."""
    databases: tuple[str, ...] = ()
    """Package manager and path of each database of rpm, pacman or portage that differs from the base."""
    has_apk: bool = False
    """Whether the image has records of apk that are read."""
    believed: frozenset[str] = frozenset()
    """The managers whose records count, because the image has no base."""


def read_base_packages(
    files: Files,
    keeper: ContentStore,
    read_base: Callable[[], Files | None],
    checkpoint: Callable[[], object] = lambda: None,
) -> BasePackages:
    """Return the packages of apk, rpm, pacman and portage in an image, compared with its base.

    `read_base`, called if there are any, returns the files of the image's curated base; None if it has no base.
    `checkpoint` is called for each file and record, and may raise.
    """
    databases, of_apk = find_unread_databases(files, checkpoint), find_apk_databases(files, checkpoint)
    if not databases and not of_apk:
        return BasePackages()
    base = read_base()
    records, false_claims = read_apk_records(files, keeper, checkpoint)
    own, is_read = read_apk_records(base, keeper, checkpoint)[0] if base else [], not false_claims
    same = set(map(_identify, own))
    digests = _list_digests(base, checkpoint) if base else None
    owned = dict[str, Mapping[str, tuple[Digest, ...]]]()
    if base and digests:
        owned |= dict.fromkeys(find_unread_databases(base, checkpoint).values(), digests)
        owned[MANAGER] = _select_owned(base, digests, records, own)
    if base:
        false_claims += _find_false_versions(files, base, keeper, records, own)
        false_claims += _find_repeated(records, own)
        false_claims += _find_changed(files, base, records, own)
        if is_read:
            false_claims += _find_dropped(files, base, keeper, records, own)
    return BasePackages(
        digests=digests,
        owned=owned,
        false_claims=tuple(sorted(false_claims)),
        packages=tuple(sorted({each.title for each in records if _identify(each) not in same})),
        databases=tuple(_list_changed(files, base, databases)),
        has_apk=bool(records),
        believed=frozenset() if base else frozenset((*databases.values(), *((MANAGER,) if of_apk else ()))),
    )


def _list_digests(base: Files, checkpoint: Callable[[], object]) -> dict[str, tuple[Digest, ...]]:
    digests = dict[str, tuple[Digest, ...]]()
    for path, node in base.walk():
        checkpoint()
        if node.content:
            digests[path] = (("sha256", node.content.sha256),)
    return digests


def _select_owned(
    base: Files, digests: Mapping[str, tuple[Digest, ...]], records: Iterable[ApkRecord], own: Iterable[ApkRecord]
) -> dict[str, tuple[Digest, ...]]:
    """Return the digests of the files of those of the base's packages of apk whose records an image still has."""
    recorded = set(map(_identify, records))
    paths = {_resolve(base, path) for each in own if _identify(each) in recorded for path in each.files}
    return {path: digests[path] for path in paths & digests.keys()}


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
                about = f"it claims to be {record.describe()}, but its code is that of {each.describe()} in the base"
                yield f"{escape_path(record.path)}:{record.line}: {about}; {REMEDY}"


def _identify(record: ApkRecord) -> tuple[str, str, str]:
    return record.name, record.version, record.source


def _find_repeated(records: Iterable[ApkRecord], own: Collection[ApkRecord]) -> Iterator[str]:
    """Yield `path:line: why` for each record of a package that has another one; apk writes one for each package."""
    same, most, counts = set(map(_identify, own)), Counter(each.name for each in own), Counter[str]()
    for record in sorted(records, key=lambda each: _identify(each) not in same):
        counts[record.name] += 1
        if counts[record.name] > max(1, most[record.name]):
            about = f"it claims to be {record.describe()}, but the package has another record too"
            yield f"{escape_path(record.path)}:{record.line}: {about}; {REMEDY}"


def _find_changed(files: Files, base: Files, records: Collection[ApkRecord], own: Iterable[ApkRecord]) -> Iterator[str]:
    """Yield `path:line: why` for each record of a base's package if another program replaces one of its files.

    A program of a package that the base does not have is ignored: apk installed it, or its record is false, and the
    package is named in any case.
    """
    listed = {_identify(each): each.files for each in own}
    beyond = {_resolve(files, path) for each in records if _identify(each) not in listed for path in each.files}
    for record in records:
        changed = set[str]()
        for path in listed.get(_identify(record), ()):
            before, now = base.resolve(path), files.resolve(path, mounted=True)
            file, program = (each[1].content if each else None for each in (before, now))
            if file and program and now and program.machine and program.sha256 != file.sha256:
                changed.add(now[0])
        changed -= beyond
        if changed:
            named = _name_first(escape_path(each) for each in sorted(changed))
            about = f"it claims to be {record.describe()} of the base, but the image differs from the base in {named}"
            yield f"{escape_path(record.path)}:{record.line}: {about}; {REMEDY}"


def _find_dropped(
    files: Files, base: Files, keeper: ContentStore, records: Iterable[ApkRecord], own: Collection[ApkRecord]
) -> Iterator[str]:
    """Yield `path:1: why` for each database without a record of a base's package whose code is still there.

    A scanner would look for no vulnerabilities of this package. Unchanged code counts if all code of the package in the
    image is unchanged, or if no other package's record lists it. For a package of the base, the base's record counts.
    """
    names, dropped = {each.name for each in records}, defaultdict[str, list[ApkRecord]](list)
    listed = {_identify(each): each.files for each in own}
    missing = [each for each in own if each.name not in names]
    lists = (listed.get(_identify(each), each.files) for each in records if missing)
    others = {_resolve(files, path) for paths in lists for path in paths}
    for record in missing:
        code = _find_code(files, base, keeper, record)
        if (code and all(code.values())) or any(code[path] for path in code.keys() - others):
            dropped[record.path].append(record)
    for path, packages in dropped.items():
        named = _name_first(each.title for each in packages)
        about = f"the base's record of {named} is missing, but its code is in the image"
        yield f"{escape_path(path)}:1: {about}; {REMEDY}"


def _name_first(names: Iterable[str]) -> str:
    return ", ".join(truncate_lines(MOST_NAMED, list(names)))


def _has_code(files: Files, base: Files, keeper: ContentStore, record: ApkRecord) -> bool:
    """Return whether code of a base's package is in an image, and all of that code is unchanged.

    Some of the package's code may be missing.
    """
    code = _find_code(files, base, keeper, record)
    return bool(code) and all(code.values())


def _find_code(files: Files, base: Files, keeper: ContentStore, record: ApkRecord) -> dict[str, bool]:
    """Return the paths without links where an image has code of a base's package → whether it is unchanged.

    Links do not count: they may lead to another package's code.
    """
    return {
        _resolve(files, path): file.sha256 == installed.sha256
        for path in record.files
        if (file := _find(base, path)) and _is_program(keeper, path, file) and (installed := _find(files, path))
    }


def _resolve(files: Files, path: str) -> str:
    file = files.resolve(path, follow=False)
    return file[0] if file else ""


def _find(files: Files, path: str) -> FileContent | None:
    file = files.resolve(path, follow=False)
    return file[1].content if file else None


def _is_program(keeper: ContentStore, path: str, file: FileContent) -> bool:
    return is_code(path, STARTS[0] if file.machine else (keeper.read(file) or b"")[:4])


def _list_changed(files: Files, base: Files | None, databases: Mapping[str, str]) -> Iterator[str]:
    """Yield each package manager with the first of its record files that differs from the base."""
    named = set[str]()
    for path, manager in sorted(databases.items()):
        own, below = _find(files, path), _find(base, path) if base else None
        is_base = own is not None and below is not None and own.sha256 == below.sha256
        if manager not in named and not is_base:
            named.add(manager)
            yield f"{manager} ({escape_path(path)})"
