"""`where` parses a question by its form and finds every image it concerns."""

from types import SimpleNamespace

import pytest

from supply_chain.adapters.database import open_inventory
from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.statement import PROVENANCE, VULNERABILITIES
from supply_chain.fleet.image import HostContainer
from supply_chain.fleet.where import (
    Question,
    SearchKind,
    find_invalid_names,
    find_places,
    list_exclusions,
    parse_question,
    require_advisory,
    require_package_names,
)
from supply_chain.model.image import Material
from supply_chain.model.tier import TierName
from tests.contract.inventory import digest, entry
from tests.support.new_inventory import new_inventory

BASE, OTHER = "sha256:" + "d" * 64, "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("text", "kind", "name", "version"),
    [
        ("CVE-2026-1234", "vulnerability", "CVE-2026-1234", None),
        ("cve-2026-1234 ", "vulnerability", "cve-2026-1234", None),
        ("GHSA-2c7j-xj9m-q2vp", "vulnerability", "GHSA-2c7j-xj9m-q2vp", None),
        ("RHSA-2026:1234", "vulnerability", "RHSA-2026:1234", None),
        ("GO-2026-1234", "vulnerability", "GO-2026-1234", None),
        ("DSA-5987-1", "vulnerability", "DSA-5987-1", None),
        ("alsa-lib", "package", "alsa-lib", None),
        ("usn-7", "package", "usn-7", None),
        ("go-md2man", "package", "go-md2man", None),
        ("cve-bin-tool", "package", "cve-bin-tool", None),
        ("org.apache.logging.log4j:log4j-core@2.14.1", "package", "org.apache.logging.log4j:log4j-core", "2.14.1"),
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
def test_parse_question_recognizes_kind_by_form(text, kind, name, version):
    """The form of the text alone decides."""
    assert parse_question(text) == Question(kind=kind, name=name, version=version)


@pytest.mark.parametrize("text", ["", "  ", "@", "two words", "pkg:", "pkg:deb", "pkg:deb/debian/@1"])
def test_parse_question_refuses_text_without_a_name(text):
    """An empty answer would look as if no image were affected."""
    with pytest.raises(DeclarationInvalid, match="CVE-2026-1234, zlib1g"):
        parse_question(text)


@pytest.mark.parametrize(
    "text",
    [
        "CVE-2024-1x",
        "CVE-202-12345",
        "cve-2024-123",
        "CVE2024-1234",
        "CVE\u20112024-1234",
        "CVE-2024",
        "CVE-nonsense",
        "GHSA-2c7j-xj9m",
        "DSA-5987",
        "dla-3000",
        "USN-6000",
        "RHSA-2026",
    ],
)
def test_parse_question_refuses_misspelt_advisory(text):
    """As a package name it would match nothing and look as if no image were affected."""
    with pytest.raises(DeclarationInvalid, match="Write CVE-2026-1234"):
        parse_question(text)


def test_not_counted_names_unscanned_images_for_advisory():
    """For a package the SBOM suffices, whether scanned or not."""
    inventory = SimpleNamespace(
        count_unscanned=lambda: 2, count_by_starter=lambda: 0, count_unreadable=lambda: 0, count_without_sbom=lambda: 0
    )
    unscanned = "2 images not scanned, or archived or gone and not scanned since (`cscm images` lists them)"

    assert list_exclusions(inventory, parse_question("CVE-2026-1234")) == unscanned
    inventory.count_by_starter = lambda: 1
    assert list_exclusions(inventory, parse_question("CVE-2026-1234")) == (
        f"{unscanned}; 1 image of which the starter database covers only some packages"
    )
    assert list_exclusions(inventory, parse_question("zlib")) == ""


def test_not_counted_names_images_without_sbom_for_package():
    """For a base or a digest only unreadable evidence matters."""
    inventory = SimpleNamespace(
        count_unreadable=lambda: 1,
        count_without_sbom=lambda: 2,
        images=lambda name: iter([name]),
        list_removed=lambda name: (),
    )
    unreadable = "1 image whose evidence cannot be read (`cscm images` lists them, `cscm explain` gives the reason)"

    assert list_exclusions(inventory, parse_question("zlib")) == f"{unreadable}; 2 images without an SBOM"
    assert (
        list_exclusions(inventory, parse_question("base/python"))
        == list_exclusions(inventory, parse_question(OTHER))
        == unreadable
    )


def test_not_counted_hints_at_other_versions_and_unknown_base():
    """Otherwise the empty answer would look as if no image were affected."""
    inventory = SimpleNamespace(
        count_unreadable=lambda: 0,
        count_without_sbom=lambda: 0,
        count_other_versions=lambda name, version: {"2": 0, "3": 2}[version],
        images=lambda name: iter(["one"] if name == "base/python" else []),
        list_removed=lambda name: ("one",) if name == "base/proxy" else (),
    )
    asked = ("z", "z@2", "z@3", "base/python", "base/proxy", "base/pyton")

    exclusions = {text: list_exclusions(inventory, parse_question(text)) for text in asked}

    assert {text: each for text, each in exclusions.items() if each} == {
        "z@3": "2 images with another version of it (`cscm where z`)",
        "base/pyton": "there is no base of that name",
    }


@pytest.fixture
def built_on_base(fleet, make):
    """A base, a running image on it with a finding, and an unrelated image."""
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
        ("openssl@3", {"hello": "lists openssl", "another": "lists openssl", "base/python": "lists openssl"}),
        ("nothing@3", {}),
        ("base/python", {"hello": "built on base/python", "base/python": "is that base"}),
        (BASE, {"hello": "built on", "base/python": "is that image"}),
        (OTHER[7:20], {"another": "is that image"}),
        ("base/none", {}),
    ],
)
def test_where_finds_every_affected_image(built_on_base, text, found):
    """Running images come first, and a package without a version matches any version."""
    places = find_places(parse_question(text), built_on_base.inventory)

    assert {place.image.application for place in places} == set(found)
    for place in places:
        assert found[place.image.application] in place.match
    if "hello" in found:
        assert places[0].image.application == "hello" and places[0].running[0].environment == "staging"


