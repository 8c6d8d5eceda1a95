"""`cscm policy`: what it prints, and what it says about a policy that cannot decide."""

import json
import shutil
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import yaml
from click.testing import CliRunner
from httpx import ConnectError, HTTPStatusError

from cscm import policy as commands
from cscm import signing, waiver_scopes
from cscm.main import main
from orchestration.clock import read_clock
from supply_chain.errors import ComponentFailed
from supply_chain.execution.signed_project import read_project_state
from supply_chain.fleet.gate_facts import GateSubject
from supply_chain.fleet.preview import Effect, PolicyChange, PolicyPreview
from supply_chain.model.tier import Gate
from supply_chain.policy.explanation import GateExplanation, explain
from supply_chain.policy.loading import DIRECTORY
from supply_chain.policy.outcome import Reason
from supply_chain.policy.people import PeopleOwner
from supply_chain.policy.rule_tests import find_unnoticed
from supply_chain.policy.waivers import DIRECTORY as WAIVERS
from tests.support.builders import NOON
from tests.support.command import ROOT
from tests.support.facts import CURATED, deploy_facts
from tests.support.people import Office, copy_shipped, raise_version
from tests.support.policies import DEPLOY, LIBRARY, POLICIES

PREVIEW = PolicyPreview(
    at=NOON, policies=("ours 1 (new)",), gates=(Gate.DEPLOY,), judged=1, not_judged=(),
    changes=(
        PolicyChange(
            subject=GateSubject(image=CURATED, gate=Gate.DEPLOY, environment="staging"), running=("staging",),
            effect=Effect.REFUSED, new_reasons=(Reason(code="own.rule", fact="f", remedy="r"),), removed_reasons=(),
            omitted_reasons=0,
        ),
    ),
)  # fmt: skip


@pytest.fixture
def directory(tmp_path):
    return shutil.copytree(ROOT / DIRECTORY, tmp_path / "policies")


_UNNOTICED = dict[tuple[str, Gate, str], tuple[str, ...]]()


@pytest.fixture(autouse=True)
def each_rule_once(monkeypatch):
    """Change each rule once for all tests: what its tests leave open depends on nothing but its document."""

    def find(rule, gate, select):
        key = rule.document.model_dump_json(), gate, select.model_dump_json()
        if key not in _UNNOTICED:
            _UNNOTICED[key] = tuple(find_unnoticed(rule, gate, select))
        return _UNNOTICED[key]

    monkeypatch.setattr(commands, "find_unnoticed", find)


