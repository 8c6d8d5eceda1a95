"""The event bridge: it loses no push, is not blocked by one message, and keeps unreadable messages with the reason."""

from dataclasses import dataclass, field
from itertools import count

import pytest

from supply_chain.errors import AwsFailed, AwsUnavailable, DeclarationInvalid, EventRejected, EventUnreadable
from supply_chain.promotion.bridge import LONGEST, PACE, Bridge, discard, find_dead_message, replay
from supply_chain.promotion.coalescing import AT_ONCE
from tests.support.pushes import Enough, Queue, message


@dataclass
class Prefect:
    """Takes events after refusing `refuses` of them; `busy` promotions started by events are unfinished."""

    refuses: int = 0
    taken: list[str] = field(default_factory=list)
    looks: list[tuple[int, int]] = field(default_factory=list)
    busy: int = 0

    def count_unfinished(self):
        return self.busy

    def push(self, pushed, *, followed):
        self._refuse()
        if pushed.tag == "never":
            raise EventUnreadable("Prefect does not accept it as an event\nlook")
        self.taken.append(pushed.tag)

    def announce_catch_up(self, applications, pushes):
        self._refuse()
        self.looks.append((applications, pushes))

    def _refuse(self):
        if self.refuses:
            self.refuses -= 1
            raise EventRejected("Prefect did not accept it\ntry again")


def ignore(seconds: float) -> None:
    """Wait no time."""


@pytest.fixture
def carry():
    """Return a function that runs the bridge over messages until its queue is empty, and returns the final state."""

    def run(*bodies, refuses=0, down=0, busy=0):
        queue, dead, prefect = Queue(down=down), Queue(), Prefect(refuses, busy=busy)
        waits: list[float] = []
        alive: list[bool] = []
        clock = count(1)
        for body in bodies:
            queue.send(body)

        with pytest.raises(Enough):
            Bridge(queue, dead, prefect, waits.append, lambda: float(next(clock))).run(lambda: alive.append(True))
        return queue, dead, prefect, [each for each in waits if each != PACE], alive

    return run


def test_event_rejected_by_prefect_goes_to_dead_letter_queue(carry):
    """It is stored with the reason, and the push before it is announced instead."""
    queue, dead, prefect, waits, _ = carry(message(), message(image_tag="never"))

    assert (prefect.taken, queue.messages, waits) == (["3f2a1c0"], [], [])
    assert [each.reason for each in dead.messages] == ["Prefect does not accept it as an event"]


def test_message_is_deleted_after_prefect_took_its_event(carry):
    """While Prefect is unavailable, the bridge retries with growing pauses."""
    queue, dead, prefect, waits, _ = carry(message(), refuses=3)

    assert (prefect.taken, queue.messages, dead.messages) == (["3f2a1c0"], [], [])
    assert waits == [1, 2, 4]


def test_bridge_waits_for_unavailable_queue_with_backoff(carry):
    """The pauses grow to 15 seconds at most and start over after a success."""
    _, _, prefect, waits, alive = carry(message(), down=9)

    assert prefect.taken == ["3f2a1c0"]
    assert waits == [1, 2, 4, 8, *[LONGEST] * 5]
    assert alive


def test_unreadable_message_goes_to_dead_letter_queue_unchanged(carry):
    """The reason is one line, and the next message is not delayed."""
    queue, dead, prefect, _, _ = carry("not json", message())

    (poison,) = dead.messages
    assert (poison.body, prefect.taken, queue.messages) == ("not json", ["3f2a1c0"], [])
    assert "not a push event" in poison.reason and "\n" not in poison.reason


def test_pushes_of_one_application_give_one_event_for_newest(carry):
    """All that the bridge reads at a time give one run, in whatever order the queue delivers them."""
    bodies = [message({"time": f"2026-11-25T12:{n // 60:02}:{n % 60:02}Z"}, image_tag=f"t{n}") for n in range(200)]
    queue, dead, prefect, _, _ = carry(*bodies[100:], *bodies[:100])

    assert (prefect.taken, queue.messages, dead.messages, prefect.looks) == (["t199"], [], [], [])


def test_pushes_of_many_applications_give_one_catch_up_run(carry):
    """The number of applications does not determine the number of runs."""
    bodies = [message(repository_name=f"dev/team-{n}", image_tag=f"t{n}") for n in range(200)]
    queue, _, prefect, _, _ = carry(*bodies)

    assert (prefect.taken, prefect.looks[0], queue.messages) == (
        [f"t{n}" for n in range(AT_ONCE)],
        (200 - AT_ONCE,) * 2,
        [],
    )
    assert len(prefect.looks) < 12 and set(prefect.looks[1:]) == {(0, 0)}


def test_bridge_starts_catch_up_run_while_promotions_are_unfinished(carry):
    """A push that comes in the meantime is covered by the catch-up run."""
    _, _, prefect, _, _ = carry(message(), busy=AT_ONCE)

    assert (prefect.taken, prefect.looks[0]) == ([], (1, 1))


def test_flood_of_unreadable_messages_does_not_delay_push(carry):
    """The push is announced before any of the unreadable messages is moved away."""
    queue, dead, prefect, _, _ = carry(*["no json"] * 300, message(), *["no json"] * 300)
    assert (prefect.taken, queue.messages, len(dead.messages)) == (["3f2a1c0"], [], 600)

    held = Queue()
    for body in (*["no json"] * 90, message(), *["no json"] * 90):
        held.send(body)
    counts = []

    class Announcer(Prefect):
        def push(self, pushed, *, followed):
            counts.append(len(held.messages))

    Bridge(held, Queue(), Announcer(), ignore).carry()
    assert counts == [181]


