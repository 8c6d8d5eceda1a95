"""SQS as the bridge uses it: what is asked, what comes back, and how its errors are told."""

from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from supply_chain.adapters.queues import SqsQueue
from supply_chain.errors import AccessDenied, AwsUnavailable
from supply_chain.promotion.bridge import UNTOLD, Message


class Sqs:
    """Gives these batches, one for each call; an error instead where there is one."""

    def __init__(self, *batches):
        self.batches, self.asked = list(batches), []

    def receive_message(self, **how):
        self.asked.append(how)
        batch = self.batches.pop(0) if self.batches else []
        if isinstance(batch, Exception):
            raise batch
        return {"Messages": batch} if batch else {}

    def get_queue_attributes(self, **how):
        self.asked.append(how)
        return {"Attributes": dict(zip(how["AttributeNames"], ("3", "2"), strict=True))}

    def send_message(self, **what):
        self.asked.append(what)

    def delete_message(self, **what):
        self.asked.append(what)


def given(number, reason=None, sent=0):
    attributes = {"MessageAttributes": {"reason": {"DataType": "String", "StringValue": reason}}} if reason else {}
    return {
        "MessageId": f"m{number}",
        "ReceiptHandle": f"r{number}",
        "Body": "b",
        "Attributes": {"SentTimestamp": str(sent * 1000)},
        **attributes,
    }


def test_a_patient_receive_waits_at_the_queue():
    """Otherwise an idle bridge would ask again and again."""
    sqs = Sqs([given(1, sent=60)])
    queue = SqsQueue(sqs, "url")

    (message,) = queue.receive(patient=True)
    assert queue.receive(patient=False) == ()

    assert (message.id, message.receipt, message.body) == ("m1", "r1", "b")
    assert message.sent == datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
    assert [asked["WaitTimeSeconds"] for asked in sqs.asked] == [5, 0]


def test_all_messages_are_seen_once_the_oldest_first():
    """A queue gives ten at once, and gives some again; what it gave up itself has no reason of ours."""
    batches = [[given(2, "why", sent=9), given(1, sent=3)], [given(3, "other", sent=5), given(1, sent=3)], [given(2)]]

    found = SqsQueue(Sqs(*batches), "url").all()

    assert [(each.id, each.reason) for each in found] == [("m1", UNTOLD), ("m3", "other"), ("m2", "why")]


def test_a_reason_goes_with_the_message():
    """None where there is none: SQS takes no empty attribute."""
    sqs = Sqs()
    SqsQueue(sqs, "url").send("body", "why")
    SqsQueue(sqs, "url").send("body")

    assert sqs.asked[0]["MessageAttributes"]["reason"]["StringValue"] == "why"
    assert sqs.asked[1] == {"QueueUrl": "url", "MessageBody": "body", "MessageAttributes": {}}


def test_a_message_is_deleted_by_its_receipt():
    """Its id would not do."""
    sqs = Sqs()
    SqsQueue(sqs, "url").delete(Message(id="m", receipt="r", body="b"))

    assert sqs.asked == [{"QueueUrl": "url", "ReceiptHandle": "r"}]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (EndpointConnectionError(endpoint_url="http://x"), AwsUnavailable),
        (ClientError({"Error": {"Code": "AccessDenied"}}, "ReceiveMessage"), AccessDenied),
    ],
)
def test_sqss_errors_are_ours(error, told):
    """So that the bridge knows what to wait for."""
    with pytest.raises(told):
        SqsQueue(Sqs(error), "url").receive(patient=False)


def test_messages_are_counted_also_those_that_are_out_of_sight():
    """Somebody looks at them; they are there."""
    assert SqsQueue(Sqs(), "url").count() == 5
