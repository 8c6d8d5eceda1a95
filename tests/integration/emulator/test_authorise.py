"""Authentication and authorisation: every caller is identified, and IAM decides, also at the registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.support.emulator import (
    ACCOUNT,
    LOGIN,
    PULL,
    PUSH,
    REGION,
    Emulator,
    allow,
    artifact,
    at,
    document,
    put_blob,
    put_manifest,
    running,
    sha,
)

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def shared(python: Path, crane: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with running(python, crane, tmp_path_factory.mktemp("authorise")) as started:
        yield started


@pytest.fixture
def emulator(shared: Emulator) -> Iterator[Emulator]:
    """One emulator for all tests here; each finds it without repositories."""
    yield shared
    shared.remove_repositories()


CALLS = (
    ("sts", "get_caller_identity"),
    ("sts", "get_session_token"),
    ("ecr", "get_authorization_token"),
    ("iam", "list_users"),
    ("kms", "list_keys"),
    ("s3", "list_buckets"),
)


def test_made_up_credentials_are_refused(emulator: Emulator) -> None:
    """Neither a known name, an account number nor root's key with another secret gives access."""
    guesses = [("test", "test"), (ACCOUNT, "test"), (ACCOUNT, ACCOUNT), ("123456789012", "test")]
    for key, secret in [*guesses, (emulator.root["key"], "test"), ("AKIA" + "A" * 16, emulator.root["secret"])]:
        for service, call in CALLS:
            with pytest.raises(ClientError) as refused:
                getattr(emulator.client(service, key, secret), call)()
            assert refused.value.response["Error"]["Code"] in {
                "InvalidAccessKeyId",
                "InvalidClientTokenId",
                "InvalidSignatureException",
                "SignatureDoesNotMatch",
                "UnrecognizedClientException",
            }, (key, service)
    assert emulator.client("sts").get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:root"


def test_root_key_is_created_once_and_readable_by_owner_only(emulator: Emulator) -> None:
    """A state directory without a key gets a new one, and the old key becomes invalid."""
    file, before = emulator.state / "root-key.json", emulator.root
    assert file.stat().st_mode & 0o777 == 0o600
    emulator.repository("dev/app")
    emulator.client("sts").get_session_token()
    assert before["secret"] not in (emulator.state / "sts.json").read_text()

    emulator.kill_and_restart()
    assert emulator.root == before

    emulator.end()
    file.unlink()
    emulator.start()
    assert emulator.client("ecr").describe_repositories()["repositories"][0]["repositoryName"] == "dev/app"
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        emulator.client("sts", **before).get_caller_identity()


def test_root_is_denied_by_a_key_policy(emulator: Emulator) -> None:
    """A deny in the key's policy holds for root, its sessions and aliases of the key."""
    root, kms = f"arn:aws:iam::{ACCOUNT}:root", emulator.client("kms")
    owner = {**allow("*", "kms:*"), "Principal": {"AWS": root}}
    others = {**allow("*", "kms:Sign"), "Effect": "Deny", "Principal": "*"}
    key = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256", Policy=document(owner, others))["KeyMetadata"]
    kms.create_alias(AliasName="alias/tier", TargetKeyId=key["KeyId"])
    made = emulator.client("sts").get_session_token()["Credentials"]
    session = emulator.client("kms", made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])

    for client in (kms, session):
        for name in (key["KeyId"], key["Arn"], "alias/tier"):
            with pytest.raises(ClientError, match="AccessDenied"):
                client.sign(KeyId=name, Message=b"m", SigningAlgorithm="ECDSA_SHA_256")


