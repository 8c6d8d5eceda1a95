"""The engine in memory keeps the contract of the port, so tests that use it are valid for the real engine."""

from __future__ import annotations

from uuid import uuid4

import pytest

from supply_chain.model.image import Digest
from tests.contract.engine import EngineContract, Harness
from tests.support.memory_engine import MemoryEngine


class TestMemoryEngine(EngineContract):
    @pytest.fixture
    def harness(self) -> Harness:
        engine = MemoryEngine()

        def image(*names: str) -> Digest:
            labels = {"test": uuid4().hex}
            return engine.add(*names, environment={"GREETING": "hello"}, command=("/subject", "hang"), labels=labels)

        return Harness(engine, engine.owned, image, mark=f"t{uuid4().hex[:8]}", port=8080)
