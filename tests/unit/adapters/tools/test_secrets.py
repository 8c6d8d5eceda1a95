"""Tests of the search for secrets in a build context, with detect-secrets itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from supply_chain.adapters.image.secret_forms import MARKS, MOST_SECRETS
from supply_chain.adapters.tools import secrets
from supply_chain.adapters.tools.secrets import (
    LARGEST,
    SECRETS_VERSION,
    SecretSearch,
    find_secrets,
    list_secret_tools,
    parse_places,
)
from supply_chain.errors import CheckIncomplete
from supply_chain.evidence.checks import Check, Outcome
from tests.support.python_tools import DETECT

FAKE = "made-up-" + "f4k3-0123"
"""Invalid password, assembled here so that this file itself contains no match."""


def now() -> datetime:
    return datetime(2026, 11, 24, tzinfo=UTC)


def test_finding_names_place_and_kind_but_not_the_secret(tmp_path: Path):
    """Evidence is stored and displayed, so it must not contain the secret."""
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
def test_kinds_finds_known_formats_in_program_output(text: str, kinds: tuple[str, ...]):
    """Text that merely looks random is no finding, and a comment in a log excuses nothing."""
    assert SecretSearch(DETECT).kinds(text) == kinds


def test_search_version_is_among_the_tools_of_each_check():
    """A new version of the search makes earlier check results outdated."""
    assert (
        SecretSearch(DETECT).tools == list_secret_tools(DETECT) == {"detect-secrets": "1", "secrets": SECRETS_VERSION}
    )


def test_find_secrets_reads_files_unknown_to_git(tmp_path: Path):
    """The build copies such files nevertheless."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "-untracked.py").write_text(f'password = "{FAKE}"\n')

    assert find_secrets(DETECT, tmp_path, now).failed == ("deep/er/-untracked.py:1: Secret Keyword",)


def test_finding_excused_by_comment_is_reported_as_warning(tmp_path: Path):
    """The author may excuse a line, but everybody has to see it; an empty file causes no error."""
    (tmp_path / "empty.py").write_text("")
    comments = ("pragma: allowlist secret", "pragma: whitelist secret", "pragma:allowlist-secret")
    for number, comment in enumerate(comments):
        (tmp_path / f"{number}.py").write_text(f'password = "{FAKE}"  # {comment}\n')

    result = find_secrets(DETECT, tmp_path, now)

    assert (result.failed, result.outcome) == ((), Outcome.WARNED)
    assert result.warned == tuple(
        f"{number}.py:1: Secret Keyword, which a comment declares to be none" for number in range(len(comments))
    )


def test_comment_for_one_line_excuses_no_other_line(tmp_path: Path):
    """Each finding needs a comment of its own."""
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
"""Secrets that detect-secrets does not report."""


def test_known_formats_missed_by_detect_secrets_fail(tmp_path: Path):
    """The check of the image content relies on this check for files of the context."""
    for name, (line, _) in LEFT_OUT.items():
        (tmp_path / f"{name}.py").write_text(f"# settings\n{line}\n")

    result = find_secrets(DETECT, tmp_path, now)

    expected = tuple(f"{name}.py:2: {kind}" for name, (_, kind) in sorted(LEFT_OUT.items()))
    assert (result.failed, result.warned) == (expected, ())
    assert result.tools["secrets"] == SECRETS_VERSION


def test_comment_excuses_known_format_as_well(tmp_path: Path):
    """The finding is still reported as a warning."""
    excused = (
        ("{}  # pragma: allowlist secret\n", 1),
        ("{}  // pragma: whitelist secret\n", 1),
        ("# pragma: allowlist nextline secret\n{}\n", 2),
        ("<!-- pragma: allowlist nextline secret -->\r\n{}\r\n", 2),
    )
    for number, (text, _) in enumerate(excused):
        (tmp_path / f"{number}.txt").write_bytes(text.format(LEFT_OUT["an npm token"][0]).encode())

    result = find_secrets(DETECT, tmp_path, now)

    assert result.failed == ()
    assert result.warned == tuple(
        f"{number}.txt:{at}: npm token, which a comment declares to be none" for number, (_, at) in enumerate(excused)
    )


