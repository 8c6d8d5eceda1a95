"""The ports of curation: verdicts of the intake gate are judged again."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from blocks.curation_ports import CurationPorts
from blocks.tier_ports import TierPorts
from supply_chain.errors import ImageNotFound
from supply_chain.evidence.image_status import Act, sign_decision
from supply_chain.evidence.published import read_current_verdict
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.reading import read_intake_facts
from supply_chain.policy.verdict import record
from tests.support.facts import CURATED, OFFERED
from tests.support.pieces import Pieces
from tests.support.policies import INTAKE, POLICIES


@pytest.fixture
def ports(world, make, monkeypatch):
    """Ports of curation for an image that development offered and the intake gate admitted."""
    evidence, pieces = world.store(TierName.CURATION), Pieces(world, make)
    for place in (OFFERED, CURATED):
        world.registry.add(place)
        for piece in pieces.development.values():
            pieces.attach(place, *piece)
    monkeypatch.setattr(TierPorts, "evidence", evidence)
    monkeypatch.setattr(TierPorts, "verdicts", world.verdict_store(TierName.CURATION))
    monkeypatch.setattr(TierPorts, "repositories", world.ecr)
    monkeypatch.setattr(TierPorts, "list_base_images", lambda _: ())
    monkeypatch.setattr(TierPorts, "list_curated_images", lambda *_: ())
    workbench = SimpleNamespace(policies=lambda: POLICIES, registered=lambda name: None)
    blocks: Any = None, workbench
    facts = read_intake_facts(OFFERED, evidence, (), None)
    record(evaluate(facts, INTAKE, make.noon), facts, evidence, make.noon)
    return CurationPorts(*blocks)


@pytest.mark.parametrize("place", [OFFERED, CURATED], ids=["offered", "curated"])
@pytest.mark.parametrize("gone", [False, True], ids=["there", "gone"])
def test_intake_verdict_follows_block_of_removed_image(ports, world, make, place, gone):
    """Curation has a copy of its evidence. Without both, only the block counts."""
    store = world.store(TierName.LIFECYCLE)
    for ref in world.registry.refs(OFFERED.repository) if gone else ():
        world.registry.remove(ref)

    for minutes, act, verdict in ((1, Act.BLOCK, Refused), (2, Act.UNBLOCK, Admitted)):
        at = make.noon + timedelta(minutes=minutes)
        sign_decision(place, act, store, world.ecr, by="ann", reason="bad", now=at)
        assert isinstance(ports.judge_published_intake(place), verdict)
        current = read_current_verdict(ports.verdicts, OFFERED, Gate.INTAKE)
        assert current.admits is (verdict is Admitted) and current.verdict.resource_uri == f"registry.test/{OFFERED}"
        assert ports.judge_published_intake(place) is None

    world.registry.remove(CURATED)
    if gone:
        with pytest.raises(ImageNotFound):
            ports.judge_published_intake(place)
