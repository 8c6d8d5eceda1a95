"""Events of pushes as ECR sends them, and the queue that they wait in."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from supply_chain.errors import AwsUnavailable
from supply_chain.promotion.bridge import Message

DIGEST = "sha256:" + "a" * 64
GONE = object()


def message(envelope: dict[str, Any] | None = None, **detail: Any) -> str:
    """Return the event of Amazon's user guide with changes; `GONE` leaves out a key."""
    said = {
        "result": "SUCCESS",
        "repository-name": "dev/hello",
        "image-digest": DIGEST,
        "action-type": "PUSH",
        "image-tag": "3f2a1c0",
        **{key.replace("_", "-"): value for key, value in detail.items()},
    }
    whole = {
        "version": "0",
        "id": "13cde686-328b-6117-af20-0e5566167482",
        "detail-type": "ECR Image Action",
        "source": "aws.ecr",
        "account": "123456789012",
        "time": "2026-11-24T12:00:00Z",
        "region": "us-west-2",
        "resources": [],
        "detail": {key: value for key, value in said.items() if value is not GONE},
        **(envelope or {}),
    }
    return json.dumps({key: value for key, value in whole.items() if value is not GONE})


class Enough(BaseException):
    """Raised to end the bridge once its queue is empty."""


@dataclass
class Queue:
    """A queue of messages that is unavailable for `down` receives."""

    held: list[Message] = field(default_factory=list)
    down: int = 0
    numbers: count[int] = field(default_factory=count)

    def receive(self, *, patient: bool) -> tuple[Message, ...]:
        if self.down:
            self.down -= 1
            raise AwsUnavailable("AWS did not answer\ntry again")
        if not self.held and patient:
            raise Enough
        return tuple(self.held)

    def all(self) -> tuple[Message, ...]:
        return tuple(self.held)

    def delete(self, message: Message) -> None:
        self.held.remove(message)

    def send(self, body: str, reason: str = "") -> None:
        number = next(self.numbers)
        self.held.append(Message(id=f"message-id-{number}", receipt=f"r-{number}", body=body, reason=reason))
