"""The level of SLSA's Build track (v1.2) that a build earned, according to its provenance."""

from __future__ import annotations

from supply_chain.evidence.provenance import HOSTED_BUILDER, Provenance

FAILED = "FAILED"
"""Value in place of a level if a policy refuses the image (SLSA v1.2, "Verification Summary Attestation")."""


def build_level(built: Provenance) -> int:
    """Return the level that a build earned. docs/explanation/slsa.md explains why.

    Provenance that development signed is level 1. Level 2 requires a hosted builder and a source that the provenance
    identifies: a commit without changes. None of our builders earns level 3.
    """
    hosted = built.run_details.builder.id == HOSTED_BUILDER
    named = not built.source.dirty and built.source.revision != "none"
    return 2 if hosted and named else 1


def name_level(level: int) -> str:
    """Return how a verification summary names a level of the Build track."""
    return f"SLSA_BUILD_LEVEL_{level}"
