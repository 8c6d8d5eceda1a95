"""Tests of the ECR calls for the image lifecycle with the real boto3; the responses are stubbed."""

from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.stub import Stubber

from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.errors import AccessDenied, AwsFailed, AwsUnavailable, ImageNotFound
from supply_chain.model.image import ImageRef, Removal, StorageStatus

A, B = ("sha256:" + letter * 64 for letter in "ab")
REF = ImageRef(repository="curated/hello", digest=A)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
INDEXED = "Requested image referenced by manifest list: [sha256:1]"


@pytest.fixture
def stub():
    client = boto3.client("ecr", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def ecr(stub):
    return Ecr(stub.client, "registry.test:5000")


def detail(digest, **more):
    return {
        "imageDigest": digest,
        "imagePushedAt": NOON,
        "imageSizeInBytes": 7,
        "imageManifestMediaType": "application/vnd.oci.image.manifest.v1+json",
        "imageStatus": "ACTIVE",
        **more,
    }


def asked(target):
    return {"repositoryName": "curated/hello", "imageId": {"imageDigest": A}, "targetStorageClass": target}


def test_images_returns_all_details_of_all_pages(ecr, stub):
    """Archived images are included, because a plan without them would push them again."""
    wanted = {"repositoryName": "curated/hello", "filter": {"imageStatus": "ANY"}, "maxResults": 1000}
    archived = detail(
        A,
        imageTags=["2", "1"],
        lastRecordedPullTime=NOON + timedelta(hours=1),
        lastArchivedAt=NOON + timedelta(hours=3),
        lastActivatedAt=NOON + timedelta(hours=2),
        artifactMediaType="application/vnd.oci.image.config.v1+json",
        imageStatus="ARCHIVED",
    )
    referrer = detail(B, imagePushedAt=NOON + timedelta(hours=1), subjectManifestDigest=A)
    stub.add_response("describe_images", {"imageDetails": [archived], "nextToken": "t"}, wanted)
    stub.add_response("describe_images", {"imageDetails": [referrer]}, {**wanted, "nextToken": "t"})

    second, first = ecr.images("curated/hello")

    assert first.model_dump() == {
        "digest": A,
        "tags": ("1", "2"),
        "pushed_at": NOON,
        "pulled_at": NOON + timedelta(hours=1),
        "archived_at": NOON + timedelta(hours=3),
        "restored_at": NOON + timedelta(hours=2),
        "size": 7,
        "media_type": "application/vnd.oci.image.manifest.v1+json",
        "artifact_type": "application/vnd.oci.image.config.v1+json",
        "subject": None,
        "status": StorageStatus.ARCHIVED,
    }
    assert (second.digest, second.tags, second.subject, second.pulled_at) == (B, (), A, None)


@pytest.mark.parametrize("status", list(StorageStatus))
def test_status_returns_storage_status_of_image(ecr, stub, status):
    """The request names the digest, so that an archived image is answered too."""
    wanted = {"repositoryName": "curated/hello", "imageIds": [{"imageDigest": A}]}
    stub.add_response("describe_images", {"imageDetails": [detail(A, imageStatus=status)]}, wanted)

    assert ecr.status(REF) is status


def test_archive_requests_archive_storage_class(ecr, stub):
    """The request names the digest of the image."""
    stub.add_response("update_image_storage_class", {"imageStatus": "ARCHIVED"}, asked("ARCHIVE"))

    ecr.archive(REF)


def test_restore_requests_standard_storage_class(ecr, stub):
    """The restoration has only begun, so the caller has to wait for it."""
    stub.add_response("update_image_storage_class", {"imageStatus": "ACTIVATING"}, asked("STANDARD"))

    assert ecr.restore(REF) is StorageStatus.ACTIVATING


UNSUPPORTED = "ImageStorageClassUpdateNotSupportedException"


@pytest.mark.parametrize(
    ("call", "status", "answer"),
    [
        (lambda e: e.archive(REF), StorageStatus.ARCHIVED, None),
        (lambda e: e.restore(REF), StorageStatus.ACTIVE, StorageStatus.ACTIVE),
        (lambda e: e.restore(REF), StorageStatus.ACTIVATING, StorageStatus.ACTIVATING),
    ],
    ids=["archived", "active", "activating"],
)
def test_storage_class_change_succeeds_if_already_done(ecr, stub, call, status, answer):
    """An interrupted run is repeated, and AWS refuses the second request."""
    stub.add_client_error("update_image_storage_class", UNSUPPORTED)
    stub.add_response("describe_images", {"imageDetails": [detail(A, imageStatus=status)]})

    assert call(ecr) is answer


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda e: e.archive(REF), StorageStatus.ACTIVE),
        (lambda e: e.archive(REF), StorageStatus.ACTIVATING),
        (lambda e: e.restore(REF), StorageStatus.ARCHIVED),
    ],
    ids=["active", "activating", "archived"],
)
def test_storage_class_change_fails_if_refused_and_not_done(ecr, stub, call, status):
    """An image that can still be pulled must not count as archived."""
    stub.add_client_error("update_image_storage_class", UNSUPPORTED)
    stub.add_response("describe_images", {"imageDetails": [detail(A, imageStatus=status)]})

    with pytest.raises(AwsFailed, match=UNSUPPORTED):
        call(ecr)


