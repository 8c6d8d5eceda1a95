"""A signing service of its own: it issues certificates to identities, and its log proves when they signed.

It stands for Fulcio, its certificate log and Rekor (version 1). Each has a key of its own. cosign and sigstore's Python
library both verify what it issues (`tests/integration/test_keyless.py`), so it is not only right for our own code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from supply_chain.evidence.statement import PAYLOAD, Statement
from tests.support.signer import pae

ISSUER = "https://accounts.example"
OIDC_ISSUER, OIDC_ISSUER_V2 = (ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{each}") for each in (1, 8))
SCT_LIST = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
LIFETIME = timedelta(minutes=10)
BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)
SHA256 = ec.ECDSA(hashes.SHA256())


def b64(content: bytes) -> str:
    """Return content in base64."""
    return base64.b64encode(content).decode()


def canonical(value: Any) -> bytes:
    """Return JSON as RFC 8785 writes it, for texts and integers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@dataclass
class Log:
    """A log with a key of its own."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def spki(self) -> bytes:
        """The public key in DER."""
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def id(self) -> bytes:
        """How statements of the log name it."""
        return hashlib.sha256(self.spki).digest()

    def sign(self, content: bytes) -> bytes:
        """Return the log's signature."""
        return self.key.sign(content, SHA256)

    def trusted(self, address: str) -> dict[str, Any]:
        """Return the log in a trusted root."""
        key = {"rawBytes": b64(self.spki), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": valid_for()}
        return {"baseUrl": address, "hashAlgorithm": "SHA2_256", "publicKey": key, "logId": {"keyId": b64(self.id)}}


def valid_for() -> dict[str, str]:
    """Return a time in which a service is trusted."""
    return {"start": f"{BEGINNING:%Y-%m-%dT%H:%M:%SZ}"}


@dataclass
class SigningService:
    """An authority with its logs. Two of them trust nothing of each other."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    certificates: Log = field(default_factory=Log)
    entries: Log = field(default_factory=Log)
    authority: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        """Make the certificate of the authority."""
        name = x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "example"), x509.NameAttribute(NameOID.COMMON_NAME, "ca")]
        )
        public = self.key.public_key()
        self.authority = (
            x509.CertificateBuilder(name, name, public, x509.random_serial_number())
            .not_valid_before(BEGINNING)
            .not_valid_after(BEGINNING + timedelta(days=36500))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def trusted_root(self) -> bytes:
        """Return what a verifier trusts, as sigstore's TrustedRoot."""
        subject = {"organization": "example", "commonName": "ca"}
        chain = {"certificates": [{"rawBytes": b64(self.authority.public_bytes(Encoding.DER))}]}
        authority = {"subject": subject, "uri": "https://fulcio.example", "certChain": chain, "validFor": valid_for()}
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": [self.entries.trusted("https://rekor.example")],
                "certificateAuthorities": [authority],
                "ctlogs": [self.certificates.trusted("https://ct.example")],
            }
        ).encode()

    def issue(
        self, public: ec.EllipticCurvePublicKey, subject: str, issuer: str = ISSUER, at: datetime | None = None
    ) -> x509.Certificate:
        """Return a certificate of a key for an identity, valid for ten minutes and listed in the certificate log."""
        begin = (at or datetime.now(UTC)).replace(microsecond=0)
        san = x509.UniformResourceIdentifier(subject) if "://" in subject else x509.RFC822Name(subject)
        builder = (
            x509.CertificateBuilder(self.authority.subject, x509.Name([]), public, x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + LIFETIME)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([san]), critical=True)
            .add_extension(x509.UnrecognizedExtension(OIDC_ISSUER, issuer.encode()), critical=False)
            .add_extension(x509.UnrecognizedExtension(OIDC_ISSUER_V2, _der(0x0C, issuer.encode())), critical=False)
        )
        listed = builder.sign(self.key, hashes.SHA256()).tbs_certificate_bytes
        scts = self._list_certificate(listed, begin)
        return builder.add_extension(
            x509.UnrecognizedExtension(SCT_LIST, _der(0x04, scts)), critical=False
        ).sign(self.key, hashes.SHA256())  # fmt: skip

    def _list_certificate(self, listed: bytes, at: datetime) -> bytes:
        """Return the list of timestamps with which the certificate log promises a certificate (RFC 6962, 3.2)."""
        issuer = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        time = int(at.timestamp() * 1000)
        size = struct.pack("!I", len(listed))[1:]
        entry = hashlib.sha256(issuer).digest() + size + listed
        signature = self.certificates.sign(struct.pack("!BBQH", 0, 0, time, 1) + entry + struct.pack("!H", 0))
        sct = struct.pack("!B32sQHBBH", 0, self.certificates.id, time, 0, 4, 3, len(signature)) + signature
        return struct.pack("!HH", len(sct) + 2, len(sct)) + sct

    def record(self, body: bytes, at: datetime) -> dict[str, Any]:
        """Return the log's entry with this body, the second one in its tree."""
        first = hashlib.sha256(b"\0first").digest()
        root = hashlib.sha256(b"\1" + first + hashlib.sha256(b"\0" + body).digest()).digest()
        note = f"rekor.example - 1\n2\n{b64(root)}\n"
        checkpoint = f"{note}\n— rekor.example {b64(self.entries.id[:4] + self.entries.sign(note.encode()))}\n"
        time = int(at.timestamp())
        promised = {"body": b64(body), "integratedTime": time, "logID": self.entries.id.hex(), "logIndex": 1}
        return {
            "logIndex": "1",
            "logId": {"keyId": b64(self.entries.id)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(time),
            "inclusionPromise": {"signedEntryTimestamp": b64(self.entries.sign(canonical(promised)))},
            "inclusionProof": {
                "logIndex": "1", "rootHash": b64(root), "treeSize": "2", "hashes": [b64(first)],
                "checkpoint": {"envelope": checkpoint},
            },
            "canonicalizedBody": b64(body),
        }  # fmt: skip


@dataclass
class KeylessSigner:
    """Signs as cosign does without a key: with a new one, that the service certifies for an identity."""

    service: SigningService
    subject: str
    issuer: str = ISSUER
    at: datetime | None = None
    """When it signs; None: at the time of the real clock."""
    issued: datetime | None = None
    """When the certificate was issued; None: when it signs."""

    def sign(self, statement: Statement) -> bytes:
        """Return a sigstore bundle of a statement."""
        return json.dumps(self.bundle(statement.bytes())).encode()

    def bundle(self, payload: bytes) -> dict[str, Any]:
        """Return a bundle as a value, for a test that changes it."""
        at = self.at or datetime.now(UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.service.issue(key.public_key(), self.subject, self.issuer, self.issued or at)
        signature = key.sign(pae(PAYLOAD, payload), SHA256)
        envelope = {"payload": b64(payload), "payloadType": PAYLOAD, "signatures": [{"sig": b64(signature)}]}
        body = dsse_entry(canonical(envelope), payload, signature, certificate)
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": b64(certificate.public_bytes(Encoding.DER))},
                "tlogEntries": [self.service.record(body, at)],
            },
            "dsseEnvelope": envelope,
        }


def dsse_entry(envelope: bytes, payload: bytes, signature: bytes, certificate: x509.Certificate) -> bytes:
    """Return the body of an entry about a DSSE envelope (Rekor's type dsse, 0.0.1)."""
    verifier = b64(certificate.public_bytes(Encoding.PEM))
    return canonical(
        {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(envelope).hexdigest()},
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "signatures": [{"signature": b64(signature), "verifier": verifier}],
            },
        }
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _der(tag: int, content: bytes) -> bytes:
    """Return a value in DER."""
    size = bytes([len(content)]) if len(content) < 128 else bytes([0x81, len(content)])
    return bytes([tag]) + size + content
