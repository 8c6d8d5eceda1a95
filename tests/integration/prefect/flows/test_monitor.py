"""monitor: its final state says whether a cluster may admit what it should refuse."""

from types import SimpleNamespace
from unittest.mock import AsyncMock, Mock

import pytest

from blocks.execution_ports import ExecutionPorts
from flows import monitor as module
from supply_chain.errors import ClusterRefused, DeclarationInvalid
from supply_chain.execution.enforcement.installation import EnforcementStatus
from supply_chain.execution.enforcement.policies import Mode
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.execution.observation import Deviation
from tasks import enforce
from tests.support.present import present


@pytest.fixture
def state(machine, monkeypatch):
    """Return a function that runs the flow with these deviations of a cluster, and returns its final state."""

    async def run(*codes, environment=None, unreadable=None):
        documents = EnvironmentDocuments((), unreadable or {})
        workbench = SimpleNamespace(environment_documents=lambda: documents)
        deviations = tuple(Deviation(code=code, fact="a fact", remedy="Do.") for code in codes)
        status = EnforcementStatus(
            environment="staging", namespace="apps", mode=Mode.DENY, admitted=0, deviations=deviations, would_refuse=()
        )
        enforced = {"staging": SimpleNamespace(status=lambda: status)}
        ports = SimpleNamespace(enforcements=enforced, workbench=workbench)
        monkeypatch.setattr(ExecutionPorts, "aload", AsyncMock(return_value=ports))
        monkeypatch.setattr(module, "monitor_step", AsyncMock(return_value=()))
        monkeypatch.setattr(enforce, "emit_about_environment", Mock())
        monkeypatch.setattr(module, "watch_step", AsyncMock(return_value=()))
        return await module.monitor(environment, return_state=True)

    return run


async def test_monitor_run_with_weak_enforcement_ends_as_unprotected(state):
    """That is an alert; a verdict that lapsed is a deviation like others."""
    assert (await state()).name == "Completed"
    assert (await state("enforcement.lapsed")).name == "Drifted"
    assert (await state("enforcement.lapsed", "enforcement.removed")).name == "Unprotected"


async def test_watch_continues_after_weak_enforcement(state):
    """What somebody starts while the cluster does not refuse it has to be seen; the alert does not wait for it."""
    assert (await state("enforcement.removed")).name == "Unprotected"
    assert module.watch_step.await_count == 1  # type: ignore[attr-defined]
    assert [each.args for each in enforce.emit_about_environment.call_args_list] == [  # type: ignore[attr-defined]
        ("environment.unprotected", "staging")
    ]
    await state("enforcement.lapsed")
    assert enforce.emit_about_environment.call_count == 0  # type: ignore[attr-defined]


async def test_monitor_run_fails_for_invalid_environment_after_all_checks(state):
    """It is named; a look at another environment does not depend on it, and an alert comes first."""
    unreadable = {"broken": DeclarationInvalid("its soak is wrong\ncorrect it")}

    ended = await state(unreadable=unreadable)
    assert ended.name == "Failed" and "broken: its soak is wrong — correct it [declaration.invalid]" in ended.message
    assert "[setting.invalid]" in ended.message
    assert module.watch_step.await_count == 1  # type: ignore[attr-defined]
    assert (await state(environment="staging", unreadable=unreadable)).name == "Completed"
    assert (await state("enforcement.removed", unreadable=unreadable)).name == "Unprotected"


async def test_unreadable_cluster_does_not_hide_weak_enforcement_elsewhere(machine, monkeypatch):
    """The artifact has both, and the run fails."""
    weak = EnforcementStatus(
        environment="weak", namespace="apps", mode=Mode.DENY, admitted=0,
        deviations=(Deviation(code="enforcement.removed", fact="a fact", remedy="Do."),), would_refuse=(),
    )  # fmt: skip
    unread = Mock(side_effect=ClusterRefused("it refused\ngo on"))
    published = AsyncMock()
    monkeypatch.setattr(enforce, "acreate_markdown_artifact", published)
    enforced = {"down": SimpleNamespace(status=unread), "weak": SimpleNamespace(status=lambda: weak)}

    with pytest.raises(ClusterRefused):
        await enforce.enforcement_step.fn(None, SimpleNamespace(enforcements=enforced))  # type: ignore[arg-type]

    text = present(published.await_args).kwargs["markdown"]
    assert "enforcement.removed" in text and "down: unknown: it refused" in text


async def test_enforcement_is_checked_if_observation_failed(machine, monkeypatch):
    """What runs in a cluster that does not answer is unknown; the admission to another one is not."""
    read = AsyncMock(return_value=())
    monkeypatch.setattr(ExecutionPorts, "aload", AsyncMock())
    monkeypatch.setattr(module, "monitor_step", AsyncMock(side_effect=ClusterRefused("it refused\ngo on")))
    monkeypatch.setattr(module, "enforcement_step", read)

    assert (await module.monitor(return_state=True)).name == "Failed"
    assert read.await_count == 1
