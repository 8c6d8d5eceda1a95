"""The inventory's port: what is kept of every curated image, and what is asked of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from supply_chain.evidence.sbom import Package
from supply_chain.fleet.known import KnownImage, Running, Seen
from supply_chain.image import Digest, ImageRef, StoredManifest


@dataclass(frozen=True)
class Entry:
    """An image as it was read, with every deployment of it in `deployed`.

    `mark` changes whenever what it was read from does; it is empty where it has to be read again.
    """

    image: KnownImage
    packages: frozenset[Package]
    mark: str


class Inventory(Protocol):
    """Keeps images. A copy of what registry, evidence and hosts say: whoever acts on it reads those again."""

    def put(self, entries: Iterable[Entry]) -> None:
        """Keep these in place of what was kept of the same images; all of them or none."""

    def listed(self, repository: str, manifests: Iterable[StoredManifest]) -> None:
        """Keep what the registry lists of images of a repository; all else that is kept of them stays."""

    def forget(self, refs: Iterable[ImageRef]) -> None:
        """Keep nothing of these any more."""

    def distrust(self, application: str | None = None) -> None:
        """Have all images read again, or an application's; what is kept of each stays until it is."""

    def unread(self) -> int:
        """Of how many images no SBOM is known: whether something is in them nobody can tell."""

    def saw(self, host: str, seen: Sequence[Seen], at: datetime) -> None:
        """Keep what a host showed, in place of what it showed before."""

    def marks(self, application: str) -> dict[ImageRef, str]:
        """The images that are kept of an application, each with the mark that it was put with."""

    def applications(self) -> tuple[str, ...]:
        """The applications of which images are kept, sorted."""

    def images(self, application: str | None = None) -> Iterator[KnownImage]:
        """What is kept, by application and the last push first; read a part at a time, so that many fit."""

    def running(self) -> tuple[Running, ...]:
        """What should run by signed records: the last deployment of each application in each environment."""

    def of(self, digest: str) -> tuple[KnownImage, ...]:
        """The images of a digest, or of all whose hexadecimal digits begin so."""

    def affected(self, vulnerability: str) -> tuple[KnownImage, ...]:
        """Images in which the last scan found it, by its own name or an alias."""

    def carrying(self, package: str, version: str | None = None) -> tuple[KnownImage, ...]:
        """Images whose SBOM lists a package of this name, or one built from it, and of this version."""

    def built_on(self, bases: Iterable[Digest]) -> tuple[KnownImage, ...]:
        """Images that were built on one of these digests."""

    def reconciled(self) -> datetime | None:
        """When everything was last held against the registry and the hosts; None where never."""

    def reconciled_at(self, at: datetime) -> None:
        """Everything was as registry and hosts say at this moment."""
