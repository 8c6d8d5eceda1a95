"""Packages of apk, rpm, pacman and portage, which count as far as the image's curated base has them."""

import hashlib
import sys

import pytest

from supply_chain.adapters.image.base_packages import REMEDY, BasePackages, read_base_packages
from supply_chain.adapters.image.packages import PackageSources, read_packages, read_system_packages
from tests.support.filesystem import lay_files

DATABASE = "lib/apk/db/installed"
PROGRAM, SCRIPT, MODULE, TEXT = b"\x7fELF hat", b"#!/bin/sh\n", b"import os\n", b"text"
FILES = {
    "usr/bin/hat": PROGRAM,
    "usr/bin/wear": SCRIPT,
    "usr/lib/hat.py": MODULE,
    "usr/share/hat/text": TEXT,
    "etc/hat.sh": SCRIPT,
}
LISTED = "".join(f"F:{path.rpartition('/')[0]}\nR:{path.rpartition('/')[2]}\n" for path in FILES)
CODE = ("usr/bin/hat", "usr/bin/wear", "usr/lib/hat.py")
RPM, PACMAN, PORTAGE = "var/lib/rpm/Packages.db", "var/lib/pacman/local/a-1/desc", "var/db/pkg/x/a/CONTENTS"


def record(version="1.0", name="hat", source="hats", listed=LISTED):
    return f"C:Q1x=\nP:{name}\nV:{version}\no:{source}\n{listed}\n".encode()


BASE = {**FILES, DATABASE: record()}


def read(contents, base=None, links=None, base_links=None):
    """Return what is known of the packages of an image of these files and links, on a base."""
    keeper, files = lay_files(contents, links, keep=1024 * 1024)
    below = lay_files(base, base_links, store=keeper, keep=1024 * 1024)[1] if base is not None else None
    return read_base_packages(files, keeper, lambda: below)


ELF = b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\x3e\0" + bytes(44)


def sha(content):
    return (("sha256", hashlib.sha256(content).digest()),)


@pytest.mark.parametrize("database", [{DATABASE: record()}, {RPM: b"RpmP"}, {PORTAGE: b""}])
def test_files_of_the_base_count_as_installed(database):
    """Nothing else does: the image's records and its own files do not."""
    found = read({**FILES, **database, "usr/lib/evil.py": MODULE}, {**FILES, **database, "opt/a.py": MODULE})

    assert found.digests is not None
    assert set(found.digests) == {f"/{path}" for path in (*FILES, *database, "opt/a.py")}
    assert found.digests["/usr/lib/hat.py"] == sha(MODULE)
    assert (found.false_claims, found.packages, found.databases) == ((), (), ())


def own_files(database, base=BASE, **more):
    """Return manager → paths that its packages may have from the base, in an image with these records of apk."""
    found = read({**base, DATABASE: database, **more}, base)
    assert all(
        digests == (found.digests or {})[path] for each in found.owned.values() for path, digests in each.items()
    )
    return {manager: set(digests) for manager, digests in found.owned.items()}


def test_apk_package_owns_files_listed_by_equal_record_of_base():
    """Nobody finds vulnerabilities of a package whose record is gone, nor of what the base has without a record."""
    base = {**BASE, "opt/cap": ELF, DATABASE: record() + record("1", "cap", listed="")}

    assert own_files(base[DATABASE], base) == {"apk": {f"/{path}" for path in FILES}}
    assert own_files(record("1", "cap", listed=LISTED + "F:opt\nR:cap\n"), base) == {"apk": set()}
    assert own_files(record("2.0"), base) == {"apk": set()}


def test_package_manager_missing_in_base_owns_no_files():
    """Even an empty file would be enough to be a database of apk."""
    dpkg = {**FILES, "var/lib/dpkg/status": b"Package: hat\nVersion: 1\n"}

    assert own_files(b"", {**dpkg, DATABASE: b""}, **{RPM: b"RpmP"}) == {"apk": set()}
    assert read({**dpkg, RPM: b"RpmP"}, dpkg).owned == {"apk": {}}
    assert set(read({**dpkg, RPM: b"RpmP"}, {**dpkg, RPM: b"Rpm"}).owned["rpm"]) == {
        f"/{path}" for path in (*dpkg, RPM)
    }


