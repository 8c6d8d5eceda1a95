"""Judging in several processes gives the same results as in one."""

import json
from dataclasses import replace

import pytest

from supply_chain.adapters.database import preview as judging
from supply_chain.adapters.database.preview import StoredJudge
from supply_chain.fleet.preview import Effect, NotJudged, PolicyChange, preview
from supply_chain.model.tier import Gate
from supply_chain.policy.loading import DIRECTORY, read_documents
from supply_chain.policy.people import FILE, People, read_people
from supply_chain.policy.proposals import Decisions, ProposedDecisions
from supply_chain.policy.reviews import Reviews
from supply_chain.policy.waivers import DIRECTORY as WAIVERS
from supply_chain.policy.waivers import read_waivers
from tests.contract.inventory import entry, facts_of
from tests.support.builders import NOON
from tests.support.command import ROOT
from tests.support.facts import no_minimum, requirements
from tests.support.new_inventory import new_inventory
from tests.support.people import Office
from tests.support.policies import ENVIRONMENTS

RULE = "ours.rule"
OURS = {
    "name": "ours", "version": 1, "description": "d", "gates": ["release"],
    "rules": [
        {
            "id": RULE, "title": "t", "expression": "image.digest.endsWith('1')", "message": "m", "remedy": "r",
            "tests": [{"name": "x", "facts": {"digest": "1"}, "passes": True}, {"name": "y", "passes": False}],
        }
    ],
}  # fmt: skip
NOTHING = ProposedDecisions(Decisions(), Decisions(), ())


@pytest.fixture
def judge(tmp_path):
    """Return a judge of five images, for a policy that refuses all but one of them."""
    directory = ROOT / DIRECTORY
    address = new_inventory(tmp_path / "i.db")
    judge = StoredJudge(
        f"{address}?pw-1234", directory, read_documents(directory), {"ours.yaml": json.dumps(OURS)},
        NOTHING, Reviews(), ENVIRONMENTS, NOON,
    )  # fmt: skip
    judge.inventory.put(entry(number) for number in range(5))
    judge.inventory.put_facts(facts_of(number) for number in range(5))
    return judge


def test_preview_in_processes_equals_preview_in_this_process(judge, monkeypatch):
    """Each judges some of the subjects; one whose facts were replaced has no result."""
    wanted = {state.subject: "v1" for state in judge.inventory.list_subjects()}
    last = list(wanted)[-1]
    wanted[last] = "v2"
    alone = judge.judge(wanted)
    monkeypatch.setattr(judging, "FEW", 1)
    monkeypatch.setattr(judging, "PART", 2)

    assert judge.judge(wanted) == alone
    assert len(alone) == 4 and last not in alone
    changed = [subject for subject, each in alone.items() if isinstance(each, PolicyChange)]
    assert len(changed) == 3 and not any(isinstance(each, NotJudged) for each in alone.values())


def test_preview_takes_results_of_processes(judge, monkeypatch):
    """The order is that of the inventory."""
    monkeypatch.setattr(judging, "iterate_in_processes", lambda judge, parts, wide: map(judge, parts))
    monkeypatch.setattr(
        "supply_chain.fleet.preview.compute_facts_version", lambda environment, requirements, people, minimum: "v1"
    )
    monkeypatch.setattr(judging, "FEW", 1)
    monkeypatch.setattr(judging, "PART", 2)

    found = preview(judge.inventory, judge.compare(), requirements, People(), no_minimum, judge.judge)

    assert found == preview(judge.inventory, judge.compare(), requirements, People(), no_minimum)
    assert (found.judged, len(found.changes), found.gates) == (5, 4, (Gate.RELEASE,))


def test_preview_honours_waivers_in_current_and_proposed_policies(judge, tmp_path):
    """A proposed rule refuses nothing that is waived, as the gate would not."""
    office = Office(tmp_path)
    office.write_people(rules=["ours.*"])
    office.waive("ours", rules=(RULE,))
    people = read_people(tmp_path / FILE, office.people_owner, NOON)
    waivers = read_waivers(tmp_path / WAIVERS, people, {RULE: True}, NOON)
    wanted = {state.subject: "v1" for state in judge.inventory.list_subjects()}

    def effects(judge):
        return {each.effect for each in judge.judge(wanted).values() if isinstance(each, PolicyChange)}

    assert effects(judge) == {Effect.REFUSED}
    assert effects(replace(judge, decisions=ProposedDecisions(Decisions(waivers), Decisions(), ()))) == {
        Effect.REFUSED
    }, "they may not be waived by the proposed policies"
    assert effects(replace(judge, decisions=ProposedDecisions(Decisions(), Decisions(waivers), ()))) == {Effect.NOTES}


def test_judge_does_not_show_the_password_of_its_database(judge):
    """It may be part of a log or of an error."""
    assert "pw-1234" not in repr(judge) and "pw-1234" in replace(judge).address
