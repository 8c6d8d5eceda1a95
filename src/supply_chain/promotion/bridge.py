"""The bridge, which turns messages of a queue into Prefect events, coalesced by application.

It deletes a message once Prefect has taken its event. A message that cannot be read goes to the dead-letter queue with
the reason; a message that could not be announced stays in the queue. So an outage on either side loses nothing, and a
message that is delivered twice may be announced twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar

from supply_chain.concurrency import map_concurrently
from supply_chain.errors import AwsFailed, DeclarationInvalid, EventRejected, EventUnreadable, SupplyChainError
from supply_chain.model.image import Model
from supply_chain.promotion.coalescing import Coalescer, Group, Step
from supply_chain.promotion.pushes import Pushed, read_push
from supply_chain.text import pluralize, sanitize_text, summarize_error

FIRST, LONGEST = 1.0, 15.0
"""Seconds before the first retry, and at most before any retry."""
PACE = 0.5
"""Seconds between two reads of the queue while pushes wait for their announcement."""
ROUNDS = 20
"""Reads of the queue before the received pushes are announced: a flood does not delay pushes that came before it."""
MOST = 10
"""Maximum number of messages that a queue returns at once."""
BURIED = ROUNDS * MOST
"""Unreadable messages moved to the dead-letter queue between two reads of the queue: as many as one pass receives."""
TIDIED = 2 * BURIED
"""Announced messages deleted between two reads of the queue. This is more than one pass receives, because the queue
gives up a message that it delivered too often, even if its event was taken."""
WIDE = 8
"""Messages deleted or moved in parallel."""
NAMED = 8
"""Minimum number of characters to identify a message by."""
NOT_ANNOUNCED = "it was received too often without being announced"
"""The reason shown for messages that the queue itself gave up."""
T = TypeVar("T")
log = logging.getLogger("supply_chain.bridge")


class Message(Model):
    """A message from a queue. `receipt` is needed to delete it."""

    id: str
    receipt: str
    body: str
    sent: datetime | None = None
    reason: str = ""


class MessageStore(Protocol):
    """Takes and deletes messages."""

    def delete(self, message: Message) -> None:
        """Delete a message."""

    def send(self, body: str, reason: str = "") -> None:
        """Send a message, with the reason if it is a dead letter."""


class Queue(MessageStore, Protocol):
    """A queue that delivers a message again until it is deleted (SQS Developer Guide, "at-least-once delivery")."""

    def receive(self, *, patient: bool) -> tuple[Message, ...]:
        """Return some messages; with `patient`, wait a while for the first one."""


class DeadLetters(MessageStore, Protocol):
    """A queue whose messages can all be listed."""

    def all(self) -> tuple[Message, ...]:
        """Return all messages."""

    def count(self) -> int:
        """Return the approximate number of messages, including those that are invisible now."""


class Announcer(Protocol):
    """The bridge's port to Prefect. Each method raises `EventRejected` if Prefect does not answer."""

    def push(self, pushed: Pushed, *, followed: bool) -> None:
        """Announce a push and return once Prefect has taken the event. Raises `EventUnreadable` if it never will.

        `followed` says whether catch-up runs look for the evidence of its image too.
        """

    def announce_catch_up(self, applications: int, pushes: int) -> None:
        """Announce that pushes of several applications wait, and return once Prefect has taken the event."""

    def count_unfinished(self) -> int:
        """Return the number of unfinished promotions that a push started, without those that wait for evidence."""


