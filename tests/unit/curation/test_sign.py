"""sign: curation signs an admitted image and verifies the signature as users do."""

import pytest

from supply_chain.curation.sign import sign
from supply_chain.errors import SignatureFailed
from supply_chain.evidence.statement import SIGNATURE, SUMMARY
from supply_chain.evidence.summary import find_last_verdict
from supply_chain.model.image import EncryptedImage, ImageRef, ScannedImage, StoredImage
from supply_chain.model.tier import Gate, TierName
from tests.support.facts import admitted, release_facts
from tests.support.policies import RELEASE
from tests.support.present import present

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)


class Signer:
    """The part of cosign: records the signed images, and the images verified with each key."""

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
    def run(signer, force=False, signature=False, **changes):
        stored = StoredImage(ref=REF, tag="3f2a1c0-aaaa", source=make.source(), blobs=1, size=1)
        encrypted = EncryptedImage(stored=stored, key="arn:key")
        image = ScannedImage(encrypted=encrypted, sbom=make.other, report=make.other)
        verdict = admitted(release_facts(**{"ref": REF, "evidence": before(signature), **changes}), RELEASE)
        return sign(image, verdict, signer, world.store(TierName.CURATION), lambda: make.noon, force=force)

    def before(signature):
        if not signature:
            return ()
        world.store(signature).attach(REF, SIGNATURE, {}, make.noon)
        return world.store(TierName.EXECUTION).read_verified(REF, signature)

    return run


def test_sign_verifies_signature_with_public_key(signed, world, make):
    """The result is a curated image by digest with its environments."""
    signer = Signer()

    curated = signed(signer)

    assert signer.signed == [REF]
    assert signer.verified == [(REF, world.signers[TierName.CURATION].public)]
    assert (curated.ref, curated.tag, curated.source) == (REF, "3f2a1c0-aaaa", make.source())
    assert curated.environments == ("staging",)


def test_signed_base_has_no_environments(signed, make):
    """A base is not deployed."""
    assert signed(Signer(), declaration=make.base()).environments == ()


def test_release_verdict_is_attached_to_image(signed, world):
    """Curation signs it for the next gate."""
    signed(Signer())

    (found,) = world.store(TierName.EXECUTION).read_verified(REF, TierName.CURATION)
    assert found.predicate_type == SUMMARY
    assert present(find_last_verdict([found], Gate.RELEASE, REF.digest)).value.passed


def test_signed_image_is_verified_and_not_signed_again(signed):
    """A second run adds no second signature."""
    signer = Signer(REF)

    curated = signed(signer, signature=TierName.CURATION)

    assert signer.signed == [REF]
    assert len(signer.verified) == 1
    assert len(curated.proven.evidence) == 1


def test_forced_sign_ignores_existing_signature(signed):
    """The option ignores the existing signature."""
    signer = Signer(REF)

    assert signed(signer, signature=TierName.CURATION, force=True).proven is None
    assert signer.signed == [REF, REF]


def test_image_signed_by_other_tier_is_signed(signed):
    """Another tier's signature does not count as curation's."""
    signer = Signer(REF)

    assert signed(signer, signature=TierName.DEVELOPMENT).proven is None
    assert signer.signed == [REF, REF]


def test_image_without_image_signature_is_signed(signed):
    """The key signs attestations too, but users verify the image signature."""
    signer = Signer()

    curated = signed(signer, signature=TierName.CURATION)

    assert signer.signed == [REF] and curated.proven is None
    assert len(signer.verified) == 1


def test_unverifiable_signature_is_an_error(signed):
    """Users must be able to verify every released image."""
    with pytest.raises(SignatureFailed):
        signed(Signer(broken=True))