def test_delete_returns_result_for_each_digest(ecr, stub):
    """A failure carries the code and the reason of AWS, in the order of the request."""
    wanted = {"repositoryName": "curated/hello", "imageIds": [{"imageDigest": A}, {"imageDigest": B}]}
    failed = {
        "imageId": {"imageDigest": A},
        "failureCode": "ImageReferencedByManifestList",
        "failureReason": INDEXED,
    }
    gone = [{"imageDigest": B, "imageTag": "1"}, {"imageDigest": B, "imageTag": "2"}]
    stub.add_response("batch_delete_image", {"imageIds": gone, "failures": [failed]}, wanted)

    assert ecr.delete("curated/hello", [A, B, A]) == (
        Removal(name=A, code="ImageReferencedByManifestList", reason=INDEXED),
        Removal(name=B, code=None, reason=None),
    )


def test_delete_sends_at_most_100_digests_per_request(ecr, stub):
    """AWS accepts no more than 100."""
    digests = [f"sha256:{number:064x}" for number in range(250)]
    for at in (0, 100, 200):
        ids = [{"imageDigest": digest} for digest in digests[at : at + 100]]
        stub.add_response("batch_delete_image", {"imageIds": ids}, {"repositoryName": "curated/hello", "imageIds": ids})

    assert [each.name for each in ecr.delete("curated/hello", digests)] == digests


def test_delete_of_nothing_makes_no_request(ecr):
    """AWS would refuse the empty list."""
    assert ecr.delete("curated/hello", []) == ()


def test_delete_fails_for_digest_missing_in_response(ecr, stub):
    """A digest that the response does not mention must not count as deleted."""
    stub.add_response("batch_delete_image", {"failures": []})

    with pytest.raises(AwsFailed, match=A):
        ecr.delete("curated/hello", [A])


CALLS = {
    "status": ("describe_images", lambda e: e.status(REF)),
    "archive": ("update_image_storage_class", lambda e: e.archive(REF)),
    "restore": ("update_image_storage_class", lambda e: e.restore(REF)),
    "delete": ("batch_delete_image", lambda e: e.delete("a/b", [A])),
}


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [("AccessDeniedException", 400, AccessDenied), ("ServerException", 500, AwsUnavailable)],
)
def test_images_raises_if_listing_fails(ecr, stub, code, status, error):
    """An empty list would make the caller treat every image as deleted."""
    stub.add_client_error("describe_images", code, http_status_code=status)

    with pytest.raises(error):
        ecr.images("a/b")


def test_images_of_missing_repository_is_empty(ecr, stub):
    """ECR itself reports that the repository does not exist."""
    stub.add_client_error("describe_images", "RepositoryNotFoundException", http_status_code=400)

    assert ecr.images("a/b") == ()


@pytest.mark.parametrize(("operation", "call"), CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("RepositoryNotFoundException", 400, ImageNotFound),
        ("ImageNotFoundException", 400, ImageNotFound),
        ("AccessDeniedException", 400, AccessDenied),
        ("ServerException", 500, AwsUnavailable),
        ("InvalidParameterException", 400, AwsFailed),
    ],
)
def test_ecr_error_raises_same_exception_from_every_call(ecr, stub, operation, call, code, status, error):
    """No call raises an exception of boto3 or returns an empty result instead."""
    stub.add_client_error(operation, code, http_status_code=status)

    with pytest.raises(error) as caught:
        call(ecr)
    assert type(caught.value) is error
