"""An image's layers, read from an archive of the engine's: streamed, and never more than is asked for.

Layers are laid one upon the other as OCI image 1.1, "Image Layer Filesystem Changeset", says.
"""

from __future__ import annotations

import gzip
import json
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, Protocol

from supply_chain.development.content import Contents
from supply_chain.errors import CheckNotMade
from supply_chain.image import Digest, digest_of
from supply_chain.scratch import scratch

DOCUMENT = 4 * 1024 * 1024
"""Bytes a manifest or configuration may have, or the header of a file in a layer."""
MANY = 10_000
"""Files with more rights, or for another machine, that are remembered of one layer; nobody needs so many."""
HIDES, OPAQUE = ".wh.", ".wh..wh..opq"
CAPABILITY = "SCHILY.xattr.security.capability"
SLACK = 16 * 1024 * 1024
"""Bytes an archive may have beyond its image's: documents, and layers that do not compress."""


class Engine(Protocol):
    """What reading needs of an engine."""

    def save(self, image: str, target: Path, most: int) -> bool:
        """Write an image as an OCI archive (a tar file); False where it has more bytes than that."""


def read_contents(engine: Engine, image: str, most: int) -> Contents | None:
    """What the image consists of; None beyond `most` bytes, `CheckNotMade` where it cannot be read."""
    with scratch("content") as work:
        path = work / "image.tar"
        if not engine.save(image, path, most + SLACK):
            return None
        try:
            with tarfile.open(path, "r:") as archive:
                return _contents(archive, most)
        except _TooLarge:
            return None
        except (tarfile.TarError, OSError, EOFError, zlib.error, LookupError, TypeError, ValueError) as error:
            raise CheckNotMade(
                f"The layers of {image} cannot be read: {type(error).__name__}: {error}\n"
                "Build it again; if that does not help, look at what its base is made of."
            ) from error


class _TooLarge(Exception):
    """What was read so far has more bytes than it may."""


def _contents(archive: tarfile.TarFile, most: int) -> Contents:
    (entry,) = json.loads(_document(archive, "index.json"))["manifests"]
    manifest = _blob(archive, entry["digest"])
    config = _blob(archive, manifest["config"]["digest"])
    laid = _Laid(most, MACHINES.get(config.get("architecture"), ""))
    for layer in manifest["layers"]:
        with _unpacked(archive, layer) as stream:
            laid.lay(tarfile.open(fileobj=_Guarded(stream), mode="r:"))  # type: ignore[call-overload] # noqa: SIM115
    return Contents(
        digest=entry["digest"],
        platform="/".join(str(config[part]) for part in ("os", "architecture", "variant") if config.get(part)),
        size=laid.size,
        more_rights={path: note.rights for path, note in laid.noted.items() if note.rights},
        programs=laid.programs,
        foreign={path: note.machine for path, note in laid.noted.items() if note.machine},
    )


