"""Keyless signatures in sigstore bundles: a certificate of ten minutes names the signer, and a log proves the time.

sigstore's own library verifies them, without a network: the certificate, its entry in the certificate log, the entry of
the signature in the transparency log, and the signature. The time is that of the entry, or of a timestamp (RFC 3161) if
the log states none (Rekor v2). A timestamp without an entry proves nothing: nobody could find a signature that was
made with a stolen identity.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cryptography.x509 import (
    Certificate,
    ObjectIdentifier,
    RFC822Name,
    SubjectAlternativeName,
    UniformResourceIdentifier,
    load_der_x509_certificate,
)
from pydantic import ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from supply_chain.errors import DiskFull
from supply_chain.evidence.envelope import Envelope, Key, parse_bundle
from supply_chain.model.image import Model
from supply_chain.scratch import make_scratch_directory
from supply_chain.text import sanitize_text

if TYPE_CHECKING:
    from sigstore.models import Bundle
    from sigstore.verify import Verifier

ISSUER_EXTENSION = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
"""The extension with which Fulcio names the issuer in a certificate."""
BRACKETS = 80
"""Maximum number of opening brackets in a bundle, above what a real one has."""
OUTAGES = (DiskFull, OSError, MemoryError)
"""Errors of this machine, which say nothing about a signature. They are no result, and so are not retained as one."""
MOST_VERIFIED = 20_000
"""Number of results that a process retains."""


@dataclass(frozen=True)
class Identity:
    """An identity of a person, as a certificate names it, and what verifies the certificate."""

    issuer: str
    """Who verified the person: the address of an OpenID Connect provider."""
    subject: str
    """What the issuer calls the person, such as an e-mail address. It is compared as it is."""
    root: bytes | str
    """The trusted root in JSON, or why none is trusted."""
    since: datetime | None = None
    """Earlier signatures do not count."""
    until: datetime | None = None
    """Signatures from then on do not count."""

    def __str__(self) -> str:
        return f"{self.subject} of {self.issuer}"


Credential = Key | Identity
"""What a person proves a signature with: a public key, or an identity."""


class SignedContent(NamedTuple):
    """An envelope whose signature is verified."""

    envelope: Envelope
    at: datetime | None
    """When it was signed, if that is proven."""


class _Foreign(Model):
    """Base model of a part of a bundle; sigstore's library checks the other parts."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore")


class _Material(_Foreign):
    certificate: dict[str, Any]


class _Keyless(_Foreign):
    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]
    verification_material: _Material
    dsse_envelope: dict[str, Any]


def is_keyless(content: bytes) -> bool:
    """Return whether content is a bundle of a statement with a certificate; nothing of it is verified."""
    if content.count(b"{") + content.count(b"[") > BRACKETS:
        return False
    try:
        _Keyless.model_validate_json(content)
    except ValidationError:
        return False
    return True


def verify_content(content: bytes, credential: Credential) -> SignedContent | str:
    """Return what a person signed in a bundle with this credential, or why they did not."""
    if isinstance(credential, Identity):
        return _verify_identity(content, credential)
    bundle = parse_bundle(content)
    if bundle is None or not bundle.dsse_envelope.is_signed_by(credential):
        return "another key signed it"
    return SignedContent(bundle.dsse_envelope, None)


def find_identity(content: bytes, identities: Iterable[tuple[str, Identity]]) -> tuple[str, SignedContent] | str:
    """Return the first owner of an identity that signed a keyless bundle, and what they signed; or why nobody did."""
    try:
        certificate = _read_certificate(content)
        named = [(owner, each) for owner, each in identities if _is_named(certificate, each)]
        names = _describe(certificate)
    except Exception:  # noqa: BLE001 - as in `_verify`
        return "its certificate cannot be read"
    if not named:
        return f"its certificate names {names}, which is not an identity of anybody who may sign it"
    verified = [(owner, _verify_identity(content, each)) for owner, each in named]
    return next(((owner, each) for owner, each in verified if isinstance(each, SignedContent)), str(verified[0][1]))


