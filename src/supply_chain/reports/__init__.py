"""Pure functions that render the model's values as markdown, table rows and lines for operators."""

from supply_chain.reports.fleet import as_of, explanation, explanation_lines, image_row, image_rows, place_row
from supply_chain.reports.lifecycle import applied_lines, applied_rows, plan_lines, plan_rows
from supply_chain.reports.rescan import (
    owner_rows,
    rescan_message,
    rescan_page,
    rescan_progress,
    rescan_rows,
    rescan_summary,
)
from supply_chain.reports.run import RunReport, Step, findings_summary, findings_table, run_report_page, summary
from supply_chain.reports.runtime import alert_page, observation_lines, observation_rows, response_page
from supply_chain.reports.text import at_most, day, escaped, megabytes, table, unbroken

__all__ = [
    "RunReport",
    "Step",
    "alert_page",
    "applied_lines",
    "applied_rows",
    "as_of",
    "at_most",
    "day",
    "escaped",
    "explanation",
    "explanation_lines",
    "findings_summary",
    "findings_table",
    "image_row",
    "image_rows",
    "megabytes",
    "observation_lines",
    "observation_rows",
    "owner_rows",
    "place_row",
    "plan_lines",
    "plan_rows",
    "rescan_message",
    "rescan_page",
    "rescan_progress",
    "rescan_rows",
    "rescan_summary",
    "response_page",
    "run_report_page",
    "summary",
    "table",
    "unbroken",
]
