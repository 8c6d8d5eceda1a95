"""Tests that paths are resolved as the kernel does, and that layers are applied as containerd does."""

import io
import json
import os
import stat
import subprocess
import sys
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters.image import filesystem
from supply_chain.adapters.image.filesystem import Filesystem, Kind, LayerInvalid, escape_path
from tests.support.examples import tries
from tests.support.present import present


def entry(name, kind=tarfile.REGTYPE, to="", mode=0o755, **fields):
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, to, mode
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def link(name, to):
    return entry(name, tarfile.SYMTYPE, to)


def directory(name, **fields):
    return entry(name, tarfile.DIRTYPE, **fields)


def laid(*layers):
    files: Filesystem[str] = Filesystem()
    for layer in layers:
        files.lay(iter(layer), lambda member: member.name)
    return files


def paths(files):
    return [path for path, _ in files.walk()]


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("/usr/lib/os-release", "/usr/lib/os-release"),
        ("/etc/os-release", "/usr/lib/os-release"),
        ("/lib/os-release", "/usr/lib/os-release"),
        ("//lib/./../lib//os-release", "/usr/lib/os-release"),
        ("/up/lib/os-release", "/usr/lib/os-release"),
        ("/etc/../../../lib/os-release", "/usr/lib/os-release"),
        ("/dots", "/usr"),
        ("/", "/"),
        ("/loop", None),
        ("/one", None),
        ("/nowhere", None),
        ("/usr/lib/os-release/..", None),
        ("/usr/lib/os-release/x", None),
        ("/missing/..", None),
        ("/empty", None),
    ],
)
def test_resolve_follows_path_as_kernel_does(path, real):
    """This covers links in the middle, `..` after a link or above the root, loops and dangling links
    (path_resolution(7))."""
    files = laid(
        [
            entry("usr/lib/os-release"),
            link("etc/os-release", "../usr/lib/os-release"),
            link("lib", "usr/lib"),
            link("up", "../../usr"),
            link("dots", "lib/.."),
            link("loop", "loop"),
            link("one", "two"),
            link("two", "/one"),
            link("nowhere", "gone/file"),
            link("empty", ""),
        ]
    )

    found = files.resolve(path)

    assert (found[0] if found else None) == real


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("/proc/self/root/opt/f", "/opt/f"),
        ("/proc/7/root/opt/f", "/opt/f"),
        ("/proc/thread-self/root/opt/f", "/opt/f"),
        ("/proc/self/task/9/root/opt/f", "/opt/f"),
        ("/proc/self/../1/fd/../cwd/f", "/opt/f"),
        ("/dev/fd/../root/proc/1/cwd/../opt/f", "/opt/f"),
        ("/in/opt/f", "/opt/f"),
        ("/sys/../opt/f", "/opt/f"),
        ("/dev/shm/../../opt/f", "/opt/f"),
        ("/proc/sys/../self/ns/../root/opt/f", "/opt/f"),
        ("/proc/07/root/opt/f", None),
        ("/proc/x/root/opt/f", None),
    ],
)
@pytest.mark.parametrize("own", [[], [entry("proc/self"), entry("proc/1/root/opt/f"), entry("proc/x/root/opt/f")]])
def test_resolve_follows_links_through_mounted_proc(path, real, own):
    """Over whatever the image has there; a process finds its root and its directory below /proc (proc(5))."""
    files = laid([entry("opt/f"), link("in", "proc/self/root"), *own])
    files.working_directory = "/opt"

    found = files.resolve(path, mounted=True)

    assert (found[0] if found and found[1].content else None) == real


def test_resolve_for_scanners_ignores_mounted_proc():
    """They read the image alone."""
    assert laid([entry("opt/f"), link("in", "/proc/self/root/opt/f")]).resolve("/in") is None


def test_resolve_without_follow_returns_the_link_itself():
    """Links in the directories of the path are still followed."""
    files = laid([entry("a/f"), link("b", "a"), link("a/l", "f")])

    assert files.resolve("/b/l", follow=False)[0] == "/a/l"
    assert files.resolve("/b/l")[0] == "/a/f"


