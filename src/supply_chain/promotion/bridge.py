"""The bridge: the messages of a queue become events, coalesced by application, and are deleted once these were taken.

What cannot be read goes to the dead-letter queue, with the reason; what could not be announced stays in the queue.
So an outage on either side loses nothing, and a message that comes twice may be announced twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar

from supply_chain.concurrency import side_by_side
from supply_chain.errors import AwsFailed, DeclarationInvalid, EventNotTaken, EventUnreadable, SupplyChainError
from supply_chain.model.image import Frozen
from supply_chain.promotion.coalescing import Coalescer, Group, Step
from supply_chain.promotion.pushes import Pushed, read_push
from supply_chain.text import counted, first_line, plain

FIRST, LONGEST = 1.0, 15.0
"""Seconds until what failed is tried again, at first and at most."""
PACE = 0.5
"""Seconds between two looks at the queue while pushes wait for their announcement."""
ROUNDS = 20
"""How often the queue is read before what it gave is announced: a flood delays no push that came before it."""
MOST = 10
"""Messages that a queue gives at once, at most."""
BURIED = ROUNDS * MOST
"""How many messages that nobody can read are put away between two looks at the queue: as many as one gives."""
TIDIED = 2 * BURIED
"""How many announced messages are deleted between two looks: more than one gives, for a queue gives up a message that
it gave too often, also one whose event was taken."""
WIDE = 8
"""How many of them at a time."""
NAMED = 8
"""Characters by which a message is named, at least."""
UNTOLD = "it was received too often without being announced"
"""The reason of what the queue itself gave up."""
T = TypeVar("T")
log = logging.getLogger("supply_chain.bridge")


class Message(Frozen):
    """One message as a queue gave it. `receipt` is good for deleting it."""

    id: str
    receipt: str
    body: str
    sent: datetime | None = None
    reason: str = ""


class Queue(Protocol):
    """A queue that gives a message again until it is deleted (SQS Developer Guide, "at-least-once delivery")."""

    def receive(self, *, patient: bool) -> tuple[Message, ...]:
        """Some messages; a patient one waits a while for the first."""

    def delete(self, message: Message) -> None: ...

    def send(self, body: str, reason: str = "") -> None: ...


class Stored(Protocol):
    """A queue whose messages can all be looked at."""

    def all(self) -> tuple[Message, ...]: ...

    def delete(self, message: Message) -> None: ...

    def send(self, body: str, reason: str = "") -> None: ...


class Announcer(Protocol):
    """What the bridge needs of Prefect. Each method raises `EventNotTaken` where Prefect does not answer."""

    def push(self, pushed: Pushed) -> None:
        """Announce a push; return when the event was taken. Raises `EventUnreadable` where it never will be."""

    def catch_up(self, applications: int, pushes: int) -> None:
        """Announce that pushes of several applications wait; return when the event was taken."""

    def unfinished(self) -> int:
        """How many promotions that a push started are not finished."""


@dataclass(frozen=True)
class Bridge:
    """Carries messages from a queue to Prefect. `wait` takes seconds; `clock` gives them and only goes forward.

    To announce comes first: what is `finished` or `unreadable` is deleted afterwards, some of it each time, so that a
    flood of either delays no push.
    """

    queue: Queue
    dead: Stored
    announcer: Announcer
    wait: Callable[[float], object]
    clock: Callable[[], float] = time.monotonic
    waiting: Coalescer = field(default_factory=Coalescer)
    messages: dict[str, Message] = field(default_factory=dict)
    finished: dict[str, Message] = field(default_factory=dict)
    unreadable: dict[str, tuple[Message, str]] = field(default_factory=dict)
    pause: list[float] = field(default_factory=lambda: [FIRST])

    def run(self, alive: Callable[[], object]) -> None:
        """Carry messages until the process ends; `alive` is called whenever all went well.

        An error of the queue is told and tried again: to stop would bring nothing.
        """
        patient = False
        while True:
            try:
                self.carry(patient=patient)
            except SupplyChainError as error:
                self._rest(error)
            else:
                self.pause[0], patient = FIRST, not self._is_busy()
                alive()
                if not patient:
                    self.wait(PACE)

    def carry(self, *, patient: bool = False) -> None:
        """Read what the queue gives now, announce what is due, and delete some of what needs no more."""
        for message in self._received(patient=patient):
            self._sort(message)
        self._announce()
        self._tidy()

    def _is_busy(self) -> bool:
        return bool(self.finished or self.unreadable) or self.waiting.is_busy(self.clock())

    def _received(self, *, patient: bool) -> Iterator[Message]:
        """What the queue gives, until it gives nothing new or `ROUNDS` times; a patient one waits for the first."""
        seen: set[str] = set()
        for number in range(ROUNDS):
            batch = self.queue.receive(patient=patient and number == 0)
            if all(message.id in seen for message in batch):
                break
            seen |= {message.id for message in batch}
            yield from batch

    def _sort(self, message: Message) -> None:
        """Let a push wait for its announcement. A message that came before has a new receipt, which is the good one."""
        if message.id in self.finished:
            self.finished[message.id] = message
            return
        try:
            pushed = read_push(message.body)
        except EventUnreadable as error:
            self.unreadable[message.id] = (message, first_line(error))
            return
        if pushed is None:
            self.finished[message.id] = message
        else:
            self.messages[message.id] = message
            self.waiting.add(message.id, pushed)

    def _announce(self) -> None:
        if not self.waiting.is_busy(self.clock()):
            return
        unfinished = self._until_answered(self.announcer.unfinished) if self.waiting.waiting else 0
        step = self.waiting.step(self.clock(), unfinished)
        for group in step.single:
            self._announce_group(group)
        if step.catch_up:
            self._announce_catch_up(step)

    def _announce_group(self, group: Group) -> None:
        """Announce the newest push of an application; where Prefect never takes that, the one before it."""
        while group.pushes:
            name, pushed = group.newest
            try:
                self._until_answered(partial(self.announcer.push, pushed))
            except EventUnreadable as error:
                self.unreadable[name] = (self.messages.pop(name), first_line(error))
                self.waiting.remove(group, name)
                continue
            older = len(group.pushes) - 1
            log.info("%s", plain(f"announced {pushed.image} ({pushed.tag}), and with it {older} older"))
            self.waiting.announced_single(group, self.clock())
            self._finish(group)

    def _announce_catch_up(self, step: Step) -> None:
        applications, pushes = len(step.covered), sum(len(group.pushes) for group in step.covered)
        self._until_answered(lambda: self.announcer.catch_up(applications, pushes))
        log.info("announced a catch-up run (pushes: %d, applications: %d)", pushes, applications)
        self.waiting.announced_catch_up(step, self.clock())
        for group in step.covered:
            self._finish(group)

    def _finish(self, group: Group) -> None:
        """The event of these was taken."""
        self.finished.update({name: self.messages.pop(name) for name in group.pushes})
        self.waiting.remove(group, *list(group.pushes))

    def _tidy(self) -> None:
        """Delete messages that were announced, up to `TIDIED`, and put away what nobody can read, up to `BURIED`."""
        side_by_side(self._delete, list(self.finished.values())[:TIDIED], WIDE)
        side_by_side(lambda bad: self._bury(*bad), list(self.unreadable.values())[:BURIED], WIDE)

    def _delete(self, message: Message) -> None:
        self.queue.delete(message)
        del self.finished[message.id]

    def _bury(self, message: Message, reason: str) -> None:
        log.warning("%s", plain(f"message {message.id} goes to the dead-letter queue: {reason}"))
        if self._is_dead(message.body, reason) or self._is_dead(message.body, ""):
            self.queue.delete(message)
        else:
            log.warning("%s", plain(f"message {message.id} is left to the queue, which gives it up itself"))
        del self.unreadable[message.id]

    def _is_dead(self, body: str, reason: str) -> bool:
        """Whether the dead-letter queue took a message. An outage is raised: it takes it later."""
        try:
            self.dead.send(body, reason)
        except SupplyChainError as error:
            if error.retryable:
                raise
            log.warning("%s", plain(f"the dead-letter queue does not take it: {first_line(error)}"))
            return False
        return True

    def _until_answered(self, ask: Callable[[], T]) -> T:
        """Ask Prefect until it answers. Nothing is received meanwhile: an outage does not count against messages."""
        while True:
            try:
                answer = ask()
            except EventNotTaken as error:
                self._rest(error)
            else:
                self.pause[0] = FIRST
                return answer

    def _rest(self, error: SupplyChainError) -> None:
        log.warning("%s", plain(f"again in {self.pause[0]:.0f} s: {error}"))
        self.wait(self.pause[0])
        self.pause[0] = min(2 * self.pause[0], LONGEST)


def dead_message(dead: Stored, begins: str) -> Message:
    """The dead message whose id begins so; `DeclarationInvalid` where none does, several do, or too little is said."""
    if len(begins) < NAMED:
        raise DeclarationInvalid(
            f"{begins!r} names no message.\nGive {NAMED} characters of its ID or more; `cscm events dead` lists them."
        )
    found = [each for each in dead.all() if each.id.startswith(begins)]
    if len(found) != 1:
        which = f"The IDs of {counted(len(found), 'dead message')} begin" if found else "No dead message's ID begins"
        raise DeclarationInvalid(f"{which} with {begins!r}.\n`cscm events dead` lists them.")
    return found[0]


def replay(dead: Stored, queue: Queue, messages: Iterable[Message]) -> None:
    """Send dead messages to the queue again. Each is deleted after it was sent, so that none is lost in between."""
    for message in messages:
        queue.send(message.body)
        dead.delete(message)


def discard(dead: Stored, message: Message) -> None:
    """Delete a dead message for good. `AwsFailed` where it is there still: whoever looks at it meanwhile keeps it."""
    dead.delete(message)
    if message.id in {each.id for each in dead.all()}:
        raise AwsFailed(f"SQS has {message.id} still, as somebody else looked at it meanwhile.\nDo it again.")
