"""A registry for one test, as the lifecycle and curation see it; statements are signed with the test's keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.registry.client import Registry
from supply_chain.evidence.statement import SIGNATURE, SUMMARY
from supply_chain.evidence.store import EvidenceStore
from supply_chain.evidence.summary import make_summary
from supply_chain.lifecycle.decisions import DecisionPorts
from supply_chain.lifecycle.reading import RegistryReader
from supply_chain.lifecycle.rules import Rules
from supply_chain.model.image import Digest, ImageRef, StoredManifest
from supply_chain.model.tier import Gate, TierName
from tests.support.cloud import Repository
from tests.support.content import Content
from tests.support.policies import RELEASE
from tests.support.signer import EcdsaSigner


@dataclass(frozen=True)
class Shop:
    """The registry, its repositories by name, and the view of each signer."""

    ecr: Ecr
    http: Registry
    signers: dict[TierName, EcdsaSigner]
    repository: Callable[[str], Repository]

    def store(self, tier: TierName) -> EvidenceStore:
        """Return the evidence store of a tier."""
        trusted = {name: signer.public for name, signer in self.signers.items()}
        return EvidenceStore(tier, self.http, self.signers[tier], trusted, lambda: datetime.now(UTC))

    @property
    def read(self) -> RegistryReader:
        return RegistryReader(self.ecr, self.http, self.store(TierName.LIFECYCLE))

    @property
    def ports(self) -> DecisionPorts:
        return DecisionPorts(self.store(TierName.LIFECYCLE), self.ecr, self.read)


def named(repository: Repository, content: Content) -> ImageRef:
    """Return the reference of an image."""
    return ImageRef(repository=repository.name, digest=content.digest)


PLACES = ("production", "staging")
LATER = timedelta(days=400)
RULES = Rules.model_validate(
    {"name": "nightly", "floor_days": 14, "keep": {"newest": 1}, "age_out": {"superseded_days": 90},
     "limits": {"count": 100, "share": 1}}
)  # fmt: skip


def released(shop: Shop, repository: Repository, image: Content) -> StoredManifest:
    """Release the image as curation does: signature and verdict."""
    stored = next(each for each in shop.ecr.images(repository.name) if each.digest == image.digest)
    ref = named(repository, image)
    shop.store(TierName.CURATION).attach(ref, SIGNATURE, {}, stored.pushed_at)
    verdict(shop, ref, stored.pushed_at)
    return stored


def held(shop: Shop, repository: Repository) -> set[Digest]:
    return {each.digest for each in shop.ecr.images(repository.name)}


def verdict(shop: Shop, ref: ImageRef, at: datetime, reasons: Sequence[dict[str, str]] = ()) -> None:
    """Sign a verdict of the release gate: admitted if there are no reasons."""
    policy = RELEASE.digest
    statement = make_summary(ref, Gate.RELEASE, policy, reasons=reasons, notes=(), inputs=(), now=at)
    shop.store(TierName.CURATION).attach(ref, SUMMARY, statement.predicate(), at)
