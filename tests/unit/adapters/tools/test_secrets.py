"""What is found in a build context that should not be there, by detect-secrets itself."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from supply_chain.adapters.image.file_content import MARKS, MOST_SECRETS
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools.secrets import (
    LARGEST,
    SECRETS_VERSION,
    SecretSearch,
    find_secrets,
    places_in,
    tools_of,
)
from supply_chain.errors import CheckNotMade
from supply_chain.evidence.checks import Check, Outcome

DETECT = Tool("detect-secrets", Path(sys.executable).parent / "detect-secrets", "1")

FAKE = "made-up-" + "f4k3-0123"
"""Opens nothing; put together here so that this file does not look as if it held one."""


def now() -> datetime:
    return datetime(2026, 11, 24, tzinfo=UTC)


def test_says_where_and_of_what_kind_but_not_what(tmp_path: Path):
    """Evidence is kept and shown; the secret must not be in it."""
    (tmp_path / "app.ini").write_text(f"[db]\npassword = {FAKE}\n")

    result = find_secrets(DETECT, tmp_path, now)

    assert (result.check, result.outcome) == (Check.SECRETS, Outcome.FAILED)
    assert result.failed == ("app.ini:2: Secret Keyword",)
    assert FAKE not in result.model_dump_json()


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (f"starting\npassword: {FAKE}\n", ("Secret Keyword",)),
        (f"password: {FAKE} # pragma: allowlist secret\n", ("Secret Keyword",)),
        (f"{'A' + 'KIA'}IOSFODNN7EXAMPLF\npostgres://admin:{FAKE}@db/x", ("AWS Access Key", "Basic Auth Credentials")),
        (f"sha256:{'ab12' * 16} GET / 200\npassword changed for bob\n", ()),
        (f"token = str(ghp_{'a1B2' * 9})\n", ("GitHub token",)),
        (f"token: ghp_{'a1B2' * 9}\n", ("GitHub Token",)),
        ("\ud800\x1b[31m\n", ()),
        (" \n", ()),
        ("", ()),
    ],
)
def test_known_forms_of_secrets_are_seen_in_what_a_program_prints(text: str, kinds: tuple[str, ...]):
    """And what only looks random is not; a comment in a log excuses nothing."""
    assert SecretSearch(DETECT).kinds(text) == kinds


def test_checks_that_search_are_made_again_when_more_is_looked_for():
    """The version of looking stands among their tools, as among those of the check secrets."""
    assert SecretSearch(DETECT).tools == tools_of(DETECT) == {"detect-secrets": "1", "secrets": SECRETS_VERSION}


def test_looks_at_files_git_does_not_know(tmp_path: Path):
    """A build takes them all the same."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "-untracked.py").write_text(f'password = "{FAKE}"\n')

    assert find_secrets(DETECT, tmp_path, now).failed == ("deep/er/-untracked.py:1: Secret Keyword",)


@pytest.mark.parametrize(
    "text",
    [
        f'password = "{FAKE}"  # pragma: allowlist secret\n',
        f'password = "{FAKE}"  # pragma: whitelist secret\n',
        f'password = "{FAKE}"  # pragma:allowlist-secret\n',
    ],
)
def test_what_a_comment_declares_to_be_none_is_told(tmp_path: Path, text: str):
    """An inline exception is the author's to make and everybody's to see; an empty file disturbs nothing."""
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "app.py").write_text(text)

    result = find_secrets(DETECT, tmp_path, now)

    assert (result.failed, result.outcome) == ((), Outcome.WARNED)
    assert result.warned == ("app.py:1: Secret Keyword, which a comment declares to be none",)


def test_an_exception_for_one_line_excuses_no_other(tmp_path: Path):
    """Each line has its own."""
    (tmp_path / "app.py").write_text(
        f'# pragma: allowlist nextline secret\npassword = "{FAKE}"\nother_password = "{FAKE}2"\n'
    )

    result = find_secrets(DETECT, tmp_path, now)

    assert result.failed == ("app.py:3: Secret Keyword",)
    assert result.warned == ("app.py:2: Secret Keyword, which a comment declares to be none",)


