"""The evidence store: statements signed, attached as referrers, and read back only if they verify.

Every statement is a sigstore bundle in an OCI 1.1 referrer, laid out as cosign lays it out, so that
plain `cosign verify-attestation` verifies it with the tier's public key and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Protocol

from supply_chain.concurrency import SIDE_BY_SIDE, side_by_side
from supply_chain.errors import EvidenceFlooded, EvidenceInvalid
from supply_chain.evidence.clock import refuse_the_future
from supply_chain.evidence.envelope import Key, envelope_in, keys_of
from supply_chain.evidence.statement import BUNDLE, Evidence, Statement, about, is_about, read_statement
from supply_chain.model.image import Descriptor, Digest, Frozen, ImageRef
from supply_chain.model.tier import EVIDENCE, TierName

PREDICATE = "dev.sigstore.bundle.predicateType"
CONTENT = "dev.sigstore.bundle.content"
CREATED = "org.opencontainers.image.created"
MOST, MOST_BYTES = 20_000, 1024 * 1024 * 1024
"""How many pieces attached to one image that are no evidence are read, and bytes of them: whoever may push there can
attach any number, and reading them takes a registry's time from others."""
PART = 500
"""Pieces that are read before they are counted."""
BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


class Referrer(Frozen):
    """A manifest whose `subject` is an image (OCI image 1.1, "subject")."""

    digest: Digest
    artifact_type: str
    annotations: dict[str, str]


class NotEvidence(Frozen):
    """What somebody attached and is no evidence, read whole and looked at: it is left out."""

    why: str


STRANGE = NotEvidence(why="not signed by a tier that is trusted here")


class Referrers(Protocol):
    """What the store needs of a registry. Whatever cannot be read raises; it is never taken for missing."""

    def referrers(self, subject: ImageRef) -> tuple[Referrer, ...]:
        """All referrers; `RegistryFailed` if the registry cannot say."""

    def attach(self, subject: ImageRef, artifact_type: str, content: bytes, annotations: Mapping[str, str]) -> Digest:
        """Push `content` as the only layer of a referrer of `subject`; the referrer's digest."""

    def content(self, referrer: ImageRef) -> bytes:
        """The only layer of a referrer that has to be there, its digest verified."""

    def layer(self, referrer: ImageRef) -> Descriptor | NotEvidence:
        """The only layer of a referrer of unknown origin."""

    def bundle(self, repository: str, digest: Digest) -> bytes | NotEvidence:
        """A layer's content, its digest verified."""


class Signer(Protocol):
    """What the store needs of a signing tool."""

    def sign(self, statement: Statement) -> bytes:
        """A sigstore bundle of the statement, signed with the tier's own key."""


@dataclass(frozen=True)
class Reading:
    """What is attached to an image, read once: what each tier signed, and why the rest does not count."""

    subject: ImageRef
    evidence: tuple[Evidence, ...]
    left_out: tuple[NotEvidence, ...] = ()

    def by(self, signer: TierName) -> tuple[Evidence, ...]:
        """What one tier signed, oldest first."""
        return tuple(e for e in self.evidence if e.signer == signer)

    def notes(self) -> tuple[str, ...]:
        """A sentence about what does not count; none where all does."""
        if not self.left_out:
            return ()
        counts = Counter(each.why for each in self.left_out).most_common()
        reasons = "; ".join(f"{number} × {why}" for why, number in counts)
        where = f"{self.subject.repository}@{self.subject.short}"
        return (f"left out {len(self.left_out)} of what is attached to {where}: {reasons}",)


@dataclass(frozen=True)
class _Signed:
    """A statement that trusted tiers signed, and the bytes of the bundle around it."""

    statement: Statement
    signers: tuple[TierName, ...]
    size: int


