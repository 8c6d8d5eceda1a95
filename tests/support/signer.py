"""Signs as cosign does, so that a test fails if a signature is not verified."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from supply_chain.evidence.statement import PAYLOAD, Statement
from supply_chain.model.image import Digest


def digest_of(content: bytes) -> Digest:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding of DSSE v1, "PAE(type, body)"."""
    return b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type.encode(), len(payload), payload)


@dataclass
class EcdsaSigner:
    """Signs as cosign does, with its own key."""

    private: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @cached_property
    def public(self) -> str:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    @cached_property
    def hint(self) -> str:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        der = self.private.public_key().public_bytes(serialization.Encoding.DER, form)
        return base64.b64encode(hashlib.sha256(der).digest()).decode()

    def sign(self, statement: Statement) -> bytes:
        return self.sign_bytes(statement.bytes())

    def sign_bytes(self, payload: bytes, payload_type: str = PAYLOAD, hint: str | None = None) -> bytes:
        """Return a bundle with any payload; the store must handle what a tier signs by mistake."""
        signature = self.private.sign(pae(payload_type, payload), ec.ECDSA(hashes.SHA256()))
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "verificationMaterial": {"publicKey": {"hint": hint or self.hint}},
                "dsseEnvelope": {
                    "payloadType": payload_type,
                    "payload": base64.b64encode(payload).decode(),
                    "signatures": [{"sig": base64.b64encode(signature).decode()}],
                },
            }
        ).encode()