@dataclass(frozen=True)
class Bridge:
    """Carries messages from a queue to Prefect. `wait` takes seconds; `clock` returns monotonic seconds.

    Announcements come first. Messages in `finished` or `unreadable` are deleted or moved afterwards, a limited number
    each time, so that a flood of them does not delay pushes.
    """

    queue: Queue
    dead: DeadLetters
    announcer: Announcer
    wait: Callable[[float], object]
    clock: Callable[[], float] = time.monotonic
    waiting: Coalescer = field(default_factory=Coalescer)
    messages: dict[str, Message] = field(default_factory=dict)
    finished: dict[str, Message] = field(default_factory=dict)
    unreadable: dict[str, tuple[Message, str]] = field(default_factory=dict)
    pause: list[float] = field(default_factory=lambda: [FIRST])

    def run(self, alive: Callable[[], object]) -> None:
        """Carry messages until the process ends; call `alive` after each pass without an error.

        Errors are logged and retried, because to stop would not help.
        """
        patient = False
        while True:
            try:
                self.carry(patient=patient)
            except SupplyChainError as error:
                self._wait_after(error)
            else:
                self.pause[0], patient = FIRST, not self._is_busy()
                alive()
                if not patient:
                    self.wait(PACE)

    def carry(self, *, patient: bool = False) -> None:
        """Read the messages in the queue, announce what is due, and delete some of the messages that are done."""
        for message in self._receive(patient=patient):
            self._sort(message)
        self._announce()
        self._tidy()

    def _is_busy(self) -> bool:
        return bool(self.finished or self.unreadable) or self.waiting.is_busy(self.clock())

    def _receive(self, *, patient: bool) -> Iterator[Message]:
        """Yield messages until the queue returns nothing new, at most `ROUNDS` times; `patient` waits for the first."""
        received: set[str] = set()
        for number in range(ROUNDS):
            batch = self.queue.receive(patient=patient and number == 0)
            if all(message.id in received for message in batch):
                break
            received |= {message.id for message in batch}
            yield from batch

    def _sort(self, message: Message) -> None:
        """Queue a push for its announcement. A message that is delivered again has a new receipt, which counts."""
        if message.id in self.finished:
            self.finished[message.id] = message
            return
        try:
            pushed = read_push(message.body)
        except EventUnreadable as error:
            self.unreadable[message.id] = (message, summarize_error(error))
            return
        if pushed is None:
            self.finished[message.id] = message
        else:
            self.messages[message.id] = message
            self.waiting.add(message.id, pushed)

    def _announce(self) -> None:
        if not self.waiting.is_busy(self.clock()):
            return
        unfinished = self._retry_until_answered(self.announcer.count_unfinished) if self.waiting.waiting else 0
        step = self.waiting.step(self.clock(), unfinished)
        for group in step.single:
            self._announce_group(group, followed=step.followed)
        if step.catch_up:
            self._announce_catch_up(step)

    def _announce_group(self, group: Group, *, followed: bool) -> None:
        """Announce the newest push of an application; if Prefect never takes that one, the one before it."""
        while group.pushes:
            name, pushed = group.newest
            try:
                self._retry_until_answered(partial(self.announcer.push, pushed, followed=followed))
            except EventUnreadable as error:
                self.unreadable[name] = (self.messages.pop(name), summarize_error(error))
                self.waiting.remove(group, name)
                continue
            older = len(group.pushes) - 1
            log.info("%s", sanitize_text(f"announced {pushed.image} ({pushed.tag}), and {older} older ones with it"))
            self.waiting.record_single(group, self.clock())
            self._finish(group)

    def _announce_catch_up(self, step: Step) -> None:
        applications, pushes = len(step.covered), sum(len(group.pushes) for group in step.covered)
        self._retry_until_answered(lambda: self.announcer.announce_catch_up(applications, pushes))
        log.info("announced a catch-up run (pushes: %d, applications: %d)", pushes, applications)
        self.waiting.record_catch_up(step, self.clock())
        for group in step.covered:
            self._finish(group)

    def _finish(self, group: Group) -> None:
        """Mark the messages of a group as finished, as their event was taken."""
        self.finished.update({name: self.messages.pop(name) for name in group.pushes})
        self.waiting.remove(group, *list(group.pushes))

    def _tidy(self) -> None:
        """Delete up to `TIDIED` announced messages; move up to `BURIED` unreadable ones to the dead-letter queue."""
        map_concurrently(self._delete, list(self.finished.values())[:TIDIED], WIDE)
        map_concurrently(lambda bad: self._bury(*bad), list(self.unreadable.values())[:BURIED], WIDE)

    def _delete(self, message: Message) -> None:
        self.queue.delete(message)
        del self.finished[message.id]

    def _bury(self, message: Message, reason: str) -> None:
        log.warning("%s", sanitize_text(f"message {message.id} goes to the dead-letter queue: {reason}"))
        if self._is_dead(message.body, reason) or self._is_dead(message.body, ""):
            self.queue.delete(message)
        else:
            log.warning("%s", sanitize_text(f"message {message.id} stays in the queue, which moves it itself"))
        del self.unreadable[message.id]

    def _is_dead(self, body: str, reason: str) -> bool:
        """Return whether the dead-letter queue took a message. Raises an outage, as the queue takes it later."""
        try:
            self.dead.send(body, reason)
        except SupplyChainError as error:
            if error.retryable:
                raise
            log.warning("%s", sanitize_text(f"the dead-letter queue did not accept it: {summarize_error(error)}"))
            return False
        return True

    def _retry_until_answered(self, ask: Callable[[], T]) -> T:
        """Ask Prefect until it answers. Receive nothing meanwhile, so that an outage does not use up deliveries."""
        while True:
            try:
                answer = ask()
            except EventRejected as error:
                self._wait_after(error)
            else:
                self.pause[0] = FIRST
                return answer

    def _wait_after(self, error: SupplyChainError) -> None:
        log.warning("%s", sanitize_text(f"again in {self.pause[0]:.0f} s: {error}"))
        self.wait(self.pause[0])
        self.pause[0] = min(2 * self.pause[0], LONGEST)


def find_dead_message(dead: DeadLetters, begins: str) -> Message:
    """Return the dead message whose ID begins with `begins`.

    Raises `DeclarationInvalid` if `begins` is shorter than `NAMED`, or if no message or several messages match.
    """
    if len(begins) < NAMED:
        raise DeclarationInvalid(
            f"{begins!r} names no message.\nGive {NAMED} characters of its ID or more; `cscm events dead` lists them."
        )
    messages = [each for each in dead.all() if each.id.startswith(begins)]
    if len(messages) != 1:
        which = (
            f"The IDs of {pluralize(len(messages), 'dead message')} begin"
            if messages
            else "No dead message's ID begins"
        )
        raise DeclarationInvalid(f"{which} with {begins!r}.\n`cscm events dead` lists them.")
    return messages[0]


def replay(dead: DeadLetters, queue: Queue, messages: Iterable[Message]) -> None:
    """Send dead messages to the queue again. Each is deleted after it was sent, so that none is lost in between."""
    for message in messages:
        queue.send(message.body)
        dead.delete(message)


def discard(dead: DeadLetters, message: Message) -> None:
    """Delete a dead message for good.

    Raises `AwsFailed` if it still exists: a message that somebody else is reading cannot be deleted.
    """
    dead.delete(message)
    if message.id in {each.id for each in dead.all()}:
        raise AwsFailed(f"SQS still has {message.id}, because somebody else read it meanwhile.\nRun the command again.")
