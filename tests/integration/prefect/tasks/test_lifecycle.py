"""Events of a lifecycle decision whose step is tried again."""

from uuid import UUID

from prefect import flow

from supply_chain.errors import AwsUnavailable
from supply_chain.evidence.image_status import Act
from tasks import lifecycle
from tests.support.lifecycle_place import place
from tests.support.snapshots import digest, ref

__all__ = ["place"]  # a fixture


async def test_retries_of_block_emit_one_event_and_other_runs_another(place, machine):
    """Prefect treats events with the same ID as one event."""

    @flow
    async def run():
        again = lifecycle.decide_step.with_options(retry_delay_seconds=0)
        return await again(ref(1), Act.BLOCK, "ann", "CVE-2026-1", place.ports)

    archive, place.broken[ref(1)] = place.archive, AwsUnavailable("throttled\nlater")

    def better(where):
        try:
            archive(where)
        finally:
            place.broken.clear()

    place.archive = better
    first, second = await run(), await run()

    assert (first.changed, first.archived_or_restored, second.archived_or_restored) == (False, (digest(1),), ())
    one, tried_again, other = place.numbers
    assert isinstance(one, UUID) and one == tried_again != other
