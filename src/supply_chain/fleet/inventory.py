"""The inventory's port: what is kept of every curated image, and what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from supply_chain.evidence.sbom import Package
from supply_chain.fleet.known import KnownImage, Running, Seen
from supply_chain.model.image import Digest, ImageRef, StoredManifest


@dataclass(frozen=True)
class Entry:
    """An image as it was read, with every deployment of it in `deployed`.

    `mark` changes whenever what it was read from does; it is empty where it has to be read again.
    """

    image: KnownImage
    packages: frozenset[Package]
    mark: str


class Inventory(Protocol):
    """Keeps images. A copy of what registry, evidence and hosts say: whoever acts on it reads those again.

    An image that is `gone` from the registry is in answers while it runs, and not among `images`. What it ran as keeps
    older images from counting as what runs.
    """

    def put(self, entries: Iterable[Entry]) -> None:
        """Keep these in place of what was kept of the same images; all of them or none."""

    def listed(self, repository: str, manifests: Iterable[StoredManifest]) -> None:
        """Keep what the registry lists of images of a repository; all else that is kept of them stays."""

    def placed(self, application: str, host_of: Callable[[str], str]) -> None:
        """Keep on which container host each environment of an application's deployments is now."""

    def forget(self, refs: Iterable[ImageRef]) -> None:
        """Keep nothing of these any more."""

    def distrust(self, application: str | None = None) -> None:
        """Have all images read again, or an application's; what is kept of each stays until it is."""

    def unreadable(self) -> int:
        """Of how many images the evidence cannot be read."""

    def unlisted(self) -> int:
        """Of how many others no SBOM is known: whether something is in them nobody can tell."""

    def unscanned(self) -> int:
        """Of how many images no scan is known, or none since they were archived (those run nowhere) or went: whether
        a vulnerability is in them nobody can tell."""

    def by_starter(self) -> int:
        """How many images were scanned last with the starter database, which knows only some packages."""

    def saw(self, host: str, seen: Sequence[Seen], at: datetime) -> None:
        """Keep what a host showed, in place of what it showed before."""

    def unwatched(self, hosts: Collection[str]) -> None:
        """Keep nothing of what other hosts than these showed."""

    def marks(self, application: str) -> dict[ImageRef, str]:
        """The images that are kept of an application, those that are gone too, each with the mark of its entry."""

    def applications(self) -> tuple[str, ...]:
        """The applications of which images are kept, sorted."""

    def images(self, application: str | None = None) -> Iterator[KnownImage]:
        """What the registry has, by application and the last push first; read a part at a time, so that many fit."""

    def gone(self, application: str | None = None) -> tuple[KnownImage, ...]:
        """What runs and the registry has no more, by what is still signed of it."""

    def running(self) -> tuple[Running, ...]:
        """What should run by signed records: the last deployment of each application in each environment."""

    def of(self, digest: str) -> tuple[KnownImage, ...]:
        """The images of a digest, or of all whose hexadecimal digits begin so; of an encrypted copy's, its image."""

    def affected(self, vulnerability: str) -> tuple[KnownImage, ...]:
        """Images in which the last scan found it, by its own name or an alias."""

    def carrying(self, package: str, version: str | None = None) -> tuple[tuple[KnownImage, tuple[str, ...]], ...]:
        """Images whose SBOM lists a package of this name, or one built from it, and of this version.

        Names and versions are compared as `fleet.packages` writes them; with each image come the packages that were
        found, as its SBOM names them.
        """

    def in_other_versions(self, package: str, version: str) -> int:
        """How many images carry a package of this name, and none of it that may be of this version."""

    def built_on(self, bases: Iterable[Digest]) -> tuple[KnownImage, ...]:
        """Images that were built on one of these digests, or on what was built on them."""

    def reconciled(self) -> datetime | None:
        """When everything was last held against the registry and the hosts; None where never."""

    def reconciled_at(self, at: datetime) -> None:
        """Everything was as registry and hosts say at this moment."""
