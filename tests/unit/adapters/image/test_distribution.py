"""Tests of how the distribution of an image and its package databases are found."""

import base64
import hashlib
import io
import sys
import tarfile
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters.image.budget import MAX_SECONDS, Budget, TooLong
from supply_chain.adapters.image.database_paths import list_scanned
from supply_chain.adapters.image.distribution import examine, parse_assignments
from supply_chain.adapters.image.file_content import HEAD, ContentStore, FileContent, read_file
from supply_chain.adapters.image.filesystem import Filesystem
from supply_chain.adapters.image.package_records import read_installed_files
from tests.support.filesystem import lay_files

RECORD = "Package: apt\nStatus: install ok installed\nVersion: 2\n"
APK = "C:Q1abc=\nP:musl\nV:1.2\n"
RPM = "RpmP" + "\0" * 40
DEBIAN = 'ID=debian\nVERSION_ID="12"\n'
UBUNTU = "ID=ubuntu\nID_LIKE=debian\n"
OWN = "/var/lib/dpkg/status"


def examined(files, links=None, conflicts=()):
    made: Filesystem[FileContent] = Filesystem()
    keeper = ContentStore(io.BytesIO())
    members = []
    for path, text in files.items():
        member = tarfile.TarInfo(path.lstrip("/"))
        content = text.encode() if isinstance(text, str) else text
        member.size = len(content)
        members.append((member, content))
    for path, to in (links or {}).items():
        member = tarfile.TarInfo(path.lstrip("/"))
        member.type, member.linkname = tarfile.SYMTYPE, to
        members.append((member, b""))
    contents = {id(member): content for member, content in members}
    made.lay(
        iter([member for member, _ in members]),
        lambda each: read_file(io.BytesIO(contents[id(each)]), each.size, keeper, secrets=False),
    )
    made.conflicts += conflicts
    return examine(made, keeper, lambda: read_installed_files(made, keeper))


@pytest.mark.parametrize(
    ("files", "links", "who"),
    [
        ({"/etc/os-release": DEBIAN}, {}, "debian 12"),
        ({"/usr/lib/os-release": DEBIAN}, {}, "debian 12"),
        ({"/usr/lib/os-release": DEBIAN}, {"/etc/os-release": "../usr/lib/os-release"}, "debian 12"),
        ({"/opt/r": "ID=alpine\n"}, {"/etc/os-release": "/opt/r"}, "alpine"),
        ({"/real/os-release": "ID='arch'\n"}, {"/etc": "real"}, "arch"),
        ({}, {}, None),
    ],
)
def test_distribution_is_read_from_os_release(files, links, who):
    """/etc/os-release comes before /usr/lib/os-release, and symbolic links are followed (os-release(5))."""
    found = examined(files, links).distribution

    assert (str(found) if found else None) == who


