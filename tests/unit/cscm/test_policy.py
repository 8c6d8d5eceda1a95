"""`cscm policy`: what it prints, and what it says about a policy that cannot decide."""

import json
import shutil

import pytest
from click.testing import CliRunner

from cscm.main import main
from supply_chain.fleet.gate_facts import GateSubject
from supply_chain.fleet.preview import Effect, PolicyChange, PolicyPreview
from supply_chain.model.tier import Gate
from supply_chain.policy.explanation import GateExplanation, explain
from supply_chain.policy.loading import DIRECTORY
from supply_chain.policy.outcome import Reason
from tests.support.builders import NOON
from tests.support.command import ROOT
from tests.support.facts import CURATED, deploy_facts
from tests.support.policies import DEPLOY, POLICIES

PREVIEW = PolicyPreview(
    at=NOON, policies=("ours 1 (new)",), gates=(Gate.DEPLOY,), judged=1, not_judged=(),
    changes=(
        PolicyChange(
            subject=GateSubject(image=CURATED, gate=Gate.DEPLOY, environment="staging"), running=("staging",),
            effect=Effect.REFUSED, gained=(Reason(code="own.rule", fact="f", remedy="r"),), lost=(), more=0,
        ),
    ),
)  # fmt: skip


@pytest.fixture
def directory(tmp_path):
    return shutil.copytree(ROOT / DIRECTORY, tmp_path / "policies")


def cscm(*arguments):
    return CliRunner().invoke(main, ["policy", *map(str, arguments)])


def test_check_names_each_policy_with_its_rules_and_tests():
    """The number of tests shows that they ran."""
    done = cscm("check")

    assert done.exit_code == 0, done.output
    assert "deploy   deploy 1: " in done.stdout and "tests passed" in done.stdout
    rows = json.loads(cscm("check", "--json").stdout)
    assert {row["gate"] for row in rows} == set(Gate)
    assert sum(row["rules"] for row in rows) == sum(len(POLICIES.at(gate).rules) for gate in Gate)


def test_check_of_a_wrong_policy_names_file_rule_and_mistake(directory):
    """The exit status is 1, so that a pipeline ends."""
    file = directory / "image.yaml"
    file.write_text(file.read_text().replace("image.build.name ==", "image.build.nam =="))

    done = cscm("check", directory)

    assert done.exit_code == 1 and done.stdout == ""
    assert "image.yaml: rule provenance.other-application: " in done.stderr
    assert "undefined field 'nam'" in done.stderr and "[policy.invalid]" in done.stderr


def test_check_names_what_the_tests_leave_open(directory):
    """A rule whose tests pass may still be half tested."""
    file = directory / "image.yaml"
    exact = "image.build.name == image.application"
    file.write_text(file.read_text().replace(exact, f"{exact} || 1 > 2"))

    done = cscm("check", directory)

    assert done.exit_code == 0
    named = "    note: no test notices provenance.other-application: image.build.name == image.application || 1 > 3"
    assert named in done.stdout.splitlines()
    assert [row["untested"] for row in json.loads(cscm("check", "--json").stdout)] == [[]] * 8


def test_docs_and_schema_are_printed():
    """The first is for people, the second for editors."""
    assert "## approval.denied" in cscm("docs").stdout
    schema = json.loads(cscm("schema").stdout)
    assert schema["title"] == "PolicyDocument" and "rules" in schema["required"]


def test_explain_prints_what_the_flow_found(monkeypatch):
    """The image is checked before the flow starts."""
    asked = []

    async def flow(**parameters):
        asked.append(parameters)
        rules = explain(deploy_facts(), DEPLOY, NOON)
        return GateExplanation(image=CURATED, gate=Gate.DEPLOY, environment="staging", rules=rules)

    monkeypatch.setattr("cscm.running.use_prefect", lambda **_: None)
    monkeypatch.setattr("flows.policy.explain_policy", flow)

    done = cscm("explain", "3fb1a90c7d2e", "--environment", "staging")

    assert done.exit_code == 0, done.output
    assert asked == [{"image": "3fb1a90c7d2e", "environment": "staging"}]
    assert "ok    approval.denied" not in done.stdout and "-     approval.denied  (deploy 1)" in done.stdout
    assert cscm("explain", "no image").exit_code == 2 and len(asked) == 1


@pytest.fixture
def asked(monkeypatch):
    """Replace the flow; return the documents that it got at each call."""
    asked = []

    async def flow(documents):
        asked.append(documents)
        return PREVIEW

    monkeypatch.setattr("cscm.running.use_prefect", lambda **_: None)
    monkeypatch.setattr("flows.policy.preview_policies", flow)
    return asked


def test_preview_prints_text_markdown_or_json(asked, directory):
    """The flow gets the text of each file, so that it can run on another machine."""
    file = directory.parent / "ours.txt"
    file.write_text("name: ours")

    done = cscm("preview", file, directory)

    assert done.exit_code == 0, done.output
    files = {str(each): each.read_text() for each in (file, *directory.glob("*.yaml"))}
    assert asked == [files]
    assert "admitted → refused: hello, deploy gate for staging: 1 image: " in done.stdout
    assert cscm("preview", file, "--format", "markdown").stdout.startswith("# Preview of policies\n")
    assert json.loads(cscm("preview", file, "--json").stdout)["changes"][0]["effect"] == "admitted → refused"


def test_preview_without_any_policy_is_a_wrong_call(asked, tmp_path):
    """A preview of nothing would say that nothing changes."""
    assert cscm("preview").exit_code == 2
    done = cscm("preview", tmp_path)

    assert (done.exit_code, asked) == (2, []) and "has no document: no file *.yaml or *.json" in done.stderr
    assert cscm("preview", tmp_path / "nothing.yaml").exit_code == 2
