"""The branch in memory keeps the contract."""

from __future__ import annotations

import pytest

from tests.contract.branch import CONTENT, PATH, BranchContract
from tests.support.memory_branch import MemoryBranch


class TestMemoryBranch(BranchContract):
    """The contract."""

    @pytest.fixture
    def branch(self) -> MemoryBranch:
        """Return a branch with one commit."""
        return MemoryBranch({PATH: CONTENT})
