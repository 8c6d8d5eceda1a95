"""monitor: its final state says whether a cluster may admit what it should refuse."""

from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest

from blocks.execution_ports import ExecutionPorts
from flows import monitor as module
from supply_chain.execution.enforcement.installation import EnforcementStatus
from supply_chain.execution.enforcement.policies import Mode
from supply_chain.execution.observation import Deviation


@pytest.fixture
def state(machine, monkeypatch):
    """Return a function that runs the flow with these deviations of a cluster, and returns its final state."""

    async def run(*codes):
        deviations = tuple(Deviation(code=code, fact="a fact", remedy="Do.") for code in codes)
        status = EnforcementStatus(
            environment="staging", namespace="apps", mode=Mode.DENY, admitted=0, deviations=deviations, would_refuse=()
        )
        enforced = {"staging": SimpleNamespace(status=lambda: status)}
        ports = SimpleNamespace(enforcements=enforced)
        monkeypatch.setattr(ExecutionPorts, "aload", AsyncMock(return_value=ports))
        monkeypatch.setattr(module, "monitor_step", AsyncMock(return_value=()))
        return (await module.monitor(return_state=True)).name

    return run


async def test_weak_enforcement_ends_the_run_as_unprotected(state):
    """That is an alert; a verdict that lapsed is a deviation like others."""
    assert await state() == "Completed"
    assert await state("enforcement.lapsed") == "Drifted"
    assert await state("enforcement.lapsed", "enforcement.removed") == "Unprotected"
