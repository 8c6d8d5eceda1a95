"""Starts `cscm`: most commands as a fork of the laptop's prefork server, which has imported what they need.

A command that imports Prefect and the flows itself spends seconds on that. This module imports next to nothing.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence

from orchestration import prefork_client
from orchestration.project import PREFORK_SOCKET, find_home, find_project
from supply_chain.errors import SettingInvalid

FORKABLE = frozenset({
    "approve", "bases", "block", "break-glass", "build", "chain", "curate", "deploy", "enforce", "explain", "freeze",
    "hold", "images", "inventory", "isolate", "key", "lifecycle", "monitor", "people", "policy", "registry-token",
    "rescan", "review", "reviews", "unblock", "unfreeze", "unhold", "verdict", "vex", "waivers", "where",
})  # fmt: skip
"""Commands that need Prefect. Others start, end or change the laptop, run until they are ended, ask for a password, or
are fast.
"""
COMPLETION = "_CSCM_COMPLETE"
"""Variable with which a shell asks for the words that may follow."""
KEY_VARIABLE = "COSIGN_PASSWORD"
"""Variable with the password of a key, which otherwise is typed in a terminal."""
KEY = re.compile(r"--key\b")
PRIVATE = re.compile(r"--verbose$|-v$|.*\bpkcs11:|.*/(dev|proc)/")
"""Words for which a fork lacks something: a terminal for a token's PIN or for colours, or other open files."""


def main() -> None:
    """Run the command in a fork, or in this process if there is no prefork server with the same code and settings."""
    words = sys.argv[1:]
    if can_be_forked(words, os.environ):
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


def can_be_forked(words: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Return whether a command needs Prefect, and nothing of its caller that a fork lacks."""
    needed = COMPLETION in environment or (bool(words) and words[0] in FORKABLE)
    asks_password = KEY_VARIABLE not in environment and any(map(KEY.match, words))
    return needed and not asks_password and not any(map(PRIVATE.match, words))