LEFT_OUT = {
    "an indirect reference": (f'SETTING = str("ghp_{"a1B2" * 9}")', "GitHub token"),
    "a Google API key": (f"key: AIza{'a1B2_' * 7}", "Google API key"),
    "an npm token": (f"npm_{'a1B2' * 9}", "npm token"),
    "a fine-grained GitHub token": (f"github_pat_{'a1B2_' * 12}", "GitHub token"),
}
"""What detect-secrets does not report."""


@pytest.mark.parametrize(("line", "kind"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_known_forms_that_detect_secrets_leaves_out_fail(tmp_path: Path, line: str, kind: str):
    """The check content leaves them to this one, in files of the context."""
    (tmp_path / "app.py").write_text(f"# settings\n{line}\n")

    result = find_secrets(DETECT, tmp_path, now)

    assert (result.failed, result.warned) == ((f"app.py:2: {kind}",), ())
    assert result.tools["secrets"] == SECRETS_VERSION


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("{}  # pragma: allowlist secret\n", 1),
        ("{}  // pragma: whitelist secret\n", 1),
        ("# pragma: allowlist nextline secret\n{}\n", 2),
        ("<!-- pragma: allowlist nextline secret -->\r\n{}\r\n", 2),
    ],
)
def test_comment_excuses_a_known_form_as_any_other(tmp_path: Path, text: str, at: int):
    """It is told all the same."""
    (tmp_path / "app.txt").write_bytes(text.format(LEFT_OUT["an npm token"][0]).encode())

    result = find_secrets(DETECT, tmp_path, now)

    assert result.failed == ()
    assert result.warned == (f"app.txt:{at}: npm token, which a comment declares to be none",)


@pytest.mark.parametrize("text", ["x = 1 # pragma: allowlist nextline secret\n{}\n", "# pragma: allowlist\n{}\n"])
def test_another_comment_excuses_no_known_form(tmp_path: Path, text: str):
    """What stands behind code, as detect-secrets has it, and what does not speak of secrets."""
    (tmp_path / "app.txt").write_text(text.format(LEFT_OUT["an npm token"][0]))

    assert find_secrets(DETECT, tmp_path, now).failed == ("app.txt:2: npm token",)


def test_what_both_see_in_a_line_is_one_finding(tmp_path: Path):
    """By detect-secrets' name, and with all that either sees."""
    token, key = f"ghp_{'a1B2' * 9}", LEFT_OUT["a Google API key"][0]
    (tmp_path / "app.ini").write_text(f"[a]\ntoken = {token} {key}\n")

    assert find_secrets(DETECT, tmp_path, now).failed == ("app.ini:2: GitHub Token, Google API key",)


def test_many_excused_places_hide_no_other(tmp_path: Path):
    """Of one form, in one file."""
    line = LEFT_OUT["an npm token"][0]
    (tmp_path / "a.txt").write_text(f"{line}  # pragma: allowlist secret\n" * MOST_SECRETS + line)

    assert find_secrets(DETECT, tmp_path, now).failed == (f"a.txt:{MOST_SECRETS + 1}: npm token",)


NAMES = (
    "a.css", "a.svg", "a.png", "a.tar", "a.map", "a.doc", "poetry.lock", "go.sum", "package-lock.json", "swagger.yaml",
    "docs/swagger/a.py", "a.bin", ".env", ".git/x", "a", "x" * 255,
)  # fmt: skip


@pytest.mark.parametrize("names", [*((name,) for name in NAMES), NAMES])
def test_reads_every_text_whatever_it_is_called(tmp_path: Path, names: tuple[str, ...]):
    """detect-secrets leaves some out by their names, without a word; the image takes them all."""
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f'password = "{FAKE}"\n')

    assert find_secrets(DETECT, tmp_path, now).failed == tuple(f"{name}:1: Secret Keyword" for name in sorted(names))


@pytest.mark.parametrize("name", [".env", ".env.local", "prod.env"])
def test_a_password_in_an_environment_file_needs_no_quotes(tmp_path: Path, name: str):
    """Nor is it an INI file, of which a name may be there once; the check content leaves it to this one."""
    (tmp_path / name).write_text(f"LEVEL=1\nLEVEL=2\nDB_PASSWORD={FAKE}\n")

    assert find_secrets(DETECT, tmp_path, now).failed == (f"{name}:3: Secret Keyword",)


