"""What the feed holds: identifiers, packages, version windows, CVSS vectors, dates. No prose.

The feed is one xz-compressed JSON document, written by `scripts/make_feed.py`.
"""

from __future__ import annotations

import lzma
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, ValidationError

from supply_chain.errors import DatabaseUnusable
from supply_chain.model.image import Frozen


class Window(NamedTuple):
    """Affected versions: from `introduced` on (empty: from the first) up to, but without, `fixed`.

    Without `fixed` the window ends with `last`, inclusive; without either it never ends.
    """

    introduced: str = ""
    fixed: str = ""
    last: str = ""

    @property
    def closed(self) -> bool:
        return bool(self.fixed or self.last)


class Source(Frozen):
    """Where facts were taken from, and how current they are."""

    origin: str
    licence: str
    as_of: date


class Package(Frozen):
    """An affected package; no window means that every version is affected."""

    name: str
    windows: tuple[Window, ...]


class GoPackage(Package):
    """A Go module, `stdlib` or `toolchain`.

    `custom` are windows in the versions of the module's tags, where those are not Go versions
    (https://go.dev/security/vuln/database#schema). `imports` are the module's affected packages,
    each with its affected symbols; none means all of them.
    """

    custom: tuple[Window, ...] = ()
    imports: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class Record(Frozen):
    """What one advisory says."""

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


class DebianRelease(Frozen):
    """For each source package the CVEs that were fixed in it, and the version that has the fix."""

    version: str
    codename: str
    fixes: dict[str, dict[str, str]]


class Exploited(Frozen):
    """A vulnerability that is known to be exploited (CISA KEV)."""

    cve: str
    vendor: str
    product: str
    added: date
    due: date
    ransomware: str
    cwes: tuple[str, ...] = ()


class Feed(Frozen):
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
        """The date of the oldest source: nothing in the feed is less current than this says."""
        return datetime.combine(min(source.as_of for source in self.sources.values()), time(), UTC)


def read_feed(path: Path) -> Feed:
    """Read a feed; raises `DatabaseUnusable` when it is not one."""
    try:
        return Feed.model_validate_json(lzma.decompress(path.read_bytes()))
    except (OSError, lzma.LZMAError, ValidationError) as error:
        raise DatabaseUnusable(
            f"The vulnerability feed {path} cannot be read: {str(error)[:500]}\n"
            "Install the project again; the feed is one of its files."
        ) from error
