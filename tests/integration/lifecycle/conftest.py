"""A registry for one test, as the lifecycle and curation see it; statements are signed with the test's keys."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.model.tier import TierName
from tests.integration.lifecycle.shop import Shop
from tests.support.cloud import Cloud, Repository, credentials
from tests.support.emulator import Emulator, crane, emulator, python
from tests.support.prefect_server import at_work, machine, prefect_server, shared
from tests.support.signer import EcdsaSigner

__all__ = ["at_work", "crane", "emulator", "machine", "prefect_server", "python", "shared"]  # fixtures


@pytest.fixture
def shop(emulator: Emulator, tmp_path: Path) -> Iterator[Shop]:
    """An empty registry."""
    client: Any = emulator.client("ecr")
    ecr = Ecr(client, emulator.host)
    http = Registry(RegistryHttp(emulator.host, ecr.credentials, insecure=True))
    with contextlib.ExitStack() as stack:

        def repository(name: str) -> Repository:
            client.create_repository(repositoryName=name)
            url = f"http://{emulator.host}"
            own = httpx.Client(base_url=url, auth=credentials(client), trust_env=False, timeout=60)
            cloud = Cloud(emulator.client, "", 30.0, 0.0, lambda _: url)
            return Repository(cloud, client, name, stack.enter_context(own))

        yield Shop(ecr, http, {tier: EcdsaSigner() for tier in TierName}, repository)