def _is_named(certificate: Certificate, identity: Identity) -> bool:
    """Return whether a certificate names an identity; nothing of it is verified."""
    from sigstore.errors import VerificationError  # noqa: PLC0415
    from sigstore.verify.policy import Identity as Wanted  # noqa: PLC0415

    try:
        Wanted(identity=identity.subject, issuer=identity.issuer).verify(certificate)
    except VerificationError:
        return False
    return True


def _read_certificate(content: bytes) -> Certificate:
    certificate = _Keyless.model_validate_json(content).verification_material.certificate
    return load_der_x509_certificate(base64.b64decode(certificate["rawBytes"]))


def _describe(certificate: Certificate) -> str:
    """Return whom a certificate names; nothing of it is verified."""
    names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    subjects = [*names.get_values_for_type(RFC822Name), *names.get_values_for_type(UniformResourceIdentifier)]
    issuer = certificate.extensions.get_extension_for_oid(ISSUER_EXTENSION).value.public_bytes().decode()
    return sanitize_text(f"{', '.join(subjects)} of {issuer}"[:300])


def _verify_identity(content: bytes, identity: Identity) -> SignedContent | str:
    if not is_keyless(content):
        return "it is not signed keyless"
    if isinstance(identity.root, str):
        return identity.root
    signature = _verify(content, identity.root, identity.issuer, identity.subject)
    if isinstance(signature, str):
        return signature
    if identity.since is not None and signature.at < identity.since:
        return f"it was signed at {_time(signature.at)}, and {identity} counts since {_time(identity.since)}"
    if identity.until is not None and signature.at >= identity.until:
        return f"it was signed at {_time(signature.at)}, and {identity} counted until {_time(identity.until)}"
    return SignedContent(signature.envelope, signature.at)


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


class _Proven(NamedTuple):
    envelope: Envelope
    at: datetime


@lru_cache(maxsize=MOST_VERIFIED)
def _verify(content: bytes, root: bytes, issuer: str, subject: str) -> _Proven | str:
    """Return what an identity signed, and when, or why that is not proven. It takes one to two milliseconds."""
    from sigstore.models import Bundle  # noqa: PLC0415 - needs 0.3 s, which only a keyless signature is worth
    from sigstore.verify.policy import Identity as Wanted  # noqa: PLC0415

    try:
        bundle = Bundle.from_json(content)
        _load_root(root).verify_dsse(bundle, Wanted(identity=subject, issuer=issuer))
        proven = json.loads(bundle.to_json())  # what was verified, however the content was written
        return _Proven(Envelope.model_validate(proven["dsseEnvelope"]), _proven_time(bundle, proven))
    except OUTAGES:
        raise
    except Exception as error:  # noqa: BLE001 - whatever fails, nothing is proven; a bundle of anybody stops no gate
        return _first_words(error)


def _first_words(error: Exception) -> str:
    return sanitize_text(" ".join(str(error).split())[:300]) or type(error).__name__


def _proven_time(bundle: Bundle, proven: dict[str, Any]) -> datetime:
    """Return the time of a verified bundle; raise `ValueError` if it has several.

    The library accepts a bundle with any time that is proven, and verifies the promise of the log if there is one.
    """
    (entry,) = proven["verificationMaterial"]["tlogEntries"]
    if "inclusionPromise" in entry and int(entry.get("integratedTime", 0)):
        return datetime.fromtimestamp(int(entry["integratedTime"]), UTC)
    stamped = bundle.verification_material.timestamp_verification_data
    timestamps = stamped.rfc3161_timestamps if stamped else []
    (timestamp,) = timestamps
    return timestamp.tst_info.gen_time


def explain_root(root: bytes) -> str:
    """Return why nothing can be verified with a trusted root; empty if something can."""
    try:
        _load_root(root)
    except OUTAGES:
        raise
    except Exception as error:  # noqa: BLE001 - as in `_verify`
        return f"the trusted root cannot be used: {_first_words(error)}"
    return ""


@lru_cache(maxsize=4)
def _load_root(root: bytes) -> Verifier:
    """Return what verifies with a trusted root."""
    from sigstore.models import TrustedRoot  # noqa: PLC0415
    from sigstore.verify import Verifier  # noqa: PLC0415

    with make_scratch_directory("sigstore") as work:
        (work / "root.json").write_bytes(root)
        return Verifier(trusted_root=TrustedRoot.from_file(str(work / "root.json")))
