"""Which keys the documents of the roles let each of them sign with: no identity has the keys of two tiers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from supply_chain.errors import SettingInvalid

SIGN = "kms:sign"
OWN = ("${SIGNING_KEY}", "${VERDICT_KEY}")
"""What stands in a document for the keys of its role: for evidence, and for published verdicts."""


def list_foreign_keys(directory: Path) -> tuple[str, ...]:
    """Return, for each role whose document lets it sign with a key that is not its own, the role and that key.

    A statement that allows everything but some actions or resources counts as one that allows all keys. Raise
    `SettingInvalid` for a document that is no policy, and without any document.
    """
    files = sorted(directory.glob("*.json"))
    if not files:
        raise SettingInvalid(f"{directory} has no document of a role.\nRestore them from the project's repository.")
    return tuple(f"{file.stem} may sign with {key}" for file in files for key in _foreign_keys(file))


def _foreign_keys(file: Path) -> Iterator[str]:
    try:
        statements = _listed(json.loads(file.read_text())["Statement"])
        for statement in statements:
            if statement["Effect"] == "Allow" and _may_sign(statement):
                keys = _listed(statement.get("Resource", "any key"))
                own = tuple(f":alias/cscm-{file.stem}{suffix}" for suffix in ("", "-verdicts"))
                yield from (key for key in keys if key not in OWN and not key.endswith(own))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingInvalid(f"{file} is not an IAM policy.\nRestore it from the project's repository.") from error


def _may_sign(statement: Mapping[str, Any]) -> bool:
    if "NotAction" in statement:
        return True
    return any(fnmatchcase(SIGN, action.lower()) for action in _listed(statement["Action"]))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
