"""What becomes of images in ECR, through the real boto3, its answers stubbed as botocore's service model has them."""

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


def test_tells_everything_of_every_image_on_every_page(ecr, stub):
    """Also what is archived: a plan that does not see it would have it pushed again."""
    wanted = {"repositoryName": "curated/hello", "filter": {"imageStatus": "ANY"}}
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
def test_says_whether_an_image_can_be_pulled(ecr, stub, status):
    """Asked by name, so that an archived one is told too."""
    wanted = {"repositoryName": "curated/hello", "imageIds": [{"imageDigest": A}]}
    stub.add_response("describe_images", {"imageDetails": [detail(A, imageStatus=status)]}, wanted)

    assert ecr.status(REF) is status


def test_archives_an_image(ecr, stub):
    """By its digest."""
    stub.add_response("update_image_storage_class", {"imageStatus": "ARCHIVED"}, asked("ARCHIVE"))

    ecr.archive(REF)


def test_begins_to_restore_an_image(ecr, stub):
    """The caller has to wait until it is there."""
    stub.add_response("update_image_storage_class", {"imageStatus": "ACTIVATING"}, asked("STANDARD"))

    assert ecr.restore(REF) is StorageStatus.ACTIVATING


UNSUPPORTED = "ImageStorageClassUpdateNotSupportedException"


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda e: e.archive(REF), StorageStatus.ARCHIVED),
        (lambda e: e.restore(REF), StorageStatus.ACTIVE),
        (lambda e: e.restore(REF), StorageStatus.ACTIVATING),
    ],
    ids=["archived", "active", "activating"],
)
def test_what_is_so_already_is_no_error(ecr, stub, call, status):
    """A run that was interrupted is done again; AWS refuses the second time."""
    stub.add_client_error("update_image_storage_class", UNSUPPORTED)
    stub.add_response("describe_images", {"imageDetails": [detail(A, imageStatus=status)]})

    assert call(ecr) in (None, status)


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda e: e.archive(REF), StorageStatus.ACTIVE),
        (lambda e: e.archive(REF), StorageStatus.ACTIVATING),
        (lambda e: e.restore(REF), StorageStatus.ARCHIVED),
    ],
    ids=["active", "activating", "archived"],
)
def test_what_is_refused_and_not_so_is_an_error(ecr, stub, call, status):
    """What can still be pulled must not count as archived."""
    stub.add_client_error("update_image_storage_class", UNSUPPORTED)
    stub.add_response("describe_images", {"imageDetails": [detail(A, imageStatus=status)]})

    with pytest.raises(AwsFailed, match=UNSUPPORTED):
        call(ecr)


def test_deletes_images_and_says_what_is_still_there(ecr, stub):
    """By AWS's code and words, in the order that was asked for."""
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


def test_deletes_no_more_than_a_hundred_at_once(ecr, stub):
    """AWS takes no more."""
    digests = [f"sha256:{number:064x}" for number in range(250)]
    for at in (0, 100, 200):
        ids = [{"imageDigest": digest} for digest in digests[at : at + 100]]
        stub.add_response("batch_delete_image", {"imageIds": ids}, {"repositoryName": "curated/hello", "imageIds": ids})

    assert [each.name for each in ecr.delete("curated/hello", digests)] == digests


def test_nothing_to_delete_asks_nothing(ecr):
    """AWS would refuse the empty list."""
    assert ecr.delete("curated/hello", []) == ()


def test_what_aws_says_nothing_of_does_not_count_as_deleted(ecr, stub):
    """Nothing said is not nothing there."""
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
def test_a_list_that_is_not_given_is_no_empty_one(ecr, stub, code, status, error):
    """Somebody would take everything for gone."""
    stub.add_client_error("describe_images", code, http_status_code=status)

    with pytest.raises(error):
        ecr.images("a/b")


def test_a_repository_that_is_not_there_holds_nothing(ecr, stub):
    """ECR says so itself."""
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
def test_an_error_of_ecr_is_the_same_everywhere(ecr, stub, operation, call, code, status, error):
    """None comes out as boto3's own, and none as an empty answer."""
    stub.add_client_error(operation, code, http_status_code=status)

    with pytest.raises(error) as caught:
        call(ecr)
    assert type(caught.value) is error
