"""Lookups of installed Debian packages in archives."""

import gzip
import hashlib
import io
import lzma
import tarfile
from dataclasses import replace

import httpx
import pytest

from supply_chain.adapters.debian_archive import DebianArchives, archive, binary_package, indexes
from supply_chain.adapters.debian_archive.indexes import parse_packages, parse_release
from supply_chain.adapters.files import published_cache
from supply_chain.adapters.files.private_files import PrivateFiles
from supply_chain.adapters.image.debian_packages import PublishedPackage
from supply_chain.adapters.image.dpkg_records import DebianPackage
from supply_chain.errors import PackageIndexFailed, PackageIndexUnavailable
from supply_chain.evidence.examination import Identity
from tests.support.debian_archive import ArchivePackage, MemoryArchive, make_ar, make_deb, make_link, make_tar

LINE = "https://archive.invalid/debian/ bookworm main"
DEBIAN = Identity(id="debian", version="12")
PROGRAM, SCRIPT, MODULE, LIBRARY = b"\x7fELF program", b"#!/bin/sh\n", b"import os\n", b"library"
FILES = {
    "usr/bin/hat": PROGRAM,
    "usr/sbin/brim": SCRIPT,
    "usr/lib/hat/hat.py": MODULE,
    "usr/lib/hat/libhat.so.2.0": LIBRARY,
    "usr/share/doc/hat/README": b"Wear it.\n",
    "etc/init.d/hat": SCRIPT,
}
HAT = ArchivePackage("hat", "2.0-1", FILES, source="hats (2.0)")


def sha(content):
    return hashlib.sha256(content).digest()


@pytest.fixture
def of(tmp_path):
    """Return what makes the archives of a server."""

    def make(server, *lines):
        cache = PrivateFiles(tmp_path / "cache")
        return DebianArchives(lines or (LINE,), cache, transport=httpx.MockTransport(server), wait=lambda _: None)

    return make


def package(version="2.0-1", name="hat", architecture="amd64"):
    return DebianPackage(name, version, architecture, "hats 2.0")


def find(archives, asked=None, distribution=DEBIAN):
    asked = asked or package()
    return archives.find([asked], distribution)[asked]


@pytest.mark.parametrize("form", [".xz", ".gz"])
@pytest.mark.parametrize("by_hash", [True, False])
@pytest.mark.parametrize("signed", [True, False])
def test_package_is_found_with_its_files_and_code(of, form, by_hash, signed):
    """Configuration files are no code: administrators change them."""
    found = find(of(MemoryArchive([HAT], form=form, by_hash=by_hash, signed=signed)))

    assert found == PublishedPackage(
        sources={"hats 2.0"},
        files={f"/{path}": {sha(content)} for path, content in FILES.items()},
        code={"/usr/bin/hat", "/usr/sbin/brim", "/usr/lib/hat/hat.py", "/usr/lib/hat/libhat.so.2.0"},
    )


@pytest.mark.parametrize("form", [".xz", ".gz", ".zst", ""])
def test_package_is_read_in_every_compression(of, form):
    hat = replace(HAT, deb=make_deb(make_tar(FILES), form))

    assert find(of(MemoryArchive([hat]))).files["/usr/bin/hat"] == {sha(PROGRAM)}


def test_package_of_several_compressed_streams_is_read_to_its_end(of):
    data = make_tar(FILES)
    packed = lzma.compress(data[:1000]) + lzma.compress(data[1000:])
    hat = replace(HAT, deb=make_ar({"debian-binary": b"2.0\n", "data.tar.xz": packed}))

    assert len(find(of(MemoryArchive([hat]))).files) == len(FILES)


def test_hard_link_has_the_digest_of_its_target(of):
    """A symbolic link has none; it is compared if it has the name of code."""
    links = (
        make_link("./usr/bin/cap", "./usr/bin/hat", tarfile.LNKTYPE),
        make_link("./usr/bin/top", "/opt/hat", tarfile.SYMTYPE),
        make_link("./usr/lib/hat/libhat.so.2", "libhat.so.2.0", tarfile.SYMTYPE),
    )
    found = find(of(MemoryArchive([replace(HAT, deb=make_deb(make_tar(FILES, links)))])))

    assert found.files["/usr/bin/cap"] == {sha(PROGRAM)} and "/usr/bin/cap" in found.code
    assert "/usr/bin/top" not in found.files
    assert found.links == {"/usr/lib/hat/libhat.so.2": {"libhat.so.2.0"}}


