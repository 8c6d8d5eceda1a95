"""Coalesce pushes by application, and decide which of them are announced when.

One application is announced at most once in `AGAIN` seconds, with its newest push; the promotion that an announcement
starts decides on the newest image that was offered at that time, so that it covers every push before it. No more
than `AT_ONCE` promotions by event are unfinished at a time. Where more applications wait than that, they are covered
together: by a catch-up run, which looks at all applications and starts a promotion only for those that need one.
So the number of runs depends neither on the number of pushes nor on the number of applications.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from supply_chain.promotion.pushes import Pushed

AT_ONCE = 3
"""Promotions by event that may be unfinished at a time; the work queue `pushes` has as many slots."""
AGAIN = 10.0
"""Seconds between two announcements of the same application."""
LOOK = 10.0
"""Seconds between two catch-up runs."""
FOLLOW = 75.0
"""Seconds for which catch-up runs go on after one that covered pushes: evidence is attached after the push."""
STARTING = 5.0
"""Seconds in which an announcement may not have become a run in Prefect yet."""


@dataclass
class Group:
    """The pushes of one application that wait, each with the id of the message that told of it."""

    application: str
    pushes: dict[str, Pushed] = field(default_factory=dict)

    @property
    def newest(self) -> tuple[str, Pushed]:
        """The message and the push that happened last; of the same moment, the one that was received last."""
        return max(reversed(self.pushes.items()), key=lambda item: item[1].at)


@dataclass(frozen=True)
class Step:
    """What is announced now: these applications one by one, and with a catch-up run those `covered` together."""

    single: Sequence[Group] = ()
    covered: Sequence[Group] = ()
    catch_up: bool = False


@dataclass
class Coalescer:
    """The applications whose pushes wait. Times are seconds of any clock that only goes forward."""

    waiting: dict[str, Group] = field(default_factory=dict)
    announced: dict[str, float] = field(default_factory=dict)
    looked: float = float("-inf")
    follow_until: float = float("-inf")

    def add(self, message: str, pushed: Pushed) -> None:
        """Let a push wait for its announcement. The same message may come again."""
        application = pushed.image.application
        self.waiting.setdefault(application, Group(application)).pushes[message] = pushed

    def remove(self, group: Group, *messages: str) -> None:
        """Forget messages of a group, and the group when it is empty."""
        for message in messages:
            del group.pushes[message]
        if not group.pushes:
            del self.waiting[group.application]

    def is_busy(self, now: float) -> bool:
        """Whether a later step may announce something although nothing is received."""
        return bool(self.waiting) or now < self.follow_until

    def step(self, now: float, unfinished: int) -> Step:
        """Decide what is announced now. `unfinished` is how many promotions by event Prefect has to finish."""
        self.announced = {name: at for name, at in self.announced.items() if now - at < AGAIN}
        starting = sum(now - at < STARTING for at in self.announced.values())
        room = max(0, AT_ONCE - max(unfinished, starting))
        due = [group for name, group in self.waiting.items() if name not in self.announced]
        rest = due[room:]
        catch_up = now - self.looked >= LOOK and (bool(rest) or now < self.follow_until)
        return Step(due[:room], rest if catch_up else (), catch_up)

    def announced_single(self, group: Group, now: float) -> None:
        """Record that an application was announced."""
        self.announced[group.application] = now

    def announced_catch_up(self, step: Step, now: float) -> None:
        """Record that a catch-up run was announced; those that cover pushes are followed by more."""
        self.looked = now
        if step.covered:
            self.follow_until = now + FOLLOW
