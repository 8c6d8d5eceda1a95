"""The daily report for operators: what needs action comes first."""

from datetime import timedelta
from uuid import UUID

import pytest

from scripts import reference
from supply_chain.errors import RegistryUnavailable, ScannerFailed
from supply_chain.fleet.break_glass import OpenBreakGlass
from supply_chain.model.image import ImageRef
from supply_chain.policy.outcome import UsedBreakGlass
from supply_chain.reports.daily import (
    CHANGES,
    COVERED,
    NO_SLOT,
    Change,
    DailyReport,
    Run,
    daily_report_page,
    find_remedy,
    list_reported_changes,
)
from tests.support.builders import DIGEST

UI = "http://127.0.0.1:4200"
ID = UUID(int=7)


def run(state, noon, name="rescan", deployment="rescan/nightly", message="", hours=0):
    at = noon + timedelta(hours=hours)
    return Run(id=ID, name=name, deployment=deployment, state=state, message=message, at=at)


def report(noon, *runs, **changed):
    return DailyReport(**{"since": noon, "until": noon + timedelta(days=1), "runs": runs, "ui": UI, **changed})


def test_report_of_quiet_day_answers_every_section(make):
    """No section is left out."""
    page = daily_report_page(report(make.noon, run("Completed", make.noon)))

    assert page.startswith("# Nothing waits for you, and nothing failed")
    for title in ("Waits for you", "Failed, and what to do", "Did not start", "What changed", "What was found"):
        assert f"## {title}\n\nNothing" in page
    assert "| rescan/nightly | 1 Completed |" in page


def test_inactive_policies_come_first(make):
    """Until somebody signs them, nothing moves on."""
    assert "not decide" not in daily_report_page(report(make.noon))
    daily = report(make.noon, policies="no gate decides: nobody signed *it*", dead_letters=2)

    assert daily.headline == "Gates do not decide, 2 could not be read"
    page = daily_report_page(daily)
    assert "## Gates do not decide\n\nNo gate decides: nobody signed \\*it\\*. Read the files with" in page
    assert page.index("## Gates do not decide") < page.index("## Waits for you")


def test_rules_that_begin_to_refuse_have_a_section(make):
    """They are before the waivers."""
    assert "begin to refuse" not in daily_report_page(report(make.noon))
    page = daily_report_page(report(make.noon, upcoming="| a.b |"))
    assert "## Rules that begin to refuse\n\n| a.b |\n" in page


def test_waivers_have_a_section_only_if_one_needs_attention(make):
    """The table is part of the report."""
    assert "## Waivers" not in daily_report_page(report(make.noon))
    assert "## Waivers\n\n| zlib |\n" in daily_report_page(report(make.noon, waivers="| zlib |"))


def opened(noon, hours=1, reasons=()):
    return OpenBreakGlass(
        image=ImageRef(repository="curated/hello", digest=DIGEST), environment="production", owner="web",
        use=UsedBreakGlass(by="ann", reason="*outage*", expires=noon + timedelta(days=1, hours=hours)),
        reasons=reasons,
    )  # fmt: skip


def test_break_glass_deployments_come_first_in_daily_report(make):
    """Before all else, also in the headline; without one, there is no section."""
    assert "break-glass" not in daily_report_page(report(make.noon))
    given = report(make.noon, run("Failed", make.noon), break_glass=(opened(make.noon),))
    page = daily_report_page(given)

    assert given.headline == "1 by break-glass, 1 failed"
    assert page.index("## Deployed by break-glass") < page.index("## Waits for you")
    assert "production | web | 2026-11-25 13:00 UTC | ann | \\*outage\\* | in effect |" in page


@pytest.mark.parametrize(("hours", "reasons", "state"), [
    (1, (), "in effect"), (0, (), "expired, and it still runs"),
    (0, ("a.b", "a.c"), "refused, and it still runs: a.b, a.c"), (1, ("a.b",), "refused, and it still runs: a.b"),
])  # fmt: skip
def test_break_glass_says_whether_it_has_ended(make, hours, reasons, state):
    """A person may end it before it expires."""
    assert f"| {state} |" in daily_report_page(report(make.noon, break_glass=(opened(make.noon, hours, reasons),)))