def test_package_for_every_machine_and_version_with_epoch_are_found(of):
    """The list of each architecture has them; the epoch is not in the name of the file."""
    cap = ArchivePackage("cap", "1:2.0-1+b1", {"usr/bin/cap": SCRIPT}, architecture="all")
    server = MemoryArchive([HAT, cap])

    assert find(of(server), DebianPackage("cap", "1:2.0-1+b1", "all", "cap 1")).sources == {"cap 1:2.0-1+b1"}
    assert "/debian/pool/main/cap_2.0-1+b1.deb" in server.asked


@pytest.mark.parametrize(
    ("asked", "published"),
    [
        (package(name="cap"), PublishedPackage(has_name=False)),
        (package("1.0"), PublishedPackage(newest="2.0-1")),
        (package("3.0"), PublishedPackage(newest="2.0-1")),
        (package(architecture="arm64"), PublishedPackage(newest="2.0-1", others={"amd64"})),
        (package("3.0", architecture="lie"), PublishedPackage(newest="2.0-1")),
    ],
    ids=str,
)
def test_missing_package_is_reported_with_its_name_and_newest_version(of, asked, published):
    """With its name and the newest version, a false record can be told from an old version."""
    server = MemoryArchive([HAT, ArchivePackage("hat", "1.9", architecture="amd64")])
    others = [package("2.0-1")] if asked.architecture == "arm64" else []

    assert of(server).find([asked, *others], DEBIAN)[asked] == published


@pytest.mark.parametrize(
    ("distribution", "newest"),
    [
        (DEBIAN, "2.0-1"),
        (Identity(id="debian", version="12.11.4"), "2.0-1"),
        (Identity(id="debian", codename="bookworm"), "2.0-1"),
        (Identity(id="debian", version="13"), ""),
        (Identity(id="debian"), ""),
        (Identity(id="ubuntu", version="12"), ""),
        (None, ""),
    ],
    ids=str,
)
def test_newest_version_is_that_of_distribution_of_image(of, distribution, newest):
    """Another release has newer versions, and Ubuntu has its own."""
    assert find(of(MemoryArchive([HAT])), package("9"), distribution) == PublishedPackage(newest=newest)


class Suites:
    """Suites of several archives."""

    def __init__(self, **suites):
        self.suites = suites
        self.asked = []

    def __call__(self, request):
        self.asked.append(request.url.path)
        host = request.url.host.partition(".")[0]
        suite = next((name for name in self.suites if f"/{name}/" in request.url.path), host)
        return self.suites[suite](request)


def test_other_release_is_read_only_for_missing_packages(of):
    """An image of Debian 12 with a package of Debian 13; its versions do not say what is newest in Debian 12."""
    cap = ArchivePackage("cap", "9", {"usr/bin/cap": SCRIPT})
    trixie = MemoryArchive([replace(HAT, version="9"), cap], "trixie", version="13.1")
    server = Suites(archive=MemoryArchive([HAT]), trixie=trixie, other=trixie)
    archives = of(server, LINE, "https://other.invalid/debian trixie main")

    find(archives)
    assert not any("trixie/main" in each for each in server.asked)
    assert find(archives, package("8")) == PublishedPackage(newest="2.0-1")
    assert find(archives, package("9", "cap")).sources == {"cap 9"}


def test_newer_version_in_third_party_archive_is_found(of):
    """An operator adds the archive that a newer version is from."""
    own = MemoryArchive([replace(HAT, version="3.0")], "stable", origin="Hats", version="")
    server = Suites(archive=MemoryArchive([HAT]), stable=own, own=own)
    archives = of(server, LINE, "https://own.invalid/debian stable main")

    assert find(archives, package("2.5")).newest == "3.0"
    assert find(archives, package("3.0")).sources == {"hats 2.0"}


def find_paths(archives, asked, distribution=DEBIAN):
    return archives.find_paths([asked], distribution)[asked]


