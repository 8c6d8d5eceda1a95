"""Readers of an image's layers, from an engine's archive or from a registry, as streams and within limits."""

from __future__ import annotations

import gzip
import json
import posixpath
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, Protocol, cast

import zstandard

from supply_chain.adapters.image.budget import Budget
from supply_chain.adapters.image.configuration import (
    Start,
    list_settings,
    name_settings,
    read_working_directory,
    runs_as_root,
    search_configuration,
)
from supply_chain.adapters.image.distribution import examine, is_text_database
from supply_chain.adapters.image.file_content import HEAD, MACHINES, ContentStore, FileContent, read_file
from supply_chain.adapters.image.filesystem import Filesystem, escape_path
from supply_chain.adapters.image.npm_packages import is_npm_metadata
from supply_chain.adapters.image.package_records import LARGEST_RECORD, InstalledFiles, is_record
from supply_chain.adapters.image.packaged_files import PackagedFiles
from supply_chain.adapters.image.packages import NO_SOURCES, PackageSources, read_packages, read_system_packages
from supply_chain.adapters.image.python_packages import is_python_metadata, read_python_packages
from supply_chain.adapters.image.python_sources import (
    COMPILED,
    LARGEST_MODULE,
    MODULE,
    STARTUP_FILE,
    IsRead,
    find_python_sources,
    find_started,
    has_unread_command,
)
from supply_chain.adapters.image.secret_forms import PEM, decode_texts, find_secret_patterns
from supply_chain.adapters.image.streams import DOCUMENT, BoundedStream, BudgetedStream, ForwardStream
from supply_chain.adapters.image.tar_entry import Entry
from supply_chain.development.content import Contents
from supply_chain.errors import CheckIncomplete, ScannerFailed
from supply_chain.evidence.examination import Examination
from supply_chain.model.container import ImageSaver
from supply_chain.model.declaration import Runtime
from supply_chain.model.image import Digest, ImageRef, digest_of, list_blobs
from supply_chain.model.registry_ports import ManifestReader
from supply_chain.scratch import make_scratch_directory

MANY = 10_000
"""Maximum files for another machine or with a secret that are recorded; more raise an error."""
SLACK = 16 * 1024 * 1024
"""Bytes that an archive may have in addition to its image: documents, and layers that do not compress."""
LARGEST_IMAGE = 16 * 1024**3
"""Maximum bytes of an unpacked image that curation reads, which is the maximum for `build.max_size` in a declaration.
"""
LARGEST_WINDOW = 128 * 1024 * 1024
"""Maximum bytes of memory to unpack a zstd layer (RFC 8878; `zstd --long` needs as much)."""
UNREADABLE = (tarfile.TarError, OSError, EOFError, zlib.error, zstandard.ZstdError, LookupError, TypeError, ValueError)
"""Errors that reading an invalid layer can raise."""


IsSearched = Callable[[str, str | None], bool]
"""Returns whether another check searches a file of this SHA-256 for secrets; with a path, as it is searched there."""


def read_contents(
    engine: ImageSaver,
    image: str,
    most: int,
    is_searched: IsSearched = lambda _sha256, _path: False,
    is_read: IsRead = lambda _sha256: False,
    sources: PackageSources = NO_SOURCES,
    runtime: Runtime | None = None,
) -> Contents | None:
    """Return the contents of an image; None if it has more than `most` bytes.

    Raises `CheckIncomplete` if the image cannot be read. Secrets in files for which `is_searched` returns true are left
    out; it is called only for files with a possible secret. So are Python files for which `is_read` returns true.
    Packages are compared with `sources`, and `PackageIndexUnavailable` is raised if that is not possible. `runtime` is
    what is declared for its containers: it can start other programs than the image's configuration does.
    """
    with make_scratch_directory("content") as work:
        path = work / "image.tar"
        if not engine.save(image, path, most + SLACK):
            return None
        try:
            with tarfile.open(path, "r:") as archive, (work / "files").open("w+b") as file:
                return _contents(archive, most, ContentStore(file, work), is_searched, is_read, sources, runtime)
        except _TooLarge:
            return None
        except UNREADABLE as error:
            raise CheckIncomplete(
                f"The layers of {image} cannot be read: {type(error).__name__}: {error}\n"
                "Build it again; if that does not help, look at what its base is made of."
            ) from error