@pytest.mark.parametrize(
    ("files", "where"),
    [
        ({"/etc/os-release": DEBIAN, "/usr/lib/os-release": DEBIAN.replace("12", "11")}, ["/usr/lib/os-release"]),
        ({"/etc/os-release": DEBIAN, "/etc/debian_version": "11.9\n"}, ["/etc/debian_version"]),
        ({"/etc/os-release": DEBIAN, "/etc/debian_version": "12.5\n"}, []),
        ({"/etc/os-release": DEBIAN, "/etc/debian_version": "bookworm/sid\n"}, []),
        (
            {"/etc/os-release": 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"', "/etc/debian_version": "bookworm/sid"},
            [],
        ),
        ({"/etc/os-release": DEBIAN, "/etc/alpine-release": "3.19.1\n"}, ["/etc/alpine-release"]),
        ({"/etc/os-release": "ID=alpine\nVERSION_ID=3.19.1\n", "/etc/alpine-release": "3.19.1\n"}, []),
        ({"/etc/os-release": "ID=rocky\nID_LIKE='rhel centos'", "/etc/redhat-release": "Rocky Linux release 9.3"}, []),
        ({"/etc/os-release": DEBIAN, "/etc/redhat-release": "CentOS 7"}, ["/etc/redhat-release"]),
        ({"/etc/os-release": DEBIAN, "/etc/lsb-release": "DISTRIB_ID=Ubuntu\n"}, ["/etc/lsb-release"]),
        ({"/etc/os-release": DEBIAN, "/etc/lsb-release": "DISTRIB_ID=Debian\nDISTRIB_RELEASE=12\n"}, []),
        ({"/etc/os-release": "ID=alpine\n", OWN: RECORD}, ["/var/lib/dpkg"]),
        ({"/etc/os-release": DEBIAN, OWN: RECORD}, []),
        ({"/etc/alpine-release": "3.19.1\n"}, ["/etc/alpine-release"]),
        ({"/etc/os-release": DEBIAN + "#" * HEAD}, ["/etc/os-release"]),
        ({"/etc/os-release": "ID=alpine\nID_LIKE=debian\n", OWN: RECORD}, ["/var/lib/dpkg"]),
        ({"/etc/os-release": "ID=mageia\nID_LIKE=alpine\n", "/var/lib/rpm/Packages": RPM}, ["/var/lib/rpm"]),
        ({"/etc/os-release": "ID=x\nID_LIKE='alpine debian'\n", OWN: RECORD}, ["/var/lib/dpkg"]),
        ({"/etc/os-release": "ID=x\nNAME=alpine\n", OWN: RECORD}, ["/var/lib/dpkg"]),
        ({"/etc/os-release": "ID=alpine\nID_LIKE=debian\n", "/etc/debian_version": "12"}, ["/etc/debian_version"]),
        ({"/etc/os-release": "ID=kali\nID_LIKE=debian\n", OWN: RECORD, "/etc/debian_version": "kali-rolling"}, []),
        ({"/etc/os-release": "ID=opensuse-tumbleweed\nID_LIKE='opensuse suse'", "/var/lib/rpm/Packages": RPM}, []),
        ({"/etc/os-release": "ID=x\nID_LIKE='opensuse suse'", "/var/lib/rpm/Packages": RPM}, []),
        ({"/etc/os-release": "ID=postmarketos\nID_LIKE=alpine\n", "/etc/alpine-release": "3.19.1\n"}, []),
        ({"/etc/os-release": UBUNTU, OWN: RECORD, "/etc/debian_version": "trixie/sid\n"}, []),
        ({"/etc/os-release": UBUNTU, OWN: RECORD, "/etc/debian_version": "12\n"}, ["/etc/debian_version"]),
        ({"/etc/os-release": UBUNTU, OWN: RECORD}, ["/etc/debian_version"]),
        ({"/etc/os-release": UBUNTU}, []),
    ],
)
def test_file_of_another_distribution_is_a_contradiction(files, where):
    """Release files of another distribution or version count, and databases of another package manager."""
    assert [each.path for each in examined(files).contradictions] == where


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("VERSION_ID =11", "11"),
        ("  VERSION_ID = 11 ", "11"),
        ("VERSION_CODENAME=x\fVERSION_ID=11", "12"),
        ("VERSION_CODENAME=x\x85VERSION_ID=11", "12"),
        ("VERSION_CODENAME=x\u2028VERSION_ID=11", "12"),
        ("VERSION_CODENAME=x\rVERSION_ID=11", "12"),
        ("\tVERSION_ID=11", "12"),
        ("#VERSION_ID=11", "12"),
    ],
)
def test_os_release_is_separated_as_the_scanner_does(line, version):
    """Otherwise the scanner would look for the vulnerabilities of another version than the one that is judged."""
    assert parse_assignments(f"{DEBIAN}{line}\n")["VERSION_ID"] == version


def test_distribution_has_codename():
    """A scanner finds the version of an unreleased distribution by it."""
    assert examined({"/etc/os-release": "ID=debian\nVERSION_CODENAME=sid\n"}).distribution.codename == "sid"


def test_dangling_os_release_link_is_a_contradiction():
    """Somebody could create the target later."""
    assert [each.path for each in examined({}, {"/etc/os-release": "gone"}).contradictions] == ["/etc/os-release"]


