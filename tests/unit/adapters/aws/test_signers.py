"""No role signs with the key of another tier, according to its document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cscm_laptop import doctor
from supply_chain.adapters.aws.accounts import POLICIES
from supply_chain.adapters.aws.signers import list_foreign_keys
from supply_chain.errors import SettingInvalid
from tests.support.command import ROOT

ALIAS = "arn:aws:kms:${REGION}:${ACCOUNT}:alias/cscm-"
OWN = ["${SIGNING_KEY}", f"{ALIAS}curation", "${VERDICT_KEY}", f"{ALIAS}curation-verdicts"]


def written(directory: Path, *statements: dict[str, Any]) -> Path:
    allowed = [{"Effect": "Allow", "Action": "kms:Sign", "Resource": OWN} | each for each in statements]
    (directory / "curation.json").write_text(json.dumps({"Statement": allowed}))
    return directory


def test_shipped_roles_sign_with_their_own_keys_only() -> None:
    """Whoever has one tier's key can sign what that tier says, and nothing else."""
    assert list_foreign_keys(ROOT / POLICIES) == ()
    check = doctor._identities(ROOT / POLICIES)
    assert (check.ok, check.actual) == (True, "one tier each")


@pytest.mark.parametrize(("changes", "key"), [
    ({"Resource": f"{ALIAS}execution"}, f"{ALIAS}execution"), ({"Resource": [*OWN, "*"]}, "*"),
    ({"Resource": f"{ALIAS}execution-verdicts"}, f"{ALIAS}execution-verdicts"),
    ({"Action": ["kms:DescribeKey", "kms:*"], "Resource": "*"}, "*"), ({"Action": "*", "Resource": "*"}, "*"),
    ({"Action": "KMS:SIGN", "Resource": "*"}, "*"), ({"Resource": f"{ALIAS}curation-2"}, f"{ALIAS}curation-2"),
])  # fmt: skip
def test_role_that_may_sign_with_another_key_is_listed(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    """Also by a wildcard."""
    assert list_foreign_keys(written(tmp_path, {}, changes)) == (f"curation may sign with {key}",)
    check = doctor._identities(tmp_path)
    assert not check.ok and check.actual == f"curation may sign with {key}" and "key of its own tier" in check.remedy


def test_role_that_may_do_all_but_something_is_listed(tmp_path: Path) -> None:
    """Nobody sees in the document what it allows."""
    everything = {"Statement": {"Effect": "Allow", "NotAction": "iam:*", "NotResource": "x"}}
    (tmp_path / "curation.json").write_text(json.dumps(everything))

    assert list_foreign_keys(tmp_path) == ("curation may sign with any key",)


def test_statements_that_sign_nothing_do_not_count(tmp_path: Path) -> None:
    """Others' keys may be read and described, and a denial allows nothing."""
    other = {"Resource": "*"}
    denied, read = {"Effect": "Deny", **other}, {"Action": ["kms:GetPublicKey", "kms:SignX"], **other}

    assert list_foreign_keys(written(tmp_path, denied, read, {})) == ()


@pytest.mark.parametrize("content", [None, "x", "[]", "{}", '{"Statement": [1]}', '{"Statement": {"Effect": "Allow"}}'])
def test_unreadable_document_of_a_role_is_an_error(tmp_path: Path, content: str | None) -> None:
    """It is not taken for one that allows nothing."""
    if content is not None:
        (tmp_path / "curation.json").write_text(content)

    with pytest.raises(SettingInvalid, match="Restore"):
        list_foreign_keys(tmp_path)
    assert not doctor._identities(tmp_path).ok