names = st.sampled_from(["a", "b", "c"])
ways = st.lists(st.sampled_from(["a", "b", "c", ".."]), min_size=1, max_size=4).map("/".join)
entries = st.lists(
    st.one_of(
        st.builds(entry, st.lists(names, min_size=1, max_size=3).map("/".join)),
        st.builds(directory, st.lists(names, min_size=1, max_size=3).map("/".join)),
        st.builds(link, st.lists(names, min_size=1, max_size=3).map("/".join), st.one_of(ways, ways.map("/{}".format))),
    ),
    max_size=8,
)
LOOK = """
import json, os, sys

def look(path):
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0

for line in sys.stdin:
    root, *asked = json.loads(line)
    if not os.fork():
        os.chroot(root)
        os.chdir("/")
        print(json.dumps([look(path) for path in asked]), flush=True)
        sys.exit()
    if os.wait()[1]:
        sys.exit(1)
"""


@pytest.fixture(scope="module")
def kernel():
    """Return a function that asks the kernel for the inodes of paths, as a process with that root."""
    as_root = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
    with subprocess.Popen(
        [*as_root, sys.executable, "-c", LOOK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def look(root, asked):
            print(json.dumps([str(root), *asked]), file=process.stdin, flush=True)
            return json.loads(present(process.stdout).readline())

        yield look


@tries(60)
@given(entries, st.lists(ways, min_size=1, max_size=5))
def test_resolve_agrees_with_kernel_in_a_chroot(tmp_path_factory, kernel, members, asked):
    """The same files are created in a directory, and a process with that root asks the kernel."""
    files = laid(members)
    root = tmp_path_factory.mktemp("root")
    inodes = {"/": root.stat().st_ino}
    for path, node in files.walk():
        made = root / path[1:]
        if node.kind is Kind.DIRECTORY:
            made.mkdir()
        elif node.kind is Kind.LINK:
            made.symlink_to(node.target)
        else:
            made.touch()
        inodes[path] = made.lstat().st_ino

    for path, inode in zip(asked, kernel(root, asked), strict=True):
        found = files.resolve(path)
        assert (inodes[found[0]] if found else 0) == inode, path


def test_layer_entry_through_link_of_same_layer_is_a_conflict():
    """The entry is written to the target of the link, which engines handle differently."""
    files = laid([directory("usr/bin"), link("a", "/usr/bin"), entry("a/su")], [entry("a/.wh.su")])

    assert "/usr/bin/su" in paths(files)
    assert files.conflicts == ["a/su is written through the link a", "a/.wh.su is written through the link a"]


def test_layer_directory_replaces_link_of_lower_layer():
    """containerd with overlayfs replaces the link; other engines would follow it."""
    files = laid([entry("usr/bin/x"), link("a", "usr/bin")], [entry("a/su")])

    assert paths(files) == ["/a", "/usr", "/usr/bin", "/usr/bin/x", "/a/su"]
    assert files.conflicts == ["a/su is written through the link a"]


def test_listed_layer_directory_replaces_link_without_conflict():
    """`COPY --link` creates such layers, and engines agree about them."""
    files = laid([entry("usr/bin/x"), link("a", "usr/bin")], [directory("a"), entry("a/su")])

    assert "/a/su" in paths(files) and files.conflicts == []


@pytest.mark.parametrize(
    "layers",
    [
        [[entry("f")], [entry("f/x/y")]],
        [[entry("f"), entry("f/x")]],
        [[link("l", "l"), entry("l/x")]],
        [[], [entry("f"), entry(".wh.f")]],
        [[], [entry(".wh.f"), entry("f/x")]],
        [[], [entry(".wh.f"), entry("f")]],
        [[], [entry(".wh.d"), directory("d")]],
        [[], [directory("d"), entry(".wh.d")]],
        [[directory(".wh.d")]],
        [[], [directory(".wh.d")]],
        [[entry(".wh.d/f")]],
        [[entry("a/.wh.d/b/f")]],
        [[], [entry("d/.wh.f", size=1)]],
        [[], [link("d/.wh.f", "x")]],
        [[], [entry("d/.wh.f", tarfile.CHRTYPE, devminor=1)]],
        [[], [directory("d/.wh..wh..opq")]],
        [[], [entry(".wh..wh.plnk")]],
        [[], [entry("d/.wh..wh..opq.x")]],
        [[entry("f")], [entry(".wh..wh..opq")]],
        [[entry("f")], [entry("g", tarfile.LNKTYPE, "f")]],
        [[entry("g", tarfile.LNKTYPE, "gone")]],
        [[entry("g", tarfile.LNKTYPE, "g")]],
        [[directory("d"), entry("g", tarfile.LNKTYPE, "d")]],
        [[directory("b/a"), entry("b")]],
        [[entry("n", tarfile.CHRTYPE)]],
    ],
    ids=lambda layers: " | ".join(",".join(each.name for each in layer) for layer in layers),
)
def test_layers_that_engines_treat_differently_are_conflicts(layers):
    """The files that were checked must not depend on the engine."""
    assert laid(*layers).conflicts


@pytest.mark.parametrize(
    "layers",
    [
        [[entry("a/b/c")], [entry("a/b/d"), entry("a/.wh.b")][:1]],
        [[entry("f")], [directory("f"), entry("f/x")]],
        [[entry("f")], [entry(".wh.f")], [entry("f/x")]],
        [[entry("d/f")], [directory("d"), entry("d/.wh..wh..opq"), entry("d/f")]],
        [[entry("d/.wh/f"), entry("d/x.wh.y")], [entry("d/.wh.f"), entry("d/g")]],
        [[directory("d"), entry("d/f")], [entry("d")], [directory("d"), entry("d/g")]],
        [[entry("f"), entry("g", tarfile.LNKTYPE, "./f")]],
        [[entry("./"), entry("./a"), entry("/b"), entry("x/../c")]],
    ],
)
def test_ordinary_layers_have_no_conflicts(layers):
    """BuildKit and other builders write such layers."""
    assert laid(*layers).conflicts == []


def test_hard_links_share_the_mode_of_the_last_entry():
    """The mode belongs to the file, not to one of its names."""
    files = laid([entry("a"), entry("b", tarfile.LNKTYPE, "a", mode=0o4755)])

    assert files.resolve("/a")[1] is files.resolve("/b")[1]
    assert stat.filemode(files.resolve("/a")[1].mode | stat.S_IFREG) == "-rwsr-xr-x"


def test_whiteout_of_one_hard_link_keeps_the_other():
    """A hard link is a name, not a copy."""
    files = laid([entry("a"), entry("b", tarfile.LNKTYPE, "a")], [entry(".wh.a")])

    assert paths(files) == ["/b"] and files.resolve("/b")[1].content == "a"


@pytest.mark.parametrize(
    "member", [entry("a\0b"), entry("x" * 5000), entry("d/" * 300 + "f"), entry("a", b"Z"), entry(".wh...")]
)
def test_layer_with_impossible_entry_is_refused(member):
    """This includes names that would take too long to process."""
    with pytest.raises(LayerInvalid):
        laid([member])


def test_layer_with_too_many_entries_is_refused(monkeypatch):
    """The memory use must not depend on the image."""
    monkeypatch.setattr(filesystem, "MOST_ENTRIES", 3)
    with pytest.raises(LayerInvalid, match="more than 3 files"):
        laid([entry(str(number)) for number in range(4)])


def test_directories_that_no_layer_lists_count_as_entries(monkeypatch):
    """One entry of a few bytes may create 256 of them."""
    monkeypatch.setattr(filesystem, "MOST_ENTRIES", 5)
    laid([entry("a/b/c/d"), entry("a/b/c/d")])
    with pytest.raises(LayerInvalid, match="more than 5 files"):
        laid([entry("a/b/c/d"), entry("e/f")])


def test_conflicts_are_recorded_up_to_a_limit():
    """One conflict is enough for a refusal."""
    files = laid([link("l", "/")], [entry(f"l/{number}") for number in range(300)])

    assert len(files.conflicts) == filesystem.MOST_CONFLICTS


def test_lower_files_are_those_of_the_first_layers():
    """What a layer above adds, replaces or hides is not among them, and the files of all stay as they are."""
    files = laid([entry("d/a", uid=1), entry("b")], [entry("d/a", uid=2), entry("d/c"), entry(".wh.b")])

    def list_files(of):
        return {path: node.uid for path, node in of.walk() if node.kind is Kind.FILE}

    below, everything = {"/b": 0, "/d/a": 1}, {"/d/a": 2, "/d/c": 0}
    assert list_files(files.lower(1)) == below
    assert list_files(files) == list_files(files.lower(2)) == everything
    assert list_files(files.lower(0)) == {}
    assert list_files(files.lower(1)) == below


def test_printable_escapes_bytes_and_control_characters():
    """A name may not be valid text."""
    assert escape_path("/a\udcff\n\u202e") == "/a\\xff\\n\\u202e"


@given(st.binary(max_size=1500))
def test_any_archive_is_read_or_refused(content):
    """No content raises an unexpected exception."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            laid(list(archive))
    except (tarfile.TarError, LayerInvalid, ValueError, EOFError):
        return
