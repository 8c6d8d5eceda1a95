"""The evidence store: it signs statements, attaches them as referrers, and returns only those that verify.

Every statement is a sigstore bundle in an OCI 1.1 referrer, in the same layout as cosign's. Plain
`cosign verify-attestation` verifies it with the tier's public key alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any, Protocol

from supply_chain.concurrency import SIDE_BY_SIDE, map_concurrently
from supply_chain.errors import EvidenceInvalid, TooManyReferrers
from supply_chain.evidence.attached_statement import AttachedStatement, read_attached_statement
from supply_chain.evidence.clock import refuse_the_future
from supply_chain.evidence.envelope import Envelope, Key, parse_envelope, parse_keys
from supply_chain.evidence.statement import (
    BUNDLE,
    Statement,
    VerifiedStatement,
    is_about,
    make_image_statement,
    names_digest,
    read_statement,
)
from supply_chain.model.image import Descriptor, Digest, ImageRef, Model
from supply_chain.model.registry_ports import Attacher, ContentReader
from supply_chain.model.tier import CURATED, EVIDENCE, TierName

PREDICATE = "dev.sigstore.bundle.predicateType"
CONTENT = "dev.sigstore.bundle.content"
CREATED = "org.opencontainers.image.created"
MOST, MOST_BYTES = 20_000, 1024 * 1024 * 1024
"""Maximum number of referrers of one image that are read although they are not evidence, and of their bytes. Anybody
who can push there can attach any number, and reading them slows the registry down for others."""
MOST_ATTACHED = 200
"""Maximum number of VEX documents and provenances of one image that no tier signed. They are read only in curated
repositories, where only curation pushes: no gate uses others, and their content stays in memory, unlike other content
of nobody."""
PART = 500
"""Number of referrers that are read before they are counted."""
PART_BYTES = 16 * 1024 * 1024
"""Number of bytes that are read before they are counted, unless one content is larger."""
BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


class Referrer(Model):
    """A manifest whose `subject` is an image (OCI image 1.1, "subject")."""

    digest: Digest
    artifact_type: str
    annotations: dict[str, str]


class NotEvidence(Model):
    """A referrer that was read and is not evidence; it is left out for the reason `why`."""

    why: str


STRANGE = NotEvidence(why="not signed by a tier that is trusted here")
LOST = NotEvidence(why="without their content in the registry")


class ReferrerLister(Protocol):
    """Lists referrers."""

    def referrers(self, subject: ImageRef) -> tuple[Referrer, ...]:
        """Return all referrers of an image.

        Raise `RegistryFailed` if the registry cannot list them, and `EvidenceInvalid` if its list cannot be read.
        """


class Referrers(ReferrerLister, Attacher, ContentReader, Protocol):
    """What the store needs from a registry. Content that cannot be read is an error and never counts as missing."""

    def layer(self, referrer: ImageRef) -> Descriptor | NotEvidence:
        """Return the descriptor of the only layer of a referrer of unknown origin."""

    def bundle(self, repository: str, digest: Digest) -> bytes | NotEvidence:
        """Return the content of a layer, with its digest verified."""


class ListedOnce:
    """The referrers of a registry for one decision: lists and manifests are not read again.

    What is attached after the first reading is not read. Content is not remembered: anybody can push it, and it may be
    large.
    """

    def __init__(self, referrers: Referrers) -> None:
        self.referrers = cache(referrers.referrers)
        self.layer = cache(referrers.layer)
        self.content = referrers.content
        self.bundle = referrers.bundle
        self.attach = referrers.attach


class Signer(Protocol):
    """What the store needs from a signing tool."""

    def sign(self, statement: Statement) -> bytes:
        """Return a sigstore bundle of the statement, signed with the tier's own key."""


class Publisher(Protocol):
    """Publishes the verdicts of a tier's gates where others read them."""

    def prepare(self, ref: ImageRef, predicate: Mapping[str, Any], now: datetime) -> Callable[[], None]:
        """Sign a verdict about an image for others, and return the function that makes it the current one."""

    def find_newer_opposite(self, ref: ImageRef, predicate: Mapping[str, Any]) -> datetime | None:
        """Return the time of the published verdict if it is later than this one and says the opposite of an image."""

    def admits(self, ref: ImageRef, predicate: Mapping[str, Any], now: datetime) -> bool:
        """Return whether what is published for the gate and the environment of this verdict admits the image now."""


