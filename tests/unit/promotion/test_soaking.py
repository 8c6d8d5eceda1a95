"""Soaking: a single observation proves nothing about the time before it."""

from datetime import timedelta

import pytest

from supply_chain.evidence.soak import Soak
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from supply_chain.promotion.soaking import continue_soak, find_complete_soak, sign_soak
from tests.support.builders import DIGEST, NOON, OTHER
from tests.support.observations import DRIFT, FIVE, look
from tests.support.present import present


def after(*looks):
    watch = None
    for each in looks:
        watch = continue_soak(watch, each)
    return watch


def test_soak_ends_after_healthy_observations_for_whole_time():
    """The time counts from the first healthy observation, not from the start of the container."""
    watch = after(*(look(minutes) for minutes in range(0, 31, 5)))

    assert find_complete_soak(watch, "staging", 31 * 60) is None
    over = find_complete_soak(watch, "staging", 30 * 60)
    assert over is not None
    assert (over.since, over.until, over.observations) == (NOON, NOON + timedelta(minutes=30), 7)
    assert (over.environment, over.digest, over.container, over.required_seconds) == ("staging", DIGEST, "c1", 1800)


@pytest.mark.parametrize(("earlier", "looks"), [(timedelta(minutes=5), 2), (timedelta(minutes=5, seconds=1), 1)])
def test_soak_restarts_if_container_started_later(earlier, looks):
    """Clocks may differ by five minutes."""
    observation = look(5)
    remembered = after(look(0)).model_copy(update={"since": observation.started_at - earlier})

    assert present(continue_soak(remembered, observation)).observations == looks


def test_finished_soak_is_reported_once():
    """It is not signed again at the next observation."""
    watch = after(look(0), look(10)).model_copy(update={"reported": 60})

    longer = present(continue_soak(watch, look(15)))
    assert find_complete_soak(longer, "staging", 60) is None
    assert find_complete_soak(longer, "staging", 16 * 60) is None


def test_soak_is_reported_again_for_longer_setting():
    """It is reported when the longer time is over."""
    watch = after(look(0), look(10)).model_copy(update={"reported": 60})

    longer = present(continue_soak(watch, look(15)))
    assert present(find_complete_soak(longer, "staging", 15 * 60)).required_seconds == 15 * 60


def test_environment_without_soak_never_finishes_soak():
    """The time of healthy observations does not matter."""
    assert find_complete_soak(after(look(0), look(10)), "staging", None) is None


@pytest.mark.parametrize(
    "unwell",
    [
        {"healthy": False},
        {"deviations": (DRIFT,)},
        {"restarts": 1},
        {"running": ""},
        {"running": OTHER},
        {"expected_digest": "", "running": ""},
    ],
    ids=str,
)
def test_unhealthy_observation_restarts_soak(unwell):
    """This holds even if the next observation is healthy."""
    assert after(look(0), look(5), look(10, **unwell)) is None
    assert after(look(0), look(5, **unwell), look(10)).since == NOON + timedelta(minutes=10)


@pytest.mark.parametrize(
    "other",
    [
        {"container": "c2"},
        {"started_at": NOON + FIVE},
        {"started_at": None},
        {"expected_digest": OTHER, "running": OTHER},
    ],
    ids=str,
)
def test_other_container_or_restart_restarts_soak(other):
    """The application was interrupted in between."""
    watch = after(look(0), look(5, **other))

    assert (watch.since, watch.observations) == (NOON + FIVE, 1)


def test_soak_restarts_after_gap_between_observations():
    """Nobody knows whether the application was healthy while the machine was asleep."""
    assert after(look(0), look(15)).since == NOON
    assert after(look(0), look(15.1)).since == NOON + timedelta(minutes=15.1)


def test_soak_restarts_if_clock_was_set_back():
    """The length of the time in between is unknown."""
    assert after(look(10), look(0)).since == NOON


def test_soak_is_signed_once_per_container_and_duration(world):
    """A parallel or repeated run signs nothing."""
    store, ref = world.store(TierName.EXECUTION), ImageRef(repository="curated/hello", digest=DIGEST)
    short, long = (
        Soak(environment="staging", digest=DIGEST, container="c1", since=NOON, until=NOON + timedelta(seconds=asked),
             observations=2, required_seconds=asked)
        for asked in (60, 120)
    )  # fmt: skip

    assert [sign_soak(each, ref, store) for each in (short, short, long, short)] == [True, False, True, False]
    assert sign_soak(short.model_copy(update={"container": "c2"}), ref, store)
