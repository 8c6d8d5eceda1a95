"""What BatchDeleteImage takes away, and what it leaves (API reference, "BatchDeleteImage")."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.aws.cloud import Repository
from tests.aws.content import Content

pytestmark = pytest.mark.real


def test_a_tag_leaves_the_others_and_only_the_last_takes_the_image(repository: Repository) -> None:
    """ "When you remove the last tag from an image, the image is deleted from your repository." """
    image = repository.push("one", "two")

    first = repository.delete({"imageTag": "one"})
    between = repository.described(image)["imageTags"]
    there = repository.pull("two").status_code, repository.pull("one").status_code
    last = repository.delete({"imageTag": "two"})

    assert first == ([{"imageDigest": image.digest, "imageTag": "one"}], [])
    assert (between, there) == (["two"], (200, 404))
    assert last == ([{"imageDigest": image.digest, "imageTag": "two"}], [])
    assert repository.listed(imageStatus="ANY") == set()
    assert repository.pull(image.digest).status_code == 404


def test_a_tag_with_its_digest_leaves_the_others(repository: Repository) -> None:
    """Naming both says which tag is meant, not that the image should go."""
    image = repository.push("one", "two")

    repository.delete({"imageDigest": image.digest, "imageTag": "one"})

    assert repository.described(image)["imageTags"] == ["two"]


def test_a_digest_takes_every_tag(repository: Repository) -> None:
    """ "You can completely delete an image (and all of its tags) by specifying the image's digest." """
    image, other = repository.push("one", "two"), repository.push("three")

    deleted, failed = repository.delete(image.id)

    assert failed == []
    assert {each["imageDigest"] for each in deleted} == {image.digest}
    assert repository.listed() == {other.digest}
    assert [repository.pull(each).status_code for each in ("one", "two", image.digest)] == [404, 404, 404]


def test_an_image_that_an_index_lists_is_kept(repository: Repository) -> None:
    """By its digest and by its last tag; it can go once the index has gone."""
    child, other = repository.push("amd64"), repository.push()
    index = repository.index(child, other, tag="all")

    refused = repository.delete(child.id), repository.delete({"imageTag": "amd64"}), repository.delete(other.id)
    kept = repository.pull("amd64").status_code, repository.listed()
    repository.delete(index.id)
    deleted, failed = repository.delete(child.id, other.id)

    assert [codes for _, codes in refused] == [["ImageReferencedByManifestList"]] * 3
    assert kept == (200, {child.digest, other.digest, index.digest})
    assert ({each["imageDigest"] for each in deleted}, failed) == ({child.digest, other.digest}, [])


def test_what_cannot_be_found_is_told_one_by_one(repository: Repository) -> None:
    """And what can be found is deleted all the same."""
    image, other = repository.push("one"), repository.push("two")
    unknown = Content.image("never pushed")

    deleted, failed = repository.delete(unknown.id, {"imageTag": "nothing"}, image.id)
    mismatch = repository.delete({"imageDigest": unknown.digest, "imageTag": "two"})
    nameless = repository.delete({})

    assert {each["imageDigest"] for each in deleted} == {image.digest}
    assert failed == ["ImageNotFound", "ImageNotFound"]
    assert (mismatch, nameless) == (([], ["ImageTagDoesNotMatchDigest"]), ([], ["MissingDigestAndTag"]))
    assert repository.listed() == {other.digest}


def test_referrers_outlive_their_subject(repository: Repository) -> None:
    """Nobody deletes them in the same moment; a lifecycle may, within a day."""
    image = repository.push("one")
    evidence = repository.attach(image)

    repository.delete(image.id)

    assert repository.described(evidence)["subjectManifestDigest"] == image.digest
    assert repository.pull(evidence.digest).status_code == 200


def test_no_more_than_a_hundred_at_once(repository: Repository) -> None:
    """ "Array Members: Minimum number of 1 item. Maximum number of 100 items." """
    image = repository.push("one")
    ids = [image.id, *({"imageTag": f"t{number}"} for number in range(100))]

    with pytest.raises(ClientError) as refused:
        repository.delete(*ids)

    assert refused.value.response["Error"]["Code"] == "InvalidParameterException"
    assert repository.listed() == {image.digest}
