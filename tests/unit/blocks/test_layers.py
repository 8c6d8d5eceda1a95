"""Layers of bases, even if the registry no longer serves their manifests."""

import base64
import hashlib
import json

import pytest

from blocks.layers import layers_of
from supply_chain.adapters.registry.client import MANIFEST, Registry
from supply_chain.adapters.registry.content_cache import ContentCache
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.errors import ImageDamaged, ImageNotFound
from supply_chain.evidence.statement import SBOM
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.support.pieces import Pieces
from tests.support.present import present

LAYER = "sha256:" + "1" * 64
CONFIG = {"digest": "sha256:" + "c" * 64, "size": 1}
CONTENT = json.dumps({"mediaType": MANIFEST, "config": CONFIG, "layers": [{"digest": LAYER, "size": 1}]}).encode()
BASE = ImageRef(repository="curated/base/python", digest=f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")


class Archived(Registry):
    """A registry that has no manifest."""

    def _fetch_manifest(self, path, most=0):
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
