"""Authentication of AWS requests by their signature, also for root.

ministack treats the key `test`, keys of twelve digits and requests without a key as root's, checks no signature of
root, and exempts root from every policy. Here no name makes a caller root: root has a key like everybody else, a
request without a valid signature is refused, and a key policy applies to root too (AWS KMS Developer Guide, "Default
key policy").
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from cscm_laptop.emulator import upstream
from cscm_laptop.emulator.asgi import Scope, query_of
from cscm_laptop.emulator.durable import write_durably
from cscm_laptop.emulator.upstream import AuthError, ResolvedCredential
from supply_chain.errors import ComponentFailed

BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"  # pragma: allowlist secret
SIGV4 = b"AWS4-HMAC-SHA256 "


def root_key(path: Path) -> tuple[str, str]:
    """Return root's access key and its secret from the file (mode 0600); make them at the first start.

    Raises `ComponentFailed` if the file is damaged.
    """
    if not path.exists():
        key_id = "AKIA" + "".join(secrets.choice(BASE32) for _ in range(16))
        key = {"access_key_id": key_id, "secret_access_key": secrets.token_urlsafe(30)}
        write_durably(path, json.dumps(key).encode())
    try:
        stored = json.loads(path.read_bytes())
        return str(stored["access_key_id"]), str(stored["secret_access_key"])
    except (ValueError, KeyError, TypeError):
        raise ComponentFailed(
            f"{path}, the key of the account's root, is damaged.\nRemove it, and a new one is made."
        ) from None


def crown(access_key: str, secret: str) -> None:
    """Make the key root's."""
    account = upstream.get_account_id()
    upstream.add_session(
        access_key,
        {
            "Arn": f"arn:aws:iam::{account}:root",
            "UserId": account,
            "AccountId": account,
            "PrincipalType": "FederatedUser",  # has root's rights; unlike for "Root", resource policies apply
            "SecretAccessKey": secret,
        },
    )


def signer(scope: Scope, body: bytes) -> ResolvedCredential | AuthError:
    """Return the credential that signed the request's only Authorization header (Signature Version 4), or an error.

    ministack checks no signature for the names that it treats as root; here such requests get the error.
    """
    headers = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    if len(headers) != 1 or not headers[0].startswith(SIGV4):
        return AuthError("MissingAuthenticationToken", "Request is missing Authentication Token")
    raw_path = scope["raw_path"].decode("latin-1")
    upstream.pin_signed_request(scope["method"], raw_path, query_of(scope), scope["headers"])
    upstream.pin_signed_body(body)
    key = upstream.signing_key()
    upstream.set_request_account_id(key)
    caller: ResolvedCredential | AuthError | None = upstream.authenticate(key, upstream.get_account_id())
    return caller or AuthError("UnrecognizedClientException", "The security token included in the request is invalid.")
