"""Applying a plan: it does what the plan says and nothing else, despite concurrent changes and interruptions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters.files.plan_journal import FileJournal
from supply_chain.errors import (
    AccessDenied,
    AwsFailed,
    AwsUnavailable,
    ClusterUnavailable,
    DeclarationInvalid,
    EvidenceInvalid,
    SupplyChainError,
)
from supply_chain.execution.docker import PROXY
from supply_chain.fleet.hosts import ClusterHost, Host
from supply_chain.lifecycle import removal_order as removing
from supply_chain.lifecycle.apply import Applied, Entry, Outcome, apply, find_bases_in_use, find_needed
from supply_chain.lifecycle.planning import plan_lifecycle
from supply_chain.lifecycle.rules import Action
from supply_chain.lifecycle.snapshot import EvidenceSummary
from supply_chain.model.image import ImageRef, StorageStatus
from supply_chain.model.tier import is_base_repository
from tests.support.examples import tries
from tests.support.memory_cluster import MemoryCluster
from tests.support.memory_journal import MemoryJournal
from tests.support.present import present
from tests.support.snapshots import (
    NOW,
    RULES,
    Shelf,
    ago,
    deployed,
    digest,
    image,
    member,
    newest,
    part,
    ref,
    snapshot_of,
    snapshots,
    stands,
)


def carried_out(tonight, registry, present, block, journal, hosts, unknown):
    """Apply a complete plan, one repository after the other."""
    in_use, bases = find_needed(tonight, present, hosts, unknown), None
    done: list[Entry] = []
    for each in tonight.repositories:
        if is_base_repository(each) and bases is None:
            bases = find_bases_in_use(tonight, present)
        done += apply(tonight, each, in_use, bases or (), registry, present, block, journal)
    return Applied(plan=tonight.digest, entries=tuple(sorted(done, key=lambda each: str(each.ref))))


class House:
    """A snapshot, its plan, and the registry in which the plan is applied."""

    def __init__(self, snapshot):
        self.plan, self.shelf, self.journal = plan_lifecycle(snapshot, RULES, NOW), Shelf(snapshot), MemoryJournal()
        self.hosts: dict[str, Host] = {}
        self.unknown: dict[str, SupplyChainError] = {}

    def apply(self):
        return carried_out(self.plan, self.shelf, self.shelf, self.shelf.block, self.journal, self.hosts, self.unknown)

    def outcomes(self):
        return {int(e.ref.digest[7:], 16): e.outcome.value for e in self.apply().entries}

    def change(self, where, **changes):
        held = self.shelf.held[where]
        if "status" in changes:
            changes["status"] = StorageStatus(changes["status"])
        of_manifest = {k: v for k, v in changes.items() if k in type(held.stored).model_fields}
        others = {k: v for k, v in changes.items() if k not in of_manifest}
        stored = held.stored.model_copy(update=of_manifest)
        self.shelf.held[where] = held.model_copy(update={"stored": stored, **others})


@pytest.fixture
def house():
    """Three images: one to delete with a signature and an SBOM, one to archive, one to block."""
    images = [*newest(1), image(2, 50, exploited=True), image(3, 400, signed=False)]
    parts = [part(11, subject=1), part(12, subject=11), part(21, subject=2)]
    return House(
        snapshot_of(*images, parts=parts, deployments=[deployed(3, 399), deployed(900, 100), deployed(901, 90)])
    )


def test_apply_does_exactly_what_the_plan_says(house):
    """A manifest is deleted after its referrers, and a block is signed before the image is archived."""
    outcomes = house.outcomes()

    assert outcomes == {1: "done", 2: "done", 3: "done", 11: "done", 12: "done"}
    calls = house.shelf.calls
    assert sorted(calls, key=str) == sorted(
        [("block", ref(2)), ("archive", ref(2)), ("archive", ref(3)),
         ("delete", ref(12)), ("delete", ref(11)), ("delete", ref(1))], key=str,
    )  # fmt: skip
    assert calls.index(("block", ref(2))) < calls.index(("archive", ref(2)))
    assert [where for what, where in calls if what == "delete"] == [ref(12), ref(11), ref(1)]


def test_apply_reports_outcome_and_reason_of_each_step(house):
    """The reason is that of the plan."""
    applied = house.apply()

    assert applied.plan == house.plan.digest
    assert str(applied) == "5 done, 0 skipped, 0 failed"
    assert {e.ref: e.message for e in applied.entries}[ref(1)].startswith("a newer one was released")
    assert [e.ref for e in applied.entries] == sorted((e.ref for e in applied.entries), key=str)


CHANGES = {
    "tags": ({"tags": ("other",)}, 1, "its tags are other now"),
    "no tags": ({"tags": ()}, 1, "its tags are none now"),
    "pushed": ({"pushed_at": ago(1)}, 1, "it was pushed again"),
    "pulled": ({"pulled_at": ago(1)}, 1, "it was pulled after the plan"),
    "archived": ({"status": "ARCHIVED"}, 1, "it is ARCHIVED now"),
    "restoring": ({"status": "ACTIVATING"}, 3, "it is ACTIVATING now"),
    "pulled what is cold": ({"pulled_at": ago(1)}, 3, "it was pulled after the plan"),
    "subject": ({"subjects": (digest(900),)}, 1, f"it belongs to {digest(900)} now"),
}


@pytest.mark.parametrize(("change", "number", "why"), CHANGES.values(), ids=CHANGES)
def test_apply_skips_changed_manifest_and_its_referrers(house, change, number, why):
    """The plan was based on the earlier state."""
    house.change(ref(number), **change)

    applied = house.apply()

    entries = {int(e.ref.digest[7:], 16): e for e in applied.entries}
    assert (entries[number].outcome, entries[number].message) == (Outcome.SKIPPED, why)
    assert ref(number) in house.shelf.held
    if number == 1:
        assert {n: entries[n].outcome for n in (11, 12)} == {11: "skipped", 12: "skipped"}
        assert {what for what, _ in house.shelf.calls} == {"block", "archive"}


@pytest.mark.parametrize(("number", "stand", "why"), [
    (1, {"hold": "audit"}, "it is held by ann on 2026-11-23 12:00 UTC: audit"),
    (2, {"hold": "audit"}, "it is held by ann on 2026-11-23 12:00 UTC: audit"),
    (3, {"hold": "audit"}, "it is held by ann on 2026-11-23 12:00 UTC: audit"),
    (1, {"block": "bad"}, "it is blocked by ann on 2026-11-23 12:00 UTC: bad"),
    (3, {"block": "bad"}, "it is blocked by ann on 2026-11-23 12:00 UTC: bad"),
    (2, {"unblock": "fine"}, "it was unblocked by ann on 2026-11-23 12:00 UTC: fine"),
])  # fmt: skip
def test_apply_skips_image_with_newer_lifecycle_decision(house, number, stand, why):
    """The signed decisions are read again for each image."""
    house.shelf.stand[str(ref(number))] = stands(**stand)

    entries = {e.ref: e for e in house.apply().entries}

    assert (entries[ref(number)].outcome, entries[ref(number)].message) == (Outcome.SKIPPED, why)


def once_looked_at(house, number, monkeypatch, **acts):
    """Sign this decision after the first reading of the image status; return the list of readings."""
    read, asked = house.shelf.find_image_status, []

    def find_image_status(where):
        found = read(where)
        if where == ref(number):
            asked.append(where)
            house.shelf.stand[str(where)] = stands(**acts)
        return found

    monkeypatch.setattr(house.shelf, "find_image_status", find_image_status)
    return asked


@pytest.mark.parametrize(("number", "acts", "why"), [
    (1, {"hold": "audit"}, "it is held"), (1, {"block": "bad"}, "it is blocked"), (3, {"hold": "audit"}, "it is held"),
    (2, {"unblock": "fine"}, "it was unblocked"), (2, {"hold": "audit"}, "it is held"),
])  # fmt: skip
def test_apply_heeds_decision_signed_during_the_checks(house, monkeypatch, number, acts, why):
    """The status is read once more just before anything of the image changes."""
    before = dict(house.shelf.held)
    asked = once_looked_at(house, number, monkeypatch, **acts)

    entries = {int(e.ref.digest[7:], 16): e for e in house.apply().entries}

    assert entries[number].outcome is Outcome.SKIPPED and entries[number].message.startswith(why)
    assert len(asked) == 2
    for each in {1: (1, 11, 12), 2: (2, 21), 3: (3,)}[number]:
        assert house.shelf.held[ref(each)] == before[ref(each)]
    assert {e.outcome.value for n, e in entries.items() if n not in (number, 11, 12)} == {"done"}


@pytest.mark.parametrize(("meanwhile", "outcome"), [
    ({}, "done"), ({"block": "bad"}, "skipped"), ({"block": "bad", "rule": "block.revoked"}, "done"),
])  # fmt: skip
def test_apply_deletes_image_blocked_by_rule_but_not_by_person(meanwhile, outcome):
    """The plan considered the block by the rule."""
    refused = image(1, status="ARCHIVED", signed=False, passed=False)
    house = House(snapshot_of(*newest(), refused, statuses={ref(1): stands(block="x", rule="block.refused")}))
    if meanwhile:
        house.shelf.stand[str(ref(1))] = stands(**meanwhile)

    assert house.outcomes()[1] == outcome


def test_apply_heeds_unblock_signed_during_the_checks(monkeypatch):
    """The image is not archived again."""
    house = House(snapshot_of(*newest(1), statuses={ref(1): stands(block="bad")}))
    once_looked_at(house, 1, monkeypatch, unblock="fine")

    assert house.outcomes() == {1: "skipped"}
    assert house.shelf.calls == []


def test_apply_keeps_index_whose_child_is_held_during_the_checks(monkeypatch):
    """The index would be deleted first."""
    house = House(snapshot_of(*newest(1), image(2, tags=()), parts=[member(image(1), children=(digest(2),))]))
    once_looked_at(house, 2, monkeypatch, hold="x")

    assert house.outcomes() == {1: "skipped", 2: "skipped"}


def test_apply_keeps_image_held_during_other_deletions():
    """Each image is checked just before its own deletion."""
    parts = [*(part(n, subject=1) for n in range(1000, 1100)), part(60, subject=50)]
    house = House(snapshot_of(*newest(1, 50), parts=parts))
    house.shelf.watch = lambda: house.shelf.stand.update({str(ref(50)): stands(hold="audit")})

    found = house.outcomes()

    assert (found[1], found[50], found[60]) == ("done", "skipped", "skipped")
    assert {ref(50), ref(60)} <= house.shelf.held.keys()


@pytest.mark.parametrize(("number", "says", "why"), [
    (1, {"verdict": "failed"}, "the last release verdict about it is failed now"),
    (1, {"signed": False}, "it is not signed now"),
    (1, {"exploited": ("CVE-1", "CVE-2")}, "it has known exploited findings now: CVE-1, CVE-2"),
    (2, {"exploited": ()}, "it no longer has a known exploited finding"),
    (3, {"signed": True}, "it is signed now"),
])  # fmt: skip
def test_apply_skips_image_whose_evidence_changed(house, number, says, why):
    """The inventory may be out of date, or its database may have been changed."""
    house.shelf.says[ref(number)] = house.shelf.says[ref(number)].model_copy(update=says)

    entries = {e.ref: e for e in house.apply().entries}

    assert (entries[ref(number)].outcome, entries[ref(number)].message) == (Outcome.SKIPPED, why)
    assert str(ref(number)) not in house.shelf.stand


def test_apply_finishes_interrupted_deletion_without_evidence(house):
    """Otherwise an image would remain without its evidence."""
    del house.shelf.held[ref(12)], house.shelf.held[ref(11)]
    house.shelf.says[ref(1)] = EvidenceSummary(signed=False, verdict="none")

    assert house.outcomes()[1] == "done"
    assert ref(1) not in house.shelf.held


def test_apply_ignores_additional_reason_for_same_verdict(house):
    """The image is blocked as planned."""
    more = ("CVE-1", "CVE-2")
    house.shelf.says[ref(2)] = house.shelf.says[ref(2)].model_copy(update={"exploited": more})

    assert house.outcomes()[2] == "done"


BASE = "curated/base/python"


def with_bases(*images, **others):
    """Return a house with these images, an old base and newer bases that supersede it."""
    newer = [image(n, 160 - n, repository=BASE) for n in (60, 61, 62)]
    return House(snapshot_of(*images, *newest(), image(50, repository=BASE), *newer, **others))


@pytest.mark.parametrize("change", ["held", "deployed", "pulled"])
def test_apply_keeps_base_of_image_that_turned_out_to_stay(change):
    """The plan deletes both, but the image is skipped."""
    house = with_bases(image(1, bases=[50]))
    if change == "held":
        house.shelf.stand[str(ref(1))] = stands(hold="audit")
    if change == "deployed":
        house.shelf.signed.append(deployed(1, 0))
    if change == "pulled":
        house.change(ref(1), pulled_at=ago(1))

    entries = {e.ref: e for e in house.apply().entries}

    assert entries[ref(1)].outcome is Outcome.SKIPPED
    assert entries[ref(50, BASE)].message == "an image that still exists is built on it, or may be"
    assert {ref(1), ref(50, BASE)} <= house.shelf.held.keys()


def test_apply_deletes_base_with_image_built_on_it():
    """Both are gone in the same run."""
    assert {n: with_bases(image(1, bases=[50])).outcomes()[n] for n in (1, 50)} == {1: "done", 50: "done"}


def test_apply_deletes_base_one_run_after_base_built_on_it():
    """The base above may turn out to stay."""
    house = with_bases(image(51, repository=BASE, bases=[50]))
    held = with_bases(image(51, repository=BASE, bases=[50]))
    held.shelf.stand[str(ref(51, BASE))] = stands(hold="audit")

    found, of_held = house.outcomes(), held.outcomes()

    assert (found[51], found[50]) == ("done", "skipped")
    assert (of_held[51], of_held[50]) == ("skipped", "skipped")
    assert with_bases().outcomes()[50] == "done"


def dark(*_):
    raise EvidenceInvalid("damaged\nlook")


def test_apply_keeps_bases_if_provenance_is_unreadable(monkeypatch):
    """Everything else is done, and the bases are planned again the next night."""
    house = with_bases(image(1))
    monkeypatch.setattr(house.shelf, "bases", dark)

    found = house.outcomes()

    assert (found[1], found[50]) == ("done", "skipped")


def test_apply_reads_bases_only_if_it_deletes_a_base(monkeypatch):
    """A block of a base needs no provenance."""
    house = House(snapshot_of(image(60, 98, repository=BASE), image(11, 50, repository=BASE, exploited=True)))
    monkeypatch.setattr(house.shelf, "bases", None)

    assert house.outcomes() == {11: "done"}


@pytest.mark.parametrize("became", ["blocked", "revoked", "archived", "unreadable", "gone"])
def test_apply_keeps_image_if_fewer_usable_images_are_left(house, monkeypatch, became):
    """An image that was to stay may have become unusable, so the older one must stay too."""
    newer, read = ref(900), house.shelf.summarize_evidence
    if became == "blocked":
        house.shelf.stand[str(newer)] = stands(block="exploited")
    if became == "revoked":
        house.shelf.says[newer] = EvidenceSummary(signed=True, verdict="failed")
    if became == "archived":
        house.change(newer, status="ARCHIVED")
    if became == "unreadable":
        monkeypatch.setattr(
            house.shelf, "summarize_evidence", lambda where, m: dark() if where == newer else read(where, m)
        )
    if became == "gone":
        del house.shelf.held[newer]

    entries = {e.ref: e for e in house.apply().entries}

    assert entries[ref(1)].message == "fewer of the remaining images can be used now than the plan requires"
    assert entries[ref(2)].outcome is Outcome.DONE, "what is blocked is blocked all the same"


def test_apply_requires_no_more_usable_images_than_the_plan():
    """An archived image is not usable, so an older one stays in its place."""
    three = House(snapshot_of(*newest(1), image(2, pulled_at=ago(1))))
    three.shelf.stand[str(ref(900))] = stands(block="bad")
    one = House(snapshot_of(image(900, 300), image(901, 299, status="ARCHIVED"), image(1)))

    assert three.outcomes() == {1: "done"}
    assert present(one.plan.step(ref(1))).rule == "keep.newest"


def test_apply_counts_unblocked_images_as_usable():
    """If they are blocked again meanwhile, the older image stays."""
    numbers = [900 + n for n in range(RULES.keep.newest)]
    unblocked = {ref(number): stands(unblock="no way to it") for number in numbers}
    house = House(snapshot_of(*(image(n, 1200 - n, exploited=True) for n in numbers), image(1), statuses=unblocked))
    assert present(house.plan.step(ref(1))).action is Action.AGE_OUT
    for number in numbers:
        house.shelf.stand[str(ref(number))] = stands(block="it is one")

    assert house.outcomes()[1] == "skipped"


def test_apply_counts_usable_images_for_each_environment():
    """An image that another environment can use does not count."""
    where: dict[str, Any] = {"environments": ("production",)}
    house = House(snapshot_of(*newest(1), image(3, **where), *(image(n, 300 - n, **where) for n in (10, 11, 12))))
    house.shelf.stand[str(ref(11))] = stands(block="bad")

    assert house.outcomes() == {1: "done", 3: "skipped", 10: "skipped"}


@pytest.mark.parametrize("meanwhile", ["deployed", "held", "blocked", "held at last"])
def test_apply_keeps_evidence_of_missing_image_needed_meanwhile(monkeypatch, meanwhile):
    """Whoever pushes the image again needs its evidence."""
    house = House(snapshot_of(*newest(), parts=[part(11, subject=777), part(12, subject=11)]))
    if meanwhile == "deployed":
        house.shelf.signed.append(deployed(777, 0))
    elif meanwhile == "held at last":
        once_looked_at(house, 777, monkeypatch, hold="audit")
    else:
        house.shelf.stand[str(ref(777))] = stands(**{"hold" if meanwhile == "held" else "block": "x"})

    entries = {int(e.ref.digest[7:], 16): e for e in house.apply().entries}

    assert {n: e.outcome for n, e in entries.items()} == {11: "skipped", 12: "skipped"}
    assert entries[11].message.startswith(f"the removed image {digest(777)} ")
    assert {ref(11), ref(12)} <= house.shelf.held.keys()


def test_apply_deletes_evidence_of_missing_image_nobody_needs():
    """Such evidence describes nothing that exists."""
    house = House(snapshot_of(*newest(), parts=[part(11, subject=777)]))

    assert house.outcomes() == {11: "done"}


@pytest.mark.parametrize(("number", "outcome"), [(1, "skipped"), (2, "done"), (3, "skipped")])
def test_apply_keeps_base_of_image_built_meanwhile(number, outcome):
    """A blocked base is blocked all the same."""
    on: dict[str, Any] = {"repository": "curated/base/hello"}
    images = [
        *(image(900 + n, 300 - n, **on) for n in range(RULES.keep.newest)),
        image(1, **on), image(2, 50, exploited=True, **on), image(3, 400, signed=False, **on),
    ]  # fmt: skip
    house = House(snapshot_of(*images, deployments=[deployed(3, 399), deployed(900, 100), deployed(901, 90)]))
    house.shelf.new_on = {digest(number)}

    assert house.outcomes() == {1: "done", 2: "done", 3: "done", number: outcome}


@pytest.mark.parametrize(
    ("stand", "outcome"), [({"block": "bad"}, "done"), ({"unblock": "fine"}, "skipped"), ({}, "skipped")]
)
def test_apply_archives_reopened_image_only_if_still_blocked(stand, outcome):
    """Somebody may have unblocked it; an existing block needs no new statement."""
    house = House(snapshot_of(*newest(1), statuses={ref(1): stands(block="bad")}))
    house.shelf.stand[str(ref(1))] = stands(**stand)

    assert house.outcomes() == {1: outcome}
    assert [what for what, _ in house.shelf.calls] == (["archive"] if outcome == "done" else [])


@pytest.mark.parametrize("more", [
    [deployed(1, 0)], [deployed(1, 0.2), deployed(900, 0.1)], [deployed(900, 0, proxy=1)],
    [deployed(1, 0, environment="production", application="other")],
])  # fmt: skip
def test_apply_keeps_image_deployed_meanwhile(house, more):
    """The image should run now, or is the rollback."""
    house.shelf.signed += more

    entries = {e.ref: e for e in house.apply().entries}

    assert entries[ref(1)].message == "it runs or should run, or a rollback may need it"
    assert ref(1) in house.shelf.held and ref(11) in house.shelf.held


def test_apply_keeps_image_deployed_while_it_runs():
    """Deployments are read again before each repository."""
    snapshot = snapshot_of(
        *newest(1), *(image(n, 400 - n, repository="curated/aaa") for n in (50, 51, 52)),
        parts=[part(60, repository="curated/aaa", subject=50)],
    )  # fmt: skip
    house = House(snapshot)
    house.shelf.watch = lambda: house.shelf.signed.append(deployed(1, 0))

    assert house.outcomes() == {50: "done", 60: "done", 1: "skipped"}


@pytest.mark.parametrize("meanwhile", ["deployed", "named"])
def test_apply_keeps_proxy_used_during_other_deletions(meanwhile, monkeypatch):
    """A deployment does not wait for the plan, so each batch is checked."""
    monkeypatch.setattr(removing, "AT_ONCE", 1)
    repo: dict[str, Any] = {"repository": PROXY, "environments": ()}
    old = [image(n, 500 - n, **repo) for n in (1, 2, 3)]
    house = House(snapshot_of(*old, *(image(n, 300 - n, **repo) for n in (10, 11))))
    assert {s.ref for s in house.plan.changes} == {each.ref for each in old}

    def watch(*_):
        if meanwhile == "named":
            house.shelf.named = {digest(2): ("staging",)}
        else:
            house.shelf.signed.append(deployed(903, 0, proxy=2))

    house.shelf.watch = watch

    assert house.outcomes() == {1: "done", 2: "skipped", 3: "done"}
    assert house.shelf.held[ref(2, PROXY)] == member(old[1])


def test_apply_keeps_proxy_named_by_environment_meanwhile():
    """It stays even before the first deployment there."""
    repo: dict[str, Any] = {"repository": PROXY, "environments": ()}
    house = House(snapshot_of(image(1, **repo), *(image(n, 300 - n, **repo) for n in (10, 11))))
    house.shelf.named = {digest(1): ("staging",)}

    assert find_needed(house.plan, house.shelf, {}, {}).digests == {digest(1)}
    assert house.outcomes() == {1: "skipped"}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_apply_keeps_image_that_cluster_runs_without_record(house, number):
    """Since the inventory was made, a person rolled back to it, or made a pod of it; its referrers stay too."""
    cluster = MemoryCluster()
    cluster.add_pod("by-hand", "team-a", f"registry.test/curated/hello@{digest(number)}")
    house.hosts["kubernetes/shop"] = ClusterHost("shop", lambda: cluster)

    entries = {int(e.ref.digest[7:], 16): e for e in house.apply().entries}

    retained = {1, 11, 12} if number == 1 else {number}
    assert {n for n, e in entries.items() if e.outcome is Outcome.SKIPPED} == retained
    assert entries[number].message == "it runs or should run, or a rollback may need it"


def test_apply_keeps_everything_while_cluster_cannot_be_observed(house):
    """Whatever may run there is not known: nothing is archived, removed or newly blocked until it is."""
    cluster = MemoryCluster(failing={"list Pod": ClusterUnavailable("it does not answer\nretried")})
    house.hosts["kubernetes/shop"] = ClusterHost("shop", lambda: cluster)

    entries = house.apply().entries

    assert {e.outcome for e in entries} == {Outcome.SKIPPED} and house.shelf.calls == []
    assert {e.message for e in entries if int(e.ref.digest[7:], 16) < 10} == {
        "it is unknown whether it runs: kubernetes/shop: it does not answer"
    }


def test_apply_archives_blocked_image_despite_unobservable_cluster():
    """A person blocked it: it must not be pulled, wherever it runs."""
    house = House(snapshot_of(*newest(), image(1), statuses={ref(1): stands(block="bad")}))
    cluster = MemoryCluster(failing={"list Pod": ClusterUnavailable("it does not answer")})
    house.hosts["kubernetes/shop"] = ClusterHost("shop", lambda: cluster)

    assert house.outcomes() == {1: "done"}


def test_apply_keeps_everything_while_environment_cannot_be_read(house):
    """Where it is, and so what runs there, is not known."""
    house.unknown = {"broken": DeclarationInvalid("its host is wrong\ncorrect it")}

    entries = house.apply().entries

    assert {e.outcome for e in entries} == {Outcome.SKIPPED} and house.shelf.calls == []
    assert {e.message for e in entries if int(e.ref.digest[7:], 16) < 10} == {
        "it is unknown whether it runs: broken: its host is wrong"
    }


def test_apply_archives_blocked_image_despite_unreadable_environment():
    """That only protects."""
    house = House(snapshot_of(*newest(), image(1), statuses={ref(1): stands(block="bad")}))
    house.unknown = {"broken": DeclarationInvalid("its host is wrong\ncorrect it")}

    assert house.outcomes() == {1: "done"}


def test_apply_keeps_image_with_new_referrer(house):
    """The image was signed or scanned again, and the next plan considers it."""
    new = part(13, subject=1, days=0)
    house.shelf.held[new.ref] = new

    assert house.outcomes() == {1: "skipped", 2: "done", 3: "done", 11: "skipped", 12: "skipped"}


def test_apply_keeps_child_of_new_index():
    """An index that was pushed since lists it."""
    house = House(snapshot_of(*newest(1), parts=[member(image(1), children=(digest(2),)), part(2)]))
    new = part(3, children=(2,), days=0, tags=("new",))
    house.shelf.held[new.ref] = new

    assert house.outcomes() == {1: "done", 2: "skipped"}


def test_apply_keeps_index_whose_child_is_held():
    """The child would remain without a name."""
    snapshot = snapshot_of(*newest(1), image(2, tags=()), parts=[member(image(1), children=(digest(2),))])
    house = House(snapshot)
    house.shelf.stand[str(ref(2))] = stands(hold="x")

    assert house.outcomes() == {1: "skipped", 2: "skipped"}


def test_apply_keeps_index_whose_child_lost_its_tag():
    """The plan allowed the deletion because the child had a tag."""
    snapshot = snapshot_of(
        *newest(1), image(2), parts=[member(image(1), children=(digest(2),))], statuses={ref(2): stands(hold="x")}
    )
    house = House(snapshot)
    house.change(ref(2), tags=())

    assert present(house.plan.step(ref(1))).action is Action.AGE_OUT
    assert house.outcomes() == {1: "skipped"}
    assert House(snapshot).outcomes() == {1: "done"}


def test_apply_deletes_index_although_reading_it_was_a_pull():
    """ECR counts every pull, including that of the lifecycle."""
    house = House(snapshot_of(*newest(1), parts=[member(image(1), children=(digest(2),)), part(2)]))
    house.change(ref(1), pulled_at=ago(0))

    assert house.outcomes() == {1: "done", 2: "done"}


def test_apply_deletes_index_before_its_children():
    """ECR does not delete a child of an existing index."""
    house = House(snapshot_of(*newest(1), parts=[member(image(1), children=(digest(2), digest(3))), part(2), part(3)]))

    assert house.outcomes() == {1: "done", 2: "done", 3: "done"}
    assert house.shelf.calls[0] == ("delete", ref(1))


def test_apply_archives_encrypted_copy_only_with_its_image():
    """The copy is what is pulled of a confidential application."""
    snapshot = snapshot_of(*newest(), image(2, 500, exploited=True), parts=[part(12, copy_of=2)])
    assert House(snapshot).outcomes() == {2: "done", 12: "done"}

    house = House(snapshot)
    house.shelf.stand[str(ref(2))] = stands(hold="x")
    assert house.outcomes() == {2: "skipped", 12: "skipped"}


def test_apply_does_not_archive_image_whose_copy_was_pulled():
    """Only the copy of a confidential application is ever pulled."""
    cold = (image(3, 400, signed=False), part(13, copy_of=3))
    house = House(snapshot_of(*newest(), cold[0], parts=cold[1:], deployments=[deployed(3, 399), *LATER]))
    assert present(house.plan.step(ref(3))).action is Action.ARCHIVE

    house.change(ref(13), pulled_at=ago(0))

    applied = house.apply()
    assert {e.outcome for e in applied.entries} == {Outcome.SKIPPED}
    assert applied.entries[0].message == f"its encrypted copy {ref(13)} was pulled after the plan"


LATER = [deployed(900, 100), deployed(901, 90)]


def copied():
    """Return a house with an image to block and its copy, whose digest sorts first."""
    return House(snapshot_of(*newest(), image(22, 500, exploited=True), parts=[part(12, copy_of=22)]))


def test_apply_skips_missing_copy_and_blocks_its_image():
    """A missing copy cannot be archived."""
    house = copied()
    del house.shelf.held[ref(12)]

    entries = {e.ref: e for e in house.apply().entries}

    assert entries[ref(22)].outcome is Outcome.DONE
    assert (entries[ref(12)].outcome, entries[ref(12)].message) == (Outcome.SKIPPED, "it no longer exists")


def test_apply_archives_copy_only_after_its_image_succeeded():
    """After a failure both are tried again."""
    house = copied()
    house.shelf.broken[ref(22)] = AwsFailed("ECR said no\nlook")

    entries = {e.ref: e for e in house.apply().entries}

    assert (entries[ref(12)].outcome, entries[ref(12)].code) == (Outcome.FAILED, "aws.failed")
    assert house.shelf.held[ref(12)].stored.status is StorageStatus.ACTIVE

    house.shelf.broken.clear()
    house.shelf.calls.clear()
    assert house.outcomes() == {12: "done", 22: "done"}
    assert house.shelf.calls == [("block", ref(22)), ("archive", ref(22)), ("archive", ref(12))]


def test_apply_archives_each_copy_right_after_its_image():
    """With many images, a copy must not remain open until all are archived."""
    images = [image(n, 500, exploited=True) for n in (22, 23)]
    house = House(snapshot_of(*newest(), *images, parts=[part(12, copy_of=22), part(13, copy_of=23)]))

    house.apply()

    assert [where for what, where in house.shelf.calls if what == "archive"] == [ref(22), ref(12), ref(23), ref(13)]


@pytest.mark.parametrize("other", [image(1), image(23, 500, exploited=True)])
def test_apply_archives_shared_child_after_both_owners_are_closed(other):
    """If one of the owners stays open, the child stays open too."""
    images = [*newest(), image(22, 500, exploited=True), other]
    parts = [part(5), *(member(each, children=(digest(5),)) for each in images[2:])]
    house, held = House(snapshot_of(*images, parts=parts)), House(snapshot_of(*images, parts=parts))
    held.shelf.stand[str(other.ref)] = stands(hold="audit")
    number = int(other.ref.digest[7:], 16)

    assert house.outcomes() == {5: "done", 22: "done", number: "done"}
    assert house.shelf.calls[-1] == ("archive", ref(5))
    assert held.outcomes() == {5: "skipped", 22: "done", number: "skipped"}
    assert held.shelf.held[ref(5)].stored.status is StorageStatus.ACTIVE


def test_apply_does_not_archive_copy_listed_in_new_index():
    """The index was pushed after the plan."""
    house = copied()
    new = part(3, children=(12,), days=0, tags=("new",))
    house.shelf.held[new.ref] = new

    assert house.outcomes() == {12: "skipped", 22: "done"}


@pytest.mark.parametrize("moved", [{}, {"status": "ACTIVE"}])
def test_apply_keeps_copy_open_if_image_was_unblocked_meanwhile(moved):
    """The unblock opens both, or is about to do so."""
    house = copied()
    house.shelf.dies_after = 2
    with pytest.raises(KeyboardInterrupt):
        house.apply()
    house.shelf.dies_after = None
    house.shelf.stand[str(ref(22))] = stands(unblock="fine")
    house.change(ref(22), **moved)

    assert house.outcomes() == {12: "skipped", 22: "done"}


@pytest.mark.parametrize(("stand", "moved", "outcome"), [
    ({"block": "bad"}, {}, "done"), ({"unblock": "fine"}, {}, "skipped"), ({"block": "bad", "hold": "x"}, {}, "done"),
    ({"block": "bad"}, {"status": "ACTIVE"}, "skipped"), ({"block": "bad"}, {"status": "ACTIVATING"}, "skipped"),
])  # fmt: skip
def test_apply_archives_copy_of_earlier_block_while_it_lasts(stand, moved, outcome):
    """A run stopped between the two, or the copy was pushed again."""
    blocked = image(22, status="ARCHIVED")
    house = House(
        snapshot_of(*newest(), blocked, parts=[part(12, copy_of=22)], statuses={ref(22): stands(block="bad")})
    )
    house.shelf.stand[str(ref(22))] = stands(**stand)
    house.change(ref(22), **moved)

    assert house.outcomes() == {12: outcome}
    assert house.shelf.calls == ([("archive", ref(12))] if outcome == "done" else [])


@pytest.mark.parametrize(("stand", "outcome"), [({}, "done"), ({"hold": "audit"}, "skipped"), ({"block": "b"}, "done")])
def test_apply_archives_copy_of_retained_image_unless_held(stand, outcome):
    """The image is retained for an audit and already archived."""
    ran = [deployed(22, 399), deployed(900, 100), deployed(901, 90)]
    house = House(snapshot_of(*newest(), image(22, status="ARCHIVED"), parts=[part(12, copy_of=22)], deployments=ran))
    house.shelf.stand[str(ref(22))] = stands(**stand)

    assert house.outcomes() == {12: outcome}


def test_apply_reports_missing_image_as_done(house):
    """It was deleted by somebody, or the journal was lost."""
    del house.shelf.held[ref(1)]

    assert house.outcomes()[1] == "done"


def test_apply_does_not_block_missing_image(house):
    """No block is signed for it either."""
    del house.shelf.held[ref(2)]

    assert house.outcomes()[2] == "skipped"
    assert ("block", ref(2)) not in house.shelf.calls


def test_apply_blocks_image_that_is_already_archived(house):
    """A gate does not refuse an archived image for being archived."""
    house.change(ref(2), status="ARCHIVED")

    assert house.outcomes()[2] == "done"
    assert ("block", ref(2)) in house.shelf.calls


def test_apply_reports_failure_code_and_fails_dependent_steps(house):
    """Nothing loses its owner, and the next run tries again."""
    house.shelf.refuses[ref(11)] = "KmsError"

    applied = house.apply()

    entries = {int(e.ref.digest[7:], 16): e for e in applied.entries}
    assert (entries[11].outcome, entries[11].code) == (Outcome.FAILED, "KmsError")
    assert (entries[1].outcome, entries[1].code) == (Outcome.FAILED, "KmsError")
    assert entries[12].outcome is Outcome.DONE and ref(1) in house.shelf.held
    assert [e.ref for e in applied.of(Outcome.FAILED)] == [ref(1), ref(11)]

    house.shelf.refuses.clear()
    assert house.outcomes() == {1: "done", 2: "done", 3: "done", 11: "done", 12: "done"}


def test_apply_fails_whole_chain_of_referrers(house):
    """Nothing is deleted before its referrers, however long the chain is."""
    house.shelf.refuses[ref(12)] = "KmsError"

    found = house.outcomes()

    assert {n: found[n] for n in (1, 11, 12)} == {1: "failed", 11: "failed", 12: "failed"}
    assert {ref(1), ref(11), ref(12)} <= house.shelf.held.keys()
    house.shelf.refuses.clear()
    assert set(house.outcomes().values()) == {"done"}


def test_apply_keeps_evidence_of_copy_that_cannot_be_deleted():
    """The copy stays because of its referrer, and so does the evidence that names it."""
    house = House(snapshot_of(*newest(1), parts=[part(11, subject=1), part(12, copy_of=1), part(13, subject=12)]))
    house.shelf.refuses[ref(13)] = "KmsError"

    assert set(house.outcomes().values()) == {"failed"}
    assert {ref(1), ref(11), ref(12), ref(13)} <= house.shelf.held.keys()


def test_apply_keeps_all_evidence_of_image_with_one_that_stays():
    """The image keeps its other signatures too."""
    house = House(snapshot_of(*newest(1), parts=[part(11, subject=1), part(12, subject=1)]))
    house.shelf.held[ref(13)] = part(13, subject=11)

    entries = {int(e.ref.digest[7:], 16): e for e in house.apply().entries}

    assert {n: e.outcome.value for n, e in entries.items()} == {1: "skipped", 11: "skipped", 12: "skipped"}
    assert "belongs to it and stays" in entries[1].message
    assert {ref(1), ref(11), ref(12), ref(13)} <= house.shelf.held.keys()


def test_apply_reports_error_code_and_continues(house):
    """One image that cannot be archived does not stop the others."""
    house.shelf.broken[ref(3)] = AwsFailed("ECR said no\nlook")

    entries = {e.ref: e for e in house.apply().entries}

    assert (entries[ref(3)].outcome, entries[ref(3)].code) == (Outcome.FAILED, "aws.failed")
    assert entries[ref(3)].message == "ECR said no — look [aws.failed]"
    assert entries[ref(2)].outcome is Outcome.DONE


def test_apply_continues_with_other_repositories_after_denied_call(house):
    """The denied deletion and the steps that depend on it fail."""
    other = image(70, 50, repository="curated/zzz", exploited=True)
    house = House(snapshot_of(*newest(1), other, parts=[part(11, subject=1), part(12, subject=11)]))

    def refuse(*_):
        raise AccessDenied("the role may not\nask")

    delete, house.shelf.delete = house.shelf.delete, refuse
    entries = {int(e.ref.digest[7:], 16): e for e in house.apply().entries}

    assert {n: (e.outcome, e.code) for n, e in entries.items()} == {
        1: ("failed", "access.denied"), 11: ("failed", "access.denied"), 12: ("failed", "access.denied"),
        70: ("done", ""),
    }  # fmt: skip
    assert {ref(1), ref(11), ref(12)} <= house.shelf.held.keys()
    house.shelf.delete = delete
    assert set(house.outcomes().values()) == {"done"}


def test_apply_continues_after_unreadable_repository(monkeypatch):
    """Every step of that repository fails, and the others are done."""
    house = House(snapshot_of(*newest(1), image(70, 50, repository="curated/zzz", exploited=True)))
    read = house.shelf.members

    def members(repository):
        if repository == "curated/hello":
            raise AccessDenied("the role may not\nask")
        return read(repository)

    with monkeypatch.context() as patch:
        patch.setattr(house.shelf, "members", members)
        assert house.outcomes() == {1: "failed", 70: "done"}
    assert house.outcomes() == {1: "done", 70: "done"}


def test_apply_fails_step_if_image_status_is_unreadable(house, monkeypatch):
    """The image may be held; the others are done, and the next run tries again."""
    read = house.shelf.find_image_status

    def find_image_status(where):
        if where == ref(1):
            raise EvidenceInvalid("damaged\nlook")
        return read(where)

    monkeypatch.setattr(house.shelf, "find_image_status", find_image_status)
    entries = {int(e.ref.digest[7:], 16): e for e in house.apply().entries}

    assert (entries[1].outcome, entries[1].code) == (Outcome.FAILED, "evidence.invalid")
    assert ref(1) in house.shelf.held and ref(11) in house.shelf.held
    assert entries[2].outcome is Outcome.DONE


def test_apply_deletes_copy_before_evidence_that_names_it():
    """After an interruption the evidence still tells which image the copy belongs to."""
    house = House(snapshot_of(*newest(1), parts=[part(11, subject=1), part(12, copy_of=1), part(13, subject=12)]))

    house.apply()

    assert [where for _, where in house.shelf.calls] == [ref(13), ref(12), ref(11), ref(1)]


@pytest.mark.parametrize("new", [False, True])
def test_apply_keeps_evidence_of_copy_that_stays_without_image(new):
    """The copy was pulled or pushed since."""
    copy = part(12, copy_of=777)
    house = House(snapshot_of(*newest(), parts=[part(11, subject=777), *([] if new else [copy])]))
    house.shelf.held[copy.ref] = copy
    house.change(copy.ref, pulled_at=ago(0))

    found = house.outcomes()

    assert found[11] == "skipped"
    assert {ref(11), ref(12)} <= house.shelf.held.keys()


def test_apply_raises_for_retryable_error(house):
    """The task runs again and continues after the finished steps."""
    house.shelf.broken[ref(3)] = AwsUnavailable("throttled\nlater")

    with pytest.raises(AwsUnavailable):
        house.apply()

    house.shelf.broken.clear()
    assert set(house.outcomes().values()) == {"done"}


def test_apply_skips_a_step_forever(house):
    """The step no longer has a valid basis, whatever changes later."""
    house.change(ref(1), tags=("other",))
    house.apply()
    house.change(ref(1), tags=("t1",))

    assert house.outcomes()[1] == "skipped"


@pytest.mark.parametrize("rule", ["age-out.superseded", "block.in-force"])
@pytest.mark.parametrize("belongs", [(), (digest(777),)])
@pytest.mark.parametrize("stand", [{}, {"block": "bad"}, {"block": "bad", "hold": "audit"}])
def test_apply_never_deletes_image_in_use(house, rule, belongs, stand):
    """A manipulated rule or owner in the plan does not matter."""
    house.shelf.signed.append(deployed(1, 0))
    house.shelf.stand[str(ref(1))] = stands(**stand)
    steps = tuple(
        s.model_copy(update={"rule": rule, "belongs_to": belongs}) if s.ref == ref(1) else s for s in house.plan.steps
    )
    house.plan = house.plan.model_copy(update={"steps": steps})

    house.apply()

    assert {ref(1), ref(11), ref(12)} <= house.shelf.held.keys()


def test_apply_never_deletes_evidence_of_image_that_stays(house):
    """A manipulated owner in the plan does not matter."""
    for belongs in (1, 777):
        steps = tuple(
            s.model_copy(update={"belongs_to": (digest(belongs),)}) for s in house.plan.steps if s.ref == ref(11)
        )
        house.plan, house.journal = house.plan.model_copy(update={"steps": steps}), MemoryJournal()

        house.apply()

        assert ref(11) in house.shelf.held


@pytest.mark.parametrize(("change", "why"), [
    ({"tags": ("release",)}, "its tags are release now"), ({"pushed_at": ago(1)}, "it was pushed again"),
    ({"pulled_at": ago(1)}, "it was pulled after the plan"),
])  # fmt: skip
def test_apply_keeps_child_used_meanwhile(change, why):
    """Its index stays too if nothing else names the child."""
    house = House(snapshot_of(*newest(1), parts=[member(image(1), children=(digest(2), digest(3))), part(2), part(3)]))
    house.change(ref(2), **change)

    entries = {e.ref: e for e in house.apply().entries}

    assert entries[ref(2)].message == why
    assert ref(2) in house.shelf.held
    assert (ref(1) in house.shelf.held) is ("tags" not in change)


def test_apply_keeps_child_deployed_or_held_meanwhile():
    """A child is an image like any other."""
    snapshot = snapshot_of(*newest(1), parts=[member(image(1), children=(digest(2),)), part(2)])
    for say in ("deployed", "held"):
        house = House(snapshot)
        if say == "deployed":
            house.shelf.signed.append(deployed(2, 0))
        else:
            house.shelf.stand[str(ref(2))] = stands(hold="audit")

        house.apply()

        assert {ref(1), ref(2)} <= house.shelf.held.keys()


def test_apply_keeps_evidence_of_image_pushed_again(house):
    """The journal says what was done, not what exists."""
    gone = {n: house.shelf.held[ref(n)] for n in (1, 11, 12)}
    house.apply()
    house.journal[:] = [e for e in house.journal if e.ref not in (ref(11), ref(12))]
    house.shelf.calls.clear()
    house.shelf.held |= {each.ref: each for each in gone.values()}

    entries = {e.ref: e for e in house.apply().entries}

    assert entries[ref(1)].message == "it was pushed again after it was removed"
    assert {ref(1), ref(11), ref(12)} <= house.shelf.held.keys()
    assert house.outcomes()[1] == "skipped"


def test_apply_deletes_in_batches_of_100():
    """ECR accepts at most 100 manifests in a request."""
    house = House(snapshot_of(*newest(1), parts=[part(n, subject=1) for n in range(1000, 1250)]))

    assert set(house.outcomes().values()) == {"done"}
    assert len(house.shelf.held) == 2


def test_apply_never_deletes_from_evidence_repository(house):
    """A manipulated repository in the plan does not matter."""
    steps = tuple(
        s.model_copy(update={"ref": s.ref.with_repository("evidence/execution/hello")}) for s in house.plan.steps
    )  # fmt: skip
    house.plan = house.plan.model_copy(update={"steps": steps})

    assert house.apply() == Applied(plan=house.plan.digest, entries=())
    assert house.shelf.calls == []


@given(snapshots(), st.integers(0, 12))
@tries(40)
def test_interrupted_apply_ends_like_uninterrupted_one(snapshot, after):
    """Nothing is done twice."""
    once, twice = House(snapshot), House(snapshot)
    once.apply()
    twice.shelf.dies_after = after
    try:
        twice.apply()
    except KeyboardInterrupt:
        twice.shelf.dies_after = None
        lost = [c for c in twice.shelf.calls if c[0] == "block"]
        twice.shelf.calls = [c for c in twice.shelf.calls if c not in lost]  # blocks may be signed again
        twice.apply()

    assert twice.shelf.held == once.shelf.held
    assert {k: bool(v.block) for k, v in twice.shelf.stand.items()} == {
        k: bool(v.block) for k, v in once.shelf.stand.items()
    }


@given(snapshots())
@tries(60)
def test_apply_never_leaves_orphans_between_deletions(snapshot):
    """Every referrer keeps its subject and every copy its image, after each deletion."""
    house = House(snapshot)

    def orphans():
        here = house.shelf.held
        return {
            m.ref for m in here.values() for owner in m.of if m.ref.model_copy(update={"digest": owner}) not in here
        }

    before = orphans()
    # no manifest can contain its own digest
    circles = {m.ref for m in snapshot.members if m.ref.digest in (*m.subjects, *m.children)}
    house.shelf.watch = lambda: orphaned.append(orphans() - before - circles)
    orphaned: list[set[ImageRef]] = []
    house.apply()

    going = {s.ref for s in house.plan.steps if s.action is Action.AGE_OUT}
    assert all(each <= going for each in orphaned)
    assert orphans() - circles <= before


@given(snapshots())
@tries(60)
def test_apply_does_not_change_images_that_plan_keeps(snapshot):
    """Every field stays the same."""
    house = House(snapshot)
    before = dict(house.shelf.held)
    house.apply()

    for step in house.plan.steps:
        if not step.touches and step.ref in before:
            assert house.shelf.held[step.ref] == before[step.ref]


def entry(number, outcome=Outcome.DONE):
    return Entry(ref=ref(number), action=Action.ARCHIVE, outcome=outcome, code="c", message="s")


def test_file_journal_is_readable_by_another_process(tmp_path):
    """Only its user can read it, and the directory is created."""
    path = tmp_path / "below" / "journal"
    FileJournal(path).add(entry(1))
    FileJournal(path).add(entry(2, Outcome.FAILED))

    assert FileJournal(path).entries() == (entry(1), entry(2, Outcome.FAILED))
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert FileJournal(tmp_path / "none").entries() == ()


def test_file_journal_ignores_truncated_line(tmp_path):
    """Entries after the truncated line are read."""
    journal = FileJournal(tmp_path / "journal")
    journal.add(entry(1))
    journal.path.write_bytes(journal.path.read_bytes() + b'\n{"ref": {"repos')
    journal.add(entry(2))

    assert journal.entries() == (entry(1), entry(2))
