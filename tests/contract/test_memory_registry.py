"""The registry in memory and its ECR keep the contracts of their ports, so tests that use them are valid."""

from __future__ import annotations

import pytest

from supply_chain.errors import ImageDamaged, RegistryFailed
from supply_chain.model.image import ImageRef, digest_of
from tests.contract import ecr, registry
from tests.support.content import Content
from tests.support.memory_ecr import MemoryEcr
from tests.support.memory_registry import MemoryRegistry


@pytest.fixture
def memory() -> MemoryEcr:
    """ECR with two empty repositories."""
    made = MemoryEcr(MemoryRegistry(create_on_push=False))
    for name in ("test/app", "other/app"):
        made.ensure_repository(name, immutable=False, key=None)
    return made


class TestMemoryRegistry(registry.RegistryContract):
    @pytest.fixture
    def harness(self, memory: MemoryEcr) -> registry.Harness:
        return registry.Harness(memory.registry, "test/app", "other/app", memory.registry.put)


class TestMemoryEcr(ecr.EcrContract):
    @pytest.fixture
    def harness(self, memory: MemoryEcr) -> ecr.Harness:
        def wait(ref: ImageRef) -> None:
            memory.finish_restores()

        return ecr.Harness(memory, "test/app", memory.registry.put, memory.registry.has, wait, RegistryFailed)


def test_damaged_content_is_an_error_wherever_it_is_read() -> None:
    """As the client verifies content, which no test can damage in a real registry."""
    memory = MemoryRegistry()
    image = memory.put("dev/app", Content.image("one"))
    referrer = image.with_digest(memory.attach(image, "x/y", b"content", {}))

    memory.damage(image.repository, digest_of(b"content"))
    with pytest.raises(ImageDamaged):
        memory.content(referrer)
    for damaged, read in ((image, memory.manifest), (referrer, memory.layer)):
        memory.damage(damaged.repository, damaged.digest)
        with pytest.raises(ImageDamaged):
            read(damaged)
