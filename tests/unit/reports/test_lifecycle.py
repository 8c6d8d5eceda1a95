"""Reports of a lifecycle plan and its results: the most important rows first, free of control characters."""

from supply_chain.lifecycle.apply import Applied, Entry, Outcome
from supply_chain.lifecycle.planning import plan_lifecycle
from supply_chain.lifecycle.rules import Action
from supply_chain.reports import applied_rows, plan_lines, plan_rows
from tests.support.snapshots import NOW, RULES, digest, image, newest, part, ref, running, snapshot_of, stands


def planned(limits=None):
    rules = RULES.model_copy(update={"limits": RULES.limits.model_copy(update=limits or {})})
    images = [*newest(1), image(2, running=(running(2, 9),), tags=("t\x1b[2J",))]
    return plan_lifecycle(snapshot_of(*images, parts=[part(11, subject=1)]), rules, NOW)


def test_plan_rows_list_changes_first_and_count_attached_manifests():
    """The rows have the reason and the guards."""
    over, *rows = plan_rows(planned({"count": 0}))

    assert over == {"action": "needs approval", "image": "it changes 1 image; the limit without approval is 0"}
    assert rows[0] == {
        "action": "age-out", "image": f"curated/hello@{ref(1).short}", "rule": "age-out.superseded",
        "reason": "a newer one was released, 300 days ago or longer; the limit is 90 days", "size": "0.0 MB",
        "with it": "1", "guarded by": "", "tags": "t1",
    }  # fmt: skip
    assert [row["action"] for row in rows] == ["age-out", "keep", "keep", "keep"]
    runs = next(row for row in rows if row["guarded by"])
    assert (runs["guarded by"], runs["tags"]) == ("it runs: staging", "t·[2J")


def test_plan_rows_count_omitted_images_and_are_never_empty():
    """An empty plan gives one row."""
    last = plan_rows(planned(), most=1)[-1]
    assert (last["action"], last["image"]) == ("3 more", "")
    assert plan_rows(plan_lifecycle(snapshot_of(), RULES, NOW)) == [{"action": "nothing", "image": "no image is known"}]


def test_plan_lines_list_changes_and_totals():
    """Each change has its own line."""
    assert plan_lines(planned({"count": 0})).splitlines() == [
        f"age-out: {ref(1)} (t1): a newer one was released, 300 days ago or longer; the limit is 90 days "
        "[age-out.superseded]",
        "keep: 2 by keep.newest, 1 by keep.in-use",
        "needs approval: it changes 1 image; the limit without approval is 0",
        "1 to age-out, 0 to archive, 0 to block (0.0 MB); 3 images to keep",
    ]


def test_plan_lines_count_attached_manifests_separately():
    """An image that is kept must not count as many images because of its signatures."""
    parts = [part(11, subject=900), part(12, subject=11), part(13, copy_of=901), part(14, subject=77)]
    snapshot = snapshot_of(*newest(), parts=parts, statuses={ref(77): stands(hold="audit")})

    assert plan_lines(plan_lifecycle(snapshot, RULES, NOW)).splitlines() == [
        "keep: 2 by keep.newest",
        "0 to age-out, 0 to archive, 0 to block (0.0 MB); 2 images to keep, and 4 manifests with them",
    ]
    assert plan_lines(plan_lifecycle(snapshot_of(), RULES, NOW)) == (
        "0 to age-out, 0 to archive, 0 to block (0.0 MB); 0 images to keep"
    )


def test_applied_rows_list_failures_before_skipped_and_done():
    """A failure has its code."""
    outcomes = [(1, Outcome.DONE), (2, Outcome.SKIPPED), (3, Outcome.FAILED)]
    entries = [
        Entry(ref=ref(n), action=Action.ARCHIVE, outcome=o, code="c" if n == 3 else "", message="s\n")
        for n, o in outcomes
    ]
    rows = applied_rows(Applied(plan=digest(9), entries=tuple(entries)))

    assert rows[0] == {
        "outcome": "failed", "action": "archive", "image": f"curated/hello@{ref(3).short}", "code": "c",
        "message": "s ",
    }  # fmt: skip
    assert [row["outcome"] for row in rows] == ["failed", "skipped", "done"]
    assert applied_rows(Applied(plan=digest(9), entries=tuple(entries)), most=2)[-1]["outcome"] == "1 more"
    assert applied_rows(Applied(plan=digest(9), entries=())) == [
        {"outcome": "nothing", "action": "the plan changes nothing"}
    ]
