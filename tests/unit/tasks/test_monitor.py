"""Which deployments are under way, by the turns that Prefect knows to be taken."""

from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client

from tasks import monitor, paging
from tasks.turns import DEPLOY, turn, turn_name


@pytest.fixture
def environment(machine):
    """A name that nobody else has on the run's one server."""
    return f"t{uuid4().hex[:8]}"


async def under_way(environment):
    return {about for about in await monitor._under_way() if about[0].startswith(environment)}


async def test_a_deployment_is_under_way_while_it_has_its_turn(environment):
    """Of an application whose name has parts, too; no longer when it is over."""
    async with turn(turn_name(DEPLOY, environment, "team/hello")), turn(turn_name(DEPLOY, environment, "shop")):
        during = await under_way(environment)

    assert during == {(environment, "team/hello"), (environment, "shop")}
    assert await under_way(environment) == set()


async def test_what_else_is_limited_is_no_deployment(environment):
    """Another step's turn, and limits of whoever else uses the server."""
    async with (
        turn(turn_name("curate", environment, "hello")),
        turn(f"{DEPLOY} {environment}"),
        turn(f"{DEPLOY} {environment} hello again"),
    ):
        assert await under_way(environment) == set()


async def test_deployments_on_a_later_page_are_seen(environment, monkeypatch):
    """The server gives a part at once, and limits stay when their turns are over."""
    monkeypatch.setattr(paging, "PAGE", 2)
    async with get_client() as client:
        for number in range(5):
            await client.upsert_global_concurrency_limit_by_name(name=f"{environment} {number}", limit=1)
    first, last = "a", "z" * 8

    async with turn(turn_name(DEPLOY, environment, first)), turn(turn_name(DEPLOY, environment, last)):
        assert await under_way(environment) == {(environment, first), (environment, last)}
