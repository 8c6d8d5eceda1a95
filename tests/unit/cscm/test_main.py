"""`cscm`: what it prints, and the status it ends with."""

import errno
import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from prefect.exceptions import TerminationSignal

from cscm.main import main
from cscm.session import STEPS, use_prefect
from supply_chain.errors import RegistryUnavailable
from supply_chain.execution.monitor import Deviation, Observation
from supply_chain.model.image import CuratedImage, ImageRef, Source
from supply_chain.model.manifest import json_schema
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import Reason, Refused

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
CURATED = CuratedImage(
    ref=REF, tag="t", source=Source(path=".", repository="shop", revision="none", dirty=True), environments=("staging",)
)
REFUSED = Refused(
    image=REF,
    gate=Gate.RELEASE,
    policy="sha256:" + "9" * 64,
    reasons=(Reason(code="scan.high", fact="bad\x1b[31m", remedy="mend it"),),
)
SEEN = Observation(
    at=datetime(2026, 11, 24, tzinfo=UTC),
    environment="staging",
    application="hello",
    name="staging-hello",
    container="1" * 64,
    address="http://127.0.0.1:8080/",
    wanted=REF.digest,
    running=REF.digest,
    status="running",
    healthy=True,
)
DRIFTED = SEEN.model_copy(update={"deviations": (Deviation(code="c.d", fact="changed\x1b", remedy="deploy again"),)})


@pytest.fixture
def run(monkeypatch):
    """Call `cscm` with flows that end as the test says, and no Prefect."""

    def running(*args, result=None):
        async def flow(**parameters):
            running.parameters = parameters
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setattr("cscm.running.use_prefect", lambda **_: None)
        for name in ("chain", "develop", "curate", "execute", "monitor"):
            monkeypatch.setattr(f"flows.{name}.{name}", flow)
        return CliRunner().invoke(main, args)

    before = list(logging.getLogger(STEPS).handlers)
    yield running
    logging.getLogger(STEPS).handlers = before


@pytest.fixture
def application(tmp_path):
    (tmp_path / "supply-chain.yaml").write_text("kind: base\nname: base/x\nowner: me\ncheck: [x]\n")
    return str(tmp_path)


def calls(path):
    return {
        "chain": ("chain", path),
        "develop": ("develop", path),
        "curate": ("curate", str(REF)),
        "execute": ("execute", str(REF), "--environment", "staging"),
        "monitor": ("monitor",),
    }


@pytest.mark.parametrize("name", ["chain", "develop", "curate", "execute", "monitor"])
def test_an_error_of_ours_is_a_message_and_status_one(run, application, name):
    """With its code, and never a stack trace."""
    done = run(*calls(application)[name], result=RegistryUnavailable("it is silent\x1b[2J\nwait"))

    assert done.exit_code == 1
    assert "error: it is silent" in done.output and "wait [registry.unavailable]" in done.output
    assert "Traceback" not in done.output and "\x1b" not in done.output


@pytest.mark.parametrize("name", ["chain", "curate", "execute"])
def test_a_refusal_is_told_whole_and_is_status_three(run, application, name):
    """It is an answer, and not the one that was hoped for."""
    done = run(*calls(application)[name], result=REFUSED)

    assert done.exit_code == 3
    assert "scan.high" in done.output and "mend it" in done.output
    assert "\x1b" not in done.output


def test_a_refusal_can_be_read_by_a_program(run):
    """The same status, and all of it."""
    done = run("curate", str(REF), "--json", result=REFUSED)

    assert done.exit_code == 3
    assert json.loads(done.output) == REFUSED.model_dump(mode="json")


def test_what_comes_out_is_told_by_its_digest(run):
    """For the next command."""
    done = run("curate", str(REF), result=CURATED)

    assert (done.exit_code, done.output.strip()) == (0, str(REF))
    assert json.loads(run("curate", str(REF), "--json", result=CURATED).output)["tag"] == "t"


def test_what_runs_is_told_in_lines(run):
    """Well or not, and what to do."""
    done = run("monitor", result=(SEEN, DRIFTED))

    assert done.exit_code == 0, done.output
    assert "staging" in done.output and "http://127.0.0.1:8080/" in done.output
    assert "c.d" in done.output and "deploy again" in done.output
    assert "\x1b" not in done.output
    assert len(json.loads(run("monitor", "--json", result=(SEEN, DRIFTED)).output)) == 2


def test_nothing_that_runs_is_told_too(run):
    """An empty answer would look like none."""
    assert run("monitor", result=()).output.strip()


@pytest.mark.parametrize(
    ("args", "parameters"),
    [
        (("chain", "{}", "--revision", "abc", "--environment", "staging"), ("revision", "environment")),
        (("develop", "{}", "--revision", "abc"), ("revision",)),
        (("execute", str(REF), "--environment", "staging"), ("environment",)),
        (("monitor", "--environment", "staging"), ("environment",)),
    ],
)
def test_options_reach_the_flow(run, application, args, parameters):
    """Under the names that its form has."""
    assert run(*[arg.format(application) for arg in args], result=CURATED).exit_code == 0

    given = {"revision": "abc", "environment": "staging"}
    assert {name: run.parameters[name] for name in parameters} == {name: given[name] for name in parameters}


