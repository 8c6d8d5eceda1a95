"""`cscm`: its output and exit status."""

import errno
import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner
from prefect.exceptions import TerminationSignal

from cscm.main import MODULES, main
from cscm.session import STEPS, use_prefect
from supply_chain.errors import RegistryUnavailable
from supply_chain.execution.observation import Deviation, Observation
from supply_chain.model.declaration import make_json_schema
from supply_chain.model.image import ImageRef, ReleasedImage, Source
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import Reason, Refused

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
CURATED = ReleasedImage(
    ref=REF, tag="t", source=Source(path=".", repository="shop", revision="none", dirty=True), environments=("staging",)
)
REFUSED = Refused(
    image=REF,
    gate=Gate.RELEASE,
    policy="sha256:" + "9" * 64,
    reasons=(Reason(code="scan.high", fact="bad\x1b[31m", remedy="mend it"),),
)
HEALTHY = Observation(
    at=datetime(2026, 11, 24, tzinfo=UTC),
    environment="staging",
    application="hello",
    name="staging-hello",
    container="1" * 64,
    address="http://127.0.0.1:8080/",
    expected_digest=REF.digest,
    running=REF.digest,
    status="running",
    healthy=True,
)
DRIFTED = HEALTHY.model_copy(update={"deviations": (Deviation(code="c.d", fact="changed\x1b", remedy="deploy again"),)})


@pytest.mark.parametrize("module", MODULES)
def test_commands_of_module_are_listed(module):
    """A command that is not listed could not be called."""
    assert [each.name for each in import_module(f"cscm.{module}").COMMANDS] == list(MODULES[module])


