"""Recognition of test runners by their command, and the parsers of their reports.

Status 0 and a line such as `3 passed` prove nothing, because `echo` can produce both. A run counts as a run of tests if
its command is a known runner that reports in its own format, or if the declaration names a machine-readable report.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

from supply_chain.development.python_command import is_interpreter, parse_arguments
from supply_chain.development.reports import Counts, read_go, read_tap

JUDGED = 512 * 1024
"""Characters at the end of an output that are judged. An output is both streams, as far as the engine returns them."""
LONGEST_LINE = 500
"""Largest number of characters in a line of a runner's summary."""
OMITTED = "…"
"""Replaces a line that is not judged; no runner prints it."""


@dataclass(frozen=True)
class Runner:
    """A test runner and its report format."""

    name: str
    count: Callable[[str], Counts | None]
    """Returns how many tests ran, from the end of the output; None if the output has no report."""
    line: int | None = LONGEST_LINE
    """Largest number of characters in a line of the report; None if the parser accepts lines of any length."""
    advice: str = "let it print its summary"
    """How to make it report."""

    def read(self, output: str) -> Counts | None:
        """Count the tests that ran; return None if the output has no report."""
        return self.count(_last_part(output, self.line))


def _last_part(output: str, line: int | None = LONGEST_LINE) -> str:
    """Return the end of an output, with `OMITTED` for each line that is cut or has more than `line` characters.

    A container can print anything, and a search takes time that grows with the square of a line's length.
    """
    lines = output[-JUDGED:].split("\n")
    if len(output) > JUDGED:
        lines[0] = OMITTED
    return "\n".join(OMITTED if line is not None and len(each) > line else each for each in lines)


def _sum(
    *patterns: str, failed: Sequence[str] = (), skipped: str = "", total: bool = False
) -> Callable[[str], Counts | None]:
    """Return a function that adds up the numbers that the first matching pattern finds.

    Each group is a number. `patterns` find the tests that passed; with `total`, all tests, and `skipped` finds those of
    them that did not run. Of `failed`, the pattern with the largest sum counts.
    """
    passes, failures = ([re.compile(each, re.MULTILINE) for each in some] for some in (patterns, failed))
    left_out = re.compile(skipped, re.MULTILINE) if skipped else None

    def read(output: str) -> Counts | None:
        bad = [sum(numbers) for pattern in failures if (numbers := _find_numbers(pattern, output))]
        good = next((sum(numbers) for pattern in passes if (numbers := _find_numbers(pattern, output))), None)
        if good is None and not bad:
            return None
        most = max(bad, default=0)
        without = sum(_find_numbers(left_out, output)) if left_out else 0
        return Counts(max(most, (good or 0) - without) if total else (good or 0) + most, most)

    return read


def _find_numbers(pattern: re.Pattern[str], output: str) -> list[int]:
    return [_number(group) for match in pattern.finditer(output) for group in match.groups(default="")]


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _pytest(output: str) -> Counts | None:
    """Read the last line: `=== 3 passed, 1 skipped in 0.12s ===`, or the same without `=` under `-q`."""
    for line in reversed(output.splitlines()):
        if re.search(r"\b(?:no tests ran|\d+ [a-z]+(?:, \d+ [a-z]+)*) in \d+(?:\.\d+)?s\b", line):
            counts = [
                (int(number), what) for number, what in re.findall(r"(\d+) (passed|failed|errors?|xpassed)\b", line)
            ]
            failed = sum(number for number, what in counts if what not in ("passed", "xpassed"))
            return Counts(sum(number for number, _ in counts), failed)
    return None