@pytest.mark.parametrize("command", ["chain", "develop"])
def test_a_wrong_declaration_is_told_before_anything_starts(run, tmp_path, command):
    """Nothing has to be up for that."""
    (tmp_path / "supply-chain.yaml").write_text("kind: service\n")

    done = run(command, str(tmp_path), result=AssertionError("the flow must not start"))

    assert done.exit_code == 1
    assert "supply-chain.yaml:1:1" in done.output


@pytest.mark.parametrize(
    "args", [("nosuch",), ("chain",), ("execute", str(REF)), ("curate", "--nosuch", str(REF)), ("hook", "nosuch")]
)
def test_a_wrong_call_is_status_two(run, args):
    """With how to call it."""
    done = run(*args)

    assert done.exit_code == 2
    assert "Usage" in done.output


def test_a_prefect_that_was_killed_meanwhile_is_a_message(run):
    """And what to do: it is nobody's mistake in the chain."""
    done = run("monitor", result=httpx.ConnectError("All connection attempts failed"))

    assert done.exit_code == 1
    assert "stopped answering: All connection" in done.output and "cscm up" in done.output
    assert "Traceback" not in done.output


def test_a_run_that_is_terminated_says_so(run):
    """No trace of where it was just then."""
    done = run("monitor", result=TerminationSignal(signal=15))

    assert done.exit_code == 1
    assert "SIGTERM" in done.output and "[run.cancelled]" in done.output
    assert "Traceback" not in done.output


def test_a_mistake_of_ours_is_not_hidden(run):
    """It is no message for a user; whoever reports it needs the trace."""
    done = run("monitor", result=ZeroDivisionError())

    assert isinstance(done.exception, ZeroDivisionError)


@pytest.mark.parametrize("args", [("--help",), ("chain", "-h"), ("hook", "install", "--help"), ("--version",)])
def test_help_and_version_need_nothing(args):
    """Neither state nor Prefect."""
    assert CliRunner().invoke(main, args).exit_code == 0


def test_prints_the_schema_for_editors():
    """The one of the models."""
    assert json.loads(CliRunner().invoke(main, ["schema"]).output) == json_schema()


def test_a_server_of_somebody_else_is_not_taken_for_ours(tmp_path, monkeypatch):
    """It answers, but not to our password."""
    monkeypatch.setenv("CSCM_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr("cscm.session.answers", lambda port, path, auth=None: auth is None)

    done = CliRunner().invoke(main, ["monitor"])

    assert done.exit_code == 1
    assert "is not the one of" in done.output and "PREFECT_API_URL" not in os.environ


def test_without_prefect_it_says_how_to_start_it(tmp_path, monkeypatch):
    """On a machine where nothing runs yet."""
    monkeypatch.setenv("CSCM_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr("cscm.session.answers", lambda *_, **__: False)

    done = CliRunner().invoke(main, ["monitor"])

    assert done.exit_code == 1
    assert "cscm up" in done.output


def test_bases_can_be_read_by_a_program(monkeypatch):
    """Which images they are, by digest."""

    async def flow(**parameters):
        return [REF]

    monkeypatch.setattr("cscm.running.use_prefect", lambda **_: None)
    monkeypatch.setattr("flows.bases.bases", flow)

    assert json.loads(CliRunner().invoke(main, ["bases", "--json"]).output) == [REF.model_dump()]


@pytest.mark.parametrize("name", ["chain", "develop", "curate", "execute", "monitor", "bases", "status", "doctor"])
def test_what_has_a_result_gives_it_to_programs_too(name):
    """Nobody should have to parse what is written for people."""
    assert "--json" in {option for each in main.commands[name].params for option in each.opts}


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("cscm cu", "curate"),
        ("cscm chain --fr", "--fresh"),
        ("cscm hook in", "install"),
        ("cscm status --j", "--json"),
        ("cscm key dev", "development"),
        ("cscm monitor --environment sta", "staging"),
        ("cscm bases go", "go-build"),
    ],
)
def test_a_shell_completes_what_is_typed(typed, offered):
    """As bash asks for it; the documentation says how to turn it on."""
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = subprocess.run(
        [Path(sys.executable).with_name("cscm")], env={**os.environ, **words, "_CSCM_COMPLETE": "bash_complete"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.stdout.split() == [f"plain,{offered}"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion(shell):
    """What `eval` or a file takes."""
    done = subprocess.run(
        [Path(sys.executable).with_name("cscm")], env={**os.environ, "_CSCM_COMPLETE": f"{shell}_source"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0 and f"_CSCM_COMPLETE={shell}_complete" in done.stdout


def test_a_full_disk_is_a_message_and_no_stack_trace(run, application):
    """Wherever it was written to."""
    ended = run("chain", application, result=OSError(errno.ENOSPC, "No space left on device", "/results"))

    assert ended.exit_code == 1
    assert "no space left at /results" in ended.output and "[disk.full]" in ended.output


def test_a_command_gives_signs_of_life_as_often_as_the_server_expects(monkeypatch, tmp_path):
    """Also where the server is another one than the laptop's, and Prefect's default counts."""
    monkeypatch.setenv("CSCM_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "180")
    for name in ("PYTHONDONTWRITEBYTECODE", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"):
        monkeypatch.setenv(name, "1")

    use_prefect()

    assert os.environ["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
