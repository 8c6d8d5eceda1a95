"""Tests of how Debian packages are combined into one root filesystem."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from supply_chain.adapters.tools.rootfs import Package, Rootfs, merge_link, merge_path, resolve_dependencies
from supply_chain.errors import BuildFailed

EPOCH = 1_700_000_000

Members = dict[str, bytes | tarfile.TarInfo]


def tar(members: Members) -> tarfile.TarFile:
    """Return the data part of a package as dpkg-deb writes it, with paths below ./ and times after the epoch."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name, value in members.items():
            info = value if isinstance(value, tarfile.TarInfo) else tarfile.TarInfo(f"./{name}")
            info.name, info.mtime = f"./{name}", EPOCH + 1000
            if isinstance(value, bytes):
                info.size = len(value)
                made.addfile(info, io.BytesIO(value))
            else:
                made.addfile(info)
    return tarfile.open(fileobj=io.BytesIO(buffer.getvalue()))


def entry(kind: bytes, link: str = "", mode: int = 0o755) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def package(name: str = "thing", fields: str = "", sums: str = "") -> Package:
    return Package(f"Package: {name}\nVersion: 1:2-3\n{fields}", sums)


@pytest.fixture
def written(tmp_path: Path):
    """Return a function that writes a root filesystem of one package with these members and opens it."""

    def write(members: Members, of: Package | None = None) -> tarfile.TarFile:
        root = Rootfs(EPOCH)
        root.add_package(of or package(), tar(members))
        root.complete()
        root.write(tmp_path / "root.tar")
        return tarfile.open(fileobj=io.BytesIO((tmp_path / "root.tar").read_bytes()))

    return write


def content(root: tarfile.TarFile, name: str) -> bytes:
    stream = root.extractfile(name)
    assert stream is not None
    return stream.read()


@pytest.mark.parametrize(
    ("path", "place"),
    [("./lib/x/libc.so", "usr/lib/x/libc.so"), ("bin/dash", "usr/bin/dash"), ("./usr/bin/env", "usr/bin/env"),
     ("lib64/ld.so", "usr/lib64/ld.so"), ("./library/x", "library/x"), ("etc/lib/x", "etc/lib/x")],
)  # fmt: skip
def test_merged_moves_paths_below_usr(path: str, place: str):
    """Files in /bin, /sbin and /lib belong into /usr (merged-usr)."""
    assert merge_path(path) == place


@pytest.mark.parametrize(
    ("path", "target", "place"),
    [("bin/sh", "dash", "dash"), ("lib64/ld.so", "/lib/x/ld.so", "/lib/x/ld.so"),
     ("lib/a.so", "../usr/lib/b.so", "b.so"), ("sbin/x", "../bin/y", "../bin/y"),
     ("usr/lib/a", "../../lib/b", "../../lib/b")],
)  # fmt: skip
def test_merged_link_keeps_target_of_moved_link(path: str, target: str, place: str):
    """A relative link needs another target after its move."""
    assert merge_link(path, target) == place


def test_root_has_merged_usr_links_whatever_packages_contain(written):
    """A directory in a package must not replace the link."""
    root = written({"bin": entry(tarfile.DIRTYPE), "bin/tool": b"#!", "lib": entry(tarfile.SYMTYPE, "elsewhere")})

    assert {name: root.getmember(name).linkname for name in ("bin", "sbin", "lib", "lib64")} == {
        name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")
    }
    assert root.getmember("usr/lib").isdir()
    assert content(root, "usr/bin/tool") == b"#!"


def test_equal_packages_give_equal_bytes(tmp_path: Path):
    """The order in which a package lists its files does not matter."""
    members: Members = {"usr/share/b": b"b", "usr/share/a": b"a", "etc/c": b"c"}
    made = []
    for number, order in enumerate((members, dict(reversed(members.items())))):
        root = Rootfs(EPOCH)
        root.add_package(package(), tar(order))
        root.complete()
        root.write(tmp_path / str(number))
        made.append((tmp_path / str(number)).read_bytes())

    assert made[0] == made[1]


def test_times_are_clamped_to_epoch_and_owners_are_numeric(written):
    """The specification of SOURCE_DATE_EPOCH requires that later times are clamped."""
    owned = entry(tarfile.DIRTYPE)
    owned.uid, owned.gid, owned.uname = 7, 8, "someone"
    root = written({"var/spool/own": owned, "etc/x": b"x"})

    assert {member.mtime for member in root} == {EPOCH}
    assert {member.uname for member in root} == {""}
    assert (root.getmember("var/spool/own").uid, root.getmember("var/spool/own").gid) == (7, 8)


