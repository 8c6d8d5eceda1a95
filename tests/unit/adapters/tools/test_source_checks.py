"""The checks of a snapshot that need no image: which files each reads, and the reviews that count."""

import json

import pytest

from supply_chain.adapters.tools.source_checks import plan_source_checks
from supply_chain.errors import ToolMissing
from supply_chain.evidence.checks import Check
from tests.support.builders import declaration

FINDING = {
    "test_id": "B602", "issue_severity": "HIGH", "issue_text": "shell", "filename": "./a.py", "line_number": 3,
}  # fmt: skip
BANDIT = {"errors": [], "metrics": {"./a.py": {"loc": 3}}, "results": [FINDING]}
SECRET = {"results": {"0-0.py": [{"type": "Secret Keyword", "line_number": 1}]}}
HADOLINT = [{"code": "DL3008", "level": "warning", "line": 1, "message": "pin"}]


@pytest.fixture
def tools(program):
    """The tools by name, each of which finds something."""
    return {
        "bandit": program("bandit").does(stdout=json.dumps(BANDIT), status=1),
        "detect-secrets": program("detect-secrets").does(stdout=json.dumps({"results": {}})),
        "hadolint": program("hadolint").does(stdout=json.dumps(HADOLINT)),
    }


def results(planned):
    return {each.check: each.make() for each in planned}


def test_each_check_reads_the_snapshot_with_its_tool(make, tmp_path, tools):
    """The result names the tools that the plan names."""
    snapshot = make.snapshot(tmp_path, files={"a.py": "x = 1\n"})

    planned = plan_source_checks(tools.__getitem__, snapshot, lambda: make.noon)

    found = results(planned)
    assert list(found) == [Check.SECRETS, Check.SOURCE, Check.DOCKERFILE]
    assert found[Check.SOURCE].failed == ("a.py:3: high: shell (B602)",)
    assert found[Check.DOCKERFILE].failed == ("line 1: pin (DL3008)",)
    assert {each.check: dict(each.tools) for each in planned} == {name: each.tools for name, each in found.items()}


def test_declaration_outside_context_is_searched_for_secrets(make, tmp_path, tools):
    """They are public as the source is."""
    declared = declaration(build={"context": "app", "dockerfile": "Dockerfile"})
    snapshot = make.snapshot(tmp_path, declaration=declared)
    key = "AKIA" + "IOSFODNN7EXAMPLF"
    snapshot.declaration_file.write_text(f"owner: {key}\n")

    found = results(plan_source_checks(tools.__getitem__, snapshot, lambda: make.noon))

    assert found[Check.SECRETS].failed == ("../supply-chain.yaml:1: AWS access key",)


def test_reviewed_findings_are_warnings_of_secrets_and_source(make, tmp_path, tools):
    """A review counts for its own check."""
    reviewed = [
        {"check": "source", "at": ["a.py:3"], "reason": "a test"},
        {"check": "secrets", "at": ["a.py:3"], "reason": "a test"},
    ]
    snapshot = make.snapshot(tmp_path, declaration=declaration(reviewed=reviewed), files={"a.py": "x = 1\n"})

    found = results(plan_source_checks(tools.__getitem__, snapshot, lambda: make.noon))

    assert found[Check.SOURCE].failed == () and "which was reviewed: a test" in found[Check.SOURCE].warned[-1]
    assert found[Check.SECRETS].warned == ("a.py:3 was reviewed, and there is nothing to be found there",)


def test_missing_tool_is_found_before_any_check_is_made(make, tmp_path, tools):
    """A plan that leaves out a check would admit what it finds."""

    def find(name):
        if name == "hadolint":
            raise ToolMissing("hadolint is not on this machine\nx")
        return tools[name]

    with pytest.raises(ToolMissing, match="hadolint"):
        plan_source_checks(find, make.snapshot(tmp_path), lambda: make.noon)
