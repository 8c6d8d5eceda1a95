"""Events that ECR sends to EventBridge (Amazon ECR User Guide, "Amazon ECR events and EventBridge")."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cloud import Cloud, Repository, policy_of
from tests.support.content import CONFIG, MANIFEST
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

DELIVERY = 120.0
"""Seconds; AWS delivers "in near real time", best effort."""


class Events:
    """The events that the queue received for one repository."""

    def __init__(self, sqs: Any, url: str) -> None:
        self._sqs, self._url = sqs, url
        self._events: list[dict[str, Any]] = []

    def of(self, action: str, **more: str) -> dict[str, Any]:
        """Wait for the event of an action with these details and return it."""
        wanted = {"action-type": action, **{name.replace("_", "-"): value for name, value in more.items()}}
        found: dict[str, Any] = eventually(lambda: self._find(wanted), DELIVERY, lambda: self._events)
        return found

    def _find(self, wanted: dict[str, str]) -> dict[str, Any] | None:
        answer = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for message in answer.get("Messages", []):
            self._events.append(json.loads(message["Body"]))
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return next((each for each in self._events if wanted.items() <= each["detail"].items()), None)


@pytest.fixture
def events(cloud: Cloud, repository: Repository) -> Iterator[Events]:
    """A rule for the repository's events and a queue that receives them."""
    sqs, events, name = cloud.client("sqs"), cloud.client("events"), cloud.name("events").replace("/", "-")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["aws.ecr"], "detail": {"repository-name": [repository.name]}}
    rule = events.put_rule(Name=name, EventPattern=json.dumps(pattern))["RuleArn"]
    try:
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy_of(arn, rule)})
        events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
        time.sleep(cloud.settling)
        yield Events(sqs, url)
    finally:
        events.remove_targets(Rule=name, Ids=["queue"])
        events.delete_rule(Name=name)
        sqs.delete_queue(QueueUrl=url)


def test_push_event_names_digest_tag_and_media_types(repository: Repository, events: Events) -> None:
    """A consumer can find the pushed image from the event alone."""
    image = repository.push("one")

    event = events.of("PUSH", image_tag="one")

    assert (event["source"], event["detail-type"], event["resources"]) == ("aws.ecr", "ECR Image Action", [])
    assert event["detail"] == {
        "result": "SUCCESS",
        "repository-name": repository.name,
        "image-digest": image.digest,
        "action-type": "PUSH",
        "image-tag": "one",
        "manifest-media-type": MANIFEST,
        "artifact-media-type": CONFIG,
    }


def test_push_event_of_untagged_image_has_no_tag(repository: Repository, events: Events) -> None:
    """An empty tag counts as none."""
    image = repository.push()

    assert not events.of("PUSH", image_digest=image.digest)["detail"].get("image-tag")


def test_delete_event_names_digest_and_tag(repository: Repository, events: Events) -> None:
    """Consumers remove what they derived from the image."""
    image = repository.push("one")

    repository.delete(image.id)

    event = events.of("DELETE", image_digest=image.digest)
    assert (event["detail-type"], event["detail"]["result"]) == ("ECR Image Action", "SUCCESS")
    assert event["detail"]["image-tag"] == "one"


def test_archive_and_restore_send_storage_class_events(repository: Repository, events: Events) -> None:
    """The restore event is sent when the restore ends, not when it is requested."""
    image = repository.push("one")

    repository.store(image, "ARCHIVE")
    archived = events.of("UPDATE_STORAGE_CLASS", target_storage_class="ARCHIVE")
    repository.store(image, "STANDARD")
    eventually(lambda: repository.described(image)["imageStatus"] == "ACTIVE", repository.cloud.patience)
    restored = events.of("UPDATE_STORAGE_CLASS", target_storage_class="STANDARD")

    for event in (archived, restored):
        assert (event["detail-type"], event["detail"]["image-digest"]) == ("ECR Image Action", image.digest)
        assert event["detail"]["artifact-media-type"] == CONFIG
    assert restored["detail"]["last-activated-at"].startswith("20")


def test_archived_referrer_event_has_type_referrer_action(repository: Repository, events: Events) -> None:
    """AWS: "The detail-type is ECR Referrer Action to distinguish it from regular image actions"."""
    evidence = repository.attach(repository.push("one"), "application/vnd.example.sbom")

    repository.store(evidence, "ARCHIVE")

    event = events.of("UPDATE_STORAGE_CLASS", image_digest=evidence.digest)
    assert event["detail-type"] == "ECR Referrer Action"
    assert event["detail"]["artifact-media-type"] == "application/vnd.example.sbom"
