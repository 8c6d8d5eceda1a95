"""The contract of the ports `Queue` and `DeadLetters`, for the queue in memory and SQS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import pytest

from supply_chain.promotion import bridge
from supply_chain.promotion.bridge import NOT_ANNOUNCED, Message


class QueuePort(bridge.Queue, bridge.DeadLetters, Protocol):
    """All that the model asks of a queue."""


@dataclass(frozen=True)
class Harness:
    """An empty queue. `wait` waits until received messages are visible again."""

    queue: QueuePort
    wait: Callable[[], object]

    def receive(self, number: int) -> dict[str, Message]:
        """Receive messages until there are as many, in up to 50 requests: each may return few or none."""
        found: dict[str, Message] = {}
        for _ in range(50):
            if len(found) >= number:
                break
            found |= {each.id: each for each in self.queue.receive(patient=True)}
        return found

    def bodies(self) -> list[str]:
        """Return the bodies of all messages, sorted."""
        return sorted(each.body for each in self.queue.all())


def bodies(messages: Sequence[Message]) -> list[str]:
    return [each.body for each in messages]


class QueueContract:
    """The tests. A subclass has a fixture `harness`."""

    def test_message_is_received_as_it_was_sent(self, harness: Harness) -> None:
        """The reason of a dead letter comes with it; a queue that moves a message itself gives none."""
        harness.queue.send("one", "it is no JSON")
        harness.queue.send("two")

        found = {each.body: each for each in harness.receive(2).values()}

        assert (found["one"].reason, found["two"].reason) == ("it is no JSON", NOT_ANNOUNCED)
        assert found["one"].sent is not None and found["one"].id != found["two"].id

    def test_at_most_ten_messages_are_received_at_once(self, harness: Harness) -> None:
        """Each is received once, as long as it is invisible."""
        for number in range(25):
            harness.queue.send(f"{number:02}")

        batch = harness.queue.receive(patient=True)
        rest = harness.receive(25 - len(batch))

        assert len(batch) <= 10
        assert sorted(bodies([*batch, *rest.values()])) == [f"{number:02}" for number in range(25)]
        assert harness.queue.receive(patient=False) == ()

    def test_message_is_delivered_again_until_it_is_deleted(self, harness: Harness) -> None:
        """It has the same id and another receipt."""
        harness.queue.send("one")
        ((name, first),) = harness.receive(1).items()
        harness.wait()
        again = harness.receive(1)[name]
        harness.queue.delete(again)
        harness.wait()

        assert again.body == "one" and again.receipt != first.receipt
        assert harness.queue.receive(patient=False) == ()
        assert harness.queue.all() == ()

    def test_deleting_twice_succeeds(self, harness: Harness) -> None:
        """The bridge may delete a message whose deletion it did not see."""
        harness.queue.send("one")
        harness.queue.send("two")
        found = {each.body: each for each in harness.receive(2).values()}

        for _ in range(2):
            harness.queue.delete(found["one"])
        harness.wait()

        assert harness.bodies() == ["two"]

    def test_all_lists_messages_oldest_first_without_deleting_them(self, harness: Harness) -> None:
        """There may be more than one answer can hold."""
        for number in range(12):
            harness.queue.send(f"{number:02}")

        found = harness.queue.all()

        assert sorted(bodies(found)) == [f"{number:02}" for number in range(12)]
        assert [each.sent for each in found] == sorted(each.sent for each in found if each.sent)
        harness.queue.delete(found[0])
        assert harness.bodies() == sorted(bodies(found[1:]))

    def test_count_includes_messages_that_are_invisible(self, harness: Harness) -> None:
        """The daily report says how many messages could not be read."""
        assert harness.queue.count() == 0
        harness.queue.send("one")
        harness.queue.send("two")
        harness.receive(1)

        assert harness.queue.count() == 2

    @pytest.mark.parametrize("body", ["not json", "é €", "x" * 200_000], ids=["text", "unicode", "large"])
    def test_any_text_is_received_unchanged(self, harness: Harness, body: str) -> None:
        """A message that nobody can read has to reach the dead-letter queue unchanged."""
        harness.queue.send(body, "a reason")

        ((_, found),) = harness.receive(1).items()

        assert found.body == body
