"""The comparison of Debian packages in an image with what archives published."""

import hashlib
from dataclasses import dataclass, field

import pytest

from supply_chain.adapters.image import debian_packages
from supply_chain.adapters.image.debian_packages import PublishedPackage, read_debian_packages
from supply_chain.adapters.image.dpkg_records import REMEDY, DebianPackage
from supply_chain.evidence.examination import Identity
from tests.support.dpkg import STATUS, record
from tests.support.filesystem import lay_files

HAT = DebianPackage("hat", "2.0-1", "amd64", "hats 2.0")
PROGRAM, MODULE, LIBRARY, TEXT = b"\x7fELF hat", b"import os\n", b"\x7fELF library", b"text"
MACHINE = PROGRAM[:4] + bytes((2, 1, 1)) + bytes(9) + b"\2\0\x3e\0"
"""The beginning of a program for x86-64."""
FILES = {
    "usr/bin/hat": PROGRAM,
    "usr/lib/python3/dist-packages/hat.py": MODULE,
    "usr/lib/libhat.so": LIBRARY,
    "usr/share/hat/text": TEXT,
}
CODE = frozenset(f"/{path}" for path in FILES if path != "usr/share/hat/text")
RELEASE = b"ID=debian\nVERSION_ID=12\n"


def sha(content):
    return hashlib.sha256(content).digest()


def published(files=FILES, **changes):
    """Return what an archive published as the hat."""
    about = {
        "sources": frozenset({"hats 2.0"}),
        "files": {f"/{path}": frozenset({sha(content)}) for path, content in files.items()},
        "code": frozenset(f"/{path}" for path in files if path != "usr/share/hat/text"),
    }
    return PublishedPackage(**{**about, **changes})


@dataclass
class MemoryDebianArchive:
    """An archive in memory: package → what was published."""

    published: dict[DebianPackage, PublishedPackage] = field(default_factory=lambda: {HAT: published()})
    missing: PublishedPackage = field(default_factory=lambda: PublishedPackage(newest="2.0-2"))
    paths: set[str] = field(default_factory=set)
    """Where other versions have files."""
    asked_for_paths: list[DebianPackage] = field(default_factory=list)
    asked: list[DebianPackage] = field(default_factory=list)
    distribution: Identity | None = None

    def find(self, packages, distribution):
        """Return what was published as each package."""
        self.asked += packages
        self.distribution = distribution
        by_identity = {(each.name, each.version, each.architecture): what for each, what in self.published.items()}
        return {each: by_identity.get((each.name, each.version, each.architecture), self.missing) for each in packages}

    def find_paths(self, packages, distribution):
        """Return where other versions of each package have files."""
        assert distribution == self.distribution
        self.asked_for_paths += packages
        return dict.fromkeys(packages, self.paths)


def read(contents, archive=None, links=None):
    """Return the Debian packages of an image of these files and links."""
    keeper, files = lay_files({"etc/os-release": RELEASE, **contents}, links, keep=1024 * 1024)
    return read_debian_packages(files, keeper, archive or MemoryDebianArchive(), "amd64")


def test_package_as_published_counts_as_installed():
    packages = read({**FILES, STATUS: record()})

    assert packages.false_claims == packages.unknown == ()
    assert packages.digests == {f"/{path}": (("sha256", sha(content)),) for path, content in FILES.items()}


