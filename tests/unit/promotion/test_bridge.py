"""The bridge: nothing is lost, nothing stands in the way, and what nobody can read is kept with its reason."""

from dataclasses import dataclass, field
from itertools import count

import pytest

from supply_chain.errors import AwsFailed, AwsUnavailable, DeclarationInvalid, EventNotTaken, EventUnreadable
from supply_chain.promotion.bridge import LONGEST, PACE, Bridge, Message, dead_message, discard, replay
from tests.unit.promotion.test_pushes import message


class Enough(BaseException):
    """The test has seen enough."""


@dataclass
class Queue:
    """What it holds, and an outage for so many receives."""

    held: list[Message] = field(default_factory=list)
    down: int = 0
    numbers: count = field(default_factory=count)

    def receive(self, *, patient):
        if self.down:
            self.down -= 1
            raise AwsUnavailable("AWS did not answer\ntry again")
        if not self.held and patient:
            raise Enough
        return tuple(self.held)

    def all(self):
        return tuple(self.held)

    def delete(self, message):
        self.held.remove(message)

    def send(self, body, reason=""):
        number = next(self.numbers)
        self.held.append(Message(id=f"message-id-{number}", receipt=f"r-{number}", body=body, reason=reason))


@dataclass
class Prefect:
    """Takes events; refuses so many of them first. So many of its promotions by event are `unfinished`."""

    refuses: int = 0
    taken: list = field(default_factory=list)
    looks: list = field(default_factory=list)
    busy: int = 0

    def unfinished(self):
        return self.busy

    def push(self, pushed):
        self._refuse()
        if pushed.tag == "never":
            raise EventUnreadable("Prefect does not take it for an event\nlook")
        self.taken.append(pushed.tag)

    def catch_up(self, applications, pushes):
        self._refuse()
        self.looks.append((applications, pushes))

    def _refuse(self):
        if self.refuses:
            self.refuses -= 1
            raise EventNotTaken("Prefect did not take it\ntry again")


@pytest.fixture
def carry():
    """Run the bridge over these messages until its queue is empty; what there is afterwards."""

    def run(*bodies, refuses=0, down=0, busy=0):
        queue, dead, prefect, waits, alive = Queue(down=down), Queue(), Prefect(refuses, busy=busy), [], []
        for body in bodies:
            queue.send(body)

        def clock():
            clock.now += 1
            return clock.now

        clock.now = 0
        with pytest.raises(Enough):
            Bridge(queue, dead, prefect, waits.append, clock).run(lambda: alive.append(True))
        return queue, dead, prefect, [each for each in waits if each != PACE], alive

    return run


def test_what_prefect_never_takes_stands_in_nobodys_way(carry):
    """It lies where what cannot be read does, with the reason; the push before it is announced instead."""
    queue, dead, prefect, waits, _ = carry(message(), message(image_tag="never"))

    assert (prefect.taken, queue.held, waits) == (["3f2a1c0"], [], [])
    assert [each.reason for each in dead.held] == ["Prefect does not take it for an event"]


def test_a_message_is_deleted_once_its_event_was_taken(carry):
    """And not before: here Prefect was away three times, each a longer time."""
    queue, dead, prefect, waits, _ = carry(message(), refuses=3)

    assert (prefect.taken, queue.held, dead.held) == (["3f2a1c0"], [], [])
    assert waits == [1, 2, 4]


def test_an_outage_of_the_queue_is_waited_for(carry):
    """The pauses grow to a quarter of a minute at most, and begin anew afterwards."""
    _, _, prefect, waits, alive = carry(message(), down=9)

    assert prefect.taken == ["3f2a1c0"]
    assert waits == [1, 2, 4, 8, *[LONGEST] * 5]
    assert alive


