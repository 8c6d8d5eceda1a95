"""Flow `daily-report`: write the daily report for the operators."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact

from blocks import Workbench
from orchestration.clock import read_clock
from orchestration.notifications import notify
from supply_chain.reports.daily import DailyReport, daily_report_page
from tasks.daily_report import collect_step

REMEMBERED = timedelta(days=366)
"""For how long nobody is notified again of the same stage of a waiver."""
MOST_NOTICES = 20
"""Number of notifications of one report, which lists all: one cause may concern every waiver."""


@flow(name="daily-report", flow_run_name="daily-report")
async def daily_report(hours: int = 24) -> DailyReport:
    """Write the daily report: runs, changes, what waits for a person, what failed and what to do about it.

    Owners are notified once of each waiver that expires soon, is not used or has no effect. The next report notifies
    them of what is more than `MOST_NOTICES`.

    Args:
        hours: The number of hours to report on.
    """
    workbench: Workbench = await Workbench.aload("workbench")
    report = await collect_step(read_clock(), hours, workbench)
    await acreate_markdown_artifact(key="daily-report", markdown=daily_report_page(report), description=report.headline)
    sent = 0
    for each in report.waiver_notices:
        sent += await notify(each.subject, each.body, workbench.notify, once=each.once, again_after=REMEMBERED)
        if sent == MOST_NOTICES:
            break
    return report
