"""KMS in memory keeps the contract of its port, so tests that use it are valid."""

from __future__ import annotations

from itertools import count

import pytest

from tests.contract.kms import Harness, KmsContract
from tests.support.memory_kms import MemoryKms


class TestMemoryKms(KmsContract):
    @pytest.fixture
    def harness(self) -> Harness:
        kms, numbers = MemoryKms(), count()

        def create(rotated: bool) -> tuple[str, str]:
            name = f"key-{next(numbers)}"
            return kms.create(name, rotates=rotated), f"alias/{name}"

        denied = MemoryKms(kms.keys, set(), kms.wrapped)
        return Harness(kms, create, lambda arn: kms.change(arn, enabled=False), denied)
