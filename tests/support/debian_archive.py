"""An archive of Debian packages in memory, as a transport of httpx."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import httpx
import zstandard

PACK: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.compress,
    ".gz": partial(gzip.compress, mtime=0),
    ".zst": zstandard.compress,
    "": bytes,
}


def make_ar(members: Mapping[str, bytes]) -> bytes:
    """Return an `ar` archive."""
    parts = [b"!<arch>\n"]
    for name, content in members.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
        parts += [header.encode(), content, b"\n" * (len(content) % 2)]
    return b"".join(parts)


def make_tar(files: Mapping[str, bytes], links: Sequence[tarfile.TarInfo] = ()) -> bytes:
    """Return the tar of a package's files, with their directories, and links."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.GNU_FORMAT) as tar:
        directory = tarfile.TarInfo("./usr")
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
        for path, content in files.items():
            member = tarfile.TarInfo(f"./{path}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for link in links:
            tar.addfile(link)
    return held.getvalue()


def make_link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    """Return a link's entry."""
    link = tarfile.TarInfo(name)
    link.type, link.linkname = kind, target
    return link


def make_deb(data: bytes, form: str = ".xz") -> bytes:
    """Return a package with this tar of its files."""
    return make_ar(
        {"debian-binary": b"2.0\n", "control.tar.xz": lzma.compress(b""), f"data.tar{form}": PACK[form](data)}
    )


@dataclass(frozen=True)
class ArchivePackage:
    """A package of the archive."""

    name: str
    version: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    architecture: str = "amd64"
    source: str = ""
    deb: bytes = b""
    """The package; empty: one with `files`."""
    path: str = ""
    """Its `Filename`; empty: one in the pool."""
    digest: str = ""
    """Its `SHA256`; empty: the package's own."""

    @property
    def content(self) -> bytes:
        """The package."""
        return self.deb or make_deb(make_tar(self.files))

    @property
    def filename(self) -> str:
        """Path below the archive's address."""
        return self.path or f"pool/main/{self.name}_{self.version.partition(':')[2] or self.version}.deb"

    def describe(self) -> str:
        """Return its paragraph in `Packages`."""
        source = f"Source: {self.source}\n" if self.source else ""
        sha256 = self.digest or hashlib.sha256(self.content).hexdigest()
        return (
            f"Package: {self.name}\n{source}Version: {self.version}\nArchitecture: {self.architecture}\n"
            f"Description: a package\n with a second line\nFilename: {self.filename}\n"
            f"Size: {len(self.content)}\nSHA256: {sha256}\n\n"
        )


@dataclass
class MemoryArchive:
    """Answers requests for the files of one suite below `/debian`, of one component, `main`."""

    packages: Sequence[ArchivePackage]
    suite: str = "bookworm"
    origin: str = "Debian"
    version: str = "12.5"
    architectures: Sequence[str] = ("amd64", "arm64")
    by_hash: bool = True
    signed: bool = True
    """Whether there is an `InRelease`."""
    form: str = ".xz"
    replaced: dict[str, bytes | None] = field(default_factory=dict)
    """Path → another content; None: it is missing."""
    failures: list[httpx.Response] = field(default_factory=list)
    """Answers to the next requests."""
    asked: list[str] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.asked.append(request.url.path)
        if self.failures:
            return self.failures.pop(0)
        content = {**self.files(), **self.replaced}.get(request.url.path.removeprefix("/debian/"))
        return httpx.Response(404) if content is None else httpx.Response(200, content=content)

    def files(self) -> dict[str, bytes | None]:
        """Return path → content."""
        files: dict[str, bytes | None] = {each.filename: each.content for each in self.packages}
        listed = []
        for architecture in self.architectures:
            text = "".join(
                each.describe() for each in self.packages if each.architecture in (architecture, "all")
            ).encode()
            name = f"main/binary-{architecture}/Packages{self.form}"
            content = PACK[self.form](text)
            digest = hashlib.sha256(content).hexdigest()
            listed.append(f" {digest} {len(content)} {name}\n")
            path = f"main/binary-{architecture}/by-hash/SHA256/{digest}" if self.by_hash else name
            files[f"dists/{self.suite}/{path}"] = content
        release = (
            f"Origin: {self.origin}\nVersion: {self.version}\nCodename: {self.suite}\n"
            f"Architectures: {' '.join(['all', *self.architectures])}\nNo-Support-for-Architecture-all: Packages\n"
            f"Acquire-By-Hash: {'yes' if self.by_hash else 'no'}\n"
            f"MD5Sum:\n {'0' * 32} 1 main/binary-amd64/Packages.xz\nSHA256:\n{''.join(listed)}"
        ).encode()
        if self.signed:
            armor = (b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n", b"-----BEGIN PGP SIGNATURE-----\n\nx\n")
            files[f"dists/{self.suite}/InRelease"] = armor[0] + release + armor[1]
        else:
            files[f"dists/{self.suite}/Release"] = release
        return files

    def with_packages(self, *packages: ArchivePackage) -> MemoryArchive:
        """Return an archive with other packages."""
        return replace(self, packages=packages, asked=[])
