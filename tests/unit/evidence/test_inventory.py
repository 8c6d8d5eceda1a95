"""The inventory: read back only as it was signed."""

import gzip

import pytest

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.inventory import packages_in, system_packages
from supply_chain.evidence.statement import BUNDLE, SBOM, about
from supply_chain.evidence.store import CREATED, PREDICATE
from supply_chain.image import ImageRef
from supply_chain.tier import TierName

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)


@pytest.fixture
def signed(world):
    """Attach a signed SBOM statement; gives what is verified afterwards."""

    def attach(predicate, created="2026-11-24T12:00:00+00:00"):
        bundle = world.signers[TierName.CURATION].sign(about(REF, SBOM, predicate))
        world.registry.attach(REF, BUNDLE, bundle, {PREDICATE: SBOM, CREATED: created})
        return world.store(TierName.EXECUTION).verified(REF, TierName.CURATION)

    return attach


def test_lists_type_name_and_url_of_every_package(world, make, signed):
    """As syft names them."""
    evidence = signed(make.sbom(world.registry, REF, "openssl", "zlib1g"))

    assert packages_in(evidence, world.registry.content) == {
        ("deb", "openssl", "pkg:deb/openssl"),
        ("deb", "zlib1g", "pkg:deb/zlib1g"),
    }


def test_nothing_signed_is_not_an_empty_inventory(world):
    """None: nobody looked. An empty set: somebody looked and found nothing."""
    assert packages_in((), world.registry.content) is None


def test_the_last_one_counts(world, make, signed):
    """Scanned again, the newer statement is the inventory."""
    signed(make.sbom(world.registry, REF, "old"), created="2026-11-23T12:00:00+00:00")
    evidence = signed(make.sbom(world.registry, REF, "new"))

    assert packages_in(evidence, world.registry.content) == {("deb", "new", "pkg:deb/new")}


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b'{"artifacts": []}'),
        b"not compressed",
        gzip.compress(b'{"artifacts": [{"type": "deb", "name": "openssl"}]}')[:-9],
        b"",
    ],
    ids=["another", "rubbish", "cut short", "nothing"],
)
def test_other_content_than_was_signed_is_no_inventory(world, make, signed, content):
    """Whoever can write to the registry cannot empty the list."""
    predicate = make.sbom(world.registry, REF, "openssl")
    world.registry.change(REF.repository, predicate["references"][0]["annotations"]["referrer"], content)

    with pytest.raises(EvidenceInvalid, match="cannot be read"):
        packages_in(signed(predicate), world.registry.content)


@pytest.mark.parametrize("predicate", [{}, {"references": []}, {"references": [{"name": "syft"}]}, {"references": 1}])
def test_a_signed_statement_that_names_no_inventory_is_an_error(world, signed, predicate):
    """It may have been made by another version; it does not count as empty."""
    with pytest.raises(EvidenceInvalid, match="cannot be read"):
        packages_in(signed(predicate), world.registry.content)


def test_system_packages_are_the_distributions():
    """A virtual environment may be replaced; the package manager's records may not."""
    assert system_packages(frozenset({("deb", "a", ""), ("python", "b", ""), ("apk", "c", "")})) == {
        ("deb", "a", ""),
        ("apk", "c", ""),
    }
