"""The flow `deploy`: nothing is deployed to an environment that contradicts another one."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from blocks.execution_ports import ExecutionPorts
from flows.deploy import deploy
from supply_chain.errors import SettingInvalid


async def test_environment_that_contradicts_another_one_gets_no_deployment(
    machine: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both can be read, and each would stop what the other one serves at their common address."""
    ports: Any = Mock()
    ports.workbench.environments = Mock(side_effect=SettingInvalid("two share a port\nchange one"))
    monkeypatch.setattr(ExecutionPorts, "aload", AsyncMock(return_value=ports))

    with pytest.raises(SettingInvalid, match="two share a port"):
        await deploy(image="sha256:" + "a" * 64, environment="staging")

    assert not ports.load_target.called
