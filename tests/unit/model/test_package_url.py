"""Package URLs, also malformed and hostile ones: each gives its parts, or none."""

import pytest

from supply_chain.model.package_url import PackageParts, parse_package_url


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("pkg:deb/debian/zlib1g@1%3A1.2.13?arch=amd64&upstream=zlib", ("deb", "zlib1g", "1:1.2.13")),
        ("pkg:deb/debian/zlib1g", ("deb", "zlib1g", "")),
        ("pkg:deb/debian/zlib1g?arch=source#a/b", ("deb", "zlib1g", "")),
        ("pkg:deb/debian/zlib1g#a?b", ("deb", "zlib1g", "")),
        ("pkg:PyPI/django@3.2", ("pypi", "django", "3.2")),
        ("pkg:/pypi/django@3.2", ("pypi", "django", "3.2")),
        ("pkg:golang/github.com/a/b@v1#sub/module", ("golang", "github.com/a/b", "v1")),
        ("pkg:golang/github.com/a@b/c@v1#sub", ("golang", "github.com/a@b/c", "v1")),
        ("pkg:GoLang/github.com/a/b", ("golang", "github.com/a/b", "")),
        ("pkg:npm/%40scope/name@1.0", ("npm", "@scope/name", "1.0")),
        ("pkg:npm/%40scope/name", ("npm", "@scope/name", "")),
        ("pkg:generic/name", ("generic", "name", "")),
        ("pkg:deb/debian/g%2B%2B@4%3A12%2Bb1", ("deb", "g++", "4:12+b1")),
    ],
)
def test_package_url_gives_type_name_and_version(url, found):
    """For some types the namespace is part of the name."""
    assert parse_package_url(url)[:3] == found


@pytest.mark.parametrize(("url", "source"), [
    ("pkg:deb/debian/libssl3@3.0.15-1?arch=amd64&distro=debian-12&upstream=openssl", ("openssl", "3.0.15-1")),
    ("pkg:deb/debian/libc6@2.36-9%2Bb1?upstream=glibc%402.36-9", ("glibc", "2.36-9")),
    ("pkg:deb/debian/libgtk2@1?upstream=gtk%2B2.0", ("gtk+2.0", "1")),
    ("pkg:rpm/redhat/glibc-common@2.34-100.el9?upstream=glibc-2.34-100.el9.src.rpm", ("glibc", "2.34")),
    ("pkg:apk/alpine/libssl3@3.1?upstream=openssl", ("openssl", "3.1")),
    ("pkg:rpm/x/y@1?upstream=odd.src.rpm", ("", "")), ("pkg:pypi/flask@1", ("", "")),
])  # fmt: skip
def test_package_url_gives_source_package(url, source):
    """Advisories name the source package; syft writes it into the package URL."""
    found = parse_package_url(url)
    assert (found.source, found.source_version) == source


@pytest.mark.parametrize(
    "url",
    [
        "", " ", "pkg:", "pkg:deb", "pkg:deb/", "pkg:deb/@1", "pkg:deb/debian/@1", "pkg:deb/debian/@1#a/b",
        "pkg:deb//@1?upstream=a", "deb/debian/zlib1g@1",
        "https://example.org/zlib1g@1", "pkg:d\u20acb/a@1", "pkg:[", "pkg:deb/a?b", "pkg:\0/\0",
    ],
)  # fmt: skip
def test_invalid_package_url_has_no_parts(url):
    """Its package is then known by the name in the SBOM, in any version."""
    assert parse_package_url(url) == PackageParts()


@pytest.mark.parametrize("part", ["a", "a/", "%", "%40", "@", "&a=b", "\ud800", "[", "//", "\n"])
@pytest.mark.parametrize("form", ["pkg:deb/{}", "pkg:deb/a@{}", "pkg:deb/a@1?upstream={}", "pkg:deb/a#{}", "pkg:{}"])
def test_long_package_url_is_parsed_or_invalid(form, part):
    """A package's author writes the URL; reading it must not fail."""
    found = parse_package_url(form.format(part * 100_000))
    assert all(isinstance(each, str) for each in found)
