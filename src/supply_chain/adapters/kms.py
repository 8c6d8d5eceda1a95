"""KMS through boto3: what a key is, and wrapping small secrets with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from supply_chain.adapters.aws import translated
from supply_chain.curation.encrypt import KeyState


@dataclass(frozen=True)
class Kms:
    """One role's view of KMS."""

    client: Any

    def state(self, key: str) -> KeyState:
        """What KMS says of a key, by id, ARN or alias; errors as in `adapters.aws.translated`."""
        with translated(f"look at the key {key}"):
            meta = self.client.describe_key(KeyId=key)["KeyMetadata"]
            rotates = meta.get("KeySpec", "SYMMETRIC_DEFAULT") == "SYMMETRIC_DEFAULT" and bool(
                self.client.get_key_rotation_status(KeyId=meta["KeyId"])["KeyRotationEnabled"]
            )
        return KeyState(
            arn=meta["Arn"],
            enabled=bool(meta["Enabled"]) and meta.get("KeyState", "Enabled") == "Enabled",
            customer_managed=meta.get("KeyManager", "CUSTOMER") == "CUSTOMER",
            rotates=rotates,
        )

    def wrap(self, key: str, secret: bytes, context: dict[str, str]) -> bytes:
        """Encrypt up to 4 KiB under `key`, bound to `context` (KMS "encryption context")."""
        with translated(f"wrap a content key with {key}"):
            return bytes(
                self.client.encrypt(KeyId=key, Plaintext=secret, EncryptionContext=context)["CiphertextBlob"]
            )

    def unwrap(self, key: str, wrapped: bytes, context: dict[str, str]) -> bytes:
        """The inverse of `wrap`; `AccessDenied` without the grant."""
        with translated(f"unwrap a content key with {key}"):
            return bytes(
                self.client.decrypt(KeyId=key, CiphertextBlob=wrapped, EncryptionContext=context)["Plaintext"]
            )
