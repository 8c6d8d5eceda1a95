"""What the emulator keeps of its images, and who may change them; that it is as on AWS, `tests/aws` shows."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.waiting import eventually

from .conftest import EMPTY, LOGIN, PULL, PUSH, Emulator, allow, artifact, at, put_blob, put_manifest, sha

pytestmark = pytest.mark.real

NAME = "curated/app"


@pytest.fixture
def digest(emulator: Emulator) -> str:
    """An image that crane pushed."""
    emulator.repository(NAME)
    pushed = emulator.push(emulator.login(), f"{NAME}:one")
    assert pushed.returncode == 0, pushed.stderr
    return pushed.stdout.strip().partition("@")[2]


def described(emulator: Emulator, digest: str) -> dict[str, Any]:
    ids = [{"imageDigest": digest}]
    (found,) = emulator.client("ecr").describe_images(repositoryName=NAME, imageIds=ids)["imageDetails"]
    return dict(found)


def store(client: Any, digest: str, target: str) -> str:
    answer = client.update_image_storage_class(
        repositoryName=NAME, imageId={"imageDigest": digest}, targetStorageClass=target
    )
    return str(answer["imageStatus"])


def queue_of_pushes(emulator: Emulator) -> str:
    """A queue to which a rule sends what is told of the repository."""
    sqs, events = emulator.client("sqs"), emulator.client("events")
    url = str(sqs.create_queue(QueueName="pushes")["QueueUrl"])
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="pushes", EventPattern=json.dumps({"source": ["aws.ecr"]}))
    events.put_targets(Rule="pushes", Targets=[{"Id": "1", "Arn": arn}])
    return url


def told(emulator: Emulator, url: str) -> list[dict[str, Any]]:
    answer = emulator.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    return [json.loads(each["Body"])["detail"] for each in answer.get("Messages", [])]


@pytest.mark.parametrize("emulator", [0.1], indirect=True)
def test_a_push_that_was_answered_was_told(emulator: Emulator) -> None:
    """Crane's push is in the queue's file when crane has its answer, though the disk be slow."""
    url = queue_of_pushes(emulator)
    emulator.repository(NAME)
    digest = emulator.push(emulator.login(), f"{NAME}:one").stdout.strip().partition("@")[2]

    emulator.kill_and_restart()

    (event,) = told(emulator, url)
    assert (event["action-type"], event["image-tag"], event["image-digest"]) == ("PUSH", "one", digest)


@pytest.mark.parametrize("emulator", [0.1], indirect=True)
def test_what_was_archived_stays_so(emulator: Emulator, digest: str) -> None:
    """Also after `kill -9`: blocked is blocked."""
    store(emulator.client("ecr"), digest, "ARCHIVE")

    emulator.kill_and_restart()

    assert described(emulator, digest)["imageStatus"] == "ARCHIVED"
    assert emulator.run_crane(emulator.login(), "pull", f"{emulator.host}/{NAME}:one", "/dev/null").returncode != 0


def test_a_restore_that_was_begun_is_ended_by_the_next_process(emulator: Emulator, digest: str) -> None:
    """And told as any other."""
    url = queue_of_pushes(emulator)
    store(emulator.client("ecr"), digest, "ARCHIVE")
    assert store(emulator.client("ecr"), digest, "STANDARD") == "ACTIVATING"

    emulator.kill_and_restart()

    eventually(lambda: described(emulator, digest)["imageStatus"] == "ACTIVE", 20)
    targets: list[str] = []

    def both() -> bool:
        targets.extend(each["target-storage-class"] for each in told(emulator, url))
        return len(targets) == 2

    eventually(both, 20, lambda: targets)
    assert targets == ["ARCHIVE", "STANDARD"]


def test_pulls_wait_for_no_disk_and_are_kept_by_a_clean_stop(emulator: Emulator, digest: str) -> None:
    """Their time is written with the next change, a minute later, or when the emulator is stopped."""
    file = emulator.state / "ecr.json"
    before = written(file)
    for _ in range(3):
        reference = f"{emulator.host}/{NAME}@{digest}"
        assert emulator.run_crane(emulator.login(), "manifest", reference).returncode == 0
    pulled = described(emulator, digest)["lastRecordedPullTime"]
    assert written(file) == before

    emulator.end(signal.SIGTERM)
    emulator.start()

    assert described(emulator, digest)["lastRecordedPullTime"] == pulled


def written(file: Path) -> tuple[int, int]:
    return file.stat().st_ino, file.stat().st_mtime_ns


def test_only_who_may_change_the_storage_class_does(emulator: Emulator, digest: str) -> None:
    """A role that pushes and pulls may not archive; one with the action may, in its repositories alone."""
    pusher = emulator.role("pusher", LOGIN, allow(at(NAME), *PULL, *PUSH))
    keeper = emulator.role("keeper", allow(at("curated/*"), "ecr:UpdateImageStorageClass"))
    stranger = emulator.role("stranger", allow(at("dev/*"), "ecr:UpdateImageStorageClass"))

    for role in (pusher, stranger):
        with pytest.raises(ClientError, match="AccessDenied"):
            store(emulator.client("ecr", **role), digest, "ARCHIVE")
    assert described(emulator, digest)["imageStatus"] == "ACTIVE"
    assert store(emulator.client("ecr", **keeper), digest, "ARCHIVE") == "ARCHIVED"


def test_who_may_read_an_image_may_list_what_refers_to_it(emulator: Emulator, digest: str) -> None:
    """ListImageReferrers has no permission of its own: it is BatchGetImage's."""
    reader = emulator.role("reader", LOGIN, allow(at(NAME), "ecr:BatchGetImage"))
    lister = emulator.role("lister", LOGIN, allow(at(NAME), "ecr:ListImageReferrers", "ecr:ListImages"))
    wanted = {"repositoryName": NAME, "subjectId": {"imageDigest": digest}}

    assert emulator.client("ecr", **reader).list_image_referrers(**wanted)["referrers"] == []
    with pytest.raises(ClientError, match="AccessDenied"):
        emulator.client("ecr", **lister).list_image_referrers(**wanted)
    statuses = []
    for role in (reader, lister):
        with emulator.http(emulator.login(**role)) as http:
            statuses.append(http.get(f"/v2/{NAME}/referrers/{digest}").status_code)
    assert statuses == [200, 403]


