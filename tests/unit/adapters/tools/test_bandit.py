"""Tests of the check of Python sources, with recorded reports and with bandit itself."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from supply_chain.adapters.files import selection
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools import bandit
from supply_chain.adapters.tools.bandit import (
    LARGEST,
    SOURCE_VERSION,
    ReadSources,
    SourceScan,
    judge_reports,
    parse_report,
    scan_source,
)
from supply_chain.development.review import apply_reviews
from supply_chain.errors import CheckIncomplete
from supply_chain.evidence.checks import Check, CheckResult, Outcome
from supply_chain.model.declaration import ReviewedFindings
from tests.support.python_tools import BANDIT


def now() -> datetime:
    return datetime(2026, 11, 24, tzinfo=UTC)


def report(*results: dict[str, Any], errors: tuple[dict[str, str], ...] = ()) -> str:
    """Return a report of bandit about one file."""
    metrics = {"././app.py": {"loc": 7}, "_totals": {"loc": 7}}
    return json.dumps({"errors": errors, "generated_at": "", "metrics": metrics, "results": results})


def finding(severity: str, filename: str = "./app.py", test_id: str = "B602") -> dict[str, Any]:
    text = "subprocess call\nwith shell=True"
    return {"test_id": test_id, "issue_severity": severity, "issue_text": text, "filename": filename,
            "line_number": 3, "code": "…", "issue_confidence": "HIGH"}  # fmt: skip


@pytest.mark.parametrize("severity", ["MEDIUM", "HIGH"])
def test_medium_and_high_findings_fail_the_check(severity: str):
    """Each finding names its file and line."""
    _, warned, failed = judge_reports([parse_report(report(finding(severity)))])

    assert warned == ()
    assert failed == (f"app.py:3: {severity.lower()}: subprocess call with shell=True (B602)",)


@pytest.mark.parametrize("severity", ["LOW", "UNDEFINED"])
def test_low_and_undefined_findings_warn(severity: str):
    """They are reported but refuse nothing."""
    _, warned, failed = judge_reports([parse_report(report(finding(severity)))])

    assert (len(warned), failed) == (1, ())


@pytest.mark.parametrize("name", ["./tests/test_app.py", "./test_app.py", "./app/tests/helpers.py", "./conftest.py"])
def test_asserts_in_tests_are_no_finding(name: str):
    """Tests consist of assertions."""
    _, warned, failed = judge_reports([parse_report(report(finding("LOW", name, "B101")))])

    assert (warned, failed) == ((), ())


@pytest.mark.parametrize("name", ["./app.py", "./attests/app.py", "./latest_app.py"])
def test_asserts_outside_of_tests_warn(name: str):
    """Optimised bytecode has no assertions, so no check may depend on one."""
    _, warned, _ = judge_reports([parse_report(report(finding("LOW", name, "B101")))])

    assert len(warned) == 1


def test_file_that_bandit_cannot_read_fails_the_check():
    """An unread file must not count as clean."""
    _, _, failed = judge_reports([parse_report(report(errors=({"filename": "./app.py", "reason": "syntax error"},)))])

    assert failed == ("app.py:1: not scanned: syntax error",)


def scan_each(directory: Path, sources: tuple[str, ...]) -> CheckResult:
    """Scan a directory with `0.py` and so on, one for each source."""
    for number, source in enumerate(sources):
        (directory / f"{number}.py").write_bytes(source.encode())
    return scan_source(BANDIT, directory, now)


def test_scan_source_reports_findings_silenced_by_comments(tmp_path: Path):
    """The author may silence a finding, but everybody has to see it."""
    comments = (
        "# nosec - the page is ours",
        "# noqa: S307  # nosec: B307 no user input",
        "#nosec B307,B602 keine Eingabe # noqa",
    )

    result = scan_each(tmp_path, tuple(f"a = eval(\n    input(), {c}\n)\nb = eval(input())  {c}\n" for c in comments))

    assert result.failed == ()
    assert result.warned == tuple(f"{number}.py: comments silence 2 findings" for number in range(len(comments)))


def test_scan_source_fails_for_comment_without_reason(tmp_path: Path):
    """bandit itself accepts these comments; the message says what is missing."""
    comments = ("# nosec", "# nosec B307", "#nosec: B307, B602 # for a reason", "# nosec eval")

    failed = scan_each(tmp_path, tuple(f"a = eval(input())  {comment}\n" for comment in comments)).failed

    assert len(failed) == len(comments)
    for number, sentence in enumerate(failed):
        assert sentence.startswith(f"{number}.py:1: medium: ")
        assert sentence.endswith("(B307); its `# nosec` gives no reason of two words or more")


def test_scan_source_fails_if_nosec_comment_does_not_apply(tmp_path: Path):
    """Only the word itself counts, in a comment, and only for the codes that it names."""
    lines = (
        "eval(input())  # nosecurity needed in here",
        "eval(input() or '# nosec because it is in a string')",
        "eval(input())  # nosec B602 about another finding",
        "eval(input())  # nosec try_except_pass about another finding",
        "eval(input());\r\rprint()\n# nosec because it is three lines below",
    )

    failed = scan_each(tmp_path, tuple(f"{line}\n" for line in lines)).failed

    assert len(failed) == len(lines)
    for number, sentence in enumerate(failed):
        assert sentence.startswith(f"{number}.py:1: medium: ")
        assert sentence.endswith("(B307)")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"results": []}', "Traceback"])
def test_unreadable_report_raises_check_not_made(text: str):
    """Such a report is neither a pass nor a failure."""
    with pytest.raises(CheckIncomplete, match="bandit's report"):
        parse_report(text)


def test_scan_source_finds_dangerous_call(tmp_path: Path):
    """The test runs bandit on a file in a subdirectory."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("import subprocess\nsubprocess.run(input(), shell=True)\n")

    result = scan_source(BANDIT, tmp_path, now)

    assert (result.check, result.outcome) == (Check.SOURCE, Outcome.FAILED)
    assert [line.split(": ")[:2] for line in result.failed] == [["app/main.py:2", "high"]]