@pytest.mark.parametrize(
    ("files", "others"),
    [
        ({OWN: RECORD}, []),
        ({OWN: RECORD, "/var/lib/dpkg/status-old": RECORD}, []),
        ({"/var/lib/dpkg/status.d/apt": RECORD, "/var/lib/dpkg/status.d/bash": RECORD}, []),
        ({OWN: RECORD, "/opt/x/var/lib/dpkg/status": RECORD}, ["/opt/x/var/lib/dpkg"]),
        ({OWN: RECORD, "/srv/innocent.txt": RECORD}, ["/srv"]),
        ({OWN: RECORD, "/lib/apk/db/installed": APK}, ["/var/lib/dpkg"]),
        ({"/lib/apk/db/installed": APK}, []),
        ({"/lib/apk/db/installed": APK, "/usr/lib/apk/db/installed": APK}, ["/usr/lib/apk/db"]),
        ({"/var/lib/rpm/rpmdb.sqlite": RPM}, []),
        ({"/usr/lib/sysimage/rpm/Packages.db": RPM}, []),
        ({"/opt/rpm/Packages.db": RPM}, ["/opt/rpm"]),
        ({OWN: RECORD, "/nix/store/abc/x": "x"}, ["/nix/store"]),
        ({OWN: RECORD, "/mnt/var/db/pkg/app/x-1/PF": "x-1"}, ["/mnt/var/db/pkg"]),
        ({"/var/db/pkg/app/x-1/PF": "x-1"}, []),
        ({OWN: RECORD, "/opt/conda/conda-meta/zlib-1.3-0.json": "{}"}, ["/opt/conda/conda-meta"]),
        (
            {"/opt/conda/conda-meta/a-1-0.json": "{}", "/opt/conda/envs/b/conda-meta/a-1-0.json": "{}"},
            ["/opt/conda/conda-meta", "/opt/conda/envs/b/conda-meta"],
        ),
        ({"/app/conda-meta/history": "", "/app/conda-meta/x/a.json": "{}"}, []),
        (
            {OWN: RECORD, "/home/linuxbrew/.linuxbrew/Cellar/jq/1.7/INSTALL_RECEIPT.json": "{}"},
            ["/home/linuxbrew/.linuxbrew/Cellar"],
        ),
        ({"/app/Cellar/INSTALL_RECEIPT.json": "{}"}, []),
        ({"/var/lib/pacman/local/x-1/desc": "%NAME%\nx\n\n%VERSION%\n1\n"}, []),
        ({}, []),
    ],
)
def test_package_records_elsewhere_are_a_second_database(files, others):
    """Databases are found by path and by content; several files of one manager in its directory are one database."""
    assert [each.path for each in examined(files).databases] == others


@pytest.mark.parametrize(
    ("path", "manager"),
    [
        ("/x/lib/dpkg/status", "dpkg"),
        ("/x/lib/dpkg/status.d/apt", "dpkg"),
        ("/usr/lib/opkg/status", "opkg"),
        ("/usr/lib/opkg/info/apt.control", "opkg"),
        ("/x/lib/apk/db/installed", "apk"),
        ("/x/var/lib/rpm/Packages", "rpm"),
        ("/x/usr/share/rpm/rpmdb.sqlite", "rpm"),
        ("/x/usr/lib/sysimage/rpm/Packages.db", "rpm"),
        ("/x/var/lib/rpmmanifest/container-manifest-2", "rpm"),
        ("/var/lib/pacman/local/evil/desc", "pacman"),
        ("/x/var/lib/pacman/local/a/b/desc", "pacman"),
        ("/x/var/db/pkg/a/b-1/CONTENTS", "portage"),
        ("/opt/bitnami/node/.spdx-node.spdx", "bitnami"),
        ("/opt/bitnami/.bitnami_components.json", "bitnami"),
        ("/opt/nix/store/hash-evil-1.0/bin/node", "nix"),
        ("/x/nix/var/nix/db/db.sqlite", "nix"),
        ("/usr/share/snappy/dpkg.yaml", "snap"),
        ("/x/snap/manifest.yaml", "snap"),
        ("/x/snap/snapcraft.yaml", "snap"),
        ("/x/conda-meta/a.json", "conda"),
        ("/x/Cellar/a/1/.brew/a.rb", "Homebrew"),
        ("/x/lib/dpkg/status-old", ""),
        ("/x/lib/dpkg/status/x", ""),
        ("/usr/lib/opkg/info/apt.list", ""),
        ("/usr/libx/opkg/status", ""),
        ("/x/lib/rpm/Packages", ""),
        ("/var/lib/pacman/sync/desc", ""),
        ("/x/opt/bitnami/node/.spdx-node.spdx", ""),
        ("/opt/bitnami/node/a.spdx", ""),
        ("/usr/share/snappy/x/dpkg.yaml", ""),
    ],
)
def test_file_that_the_scanner_reads_by_its_path_is_a_database(path, manager):
    """The scanner takes fields in any order, and more than an examination recognises."""
    found = examined({OWN: RECORD, path: "any content"}).databases

    assert [each.manager for each in found] == ([manager] if manager else [])


