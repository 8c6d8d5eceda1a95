"""Coalescing: for any sequence of pushes, few runs decide on the newest image of each application."""

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.errors import AwsUnavailable, EventRejected
from supply_chain.promotion.bridge import Bridge
from supply_chain.promotion.coalescing import ANNOUNCE_INTERVAL, AT_ONCE, EVIDENCE_WAIT, FOLLOW, LOOK
from tests.support.memory_queue import MemoryQueue
from tests.support.pushes import message

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
VISIBLE = 30.0
"""Seconds for which a queue hides a received message."""


@dataclass
class Simulation:
    """A registry, a queue, Prefect and a clock.

    A promotion begins `late` seconds after its event and takes `lasts` seconds. It decides on the newest image of its
    application at its beginning, and a catch-up run on the newest image of each application.
    """

    lasts: float = 60.0
    late: float = 2.0
    now: float = 0.0
    pushed: dict[str, int] = field(default_factory=dict)  # application → number of its newest push
    decided: dict[str, int] = field(default_factory=dict)
    runs: list[tuple[str, float, float]] = field(default_factory=list)  # (application or "" for all, begins, ends)
    broken: list[bool] = field(default_factory=list)  # whether each of the next calls fails
    followed: list[bool] = field(default_factory=list)  # of each announcement of one application
    most: int = 0

    def __post_init__(self):
        self.queue = MemoryQueue(VISIBLE, self.clock)

    def push(self, application, copies):
        number = self.pushed.get(application, 0) + 1
        self.pushed[application] = number
        time = (NOON + timedelta(seconds=self.now, milliseconds=number)).isoformat()
        body = message({"time": time}, repository_name=f"dev/{application}", image_tag=f"t{number}")
        for _ in range(copies):
            self.queue.send(body)

    def clock(self):
        return self.now

    def pass_time(self, seconds):
        self.now += seconds
        for application, _begins, _ in [run for run in self.runs if self.now - seconds < run[1] <= self.now]:
            for name in [application] if application else list(self.pushed):
                self.decided[name] = self.pushed[name]

    def receive(self, *, patient):
        self._maybe_fail(AwsUnavailable("AWS is away\nwait"))
        return self.queue.receive(patient=patient)

    def delete(self, message):
        self.queue.delete(message)

    def push_event(self, application):
        self.runs.append((application, self.now + self.late, self.now + self.late + self.lasts))
        self.most = max(self.most, self.count_unfinished())

    def count_unfinished(self):
        return sum(bool(application) and ends > self.now for application, _, ends in self.runs)

    def _maybe_fail(self, error):
        if self.broken and self.broken.pop():
            raise error


@dataclass
class Announcer:
    """Prefect as the bridge sees it."""

    simulation: Simulation

    def push(self, pushed, *, followed):
        self.simulation._maybe_fail(EventRejected("Prefect is away\nwait"))
        self.simulation.followed.append(followed)
        self.simulation.push_event(pushed.image.application)

    def announce_catch_up(self, applications, pushes):
        self.simulation._maybe_fail(EventRejected("Prefect is away\nwait"))
        self.simulation.push_event("")

    def count_unfinished(self):
        return self.simulation.count_unfinished()


def bridge_of(simulation):
    return Bridge(simulation, simulation, Announcer(simulation), simulation.pass_time, simulation.clock)


def carry_until(end, bridge, simulation, push=lambda: None):
    """Let the bridge carry messages until a time, each half second, after `push`."""
    while simulation.now < end:
        push()
        bridge.carry()
        simulation.pass_time(0.5)


def carry(bridge, simulation):
    """Let the bridge carry messages, and pass time after a failure, as its retries do."""
    try:
        bridge.carry()
    except AwsUnavailable:
        simulation.pass_time(1)


STEPS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 3), st.sampled_from([0.0, 0.0, 0.1, 1.0, 15.0, 40.0])),
    min_size=1,
    max_size=60,
)


@given(STEPS, st.floats(0, 90), st.lists(st.booleans(), max_size=20), st.lists(st.integers(0, 59), max_size=3))
def test_newest_image_of_each_application_is_always_decided(steps, lasts, broken, restarts):
    """Pushes come singly, in groups, duplicated and during outages, and the bridge is restarted in between."""
    simulation = Simulation(lasts=lasts, broken=list(broken))
    bridge = bridge_of(simulation)
    for number, (application, copies, pause) in enumerate(steps):
        simulation.push(application, copies)
        if pause or number in restarts:
            carry(bridge, simulation)
            simulation.pass_time(pause)
        if number in restarts:
            bridge = bridge_of(simulation)
    begun = simulation.now
    while simulation.queue.held or bridge.waiting.waiting:
        assert simulation.now - begun < 10 * VISIBLE, "a message is never deleted"
        carry(bridge, simulation)
        simulation.pass_time(0.5)
    simulation.pass_time(simulation.late)

    assert simulation.decided == simulation.pushed


