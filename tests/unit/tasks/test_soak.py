"""soak: what is stored between observations, and what is signed and reported once."""

from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.variables import Variable

from supply_chain.evidence.soak import last_soak
from supply_chain.evidence.statement import SOAK
from supply_chain.execution.environment import Environment
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tasks import soak as soaking
from tests.support.builders import DIGEST, NOON
from tests.support.observations import look

WHERE = ImageRef(repository="evidence/execution/hello", digest=DIGEST)


@pytest.fixture
def seen(machine, world, monkeypatch):
    """Return a function that observes at given times, and returns the emitted events."""
    told = []
    monkeypatch.setattr(soaking, "emit", lambda *args, **payload: told.append((*args, payload)))
    store = world.store(TierName.EXECUTION)
    tier = SimpleNamespace(evidence=lambda _: store)

    async def run(*looks, asks=600):
        place = Environment(name="staging", soak=asks)
        for each in looks:
            await soaking.soak([each], place, tier, None)
        return told

    run.store = store
    return run


@pytest.fixture(autouse=True)
def alone(machine, monkeypatch):
    """Use Prefect variables of the test's own, because the server is shared."""
    mark, named = uuid4().hex, soaking.variable_of
    monkeypatch.setattr(soaking, "variable_of", lambda *which: f"{named(*which)}_{mark}")


async def test_soak_is_signed_and_reported_once(seen):
    """This happens at the first observation after the soak time."""
    told = await seen(*(look(minutes) for minutes in (0, 5, 10, 15, 20)))

    ((name, ref, payload),) = told
    assert (name, str(ref)) == ("deployment.soaked", f"curated/hello@{DIGEST}")
    assert payload == {"environment": "staging", "seconds": 600, "looks": 3}
    said = last_soak(seen.store.verified(WHERE, TierName.EXECUTION, SOAK), "staging", DIGEST, "c1")
    assert said is not None and said.at == NOON + timedelta(minutes=10)


async def test_signed_soak_is_not_reported_again(seen):
    """This holds even if the stored state is lost and the soak starts again."""
    await seen(look(0), look(10))
    await Variable.aset(soaking.variable_of("staging", "hello"), {"nothing": "known"}, overwrite=True)

    assert len(await seen(look(20), look(30))) == 1


async def test_longer_soak_is_signed_after_setting_changed(seen):
    """A soak for a shorter time is not enough."""
    await seen(look(0), look(10))

    assert [payload["seconds"] for *_, payload in await seen(look(15), look(20), look(25), asks=1200)] == [600, 1200]


async def test_soak_of_same_image_in_other_container_is_reported(seen):
    """The image was deployed again with another configuration."""
    await seen(look(0), look(10))

    assert len(await seen(look(20, container="c2"), look(30, container="c2"))) == 2


async def test_unhealthy_observation_interrupts_soak(seen):
    """The time before it does not count."""
    assert await seen(look(0), look(5, healthy=False), look(8), look(13)) == []


def test_variable_names_are_valid_and_unique():
    """Prefect allows lower-case letters, digits and underscores."""
    names = {soaking.variable_of(*which) for which in (("a", "b/c"), ("a", "b-c"), ("a-b", "c"), ("a", "b.c"))}

    assert len(names) == 4
    assert all(name.replace("_", "").isalnum() and name.islower() for name in names)
