"""KMS in memory, with the methods of `adapters.aws.kms.Kms`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from supply_chain.curation.encrypt import KeyState
from supply_chain.errors import AccessDenied, AwsFailed, KeyUnusable

ACCOUNT = "arn:aws:kms:eu-west-1:111122223333:"
LARGEST = 4096
"""Maximum bytes of a secret (API reference, "Encrypt")."""


@dataclass
class MemoryKms:
    """Keys by ARN, with an alias of the same name. A role without a permission in `allowed` is denied the call."""

    keys: dict[str, KeyState] = field(default_factory=dict)
    allowed: set[str] = field(default_factory=lambda: {"state", "wrap", "unwrap"})
    wrapped: dict[bytes, tuple[str, bytes, dict[str, str]]] = field(default_factory=dict)

    def create(self, name: str, **changes: Any) -> str:
        """Create a key and its alias, and return the ARN; the key is enabled, customer-managed and rotated."""
        arn = f"{ACCOUNT}key/{name}"
        state: dict[str, Any] = {"arn": arn, "enabled": True, "customer_managed": True, "rotates": True}
        self.keys[arn] = KeyState(**{**state, **changes})
        return arn

    def change(self, arn: str, **changes: Any) -> None:
        """Change the state of a key."""
        self.keys[arn] = self.keys[arn].model_copy(update=changes)

    def state(self, key: str, *, rotation: bool = True) -> KeyState:
        found = self._find("state", key)
        return found if rotation else found.model_copy(update={"rotates": None})

    def wrap(self, key: str, secret: bytes, context: dict[str, str]) -> bytes:
        arn = self._find_enabled("wrap", key).arn
        if len(secret) > LARGEST:
            raise AwsFailed(f"A secret has at most {LARGEST} bytes.\nWrap a key instead.")
        wrapped = b"wrapped " + hashlib.sha256(b"%d" % len(self.wrapped)).digest()
        self.wrapped[wrapped] = (arn, secret, dict(context))
        return wrapped

    def unwrap(self, key: str, wrapped: bytes, context: dict[str, str]) -> bytes:
        arn = self._find_enabled("unwrap", key).arn
        of, secret, bound = self.wrapped.get(wrapped, ("", b"", {}))
        if (of, bound) != (arn, context):
            raise KeyUnusable(f"Another key or for another image: {key}.\nLook at the record.")
        return secret

    def _find(self, action: str, key: str) -> KeyState:
        if action not in self.allowed:
            raise AccessDenied(f"This role may not {action} with {key}.\nChange its policy.")
        arn = key if key.startswith(ACCOUNT) else f"{ACCOUNT}key/{key.removeprefix('alias/')}"
        try:
            return self.keys[arn]
        except KeyError:
            raise KeyUnusable(f"There is no key {key}.\nName an existing one.") from None

    def _find_enabled(self, action: str, key: str) -> KeyState:
        found = self._find(action, key)
        if not found.enabled:
            raise KeyUnusable(f"The key {key} is disabled.\nEnable it.")
        return found
