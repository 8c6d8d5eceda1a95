"""Output of test runners that ran no tests or some tests, recorded from real runs except for numbers and names."""

import shlex

import pytest

from supply_chain.development.reports import ReportInvalid, read_report
from supply_chain.development.runners import JUDGED, RUNNERS, detect_runner, has_no_tests
from supply_chain.development.tested import judge_tests


@pytest.mark.parametrize(
    "output",
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
def test_has_no_tests_recognizes_output_of_empty_runs(output):
    """Each of these runs ends with exit status 0."""
    assert has_no_tests(output)


@pytest.mark.parametrize(
    "output",
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
def test_has_no_tests_accepts_output_of_real_or_unknown_runs(output):
    """An unknown runner gets the benefit of the doubt."""
    assert not has_no_tests(output)


@pytest.mark.parametrize(
    ("command", "runner"),
    [
        (["/opt/venv/bin/python", "-m", "pytest", "-q"], "pytest"),
        (["python3.12", "-X", "dev", "-B", "-m", "pytest"], "pytest"),
        (["/venv/bin/pytest"], "pytest"),
        (["python", "/venv/bin/pytest", "tests"], "pytest"),
        (["uv", "run", "pytest"], "pytest"),
        (["python3", "-m", "unittest", "-v"], "unittest"),
        (["/tests/clock.test", "-test.v"], "go test"),
        (["go", "test", "./..."], "go test"),
        (["cargo", "test"], "cargo test"),
        (["npx", "jest"], "jest"),
        (["node", "node_modules/.bin/vitest", "run"], "vitest"),
        (["node", "./node_modules/mocha/bin/mocha.js"], "mocha"),
        (["/usr/bin/node", "--test", "/tests"], "node --test"),
        (["./mvnw", "test"], "maven"),
        (["bundle", "exec", "rspec"], "rspec"),
        (["dotnet", "test"], "dotnet test"),
        (["php", "vendor/bin/phpunit"], "phpunit"),
        (["java", "-jar", "/junit-platform-console-standalone.jar"], "junit"),
        (["bats", "tests"], "TAP"),
        (["echo", "3 passed"], None),
        (["sh", "-c", "pytest"], None),
        (["python3", "-c", "print('3 passed in 0.1s')"], None),
        (["python3", "-Bc", "print('3 passed in 0.12s') # /pytest"], None),
        (["python3", "-", "pytest"], None),
        (["python3", "--version", "pytest"], None),
        (["python3", "-Bm", "pytest"], "pytest"),
        (["python3", "-mpytest"], "pytest"),
        (["python3", "-Walways::ResourceWarning", "--check-hash-based-pycs", "never", "-m", "unittest"], "unittest"),
        (["node", "--enable-source-maps", "--test"], "node --test"),
        (["java", "-cp", "/app/*", "org.junit.runner.JUnitCore", "AllTests"], "junit"),
        (["java", "-Xmx64m", "-cp", "/a", "org.junit.platform.console.ConsoleLauncher", "execute"], "junit"),
        (["mvn", "-B", "-pl", "core", "verify"], "maven"),
        (["mvn", "surefire:test"], "maven"),
        (["./gradlew", "--no-daemon", ":app:check"], "gradle"),
        (["npx", "mocha", "-bR", "dot", "test/"], "mocha"),
        (["npx", "jest", "--reporters=default", "--reporters", "jest-junit", "--ci"], "jest"),
        (["pytest", "--import-mode=importlib", "-rA"], "pytest"),
        (["cargo", "test", "-r"], "cargo test"),
        (["prove", "-r", "t"], "TAP"),
        (["node", "-e", "console.log('# pass 3')", "--test"], None),
        (["node", "--eval=1", "--test"], None),
        (["node", "prints.js", "--test"], None),
        (["python3", "-m", "http.server", "pytest"], None),
        (["node", "-e", "pytest"], None),
        (["/clock.test"], None),
        (["npm", "test"], None),
        (["make", "test"], None),
        (["npx"], None),
    ],
)
def test_runner_is_recognized_by_its_command(command, runner):
    """Shells, inline scripts and programs that only print are no runners."""
    found = detect_runner(command)

    assert (found.name if found else None) == runner


@pytest.mark.parametrize(
    "command",
    [
        'go test -exec "echo" ./...', "go test --exec=/app/print ./...", "go test -toolexec=/app/print ./...",
        "mvn exec:exec", "mvn", "mvn -f test", "mvn -Dtest=A validate", "gradle -q say", "./gradlew -x test", "gradle",
        "java -cp /app Main junit", "java -jar /app/junit.jar", "java -cp /org.junit.x Main", "java @org.junit.x Main",
        "mocha -R /app/fake.js", "mocha -R./fake", "mocha -R fake", "mocha --reporter=./fake.js", "mocha -bR fake.js",
        "mocha -r ./fake.js", "mocha -br ./fake.js", "mocha --require=./fake.js", "node mocha.js --import ./fake.js",
        "jest --reporters=./fake.js", "jest --reporters default ./fake.js", "vitest --reporter ./fake.ts",
        "node --import ./a.mjs --test", "node --import=data:text/javascript,1 --test", "node -r ./a.js --test",
        "node --require ./a.js --test", "node --loader ./a.mjs --test", "node --experimental-loader=./a.mjs --test",
        "node --test-reporter=./a.mjs --test", "node --test --test-reporter data:text/javascript,1",
        "rspec --require ./fake", "rspec -r./fake", "rspec --req ./fake", "prove --exec echo", "prove -e echo",
        "bats --formatter /app/fake", "bats -F /app/fake t",
        "mocha --dry-run", "rspec --dry-run", "rspec --dry", "pytest --setup-plan", "python -m pytest --collect-only",
    ],
)  # fmt: skip
def test_command_that_replaces_the_tests_is_no_runner(command):
    """A program or module of the application prints in their place."""
    assert detect_runner(shlex.split(command)) is None


@pytest.mark.parametrize(
    ("name", "output", "ran"),
    [
        ("pytest", "..\n3 passed, 1 skipped, 2 warnings in 0.12s\n", 3),
        ("pytest", "==== 3 passed in 0.12s ====\n", 3),
        ("pytest", "==== 2 skipped in 0.01s ====\n", 0),
        ("pytest", "==== no tests ran in 0.00s ====\n", 0),
        ("pytest", "3 passed\n", None),
        ("unittest", "Ran 3 tests in 0.001s\n\nOK (skipped=1)\n", 2),
        ("unittest", "Ran 1 test in 0.001s\n\nOK (skipped=1)\n", 0),
        ("unittest", "Ran 0 tests in 0.000s\n\nNO TESTS RAN\n", 0),
        ("unittest", "Ran 3 tests\n", None),
        ("go", "=== RUN   TestA\n--- PASS: TestA (0.00s)\n    --- PASS: TestA/b (0.00s)\nPASS\n", 2),
        ("go", "ok  \ta/b\t0.002s\n?   \ta/c\t[no test files]\nok  \ta/d\t(cached)\n", None),
        ("go", "=== RUN   TestA\n--- SKIP: TestA (0.00s)\nPASS\nok  \ta/b\t0.002s\n", 0),
        ("go", 'go: downloading x v1\n{"Action":"pass","Test":"A"}\n{"Action":"skip","Test":"B"}\n', 1),
        ("go", "ok  \ta/b\t0.002s [no tests to run]\n", 0),
        ("go", "testing: warning: no tests to run\nPASS\n", 0),
        ("go", "PASS\n", None),
        ("cargo", "test result: ok. 0 passed; 0 failed\n\ntest result: ok. 2 passed; 0 failed\n", 2),
        ("jest", "Test Suites: 1 passed, 1 total\nTests:       1 skipped, 2 passed, 3 total\n", 2),
        ("vitest", " Test Files  1 passed (1)\n      Tests  2 passed | 1 skipped (3)\n", 2),
        ("mocha", "  2 passing (4ms)\n  1 pending\n", 2),
        ("mocha", "  0 passing (1ms)\n", 0),
        ("node", "ℹ tests 3\nℹ pass 2\nℹ fail 0\n", 2),
        ("node", "# tests 3\n# pass 2\n", 2),
        ("maven", "[INFO] Tests run: 4, Failures: 0, Errors: 0, Skipped: 1\n", 3),
        ("rspec", "4 examples, 0 failures, 1 pending\n", 3),
        ("dotnet", "Passed!  - Failed:     0, Passed:     4, Skipped:     0, Total:     4\n", 4),
        ("phpunit", "OK (3 tests, 4 assertions)\n", 3),
        ("phpunit", "No tests executed!\n", 0),
        ("unittest", "Ran 3 tests in 0.001s\r\n\r\nOK\r\n", 3),
        ("unittest", "Ran 3 tests in 0.001s\n" + "a" * 600 + "\nOK\n", None),
        ("jest", "Tests: " + "9" * 5000 + " passed, 1 total\n", None),
        ("mocha", "x" * 600 + "\n  2 passing (4ms)\n", 2),
        ("pytest", "x" * JUDGED + "\n3 passed in 0.12s\n", 3),
        ("pytest", "\n3 passed in 0.12s\n" + "x\n" * JUDGED, None),
        ("junit", "[         3 tests successful      ]\n", 3),
        ("tap", "1..2\nok 1 a\nok 2 b # SKIP no network\n", 1),
        ("tap", "1..1\nok 1 " + "a" * 600 + "\n", 1),
        ("tap", "all is well\n", None),
    ],
)
def test_runner_counts_tests_from_its_summary(name, output, ran):
    """Skipped tests do not count."""
    counts = RUNNERS[name].read(output)

    assert (counts.ran if counts else None) == ran


NODE = "# Subtest: /tests/a.test.js\n{}ok 1 - /tests/a.test.js\n  ---\n  ...\n# tests 1\n# pass {}\n# fail 0\n"


@pytest.mark.parametrize(
    ("name", "output", "counts"),
    [
        ("pytest", "=== 3 failed, 1 passed, 1 error in 0.12s ===\n", (5, 4)),
        ("pytest", "=== 3 xfailed in 0.12s ===\n", (0, 0)),
        ("pytest", "=== 1 passed, 2 xfailed, 1 xpassed in 0.12s ===\n", (2, 0)),
        ("unittest", "Ran 2 tests in 0.001s\n\nOK (expected failures=2)\n", (0, 0)),
        ("unittest", "Ran 4 tests in 0.001s\n\nOK (skipped=1, expected failures=2)\n", (1, 0)),
        ("unittest", "Ran 3 tests in 0.001s\n\nFAILED (failures=1, errors=1, expected failures=1)\n", (2, 2)),
        ("unittest", "Ran 1 test in 0.001s\n\nFAILED (unexpected successes=1)\n", (1, 1)),
        ("go", "--- FAIL: TestA (0.00s)\n--- PASS: TestB (0.00s)\nFAIL\n", (2, 1)),
        ("go", "FAIL\ta/b [build failed]\nok  \ta/c\t0.1s\n", (1, 1)),
        ("go", '{"Action":"fail","Package":"a"}\n', (1, 1)),
        ("cargo", "test result: ok. 2 passed; 0 failed\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n", (4, 1)),
        ("jest", "Test Suites: 1 failed, 1 total\nTests:       1 failed, 1 skipped, 2 passed, 4 total\n", (3, 1)),
        ("jest", "Test Suites: 1 failed, 1 passed, 2 total\nTests:       2 passed, 2 total\n", (3, 1)),
        ("vitest", " Test Files  1 failed (1)\n      Tests  1 failed | 2 passed (3)\n", (3, 1)),
        ("vitest", " Test Files  1 passed (1)\n      Tests  2 passed (2)\n     Errors  1 error\n", (3, 1)),
        ("mocha", "  2 passing (4ms)\n  1 failing\n", (3, 1)),
        ("node", "ℹ pass 2\nℹ fail 1\nℹ cancelled 0\n", (3, 1)),
        ("node", "# pass 2\n# fail 0\n# cancelled 1\n", (3, 1)),
        ("node", NODE.format("", 1), (0, 0)),
        ("node", NODE.format("    ok 1 - adds\n    1..1\n", 1), (1, 0)),
        ("node", "✔ a.test.mjs (30.1ms)\n✔ reads a.js well (1ms)\nℹ pass 2\nℹ fail 0\n", (1, 0)),
        ("maven", "[WARNING] Tests run: 4, Failures: 1, Errors: 1, Skipped: 1\n", (3, 2)),
        ("gradle", "3 tests completed, 3 failed\n", (3, 3)),
        ("gradle", "4 tests completed, 1 failed, 2 skipped\n", (2, 1)),
        ("junit", "[         3 tests successful      ]\n[         1 tests failed          ]\n", (4, 1)),
        ("junit", "Tests run: 3,  Failures: 1\n", (1, 1)),
        ("rspec", "4 examples, 1 failure, 1 pending\n", (3, 1)),
        ("rspec", "1 example, 0 failures, 1 error occurred outside of examples\n", (1, 1)),
        ("dotnet", "Failed!  - Failed:     1, Passed:     3, Skipped:     0, Total:     4\n", (4, 1)),
        ("dotnet", "Total tests: 4\n     Passed: 3\n     Failed: 1\n", (4, 1)),
        ("phpunit", "OK (3 tests, 0 assertions)\n", (0, 0)),
        ("phpunit", "Tests: 3, Assertions: 0, Skipped: 3.\n", (0, 0)),
        ("phpunit", "Tests: 5, Assertions: 2, Skipped: 1, Incomplete: 1, Risky: 1.\n", (2, 0)),
        ("phpunit", "Tests: 4, Assertions: 3, Errors: 1, Failures: 1, Skipped: 1.\n", (3, 2)),
        ("tap", "1..2\nok 1 a\nBail out!\n", (2, 1)),
    ],
)
def test_runner_counts_failures_and_leaves_out_what_did_not_run(name, output, counts):
    """Options let each of these runs end with status 0."""
    found = RUNNERS[name].read(output)

    assert found is not None
    assert (found.ran, found.failed) == counts


JUNIT = (
    b'<testsuites><testsuite><testcase name="a"/><testcase name="b"><skipped/></testcase>%s</testsuite></testsuites>'
)


@pytest.mark.parametrize(
    ("content", "counts"),
    [
        (JUNIT % b"", (1, 0)),
        (JUNIT % b'<testcase><failure message="no"/></testcase>', (2, 1)),
        (JUNIT % b"<testcase><system-out>failure</system-out></testcase>", (2, 0)),
        (b"<testsuite/>", (0, 0)),
        (b"TAP version 14\n1..3\nok 1\nnot ok 2 # TODO later\nok 3 # skip\n", (1, 0)),
        (b"1..3\nok 1\nBail out! no database\n", (2, 1)),
        (b"Bail out!\n", (1, 1)),
        (b"1..1\nnot ok 1\n", (1, 1)),
        (b"1..0\n", (0, 0)),
        (b'{"Action":"run","Test":"A"}\n{"Action":"pass","Test":"A"}\n{"Action":"pass"}\n', (1, 0)),
        (b'{"Action":"fail","Test":"A"}\n', (1, 1)),
        (b'{"Action":"skip","Test":"A"}\n', (0, 0)),
        (b'{"Action":"pass","Test":"A"}\n{"Action":"fail","Package":"b"}\n', (2, 1)),
        (b'{"Action":"build-fail","ImportPath":"b"}\n', (1, 1)),
        (JUNIT % b'<testcase status="notrun"/><testcase result="suppressed"/><testcase status="disabled"/>', (1, 0)),
        (JUNIT % b'<testcase status="run" result="completed"/><testcase status="failed"/>', (3, 1)),
        (JUNIT % b'<testcase xmlns:x="x"><x:skipped/></testcase><error message="no set-up"/>', (2, 1)),
        (JUNIT % b"<testcase><skipped/><failure/></testcase>", (2, 1)),
        (b'<testsuite errors="1"><testcase/></testsuite>', (2, 1)),
        (b'<testsuite errors="0" failures="1"><testcase><failure/></testcase></testsuite>', (1, 1)),
    ],
)
def test_read_report_counts_tests_in_each_format(content, counts):
    """The formats are JUnit XML, TAP and test2json."""
    found = read_report(content)

    assert (found.ran, found.failed) == counts


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"12 passed",
        b"<html/>",
        JUNIT[:60],
        b'<!DOCTYPE x [<!ENTITY a "b">]><testsuites>&a;</testsuites>',
        b"<testsuite>" * 101,
        b"1..3\nok 1\n",
        b'{"Action": 1}',
        b"{}\n[]",
        b"<testsuites>" + b" " * 16 * 1024 * 1024,
    ],
    ids=["empty", "prose", "html", "cut", "entity", "deep", "fewer than planned", "no action", "list", "large"],
)
def test_read_report_refuses_invalid_report(content):
    """An empty file is not a report without tests."""
    with pytest.raises(ReportInvalid):
        read_report(content)


