"""The time of a statement, and statements with a time in the future."""

from datetime import timedelta
from typing import Any

import pytest

from supply_chain.errors import ClockWrong
from supply_chain.evidence.clock import SKEW, find_statement_time, read_signed_time
from supply_chain.evidence.statement import (
    DEPLOYMENT,
    ENCRYPTION,
    PROVENANCE,
    SBOM,
    SIGNATURE,
    SUMMARY,
    TEST_RESULT,
    VULNERABILITIES,
    make_image_statement,
)
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.support.builders import DIGEST, NOON
from tests.support.world import World

IMAGE = ImageRef(repository="dev/hello", digest=DIGEST)
AT = NOON.isoformat()
STATEMENTS: dict[str, dict[str, Any]] = {
    PROVENANCE: {"runDetails": {"metadata": {"finishedOn": AT}}},
    TEST_RESULT: {"cscm": {"interval": {"finished": AT}}},
    VULNERABILITIES: {"cscm": {"scanned": AT}},
    SBOM: {"created": AT},
    SUMMARY: {"timeVerified": AT},
    DEPLOYMENT: {"deployedAt": AT},
    ENCRYPTION: {"verified": AT},
}


@pytest.mark.parametrize("kind", STATEMENTS)
def test_made_at_reads_time_of_every_ordered_statement_type(kind):
    """Each type has its own field for the time."""
    assert find_statement_time(make_image_statement(IMAGE, kind, STATEMENTS[kind])) == NOON


@pytest.mark.parametrize("kind", [*STATEMENTS, SIGNATURE])
def test_made_at_is_none_without_valid_time(kind):
    """The reader of the statement reports what is wrong with it."""
    assert find_statement_time(make_image_statement(IMAGE, kind, {})) is None
    assert (
        find_statement_time(
            make_image_statement(IMAGE, kind, {"timeVerified": "2026-11-25", "created": "soon", "cscm": None})
        )
        is None
    )


@pytest.mark.parametrize("text", [AT, "20261124T120000+0000", NOON.timestamp()])
def test_made_at_reads_every_time_format(text):
    """Each format is one that some reader accepts as a time."""
    assert find_statement_time(make_image_statement(IMAGE, SUMMARY, {"timeVerified": text})) == NOON


@pytest.mark.parametrize(
    ("value", "at"),
    [
        (AT, NOON),
        ("2026-11-24T12:00:00Z", NOON),
        ("2026-11-24T12:00:00", None),
        ("2026-11-24", None),
        ("1700000000", None),
        (1700000000, None),
        (0, None),
        (None, None),
    ],
)
def test_signed_time_accepts_only_text_with_time_zone(value, at):
    """A number may have another meaning."""
    assert read_signed_time(make_image_statement(IMAGE, SUMMARY, {"timeVerified": value})) == at
    assert read_signed_time(make_image_statement(IMAGE, SUMMARY, {})) is None


@pytest.mark.parametrize("kind", STATEMENTS)
def test_statement_of_the_future_raises(kind):
    """The rule holds for every type; a small difference of clocks is tolerated."""
    world = World(now=NOON - SKEW)
    world.store(TierName.DEVELOPMENT).attach(IMAGE, kind, STATEMENTS[kind], NOON)
    assert len(world.store(TierName.CURATION).read_verified(IMAGE, TierName.DEVELOPMENT)) == 1

    world.now -= timedelta(seconds=1)
    with pytest.raises(
        ClockWrong, match=r"development signed .* 12:00:00 UTC, which .* this machine's time is .* 11:54:59"
    ):
        world.store(TierName.CURATION).read_verified(IMAGE, TierName.DEVELOPMENT)


def test_unsigned_statement_of_the_future_is_left_out():
    """Nobody without a key may stop an image."""
    world, stranger = World(now=NOON - timedelta(days=1)), World()
    bundle = stranger.signers[TierName.DEVELOPMENT].sign(make_image_statement(IMAGE, SUMMARY, STATEMENTS[SUMMARY]))
    world.registry.attach(
        IMAGE, "application/vnd.dev.sigstore.bundle.v0.3+json", bundle, {"dev.sigstore.bundle.predicateType": SUMMARY}
    )

    assert world.store(TierName.CURATION).read(IMAGE).evidence == ()
