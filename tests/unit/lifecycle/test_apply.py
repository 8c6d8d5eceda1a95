"""Carrying out a plan: what it says and nothing else, whatever happened meanwhile and wherever it was interrupted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters.files.plan_journal import FileJournal
from supply_chain.errors import AccessDenied, AwsFailed, AwsUnavailable, EvidenceInvalid
from supply_chain.execution.service import PROXY
from supply_chain.lifecycle import removal_order as removing
from supply_chain.lifecycle.apply import Applied, Entry, Outcome, apply, built_on, needed_anywhere
from supply_chain.lifecycle.planning import plan_lifecycle
from supply_chain.lifecycle.rules import Action
from supply_chain.lifecycle.snapshot import Evidenced
from supply_chain.model.image import StorageStatus
from supply_chain.model.tier import is_base_repository
from tests.support.stock import (
    NOW,
    RULES,
    Memory,
    Shelf,
    ago,
    deployed,
    digest,
    image,
    member,
    part,
    ref,
    stands,
    stock,
)
from tests.unit.conftest import tries
from tests.unit.lifecycle.test_plan import newest, stocks


def carried_out(tonight, registry, present, block, journal):
    """All of a plan, one repository after the other."""
    needed, done, bases = needed_anywhere(tonight, present), [], None
    for each in tonight.repositories:
        if is_base_repository(each) and bases is None:
            bases = built_on(tonight, present)
        done += apply(tonight, each, needed, bases or (), registry, present, block, journal)
    return Applied(plan=tonight.digest, entries=tuple(sorted(done, key=lambda each: str(each.ref))))


class House:
    """A stock, its plan, and the registry in which it is carried out."""

    def __init__(self, whole):
        self.plan, self.shelf, self.journal = plan_lifecycle(whole, RULES, NOW), Shelf(whole), Memory()

    def apply(self):
        return carried_out(self.plan, self.shelf, self.shelf, self.shelf.block, self.journal)

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
    """One to remove with a signature and an SBOM, one to archive, one to block."""
    images = [*newest(1), image(2, 50, exploited=True), image(3, 400, signed=False)]
    parts = [part(11, subject=1), part(12, subject=11), part(21, subject=2)]
    return House(stock(*images, parts=parts, deployments=[deployed(3, 399), deployed(900, 100), deployed(901, 90)]))


def test_does_what_the_plan_says_and_nothing_else(house):
    """Nothing is removed before what is attached to it; a block is signed before the image is closed."""
    outcomes = house.outcomes()

    assert outcomes == {1: "done", 2: "done", 3: "done", 11: "done", 12: "done"}
    calls = house.shelf.calls
    assert sorted(calls, key=str) == sorted(
        [("block", ref(2)), ("archive", ref(2)), ("archive", ref(3)),
         ("delete", ref(12)), ("delete", ref(11)), ("delete", ref(1))], key=str,
    )  # fmt: skip
    assert calls.index(("block", ref(2))) < calls.index(("archive", ref(2)))
    assert [where for what, where in calls if what == "delete"] == [ref(12), ref(11), ref(1)]


def test_says_what_came_of_each(house):
    """With the plan's own reason."""
    applied = house.apply()

    assert applied.plan == house.plan.digest
    assert str(applied) == "5 done, 0 skipped, 0 failed"
    assert {e.ref: e.said for e in applied.entries}[ref(1)].startswith("a newer one was vended")
    assert [e.ref for e in applied.entries] == sorted((e.ref for e in applied.entries), key=str)


CHANGES = {
    "tags": ({"tags": ("other",)}, 1, "its tags are other now"),
    "no tags": ({"tags": ()}, 1, "its tags are none now"),
    "pushed": ({"pushed_at": ago(1)}, 1, "it was pushed again"),
    "pulled": ({"pulled_at": ago(1)}, 1, "it was pulled since"),
    "archived": ({"status": "ARCHIVED"}, 1, "it is ARCHIVED now"),
    "restoring": ({"status": "ACTIVATING"}, 3, "it is ACTIVATING now"),
    "pulled what is cold": ({"pulled_at": ago(1)}, 3, "it was pulled since"),
    "subject": ({"subjects": (digest(900),)}, 1, f"it belongs to {digest(900)} since"),
}


@pytest.mark.parametrize(("change", "number", "why"), CHANGES.values(), ids=CHANGES)
def test_what_changed_is_skipped_with_its_reason_and_so_is_all_that_belongs_to_it(house, change, number, why):
    """The plan rested on it."""
    house.change(ref(number), **change)

    applied = house.apply()

    entries = {int(e.ref.digest[7:], 16): e for e in applied.entries}
    assert (entries[number].outcome, entries[number].said) == (Outcome.SKIPPED, why)
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
    (2, {"excuse": "fine"}, "it was unblocked by ann on 2026-11-23 12:00 UTC: fine"),
])  # fmt: skip
def test_what_somebody_said_meanwhile_is_heard(house, number, stand, why):
    """By signed statements, read again for each image."""
    house.shelf.stand[str(ref(number))] = stands(**stand)

    entries = {e.ref: e for e in house.apply().entries}

    assert (entries[ref(number)].outcome, entries[ref(number)].said) == (Outcome.SKIPPED, why)


def once_looked_at(house, number, monkeypatch, **acts):
    """Somebody signs this right after it was read for the first time how an image stands; how often that is read."""
    read, asked = house.shelf.standing, []

    def standing(where):
        found = read(where)
        if where == ref(number):
            asked.append(where)
            house.shelf.stand[str(where)] = stands(**acts)
        return found

    monkeypatch.setattr(house.shelf, "standing", standing)
    return asked


