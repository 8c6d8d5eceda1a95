"""The level of SLSA's Build track (v1.2) that a build earned, according to its provenance."""

from __future__ import annotations

from supply_chain.evidence.provenance import HOSTED_BUILDER, Provenance

LEVEL_1, LEVEL_2 = "SLSA_BUILD_LEVEL_1", "SLSA_BUILD_LEVEL_2"
FAILED = "FAILED"
"""Value in place of a level if a policy refuses the image (SLSA v1.2, "Verification Summary Attestation")."""


def build_level(built: Provenance | None) -> tuple[str, ...]:
    """Return the level that a build earned; empty without provenance. docs/explanation/slsa.md explains why.

    Provenance that development signed is level 1. Level 2 requires a hosted builder and a source that the provenance
    identifies: a commit without changes. None of our builders earns level 3.
    """
    if built is None:
        return ()
    hosted = built.run_details.builder.id == HOSTED_BUILDER
    named = not built.source.dirty and built.source.revision != "none"
    return (LEVEL_2 if hosted and named else LEVEL_1,)