def test_archive_is_asked_with_source_package_and_distribution():
    """Scanners match vulnerabilities by the source; without one, it is the package's name."""
    archive = MemoryDebianArchive()
    plain = record(name="tie").replace(b"Source: hats (2.0)\n", b"")
    read({STATUS: record() + record(name="cap", source="cap") + plain}, archive)

    tie, cap = DebianPackage("tie", "2.0-1", "amd64", "tie 2.0-1"), DebianPackage("cap", "2.0-1", "amd64", "cap 2.0-1")
    assert set(archive.asked) == {HAT, cap, tie}
    assert archive.distribution == Identity(id="debian", version="12")


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        (PublishedPackage(newest="1.9"), "and the newest that the archives have is 1.9"),
        (PublishedPackage(newest="0:2.0-01"), "and the newest that the archives have is 0:2.0-01"),
        (
            PublishedPackage(newest="2.0-1", others=frozenset({"all"})),
            "and the archives have it for all",
        ),
    ],
)
def test_version_that_no_archive_can_have_had_is_a_false_claim(missing, why):
    """A scanner would see no vulnerabilities."""
    (claim,) = read({STATUS: b"\n\n" + record()}, MemoryDebianArchive({}, missing)).false_claims

    assert claim == f"/{STATUS}:3: it claims to be hat 2.0-1 (amd64), {why}; {REMEDY}"


@pytest.mark.parametrize("architecture", ["arm64", "lie", ""])
def test_package_of_another_machine_is_a_false_claim(architecture):
    """Its files would be in other places, and nothing would differ from them."""
    archive = MemoryDebianArchive({DebianPackage("hat", "2.0-1", architecture, "hats 2.0"): published()})
    packages = read({**FILES, STATUS: record(architecture=architecture)}, archive)

    about = f"it claims to be hat 2.0-1 ({architecture}), in an image for amd64"
    assert packages.false_claims == (f"/{STATUS}:1: {about}; {REMEDY}",)
    assert packages.digests == {}


@pytest.mark.parametrize(
    ("platform", "architecture"), [("386", "i386"), ("arm64", "arm64"), ("", "any"), ("arm64", "all")]
)
def test_package_of_architecture_of_image_is_compared(platform, architecture):
    """Go and Debian have different names for some; the examination does not know the image's."""
    archive = MemoryDebianArchive({DebianPackage("hat", "2.0-1", architecture, "hats 2.0"): published()})
    keeper, files = lay_files({**FILES, STATUS: record(architecture=architecture)}, keep=1024 * 1024)

    assert read_debian_packages(files, keeper, archive, platform).digests


@pytest.mark.parametrize("source", ["hats", "hats (2.1)", "caps (2.0)"])
def test_false_source_is_a_false_claim(source):
    """Scanners match vulnerabilities of Debian by the source."""
    (claim,) = read({STATUS: record(source=source)}).false_claims

    assert "which is of the source hats 2.0, not " in claim


@pytest.mark.parametrize(
    "path", ["usr/bin/hat", "usr/lib/python3/dist-packages/hat.py", "usr/lib/libhat.so"]
)  # fmt: skip
def test_code_that_differs_from_the_published_is_a_false_claim(path):
    """An old library with a new version, or code that nobody would read."""
    packages = read({**FILES, path: b"evil", STATUS: record()})

    assert packages.false_claims == (
        f"/{STATUS}:1: it claims to be hat 2.0-1 (amd64), and what is published differs from /{path}; {REMEDY}",
    )
    assert packages.digests is not None and ("sha256", sha(b"evil")) not in packages.digests[f"/{path}"]


def test_changed_text_is_no_false_claim_and_does_not_count_as_installed():
    """Such as a configuration, or a list of authorities; a check reads it as the application's own."""
    packages = read({**FILES, "usr/share/hat/text": b"other", STATUS: record()})

    assert packages.false_claims == ()
    assert packages.digests is not None
    assert packages.digests["/usr/share/hat/text"] == (("sha256", sha(TEXT)),)


def test_package_without_any_of_its_code_is_a_false_claim():
    """Small images have only what they need; a library of another version has another name."""
    left = {path: content for path, content in FILES.items() if path != "usr/bin/hat"}

    assert read({**left, STATUS: record()}).false_claims == ()
    (claim,) = read({"usr/lib/libhat.so.1": b"old", STATUS: record()}).false_claims
    assert "but none of its code is in the image" in claim
    text = MemoryDebianArchive({HAT: published({"usr/share/hat/text": TEXT})})
    assert read({STATUS: record()}, text).false_claims == ()


