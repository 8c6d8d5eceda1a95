"""What an operator reads in Prefect's UI: the daily report, the views, and answers from the inventory."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from orchestration.registration.views import View, read_views
from tests.support.command import ROOT
from tests.support.ui import Ui

pytestmark = pytest.mark.real
SCHEDULED = 10
"""Maximum number of starts of a run that a scheduled run may block."""


def run(ui: Ui, flow: str, deployment: str, **parameters: Any) -> str:
    """Run a deployment as its button does, and return the run's id after it completed.

    A run that was cancelled because the scheduled one was in progress is started again.
    """
    found = ui.api(f"deployments/name/{flow}/{deployment}")
    body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}

    for _ in range(SCHEDULED):
        run = ui.ended(ui.api(f"deployments/{found['id']}/create_flow_run", body)["id"])
        if run["state_type"] != "CANCELLED":
            break
        ui.page.wait_for_timeout(5000)
    assert run["state_type"] == "COMPLETED", run["state"]
    return str(run["id"])


@pytest.fixture(scope="module")
def report(ui: Ui, careless: str) -> str:
    """The run that made a daily report after a refused chain."""
    ui.ended(careless)
    return run(ui, "daily-report", "every-15-minutes")


def test_daily_report_shows_waiting_failed_changed_and_found_items(ui: Ui, report: str) -> None:
    """The operator starts the day with one page, whose entries link to the runs."""
    ui.open(ui.artifact(report, "daily-report"))

    page = ui.shows("Waits for you", "Failed, and what to do", "Did not start", "What changed", "What was found")
    assert "What ran" in page and "daily-report/every-15-minutes" in page
    assert "Refused" in page.partition("What was found")[2]
    ui.picture("daily-report")
    assert ui.page.locator("a[href*='/runs/flow-run/']").count() > 0, "what was found leads to its run"


def test_where_and_explain_pages_answer_for_an_image(ui: Ui, hello: str) -> None:
    """The pages use the same words as the command line."""
    ui.ended(hello)
    run(ui, "inventory", "hourly", application="hello")
    ui.open(ui.artifact(run(ui, "where", "on-demand", question="base/python"), "where"))
    ui.shows("built on base/python", "hello")
    images = ui.api("artifacts/filter", {"artifacts": {"key": {"any_": ["where"]}}, "sort": "CREATED_DESC", "limit": 1})
    rows: list[dict[str, str]] = [row for row in _rows(images[0]) if row["application"] == "hello"]
    made = run(ui, "explain", "on-demand", digest=rows[0]["digest"])
    ui.open(ui.artifact(made, f"explain-{rows[0]['digest']}"))

    page = ui.shows("What happened", "built", "admitted at the intake gate", "signed", "Built on it")
    assert "curated/base/python" in page


def _rows(artifact: dict[str, Any]) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(artifact["data"])
    return rows


VIEWS = read_views(ROOT)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: str(view.name))
def test_saved_view_filters_the_list_of_runs(ui: Ui, view: View) -> None:
    """Prefect's first UI reads saved views from the server."""
    ui.page.goto(f"{ui.address}/runs?state=Failed&tag=none")
    box = ui.page.locator(".saved-filters")
    box.locator("button").first.focus()
    ui.page.keyboard.press("ArrowDown")
    ui.page.locator(".p-select-option").get_by_text(view.name, exact=True).first.dispatch_event("click")

    ui.page.wait_for_url(lambda url: "tag=none" not in url)
    chosen = parse_qs(urlsplit(ui.page.url).query)
    assert chosen.get("state", []) == list(view.states) and chosen.get("tag", []) == list(view.tags)
    assert chosen["seconds"] == [str(-3600 * view.hours)]
    assert view.name in box.inner_text()


def test_daily_report_links_to_the_views(ui: Ui, report: str) -> None:
    """Prefect's second UI stores views in the browser only, so the links carry the filters."""
    for view, listed, left in (("Found something", "Refused", ""), ("Rescans", "rescan", "chain")):
        ui.open(ui.artifact(report, "daily-report"))
        ui.shows("Look further")
        link = ui.page.get_by_role("link", name=view, exact=True).get_attribute("href")
        assert link
        ui.open(urlsplit(link).path.removeprefix("/v2").lstrip("/") + "?" + urlsplit(link).query)
        page = ui.shows("Flow Runs", listed)
        assert not left or left not in page.partition("Flow Runs")[2].split()
