"""Build the dependencies of lifecycle plans, and of decisions about an image."""

from __future__ import annotations

from blocks.tier import Tier
from blocks.workbench import Workbench
from supply_chain.lifecycle.decisions import DecisionPorts
from supply_chain.lifecycle.reading import RegistryReader


def registry_reader(tier: Tier, workbench: Workbench) -> RegistryReader:
    """Return a reader of the current state, as the lifecycle sees it."""
    return RegistryReader(tier.ecr, tier.http, tier.evidence(workbench), workbench.environments)


def decision_ports(tier: Tier, workbench: Workbench) -> DecisionPorts:
    """Return the dependencies of signing and applying a decision."""
    return DecisionPorts(tier.evidence(workbench), tier.ecr, registry_reader(tier, workbench))
