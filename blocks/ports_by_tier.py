"""The ports of the tiers that one flow serves alike."""

from __future__ import annotations

from blocks.curation_ports import CurationPorts
from blocks.execution_ports import ExecutionPorts
from blocks.tier_ports import TierPorts

PORTS_BY_TIER: dict[str, type[TierPorts]] = {"curation": CurationPorts, "execution": ExecutionPorts}