@pytest.mark.parametrize(("number", "acts", "why"), [
    (1, {"hold": "audit"}, "it is held"), (1, {"block": "bad"}, "it is blocked"), (3, {"hold": "audit"}, "it is held"),
    (2, {"excuse": "fine"}, "it was unblocked"), (2, {"hold": "audit"}, "it is held"),
])  # fmt: skip
def test_what_somebody_says_while_the_others_are_looked_at_is_heard(house, monkeypatch, number, acts, why):
    """It is read once more just before it is done; before anything of an image goes."""
    before = dict(house.shelf.held)
    asked = once_looked_at(house, number, monkeypatch, **acts)

    entries = {int(e.ref.digest[7:], 16): e for e in house.apply().entries}

    assert entries[number].outcome is Outcome.SKIPPED and entries[number].said.startswith(why)
    assert len(asked) == 2
    for each in {1: (1, 11, 12), 2: (2, 21), 3: (3,)}[number]:
        assert house.shelf.held[ref(each)] == before[ref(each)]
    assert {e.outcome.value for n, e in entries.items() if n not in (number, 11, 12)} == {"done"}


@pytest.mark.parametrize(("meanwhile", "outcome"), [
    ({}, "done"), ({"block": "bad"}, "skipped"), ({"block": "bad", "rule": "block.revoked"}, "done"),
])  # fmt: skip
def test_what_a_rule_blocked_is_removed_and_what_a_person_blocked_since_is_not(meanwhile, outcome):
    """The plan knew of the rule's block."""
    refused = image(1, status="ARCHIVED", signed=False, passed=False)
    house = House(stock(*newest(), refused, standings={ref(1): stands(block="x", rule="block.refused")}))
    if meanwhile:
        house.shelf.stand[str(ref(1))] = stands(**meanwhile)

    assert house.outcomes()[1] == outcome


def test_that_a_block_was_lifted_while_the_others_are_looked_at_is_heard(monkeypatch):
    """It is not closed again."""
    house = House(stock(*newest(1), standings={ref(1): stands(block="bad")}))
    once_looked_at(house, 1, monkeypatch, excuse="fine")

    assert house.outcomes() == {1: "skipped"}
    assert house.shelf.calls == []


def test_an_index_stays_where_somebody_holds_what_it_consists_of_while_the_others_are_looked_at(monkeypatch):
    """It would go first."""
    house = House(stock(*newest(1), image(2, tags=()), parts=[member(image(1), children=(digest(2),))]))
    once_looked_at(house, 2, monkeypatch, hold="x")

    assert house.outcomes() == {1: "skipped", 2: "skipped"}


def test_what_somebody_holds_while_other_images_are_removed_stays():
    """Each is looked at before anything of it goes, and not only before all."""
    parts = [*(part(n, subject=1) for n in range(1000, 1100)), part(60, subject=50)]
    house = House(stock(*newest(1, 50), parts=parts))
    house.shelf.watch = lambda: house.shelf.stand.update({str(ref(50)): stands(hold="audit")})

    found = house.outcomes()

    assert (found[1], found[50], found[60]) == ("done", "skipped", "skipped")
    assert {ref(50), ref(60)} <= house.shelf.held.keys()


@pytest.mark.parametrize(("number", "says", "why"), [
    (1, {"verdict": "failed"}, "curation's last verdict about it is failed now"),
    (1, {"signed": False}, "it is not signed now"),
    (1, {"exploited": ("CVE-1", "CVE-2")}, "it is known to be exploited now: CVE-1, CVE-2"),
    (2, {"exploited": ()}, "nothing in it is known to be exploited any more"),
    (3, {"signed": True}, "it is signed now"),
])  # fmt: skip
def test_what_evidence_says_otherwise_by_now_is_heard(house, number, says, why):
    """The inventory may have it late, or from whoever wrote to its database."""
    house.shelf.says[ref(number)] = house.shelf.says[ref(number)].model_copy(update=says)

    entries = {e.ref: e for e in house.apply().entries}

    assert (entries[ref(number)].outcome, entries[ref(number)].said) == (Outcome.SKIPPED, why)
    assert str(ref(number)) not in house.shelf.stand


def test_a_removal_that_was_begun_is_finished_though_its_evidence_went_first(house):
    """Whoever killed it, and whether it was written down: otherwise an image would be left without any."""
    del house.shelf.held[ref(12)], house.shelf.held[ref(11)]
    house.shelf.says[ref(1)] = Evidenced(signed=False, verdict="none")

    assert house.outcomes()[1] == "done"
    assert ref(1) not in house.shelf.held


def test_one_more_reason_for_the_same_is_no_other_evidence(house):
    """It is blocked as it was planned."""
    more = ("CVE-1", "CVE-2")
    house.shelf.says[ref(2)] = house.shelf.says[ref(2)].model_copy(update={"exploited": more})

    assert house.outcomes()[2] == "done"


BASE = "curated/base/python"


def with_bases(*images, **others):
    """These, and an old base that newer ones superseded."""
    newer = [image(n, 160 - n, repository=BASE) for n in (60, 61, 62)]
    return House(stock(*images, *newest(), image(50, repository=BASE), *newer, **others))