PYTEST, PRINTS = ["python", "-m", "pytest"], ["echo", "12 passed in 0.1s"]


@pytest.mark.parametrize(
    ("command", "output", "path", "report", "ran", "nothing", "failed"),
    [
        (PYTEST, "12 passed in 0.1s", None, None, True, False, False),
        (PYTEST, "no tests ran in 0.1s", None, None, False, True, False),
        (PYTEST, "all is well", None, None, False, False, False),
        (PRINTS, "12 passed in 0.1s", None, None, False, False, False),
        (PRINTS, "no tests found", None, None, False, True, False),
        (PRINTS, "", None, None, False, True, False),
        (["bats"], "1..2\nok 1\n", None, None, False, False, False),
        (PYTEST, "3 failed, 1 passed in 0.1s", None, None, False, False, True),
        (["go", "test", "./..."], "ok  \ta/b\t0.002s\n", None, None, False, False, False),
        (PRINTS, "", "/r.xml", JUNIT % b"", True, False, False),
        (PRINTS, "12 passed", "/r.xml", b"<testsuites/>", False, True, False),
        (PYTEST, "12 passed in 0.1s", "/r.xml", None, False, False, True),
        (PYTEST, "12 passed in 0.1s", "/r.xml", b"rubbish", False, False, True),
        (PYTEST, "12 passed in 0.1s", "/r.xml", b"1..1\nnot ok 1\n", False, False, True),
    ],
)
def test_judge_tests_decides_by_report_or_runner_summary(command, output, path, report, ran, nothing, failed):
    """A declared report has precedence over the output; a missing report or a reported failure fails the run."""
    found = judge_tests(command, output, path, report, None)

    assert (found.proven, found.nothing, bool(found.failed)) == (ran, nothing, failed)
    assert found.proven or found.nothing or found.failed or found.why


