"""Tests of which files of an image are its packages' own."""

import hashlib

import pytest

from supply_chain.adapters.image.packaged_files import PackagedFiles, find_proven
from tests.support.filesystem import lay_files

PACKAGE = ("hat", "1")
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
def test_program_is_owned_if_all_its_files_are_owned(paths, owned):
    """One file beside them may be of another version."""
    packaged = PackagedFiles({"dpkg": {PERL}, "apk": {PYTHON}}, elsewhere={PACKAGE: {PYTHON, HAT}})

    assert packaged.are_of("dpkg", [PACKAGE], paths) is owned
    assert packaged.are_of("dpkg", [PACKAGE], iter(paths)) is owned
    assert not packaged.are_of("apk", [PACKAGE], paths)


def test_paths_of_other_versions_prove_only_their_package_version():
    """Anybody can write a record of a version that no archive has, and put an old program in the place of the new."""
    packaged = PackagedFiles({"dpkg": {PERL}}, elsewhere={PACKAGE: {PYTHON}})

    assert packaged.are_of("dpkg", [], (PERL,))
    assert packaged.are_of("dpkg", [PACKAGE], (PYTHON,))
    assert not packaged.are_of("dpkg", [], (PYTHON,))
    assert not packaged.are_of("dpkg", [("cap", "1")], (PYTHON,))
    assert not packaged.are_of("dpkg", [PACKAGE], (PYTHON, HAT))
    both = PackagedFiles(elsewhere={PACKAGE: {PYTHON}, ("cap", "1"): {HAT}})
    assert both.are_of("dpkg", [PACKAGE, ("cap", "1")], (PYTHON, HAT))


def test_records_of_uncompared_package_manager_are_trusted():
    """Those of another manager do not, nor that of a package of another version."""
    packaged = PackagedFiles(believed={"rpm"})

    assert packaged.are_of("rpm", [PACKAGE], ("/srv/perl",))
    assert not packaged.are_of("rpm", [], ("/srv/perl",))
    assert not packaged.are_of("dpkg", [PACKAGE], ("/srv/perl",))


def test_file_is_proven_by_published_content():
    """A link is no file, and what it leads to has a path of its own."""
    digest, cap = ("sha256", hashlib.sha256(b"perl").digest()), "/usr/bin/cap"
    _, files = lay_files({PERL: b"perl", PYTHON: b"perl 2", "opt/cap": b"perl"}, {cap: "/opt/cap"})
    checked = []

    published = dict.fromkeys((PERL, PYTHON, HAT, cap), (digest,))
    assert set(find_proven(files, published, lambda: checked.append(1))) == {PERL}
    assert len(checked) == 4


def test_proven_file_has_its_path_without_links():
    """The base may have another directory in the place of a link."""
    digest = ("sha256", hashlib.sha256(b"perl").digest())
    _, files = lay_files({PERL: b"perl"}, {"bin": "usr/bin"})

    assert set(find_proven(files, {"/bin/perl": (digest,)}, lambda: None)) == {PERL}