PASSWORDS = """
password = "hunter2-assigned"
login(password="hunter2-passed")
def login(password="hunter2-default"):
    return password == "hunter2-compared"
"""


def test_scan_source_repeats_no_password(tmp_path: Path):
    """Many people read a result, and it becomes evidence; bandit's own text quotes the password."""
    (tmp_path / "app.py").write_text(PASSWORDS)

    result = scan_source(BANDIT, tmp_path, now)

    assert result.warned == tuple(
        f"app.py:{line}: low: Possible hardcoded password ({code})"
        for line, code in ((2, "B105"), (3, "B106"), (4, "B107"), (5, "B105"))
    )
    assert "hunter2" not in result.model_dump_json()


ANYWHERE = (
    ".venv/a.py", "node_modules/a.py", ".git/a.py", ".github/a.py", "CVS/a.py", "a.svn.py", "x.egg/a.py", ".tox/a.py",
    "__pycache__/a.py", "build/a.py", ".hidden.py", "-a.py", "a b.py", "é.py", "a.pyw", "a.PY",
)  # fmt: skip


def test_scan_source_reads_python_in_every_directory(tmp_path: Path):
    """bandit silently excludes some directories and names, but the image contains them."""
    for name in ANYWHERE:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("eval(input())\n")

    result = scan_source(BANDIT, tmp_path, now)

    assert (result.outcome, result.details) == (Outcome.FAILED, {"files": len(ANYWHERE)})
    assert sorted(each.partition(": medium")[0] for each in result.failed) == sorted(f"{n}:1" for n in ANYWHERE)


