"""ECR through the real boto3, its answers stubbed as botocore's service model has them."""

import base64
import json
from datetime import UTC, datetime, timedelta
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


def test_a_token_is_fetched_once_as_long_as_it_is_good(ecr, stub):
    """Twelve hours; every call would be many."""
    stub.add_response("get_authorization_token", token())

    assert ecr.credentials() == ecr.credentials() == ("AWS", "secret")


def test_a_token_is_fetched_anew_before_it_ends(ecr, stub):
    """A long push must not outlive it."""
    stub.add_response("get_authorization_token", token("old", timedelta(seconds=MARGIN - 5)))
    stub.add_response("get_authorization_token", token("new"))

    assert [ecr.credentials()[1], ecr.credentials()[1]] == ["old", "new"]


def test_tools_get_the_credentials_in_a_private_file_that_goes_away(ecr, stub):
    """Never in their arguments."""
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
def test_makes_a_repository_from_the_template_when_there_is_none(ecr, stub, immutable, key, mutability, encryption):
    """Immutable and under the tier's key where curation asks."""
    stub.add_client_error("describe_repositories", "RepositoryNotFoundException")
    wanted = {
        "repositoryName": "curated/hello",
        "imageTagMutability": mutability,
        "encryptionConfiguration": encryption,
    }
    stub.add_response("create_repository", {}, wanted)

    ecr.ensure_repository("curated/hello", immutable=immutable, key=key)


def test_leaves_a_repository_that_is_there(ecr, stub):
    """Its encryption is for the gates to judge."""
    stub.add_response("describe_repositories", repositories("curated/hello"), {"repositoryNames": ["curated/hello"]})

    ecr.ensure_repository("curated/hello", immutable=True, key="alias/storage")


def test_two_that_make_the_same_repository_do_not_disturb_each_other(ecr, stub):
    """The second finds it made."""
    stub.add_client_error("describe_repositories", "RepositoryNotFoundException")
    stub.add_client_error("create_repository", "RepositoryAlreadyExistsException")

    ecr.ensure_repository("curated/hello", immutable=True, key=None)


@pytest.mark.parametrize("operation", ["describe_repositories", "create_repository"])
def test_a_role_that_may_not_make_repositories_is_told_so(ecr, stub, operation):
    """At either call."""
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
def test_says_how_a_repository_is_encrypted(ecr, stub, configuration, expected):
    """Without a word of it, it is not with a key of ours."""
    more = {"encryptionConfiguration": configuration} if configuration else {}
    stub.add_response("describe_repositories", repositories("curated/hello", **more))

    assert ecr.encryption("curated/hello") == expected


@pytest.mark.parametrize(("answer", "expected"), [("IMMUTABLE", True), ("MUTABLE", False), (None, False)])
def test_says_whether_a_tag_can_move(ecr, stub, answer, expected):
    """In doubt it can."""
    more = {"imageTagMutability": answer} if answer else {}
    stub.add_response("describe_repositories", repositories("curated/hello", **more))

    assert ecr.immutable("curated/hello") is expected


def test_a_repository_that_is_not_there_is_missing(ecr, stub):
    """Not badly encrypted."""
    stub.add_client_error("describe_repositories", "RepositoryNotFoundException")

    with pytest.raises(ImageNotFound, match="curated/hello"):
        ecr.encryption("curated/hello")


def test_lists_the_tags_of_an_image(ecr, stub):
    """Sorted; none where it has none."""
    stub.add_response("describe_images", images((DIGEST, 0)))
    stub.add_response("describe_images", {"imageDetails": [{"imageDigest": DIGEST}]})

    assert ecr.tags(REF) == ("1", "2")
    assert ecr.tags(REF) == ()


@pytest.mark.parametrize("code", ["ImageNotFoundException", "RepositoryNotFoundException"])
def test_an_image_that_is_not_there_has_no_tags_to_list(ecr, stub, code):
    """That is an error, not an empty list."""
    stub.add_client_error("describe_images", code)

    with pytest.raises(ImageNotFound):
        ecr.tags(REF)


