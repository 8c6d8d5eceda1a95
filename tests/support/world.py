"""A registry of evidence in memory, a key for every tier, and the evidence store of each tier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from supply_chain.evidence.published import PublishedVerdicts
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.tier import JUDGE, TierName
from tests.support.builders import NOON
from tests.support.memory_ecr import MemoryEcr
from tests.support.memory_registry import MemoryRegistry
from tests.support.signer import EcdsaSigner


@dataclass
class World:
    """A registry, a key for every tier, and the evidence store of each tier."""

    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    signers: dict[TierName, EcdsaSigner] = field(default_factory=lambda: {tier: EcdsaSigner() for tier in TierName})
    verdict_signers: dict[TierName, EcdsaSigner] = field(
        default_factory=lambda: {tier: EcdsaSigner() for tier in set(JUDGE.values())}
    )
    now: datetime = NOON + timedelta(days=3650)
    """The time of the clock; it is late, so that evidence is of the future only if a test wants that."""

    @property
    def ecr(self) -> MemoryEcr:
        """The administration of the registry."""
        return MemoryEcr(self.registry)

    def store(self, tier: TierName) -> EvidenceStore:
        judges = tier in self.verdict_signers
        publisher = PublishedVerdicts(self.verdict_store(tier), self.ecr) if judges else None
        return replace(self._store(tier, self.signers), publisher=publisher)

    def verdict_store(self, tier: TierName) -> EvidenceStore:
        """Return the published verdicts as a tier sees them; it signs with its verdict key."""
        return self._store(tier, self.verdict_signers)

    def _store(self, tier: TierName, signers: Mapping[TierName, EcdsaSigner]) -> EvidenceStore:
        trusted = {name: signer.public for name, signer in signers.items()}
        return EvidenceStore(tier, self.registry, signers[tier], trusted, lambda: self.now)