def test_reads_what_lies_beside_the_context(tmp_path: Path):
    """The Dockerfile and the declaration end in the image's configuration and in the provenance."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "Dockerfile").write_text(f'ENV PASSWORD="{FAKE}"\n')

    result = find_secrets(DETECT, tmp_path / "src", now, {"../Dockerfile": tmp_path / "Dockerfile"})

    assert result.failed == ("../Dockerfile:1: Secret Keyword",)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_reads_texts_in_other_encodings(tmp_path: Path, encoding: str):
    """A letter of another alphabet does not hide what stands beside it."""
    mark = "\ufeff" if encoding.startswith("utf") else ""
    (tmp_path / "app.ini").write_bytes(f"{mark}[db]\n# clé\npassword = {FAKE}\n".encode(encoding))

    assert find_secrets(DETECT, tmp_path, now).failed == ("app.ini:3: Secret Keyword",)


def test_a_byte_order_mark_hides_nothing(tmp_path: Path):
    """It is two to four bytes at the beginning of any file; what follows need not be as it says."""
    text = f"\npassword = {FAKE}\n{LEFT_OUT['an npm token'][0]}\n".encode()
    for kind, mark in enumerate(MARKS):
        for size, more in enumerate((b"", b"#", b"##", b"###", b"\0")):
            (tmp_path / f"{kind}-{size}.ini").write_bytes(mark + text + more)

    found = find_secrets(DETECT, tmp_path, now).failed

    names = [f"{kind}-{size}.ini" for kind in range(4) for size in range(5)]
    assert found == tuple(f"{name}:{at}" for name in names for at in ("2: Secret Keyword", "3: npm token"))


@pytest.mark.parametrize("letter", ["", "é"], ids=["utf-8 too", "no utf-8"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_text_in_wide_letters_without_a_mark_is_read(tmp_path: Path, encoding: str, letter: str):
    """It has zero bytes beside each letter."""
    text = f"[db{letter}]\npassword = {FAKE}\n{LEFT_OUT['an npm token'][0]}\n"
    (tmp_path / "app.ini").write_bytes(text.encode(encoding))

    result = find_secrets(DETECT, tmp_path, now)

    assert result.failed == ("app.ini:2: Secret Keyword", "app.ini:3: npm token")
    assert result.warned == ()


def test_a_comment_excuses_however_the_file_can_be_read(tmp_path: Path):
    """Each reading has the comment in the same line."""
    (tmp_path / "app.txt").write_bytes(f"{LEFT_OUT['an npm token'][0]} # pragma: allowlist secret\n".encode("utf-16"))

    result = find_secrets(DETECT, tmp_path, now)

    assert (result.failed, len(result.warned)) == ((), 1)


def test_a_digest_in_a_lock_file_is_no_secret_and_a_secret_in_one_is(tmp_path: Path):
    """What is full of digests is looked through for known forms only, and is named."""
    digest = "sha512-" + "kF9zA1+bQ2/cW3eR4tY5uI6oP7aS8dF9gH0jK1lZ2xC3vB4nM5qW6eR7tY8uI9oP0aS1dF2gH3jK4lZ5xC6vBg=="
    for name in ("package-lock.json", "other.json"):
        (tmp_path / name).write_text(f'{{\n"integrity": "{digest}",\n"token": "ghp_{"a1B2" * 9}"\n}}\n')

    result = find_secrets(DETECT, tmp_path, now)

    found = dict(line.split(": ", 1) for line in result.failed)
    assert set(found) == {"other.json:2", "other.json:3", "package-lock.json:3"}
    assert "GitHub Token" in found["package-lock.json:3"]
    assert result.passed == (
        "detect-secrets read 2 files",
        "1 lock file of these read for known forms of secrets only: package-lock.json",
    )


def test_names_what_it_could_not_read(tmp_path: Path):
    """detect-secrets leaves it out without a word; the result does not, and has not passed."""
    (tmp_path / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff")
    (tmp_path / "data.csv").write_bytes(b"1,2\n" * (LARGEST // 4 + 1))
    (tmp_path / "app.py").write_text("print('fine')\n")

    result = find_secrets(DETECT, tmp_path, now)

    assert (result.outcome, result.passed) == (Outcome.WARNED, ("detect-secrets read 1 file",))
    assert result.warned == ("1 binary file not read: logo.png", "1 file larger than 5 MiB not read: data.csv")
    assert result.details == {"files": 3, "binary": ["logo.png"], "large": ["data.csv"]}


def test_many_files_are_named_by_the_first_of_them(tmp_path: Path):
    """And counted."""
    for n in range(100):
        (tmp_path / f"{n:02}.bin").write_bytes(b"\0\xff")

    (sentence, _) = find_secrets(DETECT, tmp_path, now).warned

    assert sentence.startswith("100 binary files not read: 00.bin, 01.bin, ")
    assert sentence.endswith("19.bin, and 80 more")


def test_nothing_of_a_context_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Secrets are in it."""
    temporary = tmp_path / "temporary"
    (tmp_path / "context").mkdir()
    temporary.mkdir()
    (tmp_path / "context" / "app.ini").write_text(f"[db]\npassword = {FAKE}\n")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    assert find_secrets(DETECT, tmp_path / "context", now).outcome is Outcome.FAILED
    assert list(temporary.iterdir()) == []