def test_redelivered_announced_message_is_deleted_without_new_event():
    """If deletion fails, the queue delivers the message again with a new receipt, which is the valid one."""

    class Busy(Queue):
        def delete(self, message):
            raise AwsUnavailable("AWS did not answer\ntry again")

    queue, prefect = Busy(), Prefect()
    queue.send(message())
    bridge = Bridge(queue, Queue(), prefect, ignore)
    for _ in range(2):
        with pytest.raises(AwsUnavailable):
            bridge.carry()
        queue.invisible.clear()
    bridge.queue.__class__ = Queue
    bridge.carry()

    assert (prefect.taken, queue.messages, bridge.finished) == (["3f2a1c0"], [], {})


class Picky(Queue):
    """A dead-letter queue that refuses messages with a reason, or all messages."""

    takes: bool = True
    error: type = AwsFailed

    def send(self, body, reason=""):
        if reason or not self.takes:
            raise self.error("SQS does not take it\nlook")
        super().send(body)


@pytest.mark.parametrize(("takes", "dead_bodies", "left"), [(True, ["not json"], 0), (False, [], 1)])
def test_message_refused_by_dead_letter_queue_blocks_nothing(takes, dead_bodies, left):
    """It is stored without its reason, or left to the queue, which drops it after some receives."""
    queue, dead, prefect = Queue(), Picky(), Prefect()
    dead.takes = takes
    queue.send("not json")
    queue.send(message())
    bridge = Bridge(queue, dead, prefect, ignore)

    bridge.carry()

    assert (prefect.taken, bridge.unreadable, bridge.finished) == (["3f2a1c0"], {}, {})
    assert ([each.body for each in dead.messages], len(queue.messages)) == (dead_bodies, left)


def test_unavailable_dead_letter_queue_loses_no_message():
    """The message stays in the queue, and its reason is remembered."""
    queue, dead = Queue(), Picky()
    dead.error = AwsUnavailable
    queue.send("not json")
    bridge = Bridge(queue, dead, Prefect(), ignore)

    with pytest.raises(AwsUnavailable):
        bridge.carry()

    assert (len(queue.messages), len(bridge.unreadable), dead.messages) == (1, 1, [])


@pytest.mark.parametrize("body", [message(image_tag="sha256-abc"), "not json"], ids=["no event", "unreadable"])
def test_bridge_removes_as_many_messages_as_it_receives(body):
    """The queue drops messages that it delivered too often, even those that only wait for deletion."""

    queue = Queue()
    for _ in range(600):
        queue.send(body)
    bridge = Bridge(queue, Queue(), Prefect(), ignore)

    for left in (400, 200, 0):
        bridge.carry()
        assert (len(queue.messages), bridge.finished, bridge.unreadable) == (left, {}, {})


def test_push_of_attachment_is_deleted_without_event(carry):
    """An attachment is no image, so nothing starts."""
    queue, dead, prefect, _, _ = carry(message(image_tag="sha256-abc"))

    assert (queue.messages, dead.messages, prefect.taken) == ([], [], [])


def test_message_stays_if_bridge_ends_before_prefect_answers():
    """The next start of the bridge receives it again."""

    def ends(_):
        raise Enough

    queue = Queue()
    queue.send(message())
    with pytest.raises(Enough):
        Bridge(queue, Queue(), Prefect(refuses=1), ends).carry()

    assert len(queue.messages) == 1


@pytest.fixture
def dead():
    held = Queue()
    for body in ("a", "b"):
        held.send(body, "why")
    return held


def test_replay_moves_dead_messages_back_to_queue(dead):
    """The other messages stay in the dead-letter queue."""
    queue = Queue()

    replay(dead, queue, [dead.all()[1]])
    assert ([each.body for each in queue.messages], [each.body for each in dead.messages]) == (["b"], ["a"])

    dead.send("c", "why")
    replay(dead, queue, dead.all())
    assert ([each.body for each in queue.messages], dead.messages) == (["b", "a", "c"], [])


def test_dead_message_is_selected_by_unique_id_prefix(dead):
    """An ambiguous or unknown prefix is an error, because a deleted message cannot be restored."""
    assert find_dead_message(dead, "message-id-1").body == "b"
    with pytest.raises(DeclarationInvalid, match="The IDs of 2 dead messages begin with 'message-'"):
        find_dead_message(dead, "message-")
    with pytest.raises(DeclarationInvalid, match="No dead message's ID begins with 'message-2'"):
        find_dead_message(dead, "message-2")


@pytest.mark.parametrize("begins", ["", "message"])
def test_dead_message_prefix_requires_8_characters(begins):
    """An empty shell variable would otherwise select the only message."""
    dead = Queue()
    dead.send("a", "why")

    with pytest.raises(DeclarationInvalid, match="Give 8 characters"):
        find_dead_message(dead, begins)


def test_discard_deletes_message_or_reports_that_it_remains(dead, monkeypatch):
    """SQS reports success even if another consumer holds the message."""
    first, second = dead.all()
    discard(dead, first)
    assert [each.id for each in dead.messages] == [second.id]

    monkeypatch.setattr(dead, "delete", lambda _: None)
    with pytest.raises(AwsFailed, match="somebody else"):
        discard(dead, second)