class _TooLarge(Exception):
    """The image has more bytes than allowed."""


def _contents(
    archive: tarfile.TarFile,
    most: int,
    keeper: ContentStore,
    is_searched: IsSearched,
    is_read: IsRead,
    package_sources: PackageSources,
    runtime: Runtime | None,
) -> Contents:
    digest, manifest = _manifest(archive)
    described = _blob(archive, manifest["config"]["digest"])
    config = json.loads(described)
    settings = list_settings(config)
    image = _Image(most, keeper, secrets=True)
    image.files.working_directory = read_working_directory(config)
    for layer in manifest["layers"]:
        image.add(_open_packed(archive, layer), str(layer["mediaType"]))
    machine = MACHINES.get(config.get("architecture"), "")
    texts, unsearched = _collect_texts(image, is_searched)
    checkpoint = image.budget.checkpoint
    start = Start.of(config, runtime)
    started = find_started(image.files, keeper, start, checkpoint)
    digests = [str(layer["digest"]) for layer in manifest["layers"]]
    architecture = str(config.get("architecture", ""))
    system = read_system_packages(image.files, keeper, package_sources, digests, architecture, checkpoint)
    installed, comparison = read_packages(image.files, keeper, package_sources, system, checkpoint)
    sources = find_python_sources(image.files, keeper, installed, is_read, checkpoint, started.scripts)
    return Contents(
        digest=digest,
        platform="/".join(str(config[part]) for part in ("os", "architecture", "variant") if config.get(part)),
        size=image.size,
        programs=image.programs,
        foreign=_find_foreign(image.files, machine),
        secrets=_find_secrets(image, search_configuration(described, settings), is_searched, installed),
        examination=examine(image.files, keeper, lambda: installed, checkpoint),
        **vars(comparison),
        texts=_join_settings(settings) | texts,
        settings=name_settings(settings),
        unsearched=unsearched,
        code_variables=start.list_code_variables(),
        is_root=runs_as_root(config, _read_accounts(image.files, keeper)),
        sources=started.list_code() | sources.files,
        unread=(*sources.left, *(("configuration",) if has_unread_command(start) else ())),
    )


def _read_accounts(files: Filesystem[FileContent], keeper: ContentStore) -> bytes | None:
    """Return an image's user accounts, empty without any; None if they are too large."""
    resolved = files.resolve("/etc/passwd")
    return keeper.read(resolved[1].content) if resolved and resolved[1].content else b""


def is_larger(image: Path, most: int) -> bool:
    """Return whether the image in an OCI archive has more than `most` bytes, all of its layers unpacked.

    Counts as `read_contents` does, and unpacks no more than needed. Raises one of `UNREADABLE` if the archive is
    invalid or takes too long.
    """
    budget = Budget()
    with tarfile.open(image, "r:") as archive:
        _, manifest = _manifest(archive)
        layers = ((_open_packed(archive, layer), str(layer["mediaType"])) for layer in manifest["layers"])
        return any(total > most for total in accumulate(size for each in layers for size in _sizes(*each, budget)))


def _sizes(packed: IO[bytes], kind: str, budget: Budget) -> Iterator[int]:
    """Yield the bytes of each member of a layer."""
    with _open_layer(packed, kind, budget) as layer:
        yield from map(_size, _members(layer))


def _manifest(archive: tarfile.TarFile) -> tuple[Digest, dict[str, Any]]:
    """Return the digest and the manifest of the archive's only image."""
    (entry,) = json.loads(_document(archive, "index.json"))["manifests"]
    return entry["digest"], json.loads(_blob(archive, entry["digest"]))


