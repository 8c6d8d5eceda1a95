"""Paths resolved as the kernel does it, and layers applied as containerd does."""

import io
import os
import stat
import subprocess
import sys
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters.image import filesystem
from supply_chain.adapters.image.filesystem import Filesystem, Kind, LayerInvalid, printable
from tests.unit.conftest import tries


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
    files = Filesystem()
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
def test_a_path_leads_where_the_kernel_finds_it(path, real):
    """Links in the middle, `..` after a link, above the root, loops, and links to nothing (path_resolution(7))."""
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


def test_a_link_itself_is_had_without_following_it():
    """Its way is followed all the same."""
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
import os, sys
os.chroot(sys.argv[1])
os.chdir("/")
for path in sys.argv[2:]:
    try:
        print(os.stat(path).st_ino)
    except OSError:
        print(0)
"""


@tries(60)
@given(entries, st.lists(ways, min_size=1, max_size=5))
def test_resolves_paths_as_the_kernel_in_a_chroot(tmp_path_factory, members, asked):
    """The same files in a directory, and the kernel asked in a process whose root that is."""
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
    as_root = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
    kernel = subprocess.run(
        [*as_root, sys.executable, "-c", LOOK, root, *asked], capture_output=True, text=True, check=True
    )

    for path, inode in zip(asked, map(int, kernel.stdout.split()), strict=True):
        found = files.resolve(path)
        assert (inodes[found[0]] if found else 0) == inode, path


def test_a_layer_writes_through_its_own_links():
    """And not under the name that it uses; that engines differ about it is remembered."""
    files = laid([directory("usr/bin"), link("a", "/usr/bin"), entry("a/su")], [entry("a/.wh.su")])

    assert "/usr/bin/su" in paths(files)
    assert files.conflicts == ["a/su is written through the link a", "a/.wh.su is written through the link a"]


def test_a_layer_that_needs_a_directory_where_a_link_is_replaces_it():
    """containerd on overlayfs unpacks it beside the layers below; others would follow the link."""
    files = laid([entry("usr/bin/x"), link("a", "usr/bin")], [entry("a/su")])

    assert paths(files) == ["/a", "/usr", "/usr/bin", "/usr/bin/x", "/a/su"]
    assert files.conflicts == ["a/su is written through the link a"]


def test_a_directory_that_a_layer_lists_replaces_a_link_everywhere():
    """`COPY --link` makes such layers: engines agree."""
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
def test_what_engines_refuse_or_unpack_differently_is_told(layers):
    """An image whose files depend on the engine is no image that was judged."""
    assert laid(*layers).conflicts


@pytest.mark.parametrize(
    "layers",
    [
        [[entry("a/b/c")], [entry("a/b/d"), entry("a/.wh.b")][:1]],
        [[entry("f")], [directory("f"), entry("f/x")]],
        [[entry("f")], [entry(".wh.f")], [entry("f/x")]],
        [[directory("d"), entry("d/f")], [entry("d")], [directory("d"), entry("d/g")]],
        [[entry("f"), entry("g", tarfile.LNKTYPE, "./f")]],
        [[entry("./"), entry("./a"), entry("/b"), entry("x/../c")]],
    ],
)
def test_ordinary_layers_are_not_in_conflict(layers):
    """As BuildKit and others write them."""
    assert laid(*layers).conflicts == []


def test_names_of_one_file_share_its_mode():
    """The last entry's mode is the file's, under whichever name it came."""
    files = laid([entry("a"), entry("b", tarfile.LNKTYPE, "a", mode=0o4755)])

    assert files.resolve("/a")[1] is files.resolve("/b")[1]
    assert stat.filemode(files.resolve("/a")[1].mode | stat.S_IFREG) == "-rwsr-xr-x"


def test_a_hidden_name_leaves_the_other_one():
    """A hard link is a name, not a copy."""
    files = laid([entry("a"), entry("b", tarfile.LNKTYPE, "a")], [entry(".wh.a")])

    assert paths(files) == ["/b"] and files.resolve("/b")[1].content == "a"


@pytest.mark.parametrize(
    "member", [entry("a\0b"), entry("x" * 5000), entry("d/" * 300 + "f"), entry("a", b"Z"), entry(".wh...")]
)
def test_what_no_file_can_be_is_no_layer(member):
    """Neither is one that would take for ever."""
    with pytest.raises(LayerInvalid):
        laid([member])


def test_more_files_than_are_read_are_no_layer(monkeypatch):
    """Memory does not grow with what somebody packs."""
    monkeypatch.setattr(filesystem, "MOST_ENTRIES", 3)
    with pytest.raises(LayerInvalid, match="more than 3 files"):
        laid([entry(str(number)) for number in range(4)])


def test_conflicts_are_remembered_up_to_a_bound():
    """One is enough."""
    files = laid([link("l", "/")], [entry(f"l/{number}") for number in range(300)])

    assert len(files.conflicts) == filesystem.MOST_CONFLICTS


def test_a_name_that_is_no_text_can_be_shown():
    """Bytes and control characters as escapes."""
    assert printable("/a\udcff\n\u202e") == "/a\\xff\\n\\u202e"


@given(st.binary(max_size=1500))
def test_any_archive_is_read_or_refused(content):
    """Whatever the entries are."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            laid(list(archive))
    except (tarfile.TarError, LayerInvalid, ValueError, EOFError):
        return