def _unittest(output: str) -> Counts | None:
    """Read `Ran 3 tests in 0.1s`, an optional empty line, and `OK (skipped=1)`."""
    counts = re.findall(
        r"^Ran (\d+) tests? in \d+(?:\.\d+)?s[ \t\r]*\n(?:[ \t\r]*\n)?(OK\b.*|NO TESTS RAN.*|FAILED\b.*)$",
        output,
        re.MULTILINE,
    )
    if not counts:
        return None
    ran = failed = 0
    for number, how in counts:
        left_out = sum(map(_number, re.findall(r"\b(?:skipped|expected failures)=(\d+)", how)))
        failures = re.findall(r"(?<!expected )\b(?:failures|errors|unexpected successes)=(\d+)", how)
        bad = max(sum(map(_number, failures)), int(how.startswith("FAILED")))
        failed += bad
        ran += max(bad, int(number) - left_out)
    return Counts(ran, failed)


def _go(output: str) -> Counts | None:
    """Count the tests under `-v` or `-json`. A line such as `ok path 0.1s` does not say that a test ran."""
    passed, failed, skipped = (
        len(re.findall(rf"^[ \t]*--- {what}: \S+ \(\d", output, re.MULTILINE)) for what in ("PASS", "FAIL", "SKIP")
    )
    failed = failed or len(re.findall(r"^FAIL(?:$|\t)", output, re.MULTILINE))
    if passed or failed or skipped:
        return Counts(passed + failed, failed)
    events = [line for line in output.splitlines() if line.startswith("{") and '"Action":' in line]
    if events:
        return read_go("\n".join(events))
    if re.search(r"^ok[ \t]+\S+[ \t]+(?:\d|\(cached\))(?!.*\[no tests)", output, re.MULTILINE):
        return None
    return Counts(0) if re.search(r"no tests to run|\[no test files\]", output) else None


_count_node = _sum(r"^(?:#|ℹ) pass (\d+)$", failed=[r"^(?:#|ℹ) fail (\d+)$", r"^(?:#|ℹ) cancelled (\d+)$"])


def _node(output: str) -> Counts | None:
    """Read the summary, without the files that node lists as tests because they have none."""
    counts = _count_node(output)
    if counts is None:
        return None
    before, files = "", 0
    for line in output.splitlines():
        files += bool(FILE_ENTRY.match(line)) and not NODE_PLAN.match(before)
        before = line
    return Counts(max(counts.failed, counts.ran - files), counts.failed)