@pytest.mark.parametrize("change", ["held", "deployed", "pulled"])
def test_a_base_stays_with_what_is_built_on_it(change):
    """Also where both were to go, and the image turned out to stay."""
    house = with_bases(image(1, bases=[50]))
    if change == "held":
        house.shelf.stand[str(ref(1))] = stands(hold="audit")
    if change == "deployed":
        house.shelf.signed.append(deployed(1, 0))
    if change == "pulled":
        house.change(ref(1), pulled_at=ago(1))

    entries = {e.ref: e for e in house.apply().entries}

    assert entries[ref(1)].outcome is Outcome.SKIPPED
    assert entries[ref(50, BASE)].said == "an image that is still there is built on it, or may be"
    assert {ref(1), ref(50, BASE)} <= house.shelf.held.keys()


def test_a_base_goes_with_what_was_built_on_it():
    """After it."""
    assert {n: with_bases(image(1, bases=[50])).outcomes()[n] for n in (1, 50)} == {1: "done", 50: "done"}


def test_a_base_goes_a_night_after_the_base_that_is_built_on_it():
    """That one may turn out to stay."""
    house = with_bases(image(51, repository=BASE, bases=[50]))
    held = with_bases(image(51, repository=BASE, bases=[50]))
    held.shelf.stand[str(ref(51, BASE))] = stands(hold="audit")

    found, of_held = house.outcomes(), held.outcomes()

    assert (found[51], found[50]) == ("done", "skipped")
    assert (of_held[51], of_held[50]) == ("skipped", "skipped")
    assert with_bases().outcomes()[50] == "done"


def dark(*_):
    raise EvidenceInvalid("damaged\nlook")


def test_bases_stay_where_nobody_can_read_on_what_an_image_is_built(monkeypatch):
    """Everything else is done; they are planned again the next night."""
    house = with_bases(image(1))
    monkeypatch.setattr(house.shelf, "bases", dark)

    found = house.outcomes()

    assert (found[1], found[50]) == ("done", "skipped")


def test_it_is_not_asked_on_what_images_are_built_where_no_base_is_taken_away(monkeypatch):
    """One that has to be blocked is, whatever anybody can read."""
    house = House(stock(image(60, 98, repository=BASE), image(11, 50, repository=BASE, exploited=True)))
    monkeypatch.setattr(house.shelf, "bases", None)

    assert house.outcomes() == {11: "done"}


@pytest.mark.parametrize("became", ["blocked", "revoked", "archived", "unreadable", "gone"])
def test_as_many_images_that_may_be_used_are_left_as_the_plan_leaves(house, monkeypatch, became):
    """One that was to stay may not be used any more: what would take its place does not go either."""
    newer, read = ref(900), house.shelf.evidenced
    if became == "blocked":
        house.shelf.stand[str(newer)] = stands(block="exploited")
    if became == "revoked":
        house.shelf.says[newer] = Evidenced(signed=True, verdict="failed")
    if became == "archived":
        house.change(newer, status="ARCHIVED")
    if became == "unreadable":
        monkeypatch.setattr(house.shelf, "evidenced", lambda where, m: dark() if where == newer else read(where, m))
    if became == "gone":
        del house.shelf.held[newer]

    entries = {e.ref: e for e in house.apply().entries}

    assert entries[ref(1)].said == "fewer of the images that stay may be used by now than the plan leaves"
    assert entries[ref(2)].outcome is Outcome.DONE, "what is blocked is blocked all the same"


def test_more_images_that_may_be_used_than_have_to_be_left_are_not_asked_for():
    """Nor more than the plan left. What is archived nobody can use: an older one stays in its place."""
    three = House(stock(*newest(1), image(2, pulled_at=ago(1))))
    three.shelf.stand[str(ref(900))] = stands(block="bad")
    one = House(stock(image(900, 300), image(901, 299, status="ARCHIVED"), image(1)))

    assert three.outcomes() == {1: "done"}
    assert one.plan.step(ref(1)).rule == "keep.newest"


def test_what_somebody_excused_counts_among_those_that_may_be_used():
    """Where that is taken back while the plan waits, an older one is all that is left."""
    numbers = [900 + n for n in range(RULES.keep.newest)]
    excused = {ref(number): stands(excuse="no way to it") for number in numbers}
    house = House(stock(*(image(n, 1200 - n, exploited=True) for n in numbers), image(1), standings=excused))
    assert house.plan.step(ref(1)).action is Action.AGE_OUT
    for number in numbers:
        house.shelf.stand[str(ref(number))] = stands(block="it is one")

    assert house.outcomes()[1] == "skipped"


def test_images_that_may_be_used_are_left_in_each_environment():
    """What may be used in another takes no place there."""
    where = {"environments": ("production",)}
    house = House(stock(*newest(1), image(3, **where), *(image(n, 300 - n, **where) for n in (10, 11, 12))))
    house.shelf.stand[str(ref(11))] = stands(block="bad")

    assert house.outcomes() == {1: "done", 3: "skipped", 10: "skipped"}


@pytest.mark.parametrize("meanwhile", ["deployed", "held", "blocked", "held at last"])
def test_what_vouches_for_an_image_that_is_gone_stays_where_that_is_needed_by_now(monkeypatch, meanwhile):
    """Whoever pushes it again brings it back."""
    house = House(stock(*newest(), parts=[part(11, subject=777), part(12, subject=11)]))
    if meanwhile == "deployed":
        house.shelf.signed.append(deployed(777, 0))
    elif meanwhile == "held at last":
        once_looked_at(house, 777, monkeypatch, hold="audit")
    else:
        house.shelf.stand[str(ref(777))] = stands(**{"hold" if meanwhile == "held" else "block": "x"})

    entries = {int(e.ref.digest[7:], 16): e for e in house.apply().entries}

    assert {n: e.outcome for n, e in entries.items()} == {11: "skipped", 12: "skipped"}
    assert entries[11].said.startswith(f"{digest(777)}, which is gone, ")
    assert {ref(11), ref(12)} <= house.shelf.held.keys()