@pytest.fixture(autouse=True)
def workbench(monkeypatch):
    """A block that names no owner."""
    block = SimpleNamespace(project_state=lambda project: read_project_state(project, PeopleOwner(), None, NOON))
    monkeypatch.setattr(commands, "load_block", lambda kind, name: block)
    inventory = SimpleNamespace(open=lambda: SimpleNamespace(applications=lambda: ("shop",)))
    monkeypatch.setattr(waiver_scopes, "load_block", lambda kind, name: inventory)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose policies are those that ship, and a cosign that is not asked for a password."""
    copy_shipped(tmp_path)
    for module in (commands, signing):
        monkeypatch.setattr(module, "find_project", lambda: tmp_path)
    monkeypatch.setattr(signing, "find_cosign", lambda: SimpleNamespace(with_environment=lambda **_: None))
    return tmp_path


def cscm(*arguments):
    return CliRunner().invoke(main, ["policy", *map(str, arguments)])


def test_check_names_each_policy_with_its_rules_and_tests():
    """The number of tests shows that they ran."""
    done = cscm("check")

    assert done.exit_code == 0, done.output
    assert "deploy   deploy 1: " in done.stdout and "tests passed" in done.stdout
    rows = json.loads(cscm("check", "--json").stdout)["policies"]
    assert {row["gate"] for row in rows} == set(Gate)
    assert sum(row["rules"] for row in rows) == sum(len(POLICIES.select_gate(gate).rules) for gate in Gate)


def test_check_of_a_wrong_policy_names_file_rule_and_mistake(directory):
    """The exit status is 1, so that a pipeline ends."""
    file = directory / "image.yaml"
    file.write_text(file.read_text().replace("image.build.name ==", "image.build.nam =="))

    done = cscm("check", directory)

    assert done.exit_code == 1 and done.stdout == ""
    assert "image.yaml: rule provenance.other-application: " in done.stderr
    assert "undefined field 'nam'" in done.stderr and "[policy.invalid]" in done.stderr


def test_policy_check_names_conditions_without_test(directory):
    """A rule whose tests pass may still be half tested; the exit status is 1, so that a pipeline ends."""
    file = directory / "image.yaml"
    exact = "image.build.name == image.application"
    file.write_text(file.read_text().replace(exact, f"{exact} || 1 > 2"))

    done = cscm("check", directory)

    assert done.exit_code == cscm("check", directory, "--json").exit_code == 1
    named = "    note: no test notices provenance.other-application: image.build.name == image.application || 1 > 3"
    assert named in done.stdout.splitlines()
    assert [row["untested_expressions"] for row in json.loads(cscm("check", "--json").stdout)["policies"]] == [[]] * 8


def test_check_names_waivers_that_cover_no_image(project, monkeypatch):
    """And invalid ones; without an inventory, nobody knows which applications exist."""
    assert json.loads(cscm("check", "--json").stdout)["unmatched"] == []
    office = Office(project)
    office.waive("good", applications=("shop",))
    office.waive("name", applications=("shp",))
    office.waive("place", rules=("a.b",), environments=("prod",))
    office.waive("text", applications=("shop, web",))

    checked = json.loads(cscm("check", "--json").stdout)
    found = checked["unmatched"]
    assert checked["unchecked"] == "" and found[0].startswith("text: ") and "applications" in found[0]
    assert found[1:] == ["name: no known application matches shp", "place: there is no environment prod"]
    done = cscm("check")
    assert done.exit_code == 0 and "note: the waiver name: no known application matches shp" in done.stdout

    def unavailable(kind, name):
        raise ComponentFailed("no server")

    monkeypatch.setattr(waiver_scopes, "load_block", unavailable)
    found = json.loads(cscm("check", "--json").stdout)
    assert found["unmatched"][1:] == ["place: there is no environment prod"]
    assert found["unchecked"] == waiver_scopes.UNCHECKED
    assert f"note: of the waivers, {waiver_scopes.UNCHECKED}" in cscm("check").stdout.splitlines()
    for name in ("good", "name"):
        (project / WAIVERS / f"{name}.yaml").unlink()
    assert json.loads(cscm("check", "--json").stdout)["unchecked"] == "", "the others name no application"


def test_check_names_rules_that_parameters_switch_off(project):
    """Their tests pass with other parameters."""
    library = project / DIRECTORY / "library/evidence.yaml"
    text = library.read_text()
    (project / DIRECTORY / "evidence.yaml").write_text(text.replace("build_age: 4320h #", "build_age: 99999h #"))

    rows = json.loads(cscm("check", "--json").stdout)["policies"]

    assert [row["rules_without_failing_test"] for row in rows if row["policy"] == "evidence"] == [
        ["evidence.build-old"]
    ] * 2
    assert all(row["rules_without_failing_test"] == [] for row in rows if row["policy"] != "evidence")
    assert "note: with your parameters, evidence.build-old may refuse nothing" in cscm("check").stdout


def test_check_says_whether_the_policies_are_active(project, monkeypatch):
    """A change is checked without a signature; another directory decides nothing, and without a block it is unknown."""
    assert cscm("check").stdout.splitlines()[-1] == "active: they ship with this version"
    file = project / DIRECTORY / "release.yaml"
    raise_version(file)

    done = cscm("check")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == (
        "not active, so no gate decides: differs from what ships with this version: policies/release.yaml (changed); "
        "the list of files does not count: nobody signed it"
    )
    found = json.loads(cscm("check", "--json").stdout)
    assert found["active"] is False and found["why"].endswith("nobody signed it")
    assert "active" not in cscm("check", project / DIRECTORY).stdout


@pytest.mark.parametrize("error", [ComponentFailed("No server.\nStart it."), ConnectError("No server."),
                                   HTTPStatusError("No server.", request=Mock(), response=Mock()),
                                   ModuleNotFoundError("No server.")])  # fmt: skip
def test_check_needs_no_prefect_server(monkeypatch, error):
    """In a pipeline, the policies are checked all the same."""
    monkeypatch.setattr(commands, "load_block", Mock(side_effect=error))

    done = cscm("check")

    last = done.stdout.splitlines()[-1]
    assert done.exit_code == 0
    assert last.startswith("not known whether active: ") and last.endswith("cannot be read: No server.")


def test_signed_policies_become_active_for_gates(project, monkeypatch):
    """The gates of the same project decide by them, and the signer sees the list of files."""
    office = Office(project)
    policies = [yaml.safe_load(each.read_text()) for each in sorted((project / DIRECTORY).glob("*.yaml"))]
    versions = [f"versions/{each['name']}.{each['version']}" for each in policies]
    (project / DIRECTORY / "deploy.yaml").rename(project / DIRECTORY / "renamed.yaml")
    monkeypatch.setattr(
        signing, "sign_for_person", lambda tool, key, statement, service: bytes(office.owner.sign(statement))
    )
    assert not read_project_state(project, PeopleOwner(office.owner.public, "laptop"), None, read_clock()).active

    done = cscm("sign", "--key", "awskms:///alias/owner")

    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.partition("  ")[2] for line in lines[:-2]] == [
        "environments/production", "environments/staging", "names.yaml", "policies/curated.yaml", "policies/image.yaml",
        "policies/intake.yaml", "policies/release.yaml", "policies/renamed.yaml",
        *versions,
    ]  # fmt: skip
    assert lines[-2:] == [
        "signed for the installation laptop", f"signed: {project / DIRECTORY}/signed.list.sigstore.json",
    ]  # fmt: skip
    state = read_project_state(project, PeopleOwner(office.owner.public, "laptop"), None, read_clock())
    assert state.active and state.why.startswith("signed by the owner of deployments/people.yaml at ")


def test_changed_policy_with_the_same_version_is_not_signed(project, monkeypatch):
    """Verdicts name policy and version, which would be of two contents."""
    office, file = Office(project), project / DIRECTORY / "release.yaml"
    monkeypatch.setattr(
        signing, "sign_for_person", lambda tool, key, statement, service: bytes(office.owner.sign(statement))
    )
    first = file.read_text()

    def sign(later, description):
        file.write_text(first.replace("description: ", f"description: {description}", 1))
        for _ in range(later):
            raise_version(file)
        return cscm("sign", "--key", "awskms:///alias/owner")

    done = sign(0, "Ours. ")
    assert done.exit_code == 1 and " of the policy release was signed, or ships," in done.stderr
    assert not (project / DIRECTORY / "signed.list").exists()
    assert [sign(*each).exit_code for each in ((1, "Ours. "), (2, "Later. "), (2, "Later. "))] == [0, 0, 0]
    assert sign(1, "Another one. ").exit_code == 1, "also of a version that was replaced since"
    assert sign(1, "Ours. ").exit_code == 0
    assert read_project_state(project, PeopleOwner(office.owner.public, "laptop"), None, read_clock()).active


def test_policies_that_cannot_decide_are_not_signed(project, monkeypatch):
    """The gates would refuse to judge by them."""
    monkeypatch.setattr(signing, "sign_for_person", lambda *_: pytest.fail("it is signed"))
    file = project / DIRECTORY / "image.yaml"
    file.write_text(file.read_text().replace("image.build.name ==", "image.build.nam =="))

    done = cscm("sign", "--key", "awskms:///alias/owner")

    assert done.exit_code == 1 and done.stdout == ""
    assert "[policy.invalid]" in done.stderr and not (project / DIRECTORY / "signed.list.sigstore.json").exists()


def test_check_and_docs_of_the_library_are_about_its_policies():
    """They need not be active: a gate's other policies are those of the project."""
    library = str(ROOT / DIRECTORY / "library")

    rows = json.loads(cscm("check", library, "--json").stdout)["policies"]

    assert {row["policy"] for row in rows} == {each.name for each in LIBRARY}
    assert [row["untested_expressions"] for row in rows] == [[]] * len(rows)
    assert "## vulnerabilities.likely-exploit" in (printed := cscm("docs", library).stdout)
    assert "## image.blocked" not in printed


def test_docs_and_schema_are_printed():
    """The first is for people, the second for editors."""
    assert "## approval.denied" in cscm("docs").stdout
    schema = json.loads(cscm("schema").stdout)
    assert schema["title"] == "PolicyDocument" and "rules" in schema["required"]


def test_explain_prints_result_of_flow(monkeypatch):
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
