"""The bridge: each message of a queue becomes an event, and is deleted once the event was taken.

What cannot be read goes to the dead-letter queue at once, with the reason; what could not be announced stays
in the queue. So an outage on either side loses nothing, and a message that comes twice is announced twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from supply_chain.errors import AwsFailed, DeclarationInvalid, EventNotTaken, EventUnreadable, SupplyChainError
from supply_chain.image import Frozen
from supply_chain.promotion.pushes import Pushed, read_push
from supply_chain.shown import counted, first_line, plain

FIRST, LONGEST = 1.0, 15.0
"""Seconds until what failed is tried again, at first and at most."""
NAMED = 8
"""Characters by which a message is named, at least."""
UNTOLD = "it was received too often without being announced"
"""The reason of what the queue itself gave up."""
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


@dataclass(frozen=True)
class Bridge:
    """`announce` returns when the event was taken, or raises `EventNotTaken`; where it never will be,
    `EventUnreadable`. `wait` takes seconds.
    """

    queue: Queue
    dead: Stored
    announce: Callable[[Pushed], object]
    wait: Callable[[float], object]
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
                self.pause[0], patient = FIRST, True
                alive()

    def carry(self, *, patient: bool = False) -> int:
        """Carry what the queue gives now, one after the other; how many were announced."""
        announced = 0
        for message in self.queue.receive(patient=patient):
            try:
                if (pushed := read_push(message.body)) is not None:
                    self._until_taken(pushed)
                    announced += 1
            except EventUnreadable as error:
                reason = first_line(error)
                log.warning("%s", plain(f"message {message.id} goes to the dead-letter queue: {reason}"))
                self.dead.send(message.body, reason)
            self.queue.delete(message)
        return announced

    def _until_taken(self, pushed: Pushed) -> None:
        """Nothing else is received meanwhile: so an outage does not count against the messages that wait."""
        while True:
            try:
                self.announce(pushed)
            except EventNotTaken as error:
                self._rest(error)
            else:
                log.info("%s", plain(f"announced {pushed.image} ({pushed.tag})"))
                self.pause[0] = FIRST
                return

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
