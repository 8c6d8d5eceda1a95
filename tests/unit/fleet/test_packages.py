"""One normal form of package names and versions, for questions and for SBOMs."""

import pytest

from supply_chain.fleet.packages import list_package_names, normalize_name, parse_package
from supply_chain.model.package_url import normalize_version


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("PyYAML", "pyyaml"),
        ("zope.interface", "Zope_-.Interface"),
        ("org.apache.logging.log4j:log4j-core", "log4j-core"),
        ("github.com/a/B", "github.com/a/b"),
    ],
)
def test_package_names_are_normalized(one, other):
    """PEP 503 applies, and a Java package is named by its artifact alone."""
    assert normalize_name(one) == normalize_name(other)


@pytest.mark.parametrize(
    ("text", "same"), [("go1.22.1", "1.22.1"), ("v1.0", "1.0"), ("1:1.2", "1:1.2"), ("vvv", "vvv")]
)
def test_package_version_is_normalized(text, same):
    """A version prefix is removed, but another epoch is another version."""
    assert normalize_version(text) == same


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("pkg:pypi/PyYAML@5.1", ("pypi", "pyyaml", "5.1")),
        ("@scope/name@1.0", ("", "@scope/name", "1.0")),
        ("@scope/name", ("", "@scope/name", "")),
        ("bind@32:9.16", ("", "bind", "32:9.16")),
        ("org.apache.logging.log4j:log4j-core:2.14.1", ("", "log4j-core", "2.14.1")),
        ("org.apache.logging.log4j:log4j-core:jar:2.14.1:compile", ("", "log4j-core", "2.14.1")),
        ("zlib1g:amd64=1:1.2.13", ("", "zlib1g", "1:1.2.13")),
        ("libssl3:amd64", ("", "libssl3", "")),
        ("libssl3:amd64@3.0.15-1", ("", "libssl3", "3.0.15-1")),
    ],
)
def test_package_question_is_split_into_type_name_and_version(text, asked):
    """The text may have the form of any package manager."""
    assert parse_package(text) == asked


def test_package_has_names_of_itself_its_url_and_its_source():
    """Each name has its version; an empty name is left out."""
    swift = ("swift", "Nio", "pkg:swift/github.com/apple/swift-nio@v2?upstream=src%401&epoch=3")

    at_both = {(name, version) for name in ("nio", "github-com/apple/swift-nio") for version in ("2", "3:v2")}
    assert list_package_names(swift) == at_both | {("src", "1"), ("src", "3:1")}
    assert (
        list_package_names(("python", "x", "")) == {("x", "")} and list_package_names(("python", "", "")) == frozenset()
    )
