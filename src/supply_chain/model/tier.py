"""The three tiers, the boundaries between them, and what each of those who sign may write."""

from __future__ import annotations

from enum import StrEnum


class TierName(StrEnum):
    """Who signs: the tiers, from least to most rigorous; and lifecycle, which is none of them.

    It moves no image forward. It says which images are blocked or held, and takes old ones away; all believe it.
    """

    DEVELOPMENT = "development"
    CURATION = "curation"
    EXECUTION = "execution"
    LIFECYCLE = "lifecycle"


PREFIX = {
    TierName.DEVELOPMENT: "dev",
    TierName.CURATION: "curated",
    TierName.EXECUTION: "evidence/execution",
    TierName.LIFECYCLE: "evidence/lifecycle",
}
"""Where a tier's own repositories lie."""
OFFERED = f"{PREFIX[TierName.DEVELOPMENT]}/"
"""How the repositories begin in which development offers images."""
CURATED = f"{PREFIX[TierName.CURATION]}/"
"""How those begin in which curation keeps them."""
EVIDENCE = "evidence/"
"""How those begin in which tiers say something of images that are not their own."""

BY_DIGEST, OF_PLANS = "digests", "plans"
"""Below `evidence/lifecycle/`: where blocks lie by digest, and decisions about plans. No application is called so."""

BASES = "curated/base"
"""Where the internal base images are vended from."""


def is_base_repository(repository: str) -> bool:
    """Whether the images in it are bases: others are built on them."""
    return repository.startswith(f"{BASES}/")


class Boundary(StrEnum):
    """Where trust changes hands, and a gatekeeper decides."""

    TO_CURATION = "boundary-1"
    CURATION = "curation"
    TO_EXECUTION = "boundary-2"


def development_repository(application: str) -> str:
    """Where development offers an application's images."""
    return f"{OFFERED}{application}"


def curated_repository(application: str) -> str:
    """Where curation keeps an application's images."""
    return f"{CURATED}{application}"


def evidence_repository(tier: TierName, application: str) -> str:
    """Where a tier writes what it says about an image that is not its own."""
    return f"{EVIDENCE}{tier}/{application}"
