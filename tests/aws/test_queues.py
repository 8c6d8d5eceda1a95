"""What SQS does with messages that are never deleted (SQS Developer Guide, "Using dead-letter queues")."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from supply_chain.adapters.aws.accounts import TRIES
from supply_chain.adapters.aws.sqs import SqsQueue
from supply_chain.promotion.bridge import NOT_ANNOUNCED, replay
from tests.support.cloud import Cloud
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

HIDDEN = "1"
"""Seconds until a received message that was not deleted is delivered again."""
LONG_ENOUGH = 60.0
"""Seconds to wait for TRIES deliveries; a queue may return nothing to a request."""


@pytest.fixture
def queues(cloud: Cloud) -> Iterator[tuple[SqsQueue, SqsQueue]]:
    """A queue, and its dead-letter queue."""
    sqs, name = cloud.client("sqs"), cloud.name("queue").replace("/", "-")
    with ExitStack() as stack:

        def made(suffix: str, **attributes: str) -> str:
            url = str(sqs.create_queue(QueueName=name + suffix, Attributes=attributes)["QueueUrl"])
            stack.callback(sqs.delete_queue, QueueUrl=url)
            return url

        dead = made("-dead")
        arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": TRIES})
        queue = made("", VisibilityTimeout=HIDDEN, RedrivePolicy=redrive)
        yield SqsQueue(sqs, queue, wait=1), SqsQueue(sqs, dead)


def test_undeleted_message_goes_to_dead_letter_queue_and_is_replayed(queues: tuple[SqsQueue, SqsQueue]) -> None:
    """This happens if the bridge dies at each delivery; an operator sees the reason and can replay the message."""
    queue, dead = queues
    queue.send("one that is never deleted")

    given: list[str] = []

    def is_dead() -> bool:
        given.extend(each.id for each in queue.receive(patient=True))
        return dead.count() > 0

    eventually(is_dead, LONG_ENOUGH, lambda: given)

    assert len(given) == int(TRIES) and len(set(given)) == 1
    (message,) = dead.all()
    assert (message.body, message.reason) == ("one that is never deleted", NOT_ANNOUNCED)
    replay(dead, queue, (message,))
    assert dead.all() == ()
    (again,) = eventually(lambda: queue.receive(patient=True), LONG_ENOUGH)
    assert again.body == message.body
