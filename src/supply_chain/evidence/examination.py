"""What an SBOM of an image does not show: files that no scanner judges, and the distribution that the image names."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from supply_chain.model.declaration import Unjudged, UnjudgedKind
from supply_chain.model.image import Model

OS_RELEASE = "/etc/os-release"
"""The path for which an owner accepts that an image has another distribution than its base."""
EXAMINATION_VERSION = "15"
"""Version of the examination. It is raised when more is looked for, so that images are examined again."""

COMPILED_PYTHON = "compiled Python"
"""Format of a compiled Python file, which is listed with the archives."""


class Identity(Model):
    """A distribution, as an os-release file names it (os-release(5))."""

    id: str
    version: str = ""
    codename: str = ""

    def __str__(self) -> str:
        return f"{self.id} {self.version}".strip()


class Database(Model):
    """Records of a package manager other than the one of the image's own distribution."""

    path: str
    manager: str


class Archive(Model):
    """An archive of files that no scanner opens."""

    path: str
    format: str
    sha256: str


class PrivilegedFile(Model):
    """A file that gives more rights than its user has."""

    path: str
    rights: str = Field(
        description="setuid, setgid, capabilities, device or world-writable; several with commas; or what it does"
    )


class Contradiction(Model):
    """A file that names another distribution than os-release does."""

    path: str
    fact: str


class Examination(Model):
    """What was found in an image's files that an SBOM does not show or that makes it wrong."""

    version: str = EXAMINATION_VERSION
    distribution: Identity | None = Field(default=None, description="as its os-release says; null: it has none")
    contradictions: tuple[Contradiction, ...] = ()
    databases: tuple[Database, ...] = ()
    archives: tuple[Archive, ...] = ()
    unlisted: int = Field(default=0, ge=0, description="how many more databases and archives there are")
    privileged_files: tuple[PrivilegedFile, ...] = ()
    conflicts: tuple[str, ...] = Field(default=(), description="where engines would unpack other files than these")

    def exclude_bases(self, bases: Iterable[Examination]) -> Examination:
        """Return the examination without the archives that one of the bases has too.

        Archives are compared by content. Databases stay, because nothing proves that one is still the base's.
        """
        archives = {archive for base in bases for archive in base.archives}
        return self.model_copy(update={"archives": tuple(each for each in self.archives if each not in archives)})

    def exclude_accepted(self, accepted: Iterable[Unjudged]) -> Examination:
        """Return the examination without what the owner accepts."""
        patterns = tuple(accepted)

        def refused(kind: UnjudgedKind, path: str) -> bool:
            return not any(each.what == kind and matches(path, each.at) for each in patterns)

        return self.model_copy(
            update={
                "archives": tuple(each for each in self.archives if refused("archive", each.path)),
                "databases": tuple(each for each in self.databases if refused("database", each.path)),
                "contradictions": tuple(each for each in self.contradictions if refused("distribution", each.path)),
            }
        )


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Return whether a path is one of the patterns, or is below a directory written as `/directory/*`."""
    return any(path.startswith(each[:-1]) if each.endswith("/*") else path == each for each in patterns)
