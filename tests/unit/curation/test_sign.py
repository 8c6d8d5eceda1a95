"""sign: curation's name under what it admits, verified from outside before anybody relies on it."""

import pytest

from supply_chain.curation.sign import sign
from supply_chain.errors import SignatureFailed
from supply_chain.evidence.statement import SIGNATURE, SUMMARY
from supply_chain.evidence.summary import last_verdict
from supply_chain.model.image import EncryptedImage, ImageRef, ScannedImage, StoredImage
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.gate import Dossier, Policy, judge

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)


class Signer:
    """cosign's part: what is signed, and what was verified with which key."""

    def __init__(self, *signed, broken=False):
        self.signed, self.verified, self.broken = list(signed), [], broken

    def sign_image(self, ref):
        self.signed.append(ref)

    def verify_image(self, ref, public_key):
        if self.broken or ref not in self.signed:
            raise SignatureFailed("no signature\nsign it")
        self.verified.append((ref, public_key))


@pytest.fixture
def signed(world, make):
    def run(signer, fresh=False, signature=False, **changes):
        stored = StoredImage(ref=REF, tag="3f2a1c0-aaaa", source=make.source(), blobs=1, size=1)
        encrypted = EncryptedImage(stored=stored, key="arn:key")
        image = ScannedImage(encrypted=encrypted, sbom=make.other, report=make.other)
        dossier = Dossier(
            **{"image": image, "ref": REF, "manifest": make.manifest(), "evidence": before(signature), **changes}
        )
        admitted = judge(dossier, Policy(Gate.RELEASE, (lambda _: (),), "1"))
        return sign(admitted, dossier, signer, world.store(TierName.CURATION), lambda: make.noon, fresh=fresh)

    def before(signature):
        if not signature:
            return ()
        world.store(signature).attach(REF, SIGNATURE, {}, make.noon)
        return world.store(TierName.EXECUTION).verified(REF, signature)

    return run


def test_signs_and_verifies_with_the_public_key_alone(signed, world, make):
    """What comes out can be released: by digest, with where it may run."""
    signer = Signer()

    curated = signed(signer)

    assert signer.signed == [REF]
    assert signer.verified == [(REF, world.signers[TierName.CURATION].public)]
    assert (curated.ref, curated.tag, curated.source) == (REF, "3f2a1c0-aaaa", make.source())
    assert curated.environments == ("staging",)


def test_a_base_runs_nowhere(signed, make):
    """It is built upon."""
    assert signed(Signer(), manifest=make.base()).environments == ()


def test_the_verdict_lies_beside_the_image(signed, world):
    """Signed by curation, for the next boundary."""
    signed(Signer())

    (found,) = world.store(TierName.EXECUTION).verified(REF, TierName.CURATION)
    assert found.predicate_type == SUMMARY
    assert last_verdict([found], Gate.RELEASE, REF.digest).value.passed


def test_what_is_signed_already_is_verified_and_not_signed_again(signed):
    """A second run adds no second signature."""
    signer = Signer(REF)

    curated = signed(signer, signature=TierName.CURATION)

    assert signer.signed == [REF]
    assert len(signer.verified) == 1
    assert len(curated.proven.evidence) == 1


def test_fresh_signs_again(signed):
    """Also what is signed."""
    signer = Signer(REF)

    assert signed(signer, signature=TierName.CURATION, fresh=True).proven is None
    assert signer.signed == [REF, REF]


def test_what_another_tier_signed_is_signed(signed):
    """Its signature is not curation's."""
    signer = Signer(REF)

    assert signed(signer, signature=TierName.DEVELOPMENT).proven is None
    assert signer.signed == [REF, REF]


def test_a_signature_that_says_something_else_is_not_relied_on(signed):
    """The key signs attestations too; the image is signed as users verify it."""
    signer = Signer()

    curated = signed(signer, signature=TierName.CURATION)

    assert signer.signed == [REF] and curated.proven is None
    assert len(signer.verified) == 1


def test_a_signature_that_does_not_verify_from_outside_is_an_error(signed):
    """Nothing is released that users could not verify."""
    with pytest.raises(SignatureFailed):
        signed(Signer(broken=True))
