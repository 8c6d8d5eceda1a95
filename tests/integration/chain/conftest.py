"""The chain as a user runs it, and clients that inspect its results from outside.

The command runs each example once for all tests.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from cscm_laptop.laptop import LaptopState
from supply_chain.model.tier import TierName
from tests.support.access import Outsider
from tests.support.command import Chain, Ran, cscm

EXAMPLES = ("hello", "outdated", "careless")
"""What most tests need; the longest chain comes first."""


@pytest.fixture(scope="session")
def chain(bases: None, request: pytest.FixtureRequest) -> Iterator[Chain]:
    """A function that returns the result of an example's chain; each runs once in a session, two at a time."""
    here = [item for item in request.session.items if item.path.parent == Path(__file__).parent]
    runs: dict[str, Future[Ran]] = {}

    def run(name: str) -> Ran:
        for each in (name, *EXAMPLES) if len(here) > 1 else (name,):
            if each not in runs:
                runs[each] = pool.submit(_run, each)
        return runs[name].result()

    with ThreadPoolExecutor(2) as pool:
        yield run
        pool.shutdown(cancel_futures=True)


def _run(name: str) -> Ran:
    if name == "clock":
        made = cscm("bases", "go-build", timeout=900)  # the base of the example in Go
        assert made.status == 0, made.stderr
    return cscm("chain", f"examples/{name}", "--json")


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