def test_what_vouches_for_an_image_that_nobody_needs_goes():
    """It says something of nothing."""
    house = House(stock(*newest(), parts=[part(11, subject=777)]))

    assert house.outcomes() == {11: "done"}


@pytest.mark.parametrize(("number", "outcome"), [(1, "skipped"), (2, "done"), (3, "skipped")])
def test_a_base_stays_on_which_an_image_was_built_meanwhile(number, outcome):
    """What nobody may pull any more is blocked all the same."""
    on = {"repository": "curated/base/hello"}
    images = [
        *(image(900 + n, 300 - n, **on) for n in range(RULES.keep.newest)),
        image(1, **on), image(2, 50, exploited=True, **on), image(3, 400, signed=False, **on),
    ]  # fmt: skip
    house = House(stock(*images, deployments=[deployed(3, 399), deployed(900, 100), deployed(901, 90)]))
    house.shelf.new_on = {digest(number)}

    assert house.outcomes() == {1: "done", 2: "done", 3: "done", number: outcome}


@pytest.mark.parametrize(
    ("stand", "outcome"), [({"block": "bad"}, "done"), ({"excuse": "fine"}, "skipped"), ({}, "skipped")]
)
def test_what_a_signed_block_closes_again_stays_open_where_the_block_was_lifted(stand, outcome):
    """Somebody unblocked it since; what stands needs no new statement."""
    house = House(stock(*newest(1), standings={ref(1): stands(block="bad")}))
    house.shelf.stand[str(ref(1))] = stands(**stand)

    assert house.outcomes() == {1: outcome}
    assert [what for what, _ in house.shelf.calls] == (["archive"] if outcome == "done" else [])


@pytest.mark.parametrize("more", [
    [deployed(1, 0)], [deployed(1, 0.2), deployed(900, 0.1)], [deployed(900, 0, proxy=1)],
    [deployed(1, 0, environment="production", application="other")],
])  # fmt: skip
def test_what_was_deployed_meanwhile_stays(house, more):
    """It should run now, or is what ran before."""
    house.shelf.signed += more

    entries = {e.ref: e for e in house.apply().entries}

    assert entries[ref(1)].said == "it should run, or is what ran before"
    assert ref(1) in house.shelf.held and ref(11) in house.shelf.held


def test_what_is_deployed_while_the_plan_is_carried_out_stays():
    """Deployments are read again before each repository."""
    whole = stock(
        *newest(1), *(image(n, 400 - n, repository="curated/aaa") for n in (50, 51, 52)),
        parts=[part(60, repository="curated/aaa", subject=50)],
    )  # fmt: skip
    house = House(whole)
    house.shelf.watch = lambda: house.shelf.signed.append(deployed(1, 0))

    assert house.outcomes() == {50: "done", 60: "done", 1: "skipped"}


@pytest.mark.parametrize("meanwhile", ["deployed", "named"])
def test_what_becomes_a_front_while_other_proxies_are_removed_stays(meanwhile, monkeypatch):
    """Whatever is deployed has one, and waits for none of this: it is looked at before each batch."""
    monkeypatch.setattr(removing, "AT_ONCE", 1)
    repo = {"repository": PROXY, "environments": ()}
    old = [image(n, 500 - n, **repo) for n in (1, 2, 3)]
    house = House(stock(*old, *(image(n, 300 - n, **repo) for n in (10, 11))))
    assert {s.ref for s in house.plan.changes} == {each.ref for each in old}

    def watch(*_):
        if meanwhile == "named":
            house.shelf.named = {digest(2): ("staging",)}
        else:
            house.shelf.signed.append(deployed(903, 0, proxy=2))

    house.shelf.watch = watch

    assert house.outcomes() == {1: "done", 2: "skipped", 3: "done"}
    assert house.shelf.held[ref(2, PROXY)] == member(old[1])


def test_a_proxy_that_an_environment_names_since_stays():
    """Also before anything is deployed there."""
    repo = {"repository": PROXY, "environments": ()}
    house = House(stock(image(1, **repo), *(image(n, 300 - n, **repo) for n in (10, 11))))
    house.shelf.named = {digest(1): ("staging",)}

    assert needed_anywhere(house.plan, house.shelf) == {digest(1)}
    assert house.outcomes() == {1: "skipped"}


def test_what_is_attached_meanwhile_keeps_its_image(house):
    """Somebody signed it, or scanned it: it is looked at again the next night."""
    new = part(13, subject=1, days=0)
    house.shelf.held[new.ref] = new

    assert house.outcomes() == {1: "skipped", 2: "done", 3: "done", 11: "skipped", 12: "skipped"}


def test_what_is_in_another_index_meanwhile_stays():
    """An index that was pushed since names it."""
    house = House(stock(*newest(1), parts=[member(image(1), children=(digest(2),)), part(2)]))
    new = part(3, children=(2,), days=0, tags=("new",))
    house.shelf.held[new.ref] = new

    assert house.outcomes() == {1: "done", 2: "skipped"}