def test_where_finds_images_on_a_base_of_their_base(fleet, make):
    """A block of the lowest base refuses them too."""
    fleet.curated(OTHER, "base/os")
    for application, own, base in (("base/python", BASE, OTHER), ("shop", "sha256:" + "e" * 64, BASE)):
        material = Material(name="base", digest=base, curated=True)
        ref = fleet.curated(own, application, without=("provenance",))
        fleet.say(ref, TierName.DEVELOPMENT, PROVENANCE, make.provenance(built={"materials": (material,)}))
    for application in ("base/os", "base/python", "shop"):
        fleet.refresh(application)

    for asked in ("base/os", OTHER):
        places = find_places(parse_question(asked), fleet.inventory)
        assert [place.image.application for place in places] == ["base/os", "base/python", "shop"]


def test_where_finds_running_image_that_left_the_registry(fleet):
    """Its signed evidence remains, and somebody has to deploy another image."""
    ref = fleet.curated()
    fleet.deploy(ref)
    fleet.remove(ref)
    fleet.refresh()

    for asked, why in (("openssl", "lists openssl"), (ref.digest, "is that image")):
        (place,) = find_places(parse_question(asked), fleet.inventory)
        assert (place.image, place.owner, place.running[0].environment) == (ref, "web team", "staging")
        assert place.match.startswith(why) and place.match.endswith("; gone from the registry")
    assert list_exclusions(fleet.inventory, parse_question("openssl")) == ""
    assert list_exclusions(fleet.inventory, parse_question("CVE-2026-1234")).startswith("1 image not scanned, or ")


def test_where_finds_running_image_without_evidence_by_digest(fleet):
    """Its deployment record is in another repository, and it counts as an image without an SBOM."""
    ref = fleet.curated()
    fleet.deploy(ref)
    del fleet.world.registry.repositories["curated/hello"]
    fleet.refresh()

    assert list_exclusions(fleet.inventory, parse_question("openssl")) == "1 image without an SBOM"
    assert [place.image for place in find_places(parse_question(ref.digest), fleet.inventory)] == [ref]


def test_where_finds_missing_base_that_runs_as_reverse_proxy(fleet, make):
    """Only the host shows that it still runs."""
    ref = fleet.curated(BASE, "base/proxy")
    fleet.remove(ref)
    fleet.refresh("base/proxy")
    fleet.inventory.record_host(
        "laptop", [HostContainer(container="f1", name="reverse_proxy", digest=BASE, running=True)], make.noon
    )

    (place,) = find_places(parse_question("base/proxy"), fleet.inventory)
    assert (place.image, place.match) == (ref, "is that base; gone from the registry")


def test_where_finds_encrypted_copy_as_its_image(tmp_path):
    """The copy is what runs and what a host shows."""
    inventory = open_inventory(new_inventory(tmp_path / "inventory.db"))
    inventory.put([entry(1, copies=(BASE,)), entry(2)])

    asked = (BASE, "d" * 12, digest(1))
    found = [[(place.image, place.match) for place in find_places(parse_question(each), inventory)] for each in asked]
    ref, copied = entry(1).image.ref, "its encrypted copy is that image"
    assert found == [[(ref, copied)], [(ref, copied)], [(ref, "is that image")]]


def test_question_text_shows_how_it_was_understood():
    """The text is for people."""
    assert str(Question(kind=SearchKind.PACKAGE, name="zlib", version="1")) == "the package zlib in version 1"


@pytest.mark.parametrize(
    "name", ["pkg:", "CVE-2026-1234", "openssl, libssl3", "base/python", "SUSE-SU-2026:1234-1", ""]
)
def test_no_packages_lists_names_that_are_no_package(name):
    """A rescan of no images would look as if nothing were wrong."""
    assert find_invalid_names(["openssl", name, " zlib1g "]) == (name,)
    with pytest.raises(DeclarationInvalid, match="Not a package name"):
        require_package_names([name])
    require_package_names([])


@pytest.mark.parametrize(("name", "packages"), [("DSA-5987", ["openssl"]), ("nonsense", []), ("openssl", [])])
def test_require_advisory_refuses_other_names(name, packages):
    """A package name without its advisory would start a rescan of every image."""
    with pytest.raises(DeclarationInvalid):
        require_advisory(name, packages)


@pytest.mark.parametrize(("name", "packages"), [("DSA-5987-1", []), ("CVE-2026-1234", []), ("vendor7", ["zlib"])])
def test_require_advisory_accepts_known_or_vendor_advisory(name, packages):
    """An unknown advisory of a vendor needs package names."""
    require_advisory(name, packages)
