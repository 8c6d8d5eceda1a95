"""Tests of the ECR adapter with the real boto3; the responses are stubbed according to botocore's service model."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from threading import Event
from types import SimpleNamespace

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from supply_chain.adapters.aws.ecr import MARGIN, Ecr
from supply_chain.errors import AccessDenied, AwsFailed, AwsUnavailable, ImageNotFound
from supply_chain.model.image import ImageRef

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
REF = ImageRef(repository="curated/hello", digest=DIGEST)


@pytest.fixture
def stub():
    client = boto3.client("ecr", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def ecr(stub):
    return Ecr(stub.client, "registry.test:5000")


def token(password="secret", lasts=timedelta(hours=12)):
    return {
        "authorizationData": [
            {
                "authorizationToken": base64.b64encode(f"AWS:{password}".encode()).decode(),
                "expiresAt": datetime.now(UTC) + lasts,
            }
        ]
    }


def repositories(*names, **more):
    return {"repositories": [{"repositoryName": name, **more} for name in names]}


def images(*pairs):
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    return {
        "imageDetails": [
            {"imageDigest": digest, "imagePushedAt": noon + timedelta(hours=hours), "imageTags": ["2", "1"]}
            for digest, hours in pairs
        ]
    }


def test_credentials_reuse_valid_token(ecr, stub):
    """A token is valid for twelve hours, so a request for each call would be wasteful."""
    stub.add_response("get_authorization_token", token())

    assert ecr.credentials() == ecr.credentials() == ("AWS", "secret")


def test_threads_that_need_a_token_request_one(ecr, monkeypatch):
    """A gate begins with several requests at the same time."""
    asked, go_on = [], Event()

    def answer():
        asked.append(1)
        go_on.wait(10)
        return token()

    monkeypatch.setattr(ecr.client, "get_authorization_token", answer)
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(ecr.credentials) for _ in range(4)]
        wait(found, timeout=0.2)
        go_on.set()
        assert {each.result() for each in found} == {("AWS", "secret")}

    assert len(asked) == 1


def test_credentials_renew_token_before_it_expires(ecr, stub):
    """A token must not expire during a long push."""
    stub.add_response("get_authorization_token", token("old", timedelta(seconds=MARGIN - 5)))
    stub.add_response("get_authorization_token", token("new"))

    assert [ecr.credentials()[1], ecr.credentials()[1]] == ["old", "new"]


def test_docker_config_is_private_and_removed_after_use(ecr, stub):
    """Tools read the credentials from a file and never from their arguments."""
    stub.add_response("get_authorization_token", token())

    with ecr.docker_config() as directory:
        path = directory / "config.json"
        auth = json.loads(path.read_text())["auths"]["registry.test:5000"]["auth"]
        assert base64.b64decode(auth) == b"AWS:secret"
        assert path.stat().st_mode & 0o077 == 0 and directory.stat().st_mode & 0o077 == 0
    assert not directory.exists()
    assert "secret" not in repr(ecr)


@pytest.mark.parametrize(
    ("immutable", "key", "mutability", "encryption"),
    [
        (True, "alias/storage", "IMMUTABLE", {"encryptionType": "KMS", "kmsKey": "alias/storage"}),
        (False, None, "MUTABLE", {"encryptionType": "AES256"}),
    ],
)
def test_ensure_repository_creates_missing_one_with_requested_settings(
    ecr, stub, immutable, key, mutability, encryption
):
    """Curation asks for immutable tags and for the key of its tier."""
    stub.add_client_error("describe_repositories", "RepositoryNotFoundException")
    wanted = {
        "repositoryName": "curated/hello",
        "imageTagMutability": mutability,
        "encryptionConfiguration": encryption,
    }
    stub.add_response("create_repository", {}, wanted)

    ecr.ensure_repository("curated/hello", immutable=immutable, key=key)


def test_ensure_repository_leaves_existing_one_unchanged(ecr, stub):
    """The gates check the encryption of an existing repository."""
    stub.add_response("describe_repositories", repositories("curated/hello"), {"repositoryNames": ["curated/hello"]})

    ecr.ensure_repository("curated/hello", immutable=True, key="alias/storage")


def test_ensure_repository_tolerates_concurrent_creation(ecr, stub):
    """The second creator finds the repository already created."""
    stub.add_client_error("describe_repositories", "RepositoryNotFoundException")
    stub.add_client_error("create_repository", "RepositoryAlreadyExistsException")

    ecr.ensure_repository("curated/hello", immutable=True, key=None)


@pytest.mark.parametrize("operation", ["describe_repositories", "create_repository"])
def test_ensure_repository_raises_access_denied(ecr, stub, operation):
    """Either of the two calls may be denied."""
    if operation == "create_repository":
        stub.add_client_error("describe_repositories", "RepositoryNotFoundException")
    stub.add_client_error(operation, "AccessDeniedException", http_status_code=400)

    with pytest.raises(AccessDenied):
        ecr.ensure_repository("curated/hello", immutable=True, key=None)


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ({"encryptionType": "KMS", "kmsKey": "arn:x"}, ("KMS", "arn:x")),
        ({"encryptionType": "AES256"}, ("AES256", None)),
        (None, ("AES256", None)),
    ],
)
def test_encryption_returns_type_and_key(ecr, stub, configuration, expected):
    """A repository without an encryption configuration is not encrypted with a key of ours."""
    more = {"encryptionConfiguration": configuration} if configuration else {}
    stub.add_response("describe_repositories", repositories("curated/hello", **more))

    assert ecr.encryption("curated/hello") == expected


@pytest.mark.parametrize(("answer", "expected"), [("IMMUTABLE", True), ("MUTABLE", False), (None, False)])
def test_immutable_is_true_only_for_immutable_repository(ecr, stub, answer, expected):
    """A missing answer counts as mutable."""
    more = {"imageTagMutability": answer} if answer else {}
    stub.add_response("describe_repositories", repositories("curated/hello", **more))

    assert ecr.is_immutable("curated/hello") is expected


def test_encryption_raises_not_found_for_missing_repository(ecr, stub):
    """A missing repository is not a badly encrypted one."""
    stub.add_client_error("describe_repositories", "RepositoryNotFoundException")

    with pytest.raises(ImageNotFound, match="curated/hello"):
        ecr.encryption("curated/hello")


@pytest.mark.parametrize("code", ["ImageNotFoundException", "RepositoryNotFoundException"])
def test_status_raises_not_found_for_missing_image(ecr, stub, code):
    """A missing image is an error, not a status."""
    stub.add_client_error("describe_images", code)

    with pytest.raises(ImageNotFound):
        ecr.status(REF)


class Holding:
    """Fake of ECR that answers which repositories hold an image, for several callers at once."""

    def __init__(self, **held):
        self.held = held

    def get_paginator(self, operation):
        return SimpleNamespace(paginate=getattr(self, operation))

    def describe_repositories(self, PaginationConfig):  # noqa: N803
        return [{"repositories": [{"repositoryName": f"dev/{name}"} for name in self.held]}, repositories("curated/a")]

    def describe_images(self, repositoryName, imageIds=(), filter=None, PaginationConfig=None):  # noqa: N803 - AWS's names
        held = self.held[repositoryName.removeprefix("dev/")]
        if held is None:
            raise ClientError({"Error": {"Code": "RepositoryNotFoundException"}}, "DescribeImages")
        asked = [each["imageDigest"] for each in imageIds]
        found = images(*((digest, 0) for digest in held))["imageDetails"]
        if asked and not (found := [each for each in found if each["imageDigest"] in asked]):
            raise ClientError({"Error": {"Code": "ImageNotFoundException"}}, "DescribeImages")
        details = [{**each, "imageStatus": "ARCHIVED", "imageManifestMediaType": "m"} for each in found]
        assert asked or filter == {"imageStatus": "ANY"}
        return {"imageDetails": details} if asked else [{"imageDetails": details}]


@pytest.mark.parametrize("begins", [DIGEST, DIGEST[:19]])
def test_find_by_digest_finds_image_in_every_repository_below_prefix(begins):
    """The full or shortened digest is accepted, archived images are found, and nothing is pulled."""
    ecr = Ecr(Holding(c=[OTHER], b=[OTHER, DIGEST], a=[DIGEST], gone=None), "registry.test")

    assert ecr.find_by_digest(begins, "dev/") == tuple(
        ImageRef(repository=f"dev/{name}", digest=DIGEST) for name in "ab"
    )


def test_repositories_reads_all_pages(ecr, stub):
    """The names are sorted and limited to the prefix."""
    stub.add_response("describe_repositories", {**repositories("dev/b", "xx"), "nextToken": "t"})
    stub.add_response("describe_repositories", repositories("dev/a", "dev"), {"maxResults": 1000, "nextToken": "t"})

    assert ecr.repositories("dev/") == ("dev/a", "dev/b")


def test_newest_first_reads_all_pages_and_sorts_by_push_time(ecr, stub):
    """Only tagged images are requested."""
    wanted = {"repositoryName": "curated/hello", "filter": {"tagStatus": "TAGGED"}, "maxResults": 1000}
    stub.add_response("describe_images", {**images((DIGEST, 0)), "nextToken": "t"}, wanted)
    stub.add_response("describe_images", images((OTHER, 1)), {**wanted, "nextToken": "t"})

    assert [ref.digest for ref in ecr.list_newest_first("curated/hello")] == [OTHER, DIGEST]


def test_newest_first_includes_archived_images_on_request(ecr, stub):
    """ECR lists only images that can be pulled, unless the filter asks for any status."""
    wanted = {
        "repositoryName": "curated/hello",
        "filter": {"tagStatus": "TAGGED", "imageStatus": "ANY"},
        "maxResults": 1000,
    }
    stub.add_response("describe_images", images((DIGEST, 0), (OTHER, 1)), wanted)

    assert [ref.digest for ref in ecr.list_newest_first("curated/hello", archived=True)] == [OTHER, DIGEST]


def test_newest_first_skips_untagged_manifests_if_filter_is_ignored(ecr, stub):
    """An emulator also lists referrers, and reading each as an image would cost a call."""
    answer = images((DIGEST, 0), (OTHER, 1))
    del answer["imageDetails"][1]["imageTags"]
    stub.add_response("describe_images", answer)

    assert [ref.digest for ref in ecr.list_newest_first("curated/hello")] == [DIGEST]


def test_missing_repository_lists_no_images(ecr, stub):
    """The repository of a base or of evidence may never have been created."""
    stub.add_client_error("describe_images", "RepositoryNotFoundException")

    assert ecr.list_newest_first("curated/base/python") == ()
    stub.add_client_error("describe_images", "RepositoryNotFoundException")
    assert ecr.list_pushes("evidence/execution/never") == ()


def test_pushed_lists_tagged_and_untagged_manifests(ecr, stub):
    """Referrers have no tags."""
    stub.add_response(
        "describe_images",
        images((DIGEST, 0), (OTHER, 1)),
        {"repositoryName": "evidence/execution/hello", "maxResults": 1000},
    )

    found = ecr.list_pushes("evidence/execution/hello")

    assert [digest for digest, _ in found] == [OTHER, DIGEST]
    assert found[0][1] > found[1][1]


CALLS = {
    "credentials": ("get_authorization_token", lambda e: e.credentials()),
    "encryption": ("describe_repositories", lambda e: e.encryption("a/b")),
    "status": ("describe_images", lambda e: e.status(REF)),
    "having": ("describe_repositories", lambda e: e.find_by_digest(DIGEST, "dev/")),
    "newest_first": ("describe_images", lambda e: e.list_newest_first("a/b")),
    "list_pushes": ("describe_images", lambda e: e.list_pushes("a/b")),
}


@pytest.mark.parametrize(("operation", "call"), CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
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
