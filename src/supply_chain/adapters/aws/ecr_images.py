"""Lists the images in ECR, and archives, restores and deletes them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from supply_chain.adapters.aws.session import read_error_code, translate_errors
from supply_chain.errors import AwsFailed, ImageNotFound
from supply_chain.model.image import Digest, ImageRef, Removal, StorageStatus, StoredManifest

BATCH = 100
"""Images in one call (API reference, "BatchDeleteImage")."""

ABSENT = ("ImageNotFoundException", "RepositoryNotFoundException")
UNSUPPORTED = "ImageStorageClassUpdateNotSupportedException"
LARGEST_PAGES = {"PageSize": 1000}
"""How ECR's lists are read: each image has about 19 manifests, and a page without this has 100 entries."""


@dataclass(frozen=True)
class EcrImages:
    """The images of one registry, read through boto3's ECR client."""

    client: Any

    def images(self, repository: str) -> tuple[StoredManifest, ...]:
        """Return every manifest of a repository, tagged or not, archived or not, newest push first.

        A missing repository has none.
        """
        facts = map(_facts, self._details(repository, filter={"imageStatus": "ANY"}))
        return tuple(sorted(facts, key=lambda each: (each.pushed_at, each.digest), reverse=True))

    def status(self, ref: ImageRef) -> StorageStatus:
        """Return whether an image is active, archived or being restored."""
        return _status(self._detail(ref))

    def archive(self, ref: ImageRef) -> None:
        """Make an image impossible to pull, at once and until it is restored; do nothing if it is archived already.

        Raises `AwsFailed` if the image is being restored or an index lists it.
        """
        self._store(ref, "ARCHIVE", "archive", done=(StorageStatus.ARCHIVED,))

    def restore(self, ref: ImageRef) -> StorageStatus:
        """Start to restore an image, which takes up to 20 minutes on AWS; do nothing if it is active or being restored.

        Returns the status: `ACTIVATING` until the image can be pulled.
        """
        return self._store(ref, "STANDARD", "restore", done=(StorageStatus.ACTIVE, StorageStatus.ACTIVATING))

    def delete(self, repository: str, digests: Sequence[Digest]) -> tuple[Removal, ...]:
        """Delete images with all their tags; return the outcome of each, in the given order, without duplicates.

        An image that an index lists stays until the index is deleted: its code is `ImageReferencedByManifestList`.
        """
        unique = list(dict.fromkeys(digests))
        removed: list[Removal] = []
        for at in range(0, len(unique), BATCH):
            batch = unique[at : at + BATCH]
            with translate_errors(f"delete images of {repository}"), translate_missing(repository):
                answer = self.client.batch_delete_image(
                    repositoryName=repository, imageIds=[{"imageDigest": digest} for digest in batch]
                )
            failed = {each["imageId"].get("imageDigest"): each for each in answer.get("failures", ())}
            removed_digests = {each.get("imageDigest") for each in answer.get("imageIds", ())}
            removed += [_removal(digest, failed.get(digest), is_removed=digest in removed_digests) for digest in batch]
        return tuple(removed)

    def _store(self, ref: ImageRef, target: str, doing: str, *, done: Sequence[StorageStatus]) -> StorageStatus:
        with translate_errors(f"{doing} {ref}"), translate_missing(str(ref)):
            try:
                answer = self.client.update_image_storage_class(
                    repositoryName=ref.repository, imageId={"imageDigest": ref.digest}, targetStorageClass=target
                )
            except ClientError as error:
                if read_error_code(error) != UNSUPPORTED or (status := self.status(ref)) not in done:
                    raise
                return status
        return _status(answer)

    def _detail(self, ref: ImageRef) -> dict[str, Any]:
        """Return ECR's details of one image, archived or not; raise `ImageNotFound` if there is none."""
        with translate_errors(f"look at {ref}"), translate_missing(str(ref)):
            details: list[dict[str, Any]] = self.client.describe_images(
                repositoryName=ref.repository, imageIds=[{"imageDigest": ref.digest}]
            )["imageDetails"]
        return details[0]

    def _details(self, repository: str, **which: Any) -> list[dict[str, Any]]:
        """Return ECR's details of each image of a repository; a missing repository has none."""
        with translate_errors(f"look at {repository}"):
            try:
                describe = self.client.get_paginator("describe_images")
                pages = describe.paginate(repositoryName=repository, PaginationConfig=LARGEST_PAGES, **which)
                return [each for page in pages for each in page["imageDetails"]]
            except ClientError as error:
                if read_error_code(error) == "RepositoryNotFoundException":
                    return []
                raise


@contextlib.contextmanager
def translate_missing(what: str) -> Iterator[None]:
    """Raise `ImageNotFound` where ECR reports that the image or repository does not exist."""
    try:
        yield
    except ClientError as error:
        if read_error_code(error) not in ABSENT:
            raise
        raise ImageNotFound(
            f"The registry has no {what}.\nCheck the reference; the run that made it printed it."
        ) from error


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


def _removal(name: str, failure: dict[str, Any] | None, *, is_removed: bool) -> Removal:
    if failure is not None:
        return Removal(name=name, code=failure["failureCode"], reason=failure.get("failureReason"))
    if not is_removed:
        raise AwsFailed(f"AWS did not report what happened to {name}.\nCheck whether it still exists, then try again.")
    return Removal(name=name, code=None, reason=None)
