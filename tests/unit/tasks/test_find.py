"""find: an image is looked up in the registry of the tier."""

from types import SimpleNamespace

from tasks.find import find, find_stored
from tests.support.stock import holding, ref


async def test_image_is_found_in_registry_of_tier():
    """A prefix of the digest is enough to find a stored image."""
    tier = SimpleNamespace(ecr=holding(ref(1)))

    assert await find("0" * 12, "curated/", tier) == await find_stored("0" * 12, tier) == ref(1)