@dataclass(frozen=True)
class EvidenceStore:
    """One tier's view: it signs with its own key, and trusts the keys it was given. `now` is the clock.

    `trusted` has for each tier its public key in PEM, and after it any that it had before.
    Of an image so many pieces are read at a time as `wide` says: one, where many images are read side by side.
    Of pieces that are no evidence at most `most` are read.
    """

    tier: TierName
    referrers: Referrers
    signer: Signer
    trusted: Mapping[TierName, str]
    now: Callable[[], datetime]
    wide: int = SIDE_BY_SIDE
    most: int = MOST

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

    def verified(self, subject: ImageRef, signer: TierName, *types: str) -> tuple[Evidence, ...]:
        """Every statement about `subject` in its repository that `signer`'s key signed, oldest first.

        With predicate `types`, those alone; the others are not even fetched.
        """
        return self.read(subject, *types).by(signer)

    def read(self, subject: ImageRef, *types: str) -> Reading:
        """Everything about `subject` in its repository that a trusted key signed, of these `types` if any are named.

        Whoever may push can attach anything: what no trusted key signed, or is about another image, is
        left out as if it were not there. What a tier did sign and nobody can read raises
        `EvidenceInvalid`, for it may have said no; so does what no trusted key signed in a repository for
        evidence, where a tier alone may push: a key that it had before may have signed it. What is signed in the
        future raises `ClockWrong`; what the registry does not give raises its errors. More that does not count than
        is read raises `EvidenceFlooded`.
        """
        attached = sorted(
            (r for r in self.referrers.referrers(subject) if r.artifact_type == BUNDLE and _filed(r, types)),
            key=lambda r: (_attached(r) or BEFORE_ALL, r.digest),
        )
        reading = _reading(subject, self._weigh(subject, attached))
        refuse_the_future(reading.evidence, self.now())
        return reading

    def _weigh(
        self, subject: ImageRef, attached: Sequence[Referrer]
    ) -> tuple[tuple[Referrer, _Signed | NotEvidence], ...]:
        """Read referrers in parts; raise `EvidenceFlooded` when too much of what was read is no evidence."""
        weighed: list[tuple[Referrer, _Signed | NotEvidence]] = []
        opened: dict[Digest, _Signed | NotEvidence] = {}
        counted: set[tuple[tuple[TierName, ...], bytes]] = set()
        read = 0
        for part in (attached[start : start + PART] for start in range(0, len(attached), PART)):
            layers = side_by_side(lambda r: self.referrers.layer(subject.beside(r.digest)), part, self.wide)
            digests = sorted({layer.digest for layer in layers if isinstance(layer, Descriptor)} - opened.keys())
            contents = side_by_side(lambda d: self._opened(subject.repository, d), digests, self.wide)
            opened |= {digest: found for digest, (found, _) in zip(digests, contents, strict=True)}
            read += sum(size for found, size in contents if isinstance(found, NotEvidence))
            weighed += [(r, _weighed(subject, r, layer, opened)) for r, layer in zip(part, layers, strict=True)]
            counted |= {(s.signers, s.statement.bytes()) for _, s in weighed[-len(part) :] if isinstance(s, _Signed)}
            if len(weighed) - len(counted) > self.most or read > MOST_BYTES:
                raise _flooded(subject, len(weighed) - len(counted), read)
        return tuple(weighed)

    @cached_property
    def _keys(self) -> tuple[tuple[TierName, Key], ...]:
        return tuple((tier, key) for tier, pem in self.trusted.items() for key in keys_of(pem, tier))

    def _opened(self, repository: str, digest: Digest) -> tuple[_Signed | NotEvidence, int]:
        """What a bundle says and who signed it, and its bytes; read once, however many referrers name it."""
        bundle = self.referrers.bundle(repository, digest)
        if isinstance(bundle, NotEvidence):
            return bundle, 0
        return self._signed(bundle, f"{repository}@{digest}"), len(bundle)

    def _signed(self, bundle: bytes, where: str) -> _Signed | NotEvidence:
        envelope = envelope_in(bundle)
        if envelope is None:
            return NotEvidence(why="no signed statement")
        signed_by = next((key for _, key in self._keys if envelope.signed_by(key)), None)
        signers = tuple(tier for tier, key in self._keys if key == signed_by)
        if not signers:
            return STRANGE
        return _Signed(read_statement(envelope, where), signers, len(bundle))


def _filed(referrer: Referrer, types: Collection[str]) -> bool:
    """Whether it says to be of a predicate type, and of one of these; that the statement is too is seen in it."""
    filed = referrer.annotations.get(PREDICATE)
    return filed is not None and (not types or filed in types)


def _weighed(
    subject: ImageRef,
    referrer: Referrer,
    layer: Descriptor | NotEvidence,
    opened: Mapping[Digest, _Signed | NotEvidence],
) -> _Signed | NotEvidence:
    """What is signed, unless it is filed where it does not belong: anybody can attach another's statement."""
    if isinstance(layer, NotEvidence):
        return layer
    signed = opened[layer.digest]
    if isinstance(signed, NotEvidence):
        return signed
    if signed.size != layer.size:
        return NotEvidence(why="not as large as its manifest says")
    if not is_about(signed.statement, subject):
        return NotEvidence(why="about another image")
    if referrer.annotations[PREDICATE] != signed.statement.predicate_type:
        return NotEvidence(why="of another type than it is filed under")
    return signed


def _reading(subject: ImageRef, weighed: Iterable[tuple[Referrer, _Signed | NotEvidence]]) -> Reading:
    """Every statement of a tier counts once, however often it is attached."""
    evidence: list[Evidence] = []
    left_out: list[NotEvidence] = []
    known: set[tuple[tuple[TierName, ...], bytes]] = set()
    for referrer, signed in weighed:
        if signed is STRANGE and subject.repository.startswith(EVIDENCE):
            raise _of_nobody(subject.beside(referrer.digest))
        if isinstance(signed, NotEvidence):
            left_out.append(signed)
        elif (said := (signed.signers, signed.statement.bytes())) in known:
            left_out.append(NotEvidence(why="attached more than once"))
        else:
            known.add(said)
            evidence += [_evidence(subject, referrer, signed.statement, tier) for tier in signed.signers]
    return Reading(subject, tuple(evidence), tuple(left_out))


def _flooded(subject: ImageRef, pieces: int, read: int) -> EvidenceFlooded:
    return EvidenceFlooded(
        f"{pieces} pieces attached to {subject} ({read // 1024 // 1024} MiB) are no evidence, and no more are read.\n"
        "Find out who attached them, and have an administrator remove them; then run the step again."
    )


def _of_nobody(statement: ImageRef) -> EvidenceInvalid:
    return EvidenceInvalid(
        f"No key that is trusted here signed {statement}, and one tier alone may push there: it may say no.\n"
        "Where that tier's key was changed, add the one before it after the new one, in the trusted keys of the tiers' "
        "blocks. Otherwise find out who wrote it, and have an administrator remove it."
    )


def _evidence(subject: ImageRef, referrer: Referrer, statement: Statement, signer: TierName) -> Evidence:
    return Evidence(
        digest=referrer.digest,
        repository=subject.repository,
        statement=statement,
        signer=signer,
        attached=_attached(referrer),
    )


def _attached(referrer: Referrer) -> datetime | None:
    """When its writer says that it attached a referrer."""
    try:
        at = datetime.fromisoformat(referrer.annotations.get(CREATED, ""))
    except ValueError:
        return None
    return at if at.tzinfo else None