def test_paths_of_other_versions_are_of_newest_in_each_suite(of):
    """Some archives have hundreds of versions."""
    oldest, newer = (replace(HAT, version=each, files={f"usr/bin/hat{each}": PROGRAM}) for each in ("1.5", "1.10"))
    other = ArchivePackage("cap", "9", {"usr/bin/cap": SCRIPT})
    foreign = replace(HAT, version="9", architecture="all", files={"usr/bin/all": PROGRAM})
    trixie = MemoryArchive([replace(HAT, version="3", files={"usr/bin/new": PROGRAM})], "trixie", version="13.1")
    server = Suites(archive=MemoryArchive([oldest, newer, other, foreign]), other=trixie)
    archives = of(server, LINE, "https://other.invalid/debian trixie main")

    assert find_paths(archives, package("1")) == {"/usr/bin/hat1.10", "/usr/bin/new"}
    assert not any("hat_1.5" in each or "cap_9" in each or "hat_9" in each for each in server.asked)


@pytest.mark.parametrize("asked", [package(name="cap"), package("1.0", architecture="arm64")])
def test_package_without_other_versions_has_no_paths(of, asked):
    assert find_paths(of(MemoryArchive([HAT])), asked) == set()


def test_other_versions_are_downloaded_once(of):
    server = MemoryArchive([HAT])
    archives = of(server)

    assert find_paths(archives, package("1")) == find_paths(archives, package("0")) == set(find(archives).files)
    assert len([each for each in server.asked if each.endswith(".deb")]) == 1


def test_bytes_of_other_versions_are_limited(of, monkeypatch):
    """An image can name every package of an archive."""
    monkeypatch.setattr(archive, "MOST_BYTES", len(HAT.content) - 1)

    with pytest.raises(ValueError, match="its Debian packages have"):
        find_paths(of(MemoryArchive([HAT])), package("1.0"))


def test_version_in_two_releases_is_cached_for_release_of_image(of):
    """Another release may have built it anew."""
    own, other = replace(HAT, files={"usr/bin/hat": b"own"}), replace(HAT, files={"usr/bin/hat": b"other"})
    server = Suites(archive=MemoryArchive([own]), other=MemoryArchive([other], "trixie", version="13.1"))
    archives = of(server, LINE, "https://other.invalid/debian trixie main")

    find_paths(archives, package("1"))
    assert find(archives).files == {"/usr/bin/hat": {sha(b"own")}}


def test_published_package_is_cached_after_archive_drops_it(of):
    """An image keeps its packages while archives forget their versions."""
    server = MemoryArchive([HAT])
    first = find(of(server))
    emptied = server.with_packages()

    assert find(of(emptied)) == first
    assert emptied.asked == []


def test_cached_package_of_another_archive_is_not_used(of):
    """An operator may have taken it away."""
    find(of(MemoryArchive([HAT])))

    assert find(of(MemoryArchive([]), "https://own.invalid/debian bookworm main")) == PublishedPackage(has_name=False)


def test_missing_package_is_not_cached(of):
    """It may be published tomorrow."""
    assert find(of(MemoryArchive([]))) == PublishedPackage(has_name=False)
    assert find(of(MemoryArchive([HAT]))).sources


def test_list_of_packages_is_downloaded_once(of):
    server = MemoryArchive([HAT])
    find(of(server), package("9"))
    find(of(server), package("9"))

    assert len([each for each in server.asked if "by-hash" in each]) == 1
    assert len([each for each in server.asked if each.endswith("InRelease")]) == 2


def test_package_is_found_again_if_the_cache_is_damaged(of, tmp_path):
    archives = of(MemoryArchive([HAT]))
    found = find(archives)
    for file in (tmp_path / "cache").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-1])

    assert find(archives) == found


def test_damaged_list_in_the_cache_is_downloaded_again(of, tmp_path):
    """A crash may leave a file without its content."""
    archives = of(MemoryArchive([HAT]))
    found = find(archives, package("9"))
    for file in (tmp_path / "cache/indexes").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")

    assert find(archives, package("9")) == found


def test_cached_package_of_another_distribution_is_not_used(of):
    """Two distributions may have a package of one version, built anew."""
    server = MemoryArchive([HAT])
    find(of(server), distribution=Identity(id="ubuntu", version="24.04"))

    assert find(of(server.with_packages())) != find(of(server))