@pytest.mark.parametrize("state", ["Failed", "Crashed", "TimedOut"])
def test_failed_run_is_listed_with_remedy_and_link(make, state):
    """The error code at the end of the message selects the remedy."""
    error = ScannerFailed("grype ended\nScan again.")
    daily = report(make.noon, run(state, make.noon, message=f"Flow run encountered an exception: {error}"))

    assert daily.headline == "1 failed"
    assert f"[rescan]({UI}/runs/flow-run/{ID})" in daily_report_page(daily)
    assert "Check scanner and database" in daily_report_page(daily)


def test_failed_run_that_succeeded_later_needs_no_action(make):
    """Only the same run of the same deployment counts."""
    failed = run("Failed", make.noon)
    assert "Succeeded at" in daily_report_page(report(make.noon, run("Completed", make.noon, hours=1), failed))
    for other in (run("Completed", make.noon, name="x", hours=1), run("Completed", make.noon, hours=-1)):
        assert "Succeeded at" not in daily_report_page(report(make.noon, other, failed))


@pytest.mark.parametrize(
    "state", ["Failed", "Running", "Pending", "Late", "Cancelled", "Cancelling", "Suspended", "Unreadable"]
)
def test_later_run_without_success_does_not_cover_failure(make, state):
    """The failure still needs attention."""
    assert "Succeeded at" not in daily_report_page(
        report(make.noon, run(state, make.noon, hours=1), run("Failed", make.noon))
    )


def test_run_cancelled_by_concurrency_limit_did_not_start(make):
    """A hanging run shows in this way; a run that a person cancelled is not listed."""
    daily = report(
        make.noon,
        run("Cancelled", make.noon, name="lifecycle", message="Deployment concurrency limit reached."),
        run("Cancelled", make.noon, name="rescan", message="by ann"),
    )

    assert daily.headline == "1 did not start" and [each.name for each in daily.late] == ["lifecycle"]
    assert "| Deployment concurrency limit reached. |" in daily_report_page(daily)


def test_cancelled_catch_up_run_is_only_counted(make):
    """A flood of pushes would fill the page with them."""
    called_off = {"deployment": COVERED, "message": NO_SLOT[1]}
    daily = report(make.noon, run("Cancelled", make.noon, **called_off), run("Late", make.noon, deployment=COVERED))

    assert [each.state for each in daily.late] == ["Late"]
    assert f"| {COVERED} | 1 Cancelled, 1 Late |" in daily_report_page(daily)


def test_failed_run_started_by_hand_is_only_counted(make):
    """The person at the terminal has seen the error."""
    daily = report(make.noon, run("Failed", make.noon, deployment=""))
    assert daily.headline == "Nothing waits for you, and nothing failed"
    assert "| by hand | 1 Failed |" in daily_report_page(daily)


def test_waiting_and_late_runs_come_first(make):
    """The headline counts them too, with the dead letters."""
    daily = report(
        make.noon,
        run("Late", make.noon, name="monitor"),
        waiting=(run("Suspended", make.noon, name="promote hello"),),
        dead_letters=2,
    )

    assert daily.headline == "1 waits for you, 1 did not start, 2 could not be read"
    page = daily_report_page(daily)
    assert page.index("promote hello") < page.index("monitor") < page.index("cscm events dead")


@pytest.mark.parametrize("state", ["Refused", "Drifted", "Unreadable"])
def test_run_state_worth_a_look_is_found(make, state):
    """It is neither a failure nor normal."""
    daily = report(make.noon, run(state, make.noon, message="drift.reverse-proxy"))
    assert [r.state for r in daily.notable] == [state] and not daily.failed
    assert "drift.reverse-proxy" in daily_report_page(daily)


