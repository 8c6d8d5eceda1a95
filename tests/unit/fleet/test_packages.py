"""One way of writing names and versions, for what is asked and for what is listed."""

import pytest

from supply_chain.fleet.packages import asked_for, name_of, names_of, version_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("PyYAML", "pyyaml"),
        ("zope.interface", "Zope_-.Interface"),
        ("org.apache.logging.log4j:log4j-core", "log4j-core"),
        ("github.com/a/B", "github.com/a/b"),
    ],
)
def test_a_name_is_the_same_however_it_is_written(one, other):
    """PEP 503, and Java's artifact alone."""
    assert name_of(one) == name_of(other)


@pytest.mark.parametrize(
    ("text", "same"), [("go1.22.1", "1.22.1"), ("v1.0", "1.0"), ("1:1.2", "1:1.2"), ("vvv", "vvv")]
)
def test_a_version_is_what_follows_its_mark(text, same):
    """Another epoch is another version."""
    assert version_of(text) == same


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("pkg:pypi/PyYAML@5.1", ("pypi", "PyYAML", "5.1")),
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
def test_what_is_asked_for_is_taken_apart(text, asked):
    """As it is written."""
    assert asked_for(text) == asked


def test_a_package_has_the_names_of_itself_its_url_and_its_source():
    """Each with its version; what has no name is none."""
    swift = ("swift", "Nio", "pkg:swift/github.com/apple/swift-nio@v2?upstream=src%401&epoch=3")

    at_both = {(name, version) for name in ("nio", "github-com/apple/swift-nio") for version in ("2", "3:v2")}
    assert names_of(swift) == at_both | {("src", "1"), ("src", "3:1")}
    assert names_of(("python", "x", "")) == {("x", "")} and names_of(("python", "", "")) == frozenset()
