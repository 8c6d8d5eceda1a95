"""Tests of how lists of files are found that nothing reads."""

import pytest

from supply_chain.adapters.image.package_records import find_unread_databases, name_unread_manager
from tests.support.filesystem import lay_files

RPM = b"RpmP" + bytes(40)
SQLITE = b"SQLite format 3\0" + bytes(64 * 1024) + b"CREATE TABLE 'Packages' (hnum INTEGER)"


def find(contents, links=None):
    """Return path → package manager of the lists in an image of these files and links."""
    return find_unread_databases(lay_files(contents, links)[1], lambda: None)


@pytest.mark.parametrize(
    ("path", "content", "manager"),
    [
        ("/var/lib/pacman/local/evil/desc", b"%VERSION%\n1\n\n%NAME%\nevil\n", "pacman"),
        ("/var/lib/rpm/rpmdb.sqlite", SQLITE, "rpm"),
        ("/var/lib/rpmmanifest/container-manifest-2", b"evil\t1\n", "rpm"),
        ("/var/db/pkg/a/evil-1.0/CONTENTS", b"", "portage"),
        ("/var/lib/rpm/other", RPM, "rpm"),
        ("/var/lib/rpm/Packages", b"", ""),
        ("/var/lib/rpm/other", b"any", ""),
        ("/var/db/pkg/a/evil-1.0/PF", b"any", ""),
        ("/var/lib/dpkg/status", b"any", ""),
    ],
)
def test_list_of_files_is_found_by_path_or_content(path, content, manager):
    """syft reads what has the path, in any order and at any position."""
    _, files = lay_files({path.lstrip("/"): content})
    resolved = files.resolve(path)

    assert resolved is not None
    assert name_unread_manager(path, resolved[1]) == manager
    assert find({path.lstrip("/"): content}) == ({path: manager} if manager else {})


@pytest.mark.parametrize(
    ("file", "link", "target", "manager"),
    [
        ("opt/db/pkg/a/evil-1.0/CONTENTS", "var/db", "../opt/db", "portage"),
        ("opt/any", "var/lib/pacman/local/evil/desc", "/opt/any", "pacman"),
        ("opt/rpm/rpmdb.sqlite", "var/lib", "/opt", "rpm"),
        ("var/lib/rpm/any", "x/usr/share/rpm/Packages", "/var/lib/rpm/any", "rpm"),
    ],
)
def test_list_of_files_is_found_through_a_link(file, link, target, manager):
    """syft follows links."""
    assert find({file: b"any content"}, {link: target}) == {f"/{file}": manager}


def test_list_of_files_is_found_below_any_directory():
    """syft reads it there too, and no base has it."""
    assert find({"x/var/lib/rpm/Packages": b"any", "x/lib/dpkg/status": b"any"}) == {"/x/var/lib/rpm/Packages": "rpm"}