def test_base_is_not_read_for_image_with_debian_packages_only():
    """It takes requests to the registry, and Debian packages are compared with an archive."""
    keeper, files = lay_files({**FILES, "var/lib/dpkg/status": b"Package: hat\nVersion: 1\n"})

    def fail():
        raise AssertionError("it is not needed")

    assert read_base_packages(files, keeper, fail) == BasePackages()


def test_packages_of_apk_that_the_base_lacks_are_named():
    """Other versions, and without a base all."""
    image = {**FILES, DATABASE: record() + record("2", "tie") + record("3", "cap")}

    assert read(image, {**FILES, DATABASE: record() + record("1", "tie")}).packages == ("cap 3", "tie 2")
    assert read(image) == BasePackages(
        packages=("cap 3", "hat 1.0", "tie 2"), has_apk=True, believed=frozenset(("apk",))
    )


@pytest.mark.parametrize(
    ("changed", "about"),
    [
        (record("2.0"), "hat 2.0 of the source hats"),
        (record("0.9"), "hat 0.9 of the source hats"),
        (record(source="caps"), "hat 1.0 of the source caps"),
        (record("2.0", listed=""), "hat 2.0 of the source hats"),
    ],
)
def test_other_version_with_the_code_of_the_base_is_a_false_claim(changed, about):
    """A scanner would see other vulnerabilities than are there."""
    cap = record(name="cap", listed="")
    (claim,) = read({**BASE, DATABASE: cap + changed}, BASE).false_claims

    why = "but its code is that of hat 1.0 of the source hats in the base"
    assert claim == f"/{DATABASE}:{cap.count(10) + 1}: it claims to be {about}, {why}; {REMEDY}"


@pytest.mark.parametrize("path", CODE)
def test_other_version_with_other_code_is_no_false_claim(path):
    """Somebody upgraded it."""
    assert read({**BASE, path: b"#!new", DATABASE: record("2.0")}, BASE).false_claims == ()


@pytest.mark.parametrize("path", ["usr/share/hat/text", "etc/hat.sh"])
def test_other_version_with_only_changed_text_is_a_false_claim(path):
    """Anybody can change one, and administrators change settings."""
    assert len(read({**BASE, path: b"#!new", DATABASE: record("2.0")}, BASE).false_claims) == 1


def test_other_version_with_only_removed_code_is_a_false_claim():
    """Removing one file would be enough to claim any version."""
    left = {path: content for path, content in BASE.items() if path not in CODE[1:]}

    assert len(read({**left, DATABASE: record("2.0")}, BASE).false_claims) == 1
    assert read({"usr/share/hat/text": TEXT, DATABASE: record("2.0")}, BASE).false_claims == ()


def test_other_version_with_linked_code_of_base_is_no_false_claim():
    """The package with the link may be upgraded alone."""
    base = {"usr/lib/libhat.so.1": PROGRAM, DATABASE: record(listed="F:usr/lib\nR:libhat.so\n")}
    links = {"usr/lib/libhat.so": "libhat.so.1"}

    assert read({**base, DATABASE: record("2.0")}, base, links, links).false_claims == ()


def test_apk_package_with_other_source_than_in_base_is_named():
    """The scanner looks for vulnerabilities by the source; with other code it is no false claim."""
    found = read({**BASE, "usr/bin/hat": b"#!new", DATABASE: record(source="caps")}, BASE)

    assert (found.packages, found.false_claims) == (("hat 1.0",), ())


LIBRARY = {"usr/lib/libhat.so": ELF, DATABASE: record(listed="F:usr/lib\nR:libhat.so\nF:bin\nR:sh\n")}
SHELL = {"bin/sh": "/bin/busybox"}


