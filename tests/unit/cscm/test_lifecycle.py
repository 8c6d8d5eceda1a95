"""`cscm lifecycle`, `block`, `unblock`, `hold` and `release`: their parameters, output and questions."""

import json
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cscm import lifecycle, options
from cscm.main import main
from supply_chain.evidence.image_status import Act
from supply_chain.lifecycle.apply import Applied
from supply_chain.lifecycle.decisions import DecisionResult, RunsFrom
from supply_chain.lifecycle.plan import read_plan, write_plan
from tests.support.snapshots import NOW, planned, ref


@pytest.fixture
def run(monkeypatch):
    """Return what calls `cscm` with a stubbed flow and without Prefect; `asked` are the flow's parameters."""

    class Running:
        asked: Any = None

        def __call__(self, *args, result=None, answer=None):
            self.asked = None

            async def flow(**parameters):
                self.asked = parameters
                return result

            monkeypatch.setattr("cscm.running.use_prefect", lambda **_: None)
            for name in ("flows.lifecycle.plan_only", "flows.lifecycle.apply_only",
                         *(f"flows.image_decisions.{act}" for act in lifecycle.DECISIONS)):  # fmt: skip
                monkeypatch.setattr(name, flow)
            return CliRunner().invoke(main, args, input=answer)

    return Running()


@pytest.mark.parametrize(
    "arguments", [["--reason", ""], ["--reason", "  "], ["--reason", "x" * 1001], ["--reason", "x", "--by", ""]]
)
def test_decision_command_refuses_blank_reason_or_name(run, arguments):
    """No flow starts."""
    ran = run("block", str(ref(1)), *arguments)

    assert ran.exit_code == 2 and "write at least 1" in ran.output and run.asked is None


@pytest.mark.parametrize("act", ["block", "unblock", "hold", "unhold"])
def test_decision_command_uses_current_user_and_lists_deployments(run, act):
    """The option `--by` overrides the user."""
    ran = RunsFrom(environment="staging", application="hello", address="http://x/\x1b", owner="web")
    decision = DecisionResult(ref=ref(1), act=Act(act), by="ann", reason="x", at=NOW, changed=True, running=(ran,))

    done = run(act, str(ref(1)), "--reason", "x", result=decision)

    assert done.exit_code == 0 and run.asked == {
        "image": str(ref(1)),
        "reason": "x",
        "by": options.read_login_name(),
        "key": "",
    }
    assert done.output.splitlines()[0] == f"{act}: {ref(1)}"
    assert "  runs from it: hello in staging at http://x/·, of web" in done.output
    run(act, str(ref(1)), "--reason", "x", "--by", "ann", result=decision)
    assert run.asked["by"] == "ann"


@pytest.mark.parametrize("act", ["block", "unblock", "hold", "unhold"])
def test_decision_command_requires_reason(run, act):
    """The reason is signed and shown to everyone concerned."""
    done = run(act, str(ref(1)))

    assert done.exit_code == 2 and "--reason" in done.output and run.asked is None


def test_lifecycle_plan_prints_and_writes_plan(run, tmp_path):
    """The file has the whole plan, and nothing is applied."""
    done = run("lifecycle", "plan", "-o", str(tmp_path / "plan.json"), "--rules", "own", result=planned())

    assert done.exit_code == 0 and run.asked == {"rules": "own"}
    assert done.output.startswith(f"age-out: {ref(1)} (t1): a newer one was released")
    assert read_plan(tmp_path / "plan.json") == planned()
    assert run("lifecycle", "plan", result=planned()).exit_code == 0 and run.asked == {"rules": "nightly"}


@pytest.mark.parametrize(
    ("output", "why"), [(".", "is a directory"), ("nowhere/plan.json", "No such file or directory")]
)
def test_lifecycle_plan_checks_output_file_before_planning(run, tmp_path, output, why):
    """Planning takes minutes."""
    run.asked = None

    done = run("lifecycle", "plan", "-o", str(tmp_path / output), result=planned())

    assert done.exit_code == 2 and why in done.output
    assert run.asked is None and list(tmp_path.iterdir()) == []


