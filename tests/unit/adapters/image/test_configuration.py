"""What an image's configuration sets."""

import pytest

from supply_chain.adapters.image.configuration import list_code_variables


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        (["PATH=/bin", "LD_PRELOAD=/lib/jemalloc.so"], ("LD_PRELOAD",)),
        (["LD_PRELOAD=a=b", "BASH_ENV=/x", "LD_AUDIT=y"], ("BASH_ENV", "LD_AUDIT", "LD_PRELOAD")),
        (["LD_PRELOAD=", "LD_LIBRARY_PATH=/opt/cuda", "LD_PRELOAD"], ()),
        (None, ()),
    ],
)
def test_variables_that_load_code_are_listed(variables, names):
    """Paths of libraries, which are common, and empty variables do not count."""
    assert list_code_variables({"config": {"Env": variables}}) == names
