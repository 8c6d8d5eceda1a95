"""Adapters put together for planning and carrying out the lifecycle, and for what somebody decides about an image."""

from __future__ import annotations

from blocks.tier import Tier
from blocks.workbench import Workbench
from supply_chain.lifecycle.reading import Read
from supply_chain.lifecycle.rulings import RulingBench


def present(tier: Tier, workbench: Workbench) -> Read:
    """What is so now."""
    return Read(tier.ecr, tier.http, tier.evidence(workbench), workbench.environments)


def bench(tier: Tier, workbench: Workbench) -> RulingBench:
    """What a decision is signed and carried out with."""
    return RulingBench(tier.evidence(workbench), tier.ecr, present(tier, workbench))
