"""Build the dependencies of lifecycle plans, and of decisions about an image."""

from __future__ import annotations

from blocks.tier import Tier
from blocks.workbench import Workbench
from supply_chain.lifecycle.decisions import RulingBench
from supply_chain.lifecycle.reading import Read


def present(tier: Tier, workbench: Workbench) -> Read:
    """Return a reader of the current state, as the lifecycle sees it."""
    return Read(tier.ecr, tier.http, tier.evidence(workbench), workbench.environments)


def bench(tier: Tier, workbench: Workbench) -> RulingBench:
    """Return the dependencies of signing and applying a decision."""
    return RulingBench(tier.evidence(workbench), tier.ecr, present(tier, workbench))