def test_an_index_stays_where_what_it_consists_of_does():
    """It would be left alone without a name."""
    whole = stock(*newest(1), image(2, tags=()), parts=[member(image(1), children=(digest(2),))])
    house = House(whole)
    house.shelf.stand[str(ref(2))] = stands(hold="x")

    assert house.outcomes() == {1: "skipped", 2: "skipped"}


def test_an_index_stays_where_what_it_consists_of_lost_its_name_meanwhile():
    """The plan leaves that alone, as it had one."""
    whole = stock(
        *newest(1), image(2), parts=[member(image(1), children=(digest(2),))], standings={ref(2): stands(hold="x")}
    )
    house = House(whole)
    house.change(ref(2), tags=())

    assert house.plan.step(ref(1)).action is Action.AGE_OUT
    assert house.outcomes() == {1: "skipped"}
    assert House(whole).outcomes() == {1: "done"}


def test_that_we_looked_into_an_index_does_not_keep_it():
    """ECR counts it as a pull, ours as anybody's."""
    house = House(stock(*newest(1), parts=[member(image(1), children=(digest(2),)), part(2)]))
    house.change(ref(1), pulled_at=ago(0))

    assert house.outcomes() == {1: "done", 2: "done"}


def test_an_index_goes_before_what_it_consists_of():
    """ECR removes no child of an index that is there."""
    house = House(stock(*newest(1), parts=[member(image(1), children=(digest(2), digest(3))), part(2), part(3)]))

    assert house.outcomes() == {1: "done", 2: "done", 3: "done"}
    assert house.shelf.calls[0] == ("delete", ref(1))


def test_a_copy_is_closed_with_its_image_and_not_without_it():
    """It is what is pulled of a confidential application."""
    whole = stock(*newest(), image(2, 500, exploited=True), parts=[part(12, copy_of=2)])
    assert House(whole).outcomes() == {2: "done", 12: "done"}

    house = House(whole)
    house.shelf.stand[str(ref(2))] = stands(hold="x")
    assert house.outcomes() == {2: "skipped", 12: "skipped"}


def test_an_image_whose_copy_was_pulled_since_is_not_archived():
    """Nothing else of a confidential application is ever pulled."""
    cold = (image(3, 400, signed=False), part(13, copy_of=3))
    house = House(stock(*newest(), cold[0], parts=cold[1:], deployments=[deployed(3, 399), *LATER]))
    assert house.plan.step(ref(3)).action is Action.ARCHIVE

    house.change(ref(13), pulled_at=ago(0))

    applied = house.apply()
    assert {e.outcome for e in applied.entries} == {Outcome.SKIPPED}
    assert applied.entries[0].said == f"its encrypted copy {ref(13)} was pulled since"


LATER = [deployed(900, 100), deployed(901, 90)]


def copied():
    """One to block, and its copy, whose digest comes first."""
    return House(stock(*newest(), image(22, 500, exploited=True), parts=[part(12, copy_of=22)]))


def test_a_copy_that_is_gone_is_not_closed():
    """Its image is."""
    house = copied()
    del house.shelf.held[ref(12)]

    entries = {e.ref: e for e in house.apply().entries}

    assert entries[ref(22)].outcome is Outcome.DONE
    assert (entries[ref(12)].outcome, entries[ref(12)].said) == (Outcome.SKIPPED, "it is not there any more")


def test_a_copy_is_closed_after_its_image_and_only_where_that_was():
    """It is tried again with it."""
    house = copied()
    house.shelf.broken[ref(22)] = AwsFailed("ECR said no\nlook")

    entries = {e.ref: e for e in house.apply().entries}

    assert (entries[ref(12)].outcome, entries[ref(12)].code) == (Outcome.FAILED, "aws.failed")
    assert house.shelf.held[ref(12)].stored.status is StorageStatus.ACTIVE

    house.shelf.broken.clear()
    house.shelf.calls.clear()
    assert house.outcomes() == {12: "done", 22: "done"}
    assert house.shelf.calls == [("block", ref(22)), ("archive", ref(22)), ("archive", ref(12))]


def test_a_copy_is_closed_right_after_its_image():
    """And not once all images are: there may be many."""
    images = [image(n, 500, exploited=True) for n in (22, 23)]
    house = House(stock(*newest(), *images, parts=[part(12, copy_of=22), part(13, copy_of=23)]))

    house.apply()

    assert [where for what, where in house.shelf.calls if what == "archive"] == [ref(22), ref(12), ref(23), ref(13)]


@pytest.mark.parametrize("other", [image(1), image(23, 500, exploited=True)])
def test_what_is_a_part_of_two_is_closed_once_nobody_can_use_either(other):
    """Of one that goes, once that is gone; where one of them stays, it does."""
    images = [*newest(), image(22, 500, exploited=True), other]
    parts = [part(5), *(member(each, children=(digest(5),)) for each in images[2:])]
    house, held = House(stock(*images, parts=parts)), House(stock(*images, parts=parts))
    held.shelf.stand[str(other.ref)] = stands(hold="audit")
    number = int(other.ref.digest[7:], 16)

    assert house.outcomes() == {5: "done", 22: "done", number: "done"}
    assert house.shelf.calls[-1] == ("archive", ref(5))
    assert held.outcomes() == {5: "skipped", 22: "done", number: "skipped"}
    assert held.shelf.held[ref(5)].stored.status is StorageStatus.ACTIVE


