"""Reads the state of KMS keys through boto3, and encrypts and decrypts small secrets with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from supply_chain.adapters.aws.session import read_error_code, translate_errors
from supply_chain.curation.encrypt import KeyState
from supply_chain.errors import KeyUnusable

CURATE = "run `cscm curate` again, which writes a copy with a key of its own"
UNUSABLE = {
    "NotFoundException": "there is no such key; name an existing one in the tier's block",
    "DisabledException": "it is disabled; enable it with aws kms enable-key",
    "KMSInvalidStateException": "it is about to be deleted or not ready; aws kms describe-key says which",
    "InvalidKeyUsageException": "it is made for signing; name a symmetric key in the tier's block",
    "IncorrectKeyException": f"another key wrapped this; {CURATE}",
    "InvalidCiphertextException": f"the wrapped key was changed, or wrapped for another image; {CURATE}",
}


@dataclass(frozen=True)
class Kms:
    """KMS with the permissions of one role.

    Methods raise `KeyUnusable`, and the errors of `adapters.aws.session.translate_errors`.
    """

    client: Any

    def state(self, key: str, *, rotation: bool = True) -> KeyState:
        """Return the state of a key, given by id, ARN or alias; reading `rotation` needs a permission of its own."""
        with _translate_errors("look at", key):
            meta = self.client.describe_key(KeyId=key)["KeyMetadata"]
            rotates = self._rotates(meta) if rotation else None
        return KeyState(
            arn=meta["Arn"],
            enabled=bool(meta["Enabled"]) and meta.get("KeyState", "Enabled") == "Enabled",
            customer_managed=meta.get("KeyManager", "CUSTOMER") == "CUSTOMER",
            rotates=rotates,
        )

    def _rotates(self, meta: dict[str, Any]) -> bool:
        if meta.get("KeySpec", "SYMMETRIC_DEFAULT") != "SYMMETRIC_DEFAULT":
            return False
        return bool(self.client.get_key_rotation_status(KeyId=meta["KeyId"])["KeyRotationEnabled"])

    def wrap(self, key: str, secret: bytes, context: dict[str, str]) -> bytes:
        """Encrypt up to 4 KiB under `key`, bound to `context` (KMS "encryption context")."""
        with _translate_errors("wrap a secret with", key):
            answer = self.client.encrypt(KeyId=key, Plaintext=secret, EncryptionContext=context)
            return bytes(answer["CiphertextBlob"])

    def unwrap(self, key: str, wrapped: bytes, context: dict[str, str]) -> bytes:
        """Decrypt what `wrap` returned; raise `AccessDenied` without the permission."""
        with _translate_errors("unwrap a secret with", key):
            answer = self.client.decrypt(KeyId=key, CiphertextBlob=wrapped, EncryptionContext=context)
            return bytes(answer["Plaintext"])


@contextlib.contextmanager
def _translate_errors(doing: str, key: str) -> Iterator[None]:
    """Translate errors as `translate_errors` does, and errors about the key itself to `KeyUnusable`."""
    with translate_errors(f"{doing} the key {key}"):
        try:
            yield
        except ClientError as error:
            why = UNUSABLE.get(read_error_code(error))
            if why is None:
                raise
            raise KeyUnusable(f"Could not {doing} the key {key}:\n{why}.") from error
