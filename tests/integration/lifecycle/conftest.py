"""A registry for one test, as the lifecycle and curation see it; statements are signed with the test's keys."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.evidence.store import EvidenceStore
from supply_chain.lifecycle.decisions import DecisionPorts
from supply_chain.lifecycle.reading import RegistryReader
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.aws.cloud import Cloud, Repository, credentials
from tests.support.content import Content
from tests.integration.emulator.conftest import Emulator, crane, emulator, python
from tests.unit.conftest import EcdsaSigner, at_work, machine, prefect_server, shared

__all__ = ["at_work", "crane", "emulator", "machine", "prefect_server", "python", "shared"]  # fixtures


@dataclass(frozen=True)
class Shop:
    """The registry, its repositories by name, and the view of each signer."""

    ecr: Ecr
    http: Registry
    signers: dict[TierName, EcdsaSigner]
    repository: Callable[[str], Repository]

    def store(self, tier: TierName) -> EvidenceStore:
        """Return the evidence store of a tier."""
        trusted = {name: signer.public for name, signer in self.signers.items()}
        return EvidenceStore(tier, self.http, self.signers[tier], trusted, lambda: datetime.now(UTC))

    @property
    def read(self) -> RegistryReader:
        return RegistryReader(self.ecr, self.http, self.store(TierName.LIFECYCLE))

    @property
    def bench(self) -> DecisionPorts:
        return DecisionPorts(self.store(TierName.LIFECYCLE), self.ecr, self.read)


def named(repository: Repository, content: Content) -> ImageRef:
    """Return the reference of an image."""
    return ImageRef(repository=repository.name, digest=content.digest)


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