def test_module_of_another_command_is_not_imported():
    """Together the modules take a second to import."""
    script = (
        "import sys; from cscm.main import main; print(*(each for each in sys.modules if each.startswith('cscm.')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert not {f"cscm.{each}" for each in MODULES} & set(done.stdout.split())


@pytest.fixture
def run(monkeypatch):
    """Return what calls `cscm` with stubbed flows and without Prefect; `parameters` are those of the last flow."""

    class Running:
        parameters: dict[str, Any]

        def __call__(self, *args, result=None):
            async def flow(**parameters):
                self.parameters = parameters
                if isinstance(result, BaseException):
                    raise result
                return result

            monkeypatch.setattr("cscm.running.use_prefect", lambda **_: None)
            for name in ("chain", "build", "curate", "deploy", "isolate", "monitor"):
                monkeypatch.setattr(f"flows.{name}.{name}", flow)
            return CliRunner().invoke(main, args)

    before = list(logging.getLogger(STEPS).handlers)
    yield Running()
    logging.getLogger(STEPS).handlers = before


@pytest.fixture
def application(tmp_path):
    (tmp_path / "supply-chain.yaml").write_text("kind: base\nname: base/x\nowner: me\ncheck: [x]\n")
    return str(tmp_path)


def calls(path):
    return {
        "chain": ("chain", path),
        "build": ("build", path),
        "curate": ("curate", str(REF)),
        "deploy": ("deploy", str(REF), "--environment", "staging"),
        "monitor": ("monitor",),
    }


@pytest.mark.parametrize("name", ["chain", "build", "curate", "deploy", "monitor"])
def test_known_error_gives_message_and_status_1(run, application, name):
    """The message has the error code and no stack trace."""
    done = run(*calls(application)[name], result=RegistryUnavailable("it is silent\x1b[2J\nwait"))

    assert done.exit_code == 1
    assert "error: it is silent" in done.output and "wait [registry.unavailable]" in done.output
    assert "Traceback" not in done.output and "\x1b" not in done.output


@pytest.mark.parametrize("name", ["chain", "curate", "deploy"])
def test_refusal_gives_all_reasons_and_status_3(run, application, name):
    """A refusal is a valid result, but not success."""
    done = run(*calls(application)[name], result=REFUSED)

    assert done.exit_code == 3
    assert "scan.high" in done.output and "mend it" in done.output
    assert "\x1b" not in done.output


def test_refusal_with_json_gives_complete_verdict(run):
    """The exit status is the same."""
    done = run("curate", str(REF), "--json", result=REFUSED)

    assert done.exit_code == 3
    assert json.loads(done.output) == REFUSED.model_dump(mode="json")


def test_curate_prints_digest_of_image(run):
    """The next command takes it as its argument."""
    done = run("curate", str(REF), result=CURATED)

    assert (done.exit_code, done.output.strip()) == (0, str(REF))
    assert json.loads(run("curate", str(REF), "--json", result=CURATED).output)["tag"] == "t"


def test_monitor_prints_lines_with_remedies(run):
    """The lines say whether each deployment is healthy."""
    done = run("monitor", result=(HEALTHY, DRIFTED))

    assert done.exit_code == 0, done.output
    assert "staging" in done.output and "http://127.0.0.1:8080/" in done.output
    assert "c.d" in done.output and "deploy again" in done.output
    assert "\x1b" not in done.output
    assert len(json.loads(run("monitor", "--json", result=(HEALTHY, DRIFTED)).output)) == 2


def test_monitor_prints_message_if_nothing_runs(run):
    """No output would look like a failure."""
    assert run("monitor", result=()).output.strip()


@pytest.mark.parametrize(
    ("args", "parameters"),
    [
        (("chain", "{}", "--revision", "abc", "--environment", "staging"), ("revision", "environment")),
        (("build", "{}", "--revision", "abc"), ("revision",)),
        (("deploy", str(REF), "--environment", "staging"), ("environment",)),
        (("monitor", "--environment", "staging"), ("environment",)),
    ],
)
def test_command_passes_options_to_flow(run, application, args, parameters):
    """The parameters have the names of the flow's form."""
    assert run(*[arg.format(application) for arg in args], result=CURATED).exit_code == 0

    given = {"revision": "abc", "environment": "staging"}
    assert {name: run.parameters[name] for name in parameters} == {name: given[name] for name in parameters}


@pytest.mark.parametrize("command", ["chain", "build"])
def test_invalid_declaration_is_reported_before_flow_starts(run, tmp_path, command):
    """Prefect need not be running."""
    (tmp_path / "supply-chain.yaml").write_text("kind: service\n")

    done = run(command, str(tmp_path), result=AssertionError("the flow must not start"))

    assert done.exit_code == 1
    assert "supply-chain.yaml:1:1" in done.output


@pytest.mark.parametrize(
    "args", [("nosuch",), ("chain",), ("deploy", str(REF)), ("curate", "--nosuch", str(REF)), ("hook", "nosuch")]
)
def test_wrong_usage_gives_status_2_and_usage(run, args):
    """The output shows how to call the command."""
    done = run(*args)

    assert done.exit_code == 2
    assert "Usage" in done.output


def test_unavailable_prefect_gives_message_with_remedy(run):
    """The error is not in the chain itself."""
    done = run("monitor", result=httpx.ConnectError("All connection attempts failed"))

    assert done.exit_code == 1
    assert "stopped answering: All connection" in done.output and "cscm up" in done.output
    assert "Traceback" not in done.output


def test_terminated_run_gives_message(run):
    """There is no stack trace."""
    done = run("monitor", result=TerminationSignal(signal=15))

    assert done.exit_code == 1
    assert "SIGTERM" in done.output and "[run.cancelled]" in done.output
    assert "Traceback" not in done.output


def test_interrupted_command_may_be_run_again(run):
    """`Aborted!` alone does not say whether something is lost."""
    done = run("monitor", result=KeyboardInterrupt())

    assert done.exit_code == 1
    assert "Ctrl-C ended the command" in done.output and "[run.cancelled]" in done.output
    assert "Run the same command again; steps that are proven by evidence are not repeated" in done.output
    assert "Aborted" not in done.output and "Traceback" not in done.output


def test_unexpected_error_is_not_hidden(run):
    """A bug report needs the stack trace."""
    done = run("monitor", result=ZeroDivisionError())

    assert isinstance(done.exception, ZeroDivisionError)


@pytest.mark.parametrize("args", [("--help",), ("chain", "-h"), ("hook", "install", "--help"), ("--version",)])
def test_help_and_version_need_no_prefect(args):
    """They need no state either."""
    assert CliRunner().invoke(main, args).exit_code == 0


def test_schema_command_prints_schema_of_models():
    """Editors use it."""
    assert json.loads(CliRunner().invoke(main, ["schema"]).output) == make_json_schema()


def test_command_refuses_server_of_other_installation(tmp_path, monkeypatch):
    """The server answers, but not to the right password."""
    monkeypatch.setenv("CSCM_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr("cscm_laptop.prefect_server.answers", lambda port, path, auth=None: auth is None)

    done = CliRunner().invoke(main, ["monitor"])

    assert done.exit_code == 1
    assert "is not the one of" in done.output and "PREFECT_API_URL" not in os.environ


def test_command_without_prefect_names_start_command(tmp_path, monkeypatch):
    """Nothing may be running yet on a new machine."""
    monkeypatch.setenv("CSCM_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr("cscm_laptop.prefect_server.answers", lambda *_, **__: False)

    done = CliRunner().invoke(main, ["monitor"])

    assert done.exit_code == 1
    assert "cscm up" in done.output


def test_bases_with_json_prints_image_refs(monkeypatch):
    """The images are named by digest."""

    async def flow(**parameters):
        return [REF]

    monkeypatch.setattr("cscm.running.use_prefect", lambda **_: None)
    monkeypatch.setattr("flows.bases.bases", flow)

    assert json.loads(CliRunner().invoke(main, ["bases", "--json"]).output) == [REF.model_dump()]


@pytest.mark.parametrize(
    "name", ["chain", "build", "curate", "deploy", "approve", "isolate", "monitor", "bases", "status", "doctor"]
)
def test_command_with_result_has_json_option(name):
    """Programs should not have to parse text for people."""
    command = main.get_command(click.Context(main), name)

    assert command and "--json" in {option for each in command.params for option in each.opts}


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("cscm cu", "curate"),
        ("cscm chain --fo", "--force"),
        ("cscm hook in", "install"),
        ("cscm status --j", "--json"),
        ("cscm key dev", "development"),
        ("cscm monitor --environment sta", "staging"),
        ("cscm bases go", "go-build"),
    ],
)
def test_shell_completion_offers_matching_words(typed, offered):
    """The test asks in the way bash does; the documentation says how to enable it."""
    done = CliRunner().invoke(main, prog_name="cscm", env=completion_of(typed))

    assert done.stdout.split() == [f"plain,{offered}"]


def completion_of(typed):
    """Return the variables with which bash asks for the words that may follow."""
    return {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" ")), "_CSCM_COMPLETE": "bash_complete"}