def test_program_of_the_base_with_other_content_is_a_false_claim():
    """Its record is the base's, and its version says nothing about what it has become."""
    (claim,) = read({**LIBRARY, "usr/lib/libhat.so": ELF + b"node"}, LIBRARY).false_claims

    about = "it claims to be hat 1.0 of the source hats of the base"
    assert claim == f"/{DATABASE}:1: {about}, but the image differs from the base in /usr/lib/libhat.so; {REMEDY}"


def test_link_of_the_base_to_another_program_is_a_false_claim():
    """Unless a package beyond the base has the program, which is named: somebody chose another shell."""
    base = {**LIBRARY, "bin/busybox": ELF}
    image, links = {**base, "bin/dash": ELF + b"dash"}, {"bin/sh": "dash"}
    dash = record("1", "dash", listed="F:bin\nR:dash\n")

    (claim,) = read(image, base, links, SHELL).false_claims
    assert "differs from the base in /bin/dash;" in claim
    found = read({**image, DATABASE: image[DATABASE] + dash}, base, links, SHELL)
    assert (found.false_claims, found.packages) == ((), ("dash 1",))


def test_changed_programs_are_named_up_to_three():
    """A package may have thousands."""
    base = {f"opt/{name}": ELF for name in "abcd"}
    base[DATABASE] = record(listed="F:opt\n" + "".join(f"R:{name}\n" for name in "abcd"))
    (claim,) = read({**dict.fromkeys(base, ELF + b"node"), DATABASE: base[DATABASE]}, base).false_claims

    assert "differs from the base in /opt/a, /opt/b, /opt/c, and 1 more;" in claim


@pytest.mark.parametrize(
    "listed", ["", LISTED + "a:0:0:755\n", LISTED + "F:opt/none\nR:none\n", LISTED + "F:usr/lib\nR:../bin/hat\n"]
)
def test_record_of_the_base_with_other_lines_is_no_false_claim(listed):
    """What apk writes again, what is not there, and what the base's record lists at the same path."""
    assert read({**BASE, DATABASE: record(listed=listed)}, BASE) == read(BASE, BASE)


@pytest.mark.parametrize(
    ("again", "version"), [(record(), "1.0"), (record(listed="F:opt\n"), "1.0"), (record("2.0", listed=""), "2.0")]
)
def test_second_record_of_a_package_is_a_false_claim(again, version):
    """apk writes one, and readers differ in which of them counts."""
    image = {**BASE, "usr/bin/hat": b"#!new"}
    for database in (record() + again, again + record()):
        (claim,) = read({**image, DATABASE: database}, BASE).false_claims
        assert f"it claims to be hat {version} of the source hats, but the package has another record too" in claim
    assert read({**BASE, DATABASE: record() + record()}, {**BASE, DATABASE: record() + record()}).false_claims == ()


def test_dropped_record_of_base_with_present_code_is_a_false_claim():
    """A scanner would not know of the package."""
    own = record() + record("2", "tie", listed="F:opt\nR:tie.py\n") + record("3", "cap", listed="")
    base = {**BASE, "opt/tie.py": MODULE, DATABASE: own}

    for database, named in ((b"", "hat 1.0, tie 2"), (record(), "tie 2")):
        (claim,) = read({**base, DATABASE: database}, base).false_claims
        why = f"the base's record of {named} is missing, but its code is in the image"
        assert claim == f"/{DATABASE}:1: {why}; {REMEDY}"


def test_partial_code_of_dropped_record_is_a_false_claim():
    """One changed byte would be enough to drop any record; and packages are renamed."""
    image, cap = {**BASE, "usr/bin/hat": b"#!new"}, record("2", "cap", "cap")

    assert len(read({**image, DATABASE: b""}, BASE).false_claims) == 1
    assert read({**image, DATABASE: cap}, BASE).false_claims == ()
    assert len(read({**BASE, DATABASE: cap}, BASE).false_claims) == 1


