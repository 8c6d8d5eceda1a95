"""What runners print when they test nothing, and when they test something: recorded, but for numbers and names."""

import pytest

from supply_chain.development.runners import nothing_tested


@pytest.mark.parametrize(
    "said",
    [
        "",
        "\n  \n",
        "\n----------------------------------------------------------------------\nRan 0 tests in 0.000s\n\nOK\n",
        "s\n-----\nRan 1 test in 0.000s\n\nOK (skipped=1)\n",
        "sss\n-----\nRan 3 tests in 0.001s\n\nOK (skipped=3)\n",
        "=== test session starts ===\ncollected 0 items\n\n=== no tests ran in 0.00s ===\n",
        "collected 2 items\n\ntest_x.py ss   [100%]\n\n===== 2 skipped in 0.01s =====\n",
        "testing: warning: no tests to run\nPASS\n",
        "testing: warning: no tests to run\nPASS\nok  \texample.org/clock\t0.002s [no tests to run]\n",
        "?   \texample.org/clock\t[no test files]\n",
        "running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        "No tests found, exiting with code 0\n",
        "\n  0 passing (1ms)\n",
        "TAP version 13\n1..0\n# tests 0\n# pass 0\n# fail 0\n",
        "Tests run: 0, Failures: 0, Errors: 0, Skipped: 0\n",
        "Finished in 0.00026 seconds\n0 examples, 0 failures\n",
        "No tests executed!\n",
    ],
)
def test_a_run_of_nothing_is_seen(said):
    """Each of them ends with status 0."""
    assert nothing_tested(said)


@pytest.mark.parametrize(
    "said",
    [
        "test_a (tests.T) ... ok\n\n-----\nRan 1 test in 0.001s\n\nOK\n",
        "Ran 3 tests in 0.001s\n\nOK (skipped=1)\n",
        "Ran 13 tests in 0.001s\n\nOK (skipped=3)\n",
        "collected 2 items\n\ntest_x.py s.   [100%]\n\n===== 1 passed, 1 skipped in 0.01s =====\n",
        "===== 120 passed in 3.01s =====\n",
        "=== RUN   TestNow\n--- PASS: TestNow (0.00s)\nPASS\n",
        "PASS\n",
        "?   \texample.org/a\t[no test files]\nok  \texample.org/b\t0.002s\nok  \texample.org/c\t(cached)\n",
        "test result: ok. 0 passed; 0 failed\n\ntest result: ok. 2 passed; 0 failed\n",
        "Test Suites: 1 passed, 1 total\nTests:       2 passed, 2 total\n",
        "  2 passing (4ms)\n  1 pending\n",
        "TAP version 13\nok 1 - adds\n1..1\n# tests 1\n# pass 1\n",
        "Tests run: 4, Failures: 0, Errors: 0, Skipped: 0\n",
        "4 examples, 0 failures\n",
        "all is well\n",
    ],
)
def test_a_run_of_something_is_believed(said):
    """And so is a runner that nobody knows here."""
    assert not nothing_tested(said)
