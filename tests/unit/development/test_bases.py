"""Base images by digest: what curation's last word admits, or what was pinned by hand."""

from datetime import timedelta

import pytest

from supply_chain.development.bases import CuratedBases
from supply_chain.errors import BaseMissing, EvidenceInvalid
from supply_chain.evidence.standing import Act, rule
from supply_chain.evidence.statement import PROVENANCE, SIGNATURE, SUMMARY
from supply_chain.evidence.summary import summary
from supply_chain.image import ImageRef, Material
from supply_chain.tier import Boundary, TierName
from tests.unit.pieces import REPOSITORIES

NEW = ImageRef(repository="curated/base/python", digest="sha256:" + "a" * 64)
OLD = ImageRef(repository="curated/base/python", digest="sha256:" + "b" * 64)
UPSTREAM = "sha256:" + "c" * 64
BASE = "curated/base/python"


class Bases:
    def __init__(self, world, make):
        self.world, self.make = world, make
        self.held, self.instead, self.asked = [NEW, OLD], {}, []

    def newest_first(self, repository):
        return tuple(ref for ref in self.held if ref.repository == repository)

    def upstream(self, name):
        self.asked.append(name)
        return UPSTREAM

    def sign(self, ref, signer=TierName.CURATION):
        self.world.store(signer).attach(ref, SIGNATURE, {}, self.make.noon)

    def verdict(self, ref, *, yes=True, signer=TierName.CURATION, after=0, boundary=Boundary.CURATION):
        reasons = [] if yes else [{"code": "x", "fact": "f", "remedy": "r"}]
        now = self.make.noon + timedelta(seconds=after)
        said = summary(ref, boundary, UPSTREAM, reasons=reasons, notes=(), inputs=(), now=now)
        self.world.store(signer).attach(ref, SUMMARY, said.predicate(), now)

    def resolve(self, name):
        store = self.world.store(TierName.DEVELOPMENT)
        return CuratedBases(self, store, "registry.test", self.instead, self.upstream).resolve(name)


@pytest.fixture
def bases(world, make):
    return Bases(world, make)


def test_the_newest_image_that_curation_signed_and_admits_is_taken(bases):
    """By digest, from the tier's own registry."""
    for ref in (NEW, OLD):
        bases.sign(ref)
        bases.verdict(ref)

    address, material = bases.resolve("curated/base/python")

    assert address == f"registry.test/{NEW}"
    assert (material.digest, material.curated) == (NEW.digest, True)


@pytest.mark.parametrize("fault", ["unsigned", "unjudged", "refused", "refused later", "other signer", "other gate"])
def test_one_that_curation_does_not_stand_for_is_passed_over(bases, fault):
    """The one before it is taken, as long as there is one."""
    bases.sign(OLD)
    bases.verdict(OLD)
    if fault != "unsigned":
        bases.sign(NEW, TierName.DEVELOPMENT if fault == "other signer" else TierName.CURATION)
    if fault != "unjudged":
        gate = Boundary.TO_CURATION if fault == "other gate" else Boundary.CURATION
        bases.verdict(NEW, yes=fault != "refused", boundary=gate)
    if fault == "refused later":
        bases.verdict(NEW, yes=False, after=1)

    assert bases.resolve("curated/base/python")[1].digest == OLD.digest


def test_without_any_there_is_no_base(bases):
    """Another registry is not asked for a curated name."""
    with pytest.raises(BaseMissing, match="no curated image"):
        bases.resolve("curated/base/python")
    assert bases.asked == []


def test_a_base_on_one_that_is_blocked_is_not_built_upon(bases, world, make):
    """The one before it is, as long as it has nothing to do with that; the error names what is blocked."""
    below = ImageRef(repository="curated/base/debian", digest="sha256:" + "d" * 64)
    material = Material(name=below.repository, digest=below.digest, curated=True)
    built = make.provenance(built={"digest": NEW.digest, "materials": (material,)})
    world.store(TierName.DEVELOPMENT).attach(NEW, PROVENANCE, built, make.noon)
    for ref in (NEW, OLD):
        bases.sign(ref)
        bases.verdict(ref)
    rule(below, Act.BLOCK, world.store(TierName.LIFECYCLE), REPOSITORIES, by="ann", why="exploited", now=make.noon)

    assert bases.resolve(BASE)[1].digest == OLD.digest
    bases.held.remove(OLD)
    with pytest.raises(BaseMissing, match=f"is built on {below}, which is blocked by ann"):
        bases.resolve(BASE)