def test_unused_cache_is_forgotten(of, tmp_path, monkeypatch):
    archives = of(MemoryArchive([HAT]))
    find(archives)
    monkeypatch.setattr(published_cache, "UNUSED", -1)

    archives.forget_unused()
    assert not [each for each in (tmp_path / "cache").rglob("*") if each.is_file()]


def test_archive_that_does_not_answer_is_a_temporary_error(of):
    """Nothing is admitted that could not be compared."""
    server = MemoryArchive([HAT], failures=[httpx.Response(503) for _ in range(3)])

    with pytest.raises(PackageIndexUnavailable, match="debian_archives"):
        find(of(server))


PACKAGES = "dists/bookworm/main/binary-amd64/Packages.xz"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dists/bookworm/InRelease": None}, "it is not there"),
        ({"dists/bookworm/InRelease": b"rubbish"}, "it is not a list of files"),
        ({PACKAGES: None}, "the archive lists it, and it is not there"),
        ({PACKAGES: lzma.compress(b"Package: hat\n")}, "and the archive lists"),
        ({"pool/main/hat_2.0-1.deb": None}, "the archive lists it, and it is not there"),
        ({"pool/main/hat_2.0-1.deb": b"other"}, "it has the SHA-256 .*, and the archive lists"),
    ],
    ids=str,
)
def test_archive_with_mismatching_files_raises_lasting_error(of, changes, why):
    """A changed file of a mirror vouches for nothing."""
    server = MemoryArchive([HAT], by_hash=False)
    size = len(server.files()[PACKAGES] or b"")
    server.replaced = {path: content and content[:size] for path, content in changes.items()}

    with pytest.raises(PackageIndexFailed, match=why) as caught:
        find(of(server))
    assert not caught.value.retryable


def test_file_that_is_larger_than_listed_is_an_error(of):
    server = MemoryArchive([HAT], replaced={"pool/main/hat_2.0-1.deb": HAT.content + b"x"})

    with pytest.raises(PackageIndexFailed, match=f"it has more than {len(HAT.content)} bytes"):
        find(of(server))


@pytest.mark.parametrize(
    "path",
    ["../../etc/passwd", "pool/../../x.deb", "/etc/passwd", "https://evil.invalid/x.deb", "//evil.invalid/x", "./x",
     "pool//x", "pool/x?y", "pool/x#y", "pool/x y", "pool/.x", "pool/é"],
)  # fmt: skip
def test_file_name_that_leads_elsewhere_is_an_error(of, path):
    """It would be another address."""
    server = MemoryArchive([replace(HAT, path=path)])

    with pytest.raises(PackageIndexFailed, match="its entry of hat has the file name"):
        find(of(server))
    assert len(server.asked) == 2


@pytest.mark.parametrize("changes", [{"digest": "0" * 63}, {"version": ""}, {"source": "a b c"}], ids=str)
def test_incomplete_entry_is_an_error(of, changes):
    with pytest.raises(PackageIndexFailed, match="its entry of hat has no version, source, size or SHA-256"):
        find(of(MemoryArchive([replace(HAT, **changes)])))


def bomb(size=8 * 1024**2):
    return make_tar({"usr/bomb": bytes(size)})


