"""Changed images and foreign evidence: both are refused, and no partial result remains."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cscm_laptop.home import Home
from supply_chain.evidence.statement import ENCRYPTION, SIGNATURE, SUMMARY, VULNERABILITIES, make_image_statement
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.integration.adversary.attacked import PLACE, Adversary, statement
from tests.support.command import cscm

pytestmark = pytest.mark.real

AT_INTAKE_GATE = {"provenance.missing", "dependencies.report-missing"}
"""The reasons of the intake gate for an image without statements of development."""
AT_DEPLOY_GATE = {
    "encryption.missing",
    "provenance.missing",
    "sbom.missing",
    "scan.missing",
    "signature.missing",
    "verdict.intake.missing",
    "verdict.release.missing",
}
"""The reasons of the deploy gate for an image without any statement."""


def test_intake_gate_ignores_evidence_of_other_keys_and_digests(
    offered: ImageRef, adversary: Adversary, tmp_path: Path
) -> None:
    """The copied statements are about another image, and the signers of the new ones are not trusted for intake."""
    other = adversary.alter(offered, "another")
    genuine = adversary.bundles(offered)
    for kind, bundle in genuine:
        adversary.attach(other, kind, bundle)
    signers = [adversary.cosign(TierName.CURATION), adversary.cosign(TierName.EXECUTION), adversary.stranger(tmp_path)]
    for signer in signers:
        for kind, bundle in genuine[:2]:
            adversary.attach(other, kind, signer.sign(make_image_statement(other, kind, statement(kind, bundle))))
    before = adversary.everything()

    ran = cscm("curate", str(other), "--json")

    assert ran.reasons() == AT_INTAKE_GATE
    assert f"{len(genuine)} × about another image" in ran.result["notes"][0]
    assert "2 × not signed by a tier that is trusted here" in ran.result["notes"][0]
    after = adversary.everything()
    for place in ("evidence/curation/prey", "verdicts/intake/prey"):
        assert len(after.pop(place)) == len(before.pop(place, ())) + 1
    assert after == before


def test_deploy_gate_refuses_image_changed_after_signing(curated: ImageRef, adversary: Adversary) -> None:
    """The changed image carries every statement and signature of the original in curation's repository."""
    changed = adversary.alter(curated, "1111111-222222222222")
    for kind, bundle in adversary.bundles(curated):
        adversary.attach(changed, kind, bundle)

    ran = cscm("deploy", str(changed), "--environment", PLACE, "--json")

    assert ran.reasons() == AT_DEPLOY_GATE
    assert "about another image" in ran.result["notes"][0]


def test_gates_refuse_evidence_copied_to_another_application(
    offered: ImageRef, curated: ImageRef, adversary: Adversary
) -> None:
    """A statement is valid for one repository, because another application may have more permissions."""
    at_1 = adversary.copy(offered, "dev/quarry", "one")
    at_2 = adversary.copy(curated, "curated/copied", "one")

    with ThreadPoolExecutor() as pool:
        one = pool.submit(cscm, "curate", str(at_1), "--json")
        other = pool.submit(cscm, "deploy", str(at_2), "--environment", PLACE, "--json")
        first, second = one.result(), other.result()

    assert first.reasons() == AT_INTAKE_GATE
    # cosign's own signature names no repository, so it is valid in every one; alone it admits nothing
    assert second.reasons() == AT_DEPLOY_GATE - {"signature.missing"}


def test_deploy_gate_refuses_verdicts_signed_by_other_tiers(
    curated: ImageRef, adversary: Adversary, tmp_path: Path
) -> None:
    """The key of another tier can neither admit nor sign an image for curation."""
    other = adversary.alter(curated, "3333333-444444444444")
    signers = [adversary.cosign(TierName.DEVELOPMENT), adversary.cosign(TierName.EXECUTION)]
    for kind, bundle in adversary.bundles(curated):
        if kind in (SUMMARY, SIGNATURE, ENCRYPTION, VULNERABILITIES):
            predicate = json.loads(json.dumps(statement(kind, bundle)).replace(curated.digest, other.digest))
            for signer in signers:
                adversary.attach(other, kind, signer.sign(make_image_statement(other, kind, predicate)))

    ran = cscm("deploy", str(other), "--environment", PLACE, "--json")

    assert ran.reasons() == AT_DEPLOY_GATE


def test_curation_stops_at_blob_changed_in_registry_storage(
    vouched: Callable[[str], ImageRef], adversary: Adversary, home: Home
) -> None:
    """The registry serves other bytes under the right digest; curation must not sign the image."""
    ref = vouched("damaged")
    blob = adversary.registry.manifest(ref)["config"]["digest"].removeprefix("sha256:")
    (file,) = home.state.rglob(blob)
    file.write_bytes(file.read_bytes().replace(b"x" * 100, b"y" * 100))

    ran = cscm("curate", str(ref), "--json")

    assert ran.status == 1
    assert "[image.damaged]" in ran.stderr, ran.stderr
    assert adversary.bundles(ref.with_repository("curated/prey")) == []
