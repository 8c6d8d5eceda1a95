"""Registry tokens: signed statements of who called GetAuthorizationToken, valid for twelve hours.

As in ECR, a token carries the caller's identity and outlives the session that requested it. Tokens are not stored:
each contains its data and an HMAC, whose key never leaves the emulator.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from pathlib import Path
from typing import Any

from cscm_laptop.emulator.durable import write_durably

LIFE = 12 * 60 * 60
"""Lifetime in seconds (Amazon ECR User Guide, "Private registry authentication")."""


class Tokens:
    """Issues tokens, and reads those that it issued."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def stored_in(cls, path: Path) -> Tokens:
        """Return an instance with the key in the file, which is made at the first start."""
        if not path.exists():
            write_durably(path, secrets.token_bytes(32))
        return cls(path.read_bytes())

    def issue(self, caller: dict[str, Any], expires: int) -> str:
        """Return a token for the caller, valid until `expires` (seconds since the epoch)."""
        body = base64.urlsafe_b64encode(json.dumps({"caller": caller, "expires": expires}).encode())
        return f"{body.decode()}.{self._seal(body)}"

    def read(self, token: str, now: float) -> dict[str, Any] | None:
        """Return the caller of a token; None if we did not issue it or it has expired."""
        body, _, seal = token.partition(".")
        raw = body.encode("utf-8", "replace")
        if not hmac.compare_digest(self._seal(raw).encode(), seal.encode("utf-8", "replace")):
            return None
        content = json.loads(base64.urlsafe_b64decode(raw))
        caller: dict[str, Any] = content["caller"]
        return caller if now < content["expires"] else None

    def _seal(self, body: bytes) -> str:
        return hmac.new(self._key, body, hashlib.sha256).hexdigest()


def password(authorization: str) -> str:
    """Return the token in a `Basic` authorization of the user `AWS`, or an empty string."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        user, _, secret = base64.b64decode(value).decode().partition(":")
    except ValueError:
        return ""
    return secret if user == "AWS" else ""