@pytest.mark.parametrize(
    "path", ["/x/lib/dpkg/status", "/usr/lib/opkg/info/apt.control", "/x/lib/apk/db/installed", "/var/lib/rpm/Packages"]
)
def test_empty_file_is_no_database(path):
    assert examined({OWN: RECORD, path: ""}).databases == ()


@pytest.mark.parametrize(
    ("file", "link", "to"),
    [
        ("/opt/db/any", "/x/lib/dpkg/status", "/opt/db/any"),
        ("/opt/db/status", "/var/lib/dpkg", "/opt/db"),
        ("/opt/db/any", "/x/lib/dpkg/status.d", "/opt/db"),
        ("/opt/db/any", "/x/lib/dpkg/status.d/a", "/opt/db/any"),
        ("/opt/db/dpkg/status", "/x/lib", "/opt/db"),
        ("/opt/db/lib/dpkg/status.d/a", "/x", "/opt/db/../db"),
        ("/opt/db/pkg/a/evil-1.0/CONTENTS", "/var/db", "../opt/db"),
        ("/opt/a/evil-1.0/CONTENTS", "/var/db/pkg/a", "/opt/a"),
        ("/opt/any", "/var/db/pkg/a/evil-1.0/CONTENTS", "/opt/any"),
        ("/opt/db/desc", "/var/lib/pacman/local/evil", "/opt/db"),
        ("/opt/db/a/b/desc", "/var/lib/pacman/local", "/opt/db"),
        ("/opt/db/apk/db/installed", "/lib", "opt/db"),
        ("/opt/db/any", "/usr/lib/sysimage/rpm/rpmdb.sqlite", "/opt/db/any"),
        ("/srv/node/.spdx-node.spdx", "/opt/bitnami", "/srv"),
        ("/srv/bitnami/node/.spdx-node.spdx", "/opt", "srv"),
        ("/srv/hash-evil-1.0/bin/node", "/opt/nix/store", "/srv"),
        ("/srv/a.json", "/x/conda-meta", "/srv"),
    ],
)
def test_file_that_the_scanner_reads_through_a_link_is_a_database(file, link, to):
    """The scanner follows links to files and to directories."""
    assert len(examined({file: "any content"}, {link: to}).databases) == 1


def test_file_is_a_database_through_several_links():
    """A link can lead to a directory that has another one."""
    links = {"/x/var": "/opt/one", "/opt/one/lib": "/opt/two", "/opt/two/rpm": "/opt/three"}

    (found,) = examined({"/opt/three/rpmdb.sqlite": "any content"}, links).databases
    assert (found.path, found.manager) == ("/opt/three", "rpm")


def test_links_in_a_circle_are_followed_once():
    links = {"/var/lib/pacman/local/a": "/", "/x/var": "/x", "/x/lib": "x"}

    found = examined({"/x/pacman/local/b/desc": "any content"}, links).databases
    assert [each.path for each in found] == ["/x/pacman"]


def test_database_below_that_of_apk_is_a_second_database():
    """Only the file in apk's own directory is compared."""
    found = examined({"/lib/apk/db/installed": APK, "/lib/apk/db/lib/apk/db/installed": APK}).databases

    assert [each.path for each in found] == ["/lib/apk/db/lib/apk/db"]


DESC = "%NAME%\nx\n\n%VERSION%\n1\n"


