"""Arbitrary test reports and output of test runners give a count or the documented error."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.development.reports import Counts, ReportInvalid, read_report
from supply_chain.development.runners import RUNNERS, detect_runner, has_no_tests
from supply_chain.development.tested import judge_tests

pieces = st.sampled_from(
    ["<testsuites>", "</testsuites>", "<testcase>", "<testcase/>", "<failure/>", "</testcase>", "<!DOCTYPE x>", "1..2",
     "1..99", "ok 1", "not ok 2", " # SKIP", "{", "}", '{"Action":"pass","Test":"A"}', '{"Action":', "3 passed in 0.1s",
     "Ran 2 tests in 1s", "OK", "PASS", "--- PASS: A (0.0s)", "Tests: 4 passed", "0 passing (",
     "Bail out!", "2 tests completed, 3 failed", "\n", " ", "&a;", "\0",
     "9" * 30]
)  # fmt: skip
joined = st.tuples(st.sampled_from(["", "\n"]), st.lists(pieces, max_size=12)).map(lambda each: each[0].join(each[1]))
texts = st.one_of(st.text(max_size=200), joined)


@given(st.one_of(texts.map(lambda text: text.encode("utf-8", "replace")), st.binary(max_size=300)))
def test_any_test_report_is_counted_or_refused(content: bytes) -> None:
    """The number of failed tests never exceeds the number that ran."""
    with contextlib.suppress(ReportInvalid):
        counts = read_report(content)
        assert 0 <= counts.failed <= counts.ran


@pytest.mark.parametrize("name", RUNNERS)
@given(output=texts)
def test_any_runner_output_is_counted_or_refused(name: str, output: str) -> None:
    """There is no other result."""
    with contextlib.suppress(ReportInvalid):
        counts = RUNNERS[name].read(output)
        assert counts is None or (isinstance(counts, Counts) and 0 <= counts.failed <= counts.ran)


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=5), texts)
def test_output_shows_tests_only_for_known_runner(command: list[str], output: str) -> None:
    """The printed text alone proves nothing."""
    found = judge_tests(command, output, None, None, None)

    assert not found.proven or detect_runner(command) is not None
    assert found.nothing == has_no_tests(output) or detect_runner(command) is not None
