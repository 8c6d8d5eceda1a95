"""The indexes of an archive of Debian packages: `Release` and `Packages` (Debian's wiki, "DebianRepository/Format")."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import IO

from supply_chain.adapters.image.dpkg_records import ALL, SOURCE, DebianPackage, name_source

CHUNK = 1024 * 1024
LONGEST_STANZA = 1024 * 1024
"""Maximum bytes about one package."""
_LISTED = re.compile(r" ([0-9a-f]{64})\s+(\d{1,12})\s+(\S+)")
_PATH_PART = r"(?!\.)[\w.+~:%=@,-]+"
_PATH = re.compile(rf"{_PATH_PART}(/{_PATH_PART})*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Listed:
    """A file that an index lists."""

    path: str
    size: int
    sha256: str
    """Hexadecimal."""


@dataclass(frozen=True)
class Release:
    """What a suite's `Release` says."""

    origin: str = ""
    version: str = ""
    codename: str = ""
    architectures: tuple[str, ...] = ()
    has_all: bool = False
    """Whether packages for every machine have a list of their own; else the list of each architecture has them."""
    by_hash: bool = False
    """Whether files can be fetched by their digest, which is safe while the archive changes."""
    files: dict[str, Listed] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A package that an archive has."""

    package: DebianPackage
    file: Listed


def parse_release(content: bytes) -> Release:
    """Return what `Release` or `InRelease` says; raise `ValueError` if it lists no file with its SHA-256."""
    values, files, at = dict[str, str](), dict[str, Listed](), ""
    for line in content.decode("utf-8", "replace").splitlines():
        match = _LISTED.fullmatch(line.rstrip()) if at == "SHA256" else None
        if match:
            files.setdefault(match[3], Listed(match[3], int(match[2]), match[1]))
        elif not line.startswith(" "):
            at, _, value = line.partition(":")
            values.setdefault(at, value.strip())
    if not files:
        raise ValueError("it lists no file with its SHA-256")
    architectures = tuple(values.get("Architectures", "").split())
    return Release(
        origin=values.get("Origin", ""),
        version=values.get("Version", ""),
        codename=values.get("Codename", ""),
        architectures=architectures,
        has_all=ALL in architectures and values.get("No-Support-for-Architecture-all", "") != "Packages",
        by_hash=values.get("Acquire-By-Hash") == "yes",
        files=files,
    )


def parse_packages(stream: IO[bytes], names: Set[str], most: int) -> Iterator[Entry]:
    """Yield the packages with one of these names in an unpacked `Packages`.

    Raises `ValueError` if it is not valid, or has more than `most` bytes.
    """
    encoded_names = {name.encode() for name in names}
    for stanza in _split_stanzas(stream, most):
        if stanza.startswith(b"Package: "):
            name = stanza[9:].partition(b"\n")[0].strip()
        else:
            match = re.search(rb"^Package:\s*(\S+)", stanza, re.MULTILINE)
            name = match[1] if match else b""
        if name in encoded_names:
            yield _parse_entry(stanza)


def _split_stanzas(stream: IO[bytes], most: int) -> Iterator[bytes]:
    rest, size = b"", 0
    while chunk := stream.read(CHUNK):
        size += len(chunk)
        if size > most:
            raise ValueError(f"unpacked, it has more than {most} bytes")
        *stanzas, rest = (rest + chunk).split(b"\n\n")
        yield from stanzas
        if len(rest) > LONGEST_STANZA:
            raise ValueError(f"it has more than {LONGEST_STANZA} bytes about one package")
    yield rest


def _parse_entry(stanza: bytes) -> Entry:
    fields = dict[str, str]()
    for line in stanza.decode("utf-8", "replace").split("\n"):
        name, colon, value = line.partition(":")
        if colon and not line.startswith((" ", "\t")):
            fields.setdefault(name, value.strip())
    name, version, size, path = (fields.get(each, "") for each in ("Package", "Version", "Size", "Filename"))
    source, sha256 = SOURCE.fullmatch(fields.get("Source", name)), fields.get("SHA256", "")
    if not (version and source and size.isascii() and size.isdigit() and len(size) < 13 and _SHA256.fullmatch(sha256)):
        raise ValueError(f"its entry of {name[:100]} has no version, source, size or SHA-256")
    if not _PATH.fullmatch(path):
        raise ValueError(f"its entry of {name[:100]} has the file name {path[:200]!r}")
    package = DebianPackage(name, version, fields.get("Architecture", ""), name_source(source[1], source[2] or version))
    return Entry(package, Listed(path, int(size), sha256))