def test_request_needs_exactly_one_valid_signature(emulator: Emulator) -> None:
    """A second identity in the request is refused, and an unsigned request too."""
    url = f"http://{emulator.host}/"
    target = {"X-Amz-Target": "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"}
    request = AWSRequest("POST", url, headers={**target, "Content-Type": "application/x-amz-json-1.1"}, data=b"{}")
    role = emulator.role("reader", LOGIN)
    SigV4Auth(Credentials(role["key"], role["secret"], role["token"]), "ecr", REGION).add_auth(request)
    own = list(request.headers.items())
    roots = f"AWS4-HMAC-SHA256 Credential={emulator.root['key']}/20260101/{REGION}/ecr/aws4_request, SignedHeaders=host"
    unsigned = [pair for pair in own if pair[0] != "Authorization"]

    def status(headers: list[tuple[str, str]], body: bytes = b"{}", query: str = "") -> int:
        return httpx.post(url + query, headers=headers, content=body, trust_env=False).status_code

    assert status(own) == 200
    assert status([*own, ("Authorization", f"{roots}, Signature=00")]) == 400
    assert status([("Authorization", f"{roots}, Signature=00"), *own]) == 400
    assert status(own, json.dumps({"registryIds": [ACCOUNT]}).encode()) == 400
    assert status(own, query=f"?AWSAccessKeyId={emulator.root['key']}&Signature=x") == 400
    assert status(unsigned) == 400
    assert status([*unsigned, ("Authorization", f"AWS {emulator.root['key']}:x")]) == 400


def test_anonymous_registry_client_gets_401(emulator: Emulator) -> None:
    """No registry endpoint is open; a made-up token is refused too."""
    emulator.repository("dev/app")
    emulator.push(emulator.login(), "dev/app:one")

    for password in (None, "ministack-auth-token", "e30=.00", emulator.login() + "0"):
        with emulator.http(password) as http:
            for path in ("/v2/", "/v2/_catalog", "/v2/dev/app/manifests/one", f"/v2/dev/app/referrers/{sha(b'')}"):
                refused = http.get(path)
                assert refused.status_code == 401, path
                assert refused.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert emulator.push(None, "dev/app:two").returncode != 0


def test_role_without_push_permission_is_refused_with_the_action(emulator: Emulator) -> None:
    """The role can pull, and the error names the missing action."""
    emulator.repository("dev/app")
    emulator.push(emulator.login(), "dev/app:one")
    password = emulator.login(**emulator.role("reader", LOGIN, allow(at("dev/*"), *PULL)))

    pulled = emulator.run_crane(password, "validate", "--remote", f"{emulator.host}/dev/app:one")
    pushed = emulator.push(password, "dev/app:two")

    assert pulled.returncode == 0, pulled.stderr
    assert pushed.returncode != 0
    assert "DENIED" in pushed.stderr
    assert "ecr:InitiateLayerUpload" in pushed.stderr
    with emulator.http(password) as http:
        assert http.delete(f"/v2/dev/app/manifests/{sha(b'')}").status_code == 403
        assert put_manifest(http, "dev/app", "two", b"{}").json()["errors"][0]["code"] == "DENIED"


def test_role_reaches_its_own_repositories_only(emulator: Emulator) -> None:
    """Development pushes to `dev/*` and cannot read `curated/*`."""
    for name in ("dev/app", "curated/app"):
        emulator.repository(name)
    emulator.push(emulator.login(), "curated/app:one")
    password = emulator.login(**emulator.role("development", LOGIN, allow(at("dev/*"), *PULL, *PUSH)))

    own, foreign = emulator.push(password, "dev/app:one"), emulator.push(password, "curated/app:two")

    assert own.returncode == 0, own.stderr
    assert foreign.returncode != 0
    with emulator.http(password) as http:
        for path in ("manifests/one", f"referrers/{sha(b'')}", "tags/list", f"blobs/{sha(b'')}"):
            assert http.get(f"/v2/curated/app/{path}").status_code == 403, path


def test_blob_mount_needs_read_permission_on_the_source(emulator: Emulator) -> None:
    """Without it the client has to upload the blob."""
    for name in ("dev/app", "curated/app"):
        emulator.repository(name)
    with emulator.http(emulator.login()) as http:
        digest = put_blob(http, "curated/app", b"secret")
    password = emulator.login(**emulator.role("development", LOGIN, allow(at("dev/*"), *PULL, *PUSH)))

    with emulator.http(password) as http:
        mounted = http.post("/v2/dev/app/blobs/uploads/", params={"mount": digest, "from": "curated/app"})

        assert mounted.status_code == 202
        assert http.head(f"/v2/dev/app/blobs/{digest}").status_code == 404


