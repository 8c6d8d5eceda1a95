"""A queue in memory, with the methods of `adapters.aws.sqs.SqsQueue`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

from supply_chain.promotion.bridge import MOST, NOT_ANNOUNCED, Message


@dataclass
class MemoryQueue:
    """Messages, the oldest first. A received one is invisible for `hidden` seconds of `clock`."""

    hidden: float = 30.0
    clock: Callable[[], float] = lambda: 0.0
    held: dict[str, Message] = field(default_factory=dict)
    invisible: dict[str, float] = field(default_factory=dict)
    deliveries: Iterator[int] = field(default_factory=count)
    sent: Iterator[int] = field(default_factory=count)

    @property
    def messages(self) -> list[Message]:
        """All messages, invisible ones too."""
        return list(self.held.values())

    def receive(self, *, patient: bool) -> tuple[Message, ...]:
        now = self.clock()
        due = [each for each in self.held.values() if self.invisible.get(each.id, now) <= now][:MOST]
        self.invisible |= {each.id: now + self.hidden for each in due}
        return tuple(map(self._deliver, due))

    def count(self) -> int:
        return len(self.held)

    def all(self) -> tuple[Message, ...]:
        now = self.clock()
        return tuple(self._deliver(each) for each in self.messages if self.invisible.get(each.id, now) <= now)

    def delete(self, message: Message) -> None:
        """Delete a message, if nobody received it since."""
        if message.id in self.held and self.held[message.id].receipt == message.receipt:
            del self.held[message.id]

    def send(self, body: str, reason: str = "") -> None:
        number = next(self.sent)  # several threads may send at once
        name, sent = f"message-id-{number}", datetime.fromtimestamp(number, UTC)
        self.held[name] = Message(id=name, receipt="", body=body, sent=sent, reason=reason or NOT_ANNOUNCED)

    def _deliver(self, message: Message) -> Message:
        """Return a message with a new receipt, which is the only valid one."""
        delivered = message.model_copy(update={"receipt": f"receipt {next(self.deliveries)}"})
        self.held[message.id] = delivered
        return delivered
