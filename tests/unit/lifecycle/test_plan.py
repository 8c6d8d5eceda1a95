"""Lifecycle plans: what they decide about each image, and what they never do."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.image_status import ImageStatus
from supply_chain.lifecycle.plan import read_plan, write_plan
from supply_chain.lifecycle.planning import plan_lifecycle
from supply_chain.lifecycle.rules import Action
from supply_chain.lifecycle.snapshot import EvidenceSummary, find_in_use
from supply_chain.model.image import StorageStatus
from supply_chain.policy.outcome import Reason
from tests.support.examples import tries
from tests.support.present import present
from tests.support.snapshots import (
    NOW,
    RULES,
    ago,
    deployed,
    digest,
    image,
    member,
    newest,
    part,
    ref,
    running,
    snapshot_of,
    snapshots,
    stands,
    stored,
)

BASE = "curated/base/python"
OLD = {"days": 400, "passed": True, "environments": ("staging",)}


def planned(*images, rules=RULES, **others):
    """Return action and rule of every step, by the number of its digest."""
    return {
        int(step.ref.digest[7:], 16): (step.action.value, step.rule)
        for step in plan_lifecycle(snapshot_of(*images, **others), rules, NOW).steps
    }


def test_plan_deletes_superseded_image_with_its_referrers():
    """Signature and SBOM go too, and what is attached to those."""
    parts = [part(11, subject=1), part(12, subject=11, days=1), part(21, subject=900)]

    found = planned(*newest(1), parts=parts)

    assert found[1] == ("age-out", "age-out.superseded")
    assert found[11] == found[12] == ("age-out", "age-out.superseded")
    assert found[21] == ("keep", "keep.belongs")
    assert found[900] == ("keep", "keep.newest")


def test_plan_keeps_newest_usable_images_of_each_environment():
    """A refused, unsigned or blocked image is no rollback."""
    images = [
        image(1, 50),
        image(2, 60, passed=False, verdict_days=5),
        image(3, 70, signed=False),
        image(4, 80),
        image(5, 90),
        image(6, 100, environments=("production",)),
        image(7, 110),
    ]

    found = planned(*images, statuses={ref(4): stands(block="x")})

    assert {n for n, each in found.items() if each[1] == "keep.newest"} == {1, 5, 6}


def test_plan_keeps_image_that_is_newest_in_one_environment():
    """Each environment has its own order."""
    both = image(1, 400, environments=("staging", "production"))
    found = planned(image(2, 300), image(3, 200), both)

    assert found[1] == ("keep", "keep.newest")


def test_plan_counts_newest_bases_without_environment():
    """A base runs nowhere."""
    bases = [image(n, 100 + n, repository="curated/base/python", environments=()) for n in (1, 2, 3)]

    assert {n for n, each in planned(*bases).items() if each[1] == "keep.newest"} == {1, 2}


@pytest.mark.parametrize(
    ("deployments", "rules"),
    [
        ([deployed(1, 300)], {1: "keep.in-use"}),
        ([deployed(1, 300), deployed(900, 10)], {1: "keep.rollback"}),
        ([deployed(1, 300), deployed(900, 20), deployed(901, 10)], {1: "archive.retention"}),
        ([deployed(1, 300), deployed(900, 20), deployed(900, 10)], {1: "keep.rollback"}),
        ([deployed(1, 300), deployed(900, 20), deployed(1, 15), deployed(900, 10)], {1: "keep.rollback"}),
        ([deployed(1, 300), deployed(900, 10, environment="production")], {1: "keep.in-use"}),
        ([deployed(900, 5, proxy=1)], {1: "keep.in-use"}),
        ([deployed(900, 5, proxy=1), deployed(900, 4, proxy=901)], {1: "archive.retention"}),
        ([deployed(2, 300, proxy=1), deployed(900, 10)], {1: "keep.rollback", 2: "keep.rollback"}),
        (
            [deployed(2, 300, proxy=1), deployed(900, 20), deployed(901, 10)],
            {1: "archive.retention", 2: "archive.retention"},
        ),
        ([deployed(1, 399), deployed(900, 250), deployed(901, 240)], {1: "age-out.superseded"}),
    ],
)
def test_plan_keeps_running_and_rollback_images(deployments, rules):
    """Signed records decide, also for the reverse proxy; an earlier image is retained for audits."""
    found = planned(*newest(1, 2), deployments=deployments)

    assert {n: found[n][1] for n in rules} == rules


def test_plan_keeps_rollback_despite_later_observed_proxy():
    """A host shows the proxy later than the deployment, and it must not take the place of the rollback."""
    images = [
        image(99, repository="curated/base/proxy", running=(running(99, 0),)),
        image(2, running=(running(2, 200),)),
        image(1, deployed=(running(1, 300),)),
    ]
    found = plan_lifecycle(snapshot_of(*newest(), *images), RULES, NOW)

    guards = [present(found.step(each.ref)).protections for each in images]
    assert guards == [
        ("it runs: staging, as the reverse proxy of hello",), ("it runs: staging",),
        ("a rollback may need it: staging",),
    ]  # fmt: skip


@pytest.mark.parametrize("deployments", [[], [deployed(1, 300), deployed(900, 190), deployed(901, 180)]])
@pytest.mark.parametrize("of", ["itself", "its copy"])
@pytest.mark.parametrize(("days", "rule"), [(1, "keep.floor"), (15, "keep.pushed"), (21, "")])
def test_plan_treats_restored_image_as_just_pushed(deployments, of, days, rule):
    """It is neither deleted nor archived again the next night."""
    changes: dict[str, Any] = {"restored_at": ago(days)}
    copy: dict[str, Any] = {"parts": [part(11, copy_of=1, **changes)]} if of == "its copy" else {}

    found = planned(*newest(), image(1, **({} if copy else changes)), deployments=deployments, **copy)

    assert found[1][1] == (rule or ("archive.retention" if deployments else "age-out.superseded"))


def test_plan_counts_pull_of_encrypted_copy_for_its_image():
    """Only the copy of a confidential application is pulled; the later pull counts."""
    for image_pulled, copy_pulled in ((None, 1), (300, 1), (1, 300)):
        own: dict[str, Any] = {} if image_pulled is None else {"pulled_at": ago(image_pulled)}
        found = planned(*newest(), image(1, **own), parts=[part(11, copy_of=1, pulled_at=ago(copy_pulled))])

        assert (found[1], found[11]) == (("keep", "keep.pulled"), ("keep", "keep.belongs"))


@pytest.mark.parametrize(("verdicts", "rule"), [
    ([(31, False), (24, False), (1, False)], "age-out.refused"), ([(29, False), (1, False)], "keep.no-rule"),
    ([(90, False), (29, True), (20, False), (1, False)], "keep.no-rule"),
    ([(1, False), (31, False)], "age-out.refused"),
])  # fmt: skip
def test_plan_deletes_refused_image_days_after_first_refusal(verdicts, rule):
    """The rescan repeats the refusal, and an admission in between ends the period."""
    one = image(1, signed=False)
    judged = [one.judgements[0].model_copy(update={"at": ago(days), "passed": yes}) for days, yes in verdicts]
    rules = RULES.model_copy(update={
        "age_out": RULES.age_out.model_copy(update={"unsigned_days": None, "superseded_days": None}),
        "block": RULES.block.model_copy(update={"refused": False}),
    })  # fmt: skip

    found = planned(*newest(), one.model_copy(update={"judgements": tuple(judged)}), rules=rules)

    assert found[1][1] == rule


def test_plan_keeps_reverse_proxy_named_by_environment():
    """The next deployment there uses it, so it is not blocked either."""
    repo: dict[str, Any] = {"repository": "curated/base/proxy", "environments": ()}
    proxies = [image(1, **repo), image(2, exploited=True, **repo), image(3, **repo)]
    newer = [image(n, 300 - n, **repo) for n in (10, 11)]
    named = {digest(1): ("staging",), digest(2): ("production",)}

    snapshot = snapshot_of(*proxies, *newer, proxies=named)

    assert [present(plan_lifecycle(snapshot, RULES, NOW).step(each.ref)).rule for each in proxies] == [
        "keep.in-use", "keep.in-use", "age-out.superseded",
    ]  # fmt: skip
    assert (
        present(plan_lifecycle(snapshot, RULES, NOW).step(proxies[0].ref)).reason
        == "it runs: staging, as the proxy that the environment names"
    )
    assert snapshot_of(*proxies, *newer).digest != snapshot.digest


def test_plan_keeps_image_that_inventory_saw_running():
    """The rule also holds without a deployment record."""
    old = image(1, running=(running(1, 300),))
    gone = image(2, deployed=(running(2, 350),))

    found = planned(*newest(), old, gone)

    assert (found[1][1], found[2][1]) == ("keep.in-use", "keep.rollback")


def test_plan_combines_inventory_and_deployment_records():
    """Either may be older, or know more."""
    in_use = [image(n, running=(running(n, 1),)) for n in (1, 2)]
    found = planned(*newest(3, 4), *in_use, deployments=[deployed(3, 9), deployed(4, 8)])

    assert [found[n][1] for n in (1, 2, 3, 4)] == ["keep.in-use", "keep.in-use", "keep.rollback", "keep.in-use"]


def test_plan_keeps_both_of_two_running_images():
    """Records know only the last of two containers."""
    found = planned(*newest(), image(1, running=(running(1, 300),)), image(2, running=(running(2, 200),)))

    assert (found[1][1], found[2][1]) == ("keep.in-use", "keep.in-use")


def test_plan_does_not_count_images_it_blocks_as_usable():
    """An older image is kept in their place."""
    plan_of = plan_lifecycle(
        snapshot_of(*newest(1), *(image(990 + n, days=20 + n, exploited=True) for n in range(3))), RULES, NOW
    )

    assert {step.rule for step in plan_of.steps if step.evidence_summary and step.evidence_summary.exploited} == {
        "block.exploited"
    }
    counted = [step.ref for step in plan_of.steps if step.rule == "keep.newest"]
    assert counted == sorted((each.ref for each in newest()), key=str)


@pytest.mark.parametrize(("codes", "verdict"), [
    (("base.blocked",), "blocked"), (("image.blocked",), "blocked"), (("image.blocked", "base.blocked"), "blocked"),
    (("base.blocked", "scan.high"), "failed"), ((), "failed"),
])  # fmt: skip
def test_refusal_for_block_only_is_not_a_failed_verdict(codes, verdict):
    """The refusal ends with the block."""
    refused = image(1, passed=False)
    reasons = [Reason(code=code, fact="f", remedy="r") for code in codes]
    refused = refused.model_copy(
        update={"judgements": (refused.judgements[0].model_copy(update={"reasons": tuple(reasons)}),)}
    )

    assert EvidenceSummary.of(refused).verdict == verdict


def test_plan_heeds_holds_and_blocks():
    """A blocked image that was pushed again is blocked again, and an archived one stays archived."""
    images = [*newest(1, 2, 4), image(3, status="ARCHIVED")]
    statuses = {ref(1): stands(hold="audit"), ref(2): stands(block="bad"), ref(3): stands(block="bad")}

    found = planned(*images, statuses=statuses)

    assert [found[n][1] for n in (1, 2, 3)] == ["keep.hold", "block.in-force", "keep.blocked"]


def test_plan_deletes_image_blocked_by_rule_if_another_rule_asks():
    """An image that a person blocked is never deleted."""
    no: dict[str, Any] = {"status": "ARCHIVED", "signed": False, "passed": False}
    statuses = {ref(1): stands(block="refused", rule="block.refused"), ref(2): stands(block="bad")}

    found = planned(*newest(), image(1, **no), image(2, **no), statuses=statuses)

    assert (found[1], found[2][1]) == (("age-out", "age-out.refused"), "keep.blocked")


def test_plan_does_not_block_unblocked_image_again():
    """A person unblocked it."""
    found = planned(
        image(1, exploited=True), image(2, exploited=True), statuses={ref(1): stands(unblock="false alarm")}
    )

    assert (found[1][1], found[2][1]) == ("keep.newest", "block.exploited")


def test_plan_keeps_base_of_image_that_stays():
    """An exploited base is blocked all the same, because a running image does not need it."""
    bases = [image(n, repository="curated/base/python", environments=()) for n in (10, 12)]
    bases += [image(n, 100 + n, repository="curated/base/python", environments=()) for n in (1, 2)]
    bad = image(11, repository="curated/base/python", environments=(), exploited=True)
    app = image(900, 30, bases=(10, 11))

    found = planned(app, bad, *bases)

    assert found[10] == ("keep", "keep.needed-base")
    assert found[11] == ("block", "block.exploited")
    assert found[12] == ("age-out", "age-out.superseded")


@pytest.mark.parametrize("exploited", [True, False])
def test_plan_keeps_base_while_anything_is_built_on_it(exploited):
    """The rule also holds for a base of a base, and for one that is blocked."""
    of_bases: dict[str, Any] = {"repository": BASE, "environments": ()}
    bases = [image(50, **of_bases), *(image(n, 100 + n, **of_bases) for n in (60, 61, 62))]
    bases.append(image(51, bases=(50,), exploited=exploited, **of_bases))

    found = planned(image(900, 30, bases=(51,)), *bases)

    assert found[50] == ("keep", "keep.needed-base")
    assert found[62] == ("age-out", "age-out.superseded")


def test_plan_keeps_children_of_index_that_stays():
    """An index consists of its children."""
    index, child = image(900, 30), image(1, tags=())
    parts = [member(index, children=(digest(1), digest(2))), part(2), part(3, subject=1)]

    found = planned(*newest(), index, child, parts=parts)

    assert (found[1], found[2], found[3]) == (
        ("keep", "keep.needed"),
        ("keep", "keep.belongs"),
        ("keep", "keep.belongs"),
    )


def test_plan_keeps_index_if_untagged_child_stays():
    """The child would remain without a name."""
    parts = [member(image(1), children=(digest(2),)), part(2), part(4)]
    found = planned(*newest(1), parts=parts)
    assert found[1][0] == found[2][0] == "age-out"
    assert found[4] == ("keep", "keep.unknown")

    held = image(2, tags=())
    found = planned(*newest(1), held, parts=[member(image(1), children=(digest(2),))],
                    statuses={ref(2): stands(hold="x")})  # fmt: skip
    assert (found[1][1], found[2][1]) == ("keep.needed", "keep.hold")

    tagged = image(2)
    found = planned(*newest(1), tagged, parts=[member(image(1), children=(digest(2),))],
                    statuses={ref(2): stands(hold="x")})  # fmt: skip
    assert (found[1][0], found[2][1]) == ("age-out", "keep.hold")


@pytest.mark.parametrize("child", [
    {"days": 5}, {"running": (running(2, 9),)}, {"status": "ACTIVATING"}, {"pulled_at": ago(1)},
])  # fmt: skip
def test_plan_keeps_unknown_index_if_untagged_child_stays(child):
    """Its subject stays too, because the child would remain without a name."""
    parts = [part(10, subject=1, children=(2,)), part(11, subject=10)]

    found = planned(*newest(1), image(2, tags=(), **child), parts=parts)

    assert [found[n][1] for n in (1, 10, 11)] == ["keep.needed", "keep.needed", "keep.belongs"]
    assert found[2][0] == "keep"


def test_plan_deletes_unknown_index_if_staying_child_has_tag():
    """The tags of the registry count, because they are newer than the inventory."""
    tagged = image(2, running=(running(2, 9),))
    untagged = member(tagged).model_copy(update={"stored": stored(2, tags=())})

    found = planned(*newest(1), tagged, parts=[part(10, subject=1, children=(2,))])
    since = planned(*newest(1), tagged, parts=[part(10, subject=1, children=(2,)), untagged])

    assert (found[1][0], found[10][0], found[2][0]) == ("age-out", "age-out", "keep")
    assert (since[1][0], since[10][0], since[2][0]) == ("keep", "keep", "keep")


@pytest.mark.parametrize("part_of", [{"subject": 10}, {"copy_of": 10}])
def test_plan_keeps_subject_of_referrer_that_stays(part_of):
    """An index that stays lists the referrer."""
    index, last = part(20, tags=("t",), children=(11,)), part(11, **part_of)

    for first in (part(10, subject=99), part(10, subject=1)):
        found = planned(*newest(1), parts=[index, first, last])

        assert (found[10], found[11]) == (("keep", "keep.needed"), ("keep", "keep.belongs"))
    assert found[1] == ("keep", "keep.needed")


def test_plan_keeps_unknown_base_with_image_built_on_it():
    """It is a child of an index that stays with it, and is archived with a blocked one."""
    newer = [image(n, 160 - n, repository=BASE) for n in (60, 61, 62)]
    app, child = image(900, 30, bases=(51,)), part(51, repository=BASE)

    for exploited, rules in ((False, ("keep.needed", "keep.needed-base")), (True, ("block.exploited",) * 2)):
        index = image(50, repository=BASE, exploited=exploited)
        found = planned(app, index, *newer, parts=[member(index, children=(digest(51),)), child])

        assert (found[50][1], found[51][1]) == rules


def test_plan_keeps_possible_children_of_unreadable_index():
    """They are neither deleted nor archived with it; certain referrers are deleted with it."""
    shelved = image(1, status="ARCHIVED")
    index = member(shelved, children=(digest(2), digest(3), digest(4)), guessed=True)
    parts = [index, part(2, tags=("t",)), part(5, subject=1), part(6, children=(4,), subject=7), part(4)]

    going = planned(*newest(1, 7), image(3), parts=parts[:3])
    nameless = planned(*newest(1, 7), image(3), parts=[index, part(2), *parts[2:]])
    blocked = planned(*newest(), shelved, image(7), image(3), parts=parts, statuses={ref(1): stands(block="bad")})
    both = planned(*newest(), shelved, image(7), image(3), parts=parts)

    assert [going[n][1] for n in (1, 2, 3, 5)] == [
        "age-out.superseded", "keep.unknown", "age-out.superseded", "age-out.superseded",
    ]  # fmt: skip
    assert [nameless[n][1] for n in (1, 2, 5)] == ["keep.needed", "keep.unknown", "keep.belongs"]
    assert [blocked[n][1] for n in (1, 2, 3, 4, 5)] == [
        "keep.blocked", "keep.unknown", "keep.needed", "keep.belongs", "keep.belongs",
    ]  # fmt: skip
    assert [both[n][0] for n in (1, 4, 5, 6, 7)] == ["age-out"] * 5


def test_plan_deletes_and_archives_encrypted_copy_with_image():
    """The inventory may list the copy as an image."""
    copy = image(11, signed=False, passed=None)
    parts = [member(copy, copy_of=digest(1)), part(12, copy_of=2, tags=("x",)), part(13, copy_of=3)]
    images = [*newest(1), image(2, 50, exploited=True), image(3, 40)]

    found = planned(*images, copy, parts=parts)

    assert (found[1][0], found[11][0]) == ("age-out", "age-out")
    assert (found[2][0], found[12][0]) == ("block", "archive")
    assert (found[3][0], found[13][0]) == ("keep", "keep")


def test_plan_archives_copy_of_image_that_is_already_archived():
    """A run stopped between the two, or the copy was pushed again; a held one stays."""
    shelved = [image(n, status="ARCHIVED") for n in (1, 2, 3, 4)]
    parts = [part(10 + n, copy_of=n) for n in (1, 2, 3, 4)] + [part(20, copy_of=1, status="ARCHIVED")]
    snapshot = snapshot_of(
        *newest(), *shelved, parts=parts,
        deployments=[deployed(2, 399), deployed(900, 100), deployed(901, 90)],
        statuses={ref(1): stands(block="bad"), ref(3): stands(hold="audit"), ref(4): stands(block="b", hold="h")},
    )  # fmt: skip
    none = RULES.model_copy(update={"limits": RULES.limits.model_copy(update={"count": 0, "share": 0})})

    found = plan_lifecycle(snapshot, none, NOW)

    steps = {int(s.ref.digest[7:], 16): (s.action.value, s.rule) for s in found.steps}
    assert [steps[n][1] for n in (1, 2, 3, 4)] == ["keep.blocked", "keep.retention", "keep.hold", "keep.blocked"]
    assert steps[11] == steps[14] == ("archive", "block.in-force")
    assert steps[12] == ("archive", "archive.retention")
    assert steps[13] == steps[20] == ("keep", "keep.belongs")
    assert present(found.step(ref(11))).reason == f"it is a part of curated/hello@{ref(1).short}"
    assert [s.ref for s in found.changes] == [ref(11), ref(12), ref(14)]
    assert found.exceeded_limits == ()


def test_plan_does_not_archive_child_of_open_index():
    """The other index can still be pulled."""
    parts = [member(image(1, status="ARCHIVED"), children=(digest(5),)), part(6, children=(5,), tags=("t",)), part(5)]

    found = planned(*newest(), image(1, status="ARCHIVED"), parts=parts, statuses={ref(1): stands(block="bad")})

    assert found[1][1] == "keep.blocked"
    assert found[5] == ("keep", "keep.belongs")


def test_plan_deletes_orphans_after_minimum_age():
    """A younger one may still be waiting for its image."""
    back = part(5, copy_of=98, restored_at=ago(13))
    young = part(2, subject=99, days=13)
    found = planned(parts=[part(1, subject=99), young, part(3, copy_of=99), part(4, subject=1), back])

    assert found == {
        1: ("age-out", "age-out.orphaned"),
        2: ("keep", "keep.unknown"),
        3: ("age-out", "age-out.orphaned"),
        4: ("age-out", "age-out.orphaned"),
        5: ("keep", "keep.unknown"),
    }


def test_plan_keeps_evidence_of_copy_whose_image_is_missing():
    """Otherwise the copy would look like an image that no gate admitted."""
    copy, left = image(3, 10, signed=False, passed=None), part(1, subject=99)

    found = planned(*newest(), copy, parts=[member(copy, copy_of=digest(99)), left])

    assert (found[3], found[1]) == (("keep", "keep.unknown"), ("keep", "keep.needed"))
    assert planned(*newest(), parts=[part(3, copy_of=99), left])[1] == ("age-out", "age-out.orphaned")


def test_plan_deletes_orphans_of_image_after_audit_retention():
    """The inventory still knows where the missing image ran."""
    gone = image(99, deployed=(running(99, 399),))
    ran = [running(n, d) for n, d in ((900, 250), (901, 240))]
    newer = [each.model_copy(update={"deployed": (last,)}) for each, last in zip(newest(), ran, strict=True)]
    snapshot = snapshot_of(*newer, gone, parts=[part(1, subject=99), part(2, copy_of=99)])
    snapshot = snapshot.model_copy(update={"members": tuple(m for m in snapshot.members if m.ref != ref(99))})

    found = plan_lifecycle(snapshot, RULES, NOW)

    assert [present(found.step(ref(n))).rule for n in (1, 2, 99)] == [
        "age-out.orphaned",
        "age-out.orphaned",
        "keep.gone",
    ]


@pytest.mark.parametrize(("others", "why"), [
    ({"deployments": [deployed(99, 50)]}, "runs: staging"),
    ({"deployments": [deployed(99, 50), deployed(900, 40)]}, "may be needed for a rollback: staging"),
    ({"deployments": [deployed(900, 50, proxy=99)]}, "runs: staging, as the reverse proxy of hello"),
    ({"deployments": [deployed(99, 300), deployed(900, 100), deployed(901, 90)]}, "ran, and audits may need"),
    ({"statuses": {ref(99): stands(hold="audit")}}, "is held by ann"),
    ({"statuses": {ref(99): stands(block="bad")}}, "is blocked by ann"),
    ({"unreadable": {str(ref(99)): "damaged"}}, "cannot be read: damaged"),
    ({"deployments": [deployed(99, 399), deployed(900, 250), deployed(901, 240)]}, ""),
    ({"statuses": {ref(99): stands(unblock="fine")}}, ""),
])  # fmt: skip
@pytest.mark.parametrize("left", [part(1, subject=99), part(1, copy_of=99)])
def test_plan_keeps_evidence_of_missing_image_that_is_needed(others, why, left):
    """Whoever pushes the image again needs its evidence."""
    unreadable = {"unreadable": others.pop("unreadable")} if "unreadable" in others else {}
    snapshot = snapshot_of(*newest(), parts=[left, part(2, subject=1)], **others).model_copy(update=unreadable)
    others |= unreadable

    found = plan_lifecycle(snapshot, RULES, NOW)

    step = present(found.step(ref(1)))
    if why:
        assert (step.action, step.rule, step.protections) == (Action.KEEP, "keep.orphaned", (step.reason,))
        assert step.reason.startswith(f"the removed image curated/hello@{ref(99).short} {why}")
        assert present(found.step(ref(2))).rule == "keep.belongs"
    else:
        assert (step.rule, present(found.step(ref(2))).rule) == ("age-out.orphaned", "age-out.orphaned")


def test_plan_never_deletes_from_evidence_repository():
    """The input of the plan does not matter."""
    where: dict[str, Any] = {"repository": "evidence/execution/hello"}
    found = planned(*newest(), image(1, **where), parts=[part(2, subject=77, **where)])

    assert (found[1][1], found[2][1]) == ("keep.evidence", "keep.evidence")


def test_plan_does_not_count_missing_images_as_newest():
    """Only existing images can be used."""
    snapshot, existing = snapshot_of(*newest(1, 2)), {ref(1), ref(2)}
    snapshot = snapshot.model_copy(update={"members": tuple(m for m in snapshot.members if m.ref in existing)})

    found = plan_lifecycle(snapshot, RULES, NOW)

    assert [present(found.step(ref(n))).rule for n in (1, 2, 900, 901)] == [
        "keep.newest", "keep.newest", "keep.gone", "keep.gone",
    ]  # fmt: skip
    assert [present(found.step(ref(n))).counts_as_newest for n in (1, 2, 900, 901)] == [True, True, False, False]


def test_plan_does_not_touch_image_missing_in_registry():
    """The inventory may be out of date."""
    existing, gone = image(1), image(2, tags=())
    found = plan_lifecycle(snapshot_of(existing, gone).model_copy(update={"members": (member(existing),)}), RULES, NOW)

    assert present(found.step(ref(2))).rule == "keep.gone"
    assert present(found.step(ref(1))).rule == "keep.newest"


def test_plan_changes_nothing_in_repository_without_images():
    """The repository differs completely from the inventory."""
    snapshot = snapshot_of(image(1, signed=False), image(2, exploited=True)).model_copy(update={"members": ()})

    assert [(step.rule, step.evidence_summary) for step in plan_lifecycle(snapshot, RULES, NOW).steps] == [
        ("keep.gone", None)
    ] * 2


def test_plan_prefers_registry_to_inventory():
    """A tag may have been removed or an image pulled since."""
    pulled = part(1, tags=("t",), pulled_at=ago(1))
    assert planned(*newest(1), parts=[pulled])[1] == ("keep", "keep.pulled")


def test_plan_limits_count_images_without_their_referrers():
    """A plan above a limit needs an approval."""
    images, parts = newest(1, 2, 3), [part(n, subject=1) for n in range(10, 50)]

    def over(**limits):
        rules = RULES.model_copy(update={"limits": RULES.limits.model_copy(update=limits)})
        return plan_lifecycle(snapshot_of(*images, parts=parts), rules, NOW).exceeded_limits

    assert over(count=3, share=0.6) == ()
    assert over(count=2, share=1) == ("it changes 3 images; the limit without approval is 2",)
    assert over(count=9, share=0.59) == ("it changes 60% of curated/hello; the limit without approval is 59%",)


def test_plan_share_counts_images_in_the_registry():
    """Orphans, unknown manifests and images of the inventory alone do not count."""
    left = [part(n, subject=99) for n in range(10, 50)] + [part(n) for n in range(50, 60)]
    gone = [image(n) for n in range(60, 70)]
    rules = RULES.model_copy(update={"limits": RULES.limits.model_copy(update={"count": 2, "share": 0.5})})
    snapshot = snapshot_of(*(image(n, signed=False) for n in (1, 2)), *gone, parts=left, deployments=[deployed(99, 5)])
    snapshot = snapshot.model_copy(
        update={"members": tuple(m for m in snapshot.members if m.ref not in {g.ref for g in gone})}
    )

    assert plan_lifecycle(snapshot, rules, NOW).exceeded_limits == (
        "it changes 100% of curated/hello; the limit without approval is 50%",
    )
    orphaned = plan_lifecycle(snapshot.model_copy(update={"deployments": ()}), rules, NOW)
    assert orphaned.exceeded_limits[0] == "it changes 42 images; the limit without approval is 2"


def test_plan_without_changes_needs_no_approval():
    """The rule holds even for limits of zero."""
    rules = RULES.model_copy(update={"limits": RULES.limits.model_copy(update={"count": 0, "share": 0})})

    assert plan_lifecycle(snapshot_of(*newest()), rules, NOW).exceeded_limits == ()


def test_plan_step_shows_its_basis_and_guards():
    """The reader and the apply step need them."""
    parts = [part(11, subject=1, size=5)]
    snapshot = snapshot_of(*newest(1), image(2, running=(running(2, 9),), pulled_at=ago(3)), parts=parts)
    found = plan_lifecycle(snapshot, RULES, NOW)
    step, follower, runs = present(found.step(ref(1))), present(found.step(ref(11))), present(found.step(ref(2)))

    assert (step.tags, step.pushed_at, step.pulled_at, step.status) == (("t1",), ago(400), None, StorageStatus.ACTIVE)
    assert (step.size, step.dependents, step.belongs_to, step.referrer) == (10, (digest(11),), (), False)
    assert (follower.size, follower.dependents, follower.belongs_to, follower.referrer) == (5, (), (digest(1),), True)
    assert step.reason == "a newer one was released, 300 days ago or longer; the limit is 90 days"
    assert follower.reason == f"it belongs to curated/hello@{ref(1).short}, which is removed"
    assert runs.protections == ("it runs: staging",) and runs.pulled_at == ago(3)
    assert [s.ref for s in found.changes] == [ref(1)]
    assert str(found) == "1 to age-out, 0 to archive, 0 to block (0.0 MB); 3 images to keep"
    assert found.step(ref(77)) is None


def test_plan_names_its_inputs_by_digest():
    """Anybody can make the plan again from rules, snapshot and databases."""
    snapshot = snapshot_of(*newest(1))
    found = plan_lifecycle(snapshot, RULES, NOW)

    assert (found.planned_at, found.snapshot_read, found.rules, found.rollback, found.newest) == (
        NOW,
        NOW,
        "nightly",
        1,
        2,
    )
    assert (found.rules_digest, found.snapshot_digest) == (RULES.digest, snapshot.digest)
    assert found.databases == ("xxh64:0",)
    assert RULES.model_copy(update={"floor_days": 15}).digest != RULES.digest
    assert snapshot_of(*newest(1), statuses={ref(1): stands(hold="x")}).digest != snapshot.digest
    assert (
        snapshot.model_copy(update={"images": snapshot.images[::-1], "members": snapshot.members[::-1]}).digest
        == snapshot.digest
    )


def test_plan_file_is_stable_and_protected_by_digest(tmp_path):
    """Equal plans have equal bytes, and a changed file is refused."""
    path, again = tmp_path / "plan.json", tmp_path / "again.json"
    write_plan(plan_lifecycle(snapshot_of(*newest(1)), RULES, NOW), path)
    write_plan(plan_lifecycle(snapshot_of(*reversed(newest(1))), RULES, NOW), again)

    assert path.read_bytes() == again.read_bytes()
    assert read_plan(path) == plan_lifecycle(snapshot_of(*newest(1)), RULES, NOW)

    document = json.loads(path.read_text())
    document["plan"]["steps"][0]["action"] = "archive"
    path.write_text(json.dumps(document))
    with pytest.raises(DeclarationInvalid, match="was changed after it was planned"):
        read_plan(path)


def test_plan_file_of_older_version_is_refused(tmp_path):
    """It does not say which images have to stay."""
    path = tmp_path / "plan.json"
    write_plan(plan_lifecycle(snapshot_of(*newest(1)), RULES, NOW), path)
    document = json.loads(path.read_text())
    del document["plan"]["newest"]
    path.write_text(json.dumps(document))

    with pytest.raises(
        DeclarationInvalid, match=r"is not a plan of this version\.\nMake one with `cscm lifecycle plan"
    ):
        read_plan(path)


@pytest.mark.parametrize("text", ["", "{}", "no"])
def test_invalid_plan_file_is_refused(tmp_path, text):
    """The message shows the command that makes a plan."""
    (tmp_path / "p.json").write_text(text)

    with pytest.raises(DeclarationInvalid, match=r"cscm lifecycle plan -o plan\.json"):
        read_plan(tmp_path / "p.json")
    with pytest.raises(DeclarationInvalid, match="is not a plan"):
        read_plan(tmp_path / "none.json")


def test_in_use_separates_deployments_of_applications():
    """Deployments of one application are a history; two applications run side by side."""
    history = [deployed(1, 9, proxy=7), deployed(2, 8, application="other"), deployed(3, 7), deployed(4, 6, proxy=9)]

    running_now, before = find_in_use(history, 1)

    assert running_now == {
        digest(4): ["staging"],
        digest(9): ["staging, as the reverse proxy of hello"],
        digest(2): ["staging"],
    }
    assert before == {digest(3): ["staging"]}
    assert find_in_use(history, 2)[1] == {
        digest(3): ["staging"],
        digest(1): ["staging"],
        digest(7): ["staging, as the reverse proxy of hello"],
    }


def touched(found):
    return {step.ref: step for step in found.steps if step.action is not Action.KEEP}


def owners(snapshot, where):
    """Return the digests of existing manifests to which a manifest belongs, but not itself."""
    here = {m.ref.digest: m for m in snapshot.members if m.ref.repository == where.repository}
    me = here.get(where.digest)
    named = set(me.of) if me else set()
    named |= {d for d, m in here.items() if where.digest in m.children}
    return {d for d in named if d in here and d != where.digest}


@given(snapshots())
@tries(60)
def test_plan_never_touches_guarded_image(snapshot):
    """An image in use, held, young or unreadable is only archived by a signed block."""
    found = touched(plan_lifecycle(snapshot, RULES, NOW))
    running_now, before = find_in_use(snapshot.deployments, RULES.keep.rollback)
    for each in snapshot.images:
        step = found.get(each.ref)
        if step is None or step.rule == "block.in-force" or step.belongs_to:
            continue
        assert each.ref.digest not in running_now and each.ref.digest not in before
        assert not each.running
        assert not snapshot.statuses[str(each.ref)].hold
        assert each.stored.pushed_at <= NOW - timedelta(days=RULES.floor_days)
        assert not each.unreadable


def test_drawn_snapshots_have_parts_that_are_aged_out():
    """Otherwise the properties of parts would say nothing."""

    def ages_out_a_part(snapshot):
        steps = plan_lifecycle(snapshot, RULES, NOW).steps
        return any(step.action is Action.AGE_OUT and owners(snapshot, step.ref) for step in steps)

    drawn = 0

    @given(snapshots())
    @tries(60)
    def count(snapshot):
        nonlocal drawn
        drawn += ages_out_a_part(snapshot)

    count()
    assert drawn >= 5


@given(snapshots())
@tries(200)
def test_plan_never_deletes_part_of_image_that_stays(snapshot):
    """A child needs its index, a referrer its subject and a copy its image."""
    found = plan_lifecycle(snapshot, RULES, NOW)
    gone = {step.ref for step in found.steps if step.action is Action.AGE_OUT}
    for step in gone:
        assert all(step.model_copy(update={"digest": d}) in gone for d in owners(snapshot, step))


@given(snapshots())
@tries(200)
def test_plan_never_leaves_orphans(snapshot):
    """A manifest goes with its owners, unless it has a tag or another owner."""
    found = plan_lifecycle(snapshot, RULES, NOW)
    gone = {step.ref for step in found.steps if step.action is Action.AGE_OUT}
    images = {each.ref for each in snapshot.images}
    for each in snapshot.members:
        of = {each.ref.model_copy(update={"digest": d}) for d in owners(snapshot, each.ref)}
        if of and of <= gone and not (each.ref in images and each.stored.tags and not each.copy_of):
            assert each.ref in gone


@given(snapshots())
@tries(40)
def test_plan_only_keeps_or_blocks_blocked_image(snapshot):
    """The plan never deletes it; an image that was reopened is archived again."""
    found = plan_lifecycle(snapshot, RULES, NOW)
    for each in snapshot.images:
        step = present(found.step(each.ref))
        if snapshot.statuses[str(each.ref)].block and not step.belongs_to:
            assert step.action in (Action.KEEP, Action.BLOCK)


@given(snapshots())
@tries(40)
def test_plan_never_deletes_or_archives_base_of_image_that_stays(snapshot):
    """The reason why the image stays does not matter."""
    found = plan_lifecycle(snapshot, RULES, NOW)
    actions = {step.ref: step for step in found.steps}
    stay = [i for i in snapshot.images if actions[i.ref].action is not Action.AGE_OUT]
    needed = {base.digest for i in stay for base in i.bases if not actions[i.ref].belongs_to}
    for step in found.steps:
        if step.ref.digest in needed and not step.belongs_to:
            assert step.action not in (Action.AGE_OUT, Action.ARCHIVE)


@given(snapshots(), st.randoms(use_true_random=False))
@tries(40)
def test_plan_does_not_depend_on_order_of_input(snapshot, random):
    """The plans are equal in every byte."""
    images, members = list(snapshot.images), list(snapshot.members)
    random.shuffle(images)
    random.shuffle(members)
    again = snapshot.model_copy(update={"images": tuple(images), "members": tuple(members)})

    assert plan_lifecycle(again, RULES, NOW).model_dump_json() == plan_lifecycle(snapshot, RULES, NOW).model_dump_json()


def test_snapshot_builders_have_expected_defaults():
    """A snapshot without decisions has empty image statuses."""
    assert snapshot_of(image(1)).find_image_status(ref(1)) == ImageStatus()
    assert stored(1).digest == digest(1)


@pytest.mark.parametrize("dark", [
    {"images": [image(1, days=20).model_copy(update={"unreadable": "damaged"})]},
    {"parts": [part(1, days=20, tags=("t1",))]},
])  # fmt: skip
def test_plan_keeps_bases_if_base_of_an_image_is_unknown(dark):
    """Its evidence is unreadable or it is not in the inventory, and it may run."""
    bases = [image(50, repository=BASE), *(image(n, 160 - n, repository=BASE) for n in (60, 61, 62))]
    assert planned(*newest(), *bases)[50] == ("age-out", "age-out.superseded")

    found = planned(*newest(), *bases, *dark.get("images", ()), parts=dark.get("parts", ()))

    assert found[50] == ("keep", "keep.needed-base")


def test_plan_does_not_keep_bases_for_manifests_without_image():
    """These are referrers and copies of missing images, and untagged manifests."""
    bases = [image(50, repository=BASE), *(image(n, 160 - n, repository=BASE) for n in (60, 61, 62))]
    parts = [part(11, subject=777, tags=("x",), days=1), part(12, copy_of=777, tags=("y",), days=1), part(13, days=20)]

    assert planned(*newest(), *bases, parts=parts)[50] == ("age-out", "age-out.superseded")