def test_token_survives_restart_and_follows_the_role(emulator: Emulator) -> None:
    """A permission that is removed from the role is lost at once."""
    emulator.repository("dev/app")
    password = emulator.login(**emulator.role("reader", LOGIN, allow(at("dev/*"), "ecr:ListImages")))
    emulator.kill_and_restart()

    with emulator.http(password) as http:
        before = http.get("/v2/dev/app/tags/list").status_code
        emulator.client("iam").delete_role_policy(RoleName="reader", PolicyName="own")
        after = http.get("/v2/dev/app/tags/list").status_code

    assert (before, after) == (200, 403)


def test_role_without_permission_gets_no_token(emulator: Emulator) -> None:
    """GetAuthorizationToken is an action that a policy has to allow."""
    session = emulator.role("nobody", allow("*", "kms:ListKeys"))

    with pytest.raises(ClientError, match="AccessDenied"):
        emulator.login(**session)


def test_push_to_missing_repository_is_refused(emulator: Emulator) -> None:
    """A push creates no repository."""
    pushed = emulator.push(emulator.login(), "dev/nowhere:one")

    assert pushed.returncode != 0
    assert "NAME_UNKNOWN" in pushed.stderr


def test_immutable_tag_does_not_move(emulator: Emulator) -> None:
    """This holds for the registry and for the API."""
    emulator.repository("curated/app", imageTagMutability="IMMUTABLE")
    password = emulator.login()
    first = emulator.push(password, "curated/app:one").stdout.strip()

    second = emulator.push(password, "curated/app:one")
    with pytest.raises(ClientError, match="ImageTagAlreadyExists"):
        emulator.client("ecr").put_image(repositoryName="curated/app", imageManifest="{}", imageTag="one")

    assert "TAG_INVALID" in second.stderr
    found = emulator.run_crane(password, "digest", f"{emulator.host}/curated/app:one").stdout.strip()
    assert found == first.partition("@")[2]


@pytest.mark.parametrize(
    ("reference", "body", "code"),
    [
        ("one", b"no JSON", "MANIFEST_INVALID"),
        ("one", artifact(sha(b"s"), 1), "MANIFEST_BLOB_UNKNOWN"),
        (sha(b"other"), b"{}", "DIGEST_INVALID"),
        ("-", b"{}", "TAG_INVALID"),
        ("one", b" " * (4 * 1024 * 1024 + 1), "SIZE_INVALID"),
    ],
)
def test_invalid_manifest_is_refused(emulator: Emulator, reference: str, body: bytes, code: str) -> None:
    """A manifest is stored only with all of its blobs and under its own digest."""
    emulator.repository("dev/app")
    with emulator.http(emulator.login()) as http:
        refused = put_manifest(http, "dev/app", reference, body)

        assert refused.json()["errors"][0]["code"] == code
        assert http.get("/v2/dev/app/tags/list").json()["tags"] == []


def test_blob_with_wrong_digest_is_refused(emulator: Emulator) -> None:
    """No bytes are stored."""
    emulator.repository("dev/app")
    with emulator.http(emulator.login()) as http:
        refused = http.post("/v2/dev/app/blobs/uploads/", params={"digest": sha(b"a")}, content=b"b")

        assert refused.json()["errors"][0]["code"] == "DIGEST_INVALID"
        assert http.head(f"/v2/dev/app/blobs/{sha(b'a')}").status_code == 404


def test_administration_endpoints_are_closed(emulator: Emulator) -> None:
    """The administration of ministack would let everyone reset and read all data."""
    emulator.repository("dev/app")

    with emulator.http() as http:
        assert http.post("/_ministack/reset").status_code == 403
        assert http.get("/_aws/sqs/messages").status_code == 403

    assert emulator.client("ecr").list_images(repositoryName="dev/app")["imageIds"] == []