@dataclass(frozen=True)
class Reading:
    """What is attached to an image: the statements that each tier signed, and what was left out for which reason."""

    subject: ImageRef
    evidence: tuple[VerifiedStatement, ...]
    left_out: tuple[NotEvidence, ...] = ()
    attached: tuple[AttachedStatement, ...] = ()
    """VEX documents and provenance of the image that no tier signed; perhaps an issuer or a builder did."""

    def list_signed_by(self, signer: TierName) -> tuple[VerifiedStatement, ...]:
        """Return the statements that one tier signed, oldest first."""
        return tuple(e for e in self.evidence if e.signer == signer)

    def notes(self) -> tuple[str, ...]:
        """Return one sentence about what was left out; empty if nothing was."""
        if not self.left_out:
            return ()
        counts = Counter(each.why for each in self.left_out).most_common()
        reasons = "; ".join(f"{number} × {why}" for why, number in counts)
        where = f"{self.subject.repository}@{self.subject.short}"
        return (f"left out {len(self.left_out)} of what is attached to {where}: {reasons}",)


@dataclass(frozen=True)
class _Signed:
    """A statement that trusted tiers signed, and the size of its bundle in bytes."""

    statement: Statement
    signers: tuple[TierName, ...]
    size: int

    @cached_property
    def identity(self) -> tuple[tuple[TierName, ...], bytes]:
        """The signed content; two bundles of it may differ in what is not signed."""
        return self.signers, self.statement.bytes()


@dataclass(frozen=True)
class _Attached(_Signed):
    """A VEX document or provenance, which no tier signed."""

    envelope: Envelope


