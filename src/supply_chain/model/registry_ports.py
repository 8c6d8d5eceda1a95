"""The ports of a registry: each is one capability, and a step asks for those that it needs.

`adapters.registry.client.Registry` and `adapters.aws.ecr.Ecr` implement them. Methods raise the errors of a registry
(`RegistryFailed`, `RegistryUnavailable`) or of AWS (`AwsFailed`, `AwsUnavailable`), and `AccessDenied`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from supply_chain.model.image import Digest, ImageRef, Removal, StorageStatus, StoredManifest


class RepositoryCreator(Protocol):
    """Creates repositories."""

    def ensure_repository(self, repository: str, *, immutable: bool, key: str | None) -> None:
        """Create a repository unless it exists; `immutable` is about its tags, `key` is its KMS key, if any."""


class RepositoryLister(Protocol):
    """Lists repositories."""

    def repositories(self, prefix: str) -> tuple[str, ...]:
        """Return the repositories whose names begin with the prefix, sorted."""


class ManifestLister(RepositoryLister, Protocol):
    """Lists the manifests of repositories."""

    def images(self, repository: str) -> tuple[StoredManifest, ...]:
        """Return every manifest of a repository, archived ones too; none if the repository does not exist."""


class PushLister(RepositoryLister, Protocol):
    """Lists the pushes to repositories."""

    def list_pushes(self, repository: str) -> tuple[tuple[Digest, datetime], ...]:
        """Return the digest and push time of every manifest that can be pulled, last push first.

        Returns none if the repository does not exist.
        """


class ImageLister(Protocol):
    """Lists the tagged images of a repository."""

    def list_newest_first(
        self, repository: str, tag_prefix: str = "", *, archived: bool = False
    ) -> tuple[ImageRef, ...]:
        """Return the images that have a tag with this prefix, last push first; none if the repository does not exist.

        Images that cannot be pulled, because they are archived or being restored, are included only with `archived`.
        """


class DigestFinder(Protocol):
    """Finds images by their digest."""

    def find_by_digest(self, begins: str, prefix: str) -> tuple[ImageRef, ...]:
        """Return images, archived or not, whose digest begins with `begins`, in repositories under `prefix`."""

    def status(self, ref: ImageRef) -> StorageStatus:
        """Return the storage status of an image. Raises `ImageNotFound` if it does not exist."""


class ImageArchiver(Protocol):
    """Archives images."""

    def archive(self, ref: ImageRef) -> None:
        """Archive an image, so that it cannot be pulled."""


class ManifestRemover(Protocol):
    """Removes manifests."""

    def delete(self, repository: str, digests: Sequence[Digest]) -> tuple[Removal, ...]:
        """Delete manifests and return what became of each."""


class ManifestReader(Protocol):
    """Reads manifests."""

    def manifest(self, ref: ImageRef) -> dict[str, Any]:
        """Return a manifest, verified by its digest; raise `ImageNotFound` if there is none."""


class ContentReader(Protocol):
    """Reads the content of referrers."""

    def content(self, referrer: ImageRef) -> bytes:
        """Return the only layer of a referrer that has to exist; raise `ImageDamaged` for another digest."""


class Attacher(Protocol):
    """Attaches content to images."""

    def attach(
        self,
        subject: ImageRef,
        artifact_type: str,
        content: bytes,
        annotations: Mapping[str, str],
        media_type: str | None = None,
    ) -> Digest:
        """Push `content` as the only layer of a referrer of `subject`, and return the referrer's digest."""
