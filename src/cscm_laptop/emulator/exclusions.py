"""Principals whose pulls are not recorded (API reference, "RegisterPullTimeUpdateExclusion")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cscm_laptop.emulator.api import INVALID, ApiError, page

PRINCIPAL = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(?:role|user)/[\w+=,.@-]+(?:/[\w+=,.@-]+)*")
SESSION = re.compile(r"arn:(aws[a-z-]*):sts::(\d{12}):assumed-role/([^/]+)/.+")
MOST = 100
"""Maximum number of principals in a registry."""

excluded: dict[str, float] = {}
"""The time at which each ARN was registered, in seconds since the epoch."""


def is_excluded(caller: str) -> bool:
    """Return whether the pulls of a user, or of a role's session, are not recorded."""
    return SESSION.sub(r"arn:\1:iam::\2:role/\3", caller) in excluded


def register(data: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Stop recording the pulls of a principal; raise `ApiError`."""
    arn = _principal(data)
    if arn in excluded:
        raise ApiError("ExclusionAlreadyExistsException", f"The principal {arn} is excluded already")
    if len(excluded) >= MOST:
        raise ApiError("LimitExceededException", f"A registry excludes at most {MOST} principals")
    excluded[arn] = now
    return {"principalArn": arn, "createdAt": now}


def deregister(data: Mapping[str, Any]) -> dict[str, Any]:
    """Record a principal's pulls again; raise `ApiError`."""
    arn = _principal(data)
    if excluded.pop(arn, None) is None:
        raise ApiError("ExclusionNotFoundException", f"The principal {arn} is not excluded")
    return {"principalArn": arn}


def listed(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return one page of the excluded principals."""
    arns, more = page(excluded, lambda arn: (arn,), data, usual=100, most=1000)
    return {"pullTimeUpdateExclusions": arns, **more}


def _principal(data: Mapping[str, Any]) -> str:
    arn = str(data.get("principalArn", ""))
    if not PRINCIPAL.fullmatch(arn):
        raise ApiError(INVALID, "Invalid parameter at 'principalArn' failed to satisfy constraint: an IAM principal")
    return arn
