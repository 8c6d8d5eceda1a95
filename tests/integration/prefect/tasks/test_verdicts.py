"""Deployments that are judged again once, after something else decides."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from prefect.variables import Variable

from supply_chain.errors import EvidenceInvalid, SettingInvalid
from supply_chain.evidence.published import CurrentVerdict
from supply_chain.execution.environment import DockerEnvironment, Environment
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.model.image import ImageRef
from tasks import verdicts
from tests.support.builders import refused
from tests.support.facts import CURATED


async def test_deployments_are_judged_again_once_per_decision_version(
    machine: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again if one of them could not be judged; one whose verdict is the same may end soon.

    The document that cannot be read is named each time. Once it is corrected, something else decides.
    """
    version, judged, errors = ["1"], list[str](), [EvidenceInvalid("it is damaged\ngo on")]

    def judge(ref: ImageRef, environment: Environment, current: CurrentVerdict | None) -> Any:
        judged.append("judged")
        if version[0] == "2" and errors:
            raise errors.pop()
        return refused() if version[0] == "3" else None

    def renew(ref: ImageRef, environment: Environment, current: CurrentVerdict | None) -> None:
        judged.append("renewed")

    expected = [SimpleNamespace(environment="staging", application="hello", digest=CURATED.digest)]
    monkeypatch.setattr(verdicts, "read_expected", lambda *_: expected)
    await Variable.aset(verdicts.JUDGED, "0", overwrite=True)
    documents = EnvironmentDocuments(
        (DockerEnvironment(name="staging"),), {"broken": SettingInvalid("it is bad\ngo on")}
    )
    ports: Any = SimpleNamespace(
        workbench=SimpleNamespace(environment_documents=lambda: documents), repositories=None, registry=None,
        evidence=None, renew_published=renew, judge_published=judge, decision_version=lambda: version[0],
        read_published=lambda *_: None,
    )  # fmt: skip

    async def run(decides: str) -> list[str]:
        version[0] = decides
        judged.clear()
        found = await verdicts.renew_step.fn(ports)
        assert found.unknown[-1:] == ("the environment broken: it is bad",)
        return judged

    both = ["judged", "renewed"]
    assert await run("1") == both and await run("1") == ["renewed"]
    assert await run("2") == ["judged"] and await Variable.aget(verdicts.RENEWING), "the next run makes up for events"
    assert await run("2") == both and not await Variable.aget(verdicts.RENEWING, default="")
    assert await run("2") == ["renewed"]
    assert await run("3") == ["judged"] and await run("3") == ["renewed"]
