"""Flow `morning`: write the daily report for the operators."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact

from blocks import Workbench
from orchestration.clock import now
from supply_chain.reports.daily import DailyReport, daily_report_page
from tasks.daily_report import look_back


@flow(name="morning", flow_run_name="morning")
async def morning(hours: int = 24) -> DailyReport:
    """Write the daily report: runs, changes, what waits for a person, what failed and what to do about it.

    Args:
        hours: The number of hours to report on.
    """
    night = await look_back(now(), hours, await Workbench.aload("workbench"))
    await acreate_markdown_artifact(key="morning", markdown=daily_report_page(night), description=night.headline)
    return night
