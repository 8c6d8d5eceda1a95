"""Tests of the SQS adapter of the bridge: its requests, its results and its errors."""

from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from supply_chain.adapters.aws.sqs import SqsQueue
from supply_chain.errors import AccessDenied, AwsUnavailable
from supply_chain.promotion.bridge import NOT_ANNOUNCED, Message


class Sqs:
    """Fake of SQS that returns one batch for each call and then nothing; a batch that is an exception is raised."""

    def __init__(self, *batches):
        self.batches, self.asked, self.visible, self.unseen = list(batches), [], [], {}

    def receive_message(self, **how):
        self.asked.append(how)
        batch = self.batches.pop(0) if self.batches else []
        if isinstance(batch, Exception):
            raise batch
        return {"Messages": batch} if batch else {}

    def get_queue_attributes(self, **how):
        self.asked.append(how)
        return {"Attributes": dict(zip(how["AttributeNames"], ("3", "2"), strict=True))}

    def change_message_visibility(self, **what):
        assert what["VisibilityTimeout"] == 0
        self.visible.append(what["ReceiptHandle"])
        if code := self.unseen.get(what["ReceiptHandle"]):
            raise ClientError({"Error": {"Code": code, "Message": "x"}}, "ChangeMessageVisibility")

    def send_message(self, **what):
        self.asked.append(what)

    def delete_message(self, **what):
        self.asked.append(what)
        if code := self.unseen.get(what["ReceiptHandle"]):
            raise ClientError({"Error": {"Code": code, "Message": "x"}}, "DeleteMessage")


def given(number, reason=None, sent=0, receipt=None):
    attributes = {"MessageAttributes": {"reason": {"DataType": "String", "StringValue": reason}}} if reason else {}
    return {
        "MessageId": f"m{number}",
        "ReceiptHandle": receipt or f"r{number}",
        "Body": "b",
        "Attributes": {"SentTimestamp": str(sent * 1000)},
        **attributes,
    }


def test_receive_with_patience_uses_long_polling():
    """Without long polling an idle bridge would poll continuously."""
    sqs = Sqs([given(1, sent=60)])
    queue = SqsQueue(sqs, "url")

    (message,) = queue.receive(patient=True)
    assert queue.receive(patient=False) == ()

    assert (message.id, message.receipt, message.body) == ("m1", "r1", "b")
    assert message.sent == datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
    assert [asked["WaitTimeSeconds"] for asked in sqs.asked] == [5, 0]


def test_all_returns_each_message_once_oldest_first():
    """SQS returns ten at once and may repeat one, whose newer receipt is valid; a message that SQS gave up has no
    reason."""
    first, second = [given(2, "why", sent=9), given(1, sent=3)], [given(3, "other", sent=5), given(1, sent=3)]
    sqs = Sqs(first, second, [given(2, "why", sent=9, receipt="new")])

    found = SqsQueue(sqs, "url").all()

    assert [(each.id, each.reason) for each in found] == [("m1", NOT_ANNOUNCED), ("m3", "other"), ("m2", "why")]
    assert [each.receipt for each in found] == ["r1", "r3", "new"]


@pytest.mark.parametrize("between", [[], [given(1)]], ids=["nothing", "nothing new"])
def test_all_continues_after_one_batch_without_new_messages(between):
    """SQS may query only some of its servers and may return few of many messages."""
    batches = [given(n) for n in range(10)], between, [given(n) for n in range(10, 15)], between, [given(15)]
    sqs = Sqs(*batches)

    found = SqsQueue(sqs, "url").all()

    assert {each.id for each in found} == {f"m{n}" for n in range(16)}
    assert len(sqs.asked) == len(batches) + 2
    assert all(asked["WaitTimeSeconds"] > 0 for asked in sqs.asked)


def test_all_polls_empty_queue_for_a_few_seconds_only():
    """A person waits for the answer."""
    sqs = Sqs()

    assert SqsQueue(sqs, "url").all() == ()
    assert sum(asked["WaitTimeSeconds"] for asked in sqs.asked) <= 4 and sqs.visible == []


def test_all_makes_messages_visible_again():
    """Messages are invisible long enough to read the rest, and are then available to be sent again."""
    sqs = Sqs([given(n) for n in range(10)], [given(n) for n in range(10, 12)])

    SqsQueue(sqs, "url").all()

    assert sqs.visible == [f"r{n}" for n in range(12)]
    assert all(asked["VisibilityTimeout"] >= 60 for asked in sqs.asked)


def test_all_ignores_messages_already_visible_or_deleted():
    """The visibility timeout may have passed meanwhile; any other error is raised."""
    sqs = Sqs([given(1), given(2), given(3)])
    sqs.unseen = {"r1": "AWS.SimpleQueueService.MessageNotInflight", "r2": "ReceiptHandleIsInvalid"}

    assert len(SqsQueue(sqs, "url").all()) == 3 and sqs.visible == ["r1", "r2", "r3"]
    sqs.batches, sqs.unseen = [[given(1)]], {"r1": "AccessDenied"}
    with pytest.raises(AccessDenied):
        SqsQueue(sqs, "url").all()


def test_all_makes_messages_visible_again_if_reading_fails():
    """Otherwise the messages would seem to be lost."""
    sqs = Sqs([given(1)], EndpointConnectionError(endpoint_url="http://x"))

    with pytest.raises(AwsUnavailable):
        SqsQueue(sqs, "url").all()

    assert sqs.visible == ["r1"]


def test_send_attaches_reason_as_message_attribute():
    """Without a reason there is no attribute, because SQS accepts no empty one."""
    sqs = Sqs()
    SqsQueue(sqs, "url").send("body", "why")
    SqsQueue(sqs, "url").send("body")

    assert sqs.asked[0]["MessageAttributes"]["reason"]["StringValue"] == "why"
    assert sqs.asked[1] == {"QueueUrl": "url", "MessageBody": "body", "MessageAttributes": {}}


def test_delete_uses_receipt_of_message():
    """SQS does not delete by the id of a message."""
    sqs = Sqs()
    SqsQueue(sqs, "url").delete(Message(id="m", receipt="r", body="b"))

    assert sqs.asked == [{"QueueUrl": "url", "ReceiptHandle": "r"}]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (EndpointConnectionError(endpoint_url="http://x"), AwsUnavailable),
        (ClientError({"Error": {"Code": "AccessDenied"}}, "ReceiveMessage"), AccessDenied),
    ],
)
def test_receive_translates_sqs_errors(error, expected):
    """The type of the error tells the bridge whether to wait."""
    with pytest.raises(expected):
        SqsQueue(Sqs(error), "url").receive(patient=False)


def test_count_includes_messages_in_flight():
    """A message that somebody inspects is still in the queue."""
    assert SqsQueue(Sqs(), "url").count() == 5


def test_delete_ignores_message_received_by_another_consumer():
    """The bridge would otherwise retry for ever; any other error is raised."""
    sqs = Sqs()
    sqs.unseen = {"r1": "AWS.SimpleQueueService.ReceiptHandleIsInvalid", "r2": "AccessDenied"}

    SqsQueue(sqs, "url").delete(Message(id="m", receipt="r1", body="b"))
    with pytest.raises(AccessDenied):
        SqsQueue(sqs, "url").delete(Message(id="m", receipt="r2", body="b"))