def test_a_base_that_is_blocked_is_told_as_such(bases):
    """To make it again makes the same one."""
    for ref in (NEW, OLD):
        bases.sign(ref)
        bases.verdict(ref)
    store = bases.world.store(TierName.LIFECYCLE)
    rule(NEW, Act.BLOCK, store, REPOSITORIES, by="ann", why="it is bad", now=bases.make.noon)
    assert bases.resolve(BASE)[1].digest == OLD.digest

    rule(OLD, Act.BLOCK, store, REPOSITORIES, by="ann", why="it too", now=bases.make.noon)

    with pytest.raises(BaseMissing, match=r"is blocked by ann .*: it is bad\n.*cscm unblock"):
        bases.resolve(BASE)


def test_evidence_that_cannot_be_read_is_an_error(bases, make):
    """Not a reason to take an older one in silence."""
    bases.sign(NEW)
    bases.world.store(TierName.CURATION).attach(NEW, SUMMARY, {"verifier": {"id": "urn:cscm:gate:curation"},
        "resourceUri": str(NEW), "verificationResult": "PASSED"}, make.noon)  # fmt: skip

    with pytest.raises(EvidenceInvalid):
        bases.resolve("curated/base/python")


def test_a_profile_can_name_an_upstream_image_by_digest_instead(bases):
    """It is no curated one, and says so."""
    bases.instead = {"curated/base/python": f"docker.io/library/python@{UPSTREAM}"}

    address, material = bases.resolve("curated/base/python")

    assert address == f"docker.io/library/python@{UPSTREAM}"
    assert (material.name, material.digest, material.curated) == ("curated/base/python", UPSTREAM, False)


@pytest.mark.parametrize("address", ["docker.io/python:3", "python", "", f"py thon@{UPSTREAM}", f"x@{UPSTREAM}0"])
def test_a_profile_cannot_name_one_by_tag(bases, address):
    """A tag is not a version."""
    bases.instead = {"curated/base/python": address}

    with pytest.raises(BaseMissing, match="by digest"):
        bases.resolve("curated/base/python")


def test_an_upstream_image_that_is_pinned_is_taken_as_it_is(bases):
    """Nobody has to be asked."""
    address, material = bases.resolve(f"docker.io/python:3@{UPSTREAM}")

    assert address == f"docker.io/python:3@{UPSTREAM}"
    assert (material.digest, material.curated) == (UPSTREAM, False)
    assert bases.asked == []


def test_an_upstream_image_by_tag_is_resolved_once(bases):
    """From then on only the digest is used."""
    address, material = bases.resolve("docker.io/python:3")

    assert bases.asked == ["docker.io/python:3"]
    assert address == f"docker.io/python:3@{UPSTREAM}"
    assert (material.digest, material.curated) == (UPSTREAM, False)


def test_a_curated_base_by_digest_is_the_registrys_own(bases):
    """Not an image of that name in a public registry; curation has to stand for it all the same."""
    bases.sign(OLD)
    bases.verdict(OLD)

    for name in (str(OLD), f"registry.test/{OLD}"):
        address, material = bases.resolve(name)

        assert address == f"registry.test/{OLD}"
        assert (material.name, material.digest, material.curated) == (str(OLD), OLD.digest, True)
    with pytest.raises(BaseMissing, match="no curated image"):
        bases.resolve(str(NEW))


@pytest.mark.parametrize("name", ["$BASE", "${BASE}", "curated/base/$NAME", f"$BASE@{UPSTREAM}"])
def test_a_variable_names_no_base(bases, name):
    """What it holds would be known to the builder only."""
    with pytest.raises(BaseMissing, match="variable"):
        bases.resolve(name)


def test_blocked_base_that_is_named_by_its_digest_is_refused_as_that(bases, world, make):
    """It is archived, so that the registry lists it no more."""
    bases.held = []
    rule(NEW, Act.BLOCK, world.store(TierName.LIFECYCLE), REPOSITORIES, by="ann", why="a key in it", now=make.noon)

    with pytest.raises(BaseMissing, match="is blocked by ann"):
        bases.resolve(f"registry.test/{NEW}")


@pytest.mark.parametrize("name", [f"registry.test/dev/base/python@{UPSTREAM}", "python:3", "mapped"])
def test_blocked_digest_is_no_base_whatever_it_is_called(bases, world, make, name):
    """By digest, by a tag of another registry, or by a profile's choice."""
    bases.instead["mapped"] = f"mirror.test/python@{UPSTREAM}"
    blocked = ImageRef(repository=BASE, digest=UPSTREAM)
    lifecycle = world.store(TierName.LIFECYCLE)
    assert bases.resolve(name)
    rule(blocked, Act.BLOCK, lifecycle, REPOSITORIES, by="ann", why="a key in it", now=make.noon)

    with pytest.raises(BaseMissing, match=r"is blocked by ann on .*: a key in it"):
        bases.resolve(name)

    rule(blocked, Act.UNBLOCK, lifecycle, REPOSITORIES, by="ann", why="none", now=make.noon)
    assert bases.resolve(name)
