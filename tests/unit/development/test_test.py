"""test: every check is made, side by side; one that cannot be made is an error, not a result."""

import threading

import pytest

from supply_chain.development import test as checking
from supply_chain.errors import CheckNotMade, ScannerFailed
from supply_chain.evidence.checks import Check, Outcome
from supply_chain.vulnerability.scanner import Sboms


def fail():
    raise CheckNotMade("it could not\ntry again")


def test_gathers_what_every_check_says(make):
    """Failed ones too; they are for the gate to judge."""
    made = [make.check(Check.TESTS, failed=("it broke",)), make.check(Check.PROBE)]
    dependencies = make.check(Check.DEPENDENCIES), make.report(make.finding())

    tested = checking.test(make.built(), [lambda: made[0], lambda: made[1]], lambda: dependencies)

    assert sorted(tested.checks, key=str) == sorted([*made, dependencies[0]], key=str)
    assert tested.dependencies == dependencies[1]
    assert tested.built == make.built()


def test_checks_run_side_by_side(make):
    """Two that wait for each other do meet."""
    together = threading.Barrier(2, timeout=5)

    def wait(which):
        together.wait()
        return make.check(which)

    tested = checking.test(
        make.built(),
        [lambda: wait(Check.TESTS), lambda: wait(Check.PROBE)],
        lambda: (make.check(Check.DEPENDENCIES), make.report()),
    )
    assert len(tested.checks) == 3


@pytest.mark.parametrize("which", ["a check", "dependencies"])
def test_a_check_that_cannot_be_made_is_an_error(make, which):
    """There is no tested image then."""
    dependencies = make.check(Check.DEPENDENCIES), make.report()

    with pytest.raises(CheckNotMade):
        checking.test(
            make.built(),
            [fail] if which == "a check" else [lambda: make.check(Check.TESTS)],
            fail if which == "dependencies" else lambda: dependencies,
        )


class Inventory:
    def __init__(self, packages):
        self.packages = packages

    def of_directory(self, directory):
        return Sboms(b"{}", b"", b"", self.packages, "syft 1.2.3")


class Scanner:
    def __init__(self, answer):
        self.answer = answer

    def scan(self, sboms):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_known_vulnerabilities_of_the_source_are_told_and_left_to_the_gate(make, tmp_path):
    """Each is a warning; how many are accepted is not for the check to say."""
    report = make.report(make.finding("critical"), make.finding("low"))

    check, found = checking.known_vulnerabilities(tmp_path, Inventory(3), Scanner(report), lambda: make.noon)

    assert found == report
    assert (check.check, check.outcome) == (Check.DEPENDENCIES, Outcome.WARNED)
    assert len(check.warned) == 2 and "CVE-2026-0001" in check.warned[0]
    assert "3 declared packages" in check.passed[0] and "official" in check.passed[0]
    assert check.tools == {"grype": "0.115.0", "syft": "1.2.3"}
    assert check.details["counts"]["critical"] == {"total": 1, "fixable": 1}


def test_a_source_without_packages_says_so(make, tmp_path):
    """There was something to hold against the database: nothing."""
    check, _ = checking.known_vulnerabilities(tmp_path, Inventory(0), Scanner(make.report()), lambda: make.noon)

    assert check.outcome is Outcome.PASSED
    assert "no declared third-party packages" in check.passed[0]


def test_a_scanner_that_fails_is_an_error(make, tmp_path):
    """Not a clean source."""
    with pytest.raises(ScannerFailed):
        checking.known_vulnerabilities(tmp_path, Inventory(1), Scanner(ScannerFailed("x\ny")), lambda: make.noon)