def test_a_child_of_an_index_is_not_archived_before_it(emulator: Emulator, digest: str) -> None:
    """AWS says so of lifecycle policies; an index that can be pulled has to be whole."""
    ecr, password = emulator.client("ecr"), emulator.login()
    made = emulator.run_crane(
        password, "index", "append", "-m", f"{emulator.host}/{NAME}@{digest}", "-t", f"{emulator.host}/{NAME}:all"
    )
    index = made.stdout.strip().partition("@")[2]

    with pytest.raises(ClientError) as refused:
        store(ecr, digest, "ARCHIVE")

    assert refused.value.response["Error"]["Code"] == "ImageStorageClassUpdateNotSupportedException"
    assert [store(ecr, each, "ARCHIVE") for each in (index, digest)] == ["ARCHIVED", "ARCHIVED"]


def test_a_manifest_is_deleted_at_the_registry_as_by_the_api(emulator: Emulator, digest: str) -> None:
    """What an index lists is kept; what is deleted is told."""
    url, password = queue_of_pushes(emulator), emulator.login()
    made = emulator.run_crane(
        password, "index", "append", "-m", f"{emulator.host}/{NAME}@{digest}", "-t", f"{emulator.host}/{NAME}:all"
    )
    index = made.stdout.strip().partition("@")[2]

    with emulator.http(password) as http:
        answers = [http.delete(f"/v2/{NAME}/manifests/{each}").status_code for each in (digest, index, digest, digest)]

    assert answers == [400, 202, 202, 404]
    deleted = [each["image-digest"] for each in told(emulator, url) if each["action-type"] == "DELETE"]
    assert deleted == [index, digest]


def test_a_referrer_is_told_as_one(emulator: Emulator, digest: str) -> None:
    """Evidence that is attached starts nothing that waits for images."""
    url = queue_of_pushes(emulator)
    body = artifact(digest, 1)
    with emulator.http(emulator.login()) as http:
        put_blob(http, NAME, EMPTY)
        put_manifest(http, NAME, sha(body), body).raise_for_status()

    message = emulator.client("sqs").receive_message(QueueUrl=url)["Messages"][0]

    assert json.loads(message["Body"])["detail-type"] == "ECR Referrer Action"
