"""Durability: every acknowledged write is on disk when the emulator is killed."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.support.emulator import ACCOUNT, LOGIN, MANIFEST, Emulator, allow, document, put_blob, running, sha

pytestmark = pytest.mark.real


def make_key(e: Emulator) -> Callable[[], None]:
    kms = e.client("kms")
    key = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/signer", TargetKeyId=key)
    how = {"KeyId": "alias/signer", "Message": b"m", "SigningAlgorithm": "ECDSA_SHA_256"}
    signature = kms.sign(**how)["Signature"]

    def check() -> None:
        assert e.client("kms").verify(**how, Signature=signature)["SignatureValid"]

    return check


def make_alias(e: Emulator) -> Callable[[], None]:
    kms = e.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/last", TargetKeyId=key)

    def check() -> None:
        assert e.client("kms").describe_key(KeyId="alias/last")["KeyMetadata"]["KeyId"] == key

    return check


def turn_rotation_on(e: Emulator) -> Callable[[], None]:
    kms = e.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    sealed = kms.encrypt(KeyId=key, Plaintext=b"secret")["CiphertextBlob"]
    kms.enable_key_rotation(KeyId=key)

    def check() -> None:
        assert e.client("kms").get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
        assert e.client("kms").decrypt(CiphertextBlob=sealed)["Plaintext"] == b"secret"

    return check


def make_user(e: Emulator) -> Callable[[], None]:
    iam = e.client("iam")
    iam.create_user(UserName="dev")
    iam.put_user_policy(UserName="dev", PolicyName="p", PolicyDocument=document(allow("*", "kms:ListKeys")))
    key = iam.create_access_key(UserName="dev")["AccessKey"]

    def check() -> None:
        kms = e.client("kms", key["AccessKeyId"], key["SecretAccessKey"])
        assert kms.list_keys()["Keys"] == e.client("kms").list_keys()["Keys"]
        with pytest.raises(ClientError, match="AccessDenied"):
            kms.create_key()

    return check


def make_managed_policy(e: Emulator) -> Callable[[], None]:
    arn = e.client("iam").create_policy(PolicyName="managed", PolicyDocument=document(LOGIN))["Policy"]["Arn"]

    def check() -> None:
        assert e.client("iam").get_policy(PolicyArn=arn)["Policy"]["PolicyName"] == "managed"

    return check


def assume_role(e: Emulator) -> Callable[[], None]:
    session = e.role("reader", allow("*", "ecr:DescribeRepositories"))

    def check() -> None:
        identity = e.client("sts", **session).get_caller_identity()
        assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/test"
        assert e.client("ecr", **session).describe_repositories()["repositories"] == []

    return check


def make_repository(e: Emulator) -> Callable[[], None]:
    e.repository("curated/app", imageTagMutability="IMMUTABLE")

    def check() -> None:
        [repository] = e.client("ecr").describe_repositories()["repositories"]
        assert (repository["repositoryName"], repository["imageTagMutability"]) == ("curated/app", "IMMUTABLE")

    return check


def set_repository_policy(e: Emulator) -> Callable[[], None]:
    e.repository("dev/app")
    e.client("ecr").set_repository_policy(repositoryName="dev/app", policyText=document())

    def check() -> None:
        assert e.client("ecr").get_repository_policy(repositoryName="dev/app")["policyText"] == document()

    return check


def push_image(e: Emulator) -> Callable[[], None]:
    e.repository("dev/app")
    password = e.login()
    pushed = e.push(password, "dev/app:one")
    assert pushed.returncode == 0, pushed.stderr

    def check() -> None:
        for reference in (pushed.stdout.strip(), f"{e.host}/dev/app:one"):
            valid = e.run_crane(password, "validate", "--remote", reference)
            assert valid.returncode == 0, valid.stderr

    return check


def upload_blob(e: Emulator) -> Callable[[], None]:
    e.repository("dev/app")
    password = e.login()
    with e.http(password) as http:
        digest = put_blob(http, "dev/app", b"a layer")

    def check() -> None:
        with e.http(password) as http:
            assert http.get(f"/v2/dev/app/blobs/{digest}").content == b"a layer"

    return check


def put_image_by_api(e: Emulator) -> Callable[[], None]:
    e.repository("dev/app")
    text = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST})
    image = e.client("ecr").put_image(repositoryName="dev/app", imageManifest=text, imageTag="t")["image"]
    digest = image["imageId"]["imageDigest"]

    def check() -> None:
        with e.http(e.login()) as http:
            assert http.get(f"/v2/dev/app/manifests/{digest}").text == text

    return check


def delete_image(e: Emulator) -> Callable[[], None]:
    e.repository("dev/app")
    password = e.login()
    reference = e.push(password, "dev/app:one").stdout.strip()
    digest = reference.partition("@")[2]
    e.client("ecr").batch_delete_image(repositoryName="dev/app", imageIds=[{"imageDigest": digest}])

    def check() -> None:
        assert e.client("ecr").list_images(repositoryName="dev/app")["imageIds"] == []
        with e.http(password) as http:
            assert http.get(f"/v2/dev/app/manifests/{digest}").status_code == 404

    return check


def send_message(e: Emulator) -> Callable[[], None]:
    url = e.client("sqs").create_queue(QueueName="sent")["QueueUrl"]
    e.client("sqs").send_message(QueueUrl=url, MessageBody="hello")

    def check() -> None:
        [message] = e.client("sqs").receive_message(QueueUrl=url)["Messages"]
        assert message["Body"] == "hello"

    return check


def put_event(e: Emulator) -> Callable[[], None]:
    sqs, events = e.client("sqs"), e.client("events")
    url = sqs.create_queue(QueueName="events")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="r", EventPattern=json.dumps({"source": ["test"]}))
    events.put_targets(Rule="r", Targets=[{"Id": "1", "Arn": arn}])
    events.put_events(Entries=[{"Source": "test", "DetailType": "d", "Detail": "{}"}])

    def check() -> None:
        assert e.client("events").describe_rule(Name="r")["Name"] == "r"
        [message] = e.client("sqs").receive_message(QueueUrl=url)["Messages"]
        assert json.loads(message["Body"])["source"] == "test"

    return check


@pytest.fixture(scope="module")
def slow(python: Path, crane: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator with a slow disk, which the tests restart."""
    directory = tmp_path_factory.mktemp("slow")
    with running(python, crane, directory, 0.1) as started:
        yield started
    print((directory / "log").read_text())  # pytest shows it with a failed test


