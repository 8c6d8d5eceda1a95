"""The images of an application in an in-memory registry, and an inventory in a file."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supply_chain.adapters.database import open_inventory
from supply_chain.evidence.statement import BUNDLE, SBOM, SUMMARY
from supply_chain.execution.deployment import Deployment, DockerPlace
from supply_chain.execution.records import record
from supply_chain.fleet.gate_facts import FactsReader
from supply_chain.fleet.image import FleetImage
from supply_chain.fleet.reconcile import ReconcileResult, refresh
from supply_chain.model.container import make_profile
from supply_chain.model.declaration import Probe
from supply_chain.model.image import Digest, ImageRef
from supply_chain.model.tier import Gate, TierName, name_curated_repository
from supply_chain.policy.names import Holder
from supply_chain.policy.people import People
from tests.support.builders import NOON
from tests.support.facts import requirements
from tests.support.new_inventory import new_inventory
from tests.support.pieces import CURATED, Piece, Pieces
from tests.support.world import World


class Fleet:
    """A registry, its evidence and an inventory of it."""

    registered: Holder | None = None
    """Who holds the names of all applications in the register."""

    def __init__(self, world: World, make: SimpleNamespace, address: str) -> None:
        self.world, self.make, self.pieces = world, make, Pieces(world, make)
        self.registry, self.inventory = world.ecr, open_inventory(address)
        self.store = world.store(TierName.EXECUTION)

    def curated(
        self,
        digest: Digest = CURATED.digest,
        application: str = "hello",
        without: Collection[str] = (),
        **changes: Any,
    ) -> ImageRef:
        """Add a good image with all its evidence, but for the pieces in `without`."""
        ref = ImageRef(repository=f"curated/{application}", digest=digest)
        self.add(ref, pushed_at=changes.pop("at", self.make.noon), **changes)
        curation, verdict = TierName.CURATION, self.pieces.verdict
        own: dict[str, Piece] = {
            "inventory": (curation, SBOM, self.make.sbom(self.world.registry, ref, "openssl", "zlib1g")),
            "verdict of the intake gate": (curation, SUMMARY, verdict(Gate.INTAKE, ref)),
            "verdict of curation": (curation, SUMMARY, verdict(Gate.RELEASE, ref)),
        }
        for name, piece in {**self.pieces.development, **self.pieces.curated, **own}.items():
            if name not in without:
                self.say(ref, *piece)
        return ref

    def add(self, ref: ImageRef, **facts: Any) -> None:
        """List a manifest in the registry."""
        self.world.registry.add(ref, **{"tags": ("v1",), "pushed_at": self.make.noon, "size": 1_500_000, **facts})

    def remove(self, ref: ImageRef) -> None:
        """Remove a manifest from the registry; its referrers stay."""
        self.world.registry.remove(ref)

    def say(self, ref: ImageRef, signer: TierName, kind: str, predicate: dict[str, Any]) -> Digest:
        return self.pieces.attach(ref, signer, kind, predicate)

    def deploy(
        self, ref: ImageRef, environment: str = "staging", at: datetime | None = None, container: str = "c" * 64
    ) -> None:
        ready = Deployment(
            environment=environment, application=ref.application, digest=ref.digest, container=container,
            name=f"{environment}-{ref.application}",
            place=DockerPlace(reverse_proxy="f" * 64, proxy=ref.digest, address="127.0.0.1", port=1),
            probe=Probe(port=8080), settings={}, profile=make_profile(self.make.declaration().runtime),
            configuration=ref.digest, changed=True, started_at=self.make.noon,
        )  # fmt: skip
        record(ready, ref, self.store, at or self.make.noon + timedelta(hours=1))

    def refresh(self, application: str = "hello") -> ReconcileResult:
        return refresh(application, self.registry, self.store, self.inventory, lambda _: "laptop", self.registered)

    @property
    def reader(self) -> FactsReader:
        """What reads the facts of the gates: no base, and environments that take every released image."""
        return FactsReader(
            self.store, lambda ref: (), lambda: (), self._curated, lambda _: self.registered,
            lambda _: self.registered.classification if self.registered else None, requirements, People(),
            lambda: NOON,
        )  # fmt: skip

    def _curated(self, application: str) -> list[ImageRef]:
        repository = name_curated_repository(application)
        return [ImageRef(repository=repository, digest=each.digest) for each in self.registry.images(repository)]

    def spoil(self, ref: ImageRef) -> None:
        """Attach a statement to the image that curation signed and nobody can read."""
        bundle = self.world.signers[TierName.CURATION].sign_bytes(b"no statement")
        self.world.registry.attach(ref, BUNDLE, bundle, {"dev.sigstore.bundle.predicateType": "x"})

    @property
    def images(self) -> list[FleetImage]:
        return list(self.inventory.images())


@pytest.fixture
def fleet(world: World, make: SimpleNamespace, tmp_path: Path) -> Fleet:
    return Fleet(world, make, new_inventory(tmp_path / "inventory.db"))
