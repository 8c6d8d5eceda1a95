"""test: runs all checks in parallel; a check that cannot be made raises an error and gives no result."""

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path

import pytest

from supply_chain.development import test as checking
from supply_chain.development.test import Dependencies, EarlyChecks, Planned
from supply_chain.errors import CheckIncomplete, ScannerFailed
from supply_chain.evidence.checks import Check, Outcome
from supply_chain.evidence.statement import TEST_RESULT, VULNERABILITIES
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from supply_chain.vulnerability.scanner import Sbom
from tests.support.memory_generator import MemoryGenerator

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)

TOOLS = {"tool": "1"}


def fail():
    raise CheckIncomplete("it could not\ntry again")


class Scanner:
    def __init__(self, answer):
        self.answer, self.scans = answer, 0

    configuration = ""

    def identify(self):
        return self.answer.scanner_version, self.answer.database

    def scan(self, sbom):
        self.scans += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def dependencies(answer, packages=1):
    generator = MemoryGenerator(Sbom(b'{"artifacts": []}', packages, "syft 1.2.3"))
    return Dependencies(Path("source"), generator, Scanner(answer), days=7, now=lambda: NOON)


def unchanged(result):
    return result


def planned(make, *checks, **tools):
    return [Planned(each.check, tools or TOOLS, partial(unchanged, each)) for each in checks]


@pytest.fixture
def run(make):
    """Return a function that runs the checks; `evidence` is what was signed before."""

    def make_checks(*plans, report=None, evidence=(), now=None, deps=None):
        deps = deps or dependencies(report or make.report())
        return checking.test(make.built(), plans, deps, evidence, lambda: now or make.noon)

    return make_checks


def test_test_collects_results_of_every_check(make, run):
    """Failed results are collected too, because the gate judges them."""
    made = [make.check(Check.TESTS, failed=("it broke",)), make.check(Check.PROBE)]
    report = make.report(make.finding())

    tested = run(*planned(make, *made), report=report)

    assert {c.check for c in tested.checks} == {Check.TESTS, Check.PROBE, Check.DEPENDENCIES}
    assert all(each in tested.checks for each in made)
    assert tested.dependencies == report
    assert (tested.built, tested.stored_checks, tested.proven) == (make.built(), (), None)


def test_test_limits_number_of_reported_findings(make, run):
    """A source can cause any number of findings, so evidence, logs and pages hold only the first."""
    sentences = tuple(f"a.txt:{n}: token" for n in range(checking.MOST_SENTENCES + 2))
    many = make.check(Check.SECRETS, failed=sentences, warned=sentences)
    few = make.check(Check.PROBE, failed=sentences[:-2], warned=sentences[:1])

    tested = {each.check: each for each in run(*planned(make, many, few)).checks}

    expected = (*sentences[:-2], "and 2 more")
    assert (tested[Check.SECRETS].failed, tested[Check.SECRETS].warned) == (expected, expected)
    assert tested[Check.PROBE] == few


def test_checks_run_in_parallel(make, run):
    """Two checks that wait for each other both finish."""
    together = threading.Barrier(2, timeout=5)

    def wait(which):
        together.wait()
        return make.check(which)

    plans = [Planned(which, TOOLS, partial(wait, which)) for which in (Check.TESTS, Check.PROBE)]

    assert len(run(*plans).checks) == 3


def test_checks_that_were_made_during_build_are_not_made_again(make, run):
    """An error is not remembered."""
    calls, deps = [], dependencies(make.report())

    def check(which):
        calls.append(which)
        if calls == [which]:
            raise CheckIncomplete("no answer\ntry again")
        return make.check(which)

    secrets = Planned(Check.SECRETS, TOOLS, cache(partial(check, Check.SECRETS)))
    early = EarlyChecks([secrets], deps, cache(lambda digest: check(Check.CONTENT)))
    with pytest.raises(CheckIncomplete):
        early.check_source()
    early.check_source()
    early.check_content(make.digest)

    tested = run(*early.source, Planned(Check.CONTENT, TOOLS, partial(early.content, make.digest)), deps=deps)

    assert {c.check for c in tested.checks} == {Check.SECRETS, Check.CONTENT, Check.DEPENDENCIES}
    assert calls == [Check.SECRETS, Check.SECRETS, Check.CONTENT] and deps.scanner.scans == 1


def test_content_that_cannot_be_read_during_build_is_read_again(make):
    """The build does not fail; the step of the tests raises the error."""
    calls = []

    def check(digest):
        calls.append(digest)
        raise CheckIncomplete("no answer\ntry again")

    early = EarlyChecks([], dependencies(make.report()), cache(check))
    early.check_content(make.digest)
    with pytest.raises(CheckIncomplete):
        early.content(make.digest)
    assert calls == [make.digest] * 2


