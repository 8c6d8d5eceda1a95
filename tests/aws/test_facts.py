"""What DescribeImages reports about an image (API reference, "ImageDetail")."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.cloud import Repository
from tests.support.content import CONFIG, INDEX, MANIFEST, Content
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

SKEW = timedelta(minutes=5)
"""Largest accepted difference between this machine's clock and AWS's."""


def test_image_size_is_the_compressed_size(repository: Repository) -> None:
    """AWS does not say if configuration and manifest count, so the test allows both."""
    image = repository.push("one")
    config, layer = image.blobs

    size = repository.described(image)["imageSizeInBytes"]

    assert len(layer) <= size <= len(layer) + len(config) + len(image.manifest)


def test_index_size_is_the_size_of_its_largest_image(repository: Repository) -> None:
    """API reference: "If the image is a manifest list, this will be the max size of all manifests in the list"."""
    small, large = repository.push(), repository.push(seed="a longer name, so a larger image " * 3)
    index = repository.index(small, large, tag="all")

    sizes = [repository.described(each)["imageSizeInBytes"] for each in (index, small, large)]

    assert sizes[1] < sizes[2] == sizes[0]


def test_describe_images_reports_media_types_and_subjects(repository: Repository) -> None:
    """They distinguish images, indexes and referrers."""
    image = repository.push("one")
    index, evidence = repository.index(image, tag="all"), repository.attach(image, "application/vnd.example.sbom")

    found = {each: repository.described(each) for each in (image, index, evidence)}

    assert [found[each]["imageManifestMediaType"] for each in (image, index, evidence)] == [MANIFEST, INDEX, MANIFEST]
    assert found[image]["artifactMediaType"] == CONFIG
    assert found[evidence]["artifactMediaType"] == "application/vnd.example.sbom"
    assert found[evidence]["subjectManifestDigest"] == image.digest
    assert "subjectManifestDigest" not in found[image]
    assert {each["imageStatus"] for each in found.values()} == {"ACTIVE"}


def test_push_under_second_tag_keeps_push_time(repository: Repository) -> None:
    """An image without tags reports none."""
    began = datetime.now(UTC)
    tagged, untagged = repository.push("one"), repository.push()
    pushed = repository.described(tagged)["imagePushedAt"]

    repository.put(tagged, "two")

    found = repository.described(tagged)
    assert (sorted(found["imageTags"]), found["imagePushedAt"]) == (["one", "two"], pushed)
    assert not repository.described(untagged).get("imageTags")
    assert began - SKEW <= pushed <= datetime.now(UTC) + SKEW


def test_pull_time_is_recorded(repository: Repository) -> None:
    """AWS refreshes the time at most once a day, so the test pulls once and waits."""
    image, other = repository.push("one"), repository.push("two")
    began = datetime.now(UTC)
    assert repository.pull(image.digest).status_code == 200

    def pulled() -> datetime | None:
        found: Any = repository.described(image).get("lastRecordedPullTime")
        return found if isinstance(found, datetime) else None

    at = eventually(pulled, repository.cloud.patience)
    assert began - SKEW <= at <= datetime.now(UTC) + SKEW
    assert "lastRecordedPullTime" not in repository.described(other)


def test_only_excluded_tags_move_in_immutable_repository(make: Callable[..., Repository]) -> None:
    """A tag that matches no exclusion filter still points to the first image."""
    repository = make(
        imageTagMutability="IMMUTABLE_WITH_EXCLUSION",
        imageTagMutabilityExclusionFilters=[{"filterType": "WILDCARD", "filter": "dev-*"}],
    )
    image = repository.push("1.0", "dev-1.0")
    other = Content.image("another")
    repository.put(other)

    refused = repository.put_manifest(other, "1.0")
    repository.put_manifest(other, "dev-1.0").raise_for_status()

    assert refused.status_code in (400, 409)
    assert repository.pull("1.0").content == image.manifest
    assert repository.pull("dev-1.0").content == other.manifest


def test_put_image_refuses_existing_manifest(repository: Repository) -> None:
    """PutImage has an error code for it, whereas a push over the registry API succeeds."""
    image = repository.push("one")

    with pytest.raises(ClientError) as refused:
        repository.ecr.put_image(repositoryName=repository.name, imageManifest=image.manifest.decode(), imageTag="one")

    assert refused.value.response["Error"]["Code"] == "ImageAlreadyExistsException"
