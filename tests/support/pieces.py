"""The evidence that a good image carries at each gate, one piece at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from supply_chain.evidence.checks import list_required_checks
from supply_chain.evidence.statement import (
    BUNDLE,
    ENCRYPTION,
    PROVENANCE,
    SBOM,
    SIGNATURE,
    SUMMARY,
    TEST_RESULT,
    VULNERABILITIES,
    make_image_statement,
)
from supply_chain.evidence.store import CREATED, PREDICATE
from supply_chain.evidence.summary import make_summary
from supply_chain.model.image import Digest, EncryptedImage, ImageRef, ScannedImage, StoredImage
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.facts import DeployFacts, IntakeFacts, ReleaseFacts
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.reading import read_deploy_facts, read_intake_facts, read_release_facts
from tests.support.builders import NOON
from tests.support.facts import requirements
from tests.support.policies import POLICIES
from tests.support.world import World

DEV, CURATION, EXECUTION = TierName.DEVELOPMENT, TierName.CURATION, TierName.EXECUTION
DIGEST = "sha256:" + "a" * 64
OFFERED = ImageRef(repository="dev/hello", digest=DIGEST)
CURATED = ImageRef(repository="curated/hello", digest=DIGEST)
ELSEWHERE = ImageRef(repository="evidence/curation/hello", digest=DIGEST)
KEY = "arn:aws:kms:eu-west-1:1:key/s"
BASE = ImageRef(repository="curated/base/python", digest="sha256:" + "7" * 64)
LAYERS = {CURATED: ("sha256:" + "1" * 64, "sha256:" + "2" * 64), BASE: ("sha256:" + "1" * 64,)}

Piece = tuple[TierName, str, dict[str, Any]]
"""A signer, a predicate type and a predicate."""


class Pieces:
    """What each tier signs about a good image; a test leaves one out, breaks it or attaches it."""

    def __init__(self, world: World, make: SimpleNamespace) -> None:
        self.world, self.make = world, make
        self.development: dict[str, Piece] = {
            "provenance": (DEV, PROVENANCE, make.provenance()),
            "report on the source": (DEV, VULNERABILITIES, make.report().predicate()),
            **{
                str(which): (DEV, TEST_RESULT, make.check(which).predicate())
                for which in list_required_checks("service")
            },
        }
        record = {
            "repository": "curated/hello",
            "type": "KMS",
            "key": KEY,
            "rotates": True,
            "classification": "internal",
            "verified": make.noon.isoformat(),
        }
        self.scanned: dict[str, Piece] = {
            "provenance": self.development["provenance"],
            "encryption": (CURATION, ENCRYPTION, record),
            "scan": (CURATION, VULNERABILITIES, make.report().predicate()),
            "inventory": (CURATION, SBOM, make.sbom(world.registry, CURATED, "openssl", "zlib1g")),
        }
        self.curated: dict[str, Piece] = {
            **self.scanned,
            "verdict of the intake gate": (CURATION, SUMMARY, self.verdict(Gate.INTAKE, OFFERED)),
            "verdict of curation": (CURATION, SUMMARY, self.verdict(Gate.RELEASE, CURATED)),
            "signature": (CURATION, SIGNATURE, {}),
        }

    def verdict(self, gate: Gate, ref: ImageRef, *, yes: bool = True, at: datetime | None = None) -> dict[str, Any]:
        reasons = [] if yes else [{"code": "x", "fact": "f", "remedy": "r"}]
        policy = "sha256:" + "9" * 64
        statement = make_summary(ref, gate, policy, reasons=reasons, notes=(), inputs=(), now=at or self.make.noon)
        return statement.predicate()

    def at(self, gate: Gate) -> dict[str, Piece]:
        return {
            Gate.INTAKE: self.development,
            Gate.RELEASE: self.scanned,
            Gate.DEPLOY: self.curated,
        }[gate]

    def attach(
        self,
        where: ImageRef,
        signer: TierName,
        kind: str,
        predicate: dict[str, Any],
        created: str = "2026-11-24T12:00:00+00:00",
    ) -> Digest:
        bundle = self.world.signers[signer].sign(make_image_statement(where, kind, predicate))
        return self.world.registry.attach(where, BUNDLE, bundle, {PREDICATE: kind, CREATED: created})


def where(gate: Gate) -> ImageRef:
    """The image that is judged at a gate."""
    return OFFERED if gate is Gate.INTAKE else CURATED


def scanned_image(make: SimpleNamespace) -> ScannedImage:
    stored = StoredImage(ref=CURATED, tag="t", source=make.source(), blobs=1, size=1)
    return ScannedImage(encrypted=EncryptedImage(stored=stored, key=KEY), sbom=make.other, report=make.other)


def layers(ref: ImageRef) -> tuple[Digest, ...]:
    return LAYERS[ref]


class Judged(Pieces):
    """The evidence of an image, and the gate that judges it."""

    bases: Sequence[ImageRef] = ()

    def facts(self, gate: Gate) -> IntakeFacts | ReleaseFacts | DeployFacts:
        store = self.world.store(EXECUTION)
        if gate is Gate.INTAKE:
            return read_intake_facts(OFFERED, store, (), None)
        if gate is Gate.RELEASE:
            return read_release_facts(CURATED, store, layers, self.bases, None)
        return read_deploy_facts(CURATED, requirements(), store, bases=self.bases, minimum_classification=None)

    def release(self, base: ImageRef, *packages: str) -> None:
        """Sign a base as curation, with an SBOM of these packages."""
        self.attach(base, CURATION, SIGNATURE, {})
        self.attach(base, CURATION, SBOM, self.make.sbom(self.world.registry, base, *packages))

    def judged(self, gate: Gate) -> Admitted[Any] | Refused:
        return evaluate(self.facts(gate), POLICIES.select_gate(gate), NOON)


def names(gate: Gate) -> list[str]:
    """List the evidence that a gate needs; the first test compares it with what the builder makes."""
    development = ["provenance", "report on the source", *map(str, list_required_checks("service"))]
    scanned = ["provenance", "encryption", "scan", "inventory"]
    return {
        Gate.INTAKE: development,
        Gate.RELEASE: scanned,
        Gate.DEPLOY: [*scanned, "verdict of the intake gate", "verdict of curation", "signature"],
    }[gate]


EVERY = [(gate, piece) for gate in Gate for piece in names(gate)]
