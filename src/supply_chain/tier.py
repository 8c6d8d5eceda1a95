"""The three tiers, the boundaries between them, and what each tier may write."""

from __future__ import annotations

from enum import StrEnum


class TierName(StrEnum):
    """From least to most rigorous."""

    DEVELOPMENT = "development"
    CURATION = "curation"
    EXECUTION = "execution"


PREFIX = {TierName.DEVELOPMENT: "dev", TierName.CURATION: "curated", TierName.EXECUTION: "evidence/execution"}
"""Where a tier's own repositories lie."""

BASES = "curated/base"
"""Where the internal base images are vended from."""


class Boundary(StrEnum):
    """Where trust changes hands, and a gatekeeper decides."""

    TO_CURATION = "boundary-1"
    CURATION = "curation"
    TO_EXECUTION = "boundary-2"


def development_repository(application: str) -> str:
    """Where development offers an application's images."""
    return f"{PREFIX[TierName.DEVELOPMENT]}/{application}"


def curated_repository(application: str) -> str:
    """Where curation keeps an application's images."""
    return f"{PREFIX[TierName.CURATION]}/{application}"


def evidence_repository(tier: TierName, application: str) -> str:
    """Where a tier writes what it says about an image that is not its own."""
    return f"evidence/{tier}/{application}"
