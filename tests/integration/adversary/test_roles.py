"""A tier with the role of another tier: IAM denies it before it writes anything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cscm_laptop.home import Home
from cscm_laptop.prefect_server import make_prefect_environment
from cscm_laptop.profile import load_profile
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.integration.adversary.attacked import PLACE, Adversary, Make
from tests.support.command import ROOT, cscm

pytestmark = pytest.mark.real

SWAP = """
import sys
from blocks import Tier
from cscm_laptop.blocks import make_tier_block
from cscm_laptop.home import Home
from cscm_laptop.laptop import load_state
from supply_chain.model.tier import TierName

state = load_state(Home.find())
for pair in sys.argv[1:]:
    tier, role = map(TierName, pair.split("="))
    own, other = make_tier_block(state, tier), make_tier_block(state, role)
    own.aws, own.role_arn = other.aws, other.role_arn
    own.save(tier.value, overwrite=True)
"""
"""Gives a tier's block the credentials and the role of another tier."""
DEVELOPMENT, CURATION, EXECUTION = TierName.DEVELOPMENT, TierName.CURATION, TierName.EXECUTION

Swap = Callable[[dict[TierName, TierName]], None]


@pytest.fixture(scope="module")
def swap(home: Home) -> Iterator[Swap]:
    """A function that swaps the roles of tiers; they are restored after the module."""
    environment = {**os.environ, **make_prefect_environment(home, load_profile(home.project))}

    def to(roles: dict[TierName, TierName]) -> None:
        pairs = [f"{tier}={role}" for tier, role in roles.items()]
        subprocess.run([sys.executable, "-c", SWAP, *pairs], cwd=ROOT, env=environment, check=True, timeout=120)

    yield to
    to({tier: tier for tier in TierName})


def test_tier_with_role_of_another_tier_is_denied(
    offered: ImageRef,
    curated: ImageRef,
    adversary: Adversary,
    application: Make,
    place: dict[str, int],
    swap: Swap,
) -> None:
    """Each flow ends with `access.denied`; nothing is pushed or signed, and no container starts.

    What each role may do is in `tests/integration/emulator/test_matrix.py`.
    """
    source = application("prey", {"revision": "another\n"})
    swap({DEVELOPMENT: CURATION, CURATION: EXECUTION, EXECUTION: DEVELOPMENT})
    before, running = adversary.everything(), containers()

    with ThreadPoolExecutor() as pool:
        ran = tuple(
            pool.map(
                lambda args: cscm(*args),
                (
                    ("build", str(source)),
                    ("curate", str(offered), "--force"),
                    ("deploy", str(curated), "--environment", PLACE),
                ),
            )
        )

    assert [each.code() for each in ran] == ["access.denied"] * 3, "\n".join(each.stderr for each in ran)
    assert adversary.everything() == before
    assert containers() == running


def containers() -> str:
    """List the containers of the environment, running or not."""
    return subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", f"label=cscm.environment={PLACE}"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
