"""What ECR holds, and the ways an image goes: archived, restored, untagged, deleted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from supply_chain.adapters.aws import error_code, translated
from supply_chain.errors import AwsFailed, ImageNotFound
from supply_chain.image import Digest, ImageRef, Removal, StorageStatus, StoredManifest

BATCH = 100
"""Images in one call (API reference, "BatchDeleteImage")."""

ABSENT = ("ImageNotFoundException", "RepositoryNotFoundException")
UNSUPPORTED = "ImageStorageClassUpdateNotSupportedException"


@dataclass(frozen=True)
class EcrImages:
    """The images of one registry, by boto3's client for it."""

    client: Any

    def images(self, repository: str) -> tuple[StoredManifest, ...]:
        """Every manifest of a repository, tagged or not, archived or not, the last pushed first.

        None at all where there is no such repository.
        """
        with translated(f"look at {repository}"):
            try:
                pages = self.client.get_paginator("describe_images").paginate(
                    repositoryName=repository, filter={"imageStatus": "ANY"}
                )
                facts = [_facts(each) for page in pages for each in page["imageDetails"]]
            except ClientError as error:
                if error_code(error) == "RepositoryNotFoundException":
                    return ()
                raise
        return tuple(sorted(facts, key=lambda each: (each.pushed_at, each.digest), reverse=True))

    def status(self, ref: ImageRef) -> StorageStatus:
        """Whether an image is active, archived or on its way back."""
        with translated(f"look at {ref}"), _found(str(ref)):
            (detail,) = self.client.describe_images(
                repositoryName=ref.repository, imageIds=[{"imageDigest": ref.digest}]
            )["imageDetails"]
        return _status(detail)

    def archive(self, ref: ImageRef) -> None:
        """Make an image impossible to pull, at once and until it is restored; nothing for one that is archived.

        Raises `AwsFailed` for one that is on its way back, or that an index lists.
        """
        self._store(ref, "ARCHIVE", "archive", done=(StorageStatus.ARCHIVED,))

    def restore(self, ref: ImageRef) -> StorageStatus:
        """Begin to bring an image back, which takes up to 20 minutes on AWS; nothing for one that is there.

        The status: `ACTIVATING` until it can be pulled.
        """
        return self._store(ref, "STANDARD", "restore", done=(StorageStatus.ACTIVE, StorageStatus.ACTIVATING))

    def delete(self, repository: str, digests: Sequence[Digest]) -> tuple[Removal, ...]:
        """Delete images with all their tags; what became of each, in their order.

        What an index lists stays until the index has gone: `ImageReferencedByManifestList`.
        """
        return self._remove(repository, "imageDigest", digests)

    def untag(self, repository: str, tags: Sequence[str]) -> tuple[Removal, ...]:
        """Remove tags; what became of each, in their order. **The last tag of an image takes the image along.**"""
        return self._remove(repository, "imageTag", tags)

    def _store(self, ref: ImageRef, target: str, doing: str, *, done: Sequence[StorageStatus]) -> StorageStatus:
        with translated(f"{doing} {ref}"), _found(str(ref)):
            try:
                answer = self.client.update_image_storage_class(
                    repositoryName=ref.repository, imageId={"imageDigest": ref.digest}, targetStorageClass=target
                )
            except ClientError as error:
                if error_code(error) != UNSUPPORTED or (status := self.status(ref)) not in done:
                    raise
                return status
        return _status(answer)

    def _remove(self, repository: str, kind: str, names: Sequence[str]) -> tuple[Removal, ...]:
        unique = list(dict.fromkeys(names))
        removed: list[Removal] = []
        for at in range(0, len(unique), BATCH):
            batch = unique[at : at + BATCH]
            with translated(f"delete images of {repository}"), _found(repository):
                answer = self.client.batch_delete_image(
                    repositoryName=repository, imageIds=[{kind: name} for name in batch]
                )
            failed = {each["imageId"].get(kind): each for each in answer.get("failures", ())}
            gone = {each.get(kind) for each in answer.get("imageIds", ())}
            removed += [_removal(name, failed.get(name), gone=name in gone) for name in batch]
        return tuple(removed)


def missing(what: str) -> ImageNotFound:
    """The error for what the registry does not hold."""
    return ImageNotFound(f"The registry has no {what}.\nCheck the reference; the run that made it printed it.")


@contextlib.contextmanager
def _found(what: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error_code(error) in ABSENT:
            raise missing(what) from error
        raise


def _facts(detail: dict[str, Any]) -> StoredManifest:
    return StoredManifest(
        digest=detail["imageDigest"],
        tags=tuple(sorted(detail.get("imageTags", ()))),
        pushed_at=detail["imagePushedAt"],
        pulled_at=detail.get("lastRecordedPullTime"),
        archived_at=detail.get("lastArchivedAt"),
        restored_at=detail.get("lastActivatedAt"),
        size=detail.get("imageSizeInBytes", 0),
        media_type=detail["imageManifestMediaType"],
        artifact_type=detail.get("artifactMediaType"),
        subject=detail.get("subjectManifestDigest"),
        status=_status(detail),
    )


def _status(answer: dict[str, Any]) -> StorageStatus:
    return StorageStatus(answer.get("imageStatus", StorageStatus.ACTIVE))


def _removal(name: str, failure: dict[str, Any] | None, *, gone: bool) -> Removal:
    if failure is not None:
        return Removal(name=name, code=failure["failureCode"], reason=failure.get("failureReason"))
    if not gone:
        raise AwsFailed(f"AWS did not say what became of {name}.\nLook whether it is still there, then try again.")
    return Removal(name=name, code=None, reason=None)
