"""A root filesystem merged from Debian packages into one tar whose bytes depend on nothing else.

Nothing is unpacked: members go from the packages' tars into the new one, so that owners and modes are
the packages' own and no privileges are needed. The result has merged directories (`/bin` is `usr/bin`,
as Debian 12 and later demand), so that a later layer cannot hide one half of them.
"""

from __future__ import annotations

import io
import posixpath
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from supply_chain.errors import BuildFailed

MERGED = ("bin", "sbin", "lib", "lib64")
"""Directories that are links into /usr (Debian's usr-merge)."""

UNWANTED = re.compile(
    r"usr/share/(man|info|locale|lintian|bug|groff|menu|doc-base|bash-completion|debconf|perl5)/."
    r"|usr/share/doc/[^/]+/(?!copyright$)."
    r"|var/(cache|lib/dpkg|lib/apt)/."
    r"|etc/(apt|dpkg|init\.d|cron\.\w+|logrotate\.d|rsyslog\.d|default)/."
    r"|(usr/)?lib/systemd/."
)
"""What a container never reads. Copyright files stay: their licences ask for it, and SBOMs quote them."""

LEFT_OUT = frozenset(
    {"adduser", "apt", "debconf", "dpkg", "init-system-helpers", "lsb-base", "mawk", "openssl", "perl-base"}
    | {"sysvinit-utils", "tar", "libdb5.3", "libdb5.3t64"}
)
"""Packages that others depend on only to be installed, and Berkeley DB, which nobody maintains any more:
without it, Python's `dbm` uses its own format. What nothing but these needs is left out with them."""

USERS = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        "app:x:10001:10001:application:/home/app:/usr/sbin/nologin\n"
    ),
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\napp:x:10001:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n",
}
"""What the packages' installation scripts would have made."""


def merged(path: str) -> str:
    """Where a package's path lies in a merged root; both without a leading slash."""
    path = posixpath.normpath(path).lstrip("/")
    return f"usr/{path}" if path.partition("/")[0] in MERGED else path


def merged_link(path: str, target: str) -> str:
    """The target of the symbolic link at `path`, after the link itself may have moved."""
    path = posixpath.normpath(path).lstrip("/")
    if target.startswith("/") or merged(path) == path:
        return target
    absolute = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target)).lstrip("/")
    return posixpath.relpath(merged(absolute), posixpath.dirname(merged(path)))


@dataclass(frozen=True)
class Package:
    """A package by its control part: Debian Policy 5.3, "Binary package control files"."""

    paragraph: str
    sums: str

    @classmethod
    def read(cls, control: tarfile.TarFile) -> Package:
        """From the control part's tar."""
        texts = {"control": "", "md5sums": ""}
        for member in control:
            name = posixpath.normpath(member.name)
            if name in texts and (stream := control.extractfile(member)):
                texts[name] = stream.read().decode()
        return cls(texts["control"], texts["md5sums"])

    @property
    def name(self) -> str:
        return self._field("Package")

    @property
    def version(self) -> str:
        return self._field("Version")

    @property
    def provides(self) -> set[str]:
        """The names it answers to, its own among them."""
        return {self.name, *_names(self._fields("Provides"))}

    @property
    def needs(self) -> set[str]:
        """What it depends on; of alternatives, each."""
        return set(_names(self._fields("Depends") + "," + self._fields("Pre-Depends")))

    def _fields(self, name: str) -> str:
        match = re.search(rf"^{name}:((?:.*)(?:\n[ \t].*)*)", self.paragraph, re.MULTILINE)
        return match[1].strip() if match else ""

    def _field(self, name: str) -> str:
        if value := self._fields(name):
            return value
        raise BuildFailed(f"A package has no field {name}.\nFetch the packages again.")


def _names(relations: str) -> list[str]:
    """`libc6 (>= 2.36), a | b:any` → libc6, a, b."""
    parts = (part.strip() for part in re.split(r"[,|]", relations))
    return [re.split(r"[\s:(]", part, maxsplit=1)[0] for part in parts if part]


def needed(wanted: Iterable[str], fetched: Iterable[Package]) -> set[str]:
    """The packages that `wanted` come down to, without what only `LEFT_OUT` would bring.

    What is wanted by its own name is never left out.
    """
    offers: dict[str, list[Package]] = {}
    for package in fetched:
        for name in package.provides:
            offers.setdefault(name, []).append(package)
    found: set[str] = set()
    ahead = list(wanted)
    left_out = LEFT_OUT - set(ahead)
    while ahead:
        for package in offers.get(ahead.pop(), []):
            if package.name not in found and package.name not in left_out:
                found.add(package.name)
                ahead.extend(package.needs)
    return found


