"""What DescribeImages knows of an image (API reference, "ImageDetail")."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws.cloud import Repository
from tests.aws.content import CONFIG, INDEX, MANIFEST, Content
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

SKEW = timedelta(minutes=5)
"""How far this machine's clock and AWS's may be apart."""


def test_the_size_is_that_of_the_compressed_content(repository: Repository) -> None:
    """AWS does not say whether configuration and manifest count, so they may, and no more."""
    image = repository.push("one")
    config, layer = image.blobs

    size = repository.described(image)["imageSizeInBytes"]

    assert len(layer) <= size <= len(layer) + len(config) + len(image.manifest)


def test_an_index_is_as_large_as_the_largest_image_in_it(repository: Repository) -> None:
    """ "If the image is a manifest list, this will be the max size of all manifests in the list." """
    small, large = repository.push(), repository.push(seed="a longer name, so a larger image " * 3)
    index = repository.index(small, large, tag="all")

    sizes = [repository.described(each)["imageSizeInBytes"] for each in (index, small, large)]

    assert sizes[1] < sizes[2] == sizes[0]


def test_types_and_subjects_are_told(repository: Repository) -> None:
    """Enough to tell an image from an index and from what refers to it."""
    image = repository.push("one")
    index, evidence = repository.index(image, tag="all"), repository.attach(image, "application/vnd.example.sbom")

    found = {each: repository.described(each) for each in (image, index, evidence)}

    assert [found[each]["imageManifestMediaType"] for each in (image, index, evidence)] == [MANIFEST, INDEX, MANIFEST]
    assert found[image]["artifactMediaType"] == CONFIG
    assert found[evidence]["artifactMediaType"] == "application/vnd.example.sbom"
    assert found[evidence]["subjectManifestDigest"] == image.digest
    assert "subjectManifestDigest" not in found[image]
    assert {each["imageStatus"] for each in found.values()} == {"ACTIVE"}


def test_tags_and_the_time_of_the_push_are_told(repository: Repository) -> None:
    """An image without a tag has no tags, and pushing it under another tag makes it no younger."""
    began = datetime.now(UTC)
    tagged, untagged = repository.push("one"), repository.push()
    pushed = repository.described(tagged)["imagePushedAt"]

    repository.put(tagged, "two")

    found = repository.described(tagged)
    assert (sorted(found["imageTags"]), found["imagePushedAt"]) == (["one", "two"], pushed)
    assert not repository.described(untagged).get("imageTags")
    assert began - SKEW <= pushed <= datetime.now(UTC) + SKEW


def test_a_pull_is_recorded(repository: Repository) -> None:
    """Once and some time later, for AWS refreshes the time no more than daily."""
    image, other = repository.push("one"), repository.push("two")
    began = datetime.now(UTC)
    assert repository.pull(image.digest).status_code == 200

    def pulled() -> datetime | None:
        found: Any = repository.described(image).get("lastRecordedPullTime")
        return found if isinstance(found, datetime) else None

    at = eventually(pulled, repository.cloud.patience)
    assert began - SKEW <= at <= datetime.now(UTC) + SKEW
    assert "lastRecordedPullTime" not in repository.described(other)


def test_only_excluded_tags_move_where_others_cannot(make: Callable[..., Repository]) -> None:
    """A tag that is told to be excluded may be overwritten, another not, and it stays where it was."""
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


def test_a_manifest_that_is_there_is_not_put_again(repository: Repository) -> None:
    """PutImage says so; a registry's client does not mind."""
    image = repository.push("one")

    with pytest.raises(ClientError) as refused:
        repository.ecr.put_image(repositoryName=repository.name, imageManifest=image.manifest.decode(), imageTag="one")

    assert refused.value.response["Error"]["Code"] == "ImageAlreadyExistsException"
