"""An image changed after signing, and evidence that is another's: each is refused, and nothing is half-done."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cscm_laptop.home import Home
from supply_chain.evidence.statement import ENCRYPTION, SIGNATURE, SUMMARY, VULNERABILITIES, about
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.support.command import cscm

from .conftest import PLACE, Adversary, statement

pytestmark = pytest.mark.real

AT_BOUNDARY_1 = {"provenance.missing", "dependencies.report-missing"}
"""What the intake gate says of an image about which development said nothing."""
AT_BOUNDARY_2 = {
    "encryption.missing",
    "provenance.missing",
    "sbom.missing",
    "scan.missing",
    "signature.missing",
    "verdict.intake.missing",
    "verdict.release.missing",
}
"""What the deploy gate says of one about which nobody said anything."""


def test_evidence_of_another_key_or_digest_does_not_serve_at_boundary_1(
    offered: ImageRef, adversary: Adversary, tmp_path: Path
) -> None:
    """All that development said of one image, about another: as it was, and signed anew by everybody else."""
    other = adversary.alter(offered, "another")
    genuine = adversary.bundles(offered)
    for kind, bundle in genuine:
        adversary.attach(other, kind, bundle)
    signers = [adversary.cosign(TierName.CURATION), adversary.cosign(TierName.EXECUTION), adversary.stranger(tmp_path)]
    for signer in signers:
        for kind, bundle in genuine[:2]:
            adversary.attach(other, kind, signer.sign(about(other, kind, statement(kind, bundle))))
    before = adversary.everything()

    ran = cscm("curate", str(other), "--json")

    assert ran.reasons() == AT_BOUNDARY_1
    assert f"{len(genuine)} × about another image" in ran.result["notes"][0]
    assert "2 × not signed by a tier that is trusted here" in ran.result["notes"][0]
    after = adversary.everything()
    assert len(after.pop("evidence/curation/prey")) == len(before.pop("evidence/curation/prey", ())) + 1
    assert after == before


def test_an_image_changed_after_signing_is_another_that_nobody_signed(curated: ImageRef, adversary: Adversary) -> None:
    """In curation's repository, under a tag like curation's, with every statement and signature of the one it was."""
    changed = adversary.alter(curated, "1111111-222222222222")
    for kind, bundle in adversary.bundles(curated):
        adversary.attach(changed, kind, bundle)

    ran = cscm("execute", str(changed), "--environment", PLACE, "--json")

    assert ran.reasons() == AT_BOUNDARY_2
    assert "about another image" in ran.result["notes"][0]


def test_evidence_moved_to_another_application_is_not_its_own(
    offered: ImageRef, curated: ImageRef, adversary: Adversary
) -> None:
    """The very same image with all that is attached to it, under a name at which more is allowed."""
    at_1 = adversary.copy(offered, "dev/quarry", "one")
    at_2 = adversary.copy(curated, "curated/copied", "one")

    with ThreadPoolExecutor() as pool:
        one = pool.submit(cscm, "curate", str(at_1), "--json")
        other = pool.submit(cscm, "execute", str(at_2), "--environment", PLACE, "--json")
        first, second = one.result(), other.result()

    assert first.reasons() == AT_BOUNDARY_1
    # cosign's own signature names no repository, and is the image's wherever that lies; it alone admits nothing
    assert second.reasons() == AT_BOUNDARY_2 - {"signature.missing"}


def test_a_verdict_of_the_wrong_tier_admits_nothing(curated: ImageRef, adversary: Adversary, tmp_path: Path) -> None:
    """Whoever holds another tier's key cannot say yes for curation, nor sign for it."""
    other = adversary.alter(curated, "3333333-444444444444")
    signers = [adversary.cosign(TierName.DEVELOPMENT), adversary.cosign(TierName.EXECUTION)]
    for kind, bundle in adversary.bundles(curated):
        if kind in (SUMMARY, SIGNATURE, ENCRYPTION, VULNERABILITIES):
            said = json.loads(json.dumps(statement(kind, bundle)).replace(curated.digest, other.digest))
            for signer in signers:
                adversary.attach(other, kind, signer.sign(about(other, kind, said)))

    ran = cscm("execute", str(other), "--environment", PLACE, "--json")

    assert ran.reasons() == AT_BOUNDARY_2


def test_a_blob_changed_in_the_registrys_storage_is_damage(
    vouched: Callable[[str], ImageRef], adversary: Adversary, home: Home
) -> None:
    """The registry answers the right digest with other bytes of the same length: what it holds is not signed."""
    ref = vouched("damaged")
    blob = adversary.registry.manifest(ref)["config"]["digest"].removeprefix("sha256:")
    (file,) = home.state.rglob(blob)
    file.write_bytes(file.read_bytes().replace(b"x" * 100, b"y" * 100))

    ran = cscm("curate", str(ref), "--json")

    assert ran.status == 1
    assert "[image.damaged]" in ran.stderr, ran.stderr
    assert adversary.bundles(ref.moved_to("curated/prey")) == []
