"""The port of the inventory: what it stores of every curated image, and its queries."""

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
    """An image as it was read, with all of its deployments in `deployed`.

    `mark` changes whenever the sources of the entry change; it is empty if the entry has to be read again.
    """

    image: KnownImage
    packages: frozenset[Package]
    mark: str


class Inventory(Protocol):
    """A store of images: a copy of what the registry, the evidence and the hosts say.

    Code that acts on an answer reads the sources again. An image that is `gone` from the registry is returned as long
    as it runs, but not by `images`. Its deployments are stored, so that an older image does not count as the one that
    runs.
    """

    def put(self, entries: Iterable[Entry]) -> None:
        """Replace the entries of these images; all of them or none."""

    def listed(self, repository: str, manifests: Iterable[StoredManifest]) -> None:
        """Update what the registry lists about images of a repository; everything else about them stays."""

    def placed(self, application: str, host_of: Callable[[str], str]) -> None:
        """Record the container host of each environment in which the application was deployed."""

    def forget(self, refs: Iterable[ImageRef]) -> None:
        """Delete everything about these images."""

    def distrust(self, application: str | None = None) -> None:
        """Mark all images, or those of one application, to be read again; their entries stay until then."""

    def unreadable(self) -> int:
        """Return the number of images whose evidence cannot be read."""

    def unlisted(self) -> int:
        """Return the number of other images without a known SBOM: their packages are unknown."""

    def unscanned(self) -> int:
        """Return the number of images of which it is unknown whether they have a vulnerability.

        These have no known scan, or none since they were archived (and run nowhere) or disappeared from the registry.
        """

    def by_starter(self) -> int:
        """Return the number of images whose last scan used the starter database, which covers only some packages."""

    def saw(self, host: str, seen: Sequence[Seen], at: datetime) -> None:
        """Replace what is recorded of a host by what it shows at this time."""

    def unwatched(self, hosts: Collection[str]) -> None:
        """Delete what is recorded of all hosts except these."""

    def marks(self, application: str) -> dict[ImageRef, str]:
        """Return the mark of each stored image of an application, including images that are gone."""

    def applications(self) -> tuple[str, ...]:
        """Return the applications that have stored images, sorted."""

    def images(self, application: str | None = None) -> Iterator[KnownImage]:
        """Yield the images in the registry by application, last push first; read in parts to limit memory."""

    def gone(self, application: str | None = None) -> tuple[KnownImage, ...]:
        """Return images that run but are no longer in the registry, as far as signed evidence describes them."""

    def running(self) -> tuple[Running, ...]:
        """Return what should run by signed records: the last deployment of each application in each environment."""

    def of(self, digest: str) -> tuple[KnownImage, ...]:
        """Return the images whose digest is, or begins with, the given one.

        The digest of an encrypted copy finds its image.
        """

    def affected(self, vulnerability: str) -> tuple[KnownImage, ...]:
        """Return the images whose last scan found this vulnerability, by its identifier or an alias."""

    def carrying(self, package: str, version: str | None = None) -> tuple[tuple[KnownImage, tuple[str, ...]], ...]:
        """Return images whose SBOM lists a package of this name and version, or one built from such a source package.

        Names and versions are compared in the normal form of `fleet.packages`. Each image comes with the matching
        packages, as its SBOM names them.
        """

    def in_other_versions(self, package: str, version: str) -> int:
        """Return the number of images that carry a package of this name, but none that may be of this version."""

    def built_on(self, bases: Iterable[Digest]) -> tuple[KnownImage, ...]:
        """Return the images that were built, directly or indirectly, on one of these digests."""

    def reconciled(self) -> datetime | None:
        """Return when the whole inventory was last reconciled with the registry and the hosts; None if never."""

    def reconciled_at(self, at: datetime) -> None:
        """Record that the whole inventory was reconciled with the registry and the hosts at this time."""
