"""The SLSA build level that verdicts state."""

import pytest

from supply_chain.evidence.levels import build_level, name_level
from supply_chain.evidence.provenance import BUILDER, HOSTED_BUILDER, Provenance
from supply_chain.evidence.summary import make_summary
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate

REF = ImageRef(repository="curated/hello", digest=f"sha256:{'1' * 64}")


def built(make, builder, **source):
    predicate = make.provenance()
    predicate["runDetails"]["builder"]["id"] = builder
    predicate["buildDefinition"]["externalParameters"]["source"].update(source)
    return Provenance.model_validate(predicate)


@pytest.mark.parametrize(
    ("builder", "source", "level"),
    [
        (BUILDER, {}, "SLSA_BUILD_LEVEL_1"),
        (HOSTED_BUILDER, {}, "SLSA_BUILD_LEVEL_2"),
        (HOSTED_BUILDER, {"dirty": True}, "SLSA_BUILD_LEVEL_1"),
        (HOSTED_BUILDER, {"revision": "none"}, "SLSA_BUILD_LEVEL_1"),
        (HOSTED_BUILDER, {"revision": "none", "dirty": True}, "SLSA_BUILD_LEVEL_1"),
        ("urn:cscm:tier:development", {}, "SLSA_BUILD_LEVEL_1"),
        ("https://github.com/actions/runner", {}, "SLSA_BUILD_LEVEL_1"),
    ],
)
def test_build_level_depends_on_builder_and_source(make, builder, source, level):
    """A workstation gives level 1, a hosted builder with a committed revision level 2, and nothing gives level 3."""
    assert name_level(build_level(built(make, builder, **source))) == level


def test_refusal_states_failed_in_place_of_level(make):
    """The SLSA specification of the verification summary requires it."""
    no = [{"code": "x", "fact": "f", "remedy": "r"}]
    common = {"notes": (), "inputs": (), "levels": ("SLSA_BUILD_LEVEL_2",), "now": make.noon}
    for reasons, levels in (((), ("SLSA_BUILD_LEVEL_2",)), (no, ("FAILED",))):
        statement = make_summary(REF, Gate.RELEASE, f"sha256:{'9' * 64}", reasons=reasons, **common)
        assert (statement.verified_levels, statement.slsa_version) == (levels, "1.2")