def test_first_package_keeps_path_of_two_packages(tmp_path: Path):
    """A path occurs only once in the archive."""
    root = Rootfs(EPOCH)
    root.add_package(package("first"), tar({"etc/x": b"first"}))
    root.add_package(package("second"), tar({"etc/x": b"second"}))
    root.write(tmp_path / "root.tar")

    with tarfile.open(tmp_path / "root.tar") as made:
        assert made.getnames().count("etc/x") == 1
        assert content(made, "etc/x") == b"first"


def test_hard_links_follow_their_target_in_the_archive(written):
    """A reader has to know the file, under its new path, before the link."""
    root = written({"bin/a-link": entry(tarfile.LNKTYPE, "./bin/file"), "bin/file": b"content"})

    assert root.getmember("usr/bin/a-link").linkname == "usr/bin/file"
    assert root.getnames().index("usr/bin/file") < root.getnames().index("usr/bin/a-link")
    assert content(root, "usr/bin/a-link") == b"content"


def test_documentation_is_removed_except_copyright_files(written):
    """A container needs no manuals, but licences require their text to be kept."""
    root = written(
        {
            "usr/share/doc/thing/README": b"r",
            "usr/share/doc/thing/copyright": b"c",
            "usr/share/man/man1/thing.1": b"m",
            "usr/share/locale/de/x.mo": b"l",
            "var/cache/x": b"x",
        }
    )
    remaining = {name for name in root.getnames() if name.endswith(("/README", "/copyright", ".1", ".mo", "cache/x"))}

    assert remaining == {"usr/share/doc/thing/copyright"}


def test_package_record_is_written_for_scanners(written):
    """It has the control paragraph and the checksums of the remaining files under their new paths."""
    sums = "aa  lib/x.so\nbb  usr/share/man/x.1\n"
    root = written({"lib/x.so": b"x"}, package(sums=sums))

    assert content(root, "var/lib/dpkg/status.d/thing") == b"Package: thing\nVersion: 1:2-3\n"
    assert content(root, "var/lib/dpkg/status.d/thing.md5sums") == b"aa  usr/lib/x.so\n"


def test_package_with_device_is_refused(written):
    """An image must not contain devices."""
    with pytest.raises(BuildFailed, match="dev/null is a device"):
        written({"dev/null": entry(tarfile.CHRTYPE)})


def test_results_of_installation_scripts_are_created(written):
    """No script is run, so users, name service, certificates and the shell are created directly."""
    root = written(
        {
            "usr/share/ca-certificates/mozilla/B.crt": b"b\n",
            "usr/share/ca-certificates/mozilla/A.crt": b"a\n",
            "usr/bin/dash": b"#",
        }
    )

    assert content(root, "etc/ssl/certs/ca-certificates.crt") == b"a\nb\n"
    assert root.getmember("usr/lib/ssl/cert.pem").linkname == "/etc/ssl/certs/ca-certificates.crt"
    assert b"app:x:10001:10001:" in content(root, "etc/passwd")
    assert root.getmember("home/app").uid == 10001
    assert root.getmember("usr/bin/sh").linkname == "dash"


def test_root_without_dash_has_no_shell(written):
    """A runtime base contains no shell."""
    assert "usr/bin/sh" not in written({"etc/x": b"x"}).getnames()


def test_needed_omits_dpkg_and_its_own_dependencies():
    """Packages that only the installation needs are left out."""
    fetched = [
        package("python3", "Pre-Depends: python3-minimal (= 3)\nDepends: libpython3 (= 3),\n libssl3 | libssl4\n"),
        package("python3-minimal", "Depends: dpkg (>= 1.13), libz\n"),
        package("libpython3"),
        package("libssl3t64", "Provides: libssl3 (= 3)\n"),
        package("zlib1g", "Provides: libz\n"),
        package("dpkg", "Depends: tar, libselinux1\n"),
        package("libselinux1"),
        package("tar"),
        package("unrelated"),
    ]

    assert resolve_dependencies(["python3"], fetched) == {
        "python3",
        "python3-minimal",
        "libpython3",
        "libssl3t64",
        "zlib1g",
    }


def test_needed_keeps_declared_package():
    """A declared package must never be omitted silently."""
    fetched = [package("openssl", "Depends: libssl3\n"), package("libssl3"), package("dpkg")]

    assert resolve_dependencies(["openssl"], fetched) == {"openssl", "libssl3"}


def test_package_is_read_from_its_control_archive():
    """Fields may span several lines, and names may have versions and architectures."""
    read = Package.read(
        tar({"control": b"Package: a\nVersion: 1\nDepends: b:any (>= 2),\n c\nSize: 1\n", "md5sums": b"aa  x\n"})
    )

    assert (read.name, read.version, read.needs, read.sums) == ("a", "1", {"b", "c"}, "aa  x\n")


def test_package_without_name_is_refused():
    """The fetched file is then no package."""
    with pytest.raises(BuildFailed, match="no field Package"):
        _ = Package("Version: 1\n", "").name