def test_comment_elsewhere_excuses_no_known_format(tmp_path: Path):
    """The comment stands behind code, as detect-secrets defines it, or does not mention secrets."""
    texts = {"code.txt": "x = 1 # pragma: allowlist nextline secret\n{}\n", "other.txt": "# pragma: allowlist\n{}\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text.format(LEFT_OUT["an npm token"][0]))

    assert find_secrets(DETECT, tmp_path, now).failed == ("code.txt:2: npm token", "other.txt:2: npm token")


def test_findings_of_both_searches_in_one_line_are_merged(tmp_path: Path):
    """The names of detect-secrets are used, and no kind is lost."""
    token, key = f"ghp_{'a1B2' * 9}", LEFT_OUT["a Google API key"][0]
    (tmp_path / "app.ini").write_text(f"[a]\ntoken = {token} {key}\n")

    assert find_secrets(DETECT, tmp_path, now).failed == ("app.ini:2: GitHub Token, Google API key",)


def test_many_excused_lines_do_not_hide_another_finding(tmp_path: Path):
    """All lines are in one file and have the same kind of secret."""
    line = LEFT_OUT["an npm token"][0]
    (tmp_path / "a.txt").write_text(f"{line}  # pragma: allowlist secret\n" * MOST_SECRETS + line)

    assert find_secrets(DETECT, tmp_path, now).failed == (f"a.txt:{MOST_SECRETS + 1}: npm token",)


def test_findings_beyond_the_limits_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A text may have a hundred thousand of them, and there may be many texts."""
    monkeypatch.setattr(secrets, "MOST_OF_FILE", 2)
    monkeypatch.setattr(secrets, "MOST_PLACES", 3)
    key = f"{LEFT_OUT['a Google API key'][0]}\n"
    for name, lines in (("a.md", 5), ("b.md", 1), ("c.md", 4)):
        (tmp_path / name).write_text(key * lines)

    failed = find_secrets(DETECT, tmp_path, now).failed

    assert len(failed) == 4 and failed[-1] == "7 further findings not listed"
    assert all("Google API key" in each for each in failed[:-1])


NAMES = (
    "a.css", "a.svg", "a.png", "a.tar", "a.map", "a.doc", "poetry.lock", "go.sum", "package-lock.json", "swagger.yaml",
    "docs/swagger/a.py", "a.bin", ".env", ".git/x", "a", "x" * 255,
)  # fmt: skip


@pytest.mark.parametrize("names", [("a.png",), NAMES], ids=["a file", "several files"])
def test_find_secrets_reads_text_files_of_every_name(tmp_path: Path, names: tuple[str, ...]):
    """detect-secrets silently excludes some names, but the image contains them."""
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f'password = "{FAKE}"\n')

    assert find_secrets(DETECT, tmp_path, now).failed == tuple(f"{name}:1: Secret Keyword" for name in sorted(names))


def test_password_in_environment_file_needs_no_quotes(tmp_path: Path):
    """Such a file is no INI file either, because names may repeat; the check of the content relies on this."""
    names = (".env", ".env.local", "prod.env")
    for name in names:
        (tmp_path / name).write_text(f"LEVEL=1\nLEVEL=2\nDB_PASSWORD={FAKE}\n")

    assert find_secrets(DETECT, tmp_path, now).failed == tuple(f"{name}:3: Secret Keyword" for name in names)


PLAIN = {
    "run.sh": (f"#!/bin/sh\nset -eu\nexport DB_PASSWORD={FAKE}\nexec app\n", 3),
    "notes": (f"How to deploy\nfirst log in\npassword={FAKE}\n", 3),
    "notes.txt": (f"How to deploy\napi_key: {FAKE}\n", 2),
    "Dockerfile": (f"FROM scratch\nENV DB_PASSWORD={FAKE}\n", 2),
    "any.sh": ('PASSWORD=$1\npassword=""\nlog in --password=$(cat /x) --password "$2"\nx_password=${Y:-}\n', None),
    "a.tmpl": ("set -e\npassword = {{ .Password }}\nsecret: <yours>\npasswd=${DB_PASSWORD}\n", None),
    "Containerfile": ("FROM x\nRUN --mount=type=secret,id=pip_password,target=/x true\n", None),
    "types.ts": ("interface User {\n  password: string;\n}\n", None),
    "README.md": ("About\n=====\nThe password: ask for it.\n", None),
    "tool": ("#!/usr/bin/env python3\nimport settings\npassword = settings.password\n", None),
}
"""Name → content, and the line of the password, if it has one."""


def test_password_without_quotes_is_found_in_source_and_image(tmp_path: Path):
    """Both checks read a file in the same way; in code and prose a value has to be in quotes."""
    for name, (text, _) in PLAIN.items():
        (tmp_path / name).write_text(text)

    found = find_secrets(DETECT, tmp_path, now).failed

    assert found == tuple(f"{name}:{line}: Secret Keyword" for name, (_, line) in sorted(PLAIN.items()) if line)
    assert SecretSearch(DETECT).search_files({name: text.encode() for name, (text, _) in PLAIN.items()}) == found


@pytest.mark.parametrize("most", [1, 3000, 1_000_000])
def test_copies_of_files_are_scanned_in_batches(program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int):
    """The space for copies does not grow with the source; each file of 1000 bytes is copied twice."""
    monkeypatch.setattr("supply_chain.adapters.tools.secrets.BATCH", most)
    context = tmp_path / "context"
    context.mkdir()
    for number in range(10):
        (context / f"{number}").write_text("x" * 1000)
    measuring = program("detect-secrets").does(
        f"[ $(cat ./* | wc -c) -lt {most + 1000} ] || exit 3; echo '{{\"results\": {{}}}}'"
    )

    assert find_secrets(measuring, context, now).passed == ("detect-secrets read 10 files",)
    assert SecretSearch(measuring).search_files({f"{number}": b"x" * 1000 for number in range(10)}) == ()


@pytest.mark.parametrize("most", [1, 100])
def test_findings_of_all_batches_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int):
    """A comment in one batch excuses nothing in another."""
    monkeypatch.setattr("supply_chain.adapters.tools.secrets.BATCH", most)
    for name in ("a.py", "b.py", "c.py"):
        (tmp_path / name).write_text(f'password = "{FAKE}"\n')
    (tmp_path / "b.py").write_text(f'password = "{FAKE}" # pragma: allowlist secret\n')

    result = find_secrets(DETECT, tmp_path, now)

    assert result.failed == ("a.py:1: Secret Keyword", "c.py:1: Secret Keyword")
    assert result.warned == ("b.py:1: Secret Keyword, which a comment declares to be none",)


def test_search_keeps_a_reserve_of_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Other runs write temporary files to the same disk."""
    monkeypatch.setattr("supply_chain.adapters.files.free_space.RESERVE", 2**62)
    (tmp_path / "app.py").write_text("")

    with pytest.raises(CheckIncomplete, match=r"was ended: Only \d+ MiB are free"):
        find_secrets(DETECT, tmp_path, now)


def test_search_ends_after_the_longest_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Batches have a time limit each, and a source may have any number of them."""
    monkeypatch.setattr("supply_chain.adapters.tools.secrets.LONGEST", -60.0)
    (tmp_path / "app.py").write_text("")

    with pytest.raises(CheckIncomplete, match="was ended after"):
        find_secrets(DETECT, tmp_path, now)


def test_find_secrets_reads_files_outside_of_context(tmp_path: Path):
    """The Dockerfile and the declaration become part of the image configuration and of the provenance."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "Dockerfile").write_text(f'ENV PASSWORD="{FAKE}"\n')

    result = find_secrets(DETECT, tmp_path / "src", now, {"../Dockerfile": tmp_path / "Dockerfile"})

    assert result.failed == ("../Dockerfile:1: Secret Keyword",)


def test_find_secrets_reads_text_in_other_encodings(tmp_path: Path):
    """A letter outside of ASCII must not hide the text beside it."""
    encodings = ("latin-1", "utf-16-be", "utf-16-le", "utf-32-be", "utf-32-le", "utf-8")
    for encoding in encodings:
        mark = "\ufeff" if encoding.startswith("utf") else ""
        (tmp_path / f"{encoding}.ini").write_bytes(f"{mark}[db]\n# clé\npassword = {FAKE}\n".encode(encoding))

    assert find_secrets(DETECT, tmp_path, now).failed == tuple(f"{each}.ini:3: Secret Keyword" for each in encodings)


def test_byte_order_mark_hides_no_secret(tmp_path: Path):
    """Any file may begin with these bytes, whatever the encoding of the rest."""
    text = f"\npassword = {FAKE}\n{LEFT_OUT['an npm token'][0]}\n".encode()
    for kind, mark in enumerate(MARKS):
        for size, more in enumerate((b"", b"#", b"##", b"###", b"\0")):
            (tmp_path / f"{kind}-{size}.ini").write_bytes(mark + text + more)

    found = find_secrets(DETECT, tmp_path, now).failed

    names = [f"{kind}-{size}.ini" for kind in range(4) for size in range(5)]
    assert found == tuple(f"{name}:{at}" for name in names for at in ("2: Secret Keyword", "3: npm token"))


def test_byte_order_mark_hides_no_binary_key(tmp_path: Path):
    """The check of the image leaves out what this check has read as a text."""
    key = ec.generate_private_key(ec.SECP256R1())
    form = (Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    for number, mark in enumerate(MARKS):
        (tmp_path / f"{number}.bin").write_bytes(mark + key.private_bytes(*form))

    assert find_secrets(DETECT, tmp_path, now).failed == tuple(
        f"{number}.bin:1: private key" for number in range(len(MARKS))
    )


def test_utf16_and_utf32_text_without_mark_is_read(tmp_path: Path):
    """Such a text has zero bytes beside each letter; with a letter outside of ASCII it is no UTF-8."""
    names = []
    for encoding in ("utf-16-be", "utf-16-le", "utf-32-be", "utf-32-le"):
        for number, letter in enumerate(("", "é")):
            text = f"[db{letter}]\npassword = {FAKE}\n{LEFT_OUT['an npm token'][0]}\n"
            names.append(f"{encoding}-{number}.ini")
            (tmp_path / names[-1]).write_bytes(text.encode(encoding))

    result = find_secrets(DETECT, tmp_path, now)

    assert result.failed == tuple(f"{name}:{at}" for name in names for at in ("2: Secret Keyword", "3: npm token"))
    assert result.warned == ()


def test_comment_excuses_finding_in_every_reading_of_a_file(tmp_path: Path):
    """Each decoding has the comment in the same line."""
    (tmp_path / "app.txt").write_bytes(f"{LEFT_OUT['an npm token'][0]} # pragma: allowlist secret\n".encode("utf-16"))

    result = find_secrets(DETECT, tmp_path, now)

    assert (result.failed, len(result.warned)) == ((), 1)


def test_lock_file_is_searched_for_known_formats_only(tmp_path: Path):
    """A digest in a lock file is no secret; a known format in it is one, and the result names the lock file."""
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


def test_unread_files_are_reported_as_warning(tmp_path: Path):
    """detect-secrets omits them silently, and the check must not pass."""
    (tmp_path / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff")
    (tmp_path / "data.csv").write_bytes(b"1,2\n" * (LARGEST // 4 + 1))
    (tmp_path / "app.py").write_text("print('fine')\n")

    result = find_secrets(DETECT, tmp_path, now)

    assert (result.outcome, result.passed) == (Outcome.WARNED, ("detect-secrets read 1 file",))
    assert result.warned == ("1 binary file not read: logo.png", "1 file larger than 5 MiB not read: data.csv")
    assert result.details == {"files": 3, "binary": ["logo.png"], "large": ["data.csv"]}


def test_long_list_of_unread_files_is_shortened(tmp_path: Path):
    """The sentence gives the total number."""
    for n in range(100):
        (tmp_path / f"{n:02}.bin").write_bytes(b"\0\xff")

    (sentence, _) = find_secrets(DETECT, tmp_path, now).warned

    assert sentence.startswith("100 binary files not read: 00.bin, 01.bin, ")
    assert sentence.endswith("19.bin, and 80 more")


def test_find_secrets_leaves_no_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The files may contain secrets."""
    temporary = tmp_path / "temporary"
    (tmp_path / "context").mkdir()
    temporary.mkdir()
    (tmp_path / "context" / "app.ini").write_text(f"[db]\npassword = {FAKE}\n")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    assert find_secrets(DETECT, tmp_path / "context", now).outcome is Outcome.FAILED
    assert list(temporary.iterdir()) == []


def test_empty_context_does_not_pass(tmp_path: Path):
    """A search of nothing must not pass as a search without findings."""
    assert find_secrets(DETECT, tmp_path, now).outcome is Outcome.WARNED


def test_places_in_merges_findings_of_one_line():
    """Several detectors may match the same secret."""
    report = """{"results": {"a.ini": [
        {"type": "Secret Keyword", "line_number": 4, "hashed_secret": "…"},
        {"type": "AWS Access Key", "line_number": 4, "hashed_secret": "…"},
        {"type": "AWS Access Key", "line_number": 3, "hashed_secret": "…"}]}}"""

    assert parse_places(report) == {
        ("a.ini", 3): {"AWS Access Key"},
        ("a.ini", 4): {"AWS Access Key", "Secret Keyword"},
    }


@pytest.mark.parametrize("report", ["", "[]", "{}", '{"results": []}'])
def test_unreadable_report_raises_check_not_made(report: str):
    """Such a report is neither a pass nor a failure."""
    with pytest.raises(CheckIncomplete, match="detect-secrets' report"):
        parse_places(report)


def test_in_files_finds_passwords_in_files_of_an_image():
    """Findings name path and line, comments excuse nothing, and random text alone is no finding."""
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
    assert SecretSearch(DETECT).search_files(files) == tuple(f"{place}: Secret Keyword" for place in places)
    assert SecretSearch(DETECT).search_files({}) == ()


def test_detect_secrets_uses_two_processes_on_every_host(program, tmp_path: Path):
    """The memory limit holds for each process, and the default is one process per core."""
    context = tmp_path / "context"
    context.mkdir()
    for name in ("app.py", "other.py"):
        (context / name).write_text("")

    with pytest.raises(CheckIncomplete, match="--cores 2 scan"):
        find_secrets(program("detect-secrets").does('echo "$*" >&2; exit 3'), context, now)
    assert find_secrets(DETECT, context, now).passed == ("detect-secrets read 2 files",)


def test_memory_of_detect_secrets_is_limited(program, tmp_path: Path):
    """Untrusted input may make a tool use all memory."""
    asks = "for _ in $(seq 100); do [ $(ulimit -d) = unlimited ] || break; sleep 0.02; done; ulimit -d >&2; exit 3"
    (tmp_path / "app.py").write_text("")

    with pytest.raises(CheckIncomplete, match=str(2 * 1024**2)):  # KiB
        find_secrets(program("detect-secrets").does(asks), tmp_path, now)
