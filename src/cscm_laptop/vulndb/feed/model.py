"""Models of the feed's content: identifiers, packages, version windows, CVSS vectors and dates, without prose.

The feed is one xz-compressed JSON document, written by `scripts/make_feed.py`.
"""

from __future__ import annotations

import lzma
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, ValidationError

from supply_chain.errors import DatabaseUnusable
from supply_chain.model.image import Model


class Window(NamedTuple):
    """A range of affected versions: from `introduced` (empty: the first version) to `fixed`, exclusive.

    Without `fixed` the window ends with `last`, inclusive; without either it never ends.
    """

    introduced: str = ""
    fixed: str = ""
    last: str = ""

    @property
    def closed(self) -> bool:
        """Whether the window has an end."""
        return bool(self.fixed or self.last)


class Source(Model):
    """Where facts come from, and how current they are."""

    origin: str
    licence: str
    as_of: date


class Package(Model):
    """An affected package; without windows, every version is affected."""

    name: str
    windows: tuple[Window, ...]


class GoPackage(Package):
    """A Go module, `stdlib` or `toolchain`.

    `custom` are windows in the versions of the module's tags, if those are not Go versions
    (https://go.dev/security/vuln/database#schema). `imports` are the module's affected packages, each with its affected
    symbols; none means all of them.
    """

    custom: tuple[Window, ...] = ()
    imports: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class Record(Model):
    """The identifiers, dates and CVSS vector of an advisory."""

    id: str
    aliases: tuple[str, ...] = ()
    published: datetime | None = None
    modified: datetime | None = None
    cvss: str | None = None


class GoRecord(Record):
    """An advisory of the Go vulnerability database."""

    packages: tuple[GoPackage, ...]


class PythonRecord(Record):
    """An advisory of the Python packaging advisory database."""

    packages: tuple[Package, ...]


class DebianRelease(Model):
    """The CVEs that were fixed in each source package of a release, with the version that has the fix."""

    version: str
    codename: str
    fixes: dict[str, dict[str, str]]


class Exploited(Model):
    """A vulnerability that is known to be exploited (CISA KEV)."""

    cve: str
    vendor: str
    product: str
    added: date
    due: date
    ransomware: str
    cwes: tuple[str, ...] = ()


class Feed(Model):
    """All facts, in the order in which they are compiled."""

    format: Literal[1]
    sources: dict[str, Source]
    go: tuple[GoRecord, ...]
    python: tuple[PythonRecord, ...]
    debian: tuple[DebianRelease, ...]
    debian_cvss: dict[str, str]
    exploited: tuple[Exploited, ...]

    @property
    def built(self) -> datetime:
        """The date of the oldest source: no fact in the feed is older than that."""
        return datetime.combine(min(source.as_of for source in self.sources.values()), time(), UTC)


def read_feed(path: Path) -> Feed:
    """Read a feed; raise `DatabaseUnusable` if it cannot be read."""
    try:
        return Feed.model_validate_json(lzma.decompress(path.read_bytes()))
    except (OSError, lzma.LZMAError, ValidationError) as error:
        raise DatabaseUnusable(
            f"The vulnerability feed {path} cannot be read: {str(error)[:500]}\n"
            "Install the project again; the feed is one of its files."
        ) from error
