"""Coalescing of pushes by application, and the decision which of them are announced when.

An application is announced at most once in `ANNOUNCE_INTERVAL` seconds, with its newest push. The promotion that an
announcement starts decides on the newest image that is offered at that time, so it covers every push before it. At most
`AT_ONCE` promotions by event use a slot at a time. If more applications wait, one catch-up run covers them together: it
looks at all applications and starts a promotion only for those that need one. For a while after that, such runs alone
cover the applications that were announced or covered before, so that others find a slot. So the number of runs depends
neither on the number of pushes nor on the number of applications, and a flood delays only those that take part in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from supply_chain.promotion.pushes import Pushed

AT_ONCE = 5
"""Maximum number of promotions by event that use a slot; the work queue `pushes` has as many."""
ANNOUNCE_INTERVAL = 10.0
"""Seconds between two announcements of the same application."""
LOOK = 10.0
"""Seconds between two catch-up runs."""
EVIDENCE_WAIT = 60.0
"""Seconds after a push in which a promotion waits for the evidence of the image."""
FOLLOW = EVIDENCE_WAIT + 15.0
"""Seconds for which catch-up runs continue after pushes that they cover: evidence is attached after the push."""
STARTING = 5.0
"""Seconds that an announcement may take to become a run in Prefect."""


@dataclass
class Group:
    """The waiting pushes of one application, each by the ID of its message."""

    application: str
    pushes: dict[str, Pushed] = field(default_factory=dict)

    @property
    def newest(self) -> tuple[str, Pushed]:
        """The message ID and the push with the latest time; if several have the same time, the one received last."""
        return max(reversed(self.pushes.items()), key=lambda item: item[1].at)


@dataclass(frozen=True)
class Step:
    """The announcements to make now: applications in `single` one by one, those in `covered` by a catch-up run."""

    single: Sequence[Group] = ()
    covered: Sequence[Group] = ()
    catch_up: bool = False
    followed: bool = False
    """Whether catch-up runs go on for as long as a promotion would wait for evidence, so that none has to."""


@dataclass
class Coalescer:
    """The applications whose pushes wait. Times are seconds of any monotonic clock.

    `announced` and `covered` have the applications of the last `FOLLOW` seconds, and when each was last announced by
    itself, or covered by a catch-up run.
    """

    waiting: dict[str, Group] = field(default_factory=dict)
    announced: dict[str, float] = field(default_factory=dict)
    covered: dict[str, float] = field(default_factory=dict)
    last_catch_up: float = float("-inf")
    flooded_until: float = float("-inf")
    follow_until: float = float("-inf")

    def add(self, message: str, pushed: Pushed) -> None:
        """Add a push that waits for its announcement. The same message may be added again."""
        application = pushed.image.application
        self.waiting.setdefault(application, Group(application)).pushes[message] = pushed

    def remove(self, group: Group, *messages: str) -> None:
        """Remove messages from a group, and the group once it is empty."""
        for message in messages:
            del group.pushes[message]
        if not group.pushes:
            del self.waiting[group.application]

    def is_busy(self, now: float) -> bool:
        """Return whether a later step may announce something although nothing is received."""
        return bool(self.waiting) or now < self.follow_until

    def step(self, now: float, unfinished: int) -> Step:
        """Decide what to announce now. `unfinished` counts the promotions by event that use a slot or want one."""
        self.announced, self.covered = _since(now - FOLLOW, self.announced), _since(now - FOLLOW, self.covered)
        room = max(0, AT_ONCE - max(unfinished, len(_since(now - STARTING, self.announced))))
        early = _since(now - ANNOUNCE_INTERVAL, self.announced)
        due = [group for name, group in self.waiting.items() if name not in early]
        due.sort(key=lambda group: len(group.pushes))
        single = due
        if len(due) > room:
            self.flooded_until = now + FOLLOW
        if now < self.flooded_until:
            recent = self.announced.keys() | self.covered.keys()
            single = [group for group in due if group.application not in recent][:room]
        rest = [group for group in due if group not in single]
        if rest:
            self.follow_until = now + FOLLOW
        catch_up = now < self.follow_until and now - self.last_catch_up >= LOOK
        return Step(single, rest if catch_up else (), catch_up, self.follow_until - now >= EVIDENCE_WAIT)

    def record_single(self, group: Group, now: float) -> None:
        """Record that an application was announced."""
        self.announced[group.application] = now

    def record_catch_up(self, step: Step, now: float) -> None:
        """Record that a catch-up run was announced."""
        self.last_catch_up = now
        self.covered |= {group.application: now for group in step.covered}


def _since(begin: float, times: Mapping[str, float]) -> dict[str, float]:
    """Return the applications whose time is after `begin`."""
    return {name: at for name, at in times.items() if at > begin}
