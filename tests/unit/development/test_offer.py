"""offer: what was built is what is pushed, and its evidence is signed by development."""

import pytest

from supply_chain.development.offer import offer
from supply_chain.development.test import TestedImage
from supply_chain.errors import ImageDamaged, RegistryUnavailable
from supply_chain.evidence.checks import Check
from supply_chain.evidence.statement import PROVENANCE, TEST_RESULT, VULNERABILITIES
from supply_chain.image import ImageRef
from supply_chain.policy import dossier as dossiers
from supply_chain.policy.gate import judge
from supply_chain.policy.outcome import Admitted
from supply_chain.policy.rules import POLICIES, REQUIRED
from supply_chain.tier import Boundary, TierName

DIGEST = "sha256:" + "a" * 64


class Registry:
    def __init__(self, answer=DIGEST):
        self.answer, self.pushed, self.made = answer, [], []

    def push(self, local, repository, tag):
        self.pushed.append((local, repository, tag))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def ensure_repository(self, repository, *, immutable, key):
        self.made.append((repository, immutable, key))


@pytest.fixture
def tested(make):
    return TestedImage(
        built=make.built(),
        checks=tuple(make.check(which) for which in REQUIRED["service"]),
        dependencies=make.report(),
    )


def offered(world, make, tested, registry):
    return offer(tested, make.manifest(), registry, registry, world.store(TierName.DEVELOPMENT), lambda: make.noon)


def test_the_image_lies_in_developments_repository_with_its_evidence(world, make, tested):
    """Provenance, every check, and the report on the source."""
    registry = Registry()

    candidate = offered(world, make, tested, registry)

    assert candidate.ref == ImageRef(repository="dev/hello", digest=DIGEST)
    assert candidate.source == make.source()
    assert registry.pushed == [("cscm.local/hello:run", "dev/hello", "3f2a1c0-aaaaaaaaaaaa")]
    assert registry.made == [("dev/hello", False, None)]
    found = world.store(TierName.CURATION).verified(candidate.ref, TierName.DEVELOPMENT)
    assert {e.digest for e in found} == set(candidate.evidence)
    kinds = [e.predicate_type for e in found]
    assert (kinds.count(PROVENANCE), kinds.count(TEST_RESULT), kinds.count(VULNERABILITIES)) == (1, 6, 1)


def test_what_is_offered_can_be_admitted(world, make, tested):
    """The gate reads what this step writes."""
    candidate = offered(world, make, tested, Registry())

    dossier = dossiers.candidate(candidate.ref, world.store(TierName.CURATION), (), None)

    assert isinstance(judge(dossier, POLICIES[Boundary.TO_CURATION]), Admitted)
    assert {check.check for check in dossier.checks} == set(REQUIRED["service"])
    assert Check.PROBE in {check.check for check in dossier.checks}


def test_another_digest_after_the_push_is_damage(world, make, tested):
    """Somebody pushed the same tag; nothing is signed."""
    with pytest.raises(ImageDamaged):
        offered(world, make, tested, Registry("sha256:" + "b" * 64))
    assert world.registry.held == {}


def test_a_push_that_fails_leaves_no_evidence(world, make, tested):
    """Evidence of what is not there would mislead."""
    with pytest.raises(RegistryUnavailable):
        offered(world, make, tested, Registry(RegistryUnavailable("x\ny")))
    assert world.registry.held == {}
