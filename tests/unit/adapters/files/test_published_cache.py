"""The cache of what archives published."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from supply_chain.adapters.files.private_files import PrivateFiles
from supply_chain.adapters.files.published_cache import PublishedCache


@dataclass(frozen=True)
class Example:
    """What somebody published."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    sources: Set[str] = frozenset()


HAT = Example({"hat.py": bytes(range(32)), "\udcff.py": b"\xff"}, {"b", "a"})


def decode(stored: Mapping[str, Any]) -> Example:
    files = {path: bytes.fromhex(digest) for path, digest in stored["files"].items()}
    return Example(files, frozenset(stored["sources"]))


@pytest.fixture
def cache(tmp_path: Path) -> PublishedCache[Example]:
    return PublishedCache(PrivateFiles(tmp_path), decode, 1)


def test_cached_value_is_read_by_its_exact_key(cache: PublishedCache[Example]) -> None:
    """Names and paths may have bytes that are no text."""
    cache.write(HAT, ("index",), "\udcff", b"\xff")

    assert cache.read(("index",), "\udcff", b"\xff") == HAT
    assert cache.read(("index",), "\udcff", b"\xfe") is None
    assert cache.read(("index", "hat"), b"\xff") is None


def test_value_of_another_format_is_not_read(cache: PublishedCache[Example], tmp_path: Path) -> None:
    cache.write(HAT, "hat")

    assert PublishedCache(PrivateFiles(tmp_path), decode, 2).read("hat") is None


def test_damaged_value_is_not_read(cache: PublishedCache[Example], tmp_path: Path) -> None:
    """A crash may leave any part of a file, or zeros."""
    cache.write(HAT, "hat")
    (file,) = (each for each in tmp_path.rglob("*") if each.is_file())
    content = file.read_bytes()
    for damaged in (b"", b"{}", content[:-1], content[:64], bytes(len(content)), content.replace(b"hat", b"cap")):
        file.write_bytes(damaged)
        assert cache.read("hat") is None


def test_unused_cached_values_are_removed(cache: PublishedCache[Example], tmp_path: Path) -> None:
    cache.write(HAT, "hat")
    cache.write(HAT, "cap")
    file, _ = (each for each in tmp_path.rglob("*") if each.is_file())
    os.utime(file, (0, 0))

    cache.forget_unused()

    assert sorted(map(cache.read, ("hat", "cap")), key=bool) == [None, HAT]
