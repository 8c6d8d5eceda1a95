"""Merges Debian packages into one tar of a root filesystem, reproducibly.

Nothing is unpacked: members are copied from the packages' tars into the new tar. Owners and modes are therefore those
of the packages, and no privileges are needed. The result has merged directories (`/bin` is `usr/bin`, as Debian 12 and
later require), so that a later layer cannot hide one half of them.
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
"""Files that a container never reads. Copyright files are included: licences require them, and SBOMs quote them."""

LEFT_OUT = frozenset(
    {"adduser", "apt", "debconf", "dpkg", "init-system-helpers", "lsb-base", "mawk", "openssl", "perl-base"}
    | {"sysvinit-utils", "tar", "libdb5.3", "libdb5.3t64"}
)
"""Packages that others depend on only for their installation, and Berkeley DB, which is no longer maintained: without
it, Python's `dbm` uses its own format. Packages that only these need are left out too.
"""

USERS = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        "app:x:10001:10001:application:/home/app:/usr/sbin/nologin\n"
    ),
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\napp:x:10001:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n",
}
"""Files that the packages' installation scripts would have made."""


def merge_path(path: str) -> str:
    """Return the place of a package's path in a merged root; both are without a leading slash."""
    path = posixpath.normpath(path).lstrip("/")
    return f"usr/{path}" if path.partition("/")[0] in MERGED else path


def merge_link(path: str, target: str) -> str:
    """Return the target of the symbolic link at `path`, adjusted if `merge_path` moves the link itself."""
    path = posixpath.normpath(path).lstrip("/")
    if target.startswith("/") or merge_path(path) == path:
        return target
    absolute = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target)).lstrip("/")
    return posixpath.relpath(merge_path(absolute), posixpath.dirname(merge_path(path)))


@dataclass(frozen=True)
class Package:
    """A package's control information: Debian Policy 5.3, "Binary package control files"."""

    paragraph: str
    sums: str

    @classmethod
    def read(cls, control: tarfile.TarFile) -> Package:
        """Read a package from the tar of its control part."""
        texts = {"control": "", "md5sums": ""}
        for member in control:
            name = posixpath.normpath(member.name)
            if name in texts and (stream := control.extractfile(member)):
                texts[name] = stream.read().decode()
        return cls(texts["control"], texts["md5sums"])

    @property
    def name(self) -> str:
        """The package's name."""
        return self._field("Package")

    @property
    def version(self) -> str:
        """The package's version."""
        return self._field("Version")

    @property
    def provides(self) -> set[str]:
        """The names that satisfy a dependency on this package, including its own."""
        return {self.name, *_names(self._fields("Provides"))}

    @property
    def needs(self) -> set[str]:
        """The names of all dependencies; of alternatives, each one."""
        return set(_names(self._fields("Depends") + "," + self._fields("Pre-Depends")))

    def _fields(self, name: str) -> str:
        match = re.search(rf"^{name}:((?:.*)(?:\n[ \t].*)*)", self.paragraph, re.MULTILINE)
        return match[1].strip() if match else ""

    def _field(self, name: str) -> str:
        if value := self._fields(name):
            return value
        raise BuildFailed(f"A package has no field {name}.\nFetch the packages again.")


def _names(relations: str) -> list[str]:
    """Return the package names in relations: `libc6 (>= 2.36), a | b:any` → libc6, a, b."""
    parts = (part.strip() for part in re.split(r"[,|]", relations))
    return [re.split(r"[\s:(]", part, maxsplit=1)[0] for part in parts if part]


def resolve_dependencies(roots: Iterable[str], fetched: Iterable[Package]) -> set[str]:
    """Return the names of `roots` and everything that they need, except `LEFT_OUT` and what only those need.

    A package that is in `roots` itself is never left out.
    """
    offers: dict[str, list[Package]] = {}
    for package in fetched:
        for name in package.provides:
            offers.setdefault(name, []).append(package)
    resolved: set[str] = set()
    ahead = list(roots)
    left_out = LEFT_OUT - set(ahead)
    while ahead:
        for package in offers.get(ahead.pop(), []):
            if package.name not in resolved and package.name not in left_out:
                resolved.add(package.name)
                ahead.extend(package.needs)
    return resolved


