"""Cache keys that keep builds apart, because a declaration cannot choose them."""

import pytest
from pydantic import ValidationError

from supply_chain.adapters.docker.build_cgroup import PERIOD
from supply_chain.development.separation import BuildLimits, compute_cache_key, run_key

GIVEN = {"owner": "laptop", "origin": "shop", "repository": "git@x:shop.git", "path": ".", "application": "shop"}


def key(make, tmp_path, **changes):
    given = {**GIVEN, **changes}
    source = make.source(repository=given["repository"], path=given["path"])
    return compute_cache_key(given["owner"], tmp_path / given["origin"], source, given["application"])


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


@pytest.mark.parametrize("cpus", [0.0, 0.009, float("inf"), float("nan")])
def test_build_limits_refuse_processors_that_the_kernel_does_not_take(cpus):
    """It would refuse the group, and the build would run without any limit."""
    with pytest.raises(ValidationError):
        BuildLimits(memory=2**30, processes=100, cpus=cpus, disk=2**30, reserve=0)


def test_build_limits_accept_smallest_part_of_a_processor():
    """The quota is then the shortest that the kernel takes, in microseconds (sched-bwc.rst)."""
    assert int(BuildLimits(memory=2**30, processes=100, cpus=0.01, disk=2**30, reserve=0).cpus * PERIOD) == 1000
