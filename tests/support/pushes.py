"""Events of pushes as ECR sends them, and the queue that they wait in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from supply_chain.errors import AwsUnavailable
from supply_chain.promotion.bridge import Message
from tests.support.memory_queue import MemoryQueue

DIGEST = "sha256:" + "a" * 64
GONE = object()


def message(envelope: dict[str, Any] | None = None, **detail: Any) -> str:
    """Return the event of Amazon's user guide with changes; `GONE` leaves out a key."""
    content = {
        "result": "SUCCESS",
        "repository-name": "dev/hello",
        "image-digest": DIGEST,
        "action-type": "PUSH",
        "image-tag": "3f2a1c0",
        **{key.replace("_", "-"): value for key, value in detail.items()},
    }
    event = {
        "version": "0",
        "id": "13cde686-328b-6117-af20-0e5566167482",
        "detail-type": "ECR Image Action",
        "source": "aws.ecr",
        "account": "123456789012",
        "time": "2026-11-24T12:00:00Z",
        "region": "us-west-2",
        "resources": [],
        "detail": {key: value for key, value in content.items() if value is not GONE},
        **(envelope or {}),
    }
    return json.dumps({key: value for key, value in event.items() if value is not GONE})


class Enough(BaseException):
    """Raised to end the bridge once its queue is empty."""


@dataclass
class Queue(MemoryQueue):
    """A queue that is unavailable for `down` receives; a bridge that waits for its first message ends."""

    down: int = 0

    def receive(self, *, patient: bool) -> tuple[Message, ...]:
        if self.down:
            self.down -= 1
            raise AwsUnavailable("AWS did not answer\ntry again")
        if not self.held and patient:
            raise Enough
        return super().receive(patient=patient)