@pytest.mark.parametrize("state", [
    "Completed", "Running", "Pending", "Scheduled", "Cancelled", "AwaitingRetry", "AwaitingConcurrencySlot",
    "InfrastructurePending", "Submitting",
])  # fmt: skip
def test_normal_run_state_is_only_counted(make, state):
    """Such a run is not listed as found."""
    assert not report(make.noon, run(state, make.noon)).notable


def test_changes_are_listed_once_and_newest_first(make):
    """Events come twice, out of order and among other events."""
    first = Change(event="cscm.image.blocked", about="curated/hello@sha256:" + "a" * 64, at=make.noon, detail="me")
    second = Change(event="cscm.deployment.started", about="curated/x@sha256:" + "b" * 64, at=make.noon + timedelta(1))
    other = Change(event="cscm.image.tested", about="x", at=make.noon)

    found = list_reported_changes([second, first, first, other])
    assert found == (second, first)
    page = daily_report_page(report(make.noon, changes=found))
    assert "blocked | curated/hello@aaaaaaaaaaaa | me |" in page


def test_long_list_ends_with_number_of_omitted_rows(make):
    """Nothing is omitted without notice."""
    runs = [run("Failed", make.noon, name=f"r{number}", message=f"of {number}") for number in range(60)]
    assert "… and 10 more." in daily_report_page(report(make.noon, *runs))


def test_equal_failures_are_listed_once(make):
    """The last run is linked, and the table stays narrow."""
    message = f"ImageDamaged: curated/hello@sha256:{'a' * 64} is not it [image.damaged]"
    runs = [run("Failed", make.noon, hours=hours, name=f"r{hours}", message=message) for hours in range(3)]

    page = daily_report_page(report(make.noon, *runs))

    assert page.count("ImageDamaged") == 1 and "curated/hello@aaaaaaaaaaaa is" in page
    assert "[r2](" in page and "and 2 more" in page and "3 failed" in page


def test_names_and_messages_are_escaped(make):
    """Names and messages are external text."""
    page = daily_report_page(
        report(make.noon, run("Failed", make.noon, name="a|b](x)<i>\x1b[31m", message="<b>|\n# no"))
    )
    assert "<i>" not in page and "\x1b" not in page and "<b>" not in page and "\n# no" not in page


def test_existing_artifacts_are_linked(make):
    """Missing artifacts are not linked."""
    page = daily_report_page(report(make.noon, artifacts={"images": "abc"}))
    assert f"({UI}/artifacts/artifact/abc)" in page and page.count("/artifacts/artifact/") == 1


def test_views_of_runs_are_linked(make):
    """The links serve users without saved views."""
    page = daily_report_page(report(make.noon, views={"Bad runs": "state=Failed&type=span"}))

    assert f"- runs: [Bad runs]({UI}/runs?state=Failed&type=span)\n" in page
    assert "/runs?" not in daily_report_page(report(make.noon))


def test_each_error_has_remedy():
    """An error class without its own remedy uses that of its base class; foreign errors get a general one."""
    assert find_remedy(str(RegistryUnavailable("a\nb"))).startswith("Check the registry's address")
    assert find_remedy("x [nobody.knows]") == find_remedy("RuntimeError") == find_remedy("")
    assert "an interrupted run leaves no partial result" in find_remedy("")


def test_each_change_is_an_emitted_event():
    """The report would never show an unknown name."""
    emitted = {name for name, *_ in reference._events()}

    assert len(emitted) > 15 and CHANGES.keys() <= emitted


def test_group_of_equal_failures_is_done_if_all_succeeded(make):
    """One successful run says nothing about the others."""
    failed = [run("Failed", make.noon, name=f"promote {name}", message="down") for name in "abc"]
    well = [run("Completed", make.noon, name=f"promote {name}", hours=1) for name in "abc"]

    some, every = (
        daily_report_page(report(make.noon, *failed, well[0])),
        daily_report_page(report(make.noon, *failed, *well)),
    )

    assert "1 of them succeeded since. Read the run" in some and "Succeeded at" not in some
    assert "Succeeded at" in every and "Read the run" not in every
