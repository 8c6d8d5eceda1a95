"""Records of apk, read as apk and the scanner read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters.image.apk_records import (
    REMEDY,
    ApkRecord,
    find_apk_databases,
    find_invalid_line,
    parse_apk,
    read_apk_records,
)
from tests.support.filesystem import lay_files

DATABASE = "lib/apk/db/installed"
HAT = """C:Q1x=
P:hat
V:1.0-r0
A:x86_64
T:
o:hats
k:100
D:so:libc.musl-x86_64.so.1
F:
R:.hat
F:usr/bin
M:0:0:755
R:hat
a:0:0:755
Z:Q1x=
R:cap

"""


def read(contents, links=None, keep=1024 * 1024):
    keeper, files = lay_files(contents, links, keep)
    return read_apk_records(files, keeper, lambda: None)


def test_record_has_name_version_source_and_files():
    path, files = f"/{DATABASE}", ("/.hat", "/usr/bin/hat", "/usr/bin/cap")
    hat, cap = read({DATABASE: f"{HAT}P:cap\nV:2\n".encode()})[0]

    assert hat == ApkRecord(path, 1, "hat", "1.0-r0", "hats", files)
    assert cap == ApkRecord(path, 18, "cap", "2", "", ())
    assert (hat.describe(), cap.describe()) == ("hat 1.0-r0 of the source hats", "cap 2")


def test_apk_record_lists_normalised_paths():
    """A directory may be empty."""
    (hat,) = read({DATABASE: b"P:hat\nV:1\nF:/usr//bin/\nR:/../hat\nF:\nR:cap\nR:\nF:opt/cap\n"})[0]

    assert hat.files == ("/usr/hat", "/cap", "/")


@pytest.mark.parametrize("links", [{"lib": "usr/lib"}, {}])
def test_records_are_read_in_both_places_and_behind_links(links):
    """Alpine merges its directories; syft follows the link."""
    records, claims = read({f"usr/{DATABASE}": HAT.encode(), "opt/lib/apk/db/installed": b"no record"}, links)

    assert ([each.path for each in records], claims) == ([f"/usr/{DATABASE}"], [])


def test_apk_database_at_other_path_is_not_read():
    """The owner has to accept it as a second one."""
    _, files = lay_files({"opt/lib/apk/db/installed": HAT.encode(), "lib/apk/db/installed.new": HAT.encode()})

    assert find_apk_databases(files, lambda: None) == {}


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ("P:hat\nV:1\nP:cap\n", 3),
        ("P:hat\nV:1\nV:2\n", 3),
        ("P:hat\nV:1\no:\no:perl\n", 4),
        ("P:hat\nV:\n", 2),
        ("P:\nV:1\n", 1),
        ("\nP:hat\no:hats\n\nP:cap\nV:1\n", 2),
        ("V:1\n", 1),
        ("P:hat\nV:1\nno field\n", 3),
        ("P:hat\nV:1\n \n", 3),
        ("P:hat\nV:1\n\r\n", 3),
        ("P:hat\nV:1\r\n", 2),
        ("P:hat\n V:1\n", 2),
        ("P:hat\nVersion:1\n", 2),
        ("P:hat\nV:1\nM:0:0:755\n", 3),
        ("P:hat\nV:1\nF:\nM:0:0:755\n", 4),
        ("P:hat\nV:1\nF:bin\nZ:Q1x=\n", 4),
        ("P:hat\nV:1\nF:bin\na:0:0:755\n", 4),
        ("F:bin\nP:hat\nV:1\n", 1),
        ("R:hat\nP:hat\nV:1\n", 1),
    ],
)
def test_apk_database_with_invalid_line_is_a_false_claim(lines, line):
    """Readers would take different packages from it, or none."""
    records, claims = read({DATABASE: lines.encode()})

    why = "a line that apk does not write among its records"
    assert (records, claims) == ([], [f"/{DATABASE}:{line}: {why}; {REMEDY}"])


def test_too_large_database_is_a_false_claim():
    (claim,) = read({DATABASE: HAT.encode()}, keep=10)[1]

    assert claim.startswith(f"/{DATABASE}:1: records of apk that are too large, and are not read; ")


def read_as_syft(lines):
    """Return the packages that syft reads (its parse_apk_db.go); raise IndexError where it ends."""
    packages, fields, files = list[list[object]](), dict[str, str](), list[str]()
    place = {"F": -1, "R": -1}
    for line in [*lines, ""]:
        text = line.removesuffix("\r")
        kind, colon, value = text.partition(":")
        if not text and fields:
            packages.append([*(fields.get(each, "") for each in "PVo"), files])
            fields, files, place = {}, [], {"F": -1, "R": -1}
        elif kind and colon and value:
            fields[kind] = value
            if kind in place:
                files.append(f"{files[place['F']] if kind == 'R' and place['F'] >= 0 else ''}/{value}")
                place[kind] = len(files) - 1
            elif kind in ("M", "a", "Z"):
                (files if place["F" if kind == "M" else "R"] >= 0 else [])[0]
    return packages


LINES = (
    *(
        "",
        "",
        "P:hat",
        "P:cap",
        "P:",
        "V:1",
        "V:2\r",
        "o:hats",
        "o:",
        "C:Q1x=",
        "T:",
        "F:bin",
        "F:etc",
        "F:",
        "R:hat",
        "R:",
    ),
    *("M:0:0:755", "a:0:0:755", "Z:Q1x=", "x", " P:cap", "PV:1", "P", ":1", "\r"),
)


@given(st.lists(st.sampled_from(LINES), max_size=12), st.booleans())
def test_apk_database_without_invalid_line_is_read_as_by_syft(lines, is_whole):
    """Otherwise somebody could show the scanner other packages than this project reads."""
    lines = ["P:hat", "V:1"] * is_whole + lines
    if not find_invalid_line(lines):
        own = [[each.name, each.version, each.source] for each in parse_apk("/db", lines)]
        assert [about for *about, _ in read_as_syft(lines)] == own