def _document(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    if stream is None:
        raise ValueError(f"{name} is not a file")
    return stream.read(DOCUMENT)


def _blob(archive: tarfile.TarFile, digest: Digest) -> bytes:
    content = _document(archive, _path(digest))
    if digest_of(content) != digest:
        raise ValueError(f"a document is not {digest}")
    return content


def _path(digest: Digest) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _open_packed(archive: tarfile.TarFile, layer: Mapping[str, Any]) -> IO[bytes]:
    packed = archive.extractfile(_path(layer["digest"]))
    if packed is None:
        raise ValueError(f"{layer['digest']} is not a file")
    return packed


@contextmanager
def _unpack(packed: IO[bytes], kind: str) -> Iterator[IO[bytes]]:
    """Yield a layer as an unpacked stream, by its media type.

    Media types: OCI image 1.1 ("Image Layer Filesystem Changeset"), and Docker's.
    """
    if kind.endswith(("+gzip", ".gzip")):
        with gzip.GzipFile(fileobj=packed) as stream:
            yield stream  # type: ignore[misc]
    elif kind.endswith(("+zstd", ".zstd")):
        unpacker = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
        with unpacker.stream_reader(packed, read_across_frames=True, closefd=False) as stream:
            yield ForwardStream(stream)  # type: ignore[misc]
    elif kind.endswith(".tar"):
        yield packed
    else:
        raise ValueError(f"a layer is of the type {kind}")


@contextmanager
def _open_layer(packed: IO[bytes], kind: str, budget: Budget) -> Iterator[tarfile.TarFile]:
    with _unpack(cast("IO[bytes]", BudgetedStream(packed, budget)), kind) as stream:
        yield tarfile.open(fileobj=BoundedStream(BudgetedStream(stream, budget)), mode="r:", tarinfo=Entry)  # type: ignore[call-overload] # noqa: SIM115


def _members(layer: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a layer, one by one.

    The library alone would keep all of them in memory, and would take an unreadable header for the end.
    """
    while (member := cast("Entry | None", layer.next())) is not None:
        layer.members.clear()  # type: ignore[attr-defined]
        if layer.pax_headers.keys() - {"comment"}:
            raise ValueError("a layer has global headers, which engines ignore")
        member.check()
        yield member
    layer.fileobj.seek(layer.offset)
    if layer.fileobj.read(tarfile.BLOCKSIZE) not in (b"", tarfile.NUL * tarfile.BLOCKSIZE):
        raise ValueError("a layer is damaged in the middle")


def _size(member: tarfile.TarInfo) -> int:
    return tarfile.BLOCKSIZE + member.size


@dataclass
class _Image:
    """An image during the reading of its layers, of at most `most` bytes."""

    most: int
    keeper: ContentStore
    secrets: bool
    budget: Budget = field(default_factory=Budget)
    size: int = 0
    """Bytes of all layers."""
    programs: int = 0
    """Number of programs in all layers."""
    files: Filesystem[FileContent] = field(default_factory=Filesystem)
    findings: set[tuple[str, int, str, str]] = field(default_factory=set)
    """Path, line and kind of each secret in any layer, and the file's SHA-256, empty for compressed content and for
    names."""
    layers: int = 0
    """Number of layers read, including the current one."""

    def add(self, packed: IO[bytes], kind: str) -> None:
        """Read and apply the next layer."""
        self.layers += 1
        with _open_layer(packed, kind, self.budget) as layer:
            self.files.lay(self._check_members(layer), lambda member: self._read(layer, member))

    def _check_members(self, layer: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        for number, member in enumerate(_members(layer), start=1):
            self._search_names(member, number)
            self.size += _size(member)
            if self.size > self.most:
                raise _TooLarge
            yield member

    def _search_names(self, member: tarfile.TarInfo, entry: int) -> None:
        """Look for secrets in an entry's name and link target; record the entry's number, not its name."""
        names = f"{member.name}\0{member.linkname}".encode("utf-8", "surrogateescape")
        for _, kind in find_secret_patterns(names) if self.secrets else ():
            self._find(f"names in layer {self.layers}", entry, kind, "")

    def _find(self, path: str, line: int, kind: str, digest: str) -> None:
        self.findings.add((path, line, kind, digest))
        if len(self.findings) > MANY:
            raise ValueError(f"it holds more than {MANY} secrets")

    def _read(self, layer: tarfile.TarFile, member: tarfile.TarInfo) -> FileContent:
        name = posixpath.normpath(f"/{member.name.lstrip('/')}")
        content = read_file(
            layer.extractfile(member), member.size, self.keeper, secrets=self.secrets, keep=_most_stored(name)
        )
        self.programs += bool(content.machine and member.mode & 0o111)
        for line, kind in content.secrets:
            self._find(escape_path(name), line, kind, content.sha256.hex())
        for line, kind in content.packed:
            self._find(escape_path(name), line, kind, "")
        return content


def _most_stored(path: str) -> int:
    """Return the maximum bytes of a file with which its content is stored."""
    if is_record(path) or is_python_metadata(path) or is_npm_metadata(path) or is_text_database(path):
        return LARGEST_RECORD
    module = MODULE.search(path) or STARTUP_FILE.search(path) or COMPILED.search(path)
    return LARGEST_MODULE if module else HEAD


def _collect(entries: Iterable[tuple[str, str]]) -> dict[str, str]:
    listed: dict[str, str] = {}
    for path, why in entries:
        listed[escape_path(path)] = why
        if len(listed) > MANY:
            raise ValueError(f"it holds more than {MANY} files that should not be in it")
    return listed


def _find_foreign(files: Filesystem[FileContent], machine: str) -> dict[str, str]:
    """Return path → the machine of each program that is for another machine."""
    return _collect(
        (path, node.content.machine)
        for path, node in files.walk()
        if node.content and node.mode & 0o111 and node.content.machine not in ("", machine)
    )


def _find_secrets(
    image: _Image, configuration: Iterable[tuple[int, str]], is_searched: IsSearched, installed: InstalledFiles
) -> tuple[str, ...]:
    """Return the places of likely secrets: those in the `configuration`, and in all layers, hidden or not."""
    places = {("configuration", line, kind) for line, kind in configuration}
    places |= {
        (path, line, kind)
        for path, line, kind, digest in image.findings
        if not is_searched(digest, None) and not (kind == PEM and _is_example(path, image, installed))
    }
    return tuple(f"{path}:{line}: {kind}" for path, line, kind in sorted(places))


def _join_settings(settings: Iterable[str]) -> dict[str, bytes]:
    """Return the variables and labels as a text, one a line, to search."""
    content = "\n".join(" ".join(each.splitlines()) for each in settings).encode("utf-8", "replace")
    return {"configuration": content} if _mentions_secret(content) else {}


PACKAGES = ("/usr/", "/lib/", "/var/lib/", "/var/cache/", "/etc/ssl/", "/etc/ca-certificates", "/proc/", "/sys/")
OWN = ("/usr/src/", "/usr/local/etc/")
"""Where applications have their files, below `PACKAGES`."""
PACKAGED = ("/site-packages/", "/dist-packages/", "/node_modules/", "/vendor/", "/.m2/", "/go/pkg/")
"""Where packages are installed: what looks like a password there is in a program's code or examples."""
EXAMPLES, EXAMPLES_WITHIN = ("/usr/share/", "/usr/lib/"), ("/site-packages/", "/dist-packages/")
"""Where packages install published private keys as examples or test data: below these, or in directories so named. Only
what their records list is exempt."""
STANDARD = (
    "/etc/nsswitch.conf", "/etc/passwd", "/etc/group", "/etc/pam.d/", "/etc/login.defs", "/etc/debconf.conf",
    "/etc/services", "/etc/protocols", "/etc/security/", "/etc/default/", "/etc/init.d/", "/etc/mime.types",
)  # fmt: skip
"""A distribution's own settings, which mention passwords but contain none."""
SPEAKS = re.compile(
    r"pass|pwd|secret|token|api_?key|private_?key|credential|bearer\s|\bcurl\b|\blogin\b|_?auths?[\"']?\s*[:=]"
    r"|://[^/\s:@]*:[^/\s@]+@|:(?:\d{4,5}|\*):[^\s:]+:[^\s:]+:",
    re.IGNORECASE,
)
"""Words in a text that may name a secret, and what is before a password in an address and in `.pgpass`."""
PASSWORDS = re.compile(r"/(\.pgpass|pgpass\.conf)$")
"""Name of a file of passwords, which no package installs."""
MOST_TEXTS = 8 * 1024 * 1024
"""Maximum bytes of texts that are searched for passwords; the paths of the others are reported."""


def _is_packaged(path: str, places: tuple[str, ...]) -> bool:
    if PASSWORDS.search(path):
        return False
    return (path.startswith(places) and not path.startswith(OWN)) or any(each in path for each in PACKAGED)


def _is_example(path: str, image: _Image, installed: InstalledFiles) -> bool:
    """Return whether a file is where packages install examples, and a package installed it, as far as records say.

    Libraries hold keys for their self-tests. Of a file that is too large to compare, only the path counts.
    """
    system = path.startswith(EXAMPLES)
    if not (system or any(each in path for each in EXAMPLES_WITHIN)):
        return False
    file = image.files.resolve(path)
    if file is None or file[1].content is None:
        return False
    real, content = file[0], file[1].content
    large = content.place < 0 and any(algorithm != "sha256" for algorithm, _ in installed.digests.get(real, ()))
    return (system and not installed.is_complete) or large or installed.lists(real, content, image.keeper)


def _collect_texts(image: _Image, is_searched: IsSearched) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Return path → content of the texts to search for secrets, and the paths of the texts that are not searched.

    Texts that a package installed, and those that another check searches, are in neither. Not searched are texts that
    are too large to be stored or that exceed `MOST_TEXTS` together, and compressed texts that are too large to unpack.
    """
    texts, rest, left = dict[str, bytes](), list[str](), MOST_TEXTS
    for path, node in image.files.walk():
        image.budget.checkpoint()
        if node.content is None:
            continue
        if node.content.unsearched and not _is_packaged(path, (*EXAMPLES, "/var/lib/", "/var/cache/")):
            rest.append(escape_path(path))
            continue
        if not node.content.text or _is_packaged(path, PACKAGES + STANDARD):
            continue
        content = image.keeper.read(node.content)
        if (content is not None and not _mentions_secret(content)) or is_searched(node.content.sha256.hex(), path):
            continue
        name = escape_path(path)
        if content is None or len(content) > left or name in texts:
            rest.append(name)
        else:
            left -= len(content)
            texts[name] = content
    return texts, tuple(sorted(rest))


def _mentions_secret(content: bytes) -> bool:
    return any(SPEAKS.search(text) for text in decode_texts(content))


class LayerRegistry(ManifestReader, Protocol):
    """A registry from which layers are downloaded."""

    def download(self, repository: str, digest: Digest, target: Path, size: int) -> None:
        """Write a blob of `size` bytes to a file and verify its digest."""


def examine_image(
    registry: LayerRegistry, ref: ImageRef, sources: PackageSources = NO_SOURCES
) -> tuple[Examination, PackagedFiles]:
    """Return the facts about an image in the registry that an SBOM does not contain, and its packages' own files.

    `sources` is as for `read_contents`. Raises `ScannerFailed` if the image's layers cannot be read, and
    `PackageIndexUnavailable`.
    """
    manifest = registry.manifest(ref)
    with make_scratch_directory("examine") as work:
        try:
            with (work / "files").open("w+b") as file:
                keeper = ContentStore(file, work)
                image = _Image(LARGEST_IMAGE, keeper, secrets=False)
                for blob, layer in zip(list_blobs(manifest, ref)[1:], manifest["layers"], strict=True):
                    path = work / "layer"
                    registry.download(ref.repository, blob.digest, path, blob.size)
                    with path.open("rb") as packed:
                        image.add(packed, str(layer["mediaType"]))

                checkpoint = image.budget.checkpoint
                digests = [blob.digest for blob in list_blobs(manifest, ref)[1:]]

                system = read_system_packages(image.files, keeper, sources, digests, checkpoint=checkpoint)

                def read_installed() -> InstalledFiles:
                    return read_python_packages(image.files, keeper, sources.python, checkpoint, system.files).installed

                examination = examine(image.files, keeper, read_installed, checkpoint)
                return examination, system.find_packaged(image.files, checkpoint)
        except (_TooLarge, *UNREADABLE) as error:
            raise ScannerFailed(
                f"The layers of {ref} cannot be read: {type(error).__name__}: {error}\n"
                "Without them it is unknown what a scan does not judge. Build the image again, and check its base."
            ) from error
