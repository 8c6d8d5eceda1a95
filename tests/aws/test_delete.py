"""What BatchDeleteImage deletes and what it keeps (API reference, "BatchDeleteImage")."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.support.cloud import Repository
from tests.support.content import Content

pytestmark = pytest.mark.real


def test_delete_by_tag_removes_image_with_its_last_tag(repository: Repository) -> None:
    """AWS: "When you remove the last tag from an image, the image is deleted from your repository"."""
    image = repository.push("one", "two")

    first = repository.delete({"imageTag": "one"})
    between = repository.described(image)["imageTags"]
    pulled = repository.pull("two").status_code, repository.pull("one").status_code
    last = repository.delete({"imageTag": "two"})

    assert first == ([{"imageDigest": image.digest, "imageTag": "one"}], [])
    assert (between, pulled) == (["two"], (200, 404))
    assert last == ([{"imageDigest": image.digest, "imageTag": "two"}], [])
    assert repository.listed(imageStatus="ANY") == set()
    assert repository.pull(image.digest).status_code == 404


def test_delete_by_tag_and_digest_removes_only_that_tag(repository: Repository) -> None:
    """Naming both selects the tag and does not delete the image."""
    image = repository.push("one", "two")

    repository.delete({"imageDigest": image.digest, "imageTag": "one"})

    assert repository.described(image)["imageTags"] == ["two"]


def test_delete_by_digest_removes_image_and_all_tags(repository: Repository) -> None:
    """AWS: "You can completely delete an image (and all of its tags) by specifying the image's digest"."""
    image, other = repository.push("one", "two"), repository.push("three")

    deleted, failed = repository.delete(image.id)

    assert failed == []
    assert {each["imageDigest"] for each in deleted} == {image.digest}
    assert repository.listed() == {other.digest}
    assert [repository.pull(each).status_code for each in ("one", "two", image.digest)] == [404, 404, 404]


def test_delete_refuses_image_that_an_index_references(repository: Repository) -> None:
    """It is refused by digest and by last tag, and succeeds after the index is deleted."""
    child, other = repository.push("amd64"), repository.push()
    index = repository.index(child, other, tag="all")

    refused = repository.delete(child.id), repository.delete({"imageTag": "amd64"}), repository.delete(other.id)
    remaining = repository.pull("amd64").status_code, repository.listed()
    repository.delete(index.id)
    deleted, failed = repository.delete(child.id, other.id)

    assert [codes for _, codes in refused] == [["ImageReferencedByManifestList"]] * 3
    assert remaining == (200, {child.digest, other.digest, index.digest})
    assert ({each["imageDigest"] for each in deleted}, failed) == ({child.digest, other.digest}, [])


def test_delete_reports_each_failure_and_deletes_the_rest(repository: Repository) -> None:
    """Every image that is not found has its own failure code."""
    image, other = repository.push("one"), repository.push("two")
    unknown = Content.image("never pushed")

    deleted, failed = repository.delete(unknown.id, {"imageTag": "nothing"}, image.id)
    mismatch = repository.delete({"imageDigest": unknown.digest, "imageTag": "two"})
    nameless = repository.delete({})

    assert {each["imageDigest"] for each in deleted} == {image.digest}
    assert failed == ["ImageNotFound", "ImageNotFound"]
    assert (mismatch, nameless) == (([], ["ImageTagDoesNotMatchDigest"]), ([], ["MissingDigestAndTag"]))
    assert repository.listed() == {other.digest}


def test_referrers_remain_after_their_subject_is_deleted(repository: Repository) -> None:
    """A lifecycle policy may delete them later, within a day."""
    image = repository.push("one")
    evidence = repository.attach(image)

    repository.delete(image.id)

    assert repository.described(evidence)["subjectManifestDigest"] == image.digest
    assert repository.pull(evidence.digest).status_code == 200


def test_delete_refuses_more_than_100_images(repository: Repository) -> None:
    """API reference: "Maximum number of 100 items"."""
    image = repository.push("one")
    ids = [image.id, *({"imageTag": f"t{number}"} for number in range(100))]

    with pytest.raises(ClientError) as refused:
        repository.delete(*ids)

    assert refused.value.response["Error"]["Code"] == "InvalidParameterException"
    assert repository.listed() == {image.digest}
