"""Tests of which files of an image give more rights than their user has, besides setuid files (test_layers.py)."""

import tarfile
from itertools import chain

import pytest

from supply_chain.adapters.image.file_content import FileContent
from supply_chain.adapters.image.filesystem import Filesystem
from supply_chain.adapters.image.privileged_files import list_privileged

PRELOAD = "every program loads the libraries that it names"


def entry(path, mode=0o644, to="", size=1):
    """Return a file; a directory if its path ends with a slash; a link if it leads somewhere."""
    member = tarfile.TarInfo(path.rstrip("/"))
    member.mode, member.size, member.linkname = mode, size, to
    member.type = tarfile.SYMTYPE if to else tarfile.DIRTYPE if path.endswith("/") else tarfile.REGTYPE
    return member


def rights(*members):
    files: Filesystem[FileContent] = Filesystem()
    files.lay(iter(members), lambda _: None)
    return {each.path: each.rights for each in list_privileged(files)}


@pytest.mark.parametrize(
    "path",
    ["etc/passwd", "usr/bin/tool", "usr/lib/", "bin/sh", "lib64/ld.so", "root/.profile", "boot/", "var/",
     "var/spool/cron/crontabs/root", "usr/local/lib/python3.11/os.py"],
)  # fmt: skip
@pytest.mark.parametrize("mode", [0o666, 0o777, 0o002])
def test_world_writable_system_file_gives_more_rights(path, mode):
    """Everybody can change what root or another program reads or runs there, or replace what is in the directory."""
    assert rights(entry("var/spool/cron/crontabs/"), entry(path, mode)) == {f"/{path.rstrip('/')}": "world-writable"}


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("app/", 0o777), ("app/main.py", 0o777), ("srv/data/", 0o777), ("home/node/", 0o777), ("opt/venv/bin/x", 0o777),
        ("usr/src/", 0o777), ("usr/src/app/main.py", 0o777), ("var/lib/data/", 0o777), ("tmp/", 0o777),
        ("tmp/", 0o1777), ("var/tmp/", 0o1777), ("usr/local/bundle/", 0o1777), ("var/local/", 0o2775),
        ("usr/local/lib/python3.11/", 0o2775), ("etc/passwd", 0o664), ("etcetera", 0o666),
    ],
)  # fmt: skip
def test_other_writable_files_give_no_more_rights(path, mode):
    """The files of an application, other sticky directories, and what Debian's groups may write do not count."""
    assert rights(entry(path, mode)) == {}


@pytest.mark.parametrize("path", ["etc/", "usr/lib/python3/dist-packages/", "usr/bin/"])
def test_sticky_directory_counts_where_programs_look_for_files(path):
    """Everybody may add a file to it, such as /etc/ld.so.preload, though not change those of others."""
    assert list(rights(entry(path, 0o1777)).values()) == ["world-writable"]


def test_symbolic_link_has_rights_of_its_target():
    """The mode of a link is always 0777, and nobody uses it."""
    assert rights(entry("etc/mtab", 0o777, to="/proc/mounts"), entry("bin/sh", 0o777, to="dash")) == {}


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ([entry("bin", to="usr/bin"), entry("usr/bin/sh", 0o777)], "/usr/bin/sh"),
        ([entry("lib", to="/srv/lib"), entry("srv/lib/a/b.so", 0o666)], "/srv/lib/a/b.so"),
        ([entry("usr", to="/srv/x"), entry("srv/", 0o777), entry("srv/x/")], "/srv"),
        ([entry("etc/passwd", to="../srv/p"), entry("srv/p", 0o666)], "/srv/p"),
        ([entry("etc/a", to="/srv/a"), entry("srv/a/b", to="/data"), entry("data/c", 0o666)], "/data/c"),
    ],
)
def test_system_file_behind_link_counts(members, path):
    """A link in a system directory makes another place a part of it."""
    assert rights(*members) == {path: "world-writable"}


def test_links_in_circles_are_followed_once():
    """A link may lead to the directory above it, or to itself."""
    members = [entry("usr/bin/X11", to="."), entry("usr/all", to="/"), entry("etc/a", to="a"), entry("usr/x", 0o666)]
    assert rights(*members) == {"/usr/x": "world-writable"}


def test_only_topmost_world_writable_directory_is_listed():
    """`chmod -R 777 /usr` gives one finding: who may write a directory can replace what is below it."""
    below = chain.from_iterable((entry(f"usr/{n}/", 0o777), entry(f"usr/{n}/x", 0o777)) for n in range(2000))
    assert rights(entry("usr/", 0o777), *below, entry("etc/x", 0o666)) == {
        "/etc/x": "world-writable",
        "/usr": "world-writable",
    }


def test_all_rights_of_a_file_are_named():
    """A setuid file may be writable too."""
    assert rights(entry("usr/bin/su", 0o4777)) == {"/usr/bin/su": "setuid, world-writable"}


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ([entry("etc/ld.so.preload")], {"/etc/ld.so.preload": PRELOAD}),
        ([entry("etc/ld.so.preload", 0o666)], {"/etc/ld.so.preload": f"world-writable, {PRELOAD}"}),
        ([entry("etc/ld.so.preload", to="/tmp/none")], {"/etc/ld.so.preload": PRELOAD}),
        ([entry("etc", to="srv"), entry("srv/ld.so.preload")], {"/srv/ld.so.preload": PRELOAD}),
        ([entry("etc/ld.so.preload", size=0)], {}),
        ([entry("srv/ld.so.preload")], {}),
    ],
)
def test_preload_of_libraries_gives_more_rights(members, found):
    """The dynamic loader loads them into every program; a link may lead to a file that a later program makes."""
    assert rights(*members) == found
