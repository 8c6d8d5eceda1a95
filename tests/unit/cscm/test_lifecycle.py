"""`cscm lifecycle`, `block`, `unblock`, `hold` and `release`: what is asked for, printed and asked back."""

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from cscm import lifecycle, options
from cscm.main import main
from cscm_laptop.home import Home
from supply_chain.evidence.image_status import Act
from supply_chain.lifecycle.apply import Applied
from supply_chain.lifecycle.decisions import DecisionResult, RunsFrom
from supply_chain.lifecycle.plan import read_plan, write_plan
from supply_chain.lifecycle.planning import plan_lifecycle as plan_of
from tests.support.stock import NOW, RULES, ref, stock
from tests.unit.lifecycle.test_plan import newest


def planned(count=100):
    rules = RULES.model_copy(update={"limits": RULES.limits.model_copy(update={"count": count})})
    return plan_of(stock(*newest(1)), rules, NOW)


@pytest.fixture
def run(monkeypatch):
    """Call `cscm` with flows that end as the test says, and no Prefect."""

    def running(*args, result=None, answer=None):
        running.asked = None

        async def flow(**parameters):
            running.asked = parameters
            return result

        monkeypatch.setattr("cscm.running.use_prefect", lambda **_: None)
        for name in ("flows.lifecycle.plan_only", "flows.lifecycle.apply_only",
                     *(f"flows.image_decisions.{act}" for act in lifecycle.RULINGS)):  # fmt: skip
            monkeypatch.setattr(name, flow)
        return CliRunner().invoke(main, args, input=answer)

    return running


@pytest.mark.parametrize("said", [["--why", ""], ["--why", "  "], ["--why", "x" * 1001], ["--why", "x", "--by", ""]])
def test_whoever_decides_has_to_say_something(run, said):
    """Before anything is started."""
    ran = run("block", str(ref(1)), *said)

    assert ran.exit_code == 2 and "say something" in ran.output and run.asked is None


@pytest.mark.parametrize("act", ["block", "unblock", "hold", "release"])
def test_who_decides_is_whoever_types_unless_it_is_said(run, act):
    """What runs from the image is told."""
    ran = RunsFrom(environment="staging", application="hello", address="http://x/\x1b", owner="web")
    ruled = DecisionResult(ref=ref(1), act=Act(act), by="ann", why="x", at=NOW, changed=True, running=(ran,))

    done = run(act, str(ref(1)), "--why", "x", result=ruled)

    assert done.exit_code == 0 and run.asked == {"image": str(ref(1)), "why": "x", "by": options.user()}
    assert done.output.splitlines()[0] == f"{act}: {ref(1)}"
    assert "  runs from it: hello in staging at http://x/·, of web" in done.output
    run(act, str(ref(1)), "--why", "x", "--by", "ann", result=ruled)
    assert run.asked["by"] == "ann"


@pytest.mark.parametrize("act", ["block", "unblock", "hold", "release"])
def test_nothing_is_decided_without_a_reason(run, act):
    """It is signed, and told to whoever meets it."""
    done = run(act, str(ref(1)))

    assert done.exit_code == 2 and "--why" in done.output and run.asked is None


def test_a_plan_is_told_and_written_where_it_is_asked_for(run, tmp_path):
    """Whole; nothing is carried out."""
    done = run("lifecycle", "plan", "-o", str(tmp_path / "plan.json"), "--rules", "own", result=planned())

    assert done.exit_code == 0 and run.asked == {"rules": "own"}
    assert done.output.startswith(f"age-out: {ref(1)} (t1): a newer one was released")
    assert read_plan(tmp_path / "plan.json") == planned()
    assert run("lifecycle", "plan", result=planned()).exit_code == 0 and run.asked == {"rules": "nightly"}


@pytest.mark.parametrize(
    ("output", "why"), [(".", "is a directory"), ("nowhere/plan.json", "No such file or directory")]
)
def test_a_plan_that_could_not_be_written_is_not_made(run, tmp_path, output, why):
    """To plan takes minutes."""
    run.asked = None

    done = run("lifecycle", "plan", "-o", str(tmp_path / output), result=planned())

    assert done.exit_code == 2 and why in done.output
    assert run.asked is None and list(tmp_path.iterdir()) == []


