"""Tests of which files of an image are its packages' own."""

import hashlib

import pytest

from supply_chain.adapters.image.packaged_files import PackagedFiles, find_proven
from tests.support.filesystem import lay_files

PERL, PYTHON, HAT = "/usr/bin/perl", "/usr/bin/python3.11", "/usr/lib/libhat.so"


@pytest.mark.parametrize(
    ("paths", "owned"),
    [
        ((PERL,), True),
        ((PERL, PYTHON), True),
        ((PERL, "/srv/perl"), False),
        (("/usr/bin/python3.12",), False),
        (("/usr/lib/libhat-2.0.so.1",), True),
        (("/usr/lib64/libhat.so.1",), False),
        ((), False),
    ],
)
def test_program_is_owned_if_all_of_its_files_are(paths, owned):
    """One file beside them may be of another version."""
    packaged = PackagedFiles({"dpkg": {PERL}, "apk": {PYTHON}}, elsewhere={PYTHON, HAT})

    assert packaged.are_of("dpkg", paths) is owned
    assert packaged.are_of("dpkg", iter(paths)) is owned
    assert not packaged.are_of("apk", paths)


def test_records_count_where_nothing_was_compared():
    """Those of another manager do not."""
    packaged = PackagedFiles(believed={"rpm"})

    assert packaged.are_of("rpm", ("/srv/perl",)) and not packaged.are_of("dpkg", ("/srv/perl",))


def test_file_is_proven_by_its_content():
    """A link is no file, and what it leads to has a path of its own."""
    digest = ("sha256", hashlib.sha256(b"perl").digest())
    _, files = lay_files({PERL: b"perl", PYTHON: b"perl 2"})
    checked = []

    proven = set(find_proven(files, {PERL: (digest,), PYTHON: (digest,), HAT: (digest,)}, lambda: checked.append(1)))

    assert proven == {PERL} and len(checked) == 3
