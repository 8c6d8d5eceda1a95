"""Soaking: one look proves nothing of the time before it."""

from datetime import timedelta

import pytest

from supply_chain.evidence.soak import Soak
from supply_chain.execution.monitor import Deviation, Observation
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from supply_chain.promotion.soaking import sign, soaked, watched
from tests.unit.conftest import DIGEST, NOON, OTHER

FIVE = timedelta(minutes=5)
DRIFT = Deviation(code="drift.files", fact="f", remedy="r")


def look(minutes, **changes):
    """A look at an application that is well, so many minutes after noon."""
    values = {
        "at": NOON + timedelta(minutes=minutes),
        "environment": "staging",
        "application": "hello",
        "name": "staging-hello-1",
        "container": "c1",
        "wanted": DIGEST,
        "running": DIGEST,
        "healthy": True,
        "started_at": NOON - FIVE,
    }
    return Observation(**{**values, **changes})


def after(*looks):
    watch = None
    for each in looks:
        watch = watched(watch, each)
    return watch


def test_it_has_soaked_when_every_look_for_so_long_found_it_well():
    """From the first look at which it was well, not from when it was started."""
    watch = after(*(look(minutes) for minutes in range(0, 31, 5)))

    assert soaked(watch, "staging", 31 * 60) is None
    over = soaked(watch, "staging", 30 * 60)
    assert over is not None
    assert (over.since, over.until, over.looks) == (NOON, NOON + timedelta(minutes=30), 7)
    assert (over.environment, over.digest, over.container, over.asked) == ("staging", DIGEST, "c1", 1800)


@pytest.mark.parametrize(("earlier", "looks"), [(timedelta(minutes=5), 2), (timedelta(minutes=5, seconds=1), 1)])
def test_nothing_was_well_before_it_was_started(earlier, looks):
    """Whatever is remembered; clocks may differ by five minutes."""
    seen = look(5)
    remembered = after(look(0)).model_copy(update={"since": seen.started_at - earlier})

    assert watched(remembered, seen).looks == looks


def test_it_is_told_once():
    """What was signed is not signed again at the next look."""
    watch = after(look(0), look(10)).model_copy(update={"told": 60})

    assert soaked(watched(watch, look(15)), "staging", 60) is None
    assert soaked(watched(watch, look(15)), "staging", 16 * 60) is None


def test_it_is_told_again_where_more_is_asked_for():
    """When that is over."""
    watch = after(look(0), look(10)).model_copy(update={"told": 60})

    assert soaked(watched(watch, look(15)), "staging", 15 * 60).asked == 15 * 60


def test_an_environment_without_a_soak_lets_nothing_go_on():
    """However long it was well."""
    assert soaked(after(look(0), look(10)), "staging", None) is None


@pytest.mark.parametrize(
    "unwell",
    [
        {"healthy": False},
        {"deviations": (DRIFT,)},
        {"restarts": 1},
        {"running": ""},
        {"running": OTHER},
        {"wanted": "", "running": ""},
    ],
    ids=str,
)
def test_a_look_that_finds_it_unwell_begins_anew(unwell):
    """Also when it is well again at the next."""
    assert after(look(0), look(5), look(10, **unwell)) is None
    assert after(look(0), look(5, **unwell), look(10)).since == NOON + timedelta(minutes=10)


@pytest.mark.parametrize(
    "other",
    [
        {"container": "c2"},
        {"started_at": NOON + FIVE},
        {"started_at": None},
        {"wanted": OTHER, "running": OTHER},
    ],
    ids=str,
)
def test_another_container_or_another_start_begins_anew(other):
    """It ended in between, whoever started it again."""
    watch = after(look(0), look(5, **other))

    assert (watch.since, watch.looks) == (NOON + FIVE, 1)


def test_where_nobody_looked_for_too_long_nothing_is_known():
    """A machine that slept over night did not see that all was well."""
    assert after(look(0), look(15)).since == NOON
    assert after(look(0), look(15.1)).since == NOON + timedelta(minutes=15.1)


def test_a_look_from_before_the_last_one_begins_anew():
    """A clock that was set back says nothing of how long it was."""
    assert after(look(10), look(0)).since == NOON


def test_a_soak_is_signed_once_for_a_container_and_again_for_a_longer_one(world):
    """Who looks at the same time, or again, signs nothing."""
    store, ref = world.store(TierName.EXECUTION), ImageRef(repository="curated/hello", digest=DIGEST)
    short, long = (
        Soak(environment="staging", digest=DIGEST, container="c1", since=NOON, until=NOON + timedelta(seconds=asked),
             looks=2, asked=asked)
        for asked in (60, 120)
    )  # fmt: skip

    assert [sign(each, ref, store) for each in (short, short, long, short)] == [True, False, True, False]
    assert sign(short.model_copy(update={"container": "c2"}), ref, store)
