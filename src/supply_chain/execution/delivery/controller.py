"""What the controller that applies a repository says about a commit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ControllerState:
    """What a controller says about a commit that is waited for.

    `failed` is true if it gave up until something changes, and `applying` while it tries, for the first time or again.
    """

    fact: str
    failed: bool = False
    applying: bool = False
