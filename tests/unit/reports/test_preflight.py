"""The report of a preflight: text, SARIF and JUnit's XML, about places and texts of every kind."""

import json
import re
from typing import Annotated, Literal
from xml.etree import ElementTree

import pytest
from pydantic import BaseModel, ConfigDict, Field

from supply_chain.development.preflight import Diagnostic, Level, Preflight, PreflightRule
from supply_chain.development.reports import Counts, read_report
from supply_chain.policy.outcome import RuleOutcome
from supply_chain.reports import preflight_junit, preflight_lines, preflight_sarif
from tests.support.builders import DIGEST, report

SECRET = Diagnostic(
    level=Level.ERROR,
    code="secrets.failed",
    fact="src/a b.py:3: AWS <Key> & more",
    remedy="remove it",
    file="src/a b.py",
    line=3,
)
WARNING = Diagnostic(
    level=Level.WARNING, code="source.uncommitted", fact="uncommitted changes", remedy="", file=None, line=None
)
NOTE = Diagnostic(level=Level.NOTE, code="source", fact="odd \x1b[31m\ufffe", remedy="r", file="a.py", line=None)
ERROR = Diagnostic(level=Level.ERROR, code="build.failed", fact="cannot be read", remedy="r", file="Dockerfile", line=7)


def preflight(*findings, **changes):
    def rule(name, result, *needs):
        return PreflightRule(id=name, policy="intake 1", title=f"Refuse {name}.", result=result, needs=needs)

    rules = (
        rule("secrets.failed", RuleOutcome.REFUSED),
        rule("source.uncommitted", RuleOutcome.WARNED),
        rule("probe.failed", None, "image.checks.probe"),
        rule("probe.empty", None, "image.checks.probe"),
        rule("image.blocked", None, "image.block"),
        rule("source.failed", RuleOutcome.PASSED),
    )
    given = {
        "application": "shop", "policy": DIGEST, "diagnostics": findings, "rules": rules, "image": None,
        "images": ("docker.io/a:1",),
        "tools": {"bandit": "1"}, "database": report().database, **changes,
    }  # fmt: skip
    return Preflight.model_validate(given)


FOUND = preflight(ERROR, SECRET, WARNING, NOTE)


def test_preflight_text_has_places_remedies_and_unjudged_rules():
    """A line begins as those of compilers, so that editors find the place."""
    assert preflight_lines(FOUND, "apps/shop").splitlines() == [
        "apps/shop/Dockerfile:7: error: cannot be read [build.failed]",
        "    → r",
        "apps/shop/src/a b.py:3: error: AWS <Key> & more [secrets.failed]",
        "    → remove it",
        "apps/shop/supply-chain.yaml: warning: uncommitted changes [source.uncommitted]",
        "apps/shop/a.py: note: odd ·[31m\ufffe [source]",
        "not read: docker.io/a:1 (a build refuses blocked or missing bases, and runs their ONBUILD)",
        "not judged, because a working copy does not have these facts:",
        "    image.checks.probe: probe.failed, probe.empty",
        "    image.block: image.blocked",
        "shop: refused, 2 errors (3 of 6 rules judged)",
    ]


def test_preflight_text_of_image_names_missing_facts():
    """Some rules still need what only the supply chain signs."""
    lines = preflight_lines(preflight(image="hello:dev"), "").splitlines()

    assert "not judged, because a working copy and its image do not have these facts:" in lines


def test_preflight_text_without_findings_counts_judged_rules():
    """It does not say that a gate admits it."""
    assert preflight_lines(preflight(images=()), "").splitlines()[-1] == "shop: nothing to refuse (3 of 6 rules judged)"


def test_text_about_an_unreadable_declaration_lists_no_rules():
    """None of them was judged, which the last line says."""
    rules = tuple(each.model_copy(update={"result": None, "needs": ("image.build",)}) for each in FOUND.rules)
    found = preflight(ERROR, application=None, database=None, images=(), rules=rules)

    assert preflight_lines(found, "").splitlines() == [
        "Dockerfile:7: error: cannot be read [build.failed]",
        "    → r",
        "supply-chain.yaml: refused, 1 error (0 of 6 rules judged)",
    ]


class Strict(BaseModel):
    """An object of SARIF 2.1.0 with the properties that are used; the specification allows more."""

    model_config = ConfigDict(extra="forbid")


class Message(Strict):
    text: Annotated[str, Field(min_length=1)]


class Descriptor(Strict):
    id: str
    short_description: Annotated[Message, Field(alias="shortDescription")]
    properties: dict[str, str] = {}


class Driver(Strict):
    name: str
    version: str
    rules: list[Descriptor]


class SarifTool(Strict):
    driver: Driver


class RuleReference(Strict):
    id: str
    index: Annotated[int, Field(ge=0)]


class Notification(Strict):
    level: Literal["note"]
    message: Message
    rule: Annotated[RuleReference, Field(alias="associatedRule")]


class Invocation(Strict):
    successful: Annotated[Literal[True], Field(alias="executionSuccessful")]
    notifications: Annotated[list[Notification], Field(alias="toolExecutionNotifications")]


class Artifact(Strict):
    uri: Annotated[str, Field(pattern=r"^(file:///)?[A-Za-z0-9._~%/-]+$")]


class Region(Strict):
    line: Annotated[int, Field(ge=1, alias="startLine")]


