"""The flow `daily-report`: what operators read, and what owners are notified of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from blocks import Workbench
from flows import daily_report as module
from supply_chain.reports.daily import DailyReport
from supply_chain.reports.people import WaiverNotice
from tests.support.builders import NOON


async def test_owners_are_notified_of_each_stage_of_a_waiver(monkeypatch: pytest.MonkeyPatch) -> None:
    """The notification is remembered for longer than the stage lasts."""
    notices = tuple(WaiverNotice(once=f"waiver {name}", subject=name, body="expires soon") for name in ("a", "b"))
    report = DailyReport(
        since=NOON, until=NOON, runs=(), waiting=(), changes=(), views={}, artifacts={}, ui="", waiver_notices=notices
    )
    sent: list[Any] = []

    async def load(name: str) -> SimpleNamespace:
        return SimpleNamespace(notify="kind/name")

    async def collect(*_: object) -> DailyReport:
        return report

    async def notify(*words: str, **settings: object) -> None:
        sent.append((*words, settings))

    async def nothing(**_: object) -> None:
        pass

    monkeypatch.setattr(Workbench, "aload", load)
    monkeypatch.setattr(module, "collect_step", collect)
    monkeypatch.setattr(module, "notify", notify)
    monkeypatch.setattr(module, "acreate_markdown_artifact", nothing)

    assert await module.daily_report.fn() == report
    assert sent == [
        (name, "expires soon", "kind/name", {"once": f"waiver {name}", "again_after": module.REMEMBERED})
        for name in ("a", "b")
    ]