def _document(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    if stream is None:
        raise ValueError(f"{name} is not a file")
    return stream.read(DOCUMENT)


def _blob(archive: tarfile.TarFile, digest: Digest) -> Any:
    content = _document(archive, _path(digest))
    if digest_of(content) != digest:
        raise ValueError(f"a document is not {digest}")
    return json.loads(content)


def _path(digest: Digest) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _unpacked(archive: tarfile.TarFile, layer: Mapping[str, Any]) -> IO[bytes]:
    packed = archive.extractfile(_path(layer["digest"]))
    kind = str(layer["mediaType"])
    if packed is not None and kind.endswith(("+gzip", ".gzip")):
        return gzip.GzipFile(fileobj=packed)  # type: ignore[return-value]
    if packed is not None and kind.endswith(".tar"):
        return packed
    raise ValueError(f"a layer is of the type {kind}")


class _Note(NamedTuple):
    """What there is to say of a file: why it gives more rights, and for which other machine it is."""

    rights: str = ""
    machine: str = ""


@dataclass
class _Laid:
    """Layers laid one upon the other; of no more than `most` bytes, and for a machine by its name."""

    most: int
    machine: str
    size: int = 0
    """Bytes of all layers."""
    programs: int = 0
    """Programs in all layers."""
    noted: dict[str, _Note] = field(default_factory=dict)
    """Path → what there is to say of it."""

    def lay(self, layer: tarfile.TarFile) -> None:
        """Lay a layer upon those below."""
        own: dict[str, _Note] = {}
        for member in _members(layer):
            self.size += tarfile.BLOCKSIZE + member.size
            if self.size > self.most:
                raise _TooLarge
            path = posixpath.normpath(f"/{member.name}")
            directory, name = posixpath.split(path)
            if name == OPAQUE:
                self._forget(below=directory)
            elif name.startswith(HIDES):
                hidden = posixpath.join(directory, name.removeprefix(HIDES))
                self.noted.pop(hidden, None)
                self._forget(below=hidden)
            else:
                note = self._note(layer, path, member, own)
                self.noted.pop(path, None)
                own.pop(path, None)
                if not member.isdir():
                    self._forget(below=path)
                if any(note):
                    own[path] = note
                if len(own) > MANY:
                    raise ValueError(f"a layer holds more than {MANY} files that should not be in it")
        self.noted.update(own)

    def _forget(self, *, below: str) -> None:
        for path in [each for each in self.noted if each.startswith(f"{below.rstrip('/')}/")]:
            del self.noted[path]

    def _note(self, layer: tarfile.TarFile, path: str, member: tarfile.TarInfo, own: Mapping[str, _Note]) -> _Note:
        if member.islnk():
            target = posixpath.normpath(f"/{member.linkname}")
            machine = (own.get(target) or self.noted.get(target) or _Note()).machine
        else:
            machine = _machine(layer, member)
            self.programs += bool(machine)
        return _Note(_why(path, member), "" if machine == self.machine else machine)


def _members(layer: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """One after the other; the library would keep them all, and takes what it cannot read for the end."""
    while (member := layer.next()) is not None:
        layer.members.clear()  # type: ignore[attr-defined]
        yield member
    layer.fileobj.seek(layer.offset)
    if layer.fileobj.read(tarfile.BLOCKSIZE) not in (b"", tarfile.NUL * tarfile.BLOCKSIZE):
        raise ValueError("a layer is damaged in the middle")


def _why(path: str, member: tarfile.TarInfo) -> str:
    """Why this gives more rights than its user's, if it does; a container sees a /dev of its engine's."""
    file = member.isreg() or member.islnk()
    kinds: tuple[tuple[bool, str], ...] = (
        (file and bool(member.mode & 0o4000), "setuid"),
        (file and bool(member.mode & 0o2000), "setgid"),
        (CAPABILITY in member.pax_headers, "capabilities"),
        ((member.ischr() or member.isblk()) and not path.startswith("/dev/"), "device"),
    )
    return ", ".join(word for holds, word in kinds if holds)


MACHINES = {"amd64": "x86-64", "arm64": "AArch64"}
"""A platform's architecture (Go's name) → the machine its programs are for."""
NAMES = {3: "i386", 8: "MIPS", 21: "PowerPC64", 22: "S390", 40: "ARM", 62: "x86-64", 183: "AArch64", 243: "RISC-V"}
"""ELF's `e_machine` → the machine (System V ABI, "ELF Header")."""
EXECUTABLES = (2, 3)
"""ELF's `e_type` of what can be run: ET_EXEC and ET_DYN, which a library is too."""
HEADER = 20
"""Bytes of an ELF header up to its `e_machine`."""


def _machine(layer: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    """The machine that a program is for; nothing where the file is none that could be run."""
    if not member.isreg() or not member.mode & 0o111 or member.size < HEADER:
        return ""
    stream = layer.extractfile(member)
    header = stream.read(HEADER) if stream else b""
    if header[:4] != b"\x7fELF" or len(header) < HEADER:
        return ""
    order: Literal["big", "little"] = "big" if header[5] == 2 else "little"
    kind, machine = (int.from_bytes(header[at : at + 2], order) for at in (16, 18))
    if kind not in EXECUTABLES:
        return ""
    return NAMES.get(machine, f"machine {machine}") + (", big-endian" if order == "big" else "")


class _Guarded:
    """A layer as it unpacks; a header that would fill the memory is not read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek: Callable[[int], int] = stream.seek
        self.tell: Callable[[], int] = stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= DOCUMENT:
            raise ValueError(f"a header of {size} bytes")
        return self._stream.read(size)