def test_a_plan_can_be_read_by_a_program(run):
    """As JSON."""
    done = run("lifecycle", "plan", "--json", result=planned())

    assert json.loads(done.output)["steps"][0]["action"] == "age-out"


@pytest.fixture
def written(tmp_path):
    """A plan in a file."""

    def write(count=100):
        write_plan(planned(count), tmp_path / "plan.json")
        return str(tmp_path / "plan.json")

    return write


@pytest.mark.parametrize(("answer", "status", "called"), [("y\n", 0, True), ("n\n", 1, False), ("", 1, False)])
def test_a_plan_is_carried_out_when_somebody_says_yes(run, written, answer, status, called):
    """It is shown before."""
    applied = Applied(plan=planned().digest, entries=())

    done = run("lifecycle", "apply", written(), result=applied, answer=answer)

    assert done.exit_code == status and (run.asked is not None) is called
    assert "age-out: curated/hello" in done.output
    assert ("0 done, 0 skipped, 0 failed" in done.output) is called


def test_nobody_is_asked_who_said_yes_already(run, written):
    """The flow gets the file, which plan in it was read, and who it was."""
    path = written()
    run("lifecycle", "apply", path, "--yes", "--by", "ann", result=Applied(plan=planned().digest, entries=()))

    assert run.asked == {"path": path, "by": "ann", "why": "", "digest": planned().digest}


def test_above_its_limits_a_plan_needs_a_reason(run, written):
    """It is signed."""
    done = run("lifecycle", "apply", written(0), "--yes")
    assert done.exit_code == 2 and run.asked is None
    assert "it changes 1 image, and 0 need no approval: say --why" in done.output

    run("lifecycle", "apply", written(0), "--yes", "--why", "read it", result=Applied(plan=ref(1).digest, entries=()))
    assert run.asked["why"] == "read it"


def test_a_file_that_is_no_plan_is_told_before_anything_starts(run, tmp_path):
    """As an error of ours."""
    done = run("lifecycle", "apply", str(tmp_path / "none.json"), "--yes")

    assert done.exit_code == 1 and "is no plan" in done.output and run.asked is None


def test_a_shell_is_offered_the_rules_and_not_their_tests(monkeypatch, tmp_path):
    """Those that begin as what is typed."""
    there = tmp_path / "deployments/lifecycle"
    there.mkdir(parents=True)
    for name in ("nightly", "nightly.tests", "weekly"):
        (there / f"{name}.yaml").touch()
    monkeypatch.setattr(Home, "find", lambda: SimpleNamespace(project=tmp_path))

    assert lifecycle._rules_there(None, None, "") == ["nightly", "weekly"]
    assert lifecycle._rules_there(None, None, "w") == ["weekly"]


@pytest.mark.parametrize(
    "name", ["hello", "curated/hello:tag", "curated/hello@12", "host:5000/hello@sha256:" + "a" * 64, "@"]
)
@pytest.mark.parametrize(
    "command",
    [
        ["block", "--why", "x"],
        ["execute"],
        ["curate"],
        ["approve", "--environment", "e", "--who", "a", "--why", "b"],
        ["explain"],
    ],
    ids=lambda command: command[0],
)
def test_what_names_no_image_is_refused_before_anybody_is_asked(run, command, name):
    """A misspelt digest should not take as long as a right one."""
    done = run(command[0], name, *command[1:])

    assert done.exit_code == 2 and "names no image: write NAME@sha256:…" in done.output


@pytest.mark.parametrize(
    "name", ["0" * 12, f"sha256:{'0' * 64}", f"curated/a/b@{'0' * 12}", f" dev/a@sha256:{'0' * 64} "]
)
def test_however_an_image_is_named_it_is_asked_for_so(run, name):
    """As tables, runs and registries write it."""
    assert run("hold", name, "--why", "x").exception is None or run.asked
    assert run.asked["image"] == name