@dataclass
class _Entry:
    info: tarfile.TarInfo
    source: tarfile.TarFile | None = None
    """Where the content is read from …"""
    member: tarfile.TarInfo | None = None
    content: bytes = b""
    """… or the content itself."""

    def read(self) -> io.BufferedIOBase | io.BytesIO:
        if self.source is None or self.member is None:
            return io.BytesIO(self.content)
        stream = self.source.extractfile(self.member)
        if stream is None:
            raise BuildFailed(f"{self.info.name} has no content in its package.\nFetch the packages again.")
        return stream  # type: ignore[return-value]


@dataclass
class Rootfs:
    """Members by path, the packages they came from, and the time (Unix seconds) no file is newer than."""

    epoch: int
    packages: dict[str, str] = field(default_factory=dict)
    _entries: dict[str, _Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.add_directory("usr")
        for name in MERGED:
            self.add_directory(f"usr/{name}")
            info = self._info(name, tarfile.SYMTYPE, 0o777)
            info.linkname = f"usr/{name}"
            self._entries[name] = _Entry(info)

    def _info(self, name: str, kind: bytes, mode: int, owner: int = 0) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.mtime = kind, mode, self.epoch
        info.uid = info.gid = owner
        return info

    def add_directory(self, name: str, mode: int = 0o755, owner: int = 0) -> None:
        """An empty directory, when there is none yet."""
        self._entries.setdefault(name, _Entry(self._info(name, tarfile.DIRTYPE, mode, owner)))

    def add_file(self, name: str, content: bytes) -> None:
        """A file that no package brings; its directories are made."""
        for parent in reversed(PurePosixPath(name).parents[:-1]):
            self.add_directory(str(parent))
        info = self._info(name, tarfile.REGTYPE, 0o644)
        info.size = len(content)
        self._entries[name] = _Entry(info, content=content)

    def add_link(self, name: str, target: str) -> None:
        """A symbolic link, when nothing is there yet."""
        info = self._info(name, tarfile.SYMTYPE, 0o777)
        info.linkname = target
        self._entries.setdefault(name, _Entry(info))

    def add_package(self, package: Package, data: tarfile.TarFile) -> None:
        """A package's files, and what scanners know it by (`status.d`, as distroless images have it)."""
        self.packages[package.name] = package.version
        for member in data:
            self._add_member(data, member)
        status = f"var/lib/dpkg/status.d/{package.name}"
        self.add_file(status, package.paragraph.encode())
        self.add_file(f"{status}.md5sums", _sums(package.sums).encode())

    def _add_member(self, data: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        old = posixpath.normpath(member.name).lstrip("/")
        name = merged(old)
        if old == "." or UNWANTED.match(name):
            return
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise BuildFailed(f"{name} is a device or a pipe.\nLeave the package that brings it out.")
        if name in self._entries:
            return  # a directory that is there already; and what two packages bring, the first keeps
        info = self._info(name, member.type, member.mode)
        info.uid, info.gid, info.size = member.uid, member.gid, member.size
        info.mtime = min(int(member.mtime), self.epoch)
        if member.issym():
            info.linkname = merged_link(old, member.linkname)
        elif member.islnk():
            info.linkname = merged(member.linkname)
        self._entries[name] = _Entry(info, data, member)

    def complete(self) -> None:
        """Do what installation scripts would have done: users, name service, certificates, the shell."""
        for name, text in USERS.items():
            self.add_file(name, text.encode())
        self.add_directory("home/app", 0o750, 10001)
        self.add_directory("tmp", 0o1777)
        if "usr/bin/dash" in self._entries:
            self.add_link("usr/bin/sh", "dash")
        names = sorted(n for n in self._entries if re.fullmatch(r"usr/share/ca-certificates/mozilla/.*\.crt", n))
        if names:
            bundle = b"".join(self._entries[name].read().read() for name in names)
            self.add_file("etc/ssl/certs/ca-certificates.crt", bundle)
            self.add_directory("usr/lib/ssl")
            self.add_link("usr/lib/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt")  # OpenSSL's default

    def write(self, target: Path) -> None:
        """Write the tar: sorted, numeric owners, files before the hard links to them."""
        with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
            for _, entry in sorted(self._entries.items(), key=lambda item: (item[1].info.islnk(), item[0])):
                if entry.info.isreg():
                    tar.addfile(entry.info, entry.read())
                else:
                    tar.addfile(entry.info)


def _sums(text: str) -> str:
    """The checksums of the files that are kept, under the paths they have here."""
    lines = (line.split(None, 1) for line in text.splitlines() if line.strip())
    kept = ((digest, merged(path)) for digest, path in lines if not UNWANTED.match(merged(path)))
    return "".join(f"{digest}  {path}\n" for digest, path in kept)