@dataclass(frozen=True)
class EvidenceStore:
    """The evidence as one tier sees it: it signs with its own key and trusts the keys that it was given.

    `trusted` has for each tier its public key in PEM, followed by its earlier ones. `now` is the clock. `wide` is the
    number of referrers of an image that are read at a time; it is 1 where many images are read concurrently. `most` is
    the maximum number of referrers that are read although they are not evidence. `publisher` publishes the verdicts of
    the tier's gates; a tier without a gate has none.
    """

    tier: TierName
    referrers: Referrers
    signer: Signer
    trusted: Mapping[TierName, str]
    now: Callable[[], datetime]
    wide: int = SIDE_BY_SIDE
    most: int = MOST
    most_bytes: int = MOST_BYTES
    publisher: Publisher | None = None
    explain_uncounted: Callable[[ImageRef, VerifiedStatement], str] = lambda _subject, _statement: ""
    """Returns why a statement about a subject does not count although a trusted key signed it; empty if it counts."""

    def list_once(self) -> EvidenceStore:
        """Return this store for one decision, as `ListedOnce` describes."""
        return replace(self, referrers=ListedOnce(self.referrers))

    def attach(self, subject: ImageRef, predicate_type: str, predicate: Mapping[str, Any], now: datetime) -> Digest:
        """Sign a statement about `subject`, attach it in `subject`'s repository and return the referrer's digest."""
        return self.attach_signed(subject, predicate_type, self.sign(subject, predicate_type, predicate), now)

    def sign(self, subject: ImageRef, predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
        """Return a signed statement about `subject`, as a bundle."""
        return self.signer.sign(make_image_statement(subject, predicate_type, predicate))

    def attach_signed(self, subject: ImageRef, predicate_type: str, bundle: bytes, now: datetime) -> Digest:
        """Attach a signed statement in `subject`'s repository and return the referrer's digest."""
        annotations = {PREDICATE: predicate_type, CONTENT: "dsse-envelope", CREATED: now.isoformat()}
        return self.referrers.attach(subject, BUNDLE, bundle, annotations)

    def attach_all(
        self, subject: ImageRef, statements: Sequence[tuple[str, Mapping[str, Any]]], now: datetime
    ) -> tuple[Digest, ...]:
        """Attach several statements concurrently and return their digests; raise if any cannot be attached."""
        return map_concurrently(lambda s: self.attach(subject, s[0], s[1], now), statements)

    def read_verified(self, subject: ImageRef, signer: TierName, *types: str) -> tuple[VerifiedStatement, ...]:
        """Return the statements about `subject` in its repository that `signer`'s key signed, oldest first.

        If predicate `types` are given, others are neither returned nor fetched.
        """
        return self.read(subject, *types).list_signed_by(signer)

    def read(self, subject: ImageRef, *types: str) -> Reading:
        """Return the statements about `subject` in its repository that trusted keys signed.

        If predicate `types` are given, others are left out.

        Anybody who can push can attach anything. What no trusted key signed, or what is about another image, is left
        out as if it did not exist; VEX documents and provenance of others are returned apart. Errors:

        - `EvidenceInvalid` for a statement that a tier signed and that cannot be read, because it may be a refusal;
        - `EvidenceInvalid` for content without a trusted signature in a repository for evidence: only one tier can push
          there, and it may have used an earlier key;
        - `ClockWrong` for a signed time in the future;
        - `TooManyReferrers` if more that is not evidence is attached than is read;
        - the registry's errors for what it does not return.
        """
        attached = sorted(
            (r for r in self.referrers.referrers(subject) if r.artifact_type == BUNDLE and _filed(r, types)),
            key=lambda r: (_attached(r) or BEFORE_ALL, r.digest),
        )
        reading = _reading(subject, self._weigh(subject, attached))
        refuse_the_future(reading.evidence, self.now())
        why = {each.digest: self.explain_uncounted(subject, each) for each in reading.evidence}
        return replace(
            reading,
            evidence=tuple(each for each in reading.evidence if not why[each.digest]),
            left_out=(*reading.left_out, *(NotEvidence(why=each) for each in why.values() if each)),
        )

    def _weigh(
        self, subject: ImageRef, attached: Sequence[Referrer]
    ) -> tuple[tuple[Referrer, _Signed | NotEvidence], ...]:
        """Read referrers in parts; raise `TooManyReferrers` if too many or too large ones are not evidence."""
        weighed: list[tuple[Referrer, _Signed | NotEvidence]] = []
        opened: dict[Digest, _Signed | NotEvidence] = {}
        statements: set[tuple[tuple[TierName, ...], bytes]] = set()
        counted: set[tuple[tuple[TierName, ...], bytes]] = set()
        read = 0
        number = min(PART, self.most + 1)
        for part in (attached[start : start + number] for start in range(0, len(attached), number)):
            layers = map_concurrently(lambda r: self.referrers.layer(subject.with_digest(r.digest)), part, self.wide)
            sizes = {layer.digest: layer.size for layer in layers if isinstance(layer, Descriptor)}
            new, most = sorted(sizes.keys() - opened.keys()), min(PART_BYTES, self.most_bytes)
            for digests in _split_by_size({digest: sizes[digest] for digest in new}, most, self.wide):
                contents = map_concurrently(lambda d: self._opened(subject.repository, d), digests, self.wide)
                for digest, (content, size) in zip(digests, contents, strict=True):
                    opened[digest] = content
                    if isinstance(content, NotEvidence | _Attached) or content.identity in statements:
                        read += size
                    else:
                        statements.add(content.identity)
                if read > self.most_bytes:
                    raise _too_many_referrers(subject, len(opened) - len(statements), read)
            weighed += [(r, _weighed(subject, r, layer, opened)) for r, layer in zip(part, layers, strict=True)]
            counted |= {signed.identity for _, signed in weighed[-len(part) :] if isinstance(signed, _Signed)}
            others = sum(isinstance(content, _Attached) for _, content in weighed)
            if len(weighed) - len(counted) > self.most or others > MOST_ATTACHED:
                raise _too_many_referrers(subject, len(weighed) - len(counted), read)
        return tuple(weighed)

    @cached_property
    def _keys(self) -> tuple[tuple[TierName, Key], ...]:
        return tuple((tier, key) for tier, pem in self.trusted.items() for key in parse_keys(pem, tier))

    def _opened(self, repository: str, digest: Digest) -> tuple[_Signed | NotEvidence, int]:
        """Return the statement and the signers of a bundle, and its size in bytes.

        A bundle is read once, however many referrers have it.
        """
        bundle = self.referrers.bundle(repository, digest)
        if isinstance(bundle, NotEvidence):
            return bundle, 0
        return self._signed(bundle, f"{repository}@{digest}"), len(bundle)

    def _signed(self, bundle: bytes, where: str) -> _Signed | NotEvidence:
        envelope = parse_envelope(bundle)
        if envelope is None:
            return NotEvidence(why="no signed statement")
        signed_by = next((key for _, key in self._keys if envelope.is_signed_by(key)), None)
        signers = tuple(tier for tier, key in self._keys if key == signed_by)
        if not signers:
            statement = read_attached_statement(envelope) if where.startswith(CURATED) else None
            return STRANGE if statement is None else _Attached(statement, (), len(bundle), envelope)
        return _Signed(read_statement(envelope, where), signers, len(bundle))


def _split_by_size(sizes: Mapping[Digest, int], most: int, wide: int) -> Iterator[list[Digest]]:
    """Yield these digests in parts of at most `most` bytes, by the sizes that manifests state, or of one digest.

    Manifests may state less, so that a part has at most `wide` digests.
    """
    part, room = list[Digest](), most
    for digest, size in sizes.items():
        if part and (size > room or len(part) == wide):
            yield part
            part, room = [], most
        part.append(digest)
        room -= size
    if part:
        yield part


def _filed(referrer: Referrer, types: Collection[str]) -> bool:
    """Return whether the referrer's annotation names a predicate type, and one of `types` if any are given.

    Whether the statement has this type is checked later.
    """
    filed = referrer.annotations.get(PREDICATE)
    return filed is not None and (not types or filed in types)


def _weighed(
    subject: ImageRef,
    referrer: Referrer,
    layer: Descriptor | NotEvidence,
    opened: Mapping[Digest, _Signed | NotEvidence],
) -> _Signed | NotEvidence:
    """Return the signed statement, or why it does not count: anybody can attach a statement about another image."""
    if isinstance(layer, NotEvidence):
        return layer
    signed = opened[layer.digest]
    if isinstance(signed, NotEvidence):
        return signed
    if signed.size != layer.size:
        return NotEvidence(why="not as large as its manifest says")
    if not _is_about(signed, subject):
        return NotEvidence(why="about another image")
    if referrer.annotations[PREDICATE] != signed.statement.predicate_type:
        return NotEvidence(why="of another type than it is filed under")
    return signed


def _is_about(signed: _Signed, subject: ImageRef) -> bool:
    """Return whether a statement is about an image; others name it as they like, and the digest decides."""
    if isinstance(signed, _Attached):
        return any(names_digest(each, subject.digest) for each in signed.statement.subject)
    return is_about(signed.statement, subject)


def _reading(subject: ImageRef, weighed: Iterable[tuple[Referrer, _Signed | NotEvidence]]) -> Reading:
    """Return the reading, with each statement of a tier once, however often it is attached."""
    evidence: list[VerifiedStatement] = []
    left_out: list[NotEvidence] = []
    attached: list[AttachedStatement] = []
    identities: set[tuple[tuple[TierName, ...], bytes]] = set()
    for referrer, signed in weighed:
        if subject.repository.startswith(EVIDENCE):
            _refuse_unread(signed, subject.with_digest(referrer.digest))
        if isinstance(signed, NotEvidence):
            left_out.append(signed)
        elif isinstance(signed, _Attached):
            attached.append(
                AttachedStatement(
                    repository=subject.repository,
                    digest=referrer.digest,
                    statement=signed.statement,
                    envelope=signed.envelope,
                )
            )
        elif signed.identity in identities:
            left_out.append(NotEvidence(why="attached more than once"))
        else:
            identities.add(signed.identity)
            evidence += [_evidence(subject, referrer, signed.statement, tier) for tier in signed.signers]
    return Reading(subject, tuple(evidence), tuple(left_out), tuple(attached))


def _too_many_referrers(subject: ImageRef, pieces: int, read: int) -> TooManyReferrers:
    return TooManyReferrers(
        f"{pieces} pieces attached to {subject} ({read // 1024 // 1024} MiB) are not evidence, and no more are read.\n"
        "Find out who attached them, and let an administrator remove them; then run the step again."
    )


def _refuse_unread(signed: _Signed | NotEvidence, statement: ImageRef) -> None:
    """Raise `EvidenceInvalid` if a statement where only one tier may push cannot be read: it may be a refusal."""
    if signed == STRANGE:
        raise EvidenceInvalid(
            f"{statement} is not signed with a trusted key, although only one tier may push there. It may be a "
            "refusal, so nothing is decided.\n"
            "If that tier's key was changed, add the earlier key after the new one in `trusted_keys` of the tiers' "
            "blocks. Otherwise find out who pushed it, and have an administrator remove it."
        )
    if signed == LOST:
        raise EvidenceInvalid(
            f"The registry lacks the content of {statement}, which only one tier can have pushed. It may be a refusal, "
            "so nothing is decided.\n"
            "Check the registry's storage, and restore the content. If it is lost, have an administrator remove the "
            "statement, and repeat the decision."
        )


def _evidence(subject: ImageRef, referrer: Referrer, statement: Statement, signer: TierName) -> VerifiedStatement:
    return VerifiedStatement(
        digest=referrer.digest,
        repository=subject.repository,
        statement=statement,
        signer=signer,
        attached=_attached(referrer),
    )


def _attached(referrer: Referrer) -> datetime | None:
    """Return when a referrer was attached, according to its writer."""
    try:
        at = datetime.fromisoformat(referrer.annotations.get(CREATED, ""))
    except ValueError:
        return None
    return at if at.tzinfo else None
