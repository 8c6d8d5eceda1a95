"""The order of versions of Debian packages."""

import itertools

import pytest

from supply_chain.adapters.image.debian_version import make_version_key

ORDERED = [
    "", "0~1", "1~~", "1~~a", "1~", "1", "1-1", "1-1+b1", "1-2", "1-10", "1a", "1ab", "1b", "1+", "1.", "1.0.1", "1.2",
    "1.2+deb12u9", "1.2+deb12u10", "1.10", "2-1~bpo12+1", "2-1", "2.0-1-1", "9" * 5000, "1:0", "10:0",
]  # fmt: skip


@pytest.mark.parametrize(("lower", "higher"), [*itertools.pairwise(ORDERED)], ids=lambda each: each[:12])
def test_lower_debian_version_sorts_first(lower, higher):
    assert make_version_key(lower) < make_version_key(higher)


@pytest.mark.parametrize(("one", "other"), [("1-0", "1"), ("01", "1"), ("0:1", "1"), ("1.0", "1.00"), ("1-1", "1-01")])
def test_equal_debian_versions_have_equal_keys(one, other):
    assert make_version_key(one) == make_version_key(other)


@pytest.mark.parametrize("text", ["x:y", "-", ":", "~", "²", "1é2"])
def test_any_text_has_a_debian_version_key(text):
    assert make_version_key(text) != make_version_key("1")