@pytest.mark.parametrize(
    ("name", "files", "links"),
    [
        ("alpine", {"/lib/apk/db/installed": APK}, {}),
        ("alpine", {"/usr/lib/apk/db/installed": APK}, {"/lib": "usr/lib"}),
        ("debian", {OWN: RECORD, "/usr/lib/dpkg/methods/x": "x"}, {"/lib": "usr/lib"}),
        ("debian", {"/var/lib/dpkg/status.d/a": RECORD, "/var/lib/dpkg/status.d/a.md5sums": "x"}, {}),
        ("fedora", {"/usr/lib/sysimage/rpm/rpmdb.sqlite": "any"}, {"/var/lib/rpm": "../../usr/lib/sysimage/rpm"}),
        ("azurelinux", {"/var/lib/rpmmanifest/container-manifest-2": "any"}, {}),
        ("arch", {"/var/lib/pacman/local/x-1/desc": DESC, "/var/lib/pacman/local/ALPM_DB_VERSION": "9\n"}, {}),
        ("gentoo", {"/var/db/pkg/a/b-1/CONTENTS": "obj /a 0 0\n", "/var/db/pkg/virtual/c-1/CONTENTS": ""}, {}),
    ],
)
def test_own_database_of_distribution_is_no_second_database(name, files, links):
    """Its own may be reached through a link too."""
    found = examined({"/etc/os-release": f"ID={name}\n", **files}, links)

    assert (found.databases, found.contradictions) == ((), ())


@pytest.mark.parametrize(
    ("path", "directory"),
    [
        ("/lib/apk/db/installed", "/lib/apk/db"),
        ("/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm"),
        ("/var/lib/rpmmanifest/container-manifest-2", "/var/lib/rpmmanifest"),
        ("/var/lib/pacman/local/x-1/desc", "/var/lib/pacman"),
        ("/var/db/pkg/a/b-1/CONTENTS", "/var/db/pkg"),
    ],
)
def test_database_of_another_distribution_is_a_second_database(path, directory):
    """It is one with and without the distribution's own records."""
    for own in ({OWN: RECORD}, {}):
        found = examined({"/etc/os-release": DEBIAN, path: "any content", **own}).databases
        assert [each.path for each in found] == [directory]


def test_directory_is_listed_once_for_many_links():
    """An image can have thousands of links to a directory with thousands of records."""
    records = {f"opt/records/{n}": b"x" for n in range(100)}
    links = {f"opt/{n}/lib/dpkg/status.d": "/opt/records" for n in range(100)}
    _, files = lay_files(records, links)

    assert len(list(list_scanned(files, lambda: None))) < 1000


def test_directory_is_listed_for_each_package_manager_and_rule():
    """Of opkg's `info`, syft reads the files with one ending only."""
    links = {"opt/a/lib/dpkg/status.d": "/opt/records", "opt/b/lib/opkg/info": "/opt/records"}
    _, files = lay_files({"opt/records/x.control": b"x", "opt/records/x.list": b"x"}, links)

    found = [manager for path, _, manager in list_scanned(files, lambda: None) if path == "/opt/records/x.control"]
    assert sorted(found) == ["", "dpkg", "opkg"]