def test_link_may_be_adjusted_to_merged_directories():
    """The project's own bases have `/usr/lib` for `/lib`, and a link from one to the other has to change."""
    what = published(
        {"usr/lib/hat/libhat.so.2": LIBRARY}, links={"/lib/libhat.so": frozenset({"../usr/lib/hat/libhat.so.2"})}
    )
    files, links = {"usr/lib/hat/libhat.so.2": LIBRARY, STATUS: record()}, {"lib": "usr/lib"}

    for target in ("hat/libhat.so.2", "/usr/lib/hat/libhat.so.2"):
        adjusted = {**links, "usr/lib/libhat.so": target}
        assert read(files, MemoryDebianArchive({HAT: what}), adjusted).false_claims == ()


@pytest.mark.parametrize(
    ("files", "links", "is_false"),
    [
        ({"usr/lib/libhat.so.2": LIBRARY}, {"usr/lib/libhat.so": "libhat.so.2"}, False),
        ({"usr/lib/libhat.so.2": LIBRARY}, {"usr/lib/libhat.so": "/lib/libhat.so.2", "lib": "usr/lib"}, False),
        ({"usr/lib/libhat.so.2": LIBRARY}, {}, False),
        ({"usr/lib/libhat.so.2": LIBRARY, "usr/lib/old": b"old"}, {"usr/lib/libhat.so": "old"}, True),
        ({"usr/lib/libhat.so.2": LIBRARY, "usr/lib/libhat.so": b"old"}, {}, True),
        ({"usr/lib/old": b"old"}, {"usr/lib/libhat.so": "old"}, True),
    ],
    ids=str,
)
def test_library_link_to_other_file_than_published_is_a_false_claim(files, links, is_false):
    """A program loads what is behind it; the file of another version is no file of the package."""
    what = published({"usr/lib/libhat.so.2": LIBRARY}, links={"/usr/lib/libhat.so": frozenset({"libhat.so.2"})})
    claims = read({**files, STATUS: record()}, MemoryDebianArchive({HAT: what}), links).false_claims

    assert len(claims) == is_false
    assert all("what is published differs from" in each for each in claims)


def make_lists(*paths):
    """Return the list of the hat's files."""
    return {"var/lib/dpkg/info/hat.md5sums": "".join(f"{'0' * 32}  {path}\n" for path in paths).encode()}


def test_dropped_version_has_program_paths_of_other_versions():
    """Archives keep the newest versions only; where these have a program, the older package may own it."""
    archive = MemoryDebianArchive(paths={"/lib/libhat.so.4.8.0", "/usr/bin/hat"})
    files = {**make_lists("usr/lib/libhat.so.4.7.0"), "usr/lib/libhat.so.4.7.0": MACHINE}

    packages = read({**files, STATUS: record("1.0")}, archive, {"lib": "usr/lib"})

    assert (packages.false_claims, packages.unknown) == ((), ("hat 1.0",))
    assert packages.elsewhere == {("hat", "1.0"): {"/usr/lib/libhat.so", "/usr/bin/hat"}}
    assert read({**files, STATUS: record("3.0")}, archive).elsewhere == {}


def test_other_versions_are_fetched_only_if_list_names_program():
    """They are downloaded."""
    archive = MemoryDebianArchive()
    read({**FILES, **make_lists("usr/share/hat/text"), STATUS: record("1.0")}, archive)
    read({"usr/bin/hat": MACHINE, **make_lists("usr/bin/hat"), STATUS: record("3.0")}, archive)
    read({"usr/bin/hat": MACHINE, STATUS: record("1.0")}, archive)
    assert archive.asked_for_paths == []

    read({"usr/bin/hat": MACHINE, **make_lists("usr/bin/hat"), STATUS: record("1.0")}, archive)
    assert [each.version for each in archive.asked_for_paths] == ["1.0"]