FILE_ENTRY = re.compile(r"(?:ok \d+ - .*\.[cm]?[jt]s|✔ .*\.[cm]?[jt]s \([\d.]+ms\))$")
"""Line of `node --test` about a file that passed."""
NODE_PLAN = re.compile(r"[ ]+1\.\.\d")
"""Line before that of a file that has tests, which is not counted."""
MAVEN, SKIPS = r"^(?:\[\w+\] +)?Tests run: ", r", Skipped: "
PHPUNIT = r"^Tests: \d+, Assertions: \d+"
DOTNET = r"^\w+![ \t]+-[ \t]+Failed:[ \t]+"
RUNNERS = {
    "pytest": Runner("pytest", _pytest),
    "unittest": Runner("unittest", _unittest),
    "go": Runner("go test", _go, advice="let it name each test (`-v` or `-json`)"),
    "cargo": Runner("cargo test", _sum(r"^test result: \w+\. (\d+) passed; ",
                                       failed=[r"^test result: \w+\. \d+ passed; (\d+) failed"])),
    "jest": Runner("jest", _sum(r"^Tests:.*?\b(\d+) passed\b", r"^Tests:.*?\b(0) total\b",
                                failed=[r"^Tests:.*?\b(\d+) failed\b", r"^Test Suites:.*?\b(\d+) failed\b"])),
    "vitest": Runner("vitest", _sum(r"^[ \t]*Tests[ \t].*?\b(\d+) passed\b",
                                    failed=[r"^[ \t]*Tests[ \t]+(\d+) failed\b",
                                            r"^[ \t]*Test Files[ \t]+(\d+) failed\b",
                                            r"^[ \t]*Errors[ \t]+(\d+) errors?\b"])),
    "mocha": Runner("mocha", _sum(r"^[ \t]*(\d+) passing \(", failed=[r"^[ \t]*(\d+) failing\b"])),
    "node": Runner("node --test", _node),
    "maven": Runner("maven", _sum(rf"{MAVEN}(\d+), Failures: \d+, Errors: \d+{SKIPS}\d+[ \t\r]*$",
                                  failed=[rf"{MAVEN}\d+, Failures: (\d+), Errors: (\d+){SKIPS}\d+[ \t\r]*$"],
                                  skipped=rf"{MAVEN}\d+, Failures: \d+, Errors: \d+{SKIPS}(\d+)[ \t\r]*$", total=True)),
    "gradle": Runner("gradle", _sum(r"^(\d+) tests? completed\b", failed=[r"^\d+ tests? completed, (\d+) failed\b"],
                                    skipped=r"^\d+ tests? completed(?:, \d+ failed)?, (\d+) skipped\b", total=True)),
    "junit": Runner("junit", _sum(r"^\[[ \t]*(\d+) tests successful[ \t]*\]$", r"^OK \((\d+) tests?\)$",
                                  failed=[r"^\[[ \t]*(\d+) tests failed[ \t]*\]$",
                                          r"^\[[ \t]*(\d+) containers failed[ \t]*\]$",
                                          r"^Tests run: \d+,[ \t]+Failures: (\d+)"])),
    "rspec": Runner("rspec", _sum(r"^(\d+) examples?, \d+ failures?\b",
                                  failed=[r"^\d+ examples?, (\d+) failures?\b",
                                          r"^\d+ examples?, .*?\b(\d+) errors? occurred outside\b"],
                                  skipped=r"^\d+ examples?, \d+ failures?, (\d+) pending", total=True)),
    "dotnet": Runner("dotnet test", _sum(rf"{DOTNET}\d+, Passed:[ \t]+(\d+),", r"^[ \t]+Passed: (\d+)$",
                                         failed=[rf"{DOTNET}(\d+),", r"^[ \t]+Failed: (\d+)$"])),
    "phpunit": Runner("phpunit", _sum(r"^OK \((\d+) tests?, [1-9]\d* assertions?\)$",
                                      r"^OK \(\d+ tests?, (0) assertions\)$",
                                      r"^Tests: (\d+), Assertions: [1-9]\d*", r"^Tests: \d+, Assertions: (0)\b",
                                      r"^No tests executed(!)$",
                                      failed=[rf"{PHPUNIT}(?:, Errors: (\d+))?(?:, Failures: (\d+))?"],
                                      skipped=r"^Tests: (?:.*?, Skipped: (\d+))?(?:.*?, Incomplete: (\d+))?"
                                              r"(?:.*?, Risky: (\d+))?",
                                      total=True)),
    "tap": Runner("TAP", read_tap, line=None),
}  # fmt: skip
"""Runner → its report format. Other output of a runner is not read."""
PROGRAMS = {
    "pytest": "pytest", "py.test": "pytest", "jest": "jest", "vitest": "vitest", "mocha": "mocha", "_mocha": "mocha",
    "rspec": "rspec", "phpunit": "phpunit", "bats": "tap", "prove": "tap", "tap": "tap", "mvn": "maven",
    "mvnw": "maven", "gradle": "gradle", "gradlew": "gradle",
}  # fmt: skip
"""Program → its runner."""
SUBCOMMANDS = {
    ("go", "test"): "go",
    ("cargo", "test"): "cargo",
    ("cargo", "nextest"): "cargo",
    ("dotnet", "test"): "dotnet",
}
"""Program and first argument → their runner."""
REPLACED = re.compile(
    r"--?(?:tool)?exec(?:=.*)?|--(?:req\w*|import|(?:experimental-)?loader)(?:=.*)?"
    r"|--(?:dry\S*|setup-only|setup-plan|collect-only|co)",
    re.DOTALL,
)
"""Option that names a program to run in place of the tests, or a module to load before them, or that runs none."""
LOADS = {
    "mocha": re.compile(r"-[A-Za-z]*r"),
    "node": re.compile(r"-r"),
    "rspec": re.compile(r"-r"),
    "tap": re.compile(r"-e"),
}
"""Runner → short form of such an option; for TAP, `-e` of prove."""
REPORTER = re.compile(r"--(?:test-|report-)?(?:reporters?|formatter)(?:=(?P<value>.*))?", re.DOTALL)
SHORT_REPORTER = {
    "mocha": re.compile(r"-[A-Za-z]*R=?(?P<value>.*)", re.DOTALL),
    "tap": re.compile(r"-[RF]=?(?P<value>.*)", re.DOTALL),
}
"""Option that chooses a reporter; runner → its short form."""
MOCHA_REPORTERS = ("spec", "dot", "nyan", "tap", "landing", "list", "progress", "min", "doc")
"""Reporters of mocha itself for a terminal; it looks for another name also among the files."""
GOALS = {
    "maven": re.compile(r"(?:surefire:|failsafe:)?(?:test|verify|integration-test|install|package)"),
    "gradle": re.compile(r"(?:.*:)?(?:test|check|build|integrationTest|integration-test)"),
}
"""Runner → its goals or tasks that run tests."""
VALUED = {
    "maven": {"-f", "--file", "-pl", "--projects", "-P", "--activate-profiles", "-s", "--settings", "-gs",
              "--global-settings", "-t", "--toolchains", "-l", "--log-file", "-T", "--threads", "-rf", "--resume-from",
              "-D", "--define", "-b", "--builder"},
    "gradle": {"-p", "--project-dir", "-b", "--build-file", "-c", "--settings-file", "-I", "--init-script", "-g",
               "--gradle-user-home", "-x", "--exclude-task", "-P", "--project-prop", "-D", "--system-prop",
               "--include-build", "--tests"},
    "java": {"-cp", "-classpath", "--class-path", "-p", "--module-path", "--add-modules",},
}  # fmt: skip
"""Program → its options whose value is the next argument."""
JUNIT = re.compile(r"org\.junit\..*|(?:.*/)?junit-platform-console[^/]*\.jar")
"""JUnit's main classes, and the file with its console."""
LAUNCHERS = (
    "npx",
    "bunx",
    "uv",
    "poetry",
    "pdm",
    "hatch",
    "bundle",
    "pipenv",
    "run",
    "exec",
    "tini",
    "--",
    "dumb-init",
)
"""Words that can come before the name of a runner in a command."""