def test_a_part_of_a_new_index_is_not_closed():
    """Somebody pushed it since."""
    house = copied()
    new = part(3, children=(12,), days=0, tags=("new",))
    house.shelf.held[new.ref] = new

    assert house.outcomes() == {12: "skipped", 22: "done"}


@pytest.mark.parametrize("moved", [{}, {"status": "ACTIVE"}])
def test_a_copy_stays_open_where_its_image_was_unblocked_before_a_killed_run_is_finished(moved):
    """That opened both, or is about to."""
    house = copied()
    house.shelf.dies_after = 2
    with pytest.raises(KeyboardInterrupt):
        house.apply()
    house.shelf.dies_after = None
    house.shelf.stand[str(ref(22))] = stands(excuse="fine")
    house.change(ref(22), **moved)

    assert house.outcomes() == {12: "skipped", 22: "done"}


@pytest.mark.parametrize(("stand", "moved", "outcome"), [
    ({"block": "bad"}, {}, "done"), ({"excuse": "fine"}, {}, "skipped"), ({"block": "bad", "hold": "x"}, {}, "done"),
    ({"block": "bad"}, {"status": "ACTIVE"}, "skipped"), ({"block": "bad"}, {"status": "ACTIVATING"}, "skipped"),
])  # fmt: skip
def test_a_copy_of_what_was_blocked_before_is_closed_as_long_as_that_is(stand, moved, outcome):
    """A run was killed between the two, or somebody pushed the copy again."""
    blocked = image(22, status="ARCHIVED")
    house = House(stock(*newest(), blocked, parts=[part(12, copy_of=22)], standings={ref(22): stands(block="bad")}))
    house.shelf.stand[str(ref(22))] = stands(**stand)
    house.change(ref(22), **moved)

    assert house.outcomes() == {12: outcome}
    assert house.shelf.calls == ([("archive", ref(12))] if outcome == "done" else [])


@pytest.mark.parametrize(("stand", "outcome"), [({}, "done"), ({"hold": "audit"}, "skipped"), ({"block": "b"}, "done")])
def test_a_copy_of_what_is_owed_is_closed_unless_somebody_holds_that(stand, outcome):
    """It was archived before."""
    ran = [deployed(22, 399), deployed(900, 100), deployed(901, 90)]
    house = House(stock(*newest(), image(22, status="ARCHIVED"), parts=[part(12, copy_of=22)], deployments=ran))
    house.shelf.stand[str(ref(22))] = stands(**stand)

    assert house.outcomes() == {12: outcome}


def test_what_is_gone_already_is_done(house):
    """Somebody removed it; or the journal was lost."""
    del house.shelf.held[ref(1)]

    assert house.outcomes()[1] == "done"


def test_what_is_gone_is_not_closed(house):
    """Nor is it said that it is blocked."""
    del house.shelf.held[ref(2)]

    assert house.outcomes()[2] == "skipped"
    assert ("block", ref(2)) not in house.shelf.calls


def test_what_is_archived_already_is_blocked_all_the_same(house):
    """A cold image is no blocked one: no gate refuses it for being archived."""
    house.change(ref(2), status="ARCHIVED")

    assert house.outcomes()[2] == "done"
    assert ("block", ref(2)) in house.shelf.calls


def test_a_failure_is_told_by_its_code_and_what_comes_after_waits(house):
    """Nothing is orphaned by it; carried out again, it is tried again."""
    house.shelf.refuses[ref(11)] = "KmsError"

    applied = house.apply()

    entries = {int(e.ref.digest[7:], 16): e for e in applied.entries}
    assert (entries[11].outcome, entries[11].code) == (Outcome.FAILED, "KmsError")
    assert (entries[1].outcome, entries[1].code) == (Outcome.FAILED, "KmsError")
    assert entries[12].outcome is Outcome.DONE and ref(1) in house.shelf.held
    assert [e.ref for e in applied.of(Outcome.FAILED)] == [ref(1), ref(11)]

    house.shelf.refuses.clear()
    assert house.outcomes() == {1: "done", 2: "done", 3: "done", 11: "done", 12: "done"}


def test_what_waits_for_what_waits_stays_too(house):
    """Of a signature of a signature: nothing goes before what is attached to it, however long the chain is."""
    house.shelf.refuses[ref(12)] = "KmsError"

    found = house.outcomes()

    assert {n: found[n] for n in (1, 11, 12)} == {1: "failed", 11: "failed", 12: "failed"}
    assert {ref(1), ref(11), ref(12)} <= house.shelf.held.keys()
    house.shelf.refuses.clear()
    assert set(house.outcomes().values()) == {"done"}


def test_what_says_of_which_image_a_copy_is_stays_with_the_copy():
    """What is attached to the copy cannot go, so that the copy stays, and what names it."""
    house = House(stock(*newest(1), parts=[part(11, subject=1), part(12, copy_of=1), part(13, subject=12)]))
    house.shelf.refuses[ref(13)] = "KmsError"

    assert set(house.outcomes().values()) == {"failed"}
    assert {ref(1), ref(11), ref(12), ref(13)} <= house.shelf.held.keys()


def test_an_image_is_not_stripped_where_something_that_is_attached_to_it_stays():
    """Its other signatures stay with it."""
    house = House(stock(*newest(1), parts=[part(11, subject=1), part(12, subject=1)]))
    house.shelf.held[ref(13)] = part(13, subject=11)

    entries = {int(e.ref.digest[7:], 16): e for e in house.apply().entries}

    assert {n: e.outcome.value for n, e in entries.items()} == {1: "skipped", 11: "skipped", 12: "skipped"}
    assert "which belongs to it, stays" in entries[1].said
    assert {ref(1), ref(11), ref(12), ref(13)} <= house.shelf.held.keys()