def long_header():
    """Return a tar whose header for a long name has gigabytes."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 3 * 1024**3
    return header.tobuf(tarfile.GNU_FORMAT) + bytes(64 * 1024)


@pytest.mark.parametrize(
    ("deb", "why"),
    [
        (b"rubbish", "it is not a package"),
        (make_ar({"debian-binary": b"2.0\n"}), "it has no data.tar"),
        (make_ar({"data.tar.lz": b"x"}), r"its files are in data.tar\.lz"),
        (make_ar({"data.tar.xz": b"x"}), "it is not a valid package"),
        (make_ar({"data.tar.xz": lzma.compress(make_tar(FILES))[:100]}), "it ends in a compressed stream"),
        (make_ar({"data.tar": make_tar(FILES)[:1600]}), "damaged in the middle"),
        (b"!<arch>\n" + b"x" * 60, "it has an invalid header"),
        (make_deb(make_tar({"../../etc/passwd": b"x"})), "a path that leads upward"),
        (make_deb(make_tar({}, [make_link("x", "../../etc/passwd", tarfile.LNKTYPE)])), "a path that leads upward"),
        (make_deb(make_tar({}, [make_link("x", "nowhere", tarfile.LNKTYPE)])), "it is not a valid package"),
        (make_deb(make_tar({str(n): b"" for n in range(60)})), "it has more than 50 files"),
        (make_deb(bomb()), "it has more than"),
        (make_deb(long_header()), "a header of"),
    ],
)
def test_invalid_or_oversized_package_is_an_error(of, monkeypatch, deb, why):
    """Nothing is unpacked to the disk, and memory does not grow with the package."""
    monkeypatch.setattr(binary_package, "MOST_FILES", 50)
    monkeypatch.setattr(binary_package, "MOST_BYTES", 4 * 1024**2)

    with pytest.raises(PackageIndexFailed, match=why):
        find(of(MemoryArchive([replace(HAT, deb=deb)])))


@pytest.mark.parametrize("form", [".xz", ".gz"])
def test_oversized_list_of_packages_is_an_error(of, monkeypatch, form):
    """Compressed, it is small."""
    monkeypatch.setattr(archive, "LARGEST_UNPACKED", 200)

    with pytest.raises(PackageIndexFailed, match="unpacked, it has more than 200 bytes"):
        find(of(MemoryArchive([HAT], form=form)))


def test_oversized_files_of_an_archive_are_errors(of, monkeypatch):
    monkeypatch.setattr(archive, "LARGEST_INDEX", 20)
    with pytest.raises(PackageIndexFailed, match="it has more than 20 bytes"):
        find(of(MemoryArchive([HAT])))
    monkeypatch.setattr(archive, "LARGEST_RELEASE", 10)
    with pytest.raises(PackageIndexFailed, match="it has more than 10 bytes"):
        find(of(MemoryArchive([HAT])))


def test_bytes_of_all_packages_are_limited(of, monkeypatch):
    """An image can name every package of an archive."""
    monkeypatch.setattr(archive, "MOST_BYTES", len(HAT.content) - 1)

    with pytest.raises(ValueError, match="its Debian packages have"):
        find(of(MemoryArchive([HAT])))


def test_oversized_entry_is_an_error(monkeypatch):
    monkeypatch.setattr(indexes, "LONGEST_STANZA", 10)

    with pytest.raises(ValueError, match="more than 10 bytes about one package"):
        list(parse_packages(io.BytesIO(b"x" * 20), {"hat"}, 100))


def test_package_entry_is_found_with_any_first_field():
    content = HAT.describe().replace("Package: hat\n", "").replace("Description", "Package: hat\nDescription").encode()

    assert [each.package.name for each in parse_packages(io.BytesIO(content), {"hat"}, 10_000)] == ["hat"]
    assert list(parse_packages(io.BytesIO(content), {"cap"}, 10_000)) == []


def test_parse_release_reads_whether_architecture_all_has_own_list():
    listed = f"SHA256:\n {'0' * 64} 1 main/binary-all/Packages.gz\n"

    assert parse_release(f"Architectures: all amd64\n{listed}".encode()).has_all
    assert not parse_release(f"Architectures: amd64\n{listed}".encode()).has_all
    assert not parse_release(
        f"Architectures: all amd64\nNo-Support-for-Architecture-all: Packages\n{listed}".encode()
    ).has_all


def test_files_with_another_digest_than_sha256_are_no_list():
    with pytest.raises(ValueError, match="no file with its SHA-256"):
        parse_release(f"Other:\n {'0' * 64} 1 main/binary-amd64/Packages.gz\n".encode())


def test_truncated_gzip_package_list_is_an_error(of):
    server = MemoryArchive([HAT], form=".gz", by_hash=False)
    path = PACKAGES.replace(".xz", ".gz")
    cut = gzip.compress(b"x" * 100, mtime=0)[:-4]
    release = f"SHA256:\n {hashlib.sha256(cut).hexdigest()} {len(cut)} main/binary-amd64/Packages.gz\n".encode()
    server.replaced = {path: cut, "dists/bookworm/InRelease": release}

    with pytest.raises(PackageIndexFailed, match="it is not a list of packages"):
        find(of(server))
