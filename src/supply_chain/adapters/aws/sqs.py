"""SQS through boto3: a queue as the bridge reads it, and its dead-letter queue as an operator sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from supply_chain.adapters.aws.session import error_code, translated
from supply_chain.evidence.store import BEFORE_ALL
from supply_chain.promotion.bridge import MOST, UNTOLD, Message

REASON = "reason"
"""The attribute of a dead message that says why."""
HIDDEN = 60
"""Seconds for which a message that is only looked at is out of sight, unless it is shown again before."""
LOOKED_FOR = 2
"""Seconds for which each look waits: only one that waits asks all of the servers that may have a message."""
NOT_HIDDEN = ("MessageNotInflight", "ReceiptHandleIsInvalid", "InvalidParameterValue")
"""SQS's codes for a message that is to be shown again and is seen or deleted already."""


@dataclass(frozen=True)
class SqsQueue:
    """One role's view of a queue. `wait` is for how many seconds SQS is asked to wait for a message."""

    client: Any
    url: str
    wait: int = 5

    def receive(self, *, patient: bool) -> tuple[Message, ...]:
        """Up to ten messages, out of others' sight for the queue's visibility timeout."""
        return self._received(WaitTimeSeconds=self.wait if patient else 0)

    def all(self) -> tuple[Message, ...]:
        """Every message, the oldest first; nobody else sees them while they are read.

        One answer with nothing new is no end: SQS may give few of many, or none. Two in a row are.
        """
        found: dict[str, Message] = {}
        nothing = 0
        try:
            while nothing < 2:
                batch = self._received(WaitTimeSeconds=LOOKED_FOR, VisibilityTimeout=HIDDEN)
                nothing = nothing + 1 if all(each.id in found for each in batch) else 0
                found |= {each.id: each for each in batch}  # the last receipt is the one that is good
        finally:
            self._show([each.receipt for each in found.values()])
        return tuple(sorted(found.values(), key=lambda each: (each.sent or BEFORE_ALL, each.id)))

    def count(self) -> int:
        """About how many messages there are, those that somebody looks at just now included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        with translated("count messages"):
            found = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def delete(self, message: Message) -> None:
        """Delete a message. One that somebody else received since is theirs to delete."""
        with translated("delete a message"):
            try:
                self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message.receipt)
            except ClientError as error:
                if error_code(error).rpartition(".")[2] != "ReceiptHandleIsInvalid":
                    raise

    def send(self, body: str, reason: str = "") -> None:
        attributes = {REASON: {"DataType": "String", "StringValue": reason}} if reason else {}
        with translated("send a message"):
            self.client.send_message(QueueUrl=self.url, MessageBody=body, MessageAttributes=attributes)

    def _show(self, receipts: list[str]) -> None:
        """Let others see again what was looked at; what they see or deleted by now stays so."""
        for receipt in receipts:
            with translated("show a message again"):
                try:
                    self.client.change_message_visibility(QueueUrl=self.url, ReceiptHandle=receipt, VisibilityTimeout=0)
                except ClientError as error:
                    if error_code(error).rpartition(".")[2] not in NOT_HIDDEN:
                        raise

    def _received(self, **how: int) -> tuple[Message, ...]:
        with translated("receive messages"):
            answer = self.client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=MOST,
                AttributeNames=["SentTimestamp"],
                MessageAttributeNames=[REASON],
                **how,
            )
        return tuple(_message(each) for each in answer.get("Messages", ()))


def _message(found: dict[str, Any]) -> Message:
    sent = found.get("Attributes", {}).get("SentTimestamp")
    return Message(
        id=found["MessageId"],
        receipt=found["ReceiptHandle"],
        body=found["Body"],
        sent=datetime.fromtimestamp(int(sent) / 1000, UTC) if sent else None,
        reason=found.get("MessageAttributes", {}).get(REASON, {}).get("StringValue") or UNTOLD,
    )
