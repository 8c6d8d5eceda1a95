"""The port of the inventory: what it stores of every curated image, and its queries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from supply_chain.evidence.sbom import Package
from supply_chain.fleet.gate_facts import FactsStore
from supply_chain.fleet.image import FleetImage, HostContainer, Running
from supply_chain.model.image import Digest, ImageRef, StoredManifest


@dataclass(frozen=True)
class Entry:
    """An image as it was read, with all of its deployments in `deployed`.

    `mark` changes whenever the sources of the entry change; it is empty if the entry has to be read again.
    """

    image: FleetImage
    packages: frozenset[Package]
    mark: str


class FleetLister(Protocol):
    """Lists what is in the registry and what runs."""

    def running(self) -> tuple[Running, ...]:
        """Return what should run by signed records: the last deployment of each application in each environment."""

    def images(self, application: str | None = None) -> Iterator[FleetImage]:
        """Yield the images in the registry by application, last push first; read in parts to limit memory."""

    def list_removed(self, application: str | None = None) -> tuple[FleetImage, ...]:
        """Return images that run but are no longer in the registry, as far as signed evidence describes them."""


class Inventory(FactsStore, FleetLister, Protocol):
    """A store of images: a copy of what the registry, the evidence and the hosts say.

    Code that acts on an answer reads the sources again. An image that is `missing` in the registry is returned as long
    as it runs, but not by `images`. Its deployments are stored, so that an older image does not count as the one that
    runs.
    """

    def put(self, entries: Iterable[Entry]) -> None:
        """Replace the entries of these images; all of them or none.

        The facts of the gates about them are deleted, and those about images that are built on one whose block or SBOM
        changed.
        """

    def put_offered(self, application: str, marks: Mapping[ImageRef, str]) -> None:
        """Replace what is stored of the images of an application that the intake gate judged: image → its mark.

        The facts of an image whose mark is the same stay.
        """

    def update_listing(self, repository: str, manifests: Iterable[StoredManifest]) -> None:
        """Update what the registry lists about images of a repository; everything else about them stays."""

    def update_hosts(self, application: str, host_of: Callable[[str], str]) -> None:
        """Record the container host of each environment in which the application was deployed."""

    def forget(self, refs: Iterable[ImageRef]) -> None:
        """Delete everything about these images."""

    def mark_stale(self, application: str | None = None) -> None:
        """Mark all images, or those of one application, to be read again; their entries stay until then."""

    def count_unreadable(self) -> int:
        """Return the number of images whose evidence cannot be read."""

    def count_without_sbom(self) -> int:
        """Return the number of other images without a known SBOM: their packages are unknown."""

    def count_unscanned(self) -> int:
        """Return the number of images of which it is unknown whether they have a vulnerability.

        These have no known scan, or none since they were archived (and run nowhere) or disappeared from the registry.
        """

    def count_by_starter(self) -> int:
        """Return the number of images whose last scan used the starter database, which covers only some packages."""

    def record_host(self, host: str, containers: Sequence[HostContainer], at: datetime) -> None:
        """Replace what is recorded of a host by what it shows at this time."""

    def retain_hosts(self, hosts: Collection[str]) -> None:
        """Delete what is recorded of all hosts except these."""

    def read_marks(self, application: str) -> dict[ImageRef, str]:
        """Return the mark of each stored image of an application, including images that are gone."""

    def applications(self) -> tuple[str, ...]:
        """Return the applications that have stored or offered images, sorted."""

    def find_by_digest(self, digest: str) -> tuple[FleetImage, ...]:
        """Return the images whose digest is, or begins with, the given one.

        The digest of an encrypted copy finds its image.
        """

    def find_affected(self, vulnerability: str) -> tuple[FleetImage, ...]:
        """Return the images whose last scan found this vulnerability, by its identifier or an alias."""

    def find_carrying(self, package: str, version: str | None = None) -> tuple[tuple[FleetImage, tuple[str, ...]], ...]:
        """Return images whose SBOM lists a package of this name and version, or one built from such a source package.

        Names and versions are compared in the normal form of `fleet.packages`. Each image comes with the matching
        packages, as its SBOM names them.
        """

    def count_other_versions(self, package: str, version: str) -> int:
        """Return the number of images that carry a package of this name, but none that may be of this version."""

    def find_built_on(self, bases: Iterable[Digest]) -> tuple[FleetImage, ...]:
        """Return the images that were built, directly or indirectly, on one of these digests."""

    def find_last_reconciliation(self) -> datetime | None:
        """Return when the whole inventory was last reconciled with the registry and the hosts; None if never."""

    def record_reconciled(self, at: datetime) -> None:
        """Record that the whole inventory was reconciled with the registry and the hosts at this time."""
