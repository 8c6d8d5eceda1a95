"""Archiving and restoring images (Amazon ECR User Guide, "Archiving an image", "Restoring an image")."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.cloud import Repository
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


def test_archived_image_cannot_be_pulled_by_tag_or_digest(repository: Repository) -> None:
    """Neither the registry nor BatchGetImage returns its manifest."""
    image = repository.push("one")
    assert repository.pull("one").content == image.manifest

    assert repository.store(image, "ARCHIVE") == "ARCHIVED"

    for reference in ("one", image.digest):
        assert [repository.pull(reference, method).status_code for method in ("GET", "HEAD")] == [404, 404]
        kind = "imageDigest" if ":" in reference else "imageTag"
        answer = repository.ecr.batch_get_image(repositoryName=repository.name, imageIds=[{kind: reference}])
        assert (answer["images"], len(answer["failures"])) == ([], 1)


def test_archived_image_is_listed_only_by_status_filter(repository: Repository) -> None:
    """DescribeImages reports it by digest; lists contain it only if the filter asks for its status."""
    image, other = repository.push("one"), repository.push("two")

    repository.store(image, "ARCHIVE")

    found = repository.described(image)
    assert (found["imageStatus"], found["imageTags"]) == ("ARCHIVED", ["one"])
    assert found["lastArchivedAt"] >= found["imagePushedAt"]
    assert "lastActivatedAt" not in found
    assert repository.listed() == repository.listed(imageStatus="ACTIVE") == {other.digest}
    assert repository.listed(imageStatus="ARCHIVED") == {image.digest}
    assert repository.listed(imageStatus="ANY") == {image.digest, other.digest}
    for wanted, tags in (({}, {"two"}), ({"filter": {"imageStatus": "ARCHIVED"}}, {"one"})):
        ids = repository.ecr.list_images(repositoryName=repository.name, **wanted)["imageIds"]
        assert {each["imageTag"] for each in ids} == tags


def test_archiving_archived_image_fails_as_not_supported(repository: Repository) -> None:
    """Callers have to check the status first."""
    image = repository.push("one")
    repository.store(image, "ARCHIVE")

    with pytest.raises(ClientError) as refused:
        repository.store(image, "ARCHIVE")

    assert refused.value.response["Error"]["Code"] == "ImageStorageClassUpdateNotSupportedException"


def test_restored_image_can_be_pulled_with_unchanged_content(repository: Repository) -> None:
    """The call returns at once and the image becomes active later."""
    image = repository.push("one")
    repository.store(image, "ARCHIVE")

    assert repository.store(image, "STANDARD") == "ACTIVATING"

    def active() -> dict[str, Any] | None:
        found = repository.described(image)
        return found if found["imageStatus"] == "ACTIVE" else None

    found = eventually(active, repository.cloud.patience)
    assert found["lastActivatedAt"] >= found["lastArchivedAt"]
    assert repository.pull("one").content == image.manifest
    assert repository.listed() == {image.digest}


def test_push_of_archived_image_restores_it_immediately(repository: Repository) -> None:
    """AWS: "That image will be immediately restored and removed from the archive"."""
    image = repository.push("one")
    repository.store(image, "ARCHIVE")

    repository.put(image, "again")

    assert repository.described(image)["imageStatus"] == "ACTIVE"
    assert repository.pull("one").content == repository.pull("again").content == image.manifest


def test_referrers_of_archived_image_stay_readable(repository: Repository) -> None:
    """AWS does not document referrers of a manually archived subject, and the evidence is read from them."""
    image = repository.push("one")
    evidence = repository.attach(image)

    repository.store(image, "ARCHIVE")

    assert repository.referrers(image.digest) == [evidence.digest]
    listed = repository.ecr.list_image_referrers(repositoryName=repository.name, subjectId=image.id)["referrers"]
    assert [(each["digest"], each["artifactStatus"]) for each in listed] == [(evidence.digest, "ACTIVE")]
    assert repository.pull(evidence.digest).content == evidence.manifest


def test_archived_referrer_is_listed_only_by_status_filter(repository: Repository) -> None:
    """AWS: "If no filter is specified, only artifacts with ACTIVE status are returned"."""
    image = repository.push("one")
    active, archived = repository.attach(image), repository.attach(image)
    repository.store(archived, "ARCHIVE")

    def listed(status: str) -> set[str]:
        answer = repository.ecr.list_image_referrers(
            repositoryName=repository.name, subjectId=image.id, filter={"artifactStatus": status}
        )
        return {each["digest"] for each in answer["referrers"]}

    usual = repository.ecr.list_image_referrers(repositoryName=repository.name, subjectId=image.id)["referrers"]
    assert {each["digest"] for each in usual} == listed("ACTIVE") == {active.digest}
    assert listed("ARCHIVED") == {archived.digest}
    assert listed("ANY") == {active.digest, archived.digest}


def test_archived_image_can_be_deleted(repository: Repository) -> None:
    """BatchDeleteImage ignores how long the image has been archived."""
    image = repository.push("one")
    repository.store(image, "ARCHIVE")

    deleted, failed = repository.delete(image.id)

    assert ([each["imageDigest"] for each in deleted], failed) == ([image.digest], [])
    assert repository.listed(imageStatus="ANY") == set()


@pytest.mark.parametrize("target", ["ARCHIVE", "STANDARD"])
def test_storage_class_update_of_missing_image_or_repository_fails(repository: Repository, target: str) -> None:
    """Each of the two has its own error code."""
    digest = "sha256:" + "0" * 64
    for name, code in (
        (repository.name, "ImageNotFoundException"),
        (f"{repository.name}x", "RepositoryNotFoundException"),
    ):
        with pytest.raises(ClientError) as refused:
            repository.ecr.update_image_storage_class(
                repositoryName=name, imageId={"imageDigest": digest}, targetStorageClass=target
            )
        assert refused.value.response["Error"]["Code"] == code


def test_unknown_storage_class_is_refused(repository: Repository) -> None:
    """The image stays active."""
    image = repository.push("one")

    with pytest.raises(ClientError) as refused:
        repository.store(image, "GLACIER")

    assert refused.value.response["Error"]["Code"] in ("InvalidParameterException", "ValidationException")
    assert repository.described(image)["imageStatus"] == "ACTIVE"
