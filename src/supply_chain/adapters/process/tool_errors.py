"""Recognizes from a tool's messages that a registry, AWS, the engine or a full disk is the cause of its failure.

Tools have no codes for this, and each has its own library and its own messages; this module knows them for all tools.
"""

from __future__ import annotations

import re

_NAMES = re.compile(r"(?<!\S)[^\s/]*+/\S*")
"""References, addresses and paths. They are removed first, because their words were chosen by whoever named them.

Each word is read once: a tool may quote a line of a megabyte.
"""
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


def is_transient(output: str) -> bool:
    """Return whether a registry or AWS did not answer, or failed in a way that may pass."""
    return bool(_PASSING.search(_NAMES.sub(" ", output)))


def is_denied(output: str) -> bool:
    """Return whether the role lacks a permission or the credentials were not accepted."""
    return bool(_DENIED.search(_NAMES.sub(" ", output)))


def is_not_found(output: str) -> bool:
    """Return whether the registry does not have the requested object."""
    return bool(_ABSENT.search(_NAMES.sub(" ", output)))


def is_clock_skew(output: str) -> bool:
    """Return whether AWS rejected the request's time because this machine's clock is wrong."""
    return bool(_SKEWED.search(_NAMES.sub(" ", output)))


def is_disk_full(output: str) -> bool:
    """Return whether a disk is full."""
    return bool(_FULL.search(output) and _FULL.search(_NAMES.sub(" ", output)))


def is_engine_lost(output: str) -> bool:
    """Return whether the connection to the engine was lost."""
    return bool(_ENGINE_LOST.search(output))
