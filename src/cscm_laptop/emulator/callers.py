"""Who an AWS request comes from: the one whose key signed it, root included.

ministack takes `test`, any twelve digits and requests without a key for root's, looks at no
signature of root's, and lets root past every policy. Here nobody is root by a name: root has a key
like everybody, a request without a good signature is nobody's, and a key policy binds root too
(AWS KMS Developer Guide, "Default key policy").
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from ministack.core import iam_evaluator, responses
from ministack.core.iam_evaluator import AuthError, ResolvedCredential
from ministack.services import sts

from cscm_laptop.emulator.asgi import Scope, query_of
from cscm_laptop.emulator.durable import write_durably
from supply_chain.errors import PartFailed

BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"  # pragma: allowlist secret
SIGV4 = b"AWS4-HMAC-SHA256 "


def root_key(path: Path) -> tuple[str, str]:
    """Root's access key and its secret, kept in that file (mode 0600); made on the first start."""
    if not path.exists():
        made = "AKIA" + "".join(secrets.choice(BASE32) for _ in range(16))
        key = {"access_key_id": made, "secret_access_key": secrets.token_urlsafe(30)}
        write_durably(path, json.dumps(key).encode())
    try:
        kept = json.loads(path.read_bytes())
        return str(kept["access_key_id"]), str(kept["secret_access_key"])
    except (ValueError, KeyError, TypeError):
        raise PartFailed(
            f"{path}, the key of the account's root, is damaged.\nRemove it, and a new one is made."
        ) from None


def crown(access_key: str, secret: str) -> None:
    """Let that key be root's."""
    account = responses.get_account_id()
    sts._sessions[access_key] = {
        "Arn": f"arn:aws:iam::{account}:root",
        "UserId": account,
        "AccountId": account,
        "PrincipalType": "FederatedUser",  # has root's rights, and unlike "Root" heeds resources' policies
        "SecretAccessKey": secret,
    }


def signer(scope: Scope, body: bytes) -> ResolvedCredential | AuthError:
    """Whose key signed the request in its one Authorization header (Signature Version 4), or why nobody's did.

    For the names that ministack takes for root it checks no signature, so that here they are nobody's.
    """
    given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    if len(given) != 1 or not given[0].startswith(SIGV4):
        return AuthError("MissingAuthenticationToken", "Request is missing Authentication Token")
    raw_path = scope["raw_path"].decode("latin-1")
    iam_evaluator.pin_signed_request(scope["method"], raw_path, query_of(scope), scope["headers"])
    iam_evaluator.pin_signed_body(body)
    request = iam_evaluator._signed_request.get()
    key = request.access_key_id if request else ""
    responses.set_request_account_id(key)
    found: ResolvedCredential | AuthError | None = iam_evaluator.authenticate(key, responses.get_account_id())
    return found or AuthError("UnrecognizedClientException", "The security token included in the request is invalid.")
