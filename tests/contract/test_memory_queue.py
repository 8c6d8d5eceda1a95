"""The queue in memory keeps the contract of its ports, so tests that use it are valid."""

from __future__ import annotations

import pytest

from tests.contract.queue import Harness, QueueContract
from tests.support.memory_queue import MemoryQueue


class TestMemoryQueue(QueueContract):
    @pytest.fixture
    def harness(self) -> Harness:
        now = [0.0]

        def wait() -> None:
            now[0] += 60

        return Harness(MemoryQueue(clock=lambda: now[0]), wait)
