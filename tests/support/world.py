"""A registry of evidence in memory, a key for every tier, and the evidence store of each tier."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.tier import TierName
from tests.support.builders import NOON
from tests.support.memory_ecr import MemoryEcr
from tests.support.memory_registry import MemoryRegistry
from tests.support.signer import EcdsaSigner


@dataclass
class World:
    """A registry, a key for every tier, and the evidence store of each tier."""

    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    signers: dict[TierName, EcdsaSigner] = field(default_factory=lambda: {tier: EcdsaSigner() for tier in TierName})
    now: datetime = NOON + timedelta(days=3650)
    """The time of the clock; it is late, so that evidence is of the future only if a test wants that."""

    @property
    def ecr(self) -> MemoryEcr:
        """The administration of the registry."""
        return MemoryEcr(self.registry)

    def store(self, tier: TierName) -> EvidenceStore:
        trusted = {name: signer.public for name, signer in self.signers.items()}
        return EvidenceStore(tier, self.registry, self.signers[tier], trusted, lambda: self.now)
