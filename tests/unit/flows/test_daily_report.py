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


@pytest.mark.parametrize("new", [2, 2 * module.MOST_NOTICES])
async def test_owners_are_notified_of_each_stage_of_a_waiver(monkeypatch: pytest.MonkeyPatch, new: int) -> None:
    """The notification is remembered for longer than the stage lasts; the next report notifies of the others."""
    names = [str(number) for number in range(30 + new)]
    notices = tuple(WaiverNotice(once=f"waiver {name}", subject=name, body="expires soon") for name in names)
    report = DailyReport(
        since=NOON, until=NOON, runs=(), waiting=(), changes=(), views={}, artifacts={}, ui="", waiver_notices=notices
    )
    sent: list[Any] = []

    async def load(name: str) -> SimpleNamespace:
        return SimpleNamespace(notify="kind/name")

    async def collect(*_: object) -> DailyReport:
        return report

    async def notify(subject: str, *words: str, **settings: object) -> bool:
        if int(subject) < 30:  # an earlier report did
            return False
        sent.append((subject, *words, settings))
        return True

    async def nothing(**_: object) -> None:
        pass

    monkeypatch.setattr(Workbench, "aload", load)
    monkeypatch.setattr(module, "collect_step", collect)
    monkeypatch.setattr(module, "notify", notify)
    monkeypatch.setattr(module, "acreate_markdown_artifact", nothing)

    assert await module.daily_report.fn() == report
    assert sent == [
        (name, "expires soon", "kind/name", {"once": f"waiver {name}", "again_after": module.REMEMBERED})
        for name in names[30 : 30 + module.MOST_NOTICES]
    ]
