"""Tests that cached content belongs to this user, is small, and is removed if it is unused."""

import os
import time

import pytest

from supply_chain.adapters.registry.content_cache import LARGEST, UNUSED, ContentCache

PATH = "curated/hello/blobs/sha256:" + "a" * 64


@pytest.fixture
def cache(tmp_path):
    content = ContentCache(tmp_path / "content")
    content.put(PATH, b"one\ntwo", "text/plain")
    return content


def file_in(cache):
    (file,) = cache.directory.glob("*/*")
    return file


def test_cache_returns_content_and_media_type_of_path(cache):
    """The same digest in another repository is not returned, because the role may not be allowed to read there."""
    assert cache.get(PATH) == (b"one\ntwo", "text/plain")
    assert cache.get(PATH.replace("hello", "other")) is None


def test_cache_does_not_store_large_content(cache):
    """The SBOMs of a whole fleet would fill the disk."""
    cache.put("sbom", b"x" * (LARGEST + 1), "")
    cache.put("report", b"x" * LARGEST, "")

    assert cache.get("sbom") is None and cache.get("report") is not None


def test_cache_ignores_file_writable_for_others(cache):
    """The content is then read from the registry again."""
    file_in(cache).chmod(0o606)

    assert cache.get(PATH) is None


def test_cache_ignores_fifo(cache):
    """A FIFO, from which nobody writes, would hold up the reader for ever."""
    file = file_in(cache)
    file.unlink()
    os.mkfifo(file, 0o600)

    assert cache.get(PATH) is None


def test_cache_removes_content_unused_for_a_week(cache):
    """Reading content marks it as used."""
    old = time.time() - UNUSED - 60
    cache.put("gone", b"", "")
    for file in cache.directory.glob("*/*"):
        os.utime(file, (old, old))

    assert cache.get(PATH)
    cache.forget_unused()

    assert cache.get(PATH) and cache.get("gone") is None


def test_forget_unused_ignores_foreign_files(cache):
    """A file of an editor or a file that just disappeared must not fail the nightly run."""
    (cache.directory / ".nfs0").write_text("x")
    cache.forget_unused()

    assert cache.get(PATH)


def test_forget_unused_without_cache_directory_does_nothing(tmp_path):
    """This is the case at the first nightly run."""
    ContentCache(tmp_path / "content").forget_unused()

    assert not (tmp_path / "content").exists()
