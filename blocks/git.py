"""The block of a git repository, from which a controller applies what environments run."""

from __future__ import annotations

import time
from typing import Annotated, ClassVar

from pydantic import Field, SecretStr, StringConstraints

from blocks.setting import Setting
from orchestration.clock import read_clock
from supply_chain.adapters.git.remote import Author, RemoteBranch
from supply_chain.adapters.git.ssh_signature import load_key

Line = Annotated[str, StringConstraints(pattern=r"^[^\s<>][^<>\n]*$", max_length=200)]


class GitRepository(Setting):
    """A git repository to which promotions are committed, and the account that does it."""

    _block_type_name: ClassVar[str] = "Supply Chain Git Repository"
    _block_type_slug: ClassVar[str] = "supply-chain-git-repository"
    _description: ClassVar[str] = "The git repository in which promotions are commits."

    address: Annotated[
        str, StringConstraints(pattern=r"^(?:https://|http://(?:127\.0\.0\.1|localhost)[:/])[^\s@?#]+$")
    ] = Field(title="Address", description="The HTTPS address, without credentials.")
    username: str = Field(default="", title="Account", description="Its account; for a token often any name.")
    password: SecretStr = Field(default=SecretStr(""), title="Password or token", description="Of the account.")
    committer: Line = Field(default="Container Supply Chain", title="Committer", description="The name in commits.")
    email: Line = Field(title="E-mail", description="The committer's address, for which the git host has the key.")
    signing_key: SecretStr = Field(
        title="Signing key",
        description="The private key that signs the commits, as `ssh-keygen -t ed25519 -N ''` writes it.",
    )

    def branch(self, name: str) -> RemoteBranch:
        """Return a branch; raise `SettingInvalid` if the key is unusable."""
        author = Author(self.committer, self.email, load_key(self.signing_key.get_secret_value()))
        password = self.password.get_secret_value()
        return RemoteBranch(self.address, name, author, read_clock, time.sleep, self.username, password)
