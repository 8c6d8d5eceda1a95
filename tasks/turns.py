"""Turns: what two runs must not do at once, by a name that tells who looks at all of them what it is about."""

from __future__ import annotations

DEPLOY = "deploy"


def turn_name(step: str, *about: str) -> str:
    """`deploy staging team:hello`. Prefect takes no slash in a name."""
    return " ".join((step, *about)).replace("/", ":")


def turn_about(name: str) -> tuple[str, ...]:
    """The step and what it is about, of a name that `turn_name` made."""
    return tuple(word.replace(":", "/") for word in name.split(" "))
