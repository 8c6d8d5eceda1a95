"""When statements were made, and what is done about those of the future."""

from datetime import timedelta

import pytest

from supply_chain.errors import ClockWrong
from supply_chain.evidence.clock import SKEW, made_at, signed_time
from supply_chain.evidence.statement import (
    DEPLOYMENT,
    ENCRYPTION,
    PROVENANCE,
    SBOM,
    SIGNATURE,
    SUMMARY,
    TEST_RESULT,
    VULNERABILITIES,
    about,
)
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.unit.conftest import DIGEST, NOON, World

IMAGE = ImageRef(repository="dev/hello", digest=DIGEST)
AT = NOON.isoformat()
STATEMENTS = {
    PROVENANCE: {"runDetails": {"metadata": {"finishedOn": AT}}},
    TEST_RESULT: {"cscm": {"interval": {"finished": AT}}},
    VULNERABILITIES: {"cscm": {"scanned": AT}},
    SBOM: {"created": AT},
    SUMMARY: {"timeVerified": AT},
    DEPLOYMENT: {"deployedAt": AT},
    ENCRYPTION: {"verified": AT},
}


@pytest.mark.parametrize("kind", STATEMENTS)
def test_every_statement_of_which_the_newest_counts_says_when_it_was_made(kind):
    """Where its kind says it."""
    assert made_at(about(IMAGE, kind, STATEMENTS[kind])) == NOON


@pytest.mark.parametrize("kind", [*STATEMENTS, SIGNATURE])
def test_one_that_says_no_time_is_of_none(kind):
    """What is wrong with it is told by whoever reads the rest."""
    assert made_at(about(IMAGE, kind, {})) is None
    assert made_at(about(IMAGE, kind, {"timeVerified": "2026-11-25", "created": "soon", "cscm": None})) is None


@pytest.mark.parametrize("said", [AT, "20261124T120000+0000", NOON.timestamp()])
def test_a_time_is_read_however_it_is_written(said):
    """Each reader takes one of these for an instant."""
    assert made_at(about(IMAGE, SUMMARY, {"timeVerified": said})) == NOON


@pytest.mark.parametrize(
    ("said", "at"),
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
def test_a_time_that_orders_statements_is_written_as_we_write_it(said, at):
    """A number may have been meant for anything."""
    assert signed_time(about(IMAGE, SUMMARY, {"timeVerified": said})) == at
    assert signed_time(about(IMAGE, SUMMARY, {})) is None


@pytest.mark.parametrize("kind", STATEMENTS)
def test_a_statement_of_the_future_is_an_error(kind):
    """Whatever its kind; clocks may differ a little."""
    world = World(now=NOON - SKEW)
    world.store(TierName.DEVELOPMENT).attach(IMAGE, kind, STATEMENTS[kind], NOON)
    assert len(world.store(TierName.CURATION).verified(IMAGE, TierName.DEVELOPMENT)) == 1

    world.now -= timedelta(seconds=1)
    with pytest.raises(ClockWrong, match=r"development signed .* 2026-11-24 12:00:00 UTC, and here it is .* 11:54:59"):
        world.store(TierName.CURATION).verified(IMAGE, TierName.DEVELOPMENT)


def test_what_nobody_signed_may_say_what_it_likes():
    """It is left out, whatever its time: nobody without a key can hold up an image."""
    world, stranger = World(now=NOON - timedelta(days=1)), World()
    bundle = stranger.signers[TierName.DEVELOPMENT].sign(about(IMAGE, SUMMARY, STATEMENTS[SUMMARY]))
    world.registry.attach(
        IMAGE, "application/vnd.dev.sigstore.bundle.v0.3+json", bundle, {"dev.sigstore.bundle.predicateType": SUMMARY}
    )

    assert world.store(TierName.CURATION).read(IMAGE).evidence == ()
