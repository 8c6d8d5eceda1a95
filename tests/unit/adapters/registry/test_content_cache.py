"""Kept content: this user's own, small, and forgotten when nobody asks for it."""

import os
import time

import pytest

from supply_chain.adapters.registry.content_cache import LARGEST, UNUSED, KeptContent

PATH = "curated/hello/blobs/sha256:" + "a" * 64


@pytest.fixture
def kept(tmp_path):
    content = KeptContent(tmp_path / "content")
    content.keep(PATH, b"one\ntwo", "text/plain")
    return content


def file_in(kept):
    (file,) = kept.directory.glob("*/*")
    return file


def test_gives_back_content_and_media_type_of_a_path(kept):
    """And nothing for the same digest in another repository, where this role may not read."""
    assert kept.get(PATH) == (b"one\ntwo", "text/plain")
    assert kept.get(PATH.replace("hello", "other")) is None


def test_what_is_large_is_not_kept(kept):
    """A fleet's SBOMs would fill the disk."""
    kept.keep("sbom", b"x" * (LARGEST + 1), "")
    kept.keep("report", b"x" * LARGEST, "")

    assert kept.get("sbom") is None and kept.get("report") is not None


def test_what_others_can_write_is_none(kept):
    """It is read from the registry again."""
    file_in(kept).chmod(0o606)

    assert kept.get(PATH) is None


def test_what_nobody_asked_for_in_a_week_is_removed(kept):
    """What was read again since is not: reading it tells that it is of use."""
    old = time.time() - UNUSED - 60
    kept.keep("gone", b"", "")
    for file in kept.directory.glob("*/*"):
        os.utime(file, (old, old))

    assert kept.get(PATH)
    kept.forget_unused()

    assert kept.get(PATH) and kept.get("gone") is None


def test_what_does_not_belong_there_is_passed_over(kept):
    """An editor's file, or one that is gone by now: a night's work is not lost for it."""
    (kept.directory / ".nfs0").write_text("x")
    kept.forget_unused()

    assert kept.get(PATH)


def test_nothing_to_forget_where_nothing_was_kept(tmp_path):
    """The first night."""
    KeptContent(tmp_path / "content").forget_unused()

    assert not (tmp_path / "content").exists()