def test_scan_source_reads_scripts_with_python_shebang(tmp_path: Path):
    """Python needs no suffix to run a file."""
    first = (
        "#!/usr/bin/env python3",
        "#!/usr/bin/python3.11 -I",
        "#!/opt/venv/bin/python",
        "#!/usr/bin/pypy3",
        "#!/usr/bin/env -S 'pyt''hon3'",
        "#!/usr/bin/env -S -i\\_python3",
        "#!/usr/bin/env -S ${INTERPRETER}",
    )
    for number, line in enumerate(first):
        (tmp_path / f"entrypoint-{number}").write_text(f"{line}\neval(input())\n")
    (tmp_path / "run.sh").write_text("#!/bin/sh\npython -c pass\n")

    result = scan_source(BANDIT, tmp_path, now)

    assert result.details == {"files": len(first)}
    assert [each.split(":")[0] for each in result.failed] == [f"entrypoint-{number}" for number in range(len(first))]


def test_scan_source_reads_startup_lines_of_pth_file(tmp_path: Path):
    """Python runs each line that begins with `import` at every start; the others are paths."""
    lines = (b"import os; eval(input())", b"import\tos; eval(input())")
    texts = [before + line for before in (b"/opt/lib\n", b"# a comment\r\n", b"not Python (\r") for line in lines]
    (tmp_path / "lib").mkdir()
    for number, text in enumerate(texts):
        (tmp_path / "lib" / f"start-{number}.pth").write_bytes(text)
    (tmp_path / "paths.pth").write_bytes(b"/opt/important\n import os\n")
    (tmp_path / "model.pth").write_bytes(b"PK\x03\x04" + bytes(LARGEST))

    result = scan_source(BANDIT, tmp_path, now)

    assert (result.details, result.warned) == ({"files": len(texts)}, ())
    assert [each.split(": ")[:2] for each in result.failed] == [
        [f"lib/start-{number}.pth:2", "medium"] for number in range(len(texts))
    ]


def test_scan_source_reads_pth_file_after_byte_order_mark(tmp_path: Path):
    """Python 3.13 skips the mark."""
    (tmp_path / "start.PTH").write_bytes(b"\xef\xbb\xbfimport os; eval(input())\n")

    assert scan_source(BANDIT, tmp_path, now).failed[0].startswith("start.PTH:1: medium")


def test_scan_source_reports_compiled_and_packed_python(tmp_path: Path):
    """Such files can be run, and bandit cannot read them."""
    for name in ("old.pyc", "lib.whl", "app.pyz", "fine.py"):
        (tmp_path / name).write_bytes(b"")

    result = scan_source(BANDIT, tmp_path, now)

    assert result.outcome is Outcome.WARNED
    assert result.warned == ("3 compiled or packed files not read: app.pyz, lib.whl, old.pyc",)


def test_scan_source_fails_for_file_missing_in_report(tmp_path: Path):
    """The reason for the omission does not matter."""
    (tmp_path / "app.py").write_text("")
    (tmp_path / "other.py").write_text("")
    silent = tmp_path / "bandit"
    silent.write_text("#!/bin/sh\ncat <<'END'\n" + report() + "\nEND\n")
    silent.chmod(0o755)

    result = scan_source(Tool("bandit", silent, "1"), tmp_path, now)

    assert result.failed == ("other.py:1: not scanned: it is not in bandit's report",)


def test_scan_source_counts_only_files_that_were_read(tmp_path: Path):
    """A broken file is listed as failed and not counted as passed: bandit skips it and says so only in its report."""
    (tmp_path / "broken.py").write_text("def broken(:\n")
    (tmp_path / "fine.py").write_text("print('fine')\n")

    result = scan_source(BANDIT, tmp_path, now)

    assert result.passed == ("bandit read 1 lines in 1 files",)
    assert len(result.failed) == 1 and result.failed[0].startswith("broken.py:1: not scanned")


def test_scan_source_reads_python_of_any_name(tmp_path: Path):
    """`python3 server` runs it."""
    names = ("bin/run", "boot.dat", "server")
    (tmp_path / "bin").mkdir()
    for name in names:
        (tmp_path / name).write_text("# " + "x" * 2000 + "\nimport subprocess\nsubprocess.call(input(), shell=True)\n")
    (tmp_path / "Makefile").write_text("import:\n\ttrue\n")

    result = scan_source(BANDIT, tmp_path, now)

    assert [each.partition(":")[0] for each in result.failed] == list(names)


