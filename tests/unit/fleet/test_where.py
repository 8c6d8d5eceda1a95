"""A question is understood as it is meant, and answered with every image."""

import pytest

from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.statement import PROVENANCE, VULNERABILITIES
from supply_chain.fleet.where import Question, Sought, understood, where
from supply_chain.image import Material
from supply_chain.tier import TierName

BASE, OTHER = "sha256:" + "d" * 64, "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("text", "kind", "name", "version"),
    [
        ("CVE-2026-1234", "vulnerability", "CVE-2026-1234", None),
        ("cve-2026-1234 ", "vulnerability", "cve-2026-1234", None),
        ("GHSA-2c7j-xj9m-q2vp", "vulnerability", "GHSA-2c7j-xj9m-q2vp", None),
        ("RHSA-2026:1234", "vulnerability", "RHSA-2026:1234", None),
        ("GO-2026-1234", "vulnerability", "GO-2026-1234", None),
        ("go-md2man", "package", "go-md2man", None),
        ("zlib1g", "package", "zlib1g", None),
        ("zlib1g@1:1.2.13", "package", "zlib1g", "1:1.2.13"),
        ("@scope/name", "package", "@scope/name", None),
        ("@scope/name@1.0", "package", "@scope/name", "1.0"),
        ("github.com/a/b@v1", "package", "github.com/a/b", "v1"),
        ("pkg:deb/debian/zlib1g@1%3A1.2.13?arch=amd64&upstream=zlib", "package", "zlib1g", "1:1.2.13"),
        ("pkg:deb/debian/zlib1g", "package", "zlib1g", None),
        ("pkg:pypi/django@3.2", "package", "django", "3.2"),
        ("pkg:golang/github.com/a/b@v1#sub", "package", "github.com/a/b", "v1"),
        ("pkg:npm/%40scope/name@1.0", "package", "@scope/name", "1.0"),
        (OTHER, "digest", OTHER, None),
        (f"curated/hello@{OTHER}", "digest", OTHER, None),
        ("b" * 12, "digest", "b" * 12, None),
        ("b" * 11, "package", "b" * 11, None),
        ("base/python", "base", "base/python", None),
        ("curated/base/python", "base", "base/python", None),
    ],
)
def test_a_question_is_understood(text, kind, name, version):
    """By its form alone."""
    assert understood(text) == Question(kind=kind, name=name, version=version)


@pytest.mark.parametrize("text", ["", "  ", "@", "two words", "pkg:", "pkg:deb", "pkg:deb/debian/@1"])
def test_what_cannot_be_looked_for_is_an_error(text):
    """And no empty answer, which would read as if all were well."""
    with pytest.raises(DeclarationInvalid, match="CVE-2026-1234, zlib1g"):
        understood(text)


@pytest.fixture
def built_on_base(fleet, make):
    """A base, an image on it that runs and has a finding, and another that has nothing to do with it."""
    material = Material(name="base/python", digest=BASE, curated=True)
    fleet.curated(BASE, "base/python", at=make.noon)
    ref = fleet.curated(without=("provenance", "scan"))
    fleet.say(ref, TierName.DEVELOPMENT, PROVENANCE, make.provenance(built={"materials": (material,)}))
    report = make.report(make.finding(aliases=("GHSA-1111-2222-3333",), known_exploited=True))
    fleet.say(ref, TierName.CURATION, VULNERABILITIES, report.predicate())
    fleet.deploy(ref)
    fleet.curated(OTHER, "another")
    for application in ("base/python", "hello", "another"):
        fleet.refresh(application)
    return fleet


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("CVE-2026-0001", {"hello": "known exploited"}),
        ("ghsa-1111-2222-3333", {"hello": "CVE-2026-0001"}),
        ("CVE-2026-0002", {}),
        ("openssl", {"hello": "lists openssl", "another": "lists openssl", "base/python": "lists openssl"}),
        ("openssl@3", {}),
        ("base/python", {"hello": "built on base/python", "base/python": "is that base"}),
        (BASE, {"hello": "built on", "base/python": "is that image"}),
        (OTHER[7:20], {"another": "is that image"}),
        ("base/none", {}),
    ],
)
def test_every_image_in_which_it_is_is_found(built_on_base, text, found):
    """With what of it is there; what runs comes first."""
    places = where(understood(text), built_on_base.inventory)

    assert {place.image.application for place in places} == set(found)
    for place in places:
        assert found[place.image.application] in place.why
    if "hello" in found:
        assert places[0].image.application == "hello" and places[0].running[0].environment == "staging"


def test_a_question_tells_what_was_understood():
    """For people."""
    assert str(Question(kind=Sought.PACKAGE, name="zlib", version="1")) == "the package zlib in version 1"
