"""Documents that a person signed with a credential of their own: a file, and a sigstore bundle next to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from pydantic import AwareDatetime, Field, ValidationError

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.clock import SKEW
from supply_chain.evidence.envelope import Bundle, compute_key_hint, parse_bundle
from supply_chain.evidence.keyless import Credential, Identity, SignedContent, find_identity, is_keyless
from supply_chain.evidence.statement import Statement, Subject, read_statement
from supply_chain.model.image import Digest, Model, digest_of, digest_set
from supply_chain.text import render_time

SIGNED_DOCUMENT = "urn:cscm:signed-document:v1"
"""Predicate type: a person vouches for a document. The subject is the file's digest."""
SUFFIX = ".sigstore.json"
"""What the name of a bundle has after the name of its document."""
LIMIT = 64 * 1024
"""Maximum size of a bundle in bytes."""
MOST_VERIFIED = 20_000
"""Number of results that a process retains."""
NO_BUNDLE = "its signature file is not a sigstore bundle"
UNTRUSTED = "no key that is trusted for it signed it"


class DocumentKind(StrEnum):
    """What a document is. A signature for one kind does not count for another."""

    PEOPLE = "people"
    WAIVER = "waiver"
    VEX = "vex"
    REVIEW = "review"
    POLICIES = "policies"


class Signature(Model):
    """Who signed a document, and when."""

    by: str
    at: AwareDatetime = Field(
        description="of a keyless signature, when that is proven; of others, as the signer states it"
    )


class Unsigned(Model):
    """A document that nobody signed as it is."""

    why: str


class _Predicate(Model):
    kind: DocumentKind
    installation: str = Field(default="", description="the one for which it was signed")
    signed: AwareDatetime = Field(description="by the clock of the signer")


def locate_signature(document: Path) -> Path:
    """Return the path of a document's bundle."""
    return document.with_name(document.name + SUFFIX)


def make_document_statement(
    kind: DocumentKind, name: str, content: bytes, installation: str, at: datetime
) -> Statement:
    """Return the in-toto statement with which a person signs a document for an installation."""
    return Statement(
        subject=(Subject(name=name, digest=digest_set(digest_of(content))),),
        predicate_type=SIGNED_DOCUMENT,
        predicate=_Predicate(kind=kind, installation=installation, signed=at).model_dump(mode="json"),
    )


def read_bundle(document: Path) -> bytes | None:
    """Return the bundle of a document, no more than is needed to refuse a longer one; None if there is none."""
    return read_file(locate_signature(document), LIMIT)


def is_about_content(bundle: bytes, content: bytes) -> bool:
    """Return whether what is signed in a bundle is about this content. Who signed it is not verified."""
    parsed = parse_bundle(bundle)
    try:
        signed = read_statement(parsed.dsse_envelope, "the signature file").subject if parsed else ()
    except EvidenceInvalid:
        return False
    return digest_set(digest_of(content)) in [each.digest for each in signed]


def read_file(file: Path, limit: int) -> bytes | None:
    """Return the content of a file, at most a byte more than `limit`; None if it is no file that can be read."""
    try:
        if not file.is_file():  # a pipe or a device would never end
            return None
        with file.open("rb") as opened:
            return opened.read(limit + 1)
    except OSError:
        return None


C_co = TypeVar("C_co", bound=Credential, covariant=True)