def test_installed_command_completes_words():
    """The variable has the name of the installed program."""
    done = subprocess.run(
        [Path(sys.executable).with_name("cscm")], env={**os.environ, **completion_of("cscm cu")},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert done.stdout.split() == ["plain,curate"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_completion_script(shell):
    """A script can be used with `eval` or a file."""
    done = CliRunner().invoke(main, prog_name="cscm", env={"_CSCM_COMPLETE": f"{shell}_source"})

    assert done.exit_code == 0 and f"_CSCM_COMPLETE={shell}_complete" in done.stdout


def test_full_disk_gives_message_without_stack_trace(run, application):
    """The message names the path."""
    ended = run("chain", application, result=OSError(errno.ENOSPC, "No space left on device", "/results"))

    assert ended.exit_code == 1
    assert "no space left at /results" in ended.output and "[disk.full]" in ended.output


def test_command_sets_heartbeat_frequency_for_server(monkeypatch, tmp_path):
    """This also holds for a server other than the laptop's, where Prefect's default would apply."""
    monkeypatch.setenv("CSCM_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "180")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    use_prefect()

    assert os.environ["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


def test_only_verbose_command_prints_prefects_log(tmp_path):
    """A process of its own: logging is set up once."""
    code = (
        "import logging; from cscm.session import use_prefect\n"
        "for verbose in (True, False):\n"
        "    use_prefect(verbose=verbose); logging.getLogger('prefect.test').error('of Prefect')\n"
    )
    variables = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_HOME": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    assert done.stderr.count("of Prefect") == 1


@pytest.mark.parametrize(("call", "executed"), [("use_prefect()", False), ("import prefect.main", True)])
def test_prefect_reads_no_settings_of_the_source(tmp_path, call, executed):
    """A command is called in a source's directory. Prefect alone would run what its files name."""
    (tmp_path / "pyproject.toml").write_text('[tool.prefect.logging]\nconfig_path = "log.yml"\n')
    (tmp_path / "log.yml").write_text(
        'version: 1\nfilters: {x: {"()": subprocess.check_call, args: [touch, executed]}}\n'
    )
    code = f"from cscm.session import use_prefect; {call}"
    variables = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_HOME": str(tmp_path / "home")}
    here = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_LOGGING")}

    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=here | variables, check=True, timeout=120)

    assert (tmp_path / "executed").exists() is executed


def test_isolate_passes_environment_application_and_start_time(run):
    """The time to the isolation is measured from the command; a name of an application may have a slash."""
    begun = datetime.now(UTC)

    ended = run("isolate", "production/team/hello", "--reason", "odd", "--by", "ann", result="isolated")

    assert ended.exit_code == 0, ended.output
    given = run.parameters
    assert (given["environment"], given["application"], given["by"]) == ("production", "team/hello", "ann")
    assert begun <= given["since"] <= datetime.now(UTC)
    assert run("isolate", "production", "--reason", "odd").exit_code == 2