def test_check_that_cannot_be_made_raises_error(make, run):
    """There is then no tested image."""
    with pytest.raises(CheckIncomplete):
        run(Planned(Check.TESTS, TOOLS, fail))
    with pytest.raises(ScannerFailed):
        run(*planned(make, make.check(Check.TESTS)), report=ScannerFailed("x\ny"))


@pytest.fixture
def before(world, make):
    """Return a function that signs earlier check results of the image as development and returns them."""
    ref = ImageRef(repository="dev/hello", digest=make.digest)
    store = world.store(TierName.DEVELOPMENT)

    def signed(*checks, report=None):
        for each in checks:
            store.attach(ref, TEST_RESULT, each.predicate(), make.noon)
        if report:
            store.attach(ref, VULNERABILITIES, report.predicate(), make.noon)
        return store.read_verified(ref, TierName.DEVELOPMENT)

    return signed


def results(make):
    tools = {"grype": "0.115.0", "syft": "1.2.3"}
    return [make.check(Check.PROBE, tools=TOOLS), make.check(Check.DEPENDENCIES, tools=tools, warned=("a finding",))]


def never(make):
    return Planned(Check.PROBE, TOOLS, fail)


def test_checks_passed_by_same_tools_are_not_repeated(make, run, before):
    """The source is not scanned again either while the database is the same."""
    probe, deps = results(make)
    report = make.report(make.finding())
    scanner = dependencies(report)

    tested = run(never(make), deps=scanner, evidence=before(probe, deps, report=report))

    assert tested.checks == (deps, probe)
    assert tested.dependencies == report and scanner.scanner.scans == 0
    assert set(tested.stored_checks) == {Check.PROBE, Check.DEPENDENCIES}
    assert len(tested.proven.evidence) == 2


@pytest.mark.parametrize(
    "change",
    [{"failed": ("it broke",)}, {"tools": {"tool": "2"}}, {"tools": {}}],
    ids=["it failed", "another version", "by nothing"],
)
def test_failed_check_or_check_by_other_tools_is_repeated(make, run, before, change):
    """Only this check is repeated."""
    _, deps = results(make)
    report = make.report()
    old = make.check(Check.PROBE, **{"tools": TOOLS, **change})
    new = make.check(Check.PROBE, tools=TOOLS, passed=("again",))

    tested = run(*planned(make, new), report=report, evidence=before(old, deps, report=report))

    assert new in tested.checks and deps in tested.checks
    assert tested.stored_checks == (Check.DEPENDENCIES,) and tested.proven is None


@pytest.mark.parametrize(
    "change",
    [{"scanner_version": "2"}, {"kind": "starter"}, {"at": NOON - timedelta(days=8)}],
    ids=["another scanner", "another database", "too old"],
)
def test_dependencies_are_rescanned_if_scanner_or_database_changed(make, run, before, change):
    """The results of the other checks stay valid."""
    probe, deps = results(make)
    scanner = dependencies(make.report())

    tested = run(never(make), deps=scanner, evidence=before(probe, deps, report=make.report(**change)))

    assert scanner.scanner.scans == 1
    assert tested.stored_checks == (Check.PROBE,) and tested.proven is None


def test_dependency_check_warns_of_each_known_vulnerability(make):
    """The gate, not the check, decides how many are accepted."""
    report = make.report(make.finding("critical"), make.finding("low"))

    check, found = dependencies(report, 3).result

    assert found == report
    assert (check.check, check.outcome) == (Check.DEPENDENCIES, Outcome.WARNED)
    assert len(check.warned) == 2 and "CVE-2026-0001" in check.warned[0]
    assert "3 declared packages" in check.passed[0] and "official" in check.passed[0]
    assert check.tools == {"grype": "0.115.0", "syft": "1.2.3"}
    assert check.details["counts"]["critical"] == {"total": 1, "fixable": 1}


def test_dependency_check_records_package_urls_of_findings(make):
    """Issuers state something about packages by these, and nobody signs the SBOM of a source."""
    given = dependencies(make.report(make.finding("low")), 2)
    named = given.scanner.scan(given.generator.make_directory_sbom(Path())).findings[0]
    purl = f"pkg:{named.type}/{named.package}@{named.version}"
    artifacts = [
        {"type": named.type, "name": named.package, "purl": purl},
        {"type": named.type, "name": "other", "purl": "pkg:pypi/other@1"},
    ]
    given.generator.sbom = replace(given.generator.sbom, content=json.dumps({"artifacts": artifacts}).encode())

    _, found = given.result

    assert found.source_packages == ((named.type, named.package, purl),)


def test_dependency_check_of_source_without_packages_passes(make):
    """The result says that there are no packages."""
    check, _ = dependencies(make.report(), 0).result

    assert check.outcome is Outcome.PASSED
    assert "no declared third-party packages" in check.passed[0]


def test_dependency_check_fails_with_error_of_scanner(make):
    """A failed scan must not look like a clean source."""
    with pytest.raises(ScannerFailed):
        _ = dependencies(ScannerFailed("x\ny")).result
