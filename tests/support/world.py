"""A registry of evidence in memory, a key for every tier, and the evidence store of each tier."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from supply_chain.evidence.store import EvidenceStore, NotEvidence, Referrer
from supply_chain.model.image import Descriptor, Digest, ImageRef
from supply_chain.model.tier import TierName
from tests.support.builders import NOON
from tests.support.signer import EcdsaSigner, digest_of


@dataclass
class MemoryReferrers:
    """The referrers of a registry: repository → digest → (subject, artifact type, content, annotations)."""

    held: dict[str, dict[Digest, tuple[Digest, str, bytes, dict[str, str]]]] = field(default_factory=dict)

    def referrers(self, subject: ImageRef) -> tuple[Referrer, ...]:
        there = self.held.get(subject.repository, {})
        return tuple(
            Referrer(digest=digest, artifact_type=kind, annotations=annotations)
            for digest, (about, kind, _, annotations) in there.items()
            if about == subject.digest
        )

    def attach(
        self,
        subject: ImageRef,
        artifact_type: str,
        content: bytes,
        annotations: Mapping[str, str],
        media_type: str | None = None,
    ) -> Digest:
        digest = digest_of(json.dumps([subject.digest, artifact_type, dict(annotations)]).encode() + content)
        there = self.held.setdefault(subject.repository, {})
        there[digest] = (subject.digest, artifact_type, content, dict(annotations))
        return digest

    def content(self, referrer: ImageRef) -> bytes:
        return self.held[referrer.repository][referrer.digest][2]

    def layer(self, referrer: ImageRef) -> Descriptor | NotEvidence:
        content = self.content(referrer)
        return Descriptor(digest=digest_of(content), size=len(content))

    def bundle(self, repository: str, digest: Digest) -> bytes | NotEvidence:
        return next(content for _, _, content, _ in self.held[repository].values() if digest_of(content) == digest)

    def change(self, repository: str, digest: Digest, content: bytes) -> None:
        """Replace content under the same digest, as a damaged or hostile registry would."""
        about, kind, _, annotations = self.held[repository][digest]
        self.held[repository][digest] = (about, kind, content, annotations)


@dataclass
class World:
    """A registry, a key for every tier, and the evidence store of each tier."""

    registry: MemoryReferrers = field(default_factory=MemoryReferrers)
    signers: dict[TierName, EcdsaSigner] = field(default_factory=lambda: {tier: EcdsaSigner() for tier in TierName})
    now: datetime = NOON + timedelta(days=3650)
    """The time of the clock; it is late, so that evidence is of the future only if a test wants that."""

    def store(self, tier: TierName) -> EvidenceStore:
        trusted = {name: signer.public for name, signer in self.signers.items()}
        return EvidenceStore(tier, self.registry, self.signers[tier], trusted, lambda: self.now)
