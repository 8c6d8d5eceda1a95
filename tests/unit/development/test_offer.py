"""offer: pushes the built image, and development signs its evidence."""

import pytest

from supply_chain.development.offer import offer
from supply_chain.development.test import TestedImage
from supply_chain.errors import ImageDamaged, RegistryUnavailable
from supply_chain.evidence.checks import Check, list_required_checks
from supply_chain.evidence.statement import PROVENANCE, TEST_RESULT, VULNERABILITIES
from supply_chain.model.image import ImageRef, Proof
from supply_chain.model.tier import TierName
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Admitted
from supply_chain.policy.reading import read_intake_facts
from tests.support.builders import NOON
from tests.support.memory_registry import MemoryRegistry
from tests.support.policies import INTAKE

DIGEST = "sha256:" + "a" * 64


class Pusher:
    """Pushes images under a digest, or fails."""

    def __init__(self, answer=DIGEST):
        self.answer, self.pushed = answer, []

    def push(self, local, repository, tag):
        self.pushed.append((local, repository, tag))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def tested(make):
    return TestedImage(
        built=make.built(),
        checks=tuple(make.check(which) for which in list_required_checks("service")),
        dependencies=make.report(),
    )


def offered(world, make, tested, pusher):
    world.registry.create_on_push = False
    return offer(tested, make.declaration(), pusher, world.ecr, world.store(TierName.DEVELOPMENT), lambda: make.noon)


def test_offer_pushes_image_and_attaches_all_evidence(world, make, tested):
    """The evidence is the provenance, every check result and the report on the source."""
    pusher = Pusher()

    candidate = offered(world, make, tested, pusher)

    assert candidate.ref == ImageRef(repository="dev/hello", digest=DIGEST)
    assert candidate.source == make.source()
    assert pusher.pushed == [("cscm.local/hello:run", "dev/hello", "3f2a1c0-aaaaaaaaaaaa")]
    assert not world.ecr.is_immutable("dev/hello") and world.ecr.encryption("dev/hello") == ("AES256", None)
    found = world.store(TierName.CURATION).read_verified(candidate.ref, TierName.DEVELOPMENT)
    assert {e.digest for e in found} == set(candidate.evidence)
    kinds = [e.predicate_type for e in found]
    assert (kinds.count(PROVENANCE), kinds.count(TEST_RESULT), kinds.count(VULNERABILITIES)) == (
        1,
        len(list_required_checks("service")),
        1,
    )


def test_intake_gate_admits_offered_image(world, make, tested):
    """The gate can read what this step writes."""
    candidate = offered(world, make, tested, Pusher())

    facts = read_intake_facts(candidate.ref, world.store(TierName.CURATION), (), None)

    assert isinstance(evaluate(facts, INTAKE, NOON), Admitted)
    assert {check.check for check in facts.checks} == set(list_required_checks("service"))
    assert Check.PROBE in {check.check for check in facts.checks}


def test_offer_fails_if_pushed_digest_differs(world, make, tested):
    """Another process may have pushed the same tag, so nothing is signed."""
    with pytest.raises(ImageDamaged):
        offered(world, make, tested, Pusher("sha256:" + "b" * 64))
    assert world.registry.refs() == ()


def test_failed_push_leaves_no_evidence(world, make, tested):
    """Evidence for a missing image would be misleading."""
    with pytest.raises(RegistryUnavailable):
        offered(world, make, tested, Pusher(RegistryUnavailable("x\ny")))
    assert world.registry.refs() == ()


def test_offer_of_proven_image_neither_pushes_nor_signs(world, make, tested):
    """The candidate refers to the existing proof."""
    pusher = Pusher()
    first = offered(world, make, tested, pusher)
    proof = Proof(evidence=first.evidence, since=make.noon)
    proven_image = tested.model_copy(
        update={
            "built": make.built(proven=proof),
            "stored_checks": tuple(list_required_checks("service")),
            "proven": proof,
        }
    )

    again = offered(world, make, proven_image, pusher)

    assert len(pusher.pushed) == 1
    assert len(world.registry.refs("dev/hello")) == len(first.evidence)
    assert (again.ref, again.proven, again.evidence) == (first.ref, proof, first.evidence)


def test_offer_signs_only_new_results(world, make, tested):
    """A new vulnerability database adds only a new dependency check."""
    proof = Proof(evidence=(make.other,), since=make.noon)
    static = tuple(check for check in list_required_checks("service") if check is not Check.DEPENDENCIES)
    again = tested.model_copy(update={"built": make.built(proven=proof), "stored_checks": static})
    pusher = Pusher()
    world.ecr.ensure_repository("dev/hello", immutable=False, key=None)

    candidate = offered(world, make, again, pusher)

    found = world.store(TierName.CURATION).read_verified(candidate.ref, TierName.DEVELOPMENT)
    assert pusher.pushed == [] and candidate.proven is None
    assert sorted(e.predicate_type for e in found) == sorted([TEST_RESULT, VULNERABILITIES])


def test_offer_attaches_provenance_last(world, make, tested):
    """An interrupted run leaves no provenance, so provenance means that all evidence is there."""
    world.registry = EndsAfter()
    world.registry.left = len(list_required_checks("service")) + 1

    with pytest.raises(RegistryUnavailable):
        offered(world, make, tested, Pusher())

    found = world.store(TierName.DEVELOPMENT).read_verified(
        ImageRef(repository="dev/hello", digest=DIGEST), TierName.DEVELOPMENT
    )
    assert len(found) == len(list_required_checks("service")) + 1
    assert PROVENANCE not in [e.predicate_type for e in found]


class EndsAfter(MemoryRegistry):
    """A registry that becomes unavailable after a number of attached referrers."""

    left = 0

    def attach(self, *args):
        if not self.left:
            raise RegistryUnavailable("gone\nwait")
        self.left -= 1
        return super().attach(*args)