def test_an_error_is_told_by_its_code_and_the_rest_is_done(house):
    """One image that cannot be archived stops no other."""
    house.shelf.broken[ref(3)] = AwsFailed("ECR said no\nlook")

    entries = {e.ref: e for e in house.apply().entries}

    assert (entries[ref(3)].outcome, entries[ref(3)].code) == (Outcome.FAILED, "aws.failed")
    assert entries[ref(3)].said == "ECR said no — look [aws.failed]"
    assert entries[ref(2)].outcome is Outcome.DONE


def test_a_call_that_is_refused_ends_no_plan(house):
    """What it was to remove failed, what comes after that stays, and other repositories are carried out."""
    other = image(70, 50, repository="curated/zzz", exploited=True)
    house = House(stock(*newest(1), other, parts=[part(11, subject=1), part(12, subject=11)]))

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


def test_a_repository_that_cannot_be_read_ends_no_plan():
    """Each of its steps failed; the others are done."""
    house = House(stock(*newest(1), image(70, 50, repository="curated/zzz", exploited=True)))
    read = house.shelf.members

    def members(repository):
        if repository == "curated/hello":
            raise AccessDenied("the role may not\nask")
        return read(repository)

    house.shelf.members = members
    assert house.outcomes() == {1: "failed", 70: "done"}
    house.shelf.members = read
    assert house.outcomes() == {1: "done", 70: "done"}


def test_of_what_cannot_be_told_nothing_is_taken(house, monkeypatch):
    """Nobody can read whether it is held; the rest is done, and it is tried again."""
    read = house.shelf.standing

    def standing(where):
        if where == ref(1):
            raise EvidenceInvalid("damaged\nlook")
        return read(where)

    monkeypatch.setattr(house.shelf, "standing", standing)
    entries = {int(e.ref.digest[7:], 16): e for e in house.apply().entries}

    assert (entries[1].outcome, entries[1].code) == (Outcome.FAILED, "evidence.invalid")
    assert ref(1) in house.shelf.held and ref(11) in house.shelf.held
    assert entries[2].outcome is Outcome.DONE


def test_a_copy_goes_before_what_says_of_which_image_it_is():
    """Otherwise nobody could tell, should it end there."""
    house = House(stock(*newest(1), parts=[part(11, subject=1), part(12, copy_of=1), part(13, subject=12)]))

    house.apply()

    assert [where for _, where in house.shelf.calls] == [ref(13), ref(12), ref(11), ref(1)]


@pytest.mark.parametrize("new", [False, True])
def test_what_says_what_a_copy_is_stays_where_the_copy_does_whose_image_is_gone(new):
    """Somebody pulled it since, or pushed it."""
    copy = part(12, copy_of=777)
    house = House(stock(*newest(), parts=[part(11, subject=777), *([] if new else [copy])]))
    house.shelf.held[copy.ref] = copy
    house.change(copy.ref, pulled_at=ago(0))

    found = house.outcomes()

    assert found[11] == "skipped"
    assert {ref(11), ref(12)} <= house.shelf.held.keys()


def test_what_may_succeed_next_time_ends_it(house):
    """The step is tried again, and goes on from what is done."""
    house.shelf.broken[ref(3)] = AwsUnavailable("throttled\nlater")

    with pytest.raises(AwsUnavailable):
        house.apply()

    house.shelf.broken.clear()
    assert set(house.outcomes().values()) == {"done"}


def test_a_skip_is_for_good(house):
    """The plan does not rest on it any more, whatever comes after."""
    house.change(ref(1), tags=("other",))
    house.apply()
    house.change(ref(1), tags=("t1",))

    assert house.outcomes()[1] == "skipped"


@pytest.mark.parametrize("rule", ["age-out.superseded", "block.stands"])
@pytest.mark.parametrize("belongs", [(), (digest(777),)])
@pytest.mark.parametrize("stand", [{}, {"block": "bad"}, {"block": "bad", "hold": "audit"}])
def test_what_is_in_use_is_not_removed_whatever_a_plan_says_of_it(house, rule, belongs, stand):
    """That it goes with another, or that a block stands: whoever wrote that plan."""
    house.shelf.signed.append(deployed(1, 0))
    house.shelf.stand[str(ref(1))] = stands(**stand)
    steps = tuple(
        s.model_copy(update={"rule": rule, "belongs_to": belongs}) if s.ref == ref(1) else s for s in house.plan.steps
    )
    house.plan = house.plan.model_copy(update={"steps": steps})

    house.apply()

    assert {ref(1), ref(11), ref(12)} <= house.shelf.held.keys()


def test_no_evidence_of_what_stays_is_removed_whatever_a_plan_says_of_it(house):
    """That what it belongs to goes, where that has no step; or that it belongs to another."""
    for belongs in (1, 777):
        steps = tuple(
            s.model_copy(update={"belongs_to": (digest(belongs),)}) for s in house.plan.steps if s.ref == ref(11)
        )
        house.plan, house.journal = house.plan.model_copy(update={"steps": steps}), Memory()

        house.apply()

        assert ref(11) in house.shelf.held


