"""find: an image is looked for in the tier's own registry."""

from types import SimpleNamespace

from tasks.find import find, find_stored
from tests.unit.fleet.test_find import Held, ref


async def test_an_image_is_looked_for_in_the_tiers_registry():
    tier = SimpleNamespace(ecr=Held(ref(1)))

    assert await find("0" * 12, "curated/", tier) == await find_stored("0" * 12, tier) == ref(1)
