"""The ports of curation: layers of bases, even if the registry no longer serves their manifests."""

import base64
import hashlib
import json
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from blocks.curation_ports import CurationPorts, layers_of
from blocks.tier_ports import TierPorts
from supply_chain.adapters.registry.client import MANIFEST, Registry
from supply_chain.adapters.registry.content_cache import ContentCache
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.errors import ImageDamaged, ImageNotFound
from supply_chain.evidence.image_status import Act, sign_decision
from supply_chain.evidence.published import read_current_verdict
from supply_chain.evidence.statement import SBOM
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.reading import read_intake_facts
from supply_chain.policy.verdict import record
from tests.support.facts import CURATED, OFFERED
from tests.support.pieces import Pieces
from tests.support.policies import INTAKE, POLICIES
from tests.support.present import present

LAYER = "sha256:" + "1" * 64
CONFIG = {"digest": "sha256:" + "c" * 64, "size": 1}
CONTENT = json.dumps({"mediaType": MANIFEST, "config": CONFIG, "layers": [{"digest": LAYER, "size": 1}]}).encode()
BASE = ImageRef(repository="curated/base/python", digest=f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")


class Archived(Registry):
    """A registry that has no manifest."""

    def _read_cached_manifest(self, path):
        raise ImageNotFound(f"The registry has no {path}.\nLook.")


@pytest.fixture
def layers(world, tmp_path):
    """Return the function that reads layers, with a cache for the next run."""
    registry = Archived(RegistryHttp("registry.test", lambda: ("", "")))
    return layers_of(registry, world.store(TierName.CURATION), ContentCache(tmp_path))


@pytest.fixture
def signed(world, make):
    """Return a function that signs an SBOM with the given manifest."""

    def sign(manifest):
        source = {"metadata": {"manifest": base64.b64encode(manifest).decode()}}
        Pieces(world, make).attach(BASE, TierName.CURATION, SBOM, make.sbom(world.registry, BASE, source=source))

    return sign


def test_layers_of_archived_base_are_read_from_signed_sbom(layers, signed, tmp_path):
    """Nobody can pull it, but images built on it must still be judged; the SBOM is read once."""
    with pytest.raises(ImageNotFound):
        layers(BASE)
    signed(CONTENT)

    assert layers(BASE) == layers(BASE) == (LAYER,)
    assert present(ContentCache(tmp_path).get(f"manifest in the SBOM of {BASE}"))[0] == CONTENT


def test_manifest_in_sbom_must_match_digest(layers, signed):
    """The signature of the SBOM is not enough."""
    signed(CONTENT + b" ")

    with pytest.raises(ImageDamaged):
        layers(BASE)


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
def test_intake_verdict_follows_a_block_although_development_removed_the_image(ports, world, make, place, gone):
    """Curation has a copy of its evidence. Without both, only the block counts."""
    store = world.store(TierName.LIFECYCLE)
    for ref in world.registry.refs(OFFERED.repository) if gone else ():
        world.registry.remove(ref)

    for minutes, act, verdict in ((1, Act.BLOCK, Refused), (2, Act.UNBLOCK, Admitted)):
        at = make.noon + timedelta(minutes=minutes)
        sign_decision(place, act, store, world.ecr, by="ann", reason="bad", now=at)
        assert isinstance(ports.judge_published_intake(place), verdict)
        current = read_current_verdict(ports.verdicts, OFFERED, Gate.INTAKE)
        assert current.admits is (verdict is Admitted) and current.verdict.resource_uri == str(OFFERED)
        assert ports.judge_published_intake(place) is None

    world.registry.remove(CURATED)
    if gone:
        with pytest.raises(ImageNotFound):
            ports.judge_published_intake(place)
