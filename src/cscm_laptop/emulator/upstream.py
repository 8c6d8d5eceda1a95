"""What the emulator uses of ministack, the product that it builds on, and what it changes in it.

No other module imports ministack or uses its private names. These can change in every release, so this module refuses
each version but the one that it was written for. Each part below says what is missing upstream; where a later version
has it, the part can go.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from supply_chain.errors import ComponentFailed

VERSION = "1.5.33"
"""The version of ministack that this module was written for. `deployments/emulator.in` names it too."""


def require_version(actual: str) -> None:
    """Raise `ComponentFailed` unless this version of ministack is the one that this module was written for."""
    if actual != VERSION:
        raise ComponentFailed(
            f"The emulator's environment has ministack {actual}, but the emulator was written for {VERSION}.\n"
            f"Install ministack {VERSION}: remove the directory `emulator` of the home, then run `cscm up`. To use "
            "another version, check each part of cscm_laptop/emulator/upstream.py against it, and change VERSION there."
        )


require_version(version("ministack"))

from ministack.app import _credential_failure, app  # noqa: E402
from ministack.core import iam_actions, iam_evaluator, persistence  # noqa: E402
from ministack.core.iam_evaluator import (  # noqa: E402
    AuthError,
    ResolvedCredential,
    authenticate,
    enforce,
    pin_signed_body,
    pin_signed_request,
    resolve_credential,
)
from ministack.core.responses import (  # noqa: E402
    AccountRegionScopedDict,
    error_response_json,
    get_account_id,
    get_region,
    json_response,
    set_request_account_id,
    set_request_region,
)
from ministack.core.router import detect_service  # noqa: E402
from ministack.services import ecr, eventbridge, kms, sts  # noqa: E402

__all__ = [
    "AccountRegionScopedDict",
    "AuthError",
    "ResolvedCredential",
    "app",
    "authenticate",
    "detect_service",
    "enforce",
    "error_response_json",
    "get_account_id",
    "get_region",
    "json_response",
    "pin_signed_body",
    "pin_signed_request",
    "resolve_credential",
    "set_request_account_id",
    "set_request_region",
]

Handler = Callable[..., Any]

# --- Missing upstream: the registry's state as an interface. Its API has no archive, no times of pulls, no stable
# pages and no sizes as in AWS, and it keeps layers in memory, so the emulator works on the records themselves. ---

repositories: Any = ecr._repositories
"""The repositories of the request's account and region by name, as are the images, layers and manifests."""
images: Any = ecr._images
layers: Any = ecr._layer_blobs
manifests: Any = ecr._manifest_blobs
lifecycle_policies: Any = ecr._lifecycle_policies
repository_policies: Any = ecr._repo_policies

create_repository: Handler = ecr._create_repository
put_image: Handler = ecr._put_image
image_digest: Callable[[str], str] = ecr._image_digest
repository_shape: Callable[[dict[str, Any]], dict[str, Any]] = ecr._repo_shape


# --- Missing upstream: a way to add operations to ECR, and to change the permission that a request needs. ---


def wrap_ecr_handler(wrap: Callable[[Handler], Handler]) -> None:
    """Replace the handler of ECR's requests by what `wrap` returns for it."""
    ecr.handle_request = wrap(ecr.handle_request)


def wrap_permission(wrap: Callable[[Handler], Handler]) -> None:
    """Replace the function that returns the permission that a request needs by what `wrap` returns for it."""
    iam_actions.extract_iam_action = wrap(iam_actions.extract_iam_action)


# --- Missing upstream: registry tokens for a caller; every caller gets the same one, and none is checked. ---


def replace_token_handler(handler: Callable[[Any], tuple[int, dict[str, str], bytes]]) -> None:
    """Replace the handler of GetAuthorizationToken."""
    ecr._get_authorization_token = handler


def select_registry_scope(name: str, headers: Mapping[str, str], query: Mapping[str, list[str]]) -> None:
    """Set the account and region of a registry request in the way that ministack does, from none."""
    set_request_account_id("")
    set_request_region(None)
    ecr._select_registry_request_scope(name, headers, query)


# --- Missing upstream: sessions that can be read, ended and saved. ---


def session_of(access_key: str) -> Mapping[str, Any]:
    """Return the session of an access key; an empty mapping if there is none."""
    return sts._sessions.get(access_key) or {}


def add_session(access_key: str, session: dict[str, Any]) -> None:
    """Let an access key act as the principal of a session."""
    sts._sessions[access_key] = session


def end_session(access_key: str) -> None:
    """Remove a session."""
    del sts._sessions[access_key]


def expiring_sessions() -> dict[str, dict[str, Any]]:
    """Return the sessions that expire, by their access key; those that have expired are removed."""
    sts._evict_expired_sessions()
    return {key: session for key, session in sts._sessions.items() if "Expiration" in session}


def restore_sessions(sessions: Mapping[str, dict[str, Any]]) -> None:
    """Add saved sessions as they were."""
    sts._sessions.update(sessions)


# --- Missing upstream: a signature check for root, who is recognised by name alone. ---


def signing_key() -> str:
    """Return the access key that signed the pinned request; empty if none did."""
    request = iam_evaluator._signed_request.get()
    return str(request.access_key_id) if request else ""


def refuse_credential(service: str, request_id: str, why: AuthError, headers: Mapping[str, str]) -> Any:
    """Return the answer for a request whose credential is refused, in the protocol of its service."""
    return _credential_failure(service, "", request_id, why, headers)


# --- Missing upstream: events of the registry, and a bound on the log of events. ---


def publish_event(entry: dict[str, Any]) -> None:
    """Publish an event of an AWS service on the default bus; it is in its targets' queues when this returns."""
    eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
    eventbridge._events_log_list().clear()  # nothing reads this log, and it would grow with every push


# --- Missing upstream: state that is saved before a request is answered. It is saved at a clean stop, without errors
# and without sessions. ---

encode_value: Callable[[Any], Any] = persistence._json_default
decode_object: Callable[[dict[str, Any]], Any] = persistence._json_object_hook
state_format: Callable[[str], int] = persistence._state_format_version


def service_module(service: str) -> Any:
    """Return ministack's module of a service, whose `get_state` and `load_persisted_state` are used."""
    return importlib.import_module(f"ministack.services.{service}")


def has_keys() -> bool:
    """Return whether KMS can make keys, for which its environment needs `cryptography`."""
    return bool(kms.HAS_CRYPTO)
