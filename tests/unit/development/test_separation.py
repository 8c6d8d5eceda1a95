"""Cache keys that keep builds apart, because a declaration cannot choose them."""

import pytest

from supply_chain.development.separation import cache_key, run_key

GIVEN = {"owner": "laptop", "origin": "shop", "repository": "git@x:shop.git", "path": ".", "application": "shop"}


def key(make, tmp_path, **changes):
    given = {**GIVEN, **changes}
    source = make.source(repository=given["repository"], path=given["path"])
    return cache_key(given["owner"], tmp_path / given["origin"], source, given["application"])


@pytest.mark.parametrize("changed", GIVEN)
def test_each_part_changes_cache_key(make, tmp_path, changed):
    """No build reads a cache of another application, source, directory or supply chain."""
    assert key(make, tmp_path) == key(make, tmp_path)
    assert key(make, tmp_path) != key(make, tmp_path, **{changed: "other"})


def test_cache_key_separates_its_parts(make, tmp_path):
    """`a` with `b/x` differs from `a/b` with `x`."""
    assert key(make, tmp_path, path="a", application="b/x") != key(make, tmp_path, path="a/b", application="x")


def test_cache_key_is_32_hex_digits_for_any_name(make, tmp_path):
    """With a fixed length, no key is a prefix of another and none is a path."""
    for name in ("../../etc", "a/b", "x" * 128):
        found = key(make, tmp_path, application=name)
        assert len(found) == 32 and set(found) <= set("0123456789abcdef")
        assert len(run_key(found, "run")) == 32