def detect_runner(command: Sequence[str]) -> Runner | None:
    """Return the runner that a command starts; None if it is not known.

    A shell with a script is not a runner, because its output can come from anything.
    """
    words = list(command)
    while words and posixpath.basename(words[0]) in LAUNCHERS:
        words.pop(0)
    if not words:
        return None
    program, arguments = posixpath.basename(words[0]), words[1:]
    name = (
        _of_interpreter(program, arguments)
        or PROGRAMS.get(program.removesuffix(".phar"))
        or SUBCOMMANDS.get((program, arguments[0] if arguments else ""))
        or ("go" if program.endswith(".test") and any(a.startswith("-test.") for a in arguments) else None)
    )
    return RUNNERS[name] if name and _runs_tests(name, arguments) else None


def _runs_tests(name: str, arguments: Sequence[str]) -> bool:
    """Return whether a runner with these arguments runs tests, and no program or module that prints in their place."""
    if any(REPLACED.fullmatch(word) or (name in LOADS and LOADS[name].match(word)) for word in arguments):
        return False
    if name in GOALS:
        return any(GOALS[name].fullmatch(word) for word in _positional(arguments, VALUED[name]))
    return all(
        value in MOCHA_REPORTERS if name == "mocha" else re.fullmatch(r"[\w-]+", value)
        for value in _reporters(name, arguments)
    )


def _positional(arguments: Sequence[str], valued: Collection[str]) -> Iterator[str]:
    """Yield the arguments that are neither an option nor the value of one of the options `valued`."""
    for before, word in zip(("", *arguments), arguments, strict=False):
        if not word.startswith("-") and before not in valued:
            yield word