class Holding:
    """ECR as far as it is asked which repositories hold an image; several at once."""

    def __init__(self, **held):
        self.held = held

    def get_paginator(self, operation):
        return SimpleNamespace(paginate=getattr(self, operation))

    def describe_repositories(self):
        return [{"repositories": [{"repositoryName": f"dev/{name}"} for name in self.held]}, repositories("curated/a")]

    def describe_images(self, repositoryName, imageIds=(), filter=None):  # noqa: N803 - as AWS calls them
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
def test_finds_an_image_in_every_repository_that_holds_it(begins):
    """By all of its digest or as much as tables show, below the prefix only, archived or not; that is no pull of it."""
    ecr = Ecr(Holding(c=[OTHER], b=[OTHER, DIGEST], a=[DIGEST], gone=None), "registry.test")

    assert ecr.having(begins, "dev/") == tuple(ImageRef(repository=f"dev/{name}", digest=DIGEST) for name in "ab")


def test_lists_repositories_of_every_page(ecr, stub):
    """Sorted, below the prefix."""
    stub.add_response("describe_repositories", {**repositories("dev/b", "xx"), "nextToken": "t"})
    stub.add_response("describe_repositories", repositories("dev/a", "dev"), {"nextToken": "t"})

    assert ecr.repositories("dev/") == ("dev/a", "dev/b")


def test_lists_images_of_every_page_the_last_pushed_first(ecr, stub):
    """Tagged ones."""
    wanted = {"repositoryName": "curated/hello", "filter": {"tagStatus": "TAGGED"}}
    stub.add_response("describe_images", {**images((DIGEST, 0)), "nextToken": "t"}, wanted)
    stub.add_response("describe_images", images((OTHER, 1)), {**wanted, "nextToken": "t"})

    assert [ref.digest for ref in ecr.newest_first("curated/hello")] == [OTHER, DIGEST]


def test_archived_images_are_listed_where_they_are_asked_for(ecr, stub):
    """ECR lists what can be pulled, unless it is asked for the rest."""
    wanted = {"repositoryName": "curated/hello", "filter": {"tagStatus": "TAGGED", "imageStatus": "ANY"}}
    stub.add_response("describe_images", images((DIGEST, 0), (OTHER, 1)), wanted)

    assert [ref.digest for ref in ecr.newest_first("curated/hello", archived=True)] == [OTHER, DIGEST]


def test_what_has_no_tag_is_no_image_also_where_the_filter_is_ignored(ecr, stub):
    """An emulator lists referrers too; reading each as an image would cost a call apiece."""
    answer = images((DIGEST, 0), (OTHER, 1))
    del answer["imageDetails"][1]["imageTags"]
    stub.add_response("describe_images", answer)

    assert [ref.digest for ref in ecr.newest_first("curated/hello")] == [DIGEST]


def test_a_repository_that_is_not_there_holds_no_images(ecr, stub):
    """A base that was never made."""
    stub.add_client_error("describe_images", "RepositoryNotFoundException")

    assert ecr.newest_first("curated/base/python") == ()
    stub.add_client_error("describe_images", "RepositoryNotFoundException")
    assert ecr.pushed("evidence/execution/never") == ()


def test_lists_every_manifest_tagged_or_not(ecr, stub):
    """Referrers have no tags."""
    stub.add_response(
        "describe_images", images((DIGEST, 0), (OTHER, 1)), {"repositoryName": "evidence/execution/hello"}
    )

    found = ecr.pushed("evidence/execution/hello")

    assert [digest for digest, _ in found] == [OTHER, DIGEST]
    assert found[0][1] > found[1][1]


CALLS = {
    "credentials": ("get_authorization_token", lambda e: e.credentials()),
    "encryption": ("describe_repositories", lambda e: e.encryption("a/b")),
    "tags": ("describe_images", lambda e: e.tags(REF)),
    "having": ("describe_repositories", lambda e: e.having(DIGEST, "dev/")),
    "newest_first": ("describe_images", lambda e: e.newest_first("a/b")),
    "pushed": ("describe_images", lambda e: e.pushed("a/b")),
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
def test_an_error_of_ecr_is_the_same_everywhere(ecr, stub, operation, call, code, status, error):
    """None comes out as boto3's own, and none as an empty answer."""
    stub.add_client_error(operation, code, http_status_code=status)

    with pytest.raises(error) as caught:
        call(ecr)
    assert type(caught.value) is error
