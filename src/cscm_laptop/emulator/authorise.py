"""Authentication and authorisation of registry requests, with ministack's own evaluation of IAM policies."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from cscm_laptop.emulator import upstream
from cscm_laptop.emulator.routes import Needs
from cscm_laptop.emulator.tokens import LIFE, Tokens, password

calling: ContextVar[tuple[str, str]] = ContextVar("calling", default=("", ""))
"""The access key and the Host header of the AWS request that is being answered."""

SECRETS = ("SecretAccessKey", "SessionToken", "Expiration")


def caller_of(access_key: str) -> dict[str, Any]:
    """Return the principal of an access key, without its secrets; the request must be authenticated before."""
    credential = upstream.resolve_credential(access_key, upstream.get_account_id())
    session = upstream.session_of(access_key)
    return {
        **{key: value for key, value in session.items() if key not in SECRETS},
        "Arn": credential.principal_arn,
        "UserId": credential.principal_id,
        "AccountId": credential.account_id,
        "PrincipalType": credential.principal_type,
        "PrincipalName": session.get("PrincipalName") or credential.principal_name,
    }


def issue_tokens(tokens: Tokens) -> None:
    """Replace ministack's GetAuthorizationToken by one that issues a token for the caller."""

    def get_authorization_token(_: Any) -> tuple[int, dict[str, str], bytes]:
        access_key, host = calling.get()
        expires = int(time.time()) + LIFE
        token = tokens.issue(caller_of(access_key), expires)
        data = {
            "authorizationToken": base64.b64encode(f"AWS:{token}".encode()).decode(),
            "expiresAt": expires,
            "proxyEndpoint": f"http://{host}",
        }
        answer: tuple[int, dict[str, str], bytes] = upstream.json_response({"authorizationData": [data]})
        return answer

    upstream.replace_token_handler(get_authorization_token)


class Gate:
    """Allows a registry request, or returns why it is refused."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def caller(self, authorization: str) -> dict[str, Any] | None:
        """Return the caller whose token the request carries; None if it has none, or one that is false or expired."""
        return self._tokens.read(password(authorization), time.time())

    def refusal(self, caller: dict[str, Any], needs: Needs, repository: str) -> str | None:
        """Return why the caller is not allowed, in AWS's words; None if it is allowed.

        Evaluates the caller's current policies together with the policies of its session and of the repository.
        """
        account, region = upstream.get_account_id(), upstream.get_region()
        arn = f"arn:aws:ecr:{region}:{account}:repository/{repository}"
        if caller["AccountId"] != account:
            return f"User: {caller['Arn']} belongs to another account than {arn}"
        with as_session(caller) as key:
            for actions in needs:
                if all(upstream.enforce(key, action, "ecr", region, resource_arn=arn) for action in actions):
                    return f"User: {caller['Arn']} is not authorized to perform: {actions[0]} on resource: {arn}"
        return None


@contextlib.contextmanager
def as_session(caller: dict[str, Any]) -> Iterator[str]:
    """Register the caller as a session that ministack can evaluate, and yield its key.

    No other request must run meanwhile.
    """
    key = f"REGISTRY{secrets.token_hex(8)}"
    upstream.add_session(key, {**caller, "SecretAccessKey": secrets.token_hex(16)})
    try:
        yield key
    finally:
        upstream.end_session(key)


def oci_error(code: str, message: str) -> bytes:
    """Return an error in the format of the OCI distribution specification (section "Error Codes")."""
    return json.dumps({"errors": [{"code": code, "message": message, "detail": {}}]}).encode()