def test_search_for_package_databases_ends_at_its_deadline():
    keeper, files = lay_files({}, {f"opt/{n}/lib/dpkg/status.d": "/opt" for n in range(10)})
    budget = Budget(clock=iter(range(0, 10_000, MAX_SECONDS // 5)).__next__)

    with pytest.raises(TooLong):
        examine(files, keeper, lambda: read_installed_files(files, keeper), budget.checkpoint)


def test_linked_package_database_is_a_second_database():
    """Scanners read the usual path itself."""
    found = examined({"/opt/db/status": RECORD}, {"/var/lib/dpkg": "/opt/db"})

    assert [each.path for each in found.databases] == ["/opt/db"]


def jar(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("META-INF/MANIFEST.MF", *names):
            archive.writestr(name, b"")
    return buffer.getvalue()


def test_archives_are_reported_unless_the_scanner_opens_them():
    """syft opens Java archives by their file name and finds the packages in them."""
    wheel = jar("flask-0.1.dist-info/METADATA")
    found = examined(
        {"/a/app.jar": jar("A.class"), "/a/b.jar": wheel, "/a/picture.png": jar(), "/a/\udcff": b"hsqs" + bytes(90)}
    )

    assert [(each.path, each.format) for each in found.archives] == [
        ("/a/b.jar", "zip"),
        ("/a/picture.png", "jar"),
        ("/a/\\xff", "squashfs"),
    ]


def test_findings_beyond_the_list_limit_are_counted(monkeypatch):
    """The list is bounded, and omitted findings are reported as a number."""
    monkeypatch.setattr("supply_chain.adapters.image.distribution.MOST_LISTED", 2)
    found = examined({f"/{number}": b"hsqs" + bytes(90) for number in range(5)}, conflicts=["x"])

    assert (len(found.archives), found.unlisted, found.conflicts) == (2, 3, ("x",))


@given(st.text(max_size=200))
def test_assignments_accepts_any_text(text):
    """The last assignment of a name counts, with or without quotes."""
    found = parse_assignments(text)

    assert all(name == name.upper() for name in found)
    assert parse_assignments(text + '\nID=one\nID="t\\"wo"\n')["ID"] == 't"wo'


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("/app/a.pyc", "/app/a.py"),
        ("/app/__pycache__/a.cpython-312.pyc", "/app/a.py"),
        ("/app/__pycache__/a.b.cpython-312.opt-2.pyc", "/app/a.b.py"),
        ("/usr/lib/python3.12/__pycache__/a.pypy310.pyc", "/usr/lib/python3.12/a.py"),
        ("/opt/site-packages/a.pyo", "/opt/site-packages/a.py"),
    ],
)
def test_compiled_python_without_packaged_source_is_unjudged(path, source):
    """Python runs it in place of its source, and no scanner reads it."""
    (archive,) = examined({path: b"code", "/app/other.py": ""}).archives

    assert (archive.path, archive.format) == (path, "compiled Python")
    assert len(examined({path: b"code", source: ""}).archives) == 1
    for content, named in (("x", 1), ("", 0)):
        assert len(examined({path: b"code", source: content, SUMS: md5_of("", source)}).archives) == named
    unchecked = b"\xcb\r\r\n\1\0\0\0" + bytes(8)
    assert len(examined({path: unchecked, source: "", SUMS: md5_of("", source)}).archives) == 1


def test_compiled_python_is_found_behind_link_and_odd_directory():
    """Python opens the link, and a name may contain the end of a line."""
    linked = examined({"/app/data.bin": b"code"}, {"/app/a.pyc": "data.bin"})

    assert [each.path for each in linked.archives] == ["/app/a.pyc"]
    assert len(examined({"/app/a\nb/a.pyc": b"code"}).archives) == 1


SUMS = "/var/lib/dpkg/info/a.md5sums"


def md5_of(content, path):
    """Return a line of a Debian package's checksums."""
    return f"{hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()}  {path.lstrip('/')}\n"


def test_compiled_python_in_place_of_an_interpreter_is_not_named():
    """They make it when root runs them: in /usr/local without records, in Debian also of a configuration file."""
    library = {f"/usr/local/lib/python3.12/{name}.py": "" for name in sorted(sys.stdlib_module_names)}
    program = {"/usr/local/bin/python3.12": b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x3e\0"}
    compiled = {f"/usr/local/lib/python3.12/__pycache__/{name}.cpython-312.pyc": b"code" for name in ("os", "app")}

    found = examined(library | program | compiled | {"/usr/local/lib/python3.12/app.py": ""}).archives
    assert [each.path for each in found] == ["/usr/local/lib/python3.12/__pycache__/app.cpython-312.pyc"]

    cache = {"/usr/lib/python3.11/__pycache__/sitecustomize.cpython-311.pyc": b"code"}
    for end, named in (("", 0), ("#", 1)):
        files = cache | {"/etc/python3.11/sitecustomize.py": SITE_CUSTOMIZATION + end}
        links = {"/usr/lib/python3.11/sitecustomize.py": "/etc/python3.11/sitecustomize.py"}
        assert len(examined(files, links).archives) == named


SITE_CUSTOMIZATION = """# install the apport exception handler if available
try:
    import apport_python_hook
except ImportError:
    pass
else:
    apport_python_hook.install()
"""


def test_compiled_python_that_a_package_installed_is_not_named():
    """Some packages are published without source."""
    files = {"/opt/site-packages/a.pyc": b"code"}
    for content, named in ((b"other", 1), (b"code", 0)):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        record = {"/opt/site-packages/a.dist-info/RECORD": f"a.pyc,sha256={digest},4\n"}
        assert len(examined(files | record).archives) == named