@dataclass
class _Entry:
    info: tarfile.TarInfo
    source: tarfile.TarFile | None = None
    """The package's tar that has the content as `member`; None if `content` is the content."""
    member: tarfile.TarInfo | None = None
    content: bytes = b""
    """The content, if there is no `source`."""

    def read(self) -> io.BufferedIOBase | io.BytesIO:
        if self.source is None or self.member is None:
            return io.BytesIO(self.content)
        stream = self.source.extractfile(self.member)
        if stream is None:
            raise BuildFailed(f"{self.info.name} has no content in its package.\nFetch the packages again.")
        return stream  # type: ignore[return-value]


@dataclass
class Rootfs:
    """A root filesystem in preparation: entries by path, the packages that they come from, and `epoch`.

    No file is newer than `epoch` (Unix seconds).
    """

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
        """Add an empty directory, if the path does not exist yet."""
        self._entries.setdefault(name, _Entry(self._info(name, tarfile.DIRTYPE, mode, owner)))

    def add_file(self, name: str, content: bytes) -> None:
        """Add a file that no package contains, with its parent directories."""
        for parent in reversed(PurePosixPath(name).parents[:-1]):
            self.add_directory(str(parent))
        info = self._info(name, tarfile.REGTYPE, 0o644)
        info.size = len(content)
        self._entries[name] = _Entry(info, content=content)

    def add_link(self, name: str, target: str) -> None:
        """Add a symbolic link, if the path does not exist yet."""
        info = self._info(name, tarfile.SYMTYPE, 0o777)
        info.linkname = target
        self._entries.setdefault(name, _Entry(info))

    def add_package(self, package: Package, data: tarfile.TarFile) -> None:
        """Add a package's files, and its record for scanners (in `status.d`, as in distroless images)."""
        self.packages[package.name] = package.version
        for member in data:
            self._add_member(data, member)
        status = f"var/lib/dpkg/status.d/{package.name}"
        self.add_file(status, package.paragraph.encode())
        self.add_file(f"{status}.md5sums", _sums(package.sums).encode())

    def _add_member(self, data: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        old = posixpath.normpath(member.name).lstrip("/")
        name = merge_path(old)
        if old == "." or UNWANTED.match(name):
            return
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise BuildFailed(f"{name} is a device or a pipe.\nLeave the package that brings it out.")
        if name in self._entries:
            return  # the path exists already: the first package that has it wins
        info = self._info(name, member.type, member.mode)
        info.uid, info.gid, info.size = member.uid, member.gid, member.size
        info.mtime = min(int(member.mtime), self.epoch)
        if member.issym():
            info.linkname = merge_link(old, member.linkname)
        elif member.islnk():
            info.linkname = merge_path(member.linkname)
        self._entries[name] = _Entry(info, data, member)

    def complete(self) -> None:
        """Add what installation scripts would have made: users, name service, certificates, the shell."""
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
        """Write the tar: sorted, with numeric owners, and files before the hard links to them."""
        with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
            for _, entry in sorted(self._entries.items(), key=lambda item: (item[1].info.islnk(), item[0])):
                if entry.info.isreg():
                    tar.addfile(entry.info, entry.read())
                else:
                    tar.addfile(entry.info)


def _sums(text: str) -> str:
    """Return the checksums of the files that are included, under their merged paths."""
    lines = (line.split(None, 1) for line in text.splitlines() if line.strip())
    included = ((digest, merge_path(path)) for digest, path in lines if not UNWANTED.match(merge_path(path)))
    return "".join(f"{digest}  {path}\n" for digest, path in included)
