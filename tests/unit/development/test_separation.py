"""What keeps builds apart: keys that a declaration cannot choose."""

import pytest

from supply_chain.development.separation import cache_key, run_key

GIVEN = {"owner": "laptop", "origin": "shop", "repository": "git@x:shop.git", "path": ".", "application": "shop"}


def key(make, tmp_path, **changes):
    given = {**GIVEN, **changes}
    source = make.source(repository=given["repository"], path=given["path"])
    return cache_key(given["owner"], tmp_path / given["origin"], source, given["application"])


@pytest.mark.parametrize("changed", GIVEN)
def test_every_part_makes_another_key(make, tmp_path, changed):
    """Of another application, source, directory or supply chain: nothing is read that one of them wrote."""
    assert key(make, tmp_path) == key(make, tmp_path)
    assert key(make, tmp_path) != key(make, tmp_path, **{changed: "other"})


def test_parts_do_not_run_into_each_other(make, tmp_path):
    """`a` with `b/x` is not `a/b` with `x`."""
    assert key(make, tmp_path, path="a", application="b/x") != key(make, tmp_path, path="a/b", application="x")


def test_a_key_says_nothing_and_leads_nowhere(make, tmp_path):
    """32 hexadecimal digits, whatever the names are: none is the beginning of another."""
    for name in ("../../etc", "a/b", "x" * 128):
        found = key(make, tmp_path, application=name)
        assert len(found) == 32 and set(found) <= set("0123456789abcdef")
        assert len(run_key(found, "run")) == 32
