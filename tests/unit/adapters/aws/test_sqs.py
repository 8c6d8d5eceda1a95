"""SQS as the bridge uses it: what is asked, what comes back, and how its errors are told."""

from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from supply_chain.adapters.aws.sqs import SqsQueue
from supply_chain.errors import AccessDenied, AwsUnavailable
from supply_chain.promotion.bridge import UNTOLD, Message


class Sqs:
    """Gives these batches, one for each call, and then nothing; an error instead where there is one."""

    def __init__(self, *batches):
        self.batches, self.asked, self.shown, self.unseen = list(batches), [], [], {}

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
        self.shown.append(what["ReceiptHandle"])
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
    """A queue gives ten at once, and gives some again, with another receipt that is the good one from then on; what it
    gave up itself has no reason of ours."""
    first, second = [given(2, "why", sent=9), given(1, sent=3)], [given(3, "other", sent=5), given(1, sent=3)]
    sqs = Sqs(first, second, [given(2, "why", sent=9, receipt="new")])

    found = SqsQueue(sqs, "url").all()

    assert [(each.id, each.reason) for each in found] == [("m1", UNTOLD), ("m3", "other"), ("m2", "why")]
    assert [each.receipt for each in found] == ["r1", "r3", "new"]


@pytest.mark.parametrize("between", [[], [given(1)]], ids=["nothing", "nothing new"])
def test_one_answer_with_nothing_new_is_no_end(between):
    """SQS asks some of its servers where it does not wait, and may give little of much where it does."""
    batches = [given(n) for n in range(10)], between, [given(n) for n in range(10, 15)], between, [given(15)]
    sqs = Sqs(*batches)

    found = SqsQueue(sqs, "url").all()

    assert {each.id for each in found} == {f"m{n}" for n in range(16)}
    assert len(sqs.asked) == len(batches) + 2
    assert all(asked["WaitTimeSeconds"] > 0 for asked in sqs.asked)


def test_an_empty_queue_is_looked_at_for_some_seconds_alone():
    """A person waits for it."""
    sqs = Sqs()

    assert SqsQueue(sqs, "url").all() == ()
    assert sum(asked["WaitTimeSeconds"] for asked in sqs.asked) <= 4 and sqs.shown == []


def test_what_was_only_looked_at_is_shown_again():
    """It is out of sight for long enough to read the rest, and at once there for whoever sends it through again."""
    sqs = Sqs([given(n) for n in range(10)], [given(n) for n in range(10, 12)])

    SqsQueue(sqs, "url").all()

    assert sqs.shown == [f"r{n}" for n in range(12)]
    assert all(asked["VisibilityTimeout"] >= 60 for asked in sqs.asked)


def test_what_others_see_or_deleted_by_now_stays_so():
    """It took longer than they were out of sight; any other error is told."""
    sqs = Sqs([given(1), given(2), given(3)])
    sqs.unseen = {"r1": "AWS.SimpleQueueService.MessageNotInflight", "r2": "ReceiptHandleIsInvalid"}

    assert len(SqsQueue(sqs, "url").all()) == 3 and sqs.shown == ["r1", "r2", "r3"]
    sqs.batches, sqs.unseen = [[given(1)]], {"r1": "AccessDenied"}
    with pytest.raises(AccessDenied):
        SqsQueue(sqs, "url").all()


def test_what_was_looked_at_is_shown_again_also_where_the_rest_cannot_be_read():
    """Otherwise it would seem to have gone."""
    sqs = Sqs([given(1)], EndpointConnectionError(endpoint_url="http://x"))

    with pytest.raises(AwsUnavailable):
        SqsQueue(sqs, "url").all()

    assert sqs.shown == ["r1"]


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


def test_what_somebody_else_received_since_is_theirs_to_delete():
    """The bridge would otherwise try for ever; any other error is told."""
    sqs = Sqs()
    sqs.unseen = {"r1": "AWS.SimpleQueueService.ReceiptHandleIsInvalid", "r2": "AccessDenied"}

    SqsQueue(sqs, "url").delete(Message(id="m", receipt="r1", body="b"))
    with pytest.raises(AccessDenied):
        SqsQueue(sqs, "url").delete(Message(id="m", receipt="r2", body="b"))
