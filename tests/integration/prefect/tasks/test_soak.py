"""soak: what is stored between observations, and what is signed and reported once."""

from datetime import timedelta
from uuid import uuid4

import pytest
from prefect.variables import Variable

from orchestration import observations, soaks
from supply_chain.evidence.soak import find_last_soak
from supply_chain.evidence.statement import SOAK
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.support.builders import DIGEST, NOON
from tests.support.observations import look

WHERE = ImageRef(repository="evidence/execution/hello", digest=DIGEST)


@pytest.fixture
def observe(machine, world, monkeypatch):
    """Return a function that observes at given times, and returns the emitted events."""
    events = []
    monkeypatch.setattr(observations, "emit", lambda *args, **payload: events.append((*args, payload)))
    evidence = world.store(TierName.EXECUTION)

    async def run(*looks, asks=600):
        place = DockerEnvironment(name="staging", soak=asks)
        for each in looks:
            await observations.continue_soaks([each], place, evidence)
        return events

    return run


@pytest.fixture(autouse=True)
def alone(machine, monkeypatch):
    """Use Prefect variables of the test's own, because the server is shared."""
    mark, named = uuid4().hex, soaks.name_soak_variable
    monkeypatch.setattr(soaks, "name_soak_variable", lambda *which: f"{named(*which)}_{mark}")


async def test_soak_is_signed_and_reported_once(observe, world):
    """This happens at the first observation after the soak time."""
    events = await observe(*(look(minutes) for minutes in (0, 5, 10, 15, 20)))

    ((name, ref, payload),) = events
    assert (name, str(ref)) == ("deployment.soaked", f"curated/hello@{DIGEST}")
    assert payload == {"environment": "staging", "seconds": 600, "observations": 3}
    statement = find_last_soak(
        world.store(TierName.EXECUTION).read_verified(WHERE, TierName.EXECUTION, SOAK), "staging", DIGEST, "c1"
    )
    assert statement is not None and statement.at == NOON + timedelta(minutes=10)


async def test_signed_soak_is_not_reported_again(observe):
    """This holds even if the stored state is lost and the soak starts again."""
    await observe(look(0), look(10))
    await Variable.aset(soaks.name_soak_variable("staging", "hello"), {"nothing": "known"}, overwrite=True)

    assert len(await observe(look(20), look(30))) == 1


async def test_longer_soak_is_signed_after_setting_changed(observe):
    """A soak for a shorter time is not enough."""
    await observe(look(0), look(10))

    assert [payload["seconds"] for *_, payload in await observe(look(15), look(20), look(25), asks=1200)] == [600, 1200]


async def test_soak_of_same_image_in_other_container_is_reported(observe):
    """The image was deployed again with another configuration."""
    await observe(look(0), look(10))

    assert len(await observe(look(20, container="c2"), look(30, container="c2"))) == 2


async def test_unhealthy_observation_interrupts_soak(observe):
    """The time before it does not count."""
    assert await observe(look(0), look(5, healthy=False), look(8), look(13)) == []


def test_variable_names_are_valid_and_unique():
    """Prefect allows lower-case letters, digits and underscores."""
    names = {soaks.name_soak_variable(*which) for which in (("a", "b/c"), ("a", "b-c"), ("a-b", "c"), ("a", "b.c"))}

    assert len(names) == 4
    assert all(name.replace("_", "").isalnum() and name.islower() for name in names)