@pytest.mark.parametrize(("change", "why"), [
    ({"tags": ("release",)}, "its tags are release now"), ({"pushed_at": ago(1)}, "it was pushed again"),
    ({"pulled_at": ago(1)}, "it was pulled since"),
])  # fmt: skip
def test_a_part_that_somebody_uses_since_stays(change, why):
    """And the index that it is a part of, where nothing else names it."""
    house = House(stock(*newest(1), parts=[member(image(1), children=(digest(2), digest(3))), part(2), part(3)]))
    house.change(ref(2), **change)

    entries = {e.ref: e for e in house.apply().entries}

    assert entries[ref(2)].said == why
    assert ref(2) in house.shelf.held
    assert (ref(1) in house.shelf.held) is ("tags" not in change)


def test_a_part_that_is_deployed_or_held_since_stays():
    """It is an image like another."""
    whole = stock(*newest(1), parts=[member(image(1), children=(digest(2),)), part(2)])
    for say in ("deployed", "held"):
        house = House(whole)
        if say == "deployed":
            house.shelf.signed.append(deployed(2, 0))
        else:
            house.shelf.stand[str(ref(2))] = stands(hold="audit")

        house.apply()

        assert {ref(1), ref(2)} <= house.shelf.held.keys()


def test_what_was_removed_and_pushed_again_keeps_what_belongs_to_it(house):
    """The journal says what was done, and not what is there."""
    gone = {n: house.shelf.held[ref(n)] for n in (1, 11, 12)}
    house.apply()
    house.journal[:] = [e for e in house.journal if e.ref not in (ref(11), ref(12))]
    house.shelf.calls.clear()
    house.shelf.held |= {each.ref: each for each in gone.values()}

    entries = {e.ref: e for e in house.apply().entries}

    assert entries[ref(1)].said == "it was pushed again after it was removed"
    assert {ref(1), ref(11), ref(12)} <= house.shelf.held.keys()
    assert house.outcomes()[1] == "skipped"


def test_more_than_a_hundred_go_in_batches():
    """As ECR takes them."""
    house = House(stock(*newest(1), parts=[part(n, subject=1) for n in range(1000, 1250)]))

    assert set(house.outcomes().values()) == {"done"}
    assert len(house.shelf.held) == 2


def test_what_was_said_of_images_is_not_removed_even_where_a_plan_says_so(house):
    """Whoever wrote that plan."""
    steps = tuple(
        s.model_copy(update={"ref": s.ref.moved_to("evidence/execution/hello")}) for s in house.plan.steps
    )  # fmt: skip
    house.plan = house.plan.model_copy(update={"steps": steps})

    assert house.apply() == Applied(plan=house.plan.digest, entries=())
    assert house.shelf.calls == []


@given(stocks(), st.integers(0, 12))
@tries(40)
def test_wherever_it_is_killed_it_ends_as_if_it_was_not(whole, after):
    """And nothing is done twice."""
    once, twice = House(whole), House(whole)
    once.apply()
    twice.shelf.dies_after = after
    try:
        twice.apply()
    except KeyboardInterrupt:
        twice.shelf.dies_after = None
        lost = [c for c in twice.shelf.calls if c[0] == "block"]
        twice.shelf.calls = [c for c in twice.shelf.calls if c not in lost]  # signing again is told to be needless
        twice.apply()

    assert twice.shelf.held == once.shelf.held
    assert {k: bool(v.block) for k, v in twice.shelf.stand.items()} == {
        k: bool(v.block) for k, v in once.shelf.stand.items()
    }


@given(stocks())
@tries(60)
def test_nothing_is_orphaned_at_any_time(whole):
    """After each removal: no referrer without its subject and no copy without its image that had one before."""
    house = House(whole)

    def orphans():
        here = house.shelf.held
        return {
            m.ref for m in here.values() for owner in m.of if m.ref.model_copy(update={"digest": owner}) not in here
        }

    before = orphans()
    circles = {m.ref for m in whole.members if m.ref.digest in m.subjects}
    house.shelf.watch = lambda: seen.append(orphans() - before - circles)
    seen = []
    house.apply()

    going = {s.ref for s in house.plan.steps if s.action is Action.AGE_OUT}
    assert all(each <= going for each in seen)
    assert orphans() <= before


@given(stocks())
@tries(60)
def test_what_the_plan_keeps_is_as_it_was(whole):
    """To the last field."""
    house = House(whole)
    before = dict(house.shelf.held)
    house.apply()

    for step in house.plan.steps:
        if not step.touches and step.ref in before:
            assert house.shelf.held[step.ref] == before[step.ref]


def entry(number, outcome=Outcome.DONE):
    return Entry(ref=ref(number), action=Action.ARCHIVE, outcome=outcome, code="c", said="s")


def test_a_journal_outlives_whoever_wrote_it(tmp_path):
    """In a file that only its user reads, in a directory that is made."""
    path = tmp_path / "below" / "journal"
    FileJournal(path).add(entry(1))
    FileJournal(path).add(entry(2, Outcome.FAILED))

    assert FileJournal(path).entries() == (entry(1), entry(2, Outcome.FAILED))
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert FileJournal(tmp_path / "none").entries() == ()


def test_a_line_that_was_cut_off_was_not_written(tmp_path):
    """And what is written after it is read."""
    journal = FileJournal(tmp_path / "journal")
    journal.add(entry(1))
    journal.path.write_bytes(journal.path.read_bytes() + b'\n{"ref": {"repos')
    journal.add(entry(2))

    assert journal.entries() == (entry(1), entry(2))
