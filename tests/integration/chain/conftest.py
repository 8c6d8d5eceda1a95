"""The chain as a user runs it, and clients that inspect its results from outside.

The command runs each application once for all tests.
"""

from __future__ import annotations

import base64
from pathlib import Path

import boto3
import pytest

from cscm_laptop.laptop import LaptopState
from supply_chain.model.tier import TierName
from tests.support.access import Outsider
from tests.support.command import Chain, Ran, cscm


@pytest.fixture(scope="session")
def bases(bases: None) -> None:
    """The bases of every laptop, and the base of the example in Go."""
    made = cscm("bases", "go-build", timeout=900)
    assert made.status == 0, made.stderr


@pytest.fixture(scope="session")
def chain(bases: None) -> Chain:
    """A function that runs the chain of an example, once in a session."""
    ran: dict[str, Ran] = {}

    def run(name: str) -> Ran:
        if name not in ran:
            ran[name] = cscm("chain", f"examples/{name}", "--json")
        return ran[name]

    return run


@pytest.fixture(scope="session")
def outsider(laptop: LaptopState, tmp_path_factory: pytest.TempPathFactory) -> Outsider:
    """A client with the read access of the execution role."""
    return Outsider.of(laptop, TierName.EXECUTION, tmp_path_factory.mktemp("outside"))


@pytest.fixture(scope="session")
def keys(root: boto3.Session, laptop: LaptopState, tmp_path_factory: pytest.TempPathFactory) -> dict[TierName, Path]:
    """The path of each tier's public key, as KMS returns it."""
    kms = root.client("kms", endpoint_url=laptop.endpoint_url)
    directory = tmp_path_factory.mktemp("keys")
    files = {}
    for tier in TierName:
        der = kms.get_public_key(KeyId=f"alias/cscm-{tier}")["PublicKey"]
        lines = base64.encodebytes(der).decode()
        files[tier] = directory / f"{tier}.pub"
        files[tier].write_text(f"-----BEGIN PUBLIC KEY-----\n{lines}-----END PUBLIC KEY-----\n")
    return files
