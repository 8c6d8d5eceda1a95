"""Digests of what ships with this version and decides; `python -m scripts.shipped_policies` writes them."""

from __future__ import annotations

from collections.abc import Mapping

from supply_chain.model.image import Digest

SHIPPED: Mapping[str, Digest] = {
    "environments/production": "sha256:d26b39e40bfc899b7b660da861c8b703b27850c8828323c43f174c6193484f28",
    "environments/staging": "sha256:4d8549630f03ba3acdda940f2e0775a06535d886b76bf6faec49c2282ce49859",
    "names.yaml": "sha256:4fc4888489b3d0d7c2592111deaa497281d56ede2713bb5a276690f94e028078",
    "policies/curated.yaml": "sha256:f00ac96f7fa54d48c30c7467f14c1c0a88b126a9c42d859b7c8913353351f3bc",
    "policies/deploy.yaml": "sha256:e56aa3c8b2ce9aabcf9532f788aea110a80f9395622f646d0b6a9661ec033712",
    "policies/image.yaml": "sha256:496c66396de5ecdb8981d59d4f92690a1de11b8791df9df18ec36fce1a661914",
    "policies/intake.yaml": "sha256:9df2e9723f136ca4a087ff69c4d2ad212582e125231f0d88491be48bde8fbe5e",
    "policies/release.yaml": "sha256:ece39f94d4c99607637a49151999fb97b3465dcbacaa3877a433c891969a2ce9",
    "versions/curated.1": "sha256:f00ac96f7fa54d48c30c7467f14c1c0a88b126a9c42d859b7c8913353351f3bc",
    "versions/deploy.1": "sha256:e56aa3c8b2ce9aabcf9532f788aea110a80f9395622f646d0b6a9661ec033712",
    "versions/image.1": "sha256:496c66396de5ecdb8981d59d4f92690a1de11b8791df9df18ec36fce1a661914",
    "versions/intake.3": "sha256:9df2e9723f136ca4a087ff69c4d2ad212582e125231f0d88491be48bde8fbe5e",
    "versions/release.1": "sha256:ece39f94d4c99607637a49151999fb97b3465dcbacaa3877a433c891969a2ce9",
}
