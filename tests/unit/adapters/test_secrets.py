"""What is found in a build context that should not be there, by detect-secrets itself."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from supply_chain.adapters.command import Tool
from supply_chain.adapters.secrets import find_secrets, sentences
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


def test_looks_at_files_git_does_not_know(tmp_path: Path):
    """A build takes them all the same."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "-untracked.py").write_text(f'password = "{FAKE}"\n')

    assert find_secrets(DETECT, tmp_path, now).failed == ("deep/er/-untracked.py:1: Secret Keyword",)


def test_leaves_out_what_the_build_leaves_out(tmp_path: Path):
    """A file that .dockerignore names is in no context."""
    (tmp_path / ".dockerignore").write_text("*.ini\n")
    (tmp_path / "local.ini").write_text(f"password = {FAKE}\n")

    assert find_secrets(DETECT, tmp_path, now).outcome is Outcome.PASSED


def test_what_a_comment_declares_to_be_none_is_told(tmp_path: Path):
    """An inline exception is the author's to make and everybody's to see; an empty file disturbs nothing."""
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "app.py").write_text(f'password = "{FAKE}"  # pragma: allowlist secret\n')

    result = find_secrets(DETECT, tmp_path, now)

    assert (result.failed, result.outcome) == ((), Outcome.WARNED)
    assert result.warned == ("app.py:1: Secret Keyword, which a comment declares to be none",)


def test_names_what_it_could_not_read(tmp_path: Path):
    """detect-secrets leaves binary files out without a word; the result does not."""
    (tmp_path / "logo.png").write_bytes(b"\x89PNG\xff\xfe")
    (tmp_path / "app.py").write_text("print('fine')\n")

    result = find_secrets(DETECT, tmp_path, now)

    assert result.passed == ("detect-secrets read 1 files; 1 are binary",)
    assert result.details["binary"] == ["logo.png"]


def test_an_empty_context_has_not_passed(tmp_path: Path):
    """Nothing to look at is not the same as nothing found."""
    assert find_secrets(DETECT, tmp_path, now).outcome is Outcome.WARNED


def test_a_place_is_told_once():
    """Several detectors can see one secret."""
    report = """{"results": {"a.ini": [
        {"type": "Secret Keyword", "line_number": 4, "hashed_secret": "…"},
        {"type": "AWS Access Key", "line_number": 4, "hashed_secret": "…"},
        {"type": "AWS Access Key", "line_number": 3, "hashed_secret": "…"}]}}"""

    assert sentences(report) == ("a.ini:3: AWS Access Key", "a.ini:4: AWS Access Key, Secret Keyword")


@pytest.mark.parametrize("report", ["", "[]", "{}", '{"results": []}'])
def test_no_report_is_no_answer(report: str):
    """What cannot be read is neither a pass nor a failure."""
    with pytest.raises(CheckNotMade, match="detect-secrets' report"):
        sentences(report)