def test_what_cannot_be_read_stands_in_nobodys_way(carry):
    """It lies in the dead-letter queue, as it was, with the reason in one line."""
    queue, dead, prefect, _, _ = carry("not json", message())

    (poison,) = dead.held
    assert (poison.body, prefect.taken, queue.held) == ("not json", ["3f2a1c0"], [])
    assert "no push" in poison.reason and "\n" not in poison.reason


def test_pushes_of_one_application_are_one_event_about_the_newest(carry):
    """A thousand of them are one run, whatever the order in which the queue gives them."""
    bodies = [message({"time": f"2026-11-25T12:{n // 60:02}:{n % 60:02}Z"}, image_tag=f"t{n}") for n in range(1000)]
    queue, dead, prefect, _, _ = carry(*bodies[500:], *bodies[:500])

    assert (prefect.taken, queue.held, dead.held, prefect.looks) == (["t999"], [], [], [])


def test_more_applications_than_places_are_looked_at_together(carry):
    """So many applications are no more runs than a few."""
    bodies = [message(repository_name=f"dev/team-{n}", image_tag=f"t{n}") for n in range(1000)]
    queue, _, prefect, _, _ = carry(*bodies)

    assert (prefect.taken, prefect.looks[0], queue.held) == (["t0", "t1", "t2"], (997, 997), [])
    assert len(prefect.looks) < 12 and set(prefect.looks[1:]) == {(0, 0)}


def test_while_promotions_are_unfinished_no_more_are_started(carry):
    """An application that comes then is looked at with all others."""
    _, _, prefect, _, _ = carry(message(), busy=3)

    assert (prefect.taken, prefect.looks[0]) == ([], (1, 1))


def test_a_flood_of_what_nobody_can_read_delays_no_push(carry):
    """A push that comes in its midst is announced before any of it is put away; then all of it is."""
    queue, dead, prefect, _, _ = carry(*["no json"] * 300, message(), *["no json"] * 300)
    assert (prefect.taken, queue.held, len(dead.held)) == (["3f2a1c0"], [], 600)

    held = Queue()
    for body in (*["no json"] * 300, message(), *["no json"] * 300):
        held.send(body)
    seen = []
    announcer = Prefect()
    announcer.push = lambda pushed: seen.append(len(held.held))
    Bridge(held, Queue(), announcer, seen.append).carry()
    assert seen == [601]


def test_what_was_announced_and_comes_again_is_deleted_and_not_announced_again():
    """The queue shows it again where deleting takes long: with a new receipt, which is the good one."""

    class Busy(Queue):
        def delete(self, message):
            raise AwsUnavailable("AWS did not answer\ntry again")

    queue, prefect = Busy(), Prefect()
    queue.send(message())
    bridge = Bridge(queue, Queue(), prefect, [].append)
    for _ in range(2):
        with pytest.raises(AwsUnavailable):
            bridge.carry()
        queue.held = [each.model_copy(update={"receipt": f"{each.receipt} again"}) for each in queue.held]
    bridge.queue.__class__ = Queue
    bridge.carry()

    assert (prefect.taken, queue.held, bridge.finished) == (["3f2a1c0"], [], {})


class Picky(Queue):
    """A dead-letter queue that takes no reason, or nothing at all."""

    takes: bool = True
    error: type = AwsFailed

    def send(self, body, reason=""):
        if reason or not self.takes:
            raise self.error("SQS does not take it\nlook")
        super().send(body)


@pytest.mark.parametrize(("takes", "dead_bodies", "left"), [(True, ["not json"], 0), (False, [], 1)])
def test_what_the_dead_letter_queue_refuses_holds_nothing_up(takes, dead_bodies, left):
    """It goes there without its reason, or is left to the queue, which gives it up after some receives."""
    queue, dead, prefect = Queue(), Picky(), Prefect()
    dead.takes = takes
    queue.send("not json")
    queue.send(message())
    bridge = Bridge(queue, dead, prefect, [].append)

    bridge.carry()

    assert (prefect.taken, bridge.unreadable, bridge.finished) == (["3f2a1c0"], {}, {})
    assert ([each.body for each in dead.held], len(queue.held)) == (dead_bodies, left)


