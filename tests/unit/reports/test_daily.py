"""The operators' page says what to do first, and nothing that is not so."""

from datetime import timedelta
from uuid import UUID

import pytest

from scripts import reference
from supply_chain.errors import RegistryUnavailable, ScannerFailed
from supply_chain.reports.daily import (
    CHANGES,
    COVERED,
    NO_SLOT,
    Change,
    DailyReport,
    Run,
    changes,
    daily_report_page,
    remedy,
)

UI = "http://127.0.0.1:4200"
ID = UUID(int=7)


def run(state, noon, name="rescan", deployment="rescan/nightly", message="", hours=0):
    at = noon + timedelta(hours=hours)
    return Run(id=ID, name=name, deployment=deployment, state=state, message=message, at=at)


def morning(noon, *runs, **changed):
    return DailyReport(**{"since": noon, "until": noon + timedelta(days=1), "runs": runs, "ui": UI, **changed})


def test_a_quiet_night_says_so(make):
    """And every question has its answer, none is left out."""
    told = daily_report_page(morning(make.noon, run("Completed", make.noon)))

    assert told.startswith("# Nothing waits for you, and nothing failed")
    for title in ("Waits for you", "Failed, and what to do", "Did not start", "What changed", "What was found"):
        assert f"## {title}\n\nNothing" in told
    assert "| rescan/nightly | 1 Completed |" in told


@pytest.mark.parametrize("state", ["Failed", "Crashed", "TimedOut"])
def test_what_failed_is_told_with_what_to_do(make, state):
    """By the code that its message ends with, and with a link to the run."""
    error = ScannerFailed("grype ended\nScan again.")
    told = morning(make.noon, run(state, make.noon, message=f"Flow run encountered an exception: {error}"))

    assert told.headline == "1 failed"
    assert f"[rescan]({UI}/runs/flow-run/{ID})" in daily_report_page(told)
    assert "Check the scanner and its database" in daily_report_page(told)


def test_what_went_well_since_needs_nothing(make):
    """The same run of the same deployment; another's success says nothing."""
    failed = run("Failed", make.noon)
    assert "Went well at" in daily_report_page(morning(make.noon, run("Completed", make.noon, hours=1), failed))
    for other in (run("Completed", make.noon, name="x", hours=1), run("Completed", make.noon, hours=-1)):
        assert "Went well at" not in daily_report_page(morning(make.noon, other, failed))


@pytest.mark.parametrize(
    "state", ["Failed", "Running", "Pending", "Late", "Cancelled", "Cancelling", "Suspended", "Unreadable"]
)
def test_a_run_that_came_to_no_answer_since_says_nothing(make, state):
    """The failure is still to be looked at."""
    assert "Went well at" not in daily_report_page(
        morning(make.noon, run(state, make.noon, hours=1), run("Failed", make.noon))
    )


def test_what_was_called_off_as_the_one_before_had_not_ended_did_not_start(make):
    """A lifecycle that hangs is seen by the next one; what somebody cancelled is theirs."""
    told = morning(
        make.noon,
        run("Cancelled", make.noon, name="lifecycle", message="Deployment concurrency limit reached."),
        run("Cancelled", make.noon, name="rescan", message="by ann"),
    )

    assert told.headline == "1 did not start" and [each.name for each in told.late] == ["lifecycle"]
    assert "| Deployment concurrency limit reached. |" in daily_report_page(told)


def test_a_catch_up_run_that_another_covers_is_only_counted(make):
    """A flood of pushes would fill the page with them."""
    called_off = {"deployment": COVERED, "message": NO_SLOT[1]}
    told = morning(make.noon, run("Cancelled", make.noon, **called_off), run("Late", make.noon, deployment=COVERED))

    assert [each.state for each in told.late] == ["Late"]
    assert f"| {COVERED} | 1 Cancelled, 1 Late |" in daily_report_page(told)


def test_a_failure_of_somebody_at_a_terminal_is_theirs(make):
    """They were told; it is counted."""
    told = morning(make.noon, run("Failed", make.noon, deployment=""))
    assert told.headline == "Nothing waits for you, and nothing failed"
    assert "| by hand | 1 Failed |" in daily_report_page(told)


def test_what_waits_and_what_did_not_start_come_first(make):
    """In the headline too, with unread messages."""
    told = morning(
        make.noon,
        run("Late", make.noon, name="monitor"),
        waiting=(run("Suspended", make.noon, name="promote hello"),),
        dead_letters=2,
    )

    assert told.headline == "1 waits for you, 1 did not start, 2 could not be read"
    shown = daily_report_page(told)
    assert shown.index("promote hello") < shown.index("monitor") < shown.index("cscm events dead")


