"""Recognition of test runners by their command, and the parsers of their reports.

Status 0 and a line such as `3 passed` prove nothing, because `echo` can produce both. A run counts as a run of tests if
its command is a known runner that reports in its own format, or if the declaration names a machine-readable report.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from supply_chain.development.reports import Counts, read_tap

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


def _sum(*patterns: str, skipped: str = "") -> Callable[[str], Counts | None]:
    """Return a function that adds up the numbers that the first matching pattern finds.

    Each pattern has one group, the number. What `skipped` finds is subtracted.
    """
    compiled = [re.compile(pattern, re.MULTILINE) for pattern in patterns]
    left_out = re.compile(skipped, re.MULTILINE) if skipped else None

    def read(output: str) -> Counts | None:
        for pattern in compiled:
            if numbers := pattern.findall(output):
                without = sum(map(_number, left_out.findall(output))) if left_out else 0
                return Counts(max(0, sum(map(_number, numbers)) - without))
        return None

    return read


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _pytest(output: str) -> Counts | None:
    """Read the last line: `=== 3 passed, 1 skipped in 0.12s ===`, or the same without `=` under `-q`."""
    for line in reversed(output.splitlines()):
        if re.search(r"\b(?:no tests ran|\d+ [a-z]+(?:, \d+ [a-z]+)*) in \d+(?:\.\d+)?s\b", line):
            counts = re.findall(r"(\d+) (passed|failed|errors?|xfailed|xpassed)\b", line)
            return Counts(sum(int(number) for number, what in counts if what in ("passed", "xpassed", "xfailed")))
    return None


def _unittest(output: str) -> Counts | None:
    """Read `Ran 3 tests in 0.1s`, an optional empty line, and `OK (skipped=1)`."""
    counts = re.findall(
        r"^Ran (\d+) tests? in \d+(?:\.\d+)?s[ \t\r]*\n(?:[ \t\r]*\n)?(OK\b.*|NO TESTS RAN.*)$", output, re.MULTILINE
    )
    if not counts:
        return None
    ran = 0
    for number, how in counts:
        skipped = re.search(r"skipped=(\d+)", how)
        ran += max(0, int(number) - (int(skipped[1]) if skipped else 0))
    return Counts(ran)


def _go(output: str) -> Counts | None:
    """Count the tests under `-v`, and otherwise the tested packages, such as `ok path 0.1s`."""
    verbose = re.findall(r"^[ \t]*--- PASS: \S+ \(\d", output, re.MULTILINE)
    packages = re.findall(r"^ok[ \t]+\S+[ \t]+(?:\d|\(cached\))(?!.*\[no tests)", output, re.MULTILINE)
    nothing = re.search(r"no tests to run|\[no test files\]", output)
    ended = re.search(r"^PASS$", output, re.MULTILINE)
    if verbose or packages:
        return Counts(max(len(verbose), len(packages)))
    return Counts(0) if nothing else Counts(1) if ended else None


MAVEN, REST = r"(?:\[\w+\] +)?", r", Failures: \d+, Errors: \d+, Skipped: "
RUNNERS = {
    "pytest": Runner("pytest", _pytest),
    "unittest": Runner("unittest", _unittest),
    "go": Runner("go test", _go),
    "cargo": Runner("cargo test", _sum(r"^test result: ok\. (\d+) passed; ")),
    "jest": Runner("jest", _sum(r"^Tests:.*?\b(\d+) passed\b", r"^Tests:.*?\b(0) total\b")),
    "vitest": Runner("vitest", _sum(r"^[ \t]*Tests[ \t].*?\b(\d+) passed\b")),
    "mocha": Runner("mocha", _sum(r"^[ \t]*(\d+) passing \(")),
    "node": Runner("node --test", _sum(r"^(?:#|ℹ) pass (\d+)$")),
    "maven": Runner("maven", _sum(rf"^{MAVEN}Tests run: (\d+){REST}\d+[ \t\r]*$",
                                  skipped=rf"^{MAVEN}Tests run: \d+{REST}(\d+)[ \t\r]*$")),
    "gradle": Runner("gradle", _sum(r"^(\d+) tests completed\b")),
    "junit": Runner("junit", _sum(r"^\[[ \t]*(\d+) tests successful[ \t]*\]$", r"^OK \((\d+) tests?\)$")),
    "rspec": Runner("rspec", _sum(r"^(\d+) examples?, 0 failures\b",
                                  skipped=r"^\d+ examples?, 0 failures, (\d+) pending")),
    "dotnet": Runner("dotnet test", _sum(r"^Passed![ \t]+-[ \t]+Failed:[ \t]+0, Passed:[ \t]+(\d+),",
                                         r"^[ \t]+Passed: (\d+)$")),
    "phpunit": Runner("phpunit", _sum(r"^OK \((\d+) tests?, \d+ assertions?\)$", r"^Tests: (\d+), Assertions: [1-9]\d*",
                                      r"^No tests executed(!)$")),
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
    return RUNNERS[name] if name else None


def _of_interpreter(program: str, arguments: Sequence[str]) -> str | None:
    """Return the name of the runner that an interpreter is asked to run; None if it is not known."""
    if re.fullmatch(r"(python|pypy)(\d(\.\d+)?)?", program):
        return _of_python(arguments)
    if program in ("node", "nodejs") and "--test" in arguments:
        return "node"
    if program in ("node", "nodejs", "php"):
        first = next(iter(arguments), "-")
        return None if first.startswith("-") else PROGRAMS.get(_script(first))
    if program == "java":
        return "junit" if any("junit" in each.lower() for each in arguments) else None
    return None


def _of_python(arguments: Sequence[str]) -> str | None:
    """Return the runner that `-m` or a script's path names; None for `-c`, which can run anything."""
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word == "-m":
            module = words[0] if words else ""
            return {"pytest": "pytest", "unittest": "unittest", "xmlrunner": "unittest"}.get(module)
        if word in ("-W", "-X"):
            words = words[1:]
        elif not word.startswith("-") or word == "-c":
            return "pytest" if _script(word) in ("pytest", "py.test") else None
    return None


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
