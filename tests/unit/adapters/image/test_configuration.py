"""What an image's configuration sets."""

import pytest

from supply_chain.adapters.image.configuration import list_code_variables, runs_as_root


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


ACCOUNTS = b"app:x:10001:10001::/:/bin/sh\n svc:x:0:0::/:/bin/sh\napp:x:0:0::/:\nbare\nodd:x:abc:1::/:\n7:x:0:0::/:\n"


@pytest.mark.parametrize(
    ("user", "accounts", "is_root"),
    [
        ("10001:10001", ACCOUNTS, False),
        ("10001:0", ACCOUNTS, False),
        ("app", ACCOUNTS, False),
        ("nobody", ACCOUNTS, False),
        ("10001", None, False),
        ("", ACCOUNTS, True),
        (None, ACCOUNTS, True),
        ("0", b"", True),
        ("00:00", b"", True),
        ("+0", b"", True),
        ("-0", b"", True),
        ("svc", ACCOUNTS, True),
        ("svc:10001", ACCOUNTS, True),
        ("bare", ACCOUNTS, True),
        ("odd", ACCOUNTS, True),
        ("7", ACCOUNTS, False),
        ("0", b"0:x:10001:10001::/:\n", True),
        (19 * "0", b"", True),
        (":10001", b"x", True),
        ("root", None, True),
    ],
)
def test_image_runs_as_root_by_its_user(user, accounts, is_root):
    """The container gets another user, but others may start the image without one. An unknown name starts nothing."""
    assert runs_as_root({"config": {"User": user}}, accounts) is is_root
    assert runs_as_root({"config": None}, accounts)
