"""The evidence store: statements signed, attached as referrers, and read back only if they verify.

Every statement is a sigstore bundle in an OCI 1.1 referrer, laid out as cosign lays it out, so that
plain `cosign verify-attestation` verifies it with the tier's public key and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from supply_chain.evidence.statement import BUNDLE, Evidence, Statement, about, claimed_type, hinted, statement_in
from supply_chain.image import Digest, Frozen, ImageRef
from supply_chain.tier import TierName

PREDICATE = "dev.sigstore.bundle.predicateType"
CONTENT = "dev.sigstore.bundle.content"
CREATED = "org.opencontainers.image.created"
SIDE_BY_SIDE = 4
BEFORE_ALL = datetime.min.replace(tzinfo=UTC)

S = TypeVar("S")
R = TypeVar("R")


class Referrer(Frozen):
    """A manifest whose `subject` is an image (OCI image 1.1, "subject")."""

    digest: Digest
    artifact_type: str
    annotations: dict[str, str]


class Referrers(Protocol):
    """What the store needs of a registry."""

    def referrers(self, subject: ImageRef) -> tuple[Referrer, ...]:
        """All referrers; `RegistryFailed` if the registry cannot say."""

    def attach(self, subject: ImageRef, artifact_type: str, content: bytes, annotations: Mapping[str, str]) -> Digest:
        """Push `content` as the only layer of a referrer of `subject`; the referrer's digest."""

    def content(self, referrer: ImageRef) -> bytes:
        """The only layer of a referrer, its digest verified."""


class Signer(Protocol):
    """What the store needs of a signing tool."""

    def sign(self, statement: Statement) -> bytes:
        """A sigstore bundle of the statement, signed with the tier's own key."""

    def verifies(self, bundle: bytes, subject: ImageRef, predicate_type: str, public_key: str) -> bool:
        """Whether the key made this signature over this subject; raises where that cannot be found out."""


@dataclass(frozen=True)
class EvidenceStore:
    """One tier's view: it signs with its own key, and trusts the keys it was given."""

    tier: TierName
    referrers: Referrers
    signer: Signer
    trusted: Mapping[TierName, str]

    def attach(self, subject: ImageRef, predicate_type: str, predicate: Mapping[str, Any], now: datetime) -> Digest:
        """Sign a statement about `subject` and attach it in `subject`'s repository."""
        bundle = self.signer.sign(about(subject, predicate_type, predicate))
        annotations = {PREDICATE: predicate_type, CONTENT: "dsse-envelope", CREATED: now.isoformat()}
        return self.referrers.attach(subject, BUNDLE, bundle, annotations)

    def attach_all(
        self, subject: ImageRef, statements: Sequence[tuple[str, Mapping[str, Any]]], now: datetime
    ) -> tuple[Digest, ...]:
        """Attach several, side by side; all or an error."""
        return side_by_side(lambda s: self.attach(subject, s[0], s[1], now), statements)

    def verified(self, subject: ImageRef, signer: TierName) -> tuple[Evidence, ...]:
        """Every statement about `subject` in its repository that `signer`'s key signed, oldest first.

        What another key signed is left out, for it is not that tier's word. What the tier did sign and
        nobody can read raises `EvidenceInvalid`: it may have said no.
        """
        bundles = [
            r for r in self.referrers.referrers(subject) if r.artifact_type == BUNDLE and PREDICATE in r.annotations
        ]
        found = side_by_side(lambda r: self._verified(subject, r, signer), bundles)
        return tuple(sorted((e for e in found if e), key=lambda e: (e.attached or BEFORE_ALL, e.digest)))

    def _verified(self, subject: ImageRef, referrer: Referrer, signer: TierName) -> Evidence | None:
        bundle = self.referrers.content(subject.model_copy(update={"digest": referrer.digest}))
        predicate_type = claimed_type(bundle)
        key = self.trusted[signer]
        if predicate_type is None or not hinted(bundle, key):
            return None
        if not self.signer.verifies(bundle, subject, predicate_type, key):
            return None
        return Evidence(
            digest=referrer.digest,
            repository=subject.repository,
            statement=statement_in(bundle, subject),
            signer=signer,
            attached=_time(referrer.annotations.get(CREATED)),
        )


def _time(text: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return at if at.tzinfo else None


def side_by_side(function: Callable[[S], R], items: Sequence[S]) -> tuple[R, ...]:
    """`function` of every item, a few at a time, in order; the first error is raised."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        futures = [pool.submit(copy_context().run, function, item) for item in items]
        return tuple(future.result() for future in futures)
