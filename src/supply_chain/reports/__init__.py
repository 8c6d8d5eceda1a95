"""Pure functions that render the model's values as markdown, table rows and lines for operators."""

from supply_chain.reports.fleet import explanation, explanation_lines, freshness_line, image_row, image_rows, place_row
from supply_chain.reports.lifecycle import applied_lines, applied_rows, plan_lines, plan_rows
from supply_chain.reports.people import people_lines, review_lines, waiver_attention, waiver_lines, waiver_notices
from supply_chain.reports.policy import (
    facts_page,
    policy_explanation_lines,
    policy_explanation_page,
    policy_page,
)
from supply_chain.reports.preflight import preflight_junit, preflight_lines, preflight_sarif
from supply_chain.reports.preview import policy_preview_lines, policy_preview_page, policy_preview_rows, upcoming_rules
from supply_chain.reports.rescan import (
    owner_rows,
    rescan_message,
    rescan_page,
    rescan_progress,
    rescan_rows,
    rescan_summary,
)
from supply_chain.reports.run import (
    RunReport,
    Step,
    describe_checks,
    findings_summary,
    findings_table,
    run_report_page,
    summary,
)
from supply_chain.reports.runtime import (
    alert_page,
    break_glass_page,
    isolation_page,
    observation_lines,
    observation_rows,
    response_page,
)
from supply_chain.reports.text import day, escape, keep_together, megabytes, table, truncate_rows

__all__ = [
    "RunReport",
    "Step",
    "alert_page",
    "applied_lines",
    "applied_rows",
    "break_glass_page",
    "day",
    "describe_checks",
    "escape",
    "explanation",
    "explanation_lines",
    "facts_page",
    "findings_summary",
    "findings_table",
    "freshness_line",
    "image_row",
    "image_rows",
    "isolation_page",
    "keep_together",
    "megabytes",
    "observation_lines",
    "observation_rows",
    "owner_rows",
    "people_lines",
    "place_row",
    "plan_lines",
    "plan_rows",
    "policy_explanation_lines",
    "policy_explanation_page",
    "policy_page",
    "policy_preview_lines",
    "policy_preview_page",
    "policy_preview_rows",
    "preflight_junit",
    "preflight_lines",
    "preflight_sarif",
    "rescan_message",
    "rescan_page",
    "rescan_progress",
    "rescan_rows",
    "rescan_summary",
    "response_page",
    "review_lines",
    "run_report_page",
    "summary",
    "table",
    "truncate_rows",
    "upcoming_rules",
    "waiver_attention",
    "waiver_lines",
    "waiver_notices",
]
