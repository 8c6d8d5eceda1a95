"""A preview for people: groups of images with their reasons, and what is not known, in front and at the end."""

from supply_chain.fleet.gate_facts import GateSubject
from supply_chain.fleet.preview import OUTDATED, Effect, NotJudged, PolicyChange, PolicyPreview
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import Reason
from supply_chain.policy.upcoming import UpcomingRule
from supply_chain.reports import policy_preview_lines, policy_preview_page, policy_preview_rows, upcoming_rules_page
from tests.support.builders import NOON


def subject(number, environment="", application="hello"):
    ref = ImageRef(repository=f"curated/{application}", digest=f"sha256:{str(number) * 64}")
    return GateSubject(image=ref, gate=Gate.DEPLOY if environment else Gate.RELEASE, environment=environment)


def reasons_of(lines):
    return tuple(Reason(code=code, fact=fact, remedy="r") for code, _, fact in (each.partition(": ") for each in lines))


def change(number, effect=Effect.REFUSED, gained=("own.rule: f",), lost=(), more=0, running=(), **where):
    return PolicyChange(
        subject=subject(number, **where),
        running=running,
        effect=effect,
        new_reasons=reasons_of(gained),
        removed_reasons=reasons_of(lost),
        omitted_reasons=more,
    )


def preview(*changes, **fields):
    given = {"policies": ("ours 1 (new)",), "gates": (Gate.RELEASE, Gate.DEPLOY), "judged": 9, "not_judged": ()}
    return PolicyPreview(**{"at": NOON, "changes": changes, **given, **fields})


def test_images_with_the_same_change_are_one_row():
    """Thousands of images change for one reason; refusals come first."""
    found = preview(
        change(3, Effect.ADMITTED, gained=(), lost=("old.rule: g",)), change(1, running=("staging",)), change(2),
        change(1, environment="staging"), change(4, application="aa"),
    )  # fmt: skip

    assert policy_preview_lines(found).splitlines() == [
        "Proposed: ours 1 (new), at the release gate and the deploy gate.",
        "9 judged: 4 admitted → refused, 1 refused → admitted.",
        "admitted → refused: aa, release gate: 1 image: 444444444444",
        "    + own.rule: f",
        "admitted → refused: hello, deploy gate for staging: 1 image: 111111111111",
        "    + own.rule: f",
        "admitted → refused: hello, release gate, running in staging: 2 images: 111111111111, 222222222222",
        "    + own.rule: f",
        "refused → admitted: hello, release gate: 1 image: 333333333333",
        "    - old.rule: g",
    ]


def test_images_with_other_rules_are_another_row():
    """Each row has the reasons of all its images, cut to some."""
    found = preview(
        change(1, gained=[f"own.rule: {n}" for n in range(7)], more=4), change(2, gained=("own.rule: 6",)),
        change(3, gained=("other.rule: x",)),
    )  # fmt: skip

    lines = policy_preview_lines(found).splitlines()
    assert lines[2:4] == ["admitted → refused: hello, release gate: 1 image: 333333333333", "    + other.rule: x"]
    assert lines[4].endswith("2 images: 111111111111, 222222222222")
    assert lines[5:] == [*(f"    + own.rule: {n}" for n in range(5)), "    and 6 more"]


def test_unjudged_images_are_named_first_and_last():
    """A reader who sees no change must not take that for an answer about all images."""
    missing = [NotJudged(subject=subject(n), why=OUTDATED) for n in range(7)]
    found = preview(not_judged=(*missing, NotJudged(subject=subject(8, "staging"), why="a\nb")), judged=0)

    lines = policy_preview_lines(found).splitlines()
    assert lines[1:3] == ["0 judged: nothing changes.", "8 NOT judged, and neither changed nor unchanged: see the end."]
    assert lines[3:5] == ["not judged: deploy gate for staging: 1: hello@888888888888", "    a b"]
    assert lines[5].startswith("not judged: release gate: 7: hello@") and lines[5].endswith(", and 2 more")
    assert lines[6] == f"    {OUTDATED}"
    assert "## Not judged\n\n| gate | images | why |" in policy_preview_page(found)


def test_preview_of_equal_policies_reports_no_change():
    """Somebody may have named the wrong directory."""
    assert policy_preview_lines(preview(policies=(), gates=())) == (
        "The proposed documents have the same effect as the current ones: nothing changes."
    )


def test_page_has_the_same_rows_as_a_table_and_escapes_them():
    """What evidence says must not write in a pull request."""
    page = policy_preview_page(preview(change(1, gained=("own.rule: <b>**x**",))))

    row = page.splitlines()[-1]
    assert row.startswith("| admitted → refused | hello | release gate | 1 image: 111111111111 |")
    assert "\\*\\*x" in row and "<b>" not in page


def test_preview_rows_name_changes_before_unjudged_images():
    """The table in Prefect's UI; an image that is in no row does not change."""
    unjudged = NotJudged(subject=subject(8, "staging"), why="a\nb")
    rows = policy_preview_rows(preview(change(1, gained=("own.rule: x",)), not_judged=(unjudged,)))

    assert [list(each.values()) for each in rows] == [
        ["admitted → refused", "hello", "release gate", "1 image: 111111111111", "+ own.rule: x"],
        ["not judged", "", "deploy gate for staging", "1: hello@888888888888", "a b"],
    ]
    assert policy_preview_rows(preview(policies=(), gates=())) == []


def test_page_counts_rows_beyond_what_a_page_can_draw():
    """The command prints them."""
    page = policy_preview_page(preview(*(change(1, gained=(f"own.rule{n}: x",)) for n in range(503))))

    assert page.count("| admitted → refused |") == 500
    assert page.endswith("3 more rows: `cscm policy preview` prints all.")


def test_proposed_waivers_and_vex_documents_are_named_first():
    """Also those without effect; a reader sees who is assumed to sign."""
    found = preview(
        policies=(), decisions=("waiver w, as if ann had signed it", "waiver v, which would have no effect")
    )

    assert policy_preview_lines(found).splitlines()[:3] == [
        "Proposed: waiver w, as if ann had signed it.",
        "Proposed: waiver v, which would have no effect.",
        "It is judged at the release gate and the deploy gate.",
    ]
    none = preview(policies=(), gates=(), decisions=("waiver v, which would have no effect",))
    assert policy_preview_lines(none).splitlines() == [
        "Proposed: waiver v, which would have no effect.",
        "The proposed documents have the same effect as the current ones: nothing changes.",
    ]


def test_upcoming_rules_are_listed_with_additional_refusals():
    """Images that are refused already are not counted; what could not be counted is named."""
    rule = UpcomingRule(rule="a.b", policy="ours", gates=(Gate.RELEASE, Gate.DEPLOY), effective_on=NOON)
    found = preview(change(1, application="shop"), change(2, application="a_b"), change(3, Effect.REASONS))

    assert upcoming_rules_page([rule], found).splitlines()[2:] == [
        "| a.b | ours | release, deploy | 2026-11-24 12:00 UTC |",
        "",
        r"Of 9 stored images and deployments, they would refuse 2 more today (a\_b, shop).",
    ]
    unknown = preview(not_judged=(NotJudged(subject=subject(1), why=OUTDATED),))
    page = upcoming_rules_page([rule.model_copy(update={"gates": (Gate.INTAKE,)})], unknown)
    assert page.endswith("refuse 0 more today. 1 were not judged: run `cscm inventory`.")
