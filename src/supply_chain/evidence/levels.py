"""Which level of SLSA's Build track (v1.2) a build has earned, from what its provenance says."""

from __future__ import annotations

from supply_chain.evidence.provenance import HOSTED_BUILDER, Provenance

LEVEL_1, LEVEL_2 = "SLSA_BUILD_LEVEL_1", "SLSA_BUILD_LEVEL_2"
FAILED = "FAILED"
"""Stands in place of a level where a policy refuses (SLSA v1.2, "Verification Summary Attestation")."""


def build_level(built: Provenance | None) -> tuple[str, ...]:
    """Return the level that a build earned; empty without provenance. docs/explanation/slsa.md says why.

    Provenance that development signed is level 1. Level 2 asks for a hosted builder, and for a source that the
    provenance names: a commit, with nothing changed. No builder of ours earns level 3.
    """
    if built is None:
        return ()
    hosted = built.run_details.builder.id == HOSTED_BUILDER
    named = not built.source.dirty and built.source.revision != "none"
    return (LEVEL_2 if hosted and named else LEVEL_1,)