class Keyring(Mapping[str, Sequence[C_co]]):
    """The credentials of each person. It does not change; equal ones have the same credentials of the same people."""

    def __init__(self, credentials: Mapping[str, Sequence[C_co]]) -> None:
        self._credentials = dict(credentials)
        owned: list[tuple[str, Credential]] = [(name, each) for name, own in credentials.items() for each in own]
        self._keys = tuple((name, key, compute_key_hint(key)) for name, key in owned if not isinstance(key, Identity))
        self._identities = tuple((name, each) for name, each in owned if isinstance(each, Identity))
        self._all = (tuple((name, hint) for name, _, hint in self._keys), self._identities)

    def __getitem__(self, name: str) -> Sequence[C_co]:
        """Return the credentials of a person."""
        return self._credentials[name]

    def __iter__(self) -> Iterator[str]:
        """Return the names."""
        return iter(self._credentials)

    def __len__(self) -> int:
        """Return how many people there are."""
        return len(self._credentials)

    def __eq__(self, other: object) -> bool:
        """Return whether the other one has the same credentials of the same people, in the same order."""
        return isinstance(other, Keyring) and self._all == other._all

    def __hash__(self) -> int:
        """Return the hash of the credentials and their owners."""
        return hash(self._all)

    def find_signer(self, content: bytes) -> tuple[str, SignedContent] | str:
        """Return the first person who signed a bundle, and what they signed; or why nobody did."""
        if (bundle := parse_bundle(content)) is not None:
            by = self._find_holder(bundle)
            return UNTRUSTED if by is None else (by, SignedContent(bundle.dsse_envelope, None))
        return find_identity(content, self._identities) if is_keyless(content) else NO_BUNDLE

    def _find_holder(self, bundle: Bundle) -> str | None:
        """Return the first person whose key signed a bundle; None if there is none.

        The key that the bundle names is tried first, so that the time does not grow with the number of people.
        """
        hinted = [each for each in self._keys if each[2] == bundle.hint]
        tried = (name for name, key, _ in (*hinted, *self._keys) if bundle.dsse_envelope.is_signed_by(key))
        return next(tried, None)


def verify_document(
    kind: DocumentKind, name: str, content: bytes, bundle: bytes | None, keys: Mapping[str, Sequence[Credential]],
    installation: str, now: datetime,
) -> Signature | Unsigned:  # fmt: skip
    """Return who signed exactly this content as a document of this kind and name, for this installation.

    `keys` are the credentials of each person. A time in the future is no signature: with it, a waiver could last longer
    than its signer may allow. A process verifies the same bundle of the same content with the same keys once.
    """
    if bundle is None:
        return Unsigned(why="nobody signed it")
    if len(bundle) > LIMIT:
        return Unsigned(why=NO_BUNDLE)
    keyring = keys if isinstance(keys, Keyring) else Keyring(keys)
    signature = _verify(kind, name, digest_of(content), bundle, keyring, installation)
    if isinstance(signature, Signature) and signature.at > now + SKEW:
        return Unsigned(why=f"{signature.by} signed it at {render_time(signature.at)}, which is in the future")
    return signature


@lru_cache(maxsize=MOST_VERIFIED)
def _verify(
    kind: DocumentKind, name: str, digest: Digest, bundle: bytes, keys: Keyring[Credential], installation: str
) -> Signature | Unsigned:
    """Return who signed the document, whenever that was."""
    signer = keys.find_signer(bundle)
    if isinstance(signer, str):
        return Unsigned(why=signer)
    by, content = signer
    try:
        statement = read_statement(content.envelope, "the signature file")
        signed = _Predicate.model_validate(statement.predicate)
    except (EvidenceInvalid, ValidationError):
        return Unsigned(why=f"what {by} signed is not a statement about a document")
    subject = Subject(name=name, digest=digest_set(digest))
    why = next(_differences(statement, signed, kind, subject), None) or explain_installation(
        signed.installation, installation
    )
    return Unsigned(why=f"{by} {why}") if why else Signature(by=by, at=content.at or signed.signed)


def explain_installation(signed: str, installation: str) -> str:
    """Return what somebody did who signed for another installation than this one; empty if it is the same."""
    if signed == installation:
        return ""
    return f"signed it for {name_installation(signed)}, and this is {name_installation(installation)}"


def name_installation(name: str) -> str:
    """Return how a sentence calls an installation; one without a name has no people document."""
    return f"the installation {name}" if name else "an installation without a name"


def _differences(statement: Statement, signed: _Predicate, kind: DocumentKind, subject: Subject) -> Iterator[str]:
    """Yield what the signer signed instead of this document."""
    if (statement.predicate_type, signed.kind) != (SIGNED_DOCUMENT, kind):
        yield "signed it as another kind of document"
    if [each.digest for each in statement.subject] != [subject.digest]:
        yield "signed other content; it was changed since"
    if statement.subject != (subject,):
        yield "signed it under another name"
