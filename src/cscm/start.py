"""Starts `cscm`: most commands as a fork of the laptop's prefork server, which has imported what they need.

A command that imports Prefect and the flows itself spends seconds on that. This module imports next to nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from orchestration import prefork_client
from orchestration.project import PREFORK_SOCKET, find_home, find_project
from supply_chain.errors import SettingInvalid

FORKED = frozenset({
    "approve", "bases", "block", "break-glass", "build", "chain", "curate", "deploy", "enforce", "explain", "freeze",
    "hold", "images", "inventory", "isolate", "key", "lifecycle", "monitor", "people", "policy", "registry-token",
    "rescan", "review", "reviews", "unblock", "unfreeze", "unhold", "unseal", "verdict", "vex", "waivers", "where",
})  # fmt: skip
"""Commands that need Prefect. Others start, end or change the laptop, run until they are ended, or are fast."""
COMPLETION = "_CSCM_COMPLETE"
"""Variable with which a shell asks for the words that may follow."""
TERMINAL = ("--key", "/dev/")
"""Begin of a word for which a fork lacks something: a terminal for a password, or other open files of the caller."""


def main() -> None:
    """Run the command in a fork, or in this process if there is no prefork server with the same code and settings."""
    words = sys.argv[1:]
    if may_fork(words, os.environ):
        try:
            status = prefork_client.run(
                str(find_home(find_project()) / PREFORK_SOCKET), "cscm.main:start", ["cscm", *words]
            )
        except SettingInvalid:
            status = None  # the command says what is wrong
        if status is not None:
            sys.exit(status)
    from cscm.main import start  # noqa: PLC0415 - takes a second

    start()


def may_fork(words: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Return whether a command needs Prefect, and nothing of its caller that a fork lacks."""
    needed = COMPLETION in environment or (bool(words) and words[0] in FORKED)
    return needed and not any(word.startswith(TERMINAL) for word in words)
