"""What an SBOM of an image does not tell: which files a scanner does not judge, and whom the image says to be."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from supply_chain.model.image import Frozen
from supply_chain.model.manifest import Unjudged, UnjudgedKind

OS_RELEASE = "/etc/os-release"
"""Where an owner accepts that an image is of another distribution than its base."""
EXAMINATION_VERSION = "2"
"""Of looking: raised when more is looked for, so that what was examined before is examined again."""


class Identity(Frozen):
    """A distribution, as an os-release file names it (os-release(5))."""

    id: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.id} {self.version}".strip()


class Database(Frozen):
    """Records of a package manager, besides those of the image's own distribution."""

    path: str
    manager: str


class Archive(Frozen):
    """An archive of files that no scanner opens."""

    path: str
    format: str
    sha256: str


class Contradiction(Frozen):
    """A file that names another distribution than os-release does."""

    path: str
    fact: str


class Examination(Frozen):
    """What was found in an image's files that an SBOM does not show or that makes one wrong."""

    version: str = EXAMINATION_VERSION
    distribution: Identity | None = Field(default=None, description="as its os-release says; null: it has none")
    contradictions: tuple[Contradiction, ...] = ()
    databases: tuple[Database, ...] = ()
    archives: tuple[Archive, ...] = ()
    unlisted: int = Field(default=0, ge=0, description="how many more databases and archives there are")
    conflicts: tuple[str, ...] = Field(default=(), description="where engines would unpack other files than these")

    def without(self, bases: Iterable[Examination]) -> Examination:
        """What is not in one of the bases too. Archives are told by their content; of a database nothing proves that
        it is still the base's.
        """
        archives = {archive for base in bases for archive in base.archives}
        return self.model_copy(update={"archives": tuple(each for each in self.archives if each not in archives)})

    def unaccepted(self, accepted: Iterable[Unjudged]) -> Examination:
        """What the owner does not accept as not judged."""
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
    """Whether a path is one of these, or lies below a directory that is written as `/directory/*`."""
    return any(path.startswith(each[:-1]) if each.endswith("/*") else path == each for each in patterns)