def test_package_of_a_third_party_is_unknown_and_owns_no_program():
    """A check reads its scripts, and a scanner its programs, as the application's own."""
    archive = MemoryDebianArchive({}, PublishedPackage(has_name=False), paths={"/usr/bin/hat"})
    files = {**make_lists("usr/bin/hat"), "usr/bin/hat": MACHINE, STATUS: record()}

    packages = read(files, archive)

    assert (packages.false_claims, packages.unknown) == ((), ("hat 2.0-1",))
    assert (packages.elsewhere, archive.asked_for_paths) == ({}, [])


def test_many_changed_files_are_named_in_part():
    files = {f"usr/bin/{n}": b"#!/bin/sh\n" for n in range(5)}
    what = published(files, code=frozenset(f"/{path}" for path in files))

    (claim,) = read({**dict.fromkeys(files, b"evil"), STATUS: record()}, MemoryDebianArchive({HAT: what})).false_claims
    assert "differs from /usr/bin/0, /usr/bin/1, /usr/bin/2 and 2 more; " in claim


@pytest.mark.parametrize(
    "links", [{"lib": "usr/lib", "bin": "/usr/bin"}, {"lib": "usr/lib", "bin": "usr/bin", "sbin": "usr/sbin"}]
)
def test_files_are_found_behind_merged_directories(links):
    """Packages of Debian 12 still have `/lib`, which is a link."""
    moved = published({path.removeprefix("usr/"): content for path, content in FILES.items()}, code={"/lib/libhat.so"})
    archive = MemoryDebianArchive({HAT: moved})

    packages = read({**FILES, STATUS: record()}, archive, links)
    assert packages.digests is not None and "/usr/lib/libhat.so" in packages.digests
    assert len(read({**FILES, "usr/lib/libhat.so": b"evil", STATUS: record()}, archive, links).false_claims) == 1


@pytest.mark.parametrize("links", [{"usr/lib/libhat.so": "/opt/old.so"}, {"usr/lib": "/opt"}], ids=str)
def test_link_in_place_of_published_code_is_a_false_claim(links):
    """The program would load what is behind it."""
    place = next(iter(links))
    contents = {path: content for path, content in FILES.items() if not path.startswith(place)}
    old = {"opt/old.so": b"old", "opt/libhat.so": b"old"}

    (claim,) = read({**contents, **old, STATUS: record()}, links=links).false_claims
    assert "differs from /opt/" in claim


def test_file_published_by_diverting_package_is_no_false_claim():
    """A package diverts the file of another one (dpkg-divert(1))."""
    cap = DebianPackage("cap", "1", "amd64", "cap 1")
    other = published({"usr/bin/hat": b"\x7fELF cap"}, sources={"cap 1"})
    archive = MemoryDebianArchive({HAT: published(), cap: other})
    both = record() + record("1", "cap", source="cap")

    assert read({**FILES, "usr/bin/hat": b"\x7fELF cap", STATUS: both}, archive).false_claims == ()
    assert len(read({**FILES, "usr/bin/hat": b"\x7fELF cap", STATUS: record()}, archive).false_claims) == 1


def test_dropped_version_is_unknown_and_proves_no_file():
    """Archives keep the newest versions only; the package may be honest."""
    packages = read({**FILES, STATUS: record("1.0")})

    assert (packages.false_claims, packages.unknown, packages.digests) == ((), ("hat 1.0",), {})


def in_base(contents, base, links=None, base_links=None):
    """Return the packages of an image on a base, both with the hat; the archive has none of it."""
    keeper, files = lay_files({"etc/os-release": RELEASE, **contents}, links, keep=1024 * 1024)
    _, below = lay_files(base, base_links, store=keeper, keep=1024 * 1024)
    return read_debian_packages(files, keeper, MemoryDebianArchive({}), "amd64", read_base=lambda: below)


SUMS = {"var/lib/dpkg/info/hat.md5sums": "".join(f"{'0' * 32}  {path}\n" for path in FILES).encode()}