def test_an_outage_of_the_dead_letter_queue_loses_nothing():
    """The message waits, with its reason."""
    queue, dead = Queue(), Picky()
    dead.error = AwsUnavailable
    queue.send("not json")
    bridge = Bridge(queue, dead, Prefect(), [].append)

    with pytest.raises(AwsUnavailable):
        bridge.carry()

    assert (len(queue.held), len(bridge.unreadable), dead.held) == (1, 1, [])


@pytest.mark.parametrize("body", [message(image_tag="sha256-abc"), "not json"], ids=["no event", "unreadable"])
def test_as_many_are_put_away_as_are_received(body):
    """A queue gives up what it gave too often, also what was announced long ago and waits to be deleted."""

    class Sqs(Queue):
        def receive(self, *, patient):
            given, self.in_flight = self.in_flight, self.in_flight + 10
            return tuple(self.held[given : given + 10])

        def delete(self, message):
            super().delete(message)
            self.in_flight -= 1

    queue = Sqs()
    queue.in_flight = 0
    for _ in range(600):
        queue.send(body)
    bridge = Bridge(queue, Queue(), Prefect(), [].append)

    for left in (400, 200, 0):
        bridge.carry()
        assert (len(queue.held), bridge.finished, bridge.unreadable) == (left, {}, {})


def test_an_attachment_is_no_event_and_no_fault(carry):
    """It is deleted, and nothing starts."""
    queue, dead, prefect, _, _ = carry(message(image_tag="sha256-abc"))

    assert (queue.held, dead.held, prefect.taken) == ([], [], [])


def test_a_message_stays_when_the_bridge_ends_before_prefect_answers():
    """Whoever starts it again gets the message again."""

    def ends(_):
        raise Enough

    queue = Queue()
    queue.send(message())
    with pytest.raises(Enough):
        Bridge(queue, Queue(), Prefect(refuses=1), ends).carry()

    assert len(queue.held) == 1


@pytest.fixture
def dead():
    held = Queue()
    for body in ("a", "b"):
        held.send(body, "why")
    return held


def test_dead_messages_are_sent_again(dead):
    """Each is then dead no longer, and the others are."""
    queue = Queue()

    replay(dead, queue, [dead.held[1]])
    assert ([each.body for each in queue.held], [each.body for each in dead.held]) == (["b"], ["a"])

    dead.send("c", "why")
    replay(dead, queue, dead.all())
    assert ([each.body for each in queue.held], dead.held) == (["b", "a", "c"], [])


def test_a_dead_message_is_named_by_the_beginning_of_its_id(dead):
    """One that several messages share, or none, is told: what is deleted is gone."""
    assert dead_message(dead, "message-id-1").body == "b"
    with pytest.raises(DeclarationInvalid, match="The IDs of 2 dead messages begin with 'message-'"):
        dead_message(dead, "message-")
    with pytest.raises(DeclarationInvalid, match="No dead message's ID begins with 'message-2'"):
        dead_message(dead, "message-2")


@pytest.mark.parametrize("begins", ["", "message"])
def test_where_too_little_is_said_no_message_is_named(begins):
    """An empty variable would name the only one there is."""
    dead = Queue()
    dead.send("a", "why")

    with pytest.raises(DeclarationInvalid, match="Give 8 characters"):
        dead_message(dead, begins)


def test_a_message_is_discarded_or_that_it_was_not_is_told(dead, monkeypatch):
    """SQS answers that it deleted what it keeps, where somebody else received it meanwhile."""
    first, second = dead.all()
    discard(dead, first)
    assert dead.held == [second]

    monkeypatch.setattr(dead, "delete", lambda _: None)
    with pytest.raises(AwsFailed, match="somebody else"):
        discard(dead, second)