def test_record_that_gains_code_of_dropped_one_is_a_false_claim():
    """The package with a longer list is still the base's, and is named nowhere."""
    base = {**BASE, DATABASE: record() + record("1", "cap", "cap", listed="")}
    image = {**base, "usr/bin/hat": b"#!new", DATABASE: record("1", "cap", "cap")}

    (claim,) = read(image, base).false_claims
    assert "the base's record of hat 1.0 is missing" in claim
    base[DATABASE] = record() + image[DATABASE]
    assert read(image, base).false_claims == ()


def test_removed_package_of_the_base_is_no_false_claim():
    """apk removes its record and its files."""
    text = {"usr/share/hat/text": TEXT}

    assert read({**text, DATABASE: b""}, BASE).false_claims == ()


@pytest.mark.parametrize(("database", "has_apk"), [(record(), True), (b"", False), (b"no record\n", False)])
def test_apk_counts_as_installed_if_database_has_a_record(database, has_apk):
    """An empty file is no sign of apk, nor is one that apk would not write."""
    assert read({DATABASE: database}).has_apk is has_apk
    assert not read({f"{DATABASE}/file": database}).has_apk


@pytest.mark.parametrize(
    ("database", "bases", "is_library"), [(record(), 0, True), (b"", 0, False), (record(), 1, False)]
)
def test_library_counts_if_apk_has_records_and_image_has_no_base(database, bases, is_library):
    """What the base has is compared; and an empty file is no sign that apk installed the rest."""
    library = {f"usr/lib/python3.12/{name}.py": MODULE for name in sys.stdlib_module_names}
    keeper, files = lay_files({**library, "usr/bin/python3.12": ELF, DATABASE: database}, keep=1024 * 1024)
    sources = PackageSources(count_base_layers=lambda _: bases)
    installed, _ = read_packages(files, keeper, sources, read_system_packages(files, keeper, sources, ()))

    assert installed.libraries.contain("/usr/lib/python3.12/os.py") is is_library


def test_record_equal_to_one_of_two_in_base_is_no_false_claim():
    """Nothing changed."""
    two = {**FILES, DATABASE: record() + record("2.0")}

    assert read(two, two).false_claims == ()


def test_invalid_database_is_a_false_claim_with_and_without_a_base():
    """Readers take different packages from it."""
    image = {**FILES, DATABASE: record() + b"P:cap\nV:1\nV:2\n"}

    for base in (BASE, None):
        (claim,) = read(image, base).false_claims
        assert claim.startswith(f"/{DATABASE}:18: a line that apk does not write")


DATABASES = {RPM: b"RpmP", PACMAN: b"%NAME%\na\n%VERSION%\n1\n", PORTAGE: b"obj /a 1 1\n"}


@pytest.mark.parametrize(
    ("path", "about"),
    [(RPM, f"rpm (/{RPM})"), (PACMAN, f"pacman (/{PACMAN})"), (PORTAGE, f"portage (/{PORTAGE})")],
)
def test_database_that_differs_from_base_is_named(path, about):
    """Nobody reads what it lists."""
    image, same = {**FILES, path: DATABASES[path]}, {path: DATABASES[path]}
    changed = {path: DATABASES[path] + b"more\n"}

    assert read(image, same).databases == ()
    assert read(image, changed).databases == read(image, {}).databases == read(image).databases == (about,)


def test_package_manager_with_many_files_is_named_once():
    """pacman and portage have a file for each package."""
    more = {PACMAN.replace("a-1", "b-1"): DATABASES[PACMAN] + b"b\n"}

    assert read({**DATABASES, **more}, DATABASES).databases == (f"pacman (/{next(iter(more))})",)
    assert len(read({**DATABASES, **more}).databases) == 3


def test_package_database_behind_link_is_named():
    """syft follows links, and the base's files count then."""
    found = read({**FILES, "opt/db/pkg/x/a/CONTENTS": b"obj /a 1 1\n"}, FILES, {"var/db": "../opt/db"})

    assert found.databases == ("portage (/opt/db/pkg/x/a/CONTENTS)",)
    assert found.digests is not None