def test_scan_source_passes_without_python_files(tmp_path: Path):
    """An example is a Go service."""
    (tmp_path / "main.go").write_text("package main\n")

    result = scan_source(BANDIT, tmp_path, now)

    assert (result.outcome, result.passed) == (Outcome.PASSED, ("no Python sources",))


def test_link_with_a_name_of_python_makes_its_target_python(tmp_path: Path):
    """Python imports `helper.py`, which leads to a text; a chain of links and another directory change nothing."""
    for name in ("app/helper.txt", "app/chain", "app/other.txt", "app/lib"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("eval(input())\n")
    (tmp_path / "app" / "link").symlink_to("chain")
    for link, target in (("helper.py", "helper.txt"), ("b.pyw", "link"), ("c.PY", "/nowhere"), ("d.pyc", "lib")):
        (tmp_path / "app" / link).symlink_to(target)

    result = scan_source(BANDIT, tmp_path, now)

    assert [each.partition(":")[0] for each in result.failed] == ["app/chain", "app/helper.txt"]
    assert "1 compiled or packed file not read: app/lib" in result.warned
    assert result.tools == {"bandit": "1", "source": SOURCE_VERSION}


def test_link_with_the_name_of_a_startup_file_hides_no_module(tmp_path: Path):
    """Of a startup file only some lines run; of a module all do."""
    (tmp_path / "app.py").write_text("eval(input())\n")
    (tmp_path / "site.txt").write_text("./lib\nimport os; eval(input())\n")
    (tmp_path / "app.pth").symlink_to("app.py")
    (tmp_path / "site.pth").symlink_to("site.txt")

    failed = scan_source(BANDIT, tmp_path, now).failed

    assert [each.rpartition(":")[0].split(":")[:2] for each in failed] == [["app.py", "1"], ["site.txt", "2"]]


def test_scan_source_ignores_configuration_of_application(tmp_path: Path):
    """A file `.bandit` in the sources must not disable a test."""
    (tmp_path / ".bandit").write_text("[bandit]\nskips = B307\n")
    (tmp_path / "app.py").write_text("eval(input())\n")

    assert scan_source(BANDIT, tmp_path, now).outcome is Outcome.FAILED


def test_scan_source_raises_check_not_made_if_bandit_crashes(tmp_path: Path):
    """Any other exit status means that nothing was checked."""
    (tmp_path / "app.py").write_text("")
    crashing = tmp_path / "bandit"
    crashing.write_text("#!/bin/sh\necho broken >&2\nexit 2\n")
    crashing.chmod(0o755)

    with pytest.raises(CheckIncomplete, match="status 2: broken"):
        scan_source(Tool("bandit", crashing, "1"), tmp_path, now)


def test_scan_source_limits_memory_of_bandit(program, tmp_path: Path):
    """Untrusted input may make a tool use all memory."""
    asks = "for _ in $(seq 100); do [ $(ulimit -d) = unlimited ] || break; sleep 0.02; done; ulimit -d >&2; exit 3"
    (tmp_path / "app.py").write_text("")

    with pytest.raises(CheckIncomplete, match=str(2 * 1024**2)):  # KiB
        scan_source(program("bandit").does(asks), tmp_path, now)


def test_scan_source_fails_for_too_large_file_unless_reviewed(tmp_path: Path):
    """bandit needs hundreds of bytes of memory for each byte; the owner may review the file instead."""
    (tmp_path / "large.py").write_text("#" * (LARGEST + 1))

    result = scan_source(BANDIT, tmp_path, now)

    assert (result.failed, result.passed) == (("large.py:1: larger than 2 MiB, not read",), ())
    review = ReviewedFindings(check="source", at=("large.py:1",), reason="a table of names")
    assert apply_reviews(result, [review]).warned == (f"{result.failed[0]}, which was reviewed: a table of names",)
    (tmp_path / "large.py").write_text("#" * LARGEST)
    assert scan_source(BANDIT, tmp_path, now).passed == ("bandit read 0 lines in 1 files",)


SLOW = """for file; do
    case $file in
    ./slow*) sleep 60 ;;
    ./*) echo "$file" >> read; metrics="$metrics, \\"$file\\": {\\"loc\\": 1}" ;;
    esac
done
echo "{\\"errors\\": [], \\"metrics\\": {\\"_totals\\": {}$metrics}, \\"results\\": []}"
"""


def test_scan_source_fails_for_files_not_read_in_time(program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A file that bandit takes too long to read must not pass, and no other is read after the limit."""
    monkeypatch.setattr(bandit, "LONGEST", 2.0)
    monkeypatch.setattr(selection, "PORTION", 1)
    for name in ("a.py", "slow.py", "z.py", "z.pth"):
        (tmp_path / name).write_text("import os\n")

    result = scan_source(program("bandit").does(SLOW), tmp_path, now)

    assert result.failed == ("3 files not read within 0 min: slow.py, z.py, z.pth",)
    assert (result.passed, result.details) == (("bandit read 1 lines in 1 files",), {"files": 1})
    assert (tmp_path / "read").read_text() == "./a.py\n"


def test_scan_source_passes_nothing_if_no_file_was_read_in_time(
    program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """ "no Python sources" would be wrong."""
    monkeypatch.setattr(bandit, "LONGEST", 0.0)
    (tmp_path / "app.py").write_text("")

    result = scan_source(program("bandit").does(SLOW), tmp_path, now)

    assert (result.passed, result.failed) == ((), ("1 file not read within 0 min: app.py",))
    assert not (tmp_path / "read").exists()


def test_scan_of_other_files_fails_for_medium_and_high_findings():
    """Each is named by its path in the image, which may be the path of no file here."""
    code = b"import subprocess\nsubprocess.call(input(), shell=True)\n"
    files = {"/app/a.py": code, "/app/b\\xff": b"print()\n", "/c.py": b"def broken(:\n", "/d": b"eval(input())\n"}

    found = SourceScan(BANDIT).search_files(files)

    assert [" ".join(each.split()[:2]) for each in sorted(found)] == [
        "/app/a.py:2: high:", "/c.py:1: not", "/d:1: medium:"
    ]  # fmt: skip


def test_scan_of_no_other_files_runs_nothing(program):
    """Most images have none."""
    assert SourceScan(program("bandit").does("exit 9")).search_files({}) == ()


def test_scan_of_other_files_names_those_that_bandit_leaves_out(program):
    """A file without a report has not passed."""
    silent = program("bandit").does(stdout=json.dumps({"errors": [], "metrics": {"./0": {}}, "results": []}))

    found = SourceScan(silent).search_files({"/a.py": b"", "/b.py": b""})

    assert found == ("/b.py:1: not scanned: it is not in bandit's report",)


def test_scan_of_other_files_names_those_not_read_in_time(program, monkeypatch: pytest.MonkeyPatch):
    """They have not passed."""
    monkeypatch.setattr(bandit, "LONGEST", 0.1)

    assert SourceScan(program("bandit").does("sleep 60")).search_files({"/a.py": b""}) == ("/a.py:1: not read in time",)


def test_read_sources_are_the_modules_of_the_context(tmp_path: Path):
    """Of a startup file only some lines are read, of a text and of a large file none; a link makes a text a module."""
    contents = {"a.py": b"1", "run": b"#!/usr/bin/python3\n", "a.txt": b"2", "b.txt": b"3", "a.pth": b"import os\n4",
                "large.py": b"#" * (LARGEST + 1)}  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "b.py").symlink_to("b.txt")
    is_read = ReadSources(tmp_path)

    assert [n for n, content in contents.items() if is_read(hashlib.sha256(content).hexdigest())] == [
        "a.py", "run", "b.txt"
    ]  # fmt: skip
