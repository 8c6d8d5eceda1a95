"""Flow `daily-report`: write the daily report for the operators."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact

from blocks import Workbench
from orchestration.clock import now
from supply_chain.reports.daily import DailyReport, daily_report_page
from tasks.daily_report import collect_step


@flow(name="daily-report", flow_run_name="daily-report")
async def daily_report(hours: int = 24) -> DailyReport:
    """Write the daily report: runs, changes, what waits for a person, what failed and what to do about it.

    Args:
        hours: The number of hours to report on.
    """
    workbench: Workbench = await Workbench.aload("workbench")
    report = await collect_step(now(), hours, workbench)
    await acreate_markdown_artifact(key="daily-report", markdown=daily_report_page(report), description=report.headline)
    return report
