"""The reading of dpkg's records in an image, as scanners read them."""

import pytest

from supply_chain.adapters.image import dpkg_records
from supply_chain.adapters.image.dpkg_records import DebianPackage, find_lists, list_paths, parse_status, read_records
from tests.support.dpkg import STATUS, record
from tests.support.filesystem import lay_files

NOT_WRITTEN = "a line that dpkg does not write among its records"
HAT = DebianPackage("hat", "2.0-1", "amd64", "hats 2.0")


def read(contents, links=None):
    """Return the packages by their records in an image of these files, and the false claims."""
    keeper, files = lay_files(contents, links, keep=1024 * 1024)
    records, false_claims = read_records(files, keeper, lambda: None)
    return [each.package for each in records], false_claims


def test_records_of_distroless_images_are_read():
    """The project's own bases have them."""
    records = {"var/lib/dpkg/status.d/hat": record(), "var/lib/dpkg/status.d/hat.md5sums": b"0" * 32 + b"  a: b\n"}

    assert read(records) == ([HAT], [])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("hat.md5sums", b"d41d8cd98f00b204e9800998ecf8427e  usr/bin/a: b\n\n" + b"0" * 32 + b" *opt/a\tb"),
        ("hat.md5sums", b""),
        ("hat.conffiles", b"/etc/hat: b\nremove-on-upgrade /etc/cap\n"),
    ],
    ids=str,
)
def test_list_of_files_in_status_directory_is_no_record(name, content):
    assert read({f"var/lib/dpkg/status.d/{name}": content}) == ([], [])


@pytest.mark.parametrize("name", ["hat.md5sums", "hat.conffiles", "hat"])
@pytest.mark.parametrize("begin", [b"P-ackage", b"\tPackage", "\xa0Package".encode(), b"package", b"Package\x0c"])
def test_record_in_a_list_of_files_is_a_false_claim(name, begin):
    """Syft removes white space and hyphens from the names of fields, and reads each file of the directory."""
    content = record().replace(b"Package", begin)

    (claim,) = read({f"var/lib/dpkg/status.d/{name}": content})[1]
    assert claim.startswith(f"/var/lib/dpkg/status.d/{name}:1: ") and NOT_WRITTEN in claim


def test_record_in_file_named_like_list_is_read():
    """Its package is compared, as the scanner reports it."""
    assert read({"var/lib/dpkg/status.d/hat.md5sums": record()}) == ([HAT], [])


@pytest.mark.parametrize(
    ("name", "list_of_files"),
    [
        ("hat.md5sums", b"0" * 32 + b"  opt/hat\n"),
        ("hat.conffiles", b"/etc/hat\n"),
    ],
)
@pytest.mark.parametrize(
    "more", [b"\xc2\xa0Package: evil", b"/etc/a\r", b"/etc/a\0", b"0" * 32 + b"\topt/hat"], ids=str
)
def test_invalid_line_in_list_of_files_is_named(name, list_of_files, more):
    """A person looks for it."""
    (claim,) = read({f"var/lib/dpkg/status.d/{name}": list_of_files + more + b"\n"})[1]

    assert claim.startswith(f"/var/lib/dpkg/status.d/{name}:2: ")


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("0" * 32 + "  opt/evil", "/opt/evil"),
        ("0" * 32 + " *opt/evil", "/opt/evil"),
        ("0" * 32 + "  opt/hat and cap", "/opt/hat and cap"),
        ("/etc/hat", "/etc/hat"),
        ("remove-on-upgrade /etc/hat", "/etc/hat"),
    ],
)
def test_list_names_the_path_of_a_file(line, path):
    assert list(list_paths(f"{line}\nother\n".encode())) == [path]


@pytest.mark.parametrize("status", ["deinstall ok config-files", "purge deinstall", "install ok not-installed"])
def test_removed_package_is_left_out(status):
    """The scanner leaves it out."""
    gone = record("9", status=status).replace(b"Version: 9\n", b"" if "not" in status else b"Version: 9\n")

    assert read({STATUS: gone}) == ([], [])


