"""Pagination and filters of the list calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.cloud import Repository

pytestmark = pytest.mark.real


def test_pagination_lists_each_image_once_during_pushes(repository: Repository) -> None:
    """Each page begins where the previous one ended."""
    before = {repository.push(f"t{number}").digest for number in range(5)}
    listed: list[str] = []
    more: dict[str, str] = {}
    while True:
        page = repository.ecr.describe_images(repositoryName=repository.name, maxResults=2, **more)
        assert len(page["imageDetails"]) <= 2
        listed += [each["imageDigest"] for each in page["imageDetails"]]
        if "nextToken" not in page:
            break
        more = {"nextToken": page["nextToken"]}
        if len(listed) < 5:
            repository.push(f"later{len(listed)}")

    assert before <= set(listed)
    assert len(listed) == len(set(listed))


def test_list_images_has_one_entry_per_tag(repository: Repository) -> None:
    """This also holds across pages; an untagged image has one entry."""
    tagged, untagged = repository.push("one", "two", "three"), repository.push()

    pages = list(
        repository.ecr.get_paginator("list_images").paginate(
            repositoryName=repository.name, PaginationConfig={"PageSize": 2}
        )
    )

    entries = [(each["imageDigest"], each.get("imageTag")) for page in pages for each in page["imageIds"]]
    assert len(pages) == 2
    assert sorted(entries, key=str) == sorted(
        [(tagged.digest, "one"), (tagged.digest, "two"), (tagged.digest, "three"), (untagged.digest, None)], key=str
    )


def test_describe_images_filters_by_tag_status(repository: Repository) -> None:
    """The filter selects tagged images, untagged images or both."""
    tagged, untagged = repository.push("one"), repository.push()

    assert repository.listed(tagStatus="TAGGED") == {tagged.digest}
    assert repository.listed(tagStatus="UNTAGGED") == {untagged.digest}
    assert repository.listed(tagStatus="ANY") == {tagged.digest, untagged.digest}


def test_pagination_lists_each_repository_once(make: Callable[..., Repository]) -> None:
    """Other repositories in the account do not disturb the result."""
    wanted = {make().name for _ in range(3)}
    repository = make()

    pages = list(repository.ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 2}))

    names = [each["repositoryName"] for page in pages for each in page["repositories"]]
    assert wanted <= set(names) and len(names) == len(set(names))
    assert all(len(page["repositories"]) <= 2 for page in pages) and len(pages) > 1


def test_referrer_pages_have_at_most_50_entries(repository: Repository) -> None:
    """boto3 has no paginator for referrers, so the adapter follows the tokens itself."""
    image = repository.push("one")
    attached = {repository.attach(image).digest for _ in range(3)}
    listed: list[str] = []
    more: dict[str, Any] = {}
    while not listed or more:
        page = repository.ecr.list_image_referrers(
            repositoryName=repository.name, subjectId=image.id, maxResults=2, **more
        )
        assert len(page["referrers"]) <= 2
        listed += [each["digest"] for each in page["referrers"]]
        more = {"nextToken": page["nextToken"]} if page.get("nextToken") else {}
    with pytest.raises(ClientError) as refused:
        repository.ecr.list_image_referrers(repositoryName=repository.name, subjectId=image.id, maxResults=51)

    assert (set(listed), len(listed)) == (attached, 3)
    assert refused.value.response["Error"]["Code"] in ("InvalidParameterException", "ValidationException")


def test_referrers_are_filtered_by_artifact_type(repository: Repository) -> None:
    """An image without referrers has an empty list."""
    image, other = repository.push("one"), repository.push("two")
    sbom = repository.attach(image, "application/vnd.example.sbom")
    repository.attach(image)

    def listed(**more: Any) -> list[dict[str, Any]]:
        answer = repository.ecr.list_image_referrers(repositoryName=repository.name, **more)["referrers"]
        return list(answer)

    (found,) = listed(subjectId=image.id, filter={"artifactTypes": ["application/vnd.example.sbom"]})
    assert (found["digest"], found["artifactType"]) == (sbom.digest, "application/vnd.example.sbom")
    assert found["size"] > 0
    assert listed(subjectId=other.id) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"maxResults": 1001},
        {"nextToken": "made up"},
        {"maxResults": 5, "imageIds": [{"imageTag": "one"}]},
    ],
    ids=["too many", "no such token", "pages of what is named"],
)
def test_invalid_page_request_is_refused(repository: Repository, wrong: dict[str, Any]) -> None:
    """A wrong page instead of an error would hide images."""
    repository.push("one")

    with pytest.raises(ClientError) as refused:
        repository.ecr.describe_images(repositoryName=repository.name, **wrong)

    assert refused.value.response["Error"]["Code"] == "InvalidParameterException"


def test_describe_images_of_missing_image_is_an_error(repository: Repository) -> None:
    """An empty list would read as "nothing to do"."""
    with pytest.raises(ClientError) as refused:
        repository.ecr.describe_images(repositoryName=repository.name, imageIds=[{"imageTag": "nothing"}])

    assert refused.value.response["Error"]["Code"] == "ImageNotFoundException"
