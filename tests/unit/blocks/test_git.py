"""The block of a git repository."""

import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr, ValidationError

from blocks import GitRepository
from supply_chain.errors import SettingInvalid

VALID = {"address": "https://git.example.com/environments.git", "email": "chain@example.com", "signing_key": "key"}


@pytest.mark.parametrize(
    "fields",
    [
        {"address": "http://git.example.com/e.git"},
        {"address": "https://user:token@git.example.com/e.git"},
        {"address": "ssh://git.example.com/e.git"},
        {"address": "/srv/e.git"},
        {"email": "a>b"},
        {"committer": "a\nb"},
    ],
    ids=str,
)
def test_repository_block_takes_only_https_without_credentials(fields):
    """The address is in records and errors, and a token in plain would be anybody's."""
    with pytest.raises(ValidationError):
        GitRepository(**(VALID | fields))


def test_branch_waits_also_in_a_cancelled_run():
    """Such a run has to revert its commit, and may have to try again."""
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    block = GitRepository(**{**VALID, "signing_key": SecretStr(key)})

    assert block.branch("main").wait is time.sleep


def test_repository_block_reports_unusable_key_without_showing_it():
    """A forgotten passphrase, or the public half."""
    block = GitRepository(**{**VALID, "signing_key": SecretStr("nonsense")})

    with pytest.raises(SettingInvalid) as raised:
        block.branch("main")

    assert "nonsense" not in str(raised.value)
