"""The flow of a preview: what it compares, and the page that it publishes."""

import json
import shutil
from datetime import timedelta

import pytest
from prefect.artifacts import Artifact
from pydantic import SecretStr

from blocks import Inventory, Workbench
from flows import policy as flows
from supply_chain.errors import DeclarationInvalid, PolicyInvalid
from supply_chain.fleet.gate_facts import refresh_facts
from supply_chain.fleet.preview import Effect
from supply_chain.model.tier import Gate
from tasks import daily_report
from tests.support import fleet as fleets
from tests.support.builders import NOON
from tests.support.command import ROOT
from tests.support.facts import requirements
from tests.support.present import present
from tests.support.vex import openvex

fleet = fleets.fleet
AFTERWARDS = NOON + timedelta(hours=1)


@pytest.fixture
def stored(fleet, monkeypatch):
    """Store an image that runs in staging, and load blocks that lead to it and to the project's policies.

    It is the hour after its statements: they have an end.
    """
    monkeypatch.setattr("blocks.workbench.read_clock", lambda: AFTERWARDS)
    fleet.deploy(fleet.curated())
    fleet.refresh()
    refresh_facts(None, fleet.inventory, fleet.reader)
    workbench = Workbench.model_construct(project=str(ROOT), tools="/t", database="/d")
    inventory = Inventory.model_construct(address=SecretStr(fleet.inventory.engine.url.render_as_string()))
    monkeypatch.setattr(Workbench, "requirements", lambda _, name: requirements(name))

    async def load(name):
        return {"workbench": workbench, "inventory": inventory}[name]

    for block in (Workbench, Inventory):
        monkeypatch.setattr(block, "aload", load)
    return fleet


def proposal(expression):
    """Return the text of a policy for staging whose rule passes for the application x alone, by this expression."""
    tests = [{"name": "x", "facts": {"application": "x"}, "passes": True}, {"name": "y", "passes": False}]
    rule = {"id": "ours.rule", "title": "t", "expression": expression, "message": "it is ours", "remedy": "r"}
    return json.dumps(
        {"name": "ours", "version": 1, "description": "d", "gates": ["deploy"],
         "select": {"environments": ["staging"]}, "rules": [{**rule, "tests": tests}]}
    )  # fmt: skip


async def test_preview_publishes_changed_verdicts_as_artifacts(machine, stored):
    """Neither the registry nor the inventory has anything new."""
    before = dict(stored.world.registry.repositories["curated/hello"].manifests)

    found = await flows.preview_policies({"ours.yaml": proposal("image.application == 'x'")})

    assert [(c.subject.gate, c.subject.environment, c.effect) for c in found.changes] == [
        (Gate.DEPLOY, "staging", Effect.REFUSED)
    ]
    page = str(present(await Artifact.aget("policy-preview")).data)
    assert "| admitted → refused | hello | deploy gate for staging |" in page and "ours.rule: it is ours" in page
    (row,) = json.loads(str(present(await Artifact.aget("policy-preview-changes")).data))
    assert (row["change"], row["application"]) == ("admitted → refused", "hello")
    assert "ours.rule: it is ours" in row["reasons"]
    assert stored.world.registry.repositories["curated/hello"].manifests == before


async def test_preview_needs_no_signature_of_the_policies(machine, stored, monkeypatch):
    """It decides nothing, and who signs them looks at it before."""
    monkeypatch.setattr(Workbench, "policies", lambda _: pytest.fail("they have to be signed"))

    found = await flows.preview_policies({"ours.yaml": proposal("image.application == 'x'")})

    assert len(found.changes) == 1


async def test_daily_report_names_rules_that_begin_to_refuse(stored, monkeypatch, tmp_path):
    """It counts what they would refuse, and asks for nothing if there are none."""
    project = tmp_path / "project"
    shutil.copytree(ROOT / "deployments", project / "deployments")
    workbench = await Workbench.aload("workbench")
    monkeypatch.setattr(workbench, "project", str(project))
    assert await daily_report._find_upcoming(workbench.unsigned_policies(), workbench, AFTERWARDS) == ""
    policy = json.loads(proposal("image.application == 'x'"))
    policy["rules"][0]["effective_on"] = (AFTERWARDS + timedelta(days=13)).isoformat()
    (project / "deployments/policies/ours.yaml").write_text(json.dumps(policy))

    found = await daily_report._find_upcoming(workbench.unsigned_policies(), workbench, AFTERWARDS)

    assert "| ours.rule | ours | deploy | " in found
    assert found.endswith("Of 1 stored images and deployments, they would refuse 1 more today (hello).")
    assert (
        await daily_report._find_upcoming(workbench.unsigned_policies(), workbench, AFTERWARDS - timedelta(days=2))
        == ""
    )


async def test_preview_of_a_wrong_policy_fails_with_its_mistake(machine, stored):
    """There is nothing to compare with."""
    with pytest.raises(PolicyInvalid, match=r"ours.yaml: rule ours.rule: "):
        await flows.preview_policies({"ours.yaml": proposal("image.nothing == 'x'")})


async def test_preview_of_waiver_and_vex_document_without_people_says_why(machine, stored):
    """Without a people document nobody may, and nothing changes."""
    waiver = {
        "vulnerabilities": ["CVE-2026-1"], "applications": ["*"], "reason": "r", "ticket": "t", "requester": "bob",
        "expires": "2099-01-01T00:00:00Z",
    }  # fmt: skip

    found = await flows.preview_policies({"w.yaml": json.dumps(waiver), "v.json": json.dumps(openvex())})

    why = "the workbench block names no key of the owner of deployments/people.yaml"
    assert (found.gates, found.changes, found.policies) == ((), (), ())
    assert [each.split(": ")[0] for each in found.decisions] == [
        "waiver w, which would have no effect", "VEX document v.json, which would not count",
    ]  # fmt: skip
    assert all(why in each or "there is no deployments/people.yaml" in each for each in found.decisions)


async def test_preview_of_another_file_fails(machine, stored):
    """It is no policy, waiver or VEX document."""
    with pytest.raises(DeclarationInvalid, match=r"x.yaml is not a policy"):
        await flows.preview_policies({"x.yaml": "a: b"})
