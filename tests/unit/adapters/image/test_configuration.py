"""What an image's configuration sets."""

import pytest

from supply_chain.adapters.image.configuration import Start, runs_as_root
from supply_chain.model.declaration import Runtime


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
    assert Start.of({"config": {"Env": variables}}).list_code_variables() == names


def test_declared_variable_that_loads_code_is_listed():
    """It replaces the image's."""
    config = {"config": {"Env": ["LD_PRELOAD=", "LD_AUDIT=/a.so"]}}
    runtime = Runtime(environment={"LD_PRELOAD": "/app/x.so", "LD_AUDIT": ""})

    assert Start.of(config, runtime).list_code_variables() == ("LD_AUDIT", "LD_PRELOAD")


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
        ("4294967296", b"", True),
        ("2147483647", b"", False),
        ("2147483648", b"", True),
        ("app", b"app:x:4294967296:0::/:/bin/sh\n", True),
        ("app", b"\x1capp:x:1000:1000::/:\napp:x:0:0::/:\n", True),
        ("app", b"\x1capp:x:0:0::/:\napp:x:1000:1000::/:\n", True),
        ("a\ufffd", b"a\xff:x:1000:1000::/:\na\xef\xbf\xbd:x:0:0::/:\n", True),
        ("0", b"0:x:10001:10001::/:\n", True),
        ("x ", b"x :x:0:0::/:/bin/sh\n", True),
        ("x", b"x :x:0:0::/:/bin/sh\n", True),
        ("x\t", b"x\t:x:10001:10001::/:/bin/sh\n", False),
        (19 * "0", b"", True),
        (":10001", b"x", True),
        ("root", None, True),
    ],
)
def test_image_runs_as_root_by_its_user(user, accounts, is_root):
    """The container gets another user, but others may start the image without one. An unknown name starts nothing."""
    assert runs_as_root({"config": {"User": user}}, accounts) is is_root
    assert runs_as_root({"config": None}, accounts)
