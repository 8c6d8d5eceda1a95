"""`cscm enforce`: what it prints, and its exit status."""

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from cscm import enforce
from cscm.main import main
from supply_chain.execution.enforcement.installation import Change, EnforcementStatus
from supply_chain.execution.enforcement.policies import Mode
from supply_chain.execution.observation import Deviation

WEAK = Deviation(code="enforcement.removed", fact="the policy is gone", remedy="Install it.")


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs a command about a cluster with these deviations."""

    def run(*arguments, deviations=()):
        change = Change(action="create", kind="Namespace", name="apps")
        status = EnforcementStatus(
            environment="staging", namespace="apps", mode=Mode.DENY, admitted=2, deviations=deviations, would_refuse=()
        )
        made = SimpleNamespace(plan=lambda: (change,), apply=lambda: (), status=lambda: status)
        ports = SimpleNamespace(enforcement={"staging": made}.__getitem__)
        monkeypatch.setattr(enforce, "load_execution_ports", lambda: ports)
        return CliRunner().invoke(main, ["enforce", *arguments, "staging"])

    return run


def test_plan_and_apply_print_each_change(run):
    """An installation that is complete changes nothing."""
    assert run("plan").stdout == "create Namespace apps\n"
    assert run("apply").stdout == "nothing to report\n"


def test_status_exits_with_3_if_something_differs(run):
    """A script can rely on it."""
    done = run("status", deviations=(WEAK,))
    assert done.exit_code == 3 and "enforcement.removed: the policy is gone" in done.stdout

    done = run("status", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["admitted"] == 2
