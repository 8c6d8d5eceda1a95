"""What the emulator stores of images and who may change them; `tests/aws` shows that it behaves like AWS."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.emulator import EMPTY, LOGIN, PULL, PUSH, Emulator, allow, artifact, at, put_blob, put_manifest, sha
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

NAME = "curated/app"


@pytest.fixture
def digest(emulator: Emulator) -> str:
    """The digest of an image that crane pushed."""
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
    """Create a queue with a rule for the events of ECR."""
    sqs, events = emulator.client("sqs"), emulator.client("events")
    url = str(sqs.create_queue(QueueName="pushes")["QueueUrl"])
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="pushes", EventPattern=json.dumps({"source": ["aws.ecr"]}))
    events.put_targets(Rule="pushes", Targets=[{"Id": "1", "Arn": arn}])
    return url


def receive_events(emulator: Emulator, url: str) -> list[dict[str, Any]]:
    answer = emulator.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    return [json.loads(each["Body"])["detail"] for each in answer.get("Messages", [])]


@pytest.mark.parametrize("emulator", [0.1], indirect=True)
def test_event_of_acknowledged_push_survives_kill_9(emulator: Emulator) -> None:
    """The event is on disk before crane gets its response, even if the disk is slow."""
    url = queue_of_pushes(emulator)
    emulator.repository(NAME)
    digest = emulator.push(emulator.login(), f"{NAME}:one").stdout.strip().partition("@")[2]

    emulator.kill_and_restart()

    (event,) = receive_events(emulator, url)
    assert (event["action-type"], event["image-tag"], event["image-digest"]) == ("PUSH", "one", digest)


@pytest.mark.parametrize("emulator", [0.1], indirect=True)
def test_archived_image_stays_archived_after_kill_9(emulator: Emulator, digest: str) -> None:
    """A blocked image stays blocked."""
    store(emulator.client("ecr"), digest, "ARCHIVE")

    emulator.kill_and_restart()

    assert described(emulator, digest)["imageStatus"] == "ARCHIVED"
    assert emulator.run_crane(emulator.login(), "pull", f"{emulator.host}/{NAME}:one", "/dev/null").returncode != 0


def test_restore_continues_after_kill_9(emulator: Emulator, digest: str) -> None:
    """The new process finishes the restore and sends its event."""
    url = queue_of_pushes(emulator)
    store(emulator.client("ecr"), digest, "ARCHIVE")
    assert store(emulator.client("ecr"), digest, "STANDARD") == "ACTIVATING"

    emulator.kill_and_restart()

    eventually(lambda: described(emulator, digest)["imageStatus"] == "ACTIVE")
    targets: list[str] = []

    def both() -> bool:
        targets.extend(each["target-storage-class"] for each in receive_events(emulator, url))
        return len(targets) == 2

    eventually(both, describe=lambda: targets)
    assert targets == ["ARCHIVE", "STANDARD"]


def test_pull_times_are_written_later_and_at_a_clean_stop(emulator: Emulator, digest: str) -> None:
    """A pull does not wait for the disk: its time is written with the next change, after a minute or at the stop."""
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


def test_archiving_needs_permission_on_the_repository(emulator: Emulator, digest: str) -> None:
    """Permission to push and pull is not enough."""
    pusher = emulator.role("pusher", LOGIN, allow(at(NAME), *PULL, *PUSH))
    keeper = emulator.role("keeper", allow(at("curated/*"), "ecr:UpdateImageStorageClass"))
    stranger = emulator.role("stranger", allow(at("dev/*"), "ecr:UpdateImageStorageClass"))

    for role in (pusher, stranger):
        with pytest.raises(ClientError, match="AccessDenied"):
            store(emulator.client("ecr", **role), digest, "ARCHIVE")
    assert described(emulator, digest)["imageStatus"] == "ACTIVE"
    assert store(emulator.client("ecr", **keeper), digest, "ARCHIVE") == "ARCHIVED"


def test_listing_referrers_needs_permission_to_read_the_image(emulator: Emulator, digest: str) -> None:
    """AWS has no own permission for ListImageReferrers: it uses that of BatchGetImage."""
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


def test_archiving_image_before_its_index_is_refused(emulator: Emulator, digest: str) -> None:
    """An index that can be pulled has to be complete; AWS has the same rule for lifecycle policies."""
    ecr, password = emulator.client("ecr"), emulator.login()
    made = emulator.run_crane(
        password, "index", "append", "-m", f"{emulator.host}/{NAME}@{digest}", "-t", f"{emulator.host}/{NAME}:all"
    )
    index = made.stdout.strip().partition("@")[2]

    with pytest.raises(ClientError) as refused:
        store(ecr, digest, "ARCHIVE")

    assert refused.value.response["Error"]["Code"] == "ImageStorageClassUpdateNotSupportedException"
    assert [store(ecr, each, "ARCHIVE") for each in (index, digest)] == ["ARCHIVED", "ARCHIVED"]


def test_registry_delete_follows_the_rules_of_the_api(emulator: Emulator, digest: str) -> None:
    """An image that an index references stays, and each deletion sends an event."""
    url, password = queue_of_pushes(emulator), emulator.login()
    made = emulator.run_crane(
        password, "index", "append", "-m", f"{emulator.host}/{NAME}@{digest}", "-t", f"{emulator.host}/{NAME}:all"
    )
    index = made.stdout.strip().partition("@")[2]

    with emulator.http(password) as http:
        answers = [http.delete(f"/v2/{NAME}/manifests/{each}").status_code for each in (digest, index, digest, digest)]

    assert answers == [400, 202, 202, 404]
    deleted = [each["image-digest"] for each in receive_events(emulator, url) if each["action-type"] == "DELETE"]
    assert deleted == [index, digest]


def test_referrer_event_has_type_referrer_action(emulator: Emulator, digest: str) -> None:
    """Attached evidence must not start promotions."""
    url = queue_of_pushes(emulator)
    body = artifact(digest, 1)
    with emulator.http(emulator.login()) as http:
        put_blob(http, NAME, EMPTY)
        put_manifest(http, NAME, sha(body), body).raise_for_status()

    message = emulator.client("sqs").receive_message(QueueUrl=url)["Messages"][0]

    assert json.loads(message["Body"])["detail-type"] == "ECR Referrer Action"
