"""A verdict kept is read back by the next gate."""

import pytest

from supply_chain.evidence.statement import SUMMARY
from supply_chain.evidence.summary import latest_of, passed
from supply_chain.image import ImageRef
from supply_chain.policy.gate import Dossier, Policy, judge
from supply_chain.policy.outcome import Reason
from supply_chain.policy.verdict import record
from supply_chain.tier import Boundary, TierName

IMAGE = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)
CURATED = IMAGE.moved_to("curated/hello")
REASON = Reason(code="a.b", fact="f", remedy="r")


@pytest.mark.parametrize("reasons", [(), (REASON,)], ids=["admitted", "refused"])
def test_a_verdict_is_signed_where_the_tier_says_about_the_image_it_judged(world, make, reasons):
    """Yes and no alike, with the policy and every reason."""
    store = world.store(TierName.CURATION)
    dossier = Dossier(image="x", ref=IMAGE, manifest=None, evidence=(), dirty=True)
    policy = Policy(Boundary.TO_CURATION, (lambda _: reasons,), "1")

    record(judge(dossier, policy), dossier, CURATED, store, make.noon)

    (found,) = world.store(TierName.EXECUTION).verified(CURATED, TierName.CURATION)
    assert found.predicate_type == SUMMARY
    verdict = latest_of([found.predicate], Boundary.TO_CURATION, IMAGE.digest)
    assert verdict is not None and passed(verdict) is not bool(reasons)
    assert verdict["resourceUri"] == str(IMAGE)
    assert f"sha256:{verdict['policy']['digest']['sha256']}" == policy.digest
    assert verdict["cscm"]["reasons"] == [r.model_dump() for r in reasons]
    assert bool(verdict["cscm"]["notes"]) is not bool(reasons)


def test_a_verdict_names_the_evidence_it_rests_on(world, make):
    """By digest, so that anybody can judge again."""
    dev = world.store(TierName.DEVELOPMENT)
    digest = dev.attach(IMAGE, SUMMARY, {}, make.noon)
    dossier = Dossier(image="x", ref=IMAGE, manifest=None, evidence=dev.verified(IMAGE, TierName.DEVELOPMENT))
    verdict = judge(dossier, Policy(Boundary.TO_CURATION, (lambda _: (),), "1"))

    record(verdict, dossier, CURATED, world.store(TierName.CURATION), make.noon)

    (found,) = world.store(TierName.EXECUTION).verified(CURATED, TierName.CURATION)
    assert found.predicate["inputAttestations"] == [
        {"uri": f"dev/hello@{digest}", "digest": {"sha256": digest.removeprefix("sha256:")}}
    ]
