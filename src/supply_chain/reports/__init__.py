"""Pure functions that render the model's values as markdown, table rows and lines for operators."""

from supply_chain.reports.fleet import (
    explanation_lines,
    explanation_page,
    freshness_line,
    image_row,
    image_rows,
    place_row,
)
from supply_chain.reports.lifecycle import applied_lines, applied_rows, plan_lines, plan_rows
from supply_chain.reports.people import (
    list_waiver_notices,
    people_lines,
    review_lines,
    waiver_attention_table,
    waiver_lines,
)
from supply_chain.reports.policy import (
    facts_page,
    policy_explanation_lines,
    policy_explanation_page,
    policy_page,
)
from supply_chain.reports.preflight import preflight_junit, preflight_lines, preflight_sarif
from supply_chain.reports.preview import (
    policy_preview_lines,
    policy_preview_page,
    policy_preview_rows,
    upcoming_rules_page,
)
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
    run_summary,
)
from supply_chain.reports.runtime import (
    alert_page,
    break_glass_page,
    isolation_page,
    observation_lines,
    observation_rows,
    response_page,
)
from supply_chain.reports.text import escape, format_day, format_megabytes, keep_together, render_table, truncate_rows

__all__ = [
    "RunReport",
    "Step",
    "alert_page",
    "applied_lines",
    "applied_rows",
    "break_glass_page",
    "describe_checks",
    "escape",
    "explanation_lines",
    "explanation_page",
    "facts_page",
    "findings_summary",
    "findings_table",
    "format_day",
    "format_megabytes",
    "freshness_line",
    "image_row",
    "image_rows",
    "isolation_page",
    "keep_together",
    "list_waiver_notices",
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
    "render_table",
    "rescan_message",
    "rescan_page",
    "rescan_progress",
    "rescan_rows",
    "rescan_summary",
    "response_page",
    "review_lines",
    "run_report_page",
    "run_summary",
    "truncate_rows",
    "upcoming_rules_page",
    "waiver_attention_table",
    "waiver_lines",
]
