"""What tools say where a registry, AWS or the engine is the reason: told by their words, as they have no codes for it.

Each tool has its own library and its own sentences; what these mean is written down here for all of them.
"""

from __future__ import annotations

import re

_NAMES = re.compile(r"\S*/\S*")
"""References, addresses and paths: what is in them was chosen by whoever named it, and says nothing here."""
_PASSING = re.compile(
    r"connection refused|connection reset|no such host|timeout|deadline exceeded|\bEOF\b|server error"
    r"|too ?many ?requests|throttling|(?:status|code)\W{0,3}(?:429|5\d\d)\b|\b(?:429|5\d\d) [A-Z]",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\bdenied\b|AccessDenied|unauthorized|not authorized|authentication required|no basic auth|forbidden"
    r"|(?:status|code)\W{0,3}40[13]\b|\b40[13] [A-Z]",
    re.IGNORECASE,
)
_ABSENT = re.compile(r"manifest unknown|name unknown|repository does not exist|not found", re.IGNORECASE)
_SKEWED = re.compile(r"Signature expired|Signature not yet current|RequestTimeTooSkewed")
_FULL = re.compile(r"no space left on device", re.IGNORECASE)  # strerror(3), ENOSPC
_ENGINE_LOST = re.compile(
    r"Cannot connect to the Docker daemon|failed to connect to the docker API|error during connect"
    r"|error reading from server|code = Unavailable"
    r"|transport is closing|graceful_stop|server misbehaving.*docker"
)


def passing(said: str) -> bool:
    """Whether a registry or AWS did not answer, or not this time."""
    return bool(_PASSING.search(_NAMES.sub(" ", said)))


def denied(said: str) -> bool:
    """Whether the role may not do it."""
    return bool(_DENIED.search(_NAMES.sub(" ", said)))


def absent(said: str) -> bool:
    """Whether the registry has no such thing."""
    return bool(_ABSENT.search(_NAMES.sub(" ", said)))


def skewed(said: str) -> bool:
    """Whether AWS does not take the time at which it was asked."""
    return bool(_SKEWED.search(_NAMES.sub(" ", said)))


def full(said: str) -> bool:
    """Whether a disk is full."""
    return bool(_FULL.search(_NAMES.sub(" ", said)))


def engine_lost(said: str) -> bool:
    """Whether the engine went away."""
    return bool(_ENGINE_LOST.search(said))
