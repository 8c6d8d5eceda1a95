"""How a command runs its flow."""

import json
from importlib import import_module

import click
import pytest
from click.testing import CliRunner

from cscm import lifecycle, policy, running
from cscm.main import main
from supply_chain.lifecycle.plan import write_plan
from tests.support.command import ROOT
from tests.support.snapshots import planned
from tests.support.vex import openvex

IMAGE = "curated/hello@sha256:" + "a" * 64
CALLS = {
    "chain": "{application} --revision abc --environment staging --force",
    "build": "{application} --revision abc --force",
    "curate": f"{IMAGE} --force",
    "deploy": f"{IMAGE} --environment staging --force",
    "approve": f"{IMAGE} --environment staging --by ann --reason x --deny",
    "break-glass": f"{IMAGE} --environment staging --by ann --reason x --expires 2026-12-01T12:00Z --key awskms:///k",
    "isolate": "production/hello --reason x --by ann",
    "monitor": "--environment staging",
    "inventory": "hello --rebuild",
    "rescan": "openssl",
    "bases": "python --force",
    "lifecycle plan": "--rules nightly",
    "lifecycle apply": "{plan} --yes --by ann --reason x",
    "policy explain": f"{IMAGE} --environment staging",
    "policy preview": "{policy}",
    "vex attach": f"{IMAGE} {{vex}} --key awskms:///k",
    **dict.fromkeys(lifecycle.DECISIONS, f"{IMAGE} --reason x --by ann"),
}


@pytest.fixture
def given(tmp_path):
    """Create an application, a plan and a VEX document."""
    (tmp_path / "supply-chain.yaml").write_text("kind: base\nname: base/x\nowner: me\ncheck: [x]\n")
    write_plan(planned(), tmp_path / "plan.json")
    (vex := tmp_path / "vex.json").write_text(json.dumps(openvex()))
    rules = ROOT / "deployments/policies/image.yaml"
    return {"application": str(tmp_path), "plan": str(tmp_path / "plan.json"), "policy": str(rules), "vex": str(vex)}


@pytest.mark.parametrize("command", CALLS)
def test_command_calls_existing_flow_with_valid_parameters(monkeypatch, given, command):
    """The flow is named by a string, so no other check would find a mistake."""
    started = []

    def run_flow(flow, verbose, /, **parameters):
        started.append((flow, parameters))
        return "done"

    for module in (running, lifecycle, policy):
        monkeypatch.setattr(module, "run_flow", run_flow)
    words = [word.format(**given) for word in CALLS[command].split()]
    done = CliRunner().invoke(main, [*command.split(), *words])

    assert (done.exit_code, done.output) == (0, "done\n")
    ((entrypoint, parameters),) = started
    module, _, name = entrypoint.partition(":")
    getattr(import_module(module), name).validate_parameters(parameters)


def test_every_command_that_runs_a_flow_is_tested():
    """These commands have the option `--verbose`."""

    def those(command, name=""):
        if isinstance(command, click.Group):
            context = click.Context(command)
            inner = {word: command.get_command(context, word) for word in command.list_commands(context)}
            return {each for word, made in inner.items() for each in those(made, f"{name} {word}".strip())}
        return {name} if any("--verbose" in each.opts for each in command.params) else set()

    assert those(main) == set(CALLS)


def test_unknown_base_is_refused_before_prefect_starts(monkeypatch):
    """A mistake should be reported at once."""
    monkeypatch.setattr(running, "use_prefect", lambda **_: pytest.fail("Prefect is asked"))

    done = CliRunner().invoke(main, ["bases", "pyhton"])

    assert done.exit_code == 2 and "there is no base pyhton; the bases are" in done.output