def test_lifecycle_plan_prints_json(run):
    """Programs read it."""
    done = run("lifecycle", "plan", "--json", result=planned())

    assert json.loads(done.output)["steps"][0]["action"] == "age-out"


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a plan to a file."""

    def write(count=100):
        write_plan(planned(count), tmp_path / "plan.json")
        return str(tmp_path / "plan.json")

    return write


@pytest.mark.parametrize(("answer", "status", "called"), [("y\n", 0, True), ("n\n", 1, False), ("", 1, False)])
def test_lifecycle_apply_asks_for_confirmation(run, written, answer, status, called):
    """The plan is shown first."""
    applied = Applied(plan=planned().digest, entries=())

    done = run("lifecycle", "apply", written(), result=applied, answer=answer)

    assert done.exit_code == status and (run.asked is not None) is called
    assert "age-out: curated/hello" in done.output
    assert ("0 done, 0 skipped, 0 failed" in done.output) is called


def test_lifecycle_apply_with_yes_passes_path_name_and_digest(run, written):
    """The flow gets the digest of the plan that was read."""
    path = written()
    run("lifecycle", "apply", path, "--yes", "--by", "ann", result=Applied(plan=planned().digest, entries=()))

    assert run.asked == {"path": path, "by": "ann", "reason": "", "digest": planned().digest}


def test_lifecycle_apply_over_limit_requires_reason(run, written):
    """The reason is signed with the approval."""
    done = run("lifecycle", "apply", written(0), "--yes")
    assert (done.exit_code, run.asked) == (2, None)
    assert "it changes 1 image; the limit without approval is 0: add --reason" in done.output

    run(
        "lifecycle", "apply", written(0), "--yes", "--reason", "read it", result=Applied(plan=ref(1).digest, entries=())
    )
    assert run.asked["reason"] == "read it"


def test_lifecycle_apply_refuses_file_that_is_no_plan(run, tmp_path):
    """The error appears before a flow starts."""
    done = run("lifecycle", "apply", str(tmp_path / "none.json"), "--yes")

    assert done.exit_code == 1 and "is not a plan" in done.output and run.asked is None


def test_completion_offers_lifecycle_rules_without_their_tests(monkeypatch, tmp_path):
    """Only matching names are offered."""
    directory = tmp_path / "deployments/lifecycle"
    directory.mkdir(parents=True)
    for name in ("nightly", "nightly.tests", "weekly"):
        (directory / f"{name}.yaml").touch()
    monkeypatch.setattr(lifecycle, "find_project", lambda: tmp_path)

    (rules,) = [each for each in lifecycle.plan.params if each.name == "rules"]

    def complete(typed):
        return [each.value for each in rules.shell_complete(click.Context(lifecycle.plan), typed)]

    assert complete("") == ["nightly", "weekly"]
    assert complete("w") == ["weekly"]


@pytest.mark.parametrize(
    "name", ["hello", "curated/hello:tag", "curated/hello@12", "host:5000/hello@sha256:" + "a" * 64, "@"]
)
@pytest.mark.parametrize(
    "command",
    [
        ["block", "--reason", "x"],
        ["deploy"],
        ["curate"],
        ["approve", "--environment", "e", "--by", "a", "--reason", "b"],
        ["explain"],
    ],
    ids=lambda command: command[0],
)
def test_command_refuses_invalid_image_name_before_prefect_starts(run, command, name):
    """A mistake should be reported at once."""
    done = run(command[0], name, *command[1:])

    assert done.exit_code == 2 and "does not name an image: write NAME@sha256:…" in done.output


@pytest.mark.parametrize(
    "name", ["0" * 12, f"sha256:{'0' * 64}", f"curated/a/b@{'0' * 12}", f" dev/a@sha256:{'0' * 64} "]
)
def test_command_accepts_each_form_of_image_name(run, name):
    """Tables, runs and registries write names differently."""
    assert run("hold", name, "--reason", "x").exception is None or run.asked
    assert run.asked["image"] == name
