"""Published verdicts on the laptop: what an enforcer reads after a deployment, a block and a replay."""

from __future__ import annotations

from operator import ne

import pytest

from supply_chain.evidence.published import locate_verdict
from supply_chain.evidence.statement import SUMMARY
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate, TierName
from tests.integration.adversary.attacked import PLACE, Adversary, Make
from tests.support.access import Outsider
from tests.support.command import Ran, cscm
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


def read(image: ImageRef, *options: str) -> Ran:
    return cscm("verdict", str(image), *options, "--json")


def test_published_verdict_follows_block_and_resists_replay(
    bases: None,
    application: Make,
    place: dict[str, int],
    adversary: Adversary,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whoever may push anywhere in the registry, without the verdict key, cannot make a blocked image pass again."""
    ran = cscm("chain", str(application("judged")), "--environment", PLACE, "--json")
    assert ran.status == 0, ran.stderr
    image = ImageRef(repository="curated/judged", digest=ran.result["digest"])
    where = locate_verdict(image, Gate.DEPLOY, PLACE)
    for options in (("--gate", "intake"), (), ("--environment", PLACE)):
        answer = read(image, *options)
        assert answer.status == 0, (options, answer.stderr)
        assert answer.result["admits"] is True and answer.result["verdict"]["verificationResult"] == "PASSED"
    assert read(image, "--environment", "staging").code() == "verdict.missing"
    ((kind, admission),) = adversary.bundles(where)
    assert kind == SUMMARY
    outsider = Outsider.of(adversary.laptop, TierName.EXECUTION, tmp_path_factory.mktemp("outside"))
    key = outsider.directory / "verdicts.pub"
    key.write_text(cscm("key", "execution", "--verdicts").stdout)
    assert outsider.verify("verify-attestation", "--type", SUMMARY, key=key, image=str(where)).returncode == 0
    own = outsider.directory / "execution.pub"
    own.write_text(cscm("key", "execution").stdout)
    assert outsider.verify("verify-attestation", "--type", SUMMARY, key=own, image=str(where)).returncode != 0

    places = [locate_verdict(image, gate, "") for gate in (Gate.INTAKE, Gate.RELEASE)]
    before = [adversary.registry.referrers(each) for each in places]
    assert cscm("block", str(image), "--by", "ann", "--reason", "a key in it").status == 0
    refused = eventually(lambda: (r := read(image, "--environment", PLACE)).status == 3 and r)

    assert "image.blocked" in {each["code"] for each in refused.result["verdict"]["cscm"]["reasons"]}
    assert [each["rule"] for each in refused.result["verdict"]["cscm"]["refusedRules"] if each["evidence"]]
    assert len(adversary.bundles(where)) == 1, "the admission is gone"
    adversary.attach(where, SUMMARY, admission)
    assert read(image, "--environment", PLACE).status == 3, "the newest counts"
    again = cscm("deploy", str(image), "--environment", PLACE, "--json")
    assert "image.blocked" in again.reasons()
    assert read(image, "--environment", PLACE).status == 3
    assert len(adversary.bundles(where)) == 1, "the next run removes what was attached again"
    # what the block starts has to end before another test compares what the registry has
    eventually(lambda: all(map(ne, before, map(adversary.registry.referrers, places))))
    eventually(lambda: read(image).status == 3 and read(image, "--gate", "intake").status == 3)
