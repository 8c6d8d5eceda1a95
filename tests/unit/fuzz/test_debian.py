"""Parsers of what archives of Debian packages publish, and of dpkg's records: every input is read, or refused."""

from __future__ import annotations

import io
from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from supply_chain.adapters.debian_archive.binary_package import INVALID, read_binary_package
from supply_chain.adapters.debian_archive.indexes import parse_packages, parse_release
from supply_chain.adapters.image.debian_version import make_version_key
from supply_chain.adapters.image.dpkg_records import parse_status
from tests.support.debian_archive import ArchivePackage, make_ar, make_deb, make_tar

TAR = make_tar({"usr/bin/hat": b"#!/bin/sh\n", "usr/lib/hat.so": b"\x7fELF"})
LISTED = ArchivePackage("hat", "2", {"usr/bin/hat": b"x"}).describe().encode()
changes = st.tuples(st.integers(min_value=0), st.binary(min_size=1, max_size=8))


def change(content: bytes, place: int, other: bytes) -> bytes:
    at = place % len(content)
    return content[:at] + other + content[at + len(other) :]


@given(
    changes, st.sampled_from([make_deb(TAR), make_deb(TAR, ".gz"), make_deb(TAR, ".zst"), make_ar({"data.tar": TAR})])
)
@example((0, b"!"), b"")
def test_changed_package_is_read_or_refused(changed: tuple[int, bytes], package: bytes) -> None:
    """Every path is absolute and leads nowhere else."""
    with suppress(*INVALID):
        found = read_binary_package(io.BytesIO(change(package or b"x", *changed)))
        assert all(path.startswith("/") and ".." not in path.split("/") for path in found.digests)
        assert found.code <= found.digests.keys()


@given(changes)
def test_changed_list_of_packages_is_read_or_refused(changed: tuple[int, bytes]) -> None:
    """Every file name stays below the archive's address."""
    with suppress(ValueError):
        for each in parse_packages(io.BytesIO(change(LISTED, *changed)), {"hat"}, 10_000):
            assert each.package.version and not each.file.path.startswith(("/", ".")) and "//" not in each.file.path
            assert ".." not in each.file.path.split("/") and len(each.file.sha256) == 64


@given(st.binary() | st.text(alphabet=" :-\n0aSHA256").map(str.encode))
def test_any_release_is_read_or_refused(content: bytes) -> None:
    """It lists at least one file."""
    with suppress(ValueError):
        assert parse_release(content).files


@given(st.binary() | st.text(alphabet=" :-\n\ta").map(str.encode))
def test_any_status_is_read(content: bytes) -> None:
    """Each package has a line and at least one field."""
    for line, fields in parse_status(content):
        assert line >= 1 and fields


@given(st.text(), st.text())
def test_any_versions_have_an_order(one: str, other: str) -> None:
    """A version without digits or letters too."""
    assert (make_version_key(one) < make_version_key(other)) + (make_version_key(one) > make_version_key(other)) <= 1