class Physical(Strict):
    artifact: Annotated[Artifact, Field(alias="artifactLocation")]
    region: Region | None = None


class Location(Strict):
    physical: Annotated[Physical, Field(alias="physicalLocation")]


class Result(Strict):
    rule: Annotated[str, Field(alias="ruleId")]
    index: Annotated[int, Field(ge=0, alias="ruleIndex")]
    level: Literal["error", "warning", "note"]
    message: Message
    locations: Annotated[list[Location], Field(min_length=1)]


class SarifRun(Strict):
    tool: SarifTool
    invocations: list[Invocation]
    results: list[Result]


class Log(Strict):
    schema_: Annotated[str, Field(alias="$schema", pattern=r"^https://.*/sarif-schema-2\.1\.0\.json$")]
    version: Literal["2.1.0"]
    runs: Annotated[list[SarifRun], Field(min_length=1, max_length=1)]


def sarif(found, directory=""):
    (run,) = Log.model_validate_json(preflight_sarif(found, directory, "0.2.0")).runs
    return run


def test_sarif_has_every_finding_with_its_rule_and_place():
    """GitHub shows a result only if it has a location; without one, it is at the declaration."""
    run = sarif(FOUND, "apps/my shop")

    rules = run.tool.driver.rules
    assert [rules[each.index].id for each in run.results] == [each.rule for each in run.results]
    places = [
        (each.level, location.physical.artifact.uri, location.physical.region and location.physical.region.line)
        for each in run.results
        for location in each.locations
    ]
    assert places == [
        ("error", "apps/my%20shop/Dockerfile", 7),
        ("error", "apps/my%20shop/src/a%20b.py", 3),
        ("warning", "apps/my%20shop/supply-chain.yaml", None),
        ("note", "apps/my%20shop/a.py", None),
    ]
    assert run.results[1].message.text == "src/a b.py:3: AWS <Key> & more\nremove it"
    assert [each.id for each in rules] == [*(each.id for each in FOUND.rules), "build.failed", "source"]
    assert len({each.id for each in rules}) == len(rules)
    assert rules[0].short_description.text == "Refuse secrets.failed." and rules[0].properties == {"policy": "intake 1"}


def test_sarif_names_each_rule_that_was_not_judged():
    """A log without results would look like a pass of every rule."""
    run = sarif(preflight())

    (invocation,) = run.invocations
    assert [each.rule.id for each in invocation.notifications] == ["probe.failed", "probe.empty", "image.blocked"]
    assert invocation.notifications[0].message.text == "probe.failed was not judged: it needs image.checks.probe"
    assert [run.tool.driver.rules[each.rule.index].id for each in invocation.notifications] == [
        each.rule.id for each in invocation.notifications
    ]
    assert run.results == []


@pytest.mark.parametrize(
    ("directory", "uri"),
    [("", "src/a%20b.py"), ("/srv/shop", "file:///srv/shop/src/a%20b.py"), ("ü", "%C3%BC/src/a%20b.py")],
)
def test_sarif_locations_are_uris(directory, uri):
    """A path outside of the working directory is absolute."""
    (result,) = sarif(preflight(SECRET), directory).results

    assert result.locations[0].physical.artifact.uri == uri


def test_sarif_has_no_control_characters():
    """What a scanned file contains must not reach a terminal or a page."""
    text = json.loads(preflight_sarif(FOUND, "", "1"))["runs"][0]["results"][-1]["message"]["text"]

    assert text == "odd ·[31m\ufffe\nr"


def test_junit_has_a_case_for_each_rule_and_error():
    """What was not judged is skipped; what refuses fails; another error is a case of its own."""
    root = ElementTree.fromstring(preflight_junit(FOUND, "apps/shop"))

    (suite,) = root
    assert root.attrib == {"tests": "7", "failures": "2", "errors": "0", "skipped": "3"}
    assert suite.attrib == {"name": "cscm check shop", **root.attrib}
    cases = {each.attrib["name"]: each for each in suite.iter("testcase")}
    assert {name for name, each in cases.items() if each.find("skipped") is not None} == {
        "probe.failed",
        "probe.empty",
        "image.blocked",
    }
    failure = cases["secrets.failed"].find("failure")
    assert failure is not None and failure.attrib == {"message": "src/a b.py:3: AWS <Key> & more"}
    assert failure.text == "apps/shop/src/a b.py:3: AWS <Key> & more [secrets.failed]\n    → remove it"
    assert cases["build.failed"].attrib["classname"] == "build" and cases["build.failed"].find("failure") is not None
    assert list(cases["source.failed"]) == [] and cases["source.failed"].attrib["classname"] == "intake 1"
    assert list(cases["source.uncommitted"]) == []
    (notes,) = suite.iter("system-out")
    assert notes.text is not None and notes.text.splitlines() == [
        "apps/shop/supply-chain.yaml: uncommitted changes [source.uncommitted]",
        "apps/shop/a.py: odd ·[31m· [source]",
    ]


def test_junit_report_without_notes_is_read_as_test_report():
    """The reader of test reports counts what ran; skipped cases did not."""
    text = preflight_junit(preflight(SECRET, SECRET), "")

    assert "system-out" not in text
    assert read_report(text.encode()) == Counts(ran=3, failed=1)
    assert len(re.findall("AWS &lt;Key", text)) == 3 and len(re.findall("remove it", text)) == 1
