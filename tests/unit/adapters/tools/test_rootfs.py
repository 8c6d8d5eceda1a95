"""How Debian packages become one root filesystem."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from supply_chain.adapters.tools.rootfs import Package, Rootfs, merged, merged_link, needed
from supply_chain.errors import BuildFailed

EPOCH = 1_700_000_000

Members = dict[str, bytes | tarfile.TarInfo]


def tar(members: Members) -> tarfile.TarFile:
    """A package's part, as dpkg-deb gives it: paths begin with ./, files are from the future."""
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
    """A function that writes a root of one package with these members and reads it again."""

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
def test_directories_are_merged(path: str, place: str):
    """What lies in /bin, /sbin or /lib lies in /usr."""
    assert merged(path) == place


@pytest.mark.parametrize(
    ("path", "target", "place"),
    [("bin/sh", "dash", "dash"), ("lib64/ld.so", "/lib/x/ld.so", "/lib/x/ld.so"),
     ("lib/a.so", "../usr/lib/b.so", "b.so"), ("sbin/x", "../bin/y", "../bin/y"),
     ("usr/lib/a", "../../lib/b", "../../lib/b")],
)  # fmt: skip
def test_links_still_lead_where_they_led(path: str, target: str, place: str):
    """A relative link that moved has another way to go."""
    assert merged_link(path, target) == place


def test_the_root_is_merged_whatever_the_packages_bring(written):
    """A directory of the old kind in a package does not replace the link."""
    root = written({"bin": entry(tarfile.DIRTYPE), "bin/tool": b"#!", "lib": entry(tarfile.SYMTYPE, "elsewhere")})

    assert {name: root.getmember(name).linkname for name in ("bin", "sbin", "lib", "lib64")} == {
        name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")
    }
    assert root.getmember("usr/lib").isdir()
    assert content(root, "usr/bin/tool") == b"#!"


def test_the_same_packages_give_the_same_bytes(tmp_path: Path):
    """Whatever the order in which a package lists its files."""
    members: Members = {"usr/share/b": b"b", "usr/share/a": b"a", "etc/c": b"c"}
    made = []
    for number, order in enumerate((members, dict(reversed(members.items())))):
        root = Rootfs(EPOCH)
        root.add_package(package(), tar(order))
        root.complete()
        root.write(tmp_path / str(number))
        made.append((tmp_path / str(number)).read_bytes())

    assert made[0] == made[1]


def test_no_file_is_newer_than_the_epoch_and_owners_are_numbers(written):
    """SOURCE_DATE_EPOCH's specification: later times are clamped."""
    owned = entry(tarfile.DIRTYPE)
    owned.uid, owned.gid, owned.uname = 7, 8, "someone"
    root = written({"var/spool/own": owned, "etc/x": b"x"})

    assert {member.mtime for member in root} == {EPOCH}
    assert {member.uname for member in root} == {""}
    assert (root.getmember("var/spool/own").uid, root.getmember("var/spool/own").gid) == (7, 8)


def test_what_two_packages_bring_the_first_keeps(tmp_path: Path):
    """One path is in the tar once."""
    root = Rootfs(EPOCH)
    root.add_package(package("first"), tar({"etc/x": b"first"}))
    root.add_package(package("second"), tar({"etc/x": b"second"}))
    root.write(tmp_path / "root.tar")

    with tarfile.open(tmp_path / "root.tar") as made:
        assert made.getnames().count("etc/x") == 1
        assert content(made, "etc/x") == b"first"


def test_hard_links_follow_their_files(written):
    """A reader of the tar has to know the file before the link, and under its new path."""
    root = written({"bin/a-link": entry(tarfile.LNKTYPE, "./bin/file"), "bin/file": b"content"})

    assert root.getmember("usr/bin/a-link").linkname == "usr/bin/file"
    assert root.getnames().index("usr/bin/file") < root.getnames().index("usr/bin/a-link")
    assert content(root, "usr/bin/a-link") == b"content"


def test_documentation_stays_out_and_copyright_stays_in(written):
    """A container reads no manual, but licences ask to be kept."""
    root = written(
        {
            "usr/share/doc/thing/README": b"r",
            "usr/share/doc/thing/copyright": b"c",
            "usr/share/man/man1/thing.1": b"m",
            "usr/share/locale/de/x.mo": b"l",
            "var/cache/x": b"x",
        }
    )
    kept = {name for name in root.getnames() if name.endswith(("/README", "/copyright", ".1", ".mo", "cache/x"))}

    assert kept == {"usr/share/doc/thing/copyright"}


def test_scanners_find_the_package(written):
    """Its paragraph, and the checksums of what was kept, under the paths it has here."""
    sums = "aa  lib/x.so\nbb  usr/share/man/x.1\n"
    root = written({"lib/x.so": b"x"}, package(sums=sums))

    assert content(root, "var/lib/dpkg/status.d/thing") == b"Package: thing\nVersion: 1:2-3\n"
    assert content(root, "var/lib/dpkg/status.d/thing.md5sums") == b"aa  usr/lib/x.so\n"


def test_devices_are_refused(written):
    """An image has none, and a package that brings one is not what was meant."""
    with pytest.raises(BuildFailed, match="dev/null is a device"):
        written({"dev/null": entry(tarfile.CHRTYPE)})


def test_installation_scripts_are_made_up_for(written):
    """Nobody runs them: users, name service, certificates and the shell are made here."""
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


def test_no_shell_where_none_was_asked_for(written):
    """A runtime base has none."""
    assert "usr/bin/sh" not in written({"etc/x": b"x"}).getnames()


def test_what_only_installation_needs_is_left_out():
    """Not dpkg, nor what nothing but dpkg needs."""
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

    assert needed(["python3"], fetched) == {"python3", "python3-minimal", "libpython3", "libssl3t64", "zlib1g"}


def test_what_is_asked_for_by_name_is_never_left_out():
    """A declared package that is silently not there would be a riddle."""
    fetched = [package("openssl", "Depends: libssl3\n"), package("libssl3"), package("dpkg")]

    assert needed(["openssl"], fetched) == {"openssl", "libssl3"}


def test_a_package_is_read_from_its_control_part():
    """Fields may run over several lines, and names carry versions and architectures."""
    read = Package.read(
        tar({"control": b"Package: a\nVersion: 1\nDepends: b:any (>= 2),\n c\nSize: 1\n", "md5sums": b"aa  x\n"})
    )

    assert (read.name, read.version, read.needs, read.sums) == ("a", "1", {"b", "c"}, "aa  x\n")


def test_a_package_without_a_name_is_refused():
    """Something else was fetched."""
    with pytest.raises(BuildFailed, match="no field Package"):
        _ = Package("Version: 1\n", "").name
