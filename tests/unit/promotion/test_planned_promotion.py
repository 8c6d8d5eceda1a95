"""Planned promotions: the signed statements tell what is left to do, whether events came once, twice, late or never."""

import pytest

from supply_chain.errors import RegistryUnavailable
from supply_chain.evidence.statement import PROVENANCE, SIGNATURE, SUMMARY
from supply_chain.evidence.summary import make_summary
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from tests.unit.promotion.chain import CURATION, DEV, POLICY, digest


def test_missed_is_empty_without_signed_offer(chain):
    """Whoever pushed the image may still be signing."""
    chain.offer(1, signed=False)

    assert chain.missed() == ()


def test_missed_finds_images_without_event_at_every_stage(chain):
    """An image can wait for curation, for its first environment and for the next one."""
    chain.offer(3)
    chain.release(2)
    chain.deploy(1)
    chain.pieces.attach(chain.curated(1), DEV, PROVENANCE, chain._provenance(1, {}))
    chain.judge(1, Gate.RELEASE)
    chain.pieces.attach(chain.curated(1), CURATION, SIGNATURE, {})
    chain.push(chain.curated(1))
    chain.soak(1)

    assert [(s.image, s.to, s.after) for s in chain.missed()] == [
        (chain.dev(3), "curation", None),
        (chain.curated(2), "staging", None),
        (chain.curated(1), "production", "staging"),
    ]


def test_missed_omits_done_refused_and_old_images(chain):
    """An old image never returns, and no gate is asked twice."""
    chain.offer(1)
    chain.offer(2)
    chain.judge(2, Gate.INTAKE, "x.y")
    chain.release(1)
    chain.release(2)
    chain.deploy(2)

    assert chain.missed() == ()


@pytest.mark.parametrize("bad", [{}, {"runDetails": {"metadata": {"finishedOn": "2999-01-01T00:00:00Z"}}}])
def test_invalid_statements_of_one_application_do_not_stop_others(chain, bad):
    """Otherwise a signer of development could stop all promotions; the invalid statement is reported."""
    chain.offer(3)
    chain.release(2)
    for name in ("curated/aaa", "dev/aaa"):
        ref = ImageRef(repository=name, digest=digest(1))
        chain.push(ref)
        chain.pieces.attach(ref, DEV, PROVENANCE, bad)
        chain.pieces.attach(ref, CURATION, SIGNATURE, {})
        statement = make_summary(ref, Gate.RELEASE, POLICY, reasons=(), notes=(), inputs=(), now=chain.make.noon)
        chain.pieces.attach(ref, CURATION, SUMMARY, statement.predicate())

    found = chain.missed()

    assert [(str(s.image), s.to) for s in found if not s.unreadable] == [
        (str(chain.dev(3)), "curation"), (str(chain.curated(2)), "staging")
    ]  # fmt: skip
    assert all(s.reason and not s.to for s in found if s.unreadable) and any(s.unreadable for s in found)


def test_registry_that_fails_for_one_application_does_not_stop_others(chain, monkeypatch):
    """It may be what somebody attached; if it fails for all, it is an outage, and the run is repeated."""
    chain.offer(3)
    chain.release(2)
    broken = {ImageRef(repository=name, digest=digest(1)) for name in ("curated/aaa", "dev/aaa")}
    for ref in broken:
        chain.push(ref)
    registry = chain.pieces.world.registry
    read = registry.referrers

    def referrers(subject):
        if subject in broken:
            raise RegistryUnavailable(f"The registry answered 500 ({subject}).\nTry later.")
        return read(subject)

    monkeypatch.setattr(registry, "referrers", referrers)
    found = chain.missed()

    assert [(s.image, s.to) for s in found if s.to] == [(chain.dev(3), "curation"), (chain.curated(2), "staging")]
    assert {s.image for s in found if s.unreadable} == broken
    broken |= {chain.dev(3)}
    with pytest.raises(RegistryUnavailable):
        chain.missed()


def test_missed_is_empty_without_released_images(chain):
    """The same holds for an empty registry."""
    chain.push(chain.curated(1))

    assert chain.missed() == ()
