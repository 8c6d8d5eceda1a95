"""test: every check is made, side by side; one that cannot be made is an error, not a result."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from supply_chain.development import test as checking
from supply_chain.development.test import Dependencies, Planned
from supply_chain.errors import CheckNotMade, ScannerFailed
from supply_chain.evidence.checks import Check, Outcome
from supply_chain.evidence.statement import TEST_RESULT, VULNERABILITIES
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from supply_chain.vulnerability.scanner import Sbom, Sboms

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)

TOOLS = {"tool": "1"}


def fail():
    raise CheckNotMade("it could not\ntry again")


class Inventory:
    generator = "syft 1.2.3"

    def __init__(self, packages):
        self.packages = packages

    def of_directory(self, directory):
        return Sboms(Sbom(b"{}", self.packages, self.generator), b"", b"")


class Scanner:
    def __init__(self, answer):
        self.answer, self.scans = answer, 0

    configuration = ""

    def current(self):
        return self.answer.scanner_version, self.answer.database

    def scan(self, sbom):
        self.scans += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def dependencies(answer, packages=1):
    return Dependencies(Path("source"), Inventory(packages), Scanner(answer), days=7)


def planned(make, *checks, **tools):
    return [Planned(each.check, tools or TOOLS, lambda each=each: each) for each in checks]


@pytest.fixture
def run(make):
    """Make the checks; evidence is what was signed before."""

    def make_checks(*plans, report=None, evidence=(), now=None, deps=None):
        deps = deps or dependencies(report or make.report())
        return checking.test(make.built(), plans, deps, evidence, lambda: now or make.noon)

    return make_checks


def test_gathers_what_every_check_says(make, run):
    """Failed ones too; they are for the gate to judge."""
    made = [make.check(Check.TESTS, failed=("it broke",)), make.check(Check.PROBE)]
    report = make.report(make.finding())

    tested = run(*planned(make, *made), report=report)

    assert {c.check for c in tested.checks} == {Check.TESTS, Check.PROBE, Check.DEPENDENCIES}
    assert all(each in tested.checks for each in made)
    assert tested.dependencies == report
    assert (tested.built, tested.known, tested.proven) == (make.built(), (), None)


def test_findings_of_a_check_are_told_up_to_a_bound(make, run):
    """A source may bring as many as it likes; evidence, logs and pages hold the first of them."""
    sentences = tuple(f"a.txt:{n}: token" for n in range(checking.MOST_SENTENCES + 2))
    many = make.check(Check.SECRETS, failed=sentences, warned=sentences)
    few = make.check(Check.PROBE, failed=sentences[:-2], warned=sentences[:1])

    tested = {each.check: each for each in run(*planned(make, many, few)).checks}

    told = (*sentences[:-2], "and 2 more")
    assert (tested[Check.SECRETS].failed, tested[Check.SECRETS].warned) == (told, told)
    assert tested[Check.PROBE] == few


def test_checks_run_side_by_side(make, run):
    """Two that wait for each other do meet."""
    together = threading.Barrier(2, timeout=5)

    def wait(which):
        together.wait()
        return make.check(which)

    plans = [Planned(which, TOOLS, lambda which=which: wait(which)) for which in (Check.TESTS, Check.PROBE)]

    assert len(run(*plans).checks) == 3


def test_a_check_that_cannot_be_made_is_an_error(make, run):
    """There is no tested image then."""
    with pytest.raises(CheckNotMade):
        run(Planned(Check.TESTS, TOOLS, fail))
    with pytest.raises(ScannerFailed):
        run(*planned(make, make.check(Check.TESTS)), report=ScannerFailed("x\ny"))


@pytest.fixture
def before(world, make):
    """What development signed about the image before."""
    ref = ImageRef(repository="dev/hello", digest=make.digest)
    store = world.store(TierName.DEVELOPMENT)

    def signed(*checks, report=None):
        for each in checks:
            store.attach(ref, TEST_RESULT, each.predicate(), make.noon)
        if report:
            store.attach(ref, VULNERABILITIES, report.predicate(), make.noon)
        return store.verified(ref, TierName.DEVELOPMENT)

    return signed


def results(make):
    tools = {"grype": "0.115.0", "syft": "1.2.3"}
    return [make.check(Check.PROBE, tools=TOOLS), make.check(Check.DEPENDENCIES, tools=tools, warned=("a finding",))]


def never(make):
    return Planned(Check.PROBE, TOOLS, fail)


def test_what_the_same_tools_passed_is_not_made_again(make, run, before):
    """Nor is the source scanned again, while the database is the same."""
    probe, deps = results(make)
    report = make.report(make.finding())
    scanner = dependencies(report)

    tested = run(never(make), deps=scanner, evidence=before(probe, deps, report=report))

    assert tested.checks == (deps, probe)
    assert tested.dependencies == report and scanner.scanner.scans == 0
    assert set(tested.known) == {Check.PROBE, Check.DEPENDENCIES}
    assert len(tested.proven.evidence) == 2


@pytest.mark.parametrize(
    "change",
    [{"failed": ("it broke",)}, {"tools": {"tool": "2"}}, {"tools": {}}],
    ids=["it failed", "another version", "by nothing"],
)
def test_what_failed_or_other_tools_made_is_made_again(make, run, before, change):
    """And only that."""
    _, deps = results(make)
    report = make.report()
    old = make.check(Check.PROBE, **{"tools": TOOLS, **change})
    new = make.check(Check.PROBE, tools=TOOLS, passed=("again",))

    tested = run(*planned(make, new), report=report, evidence=before(old, deps, report=report))

    assert new in tested.checks and deps in tested.checks
    assert tested.known == (Check.DEPENDENCIES,) and tested.proven is None


@pytest.mark.parametrize(
    "change",
    [{"scanner_version": "2"}, {"kind": "starter"}, {"at": NOON - timedelta(days=8)}],
    ids=["another scanner", "another database", "too old"],
)
def test_dependencies_are_looked_at_again_when_what_is_known_changed(make, run, before, change):
    """The other checks stand."""
    probe, deps = results(make)
    scanner = dependencies(make.report())

    tested = run(never(make), deps=scanner, evidence=before(probe, deps, report=make.report(**change)))

    assert scanner.scanner.scans == 1
    assert tested.known == (Check.PROBE,) and tested.proven is None


def test_known_vulnerabilities_of_the_source_are_told_and_left_to_the_gate(make):
    """Each is a warning; how many are accepted is not for the check to say."""
    report = make.report(make.finding("critical"), make.finding("low"))

    check, found = checking.known_vulnerabilities(dependencies(report, 3), lambda: make.noon)

    assert found == report
    assert (check.check, check.outcome) == (Check.DEPENDENCIES, Outcome.WARNED)
    assert len(check.warned) == 2 and "CVE-2026-0001" in check.warned[0]
    assert "3 declared packages" in check.passed[0] and "official" in check.passed[0]
    assert check.tools == {"grype": "0.115.0", "syft": "1.2.3"}
    assert check.details["counts"]["critical"] == {"total": 1, "fixable": 1}


def test_a_source_without_packages_says_so(make):
    """There was something to hold against the database: nothing."""
    check, _ = checking.known_vulnerabilities(dependencies(make.report(), 0), lambda: make.noon)

    assert check.outcome is Outcome.PASSED
    assert "no declared third-party packages" in check.passed[0]


def test_a_scanner_that_fails_is_an_error(make):
    """Not a clean source."""
    with pytest.raises(ScannerFailed):
        checking.known_vulnerabilities(dependencies(ScannerFailed("x\ny")), lambda: make.noon)