def _reporters(name: str, arguments: Sequence[str]) -> Iterator[str]:
    """Yield the values of the options that choose a reporter; jest's option has all arguments up to the next one."""
    short = SHORT_REPORTER.get(name)
    for at, word in enumerate(arguments, start=1):
        match = REPORTER.fullmatch(word) or (short and short.fullmatch(word))
        if not match:
            continue
        after = takewhile(lambda each: not each.startswith("-"), arguments[at:])
        most = None if name == "jest" else int(not match["value"])
        yield from (*([match["value"]] if match["value"] else []), *islice(after, most))


def _of_interpreter(program: str, arguments: Sequence[str]) -> str | None:
    """Return the name of the runner that an interpreter is asked to run; None if it is not known."""
    if is_interpreter(program):
        return _of_python(arguments)
    if program in ("node", "nodejs") and _starts_tests(arguments):
        return "node"
    if program in ("node", "nodejs", "php"):
        first = next(iter(arguments), "-")
        return None if first.startswith("-") else PROGRAMS.get(_script(first))
    if program == "java":
        main = next(_positional(arguments, VALUED["java"]), "")
        return "junit" if JUNIT.fullmatch(main) else None
    return None


def _starts_tests(arguments: Sequence[str]) -> bool:
    """Return whether node's options have `--test`, and no code to run in place of tests."""
    options = arguments[: arguments.index("--test")] if "--test" in arguments else ()
    pairs = zip(("", *options), options, strict=False)
    return "--test" in arguments and all(
        before.startswith("-") if not word.startswith("-") else not re.match(r"-\w*[ep]|--(eval|print)\b", word)
        for before, word in pairs
    )


def _of_python(arguments: Sequence[str]) -> str | None:
    """Return the runner that `-m` or a script's path names; None for `-c`, which can run anything."""
    program = parse_arguments(arguments)
    if _script(program.script) in ("pytest", "py.test"):
        return "pytest"
    return {"pytest": "pytest", "unittest": "unittest", "xmlrunner": "unittest"}.get(program.module)


def _script(path: str) -> str:
    """Return a script's name without its directory and extension."""
    return re.sub(r"\.(c|m)?js$|\.phar$", "", posixpath.basename(path))


SKIPPED = re.compile(r"\bRan (\d+) tests? in \S+\s+OK \(skipped=\1\)")
"""unittest's summary of a run that skipped all tests, which unittest counts as run."""

SOMETHING = re.compile(
    r"\b[1-9]\d* (?:passed|passing)\b"  # pytest, cargo, jest, vitest, mocha
    r"|\b[1-9]\d* (?:tests?|examples?|specs?)\b(?! (?:skipped|filtered|deselected|files?))"  # unittest, RSpec
    r"|\bTests run: [1-9]"  # JUnit
    r"|^# pass [1-9]|^ok \d"  # TAP, node
    r"|^[ \t]*--- PASS\b|^ok[ \t]+\S+[ \t]+[\d(](?!.*\[no tests)",  # go
    re.IGNORECASE | re.MULTILINE,
)

NOTHING = re.compile(
    r"\b0 (?:tests?|passed|passing|examples|specs)\b|\bTests run: 0\b|^1\.\.0\b|^# (?:tests|pass) 0\b"
    r"|\bno tests? (?:ran|to run|found|executed|files)\b|\bcollected 0 items\b|\b[1-9]\d* skipped\b",
    re.IGNORECASE | re.MULTILINE,
)


def has_no_tests(output: str) -> bool:
    """Return whether a run that ended with status 0 prints that it tested nothing, or prints nothing at all.

    This decides only about runs without a report that counts. It cannot show that a run tested anything.
    """
    judged = SKIPPED.sub("Ran 0 tests", _last_part(output))
    return not output.strip() or bool(NOTHING.search(judged) and not SOMETHING.search(judged))
