"""Everybody has to say who they are and may do what IAM allows: root, the roles, and at the registry too."""

from __future__ import annotations

import json

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from .conftest import (
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
    sha,
)

pytestmark = pytest.mark.real


CALLS = (
    ("sts", "get_caller_identity"),
    ("sts", "get_session_token"),
    ("ecr", "get_authorization_token"),
    ("iam", "list_users"),
    ("kms", "list_keys"),
    ("s3", "list_buckets"),
)


def test_nobody_is_root_by_a_name(emulator: Emulator) -> None:
    """Neither as `test`, nor as an account's number, nor with root's own key and another secret."""
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


def test_roots_key_is_the_owners_alone_and_stays(emulator: Emulator) -> None:
    """It is made once, in a file that nobody else may read; a state from before there was one gets one."""
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


def test_root_heeds_a_keys_policy(emulator: Emulator) -> None:
    """Who is denied by the key's own policy does not sign with it: not root, not by a session, not by an alias."""
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


def test_only_a_request_with_one_good_signature_is_answered(emulator: Emulator) -> None:
    """A second name in the request changes nobody into somebody else, and what is not signed gets nothing."""
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


def test_an_anonymous_client_is_asked_for_a_token(emulator: Emulator) -> None:
    """Nothing of the registry is open: without a token, or with a made-up one, the answer is 401."""
    emulator.repository("dev/app")
    emulator.push(emulator.login(), "dev/app:one")

    for password in (None, "ministack-auth-token", "e30=.00", emulator.login() + "0"):
        with emulator.http(password) as http:
            for path in ("/v2/", "/v2/_catalog", "/v2/dev/app/manifests/one", f"/v2/dev/app/referrers/{sha(b'')}"):
                refused = http.get(path)
                assert refused.status_code == 401, path
                assert refused.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert emulator.push(None, "dev/app:two").returncode != 0


def test_a_role_that_may_not_push_is_refused(emulator: Emulator) -> None:
    """A role that may pull pulls, and is told which action it lacks when it pushes."""
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


def test_a_role_reaches_its_own_repositories_only(emulator: Emulator) -> None:
    """Development pushes to `dev/*` and cannot even look into `curated/*`."""
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


def test_mounting_needs_the_right_to_read_the_source(emulator: Emulator) -> None:
    """Who cannot read a blob cannot have it linked either, and is asked to upload it."""
    for name in ("dev/app", "curated/app"):
        emulator.repository(name)
    with emulator.http(emulator.login()) as http:
        digest = put_blob(http, "curated/app", b"secret")
    password = emulator.login(**emulator.role("development", LOGIN, allow(at("dev/*"), *PULL, *PUSH)))

    with emulator.http(password) as http:
        mounted = http.post("/v2/dev/app/blobs/uploads/", params={"mount": digest, "from": "curated/app"})

        assert mounted.status_code == 202
        assert http.head(f"/v2/dev/app/blobs/{digest}").status_code == 404


def test_a_token_follows_the_role_and_outlives_the_emulator(emulator: Emulator) -> None:
    """A token still works after a restart, and a right that was taken away is gone at once."""
    emulator.repository("dev/app")
    password = emulator.login(**emulator.role("reader", LOGIN, allow(at("dev/*"), "ecr:ListImages")))
    emulator.kill_and_restart()

    with emulator.http(password) as http:
        before = http.get("/v2/dev/app/tags/list").status_code
        emulator.client("iam").delete_role_policy(RoleName="reader", PolicyName="own")
        after = http.get("/v2/dev/app/tags/list").status_code

    assert (before, after) == (200, 403)


def test_a_role_without_the_right_gets_no_token(emulator: Emulator) -> None:
    """GetAuthorizationToken is itself an action that a policy has to allow."""
    session = emulator.role("nobody", allow("*", "kms:ListKeys"))

    with pytest.raises(ClientError, match="AccessDenied"):
        emulator.login(**session)


def test_a_repository_that_does_not_exist_is_unknown(emulator: Emulator) -> None:
    """Pushing does not create repositories."""
    pushed = emulator.push(emulator.login(), "dev/nowhere:one")

    assert pushed.returncode != 0
    assert "NAME_UNKNOWN" in pushed.stderr


def test_an_immutable_tag_does_not_move(emulator: Emulator) -> None:
    """Neither the registry nor the API moves a tag of an immutable repository."""
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
def test_a_manifest_that_is_not_whole_is_refused(emulator: Emulator, reference: str, body: bytes, code: str) -> None:
    """A manifest is taken only with all that it names, under its own digest."""
    emulator.repository("dev/app")
    with emulator.http(emulator.login()) as http:
        refused = put_manifest(http, "dev/app", reference, body)

        assert refused.json()["errors"][0]["code"] == code
        assert http.get("/v2/dev/app/tags/list").json()["tags"] == []


def test_a_blob_that_is_not_its_digest_is_refused(emulator: Emulator) -> None:
    """Bytes are stored under their own digest or not at all."""
    emulator.repository("dev/app")
    with emulator.http(emulator.login()) as http:
        refused = http.post("/v2/dev/app/blobs/uploads/", params={"digest": sha(b"a")}, content=b"b")

        assert refused.json()["errors"][0]["code"] == "DIGEST_INVALID"
        assert http.head(f"/v2/dev/app/blobs/{sha(b'a')}").status_code == 404


def test_nobody_resets_it_over_the_network(emulator: Emulator) -> None:
    """ministack's own administration would empty and show everything for anyone who asks."""
    emulator.repository("dev/app")

    with emulator.http() as http:
        assert http.post("/_ministack/reset").status_code == 403
        assert http.get("/_aws/sqs/messages").status_code == 403

    assert emulator.client("ecr").list_images(repositoryName="dev/app")["imageIds"] == []
