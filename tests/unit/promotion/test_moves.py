"""Where an image stands: whatever was announced, twice, late or never, the signed statements say what is left to do."""

import pytest

from supply_chain.evidence.statement import PROVENANCE, SIGNATURE, SUMMARY
from supply_chain.evidence.summary import summary
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from tests.unit.promotion.conftest import CURATION, DEV, POLICY, digest


def test_where_nothing_was_ever_offered_nothing_is_missed(chain):
    """Whoever pushes may still be signing."""
    chain.offer(1, signed=False)

    assert chain.missed() == ()


def test_what_no_event_announced_is_found(chain):
    """In each of the three places where an image can wait."""
    chain.offer(3)
    chain.release(2)
    chain.deploy(1)
    chain.pieces.attach(chain.curated(1), DEV, PROVENANCE, chain._provenance(1, {}))
    chain.judge(1, Gate.RELEASE)
    chain.pieces.attach(chain.curated(1), CURATION, SIGNATURE, {})
    chain.released.append(1)
    chain.soak(1)

    assert [(s.image, s.to, s.after) for s in chain.missed()] == [
        (chain.dev(3), "curation", None),
        (chain.curated(2), "staging", None),
        (chain.curated(1), "production", "staging"),
    ]


def test_what_is_done_refused_or_old_is_not_found(chain):
    """Nothing old comes back, and nothing is asked twice."""
    chain.offer(1)
    chain.offer(2)
    chain.judge(2, Gate.INTAKE, "x.y")
    chain.release(1)
    chain.release(2)
    chain.deploy(2)

    assert chain.missed() == ()


@pytest.mark.parametrize("bad", [{}, {"runDetails": {"metadata": {"finishedOn": "2999-01-01T00:00:00Z"}}}])
def test_what_one_application_signed_keeps_no_other(chain, bad):
    """Whoever signs for development could otherwise hold everybody's promotions; what it is, is told."""
    chain.offer(3)
    chain.release(2)
    chain.others = ("curated/aaa", "dev/aaa")
    for name in chain.others:
        chain.pieces.attach(ImageRef(repository=name, digest=digest(1)), DEV, PROVENANCE, bad)
        chain.pieces.attach(ImageRef(repository=name, digest=digest(1)), CURATION, SIGNATURE, {})
        said = summary(ImageRef(repository=name, digest=digest(1)), Gate.RELEASE, POLICY, reasons=(), notes=(),
                       inputs=(), now=chain.make.noon)  # fmt: skip
        chain.pieces.attach(ImageRef(repository=name, digest=digest(1)), CURATION, SUMMARY, said.predicate())

    found = chain.missed()

    assert [(str(s.image), s.to) for s in found if not s.unreadable] == [
        (str(chain.dev(3)), "curation"), (str(chain.curated(2)), "staging")
    ]  # fmt: skip
    assert all(s.why and not s.to for s in found if s.unreadable) and any(s.unreadable for s in found)


def test_a_chain_without_anything_misses_nothing(chain):
    """Nor does one whose images nobody releases."""
    chain.released.append(1)

    assert chain.missed() == ()
