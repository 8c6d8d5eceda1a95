"""Lists in pages, and what filters leave of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws.cloud import Repository

pytestmark = pytest.mark.real


def test_images_come_once_each_while_others_are_pushed(repository: Repository) -> None:
    """A page begins where the one before ended, whatever came between."""
    before = {repository.push(f"t{number}").digest for number in range(5)}
    seen: list[str] = []
    more: dict[str, str] = {}
    while True:
        page = repository.ecr.describe_images(repositoryName=repository.name, maxResults=2, **more)
        assert len(page["imageDetails"]) <= 2
        seen += [each["imageDigest"] for each in page["imageDetails"]]
        if "nextToken" not in page:
            break
        more = {"nextToken": page["nextToken"]}
        if len(seen) < 5:
            repository.push(f"later{len(seen)}")

    assert before <= set(seen)
    assert len(seen) == len(set(seen))


def test_every_tag_is_an_entry_of_the_list(repository: Repository) -> None:
    """In pages too; an image without a tag is one entry."""
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


def test_filters_by_tag(repository: Repository) -> None:
    """With a tag, without, or any."""
    tagged, untagged = repository.push("one"), repository.push()

    assert repository.listed(tagStatus="TAGGED") == {tagged.digest}
    assert repository.listed(tagStatus="UNTAGGED") == {untagged.digest}
    assert repository.listed(tagStatus="ANY") == {tagged.digest, untagged.digest}


def test_repositories_come_once_each(make: Callable[..., Repository]) -> None:
    """Whatever else there is in the account."""
    wanted = {make().name for _ in range(3)}
    repository = make()

    pages = list(repository.ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 2}))

    names = [each["repositoryName"] for page in pages for each in page["repositories"]]
    assert wanted <= set(names) and len(names) == len(set(names))
    assert all(len(page["repositories"]) <= 2 for page in pages) and len(pages) > 1


def test_referrers_come_in_pages_of_at_most_fifty(repository: Repository) -> None:
    """boto3 has no paginator for them."""
    image = repository.push("one")
    attached = {repository.attach(image).digest for _ in range(3)}
    seen: list[str] = []
    more: dict[str, Any] = {}
    while not seen or more:
        page = repository.ecr.list_image_referrers(
            repositoryName=repository.name, subjectId=image.id, maxResults=2, **more
        )
        assert len(page["referrers"]) <= 2
        seen += [each["digest"] for each in page["referrers"]]
        more = {"nextToken": page["nextToken"]} if page.get("nextToken") else {}
    with pytest.raises(ClientError) as refused:
        repository.ecr.list_image_referrers(repositoryName=repository.name, subjectId=image.id, maxResults=51)

    assert (set(seen), len(seen)) == (attached, 3)
    assert refused.value.response["Error"]["Code"] in ("InvalidParameterException", "ValidationException")


def test_referrers_are_chosen_by_their_type(repository: Repository) -> None:
    """And none are there for what nothing refers to."""
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
def test_a_page_that_cannot_be_is_refused(repository: Repository, wrong: dict[str, Any]) -> None:
    """Rather than another page given."""
    repository.push("one")

    with pytest.raises(ClientError) as refused:
        repository.ecr.describe_images(repositoryName=repository.name, **wrong)

    assert refused.value.response["Error"]["Code"] == "InvalidParameterException"


def test_an_image_that_is_asked_for_and_not_there_is_an_error(repository: Repository) -> None:
    """Not an empty list, which would read as "nothing to do"."""
    with pytest.raises(ClientError) as refused:
        repository.ecr.describe_images(repositoryName=repository.name, imageIds=[{"imageTag": "nothing"}])

    assert refused.value.response["Error"]["Code"] == "ImageNotFoundException"