HOSTILE = {
    "items": "1 a, " * (JUDGED // 5),
    "items on lines": ("1 a, " * 99 + "\n") * (JUDGED // 496),
    "line feeds": "\n" * JUDGED,
    "blanks": " " * JUDGED,
    "tabs on lines": ("\t" * 400 + "\n") * (JUDGED // 401),
    "digits": "1" * JUDGED,
    "a result and line feeds": "Ran 1 test in 1s" + "\n" * JUDGED,
    "results": "Ran 1 test in 1s\n" * (JUDGED // 17),
    "results and line feeds": ("Ran 1 test in 1s" + "\n" * 5000) * (JUDGED // 5016),
    "packages": "ok " * (JUDGED // 3),
    "packages on lines": "ok\n" * (JUDGED // 3),
    "summaries": "Tests: " * (JUDGED // 7),
    "summaries on lines": ("Tests: " * 70 + "\n") * (JUDGED // 491),
    "returns": "\r" * JUDGED,
    "line feeds and nothing": "\n" * (JUDGED - 8) + "0 tests\n",
    "more than is judged": ("1 a, " * 99 + "\n") * (JUDGED // 496 * 3),
}
"""Output that a container may print to slow down the reader, which blocks every other Python thread meanwhile."""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", RUNNERS)
@pytest.mark.parametrize("output", HOSTILE.values(), ids=HOSTILE)
def test_runner_reads_hostile_output_in_time(name, output):
    """The search takes time in proportion to the length of the output."""
    counts = RUNNERS[name].read(output)

    assert counts is None or counts.ran >= 0


@pytest.mark.timeout(60)
@pytest.mark.parametrize("output", HOSTILE.values(), ids=HOSTILE)
def test_has_no_tests_reads_hostile_output_in_time(output):
    """Only the outputs of blanks and of `0 tests` count as no tests."""
    assert has_no_tests(output) == (output.isspace() or output.endswith("0 tests\n"))