def test_an_empty_context_has_not_passed(tmp_path: Path):
    """Nothing to look at is not the same as nothing found."""
    assert find_secrets(DETECT, tmp_path, now).outcome is Outcome.WARNED


def test_a_place_is_told_once():
    """Several detectors can see one secret."""
    report = """{"results": {"a.ini": [
        {"type": "Secret Keyword", "line_number": 4, "hashed_secret": "…"},
        {"type": "AWS Access Key", "line_number": 4, "hashed_secret": "…"},
        {"type": "AWS Access Key", "line_number": 3, "hashed_secret": "…"}]}}"""

    assert places_in(report) == {("a.ini", 3): {"AWS Access Key"}, ("a.ini", 4): {"AWS Access Key", "Secret Keyword"}}


@pytest.mark.parametrize("report", ["", "[]", "{}", '{"results": []}'])
def test_no_report_is_no_answer(report: str):
    """What cannot be read is neither a pass nor a failure."""
    with pytest.raises(CheckNotMade, match="detect-secrets' report"):
        places_in(report)


def test_files_of_an_image_are_searched_by_what_things_are_called():
    """By path and line; no comment excuses, which nobody would tell of, and what only looks random is none."""
    files = {
        "/opt/app.conf": f"# settings\npassword = {FAKE}\n".encode(),
        "/opt/app.py": f'secret_key = "{FAKE}"\n'.encode(),
        "/opt/\\xff/a": f"password: {FAKE} # pragma: allowlist secret\n".encode(),
        "/opt/\\xff/b": f"# pragma: allowlist nextline secret\npassword: {FAKE}\n".encode(),
        "/opt/digest": b"ab12" * 16,
        "/opt/binary": b"\0\xff",
        "/opt/marked": b"\xff\xfe" + f"\npassword = {FAKE}\n".encode(),
    }

    places = ("/opt/\\xff/a:1", "/opt/\\xff/b:2", "/opt/app.conf:2", "/opt/app.py:1", "/opt/marked:2")
    assert SecretSearch(DETECT).in_files(files) == tuple(f"{place}: Secret Keyword" for place in places)
    assert SecretSearch(DETECT).in_files({}) == ()


def test_it_takes_as_many_processes_on_each_host(program, tmp_path: Path):
    """The limit of memory is of each; by itself it takes one for each core."""
    context = tmp_path / "context"
    context.mkdir()
    for name in ("app.py", "other.py"):
        (context / name).write_text("")

    with pytest.raises(CheckNotMade, match="--cores 2 scan"):
        find_secrets(program("detect-secrets").does('echo "$*" >&2; exit 3'), context, now)
    assert find_secrets(DETECT, context, now).passed == ("detect-secrets read 2 files",)


def test_memory_is_limited(program, tmp_path: Path):
    """What it reads may be made to take all of it."""
    asks = "for _ in $(seq 100); do [ $(ulimit -d) = unlimited ] || break; sleep 0.02; done; ulimit -d >&2; exit 3"
    (tmp_path / "app.py").write_text("")

    with pytest.raises(CheckNotMade, match=str(2 * 1024**2)):  # KiB
        find_secrets(program("detect-secrets").does(asks), tmp_path, now)