def test_package_with_status_not_installed_is_read():
    """A scanner reads its version."""
    ((package,), _) = read({STATUS: record("9", status="install ok not-installed")})

    assert package.version == "9"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (record().replace(b"Version", b"Version: 1\nVersion"), "names a field several times"),
        (record().replace(b"Version", b"version: 1\nVersion"), NOT_WRITTEN),
        (record().replace(b"Version", b"Ver-sion: 1\nVersion"), NOT_WRITTEN),
        (record().replace(b"Version", b"\tVersion: 1\nVersion"), NOT_WRITTEN),
        (record().replace(b"Version", b"no colon\nVersion"), NOT_WRITTEN),
        (record().replace(b"Version", b"installed-size: 5\nVersion"), NOT_WRITTEN),
        (record().replace(b"Version", b"Installed-Size: x\nVersion"), NOT_WRITTEN),
        (record().replace(b"Version", "SourceVer\u017fion: 9\nVersion".encode()), NOT_WRITTEN),
        (record(source="hats\x1c"), NOT_WRITTEN),
        (record("2.0-1\x1c"), NOT_WRITTEN),
        (record().replace(b"Source", b"Source\x1c"), NOT_WRITTEN),
        (b" x\n" + record(), NOT_WRITTEN),
        (record().rstrip(b"\n"), NOT_WRITTEN),
        (record().rstrip(b"\n") + b"\nSource: perl", NOT_WRITTEN),
        (record("~5"), "with the invalid version '~5'"),
        (record("2" * 300), "with the invalid version"),
        (record().replace(b"Version", b"Source-Version: 1\nVersion"), "or one that dpkg does not write"),
        (record(status="deinstall ok config-files") .replace(b"Version", b"Version: 1\nVersion"), "several times"),
        (record().replace(b"Version: 2.0-1\n", b""), "without a version, or with the invalid source"),
        (record(source="hats  (2.0)"), "without a version, or with the invalid source"),
        (record(source="hats (2.0) x"), "without a version, or with the invalid source"),
        (record(name="../hat"), "with the invalid name or architecture '../hat:amd64'"),
        (record(name="hat:x"), "with the invalid name or architecture 'hat:x:amd64'"),
        (record(name="h@t"), "with the invalid name or architecture 'h@t:amd64'"),
        (record(name="ha*"), "with the invalid name or architecture 'ha*:amd64'"),
        (record(architecture="../x"), "with the invalid name or architecture 'hat:../x'"),
        (b"Package: ../hat\nStatus: install ok not-installed\n\n", "with the invalid name or architecture '../hat:'"),
    ],
    ids=str,
)  # fmt: skip
def test_ambiguous_record_is_a_false_claim(content, why):
    """Scanners and dpkg would read different versions, or the scanner no package at all."""
    (claim,) = read({STATUS: record(name="cap") + content})[1]

    assert claim.startswith(f"/{STATUS}:") and why in claim


def test_false_record_names_its_line():
    """A person looks for it."""
    (twice,) = read({STATUS: record(name="cap") + record().replace(b"Version", b"Version: 1\nVersion")})[1]
    (broken,) = read({STATUS: record(name="cap") + b"no colon\n"})[1]

    assert twice.startswith(f"/{STATUS}:9: ") and broken.startswith(f"/{STATUS}:9: ")


@pytest.mark.timeout(30)
def test_long_description_is_read_in_time():
    """A step of a build may write four megabytes of one field; a quarter of them takes a fraction of a second."""
    long = record().replace(b" Wear it.\n", b" x\n" * 250_000)

    assert [name for name, _ in next(iter(parse_status(long)))[1]][-1] == "description"


def test_too_large_records_are_a_false_claim():
    """Nobody knows what a scanner reads in them."""
    assert "too large, and are not read" in read({STATUS: record() + b"x" * 2 * 1024**2})[1][0]


def test_number_of_packages_is_limited(monkeypatch):
    monkeypatch.setattr(dpkg_records, "MOST_PACKAGES", 1)

    assert read({STATUS: record()}) == ([HAT], [])
    with pytest.raises(ValueError, match="more than 1 Debian packages"):
        read({STATUS: record() + record(name="cap")})


def test_records_behind_a_link_and_below_the_database_are_read():
    """Syft reads a file whose path ends so."""
    packages, _ = read(
        {"var/lib/dpkg/x/lib/dpkg/status": record(), "var/lib/dpkg/real": record(name="cap")}, {STATUS: "real"}
    )

    assert {each.name for each in packages} == {"hat", "cap"}


def test_second_database_is_not_read():
    """Its owner has to accept it; its files are elsewhere."""
    assert read({"opt/root/var/lib/dpkg/status": record("9")}) == ([], [])


def test_lists_of_files_are_found_in_info_and_status_directory():
    """Packages for several machines have the machine in the name."""
    names = ("info/hat.md5sums", "info/hat:amd64.conffiles", "status.d/hat.md5sums", "info/hat.postinst", "hat.md5sums")
    _, image = lay_files({f"var/lib/dpkg/{each}": b"x" for each in names})

    assert {name: len(contents) for name, contents in find_lists(image, lambda: None).items()} == {"hat": 3}


def test_search_for_records_and_lists_ends_at_its_deadline():
    keeper, files = lay_files({"var/lib/dpkg/info/hat.md5sums": b"x"})

    def stop():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        find_lists(files, stop)
    with pytest.raises(TimeoutError):
        read_records(files, keeper, stop)


def test_status_is_read_as_the_scanner_reads_it():
    """Lines that it cannot read are left out."""
    text = b"\n no field\nno colon\n: x\nPackage: hat\nTags: a,\n b\n\nPackage: cap"

    assert list(parse_status(text)) == [(5, [("package", "hat"), ("tags", "a,\n b")]), (9, [("package", "cap")])]
