"""Reads, writes and inspects SQS queues through boto3, for the bridge and for operators of its dead-letter queue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from supply_chain.adapters.aws.session import read_error_code, translate_errors
from supply_chain.evidence.store import BEFORE_ALL
from supply_chain.promotion.bridge import MOST, NOT_ANNOUNCED, Message

REASON = "reason"
"""Attribute of a message in the dead-letter queue that says why it is there."""
HIDDEN = 60
"""Seconds for which a message that is only inspected stays invisible, unless it is made visible earlier."""
LOOKED_FOR = 2
"""Seconds that each call waits when all messages are read: only a long poll asks all SQS servers."""
NOT_HIDDEN = ("MessageNotInflight", "ReceiptHandleIsInvalid", "InvalidParameterValue")
"""SQS's codes for a message that should become visible again and is already visible or deleted."""


@dataclass(frozen=True)
class SqsQueue:
    """A queue with the permissions of one role; `wait` is the number of seconds that SQS may wait for a message."""

    client: Any
    url: str
    wait: int = 5

    def receive(self, *, patient: bool) -> tuple[Message, ...]:
        """Receive up to ten messages, which stay invisible to others for the queue's visibility timeout.

        `patient` waits up to `wait` seconds for a message.
        """
        return self._receive(WaitTimeSeconds=self.wait if patient else 0)

    def all(self) -> tuple[Message, ...]:
        """Return every message, oldest first; nobody else receives them while they are read.

        SQS may return few or no messages although there are more. Reading therefore ends after two answers in a row
        with nothing new.
        """
        messages: dict[str, Message] = {}
        nothing = 0
        try:
            while nothing < 2:
                batch = self._receive(WaitTimeSeconds=LOOKED_FOR, VisibilityTimeout=HIDDEN)
                nothing = nothing + 1 if all(each.id in messages for each in batch) else 0
                messages |= {each.id: each for each in batch}  # only the last receipt is valid
        finally:
            self._make_visible([each.receipt for each in messages.values()])
        return tuple(sorted(messages.values(), key=lambda each: (each.sent or BEFORE_ALL, each.id)))

    def count(self) -> int:
        """Return the approximate number of messages, including those that are invisible now."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        with translate_errors("count messages"):
            numbers = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(numbers[name]) for name in names)

    def delete(self, message: Message) -> None:
        """Delete a message; do nothing if somebody else received it since."""
        with translate_errors("delete a message"):
            try:
                self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message.receipt)
            except ClientError as error:
                if read_error_code(error).rpartition(".")[2] != "ReceiptHandleIsInvalid":
                    raise

    def send(self, body: str, reason: str = "") -> None:
        """Send a message, with the reason as an attribute if there is one."""
        attributes = {REASON: {"DataType": "String", "StringValue": reason}} if reason else {}
        with translate_errors("send a message"):
            self.client.send_message(QueueUrl=self.url, MessageBody=body, MessageAttributes=attributes)

    def _make_visible(self, receipts: list[str]) -> None:
        """Make inspected messages visible again; ignore those that are already visible or deleted."""
        for receipt in receipts:
            with translate_errors("show a message again"):
                try:
                    self.client.change_message_visibility(QueueUrl=self.url, ReceiptHandle=receipt, VisibilityTimeout=0)
                except ClientError as error:
                    if read_error_code(error).rpartition(".")[2] not in NOT_HIDDEN:
                        raise

    def _receive(self, **how: int) -> tuple[Message, ...]:
        with translate_errors("receive messages"):
            answer = self.client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=MOST,
                AttributeNames=["SentTimestamp"],
                MessageAttributeNames=[REASON],
                **how,
            )
        return tuple(_parse_message(each) for each in answer.get("Messages", ()))


def _parse_message(message: dict[str, Any]) -> Message:
    sent = message.get("Attributes", {}).get("SentTimestamp")
    return Message(
        id=message["MessageId"],
        receipt=message["ReceiptHandle"],
        body=message["Body"],
        sent=datetime.fromtimestamp(int(sent) / 1000, UTC) if sent else None,
        reason=message.get("MessageAttributes", {}).get(REASON, {}).get("StringValue") or NOT_ANNOUNCED,
    )