def test_dropped_version_counts_as_installed_if_the_base_has_it():
    """It was compared when the base was built; archives forget versions, also newer ones of another archive."""
    for version in ("1.0", "9"):
        base = {**FILES, **SUMS, STATUS: record(version)}
        packages = in_base({**base, "usr/lib/new.py": MODULE}, base)

        assert (packages.false_claims, packages.unknown) == ((), ())
        assert packages.digests == {f"/{path}": (("sha256", sha(content)),) for path, content in FILES.items()}


@pytest.mark.parametrize("path", [path for path in FILES if path != "usr/share/hat/text"])
def test_code_that_differs_from_the_base_is_a_false_claim(path):
    """An old library below the record of the base's."""
    base = {**FILES, **SUMS, STATUS: record("1.0")}

    (claim,) = in_base({**base, path: b"evil"}, base).false_claims
    assert f"and what is published differs from /{path}; " in claim


def test_link_that_differs_from_the_base_is_a_false_claim():
    """A program loads what is behind it."""
    base = {**FILES, **SUMS, STATUS: record("1.0"), "opt/old.so": b"old"}
    own = {"usr/lib/libhat.so.2": "libhat.so"}

    assert in_base(base, base, own, own).false_claims == ()
    assert in_base(base, base, {}, own).false_claims == ()
    (claim,) = in_base(base, base, {"usr/lib/libhat.so.2": "/opt/old.so"}, own).false_claims
    assert "and what is published differs from /opt/old.so; " in claim


def test_base_proves_only_files_of_its_own_lists_and_records():
    """A list of the image's own, or another version, is not the base's."""
    base = {**FILES, **SUMS, STATUS: record("1.0")}
    evil = {"var/lib/dpkg/info/hat.md5sums": SUMS["var/lib/dpkg/info/hat.md5sums"] + b"0" * 32 + b"  opt/evil\n"}

    assert "/opt/evil" not in (in_base({**base, **evil, "opt/evil": MODULE}, base).digests or {})
    assert in_base({**base, STATUS: record("1.1")}, base).unknown == ("hat 1.1",)
    assert in_base({**base, STATUS: record("1.0", source="caps (1)")}, base).unknown == ("hat 1.0",)


def test_base_is_read_only_if_an_archive_lacks_a_package():
    """It takes requests to the registry."""
    keeper, files = lay_files({**FILES, STATUS: record()}, keep=1024 * 1024)

    def fail():
        raise AssertionError("it is not needed")

    assert read_debian_packages(files, keeper, MemoryDebianArchive(), "amd64", read_base=fail).unknown == ()
    assert read_debian_packages(files, keeper, MemoryDebianArchive({}), "amd64").unknown == ("hat 2.0-1",)


def test_package_missing_in_every_archive_proves_no_file():
    """An operator adds the archive of a third party, or its code is read as the application's."""
    packages = read({**FILES, STATUS: record()}, MemoryDebianArchive({}, PublishedPackage(has_name=False)))

    assert (packages.false_claims, packages.unknown, packages.digests) == ((), ("hat 2.0-1",), {})


def test_records_are_trusted_without_debian_archive():
    keeper, files = lay_files({STATUS: record() + record(name="cap")}, keep=1024 * 1024)
    packages = read_debian_packages(files, keeper, None, "amd64")

    assert packages.digests is None
    assert packages.uncompared == 2


def test_number_of_published_files_is_limited(monkeypatch):
    monkeypatch.setattr(debian_packages, "MOST_FILES", 3)

    with pytest.raises(ValueError, match="more than 3 files"):
        read({STATUS: record()})
    files = {"usr/bin/hat": MACHINE, **make_lists("usr/bin/hat"), STATUS: record("1.0")}
    with pytest.raises(ValueError, match="more than 3 files"):
        read(files, MemoryDebianArchive(paths={f"/usr/bin/{n}" for n in range(4)}))


def test_package_is_compared_once_and_each_claim_is_reported():
    archive = MemoryDebianArchive()
    packages = read({**FILES, "usr/bin/hat": b"x", STATUS: record(), "var/lib/dpkg/status.d/hat": record()}, archive)

    assert archive.asked == [HAT]
    assert len(packages.false_claims) == 2
