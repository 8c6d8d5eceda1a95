"""DSSE envelopes in sigstore bundles: what was signed, and by which key.

All functions are pure. cosign creates and verifies the same format.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from supply_chain.errors import SettingInvalid
from supply_chain.model.image import Model

Key = ec.EllipticCurvePublicKey
Base64 = Annotated[bytes, AfterValidator(lambda text: base64.b64decode(text, validate=True))]

END = "-----END PUBLIC KEY-----"
"""The last line of a public key in PEM."""
BRACKETS = 20
"""Maximum number of opening brackets in a bundle, above what a real one has. A bundle with more is not parsed, so that
its size and depth do no harm."""


class _Strict(Model):
    """Base model of exactly the format that cosign writes, so that what is accepted here verifies everywhere."""

    model_config = ConfigDict(alias_generator=to_camel)


class _PublicKey(_Strict):
    hint: str = Field(default="", max_length=200)


class _Material(_Strict):
    public_key: _PublicKey


class _Signature(_Strict):
    sig: Base64


class Envelope(_Strict):
    """A payload with its type, and the signature of both (DSSE v1, "Envelope")."""

    payload: Base64
    payload_type: str
    signatures: tuple[_Signature, ...] = Field(min_length=1, max_length=1)

    def is_signed_by(self, key: Key) -> bool:
        """Return whether this key signed it: ECDSA with SHA-256 over DSSE's pre-authentication encoding."""
        kind = self.payload_type.encode()
        signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(self.payload), self.payload)
        try:
            key.verify(self.signatures[0].sig, signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


class Bundle(_Strict):
    """A sigstore bundle v0.3 of a statement that was signed with a key and is in no transparency log."""

    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]
    verification_material: _Material
    dsse_envelope: Envelope

    @property
    def hint(self) -> str:
        """What the signer says about the key (`compute_key_hint`); nothing verifies it."""
        return self.verification_material.public_key.hint


def parse_envelope(content: bytes) -> Envelope | None:
    """Return the envelope in a bundle; None for any other content."""
    bundle = parse_bundle(content)
    return bundle.dsse_envelope if bundle else None


def parse_bundle(content: bytes) -> Bundle | None:
    """Return the bundle in this content; None for any other content."""
    if content.count(b"{") + content.count(b"[") > BRACKETS:
        return None
    try:
        return Bundle.model_validate_json(content)
    except ValidationError:
        return None


def compute_key_hint(key: Key) -> str:
    """Return how cosign names a public key in a bundle: the SHA-256 of its DER in base64."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


def parse_keys(pem: str, name: str) -> tuple[Key, ...]:
    """Return the public keys to verify a tier's signatures with: its current key, then its earlier ones.

    Raise `SettingInvalid` unless there is at least one and all are on P-256.
    """
    blocks = [each + END for each in pem.split(END) if each.strip()] or [pem]
    return tuple(_key_of(each, name) for each in blocks)


def find_shared_keys(tiers: Iterable[tuple[str, Key]], others: Iterable[tuple[str, Key]] = ()) -> tuple[str, ...]:
    """Return who has the same key, `a and b` for each key of a tier that is not its alone, in the order given.

    Both are names with a key each. The keys are compared, not their PEM. `others` may have the same keys.
    """
    holders: dict[EllipticCurvePublicNumbers, dict[str, None]] = {}
    for name, key in tiers:
        holders.setdefault(key.public_numbers(), {})[name] = None
    for name, key in others:
        if (of_tier := holders.get(key.public_numbers())) is not None:
            of_tier[name] = None
    return tuple(" and ".join(names) for names in holders.values() if len(names) > 1)


def _key_of(pem: str, name: str) -> Key:
    """Return the public key in PEM; raise `SettingInvalid` unless it is on P-256."""
    try:
        key = load_pem_public_key(pem.encode())
    except ValueError:
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SettingInvalid(
            f"The trusted key of the {name} tier is not a public key on P-256 in PEM.\n"
            "Give the block the public half of the tier's signing key, which has to be an ECC_NIST_P256 key of KMS."
        )
    return key