@pytest.mark.parametrize(
    "write",
    [
        make_key,
        make_alias,
        turn_rotation_on,
        make_user,
        make_managed_policy,
        assume_role,
        make_repository,
        set_repository_policy,
        push_image,
        upload_blob,
        put_image_by_api,
        delete_image,
        send_message,
        put_event,
    ],
)
def test_acknowledged_write_survives_kill_9(slow: Emulator, write: Callable[[Emulator], Callable[[], None]]) -> None:
    """Each write is checked after a `kill -9` right after its response.

    The disk is slow, so a response that is sent before the state is on disk fails the test.
    """
    slow.remove_repositories()
    check = write(slow)

    slow.kill_and_restart()

    check()


@pytest.mark.parametrize("emulator", [0.02], indirect=True)
def test_every_acknowledged_push_of_a_burst_survives_kill_9(emulator: Emulator) -> None:
    """Every listed tag is a complete image."""
    emulator.repository("dev/app")
    password = emulator.login()
    acknowledged: list[str] = []

    def push_many(worker: int) -> None:
        for number in range(100):
            pushed = emulator.push(password, f"dev/app:w{worker}-{number}", size=300_000)
            if pushed.returncode != 0:
                return
            acknowledged.append(pushed.stdout.strip())

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(push_many, worker) for worker in range(4)]
        while len(acknowledged) < 12:
            assert not any(w.done() for w in workers), "the pushes ended before the kill"
            time.sleep(0.01)
        emulator.end()
    emulator.start()

    with emulator.http(password) as http:
        tags = http.get("/v2/dev/app/tags/list").json()["tags"]
    listed = [f"{emulator.host}/dev/app:{tag}" for tag in tags]
    for reference in [*acknowledged, *listed]:
        valid = emulator.run_crane(password, "validate", "--remote", reference)
        assert valid.returncode == 0, f"{reference}: {valid.stderr}"
    assert len(listed) >= len(acknowledged)


def test_unfinished_upload_is_removed_by_a_restart(emulator: Emulator) -> None:
    """Its partial file is removed from the disk."""
    emulator.repository("dev/app")
    with emulator.http(emulator.login()) as http:
        place = http.post("/v2/dev/app/blobs/uploads/").headers["Location"]
        http.patch(place, content=b"half").raise_for_status()
        assert list((emulator.state / "uploads").iterdir())

        emulator.kill_and_restart()

    with emulator.http(emulator.login()) as http:
        assert http.put(place, params={"digest": sha(b"half")}).status_code == 404
        assert http.head(f"/v2/dev/app/blobs/{sha(b'half')}").status_code == 404
    assert not list((emulator.state / "uploads").iterdir())


def test_stored_blob_is_never_rewritten(emulator: Emulator) -> None:
    """Later writes and repeated pushes keep the file; the state file contains no content."""
    for name in ("dev/app", "dev/other"):
        emulator.repository(name)
    with emulator.http(emulator.login()) as http:
        layer = os.urandom(200_000)
        digest = put_blob(http, "dev/app", layer)
        file = emulator.state / "blobs" / "sha256" / digest.removeprefix("sha256:")
        before = file.stat().st_ino, file.stat().st_mtime_ns

        put_blob(http, "dev/app", b"another")
        put_blob(http, "dev/app", layer)
        mounted = http.post("/v2/dev/other/blobs/uploads/", params={"mount": digest, "from": "dev/app"})
        emulator.kill_and_restart()

    assert mounted.status_code == 201
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == before
    assert (emulator.state / "ecr.json").stat().st_size < 20_000


def test_damaged_state_stops_start_and_is_not_overwritten(emulator: Emulator) -> None:
    """An operator can repair the file."""
    make_repository(emulator)
    emulator.end()
    damaged = emulator.state / "ecr.json"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    content = damaged.read_bytes()

    ended = subprocess.run(emulator.command, env=emulator.environment, capture_output=True, check=False)

    assert ended.returncode == 1
    assert b"cannot be read" in ended.stderr
    assert damaged.read_bytes() == content


def test_second_emulator_on_the_same_state_is_refused(emulator: Emulator) -> None:
    """Two processes would overwrite each other's files."""
    second = Emulator(emulator.python, emulator.crane, emulator.directory)

    ended = subprocess.run(second.command, env=second.environment, capture_output=True, check=False)

    assert ended.returncode == 1
    assert b"Another emulator" in ended.stderr


def test_sigterm_stops_the_emulator(emulator: Emulator) -> None:
    """The exit status is 0."""
    emulator.end(signal.SIGTERM)

    assert emulator.process
    assert emulator.process.returncode == 0
