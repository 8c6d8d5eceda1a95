"""The tiers, the gates between them, and the repositories that each signer can write to."""

from __future__ import annotations

from enum import StrEnum


class TierName(StrEnum):
    """A signer: one of the three tiers, from least to most rigorous, or lifecycle, which is not a tier.

    Lifecycle moves no image forward. It decides which images are blocked or held, and archives and removes old ones.
    All tiers trust its statements.
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
"""The prefix of each tier's own repositories."""
OFFERED = f"{PREFIX[TierName.DEVELOPMENT]}/"
"""Prefix of the repositories in which development offers images."""
CURATED = f"{PREFIX[TierName.CURATION]}/"
"""Prefix of the repositories in which curation stores images."""
EVIDENCE = "evidence/"
"""Prefix of the repositories in which tiers attach evidence about images that are not their own."""

VERDICTS = "verdicts/"
"""Prefix of the repositories in which tiers publish the current verdicts of their gates."""

BY_DIGEST, OF_PLANS = "digests", "plans"
"""Repositories below `evidence/lifecycle/` for blocks by digest and for decisions about plans; reserved names."""

BASES = "curated/base"
"""Repository prefix of the internal base images that curation releases."""


def is_base_repository(repository: str) -> bool:
    """Return whether the images in this repository are bases, on which other images are built."""
    return repository.startswith(f"{BASES}/")


class Gate(StrEnum):
    """A gate, where an image passes from one tier to the next or is released."""

    INTAKE = "intake"
    RELEASE = "release"
    DEPLOY = "deploy"


def name_gate(gate: Gate, environment: str = "") -> str:
    """Return the name of a gate for people; the deploy gate's includes the environment."""
    return f"{gate} gate for {environment}" if environment else f"{gate} gate"


JUDGE = {
    Gate.INTAKE: TierName.CURATION,
    Gate.RELEASE: TierName.CURATION,
    Gate.DEPLOY: TierName.EXECUTION,
}
"""The tier that signs the verdicts of each gate."""
CURATION_GATES = (Gate.INTAKE, Gate.RELEASE)
"""The gates of curation, in the order in which an image passes them. Their verdicts count for every environment."""


def name_development_repository(application: str) -> str:
    """Return the repository in which development offers an application's images."""
    return f"{OFFERED}{application}"


def name_curated_repository(application: str) -> str:
    """Return the repository in which curation stores an application's images."""
    return f"{CURATED}{application}"


def name_evidence_repository(tier: TierName, application: str) -> str:
    """Return the repository in which a tier attaches evidence about an application's image that is not its own."""
    return f"{EVIDENCE}{tier}/{application}"


def name_verdict_repository(gate: Gate, application: str, environment: str = "") -> str:
    """Return the repository of a gate's current verdicts about an application's images, at most one for each image.

    The deploy gate has one for each environment. Only the tier of the gate writes there.
    """
    return f"{VERDICTS}{gate}/{environment}/{application}" if environment else f"{VERDICTS}{gate}/{application}"
