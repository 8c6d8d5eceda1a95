"""Flow `morning`: write the daily report of what happened, what waits and what to do."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact

from blocks import Workbench
from orchestration.clock import now
from supply_chain.reports.daily import DailyReport, daily_report_page
from tasks.daily_report import look_back


@flow(name="morning", flow_run_name="morning")
async def morning(hours: int = 24) -> DailyReport:
    """Write the operators' page: what ran, what changed, what waits for somebody, what failed and what to do.

    Args:
        hours: How far to look back.
    """
    night = await look_back(now(), hours, await Workbench.aload("workbench"))
    await acreate_markdown_artifact(key="morning", markdown=daily_report_page(night), description=night.headline)
    return night