@given(STEPS, st.floats(0, 90))
def test_number_of_runs_is_independent_of_number_of_pushes(steps, lasts):
    """Each application is announced at most once in ten seconds, and few promotions are unfinished at any time."""
    simulation = Simulation(lasts=lasts)
    bridge = bridge_of(simulation)
    for application, copies, pause in steps:
        for _ in range(12):
            simulation.push(application, copies)
        carry(bridge, simulation)
        simulation.pass_time(pause)
    for _ in range(200):
        carry(bridge, simulation)
        simulation.pass_time(0.5)

    assert simulation.most <= AT_ONCE + 1
    for name in simulation.pushed:
        begun = sorted(begins for application, begins, _ in simulation.runs if application == name)
        assert all(later - earlier > ANNOUNCE_INTERVAL - 0.01 for earlier, later in itertools.pairwise(begun))
    looks = sorted(begins for application, begins, _ in simulation.runs if not application)
    assert all(later - earlier > LOOK - 0.01 for earlier, later in itertools.pairwise(looks))


@pytest.mark.parametrize("applications", [1, 40, 1000])
def test_thousand_pushes_give_few_runs_and_do_not_delay_others(applications):
    """One team pushes 1,000 times; a single push of another team is still decided in time."""
    simulation = Simulation(lasts=60)
    bridge = bridge_of(simulation)
    for number in range(1000):
        simulation.push(f"flood-{number % applications}", 1)
        if number == 500:
            simulation.push("honest", 1)
            since = simulation.now
        if number % 50 == 49:
            bridge.carry()
            simulation.pass_time(0.5)
    while "honest" not in simulation.decided:
        bridge.carry()
        simulation.pass_time(0.5)
    waited = simulation.now - since
    carry_until(100, bridge, simulation)

    assert waited <= 30
    assert simulation.decided == simulation.pushed and not simulation.queue.held
    assert len(simulation.runs) <= 2 * AT_ONCE + 2 + (FOLLOW + 30) / LOOK


def test_late_evidence_is_found_by_repeated_catch_up_runs():
    """Catch-up runs go on for as long as a promotion would wait for evidence."""
    simulation = Simulation(lasts=1000)
    bridge = bridge_of(simulation)
    for number in range(10):
        simulation.push(f"app-{number}", 1)
    carry_until(120, bridge, simulation)

    looks = [begins for application, begins, _ in simulation.runs if not application]
    assert looks[-1] - looks[0] >= 60


def test_application_with_fewest_pushes_is_announced_first():
    simulation = Simulation(lasts=4)
    bridge = bridge_of(simulation)
    bridge.waiting.last_catch_up = simulation.now  # no catch-up run covers the rest yet
    for number in range(100):
        simulation.push(f"flood-{number % 20}", 1)
    simulation.push("honest", 1)
    bridge.carry()

    announced = [application for application, _, _ in simulation.runs]
    assert len(announced) == AT_ONCE and announced[0] == "honest"


def test_flood_of_pushes_leaves_slots_to_other_applications():
    """Each flooded application is announced at most once by itself, and another application as soon as it pushes."""
    simulation = Simulation(lasts=4)
    bridge = bridge_of(simulation)
    for step in range(120):
        for number in range(step % 3, 60, 3):
            simulation.push(f"flood-{number}", 1)
        honest = simulation.now > LOOK and step % 10 == 9
        if honest:
            simulation.push(f"honest-{step}", 1)
            pushed = simulation.now
        bridge.carry()
        if honest:
            ((_, begins, _),) = [run for run in simulation.runs if run[0] == f"honest-{step}"]
            assert begins == pushed + simulation.late
        simulation.pass_time(0.5)

    floods = [application for application, _, _ in simulation.runs if application.startswith("flood")]
    assert len(floods) == len(set(floods)) <= 2 * AT_ONCE


def test_application_pushing_after_flood_is_announced_again():
    """A single application must not keep runs going that look at all others."""
    simulation = Simulation(lasts=4)
    bridge = bridge_of(simulation)
    for number in range(20):
        simulation.push(f"app-{number}", 1)
    carry_until(600, bridge, simulation, lambda: simulation.now % 30 == 0 and simulation.push("app-0", 1))

    assert max(begins for application, begins, _ in simulation.runs if not application) < 3 * FOLLOW
    assert sum(application == "app-0" for application, _, _ in simulation.runs) > 10


def test_few_applications_are_announced_despite_many_pushes():
    simulation = Simulation()
    for number in range(100):
        simulation.push(f"app-{number % AT_ONCE}", 1)
    bridge_of(simulation).carry()

    assert sorted(application for application, _, _ in simulation.runs) == [f"app-{each}" for each in range(AT_ONCE)]
    assert not any(simulation.followed)


def test_catch_up_looks_for_evidence_as_long_as_promotion_waits():
    """It does not wait for its evidence, so that catch-up runs have to."""
    simulation = Simulation(lasts=4)
    bridge = bridge_of(simulation)

    def push():
        for name in ("app", "more") if simulation.now < 60 else ():
            simulation.push(f"{name}-{simulation.now}", 1)

    carry_until(200, bridge, simulation, push)

    singles = [begins for application, begins, _ in simulation.runs if application]
    looks = [begins for application, begins, _ in simulation.runs if not application]
    followed = [begins for begins, covers in zip(singles, simulation.followed, strict=True) if covers]
    assert followed and max(followed) + EVIDENCE_WAIT <= max(looks) + LOOK