@pytest.mark.parametrize("state", ["Refused", "Drifted", "Unreadable"])
def test_an_answer_that_is_worth_a_look_is_found(make, state):
    """It is neither a failure nor quiet."""
    told = morning(make.noon, run(state, make.noon, message="drift.front"))
    assert [r.state for r in told.found] == [state] and not told.failed
    assert "drift.front" in daily_report_page(told)


@pytest.mark.parametrize("state", [
    "Completed", "Running", "Pending", "Scheduled", "Cancelled", "AwaitingRetry", "AwaitingConcurrencySlot",
    "InfrastructurePending", "Submitting",
])  # fmt: skip
def test_what_is_as_it_should_be_is_not_found(make, state):
    """Only counted."""
    assert not morning(make.noon, run(state, make.noon)).found


def test_a_change_is_told_once_and_the_last_first(make):
    """Events come twice and out of order, and others come too."""
    first = Change(event="cscm.image.blocked", about="curated/hello@sha256:" + "a" * 64, at=make.noon, detail="me")
    second = Change(event="cscm.deployment.started", about="curated/x@sha256:" + "b" * 64, at=make.noon + timedelta(1))
    other = Change(event="cscm.image.tested", about="x", at=make.noon)

    found = changes([second, first, first, other])
    assert found == (second, first)
    told = daily_report_page(morning(make.noon, changes=found))
    assert "blocked | curated/hello@aaaaaaaaaaaa | me |" in told


def test_a_long_list_says_how_much_it_leaves_out(make):
    """Nothing is cut in silence."""
    runs = [run("Failed", make.noon, name=f"r{number}", message=f"of {number}") for number in range(60)]
    assert "… and 10 more." in daily_report_page(morning(make.noon, *runs))


def test_what_failed_in_the_same_way_is_told_once(make):
    """With the last of them; a table is no wider than its page."""
    message = f"ImageDamaged: curated/hello@sha256:{'a' * 64} is not it [image.damaged]"
    runs = [run("Failed", make.noon, hours=hours, name=f"r{hours}", message=message) for hours in range(3)]

    told = daily_report_page(morning(make.noon, *runs))

    assert told.count("ImageDamaged") == 1 and "curated/hello@aaaaaaaaaaaa is" in told
    assert "[r2](" in told and "and 2 more" in told and "3 failed" in told


def test_names_and_messages_are_only_text(make):
    """They come from outside."""
    told = daily_report_page(
        morning(make.noon, run("Failed", make.noon, name="a|b](x)<i>\x1b[31m", message="<b>|\n# no"))
    )
    assert "<i>" not in told and "\x1b" not in told and "<b>" not in told and "\n# no" not in told


def test_artifacts_that_are_there_are_linked(make):
    """And those that are not there yet are not."""
    told = daily_report_page(morning(make.noon, artifacts={"images": "abc"}))
    assert f"({UI}/artifacts/artifact/abc)" in told and told.count("/artifacts/artifact/") == 1


def test_views_of_the_runs_are_linked(make):
    """For who has no saved ones above the list."""
    told = daily_report_page(morning(make.noon, views={"Bad runs": "state=Failed&type=span"}))

    assert f"- runs: [Bad runs]({UI}/runs?state=Failed&type=span)\n" in told
    assert "/runs?" not in daily_report_page(morning(make.noon))


def test_every_error_has_its_remedy():
    """Also one that is only told by its base; what is no error of ours is told as such."""
    assert remedy(str(RegistryUnavailable("a\nb"))).startswith("Wait for the three retries of the step")
    assert remedy("x [nobody.knows]") == remedy("RuntimeError") == remedy("")
    assert "A crash leaves nothing half-done" in remedy("")


def test_every_change_is_an_event_of_ours():
    """A name that nobody emits would never be told."""
    emitted = {name for name, *_ in reference._events()}

    assert len(emitted) > 15 and CHANGES.keys() <= emitted


def test_of_what_failed_in_the_same_way_all_has_to_go_well(make):
    """One image's promotion says nothing of four others'."""
    failed = [run("Failed", make.noon, name=f"promote {name}", message="down") for name in "abc"]
    well = [run("Completed", make.noon, name=f"promote {name}", hours=1) for name in "abc"]

    some, every = (
        daily_report_page(morning(make.noon, *failed, well[0])),
        daily_report_page(morning(make.noon, *failed, *well)),
    )

    assert "1 of them went well since. Read the run" in some and "Went well at" not in some
    assert "Went well at" in every and "Read the run" not in every
