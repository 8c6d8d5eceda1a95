"""Digests of what ships with this version and decides; `python -m scripts.shipped_policies` writes them."""

from __future__ import annotations

from collections.abc import Mapping

from supply_chain.model.image import Digest

SHIPPED: Mapping[str, Digest] = {
    "environments/production": "sha256:d26b39e40bfc899b7b660da861c8b703b27850c8828323c43f174c6193484f28",
    "environments/staging": "sha256:4d8549630f03ba3acdda940f2e0775a06535d886b76bf6faec49c2282ce49859",
    "names.yaml": "sha256:4fc4888489b3d0d7c2592111deaa497281d56ede2713bb5a276690f94e028078",
    "policies/curated.yaml": "sha256:7701c1db3311000313cc48441a4e6a6710ca19d49b03af687a8dc68a42060227",
    "policies/deploy.yaml": "sha256:935c38586e1f2187ed7593da9baa697570f40dafb51ca381ce6f2d7258c7b671",
    "policies/image.yaml": "sha256:b5225273087b0e1d7b23cfbc13fff1f9de0a2ae21f1aefa94e55925f713be236",
    "policies/intake.yaml": "sha256:e2c82e647e076be4c5bd7e632b0d49bc5f8c2bafd2cc87d7877a7cfc8264444a",
    "policies/release.yaml": "sha256:cc6ee20095a9189309b89b97d902055b1d61021809af9d5721a6b182a686691f",
    "versions/curated.1": "sha256:7701c1db3311000313cc48441a4e6a6710ca19d49b03af687a8dc68a42060227",
    "versions/deploy.1": "sha256:935c38586e1f2187ed7593da9baa697570f40dafb51ca381ce6f2d7258c7b671",
    "versions/image.2": "sha256:b5225273087b0e1d7b23cfbc13fff1f9de0a2ae21f1aefa94e55925f713be236",
    "versions/intake.4": "sha256:e2c82e647e076be4c5bd7e632b0d49bc5f8c2bafd2cc87d7877a7cfc8264444a",
    "versions/release.2": "sha256:cc6ee20095a9189309b89b97d902055b1d61021809af9d5721a6b182a686691f",
}
