"""KMS: down, its keys disabled, about to be deleted, without rights; credentials whose time is over."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

import pytest

from supply_chain.adapters.aws.kms import Kms
from supply_chain.adapters.tools.cosign import Cosign
from supply_chain.curation.encrypt import verify_content_key
from supply_chain.errors import AccessDenied, AwsUnavailable, KeyUnusable, SupplyChainError
from supply_chain.evidence.statement import TEST_RESULT, about
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName

from .between import Fault
from .world import World

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("serving")]

SIGNING = "alias/cscm-curation"
STATEMENT = about(ImageRef(repository="curated/weathered", digest="sha256:" + "a" * 64), TEST_RESULT, {})


@contextlib.contextmanager
def disabled(world: World, key: str) -> Iterator[None]:
    kms = world.root("kms")
    identity = kms.describe_key(KeyId=key)["KeyMetadata"]["KeyId"]
    kms.disable_key(KeyId=identity)
    try:
        yield
    finally:
        kms.enable_key(KeyId=identity)


@contextlib.contextmanager
def dying(world: World, key: str) -> Iterator[None]:
    """Scheduled for deletion."""
    kms = world.root("kms")
    identity = kms.describe_key(KeyId=key)["KeyMetadata"]["KeyId"]
    kms.schedule_key_deletion(KeyId=identity, PendingWindowInDays=7)
    try:
        yield
    finally:
        kms.cancel_key_deletion(KeyId=identity)
        kms.enable_key(KeyId=identity)


@contextlib.contextmanager
def forbidden(world: World, key: str) -> Iterator[None]:
    """The key's policy denies to sign and to encrypt."""
    kms = world.root("kms")
    identity = kms.describe_key(KeyId=key)["KeyMetadata"]["KeyId"]
    before = kms.get_key_policy(KeyId=identity)["Policy"]
    deny = {"Effect": "Deny", "Principal": "*", "Action": ["kms:Sign", "kms:Encrypt"], "Resource": "*"}
    policy = json.loads(before)
    kms.put_key_policy(
        KeyId=identity, PolicyName="default", Policy=json.dumps({**policy, "Statement": [*policy["Statement"], deny]})
    )
    try:
        yield
    finally:
        kms.put_key_policy(KeyId=identity, PolicyName="default", Policy=before)


Broken = Callable[[World, str], contextlib.AbstractContextManager[None]]
CASES = [(disabled, KeyUnusable), (dying, KeyUnusable), (forbidden, AccessDenied)]


def test_a_disabled_signing_key_ends_curation(world: World, candidate: ImageRef) -> None:
    """Nothing is vended, and the key that has to be enabled is named."""
    with disabled(world, SIGNING):
        ran = world.cscm("curate", str(candidate))

    assert ran.status == 1
    assert "[key.unusable]" in ran.error and SIGNING in ran.error and "Enable the key" in ran.error, ran.error
    assert world.last_run()["state_type"] == "FAILED"
    assert not world.vended(f"curated/{candidate.application}", candidate.digest)


@pytest.mark.parametrize(("broken", "error"), CASES, ids=["disabled", "scheduled for deletion", "without rights"])
def test_nothing_is_signed_with_a_key_that_may_not(
    world: World, cosign: Callable[[TierName], Cosign], broken: Broken, error: type[SupplyChainError]
) -> None:
    """And the reason is the key or the role, never the image; it is not tried again."""
    with broken(world, SIGNING), pytest.raises(error) as caught:
        cosign(TierName.CURATION).sign(STATEMENT)

    assert not caught.value.retryable
    assert cosign(TierName.CURATION).sign(STATEMENT)


@pytest.mark.parametrize(("broken", "error"), CASES, ids=["disabled", "scheduled for deletion", "without rights"])
def test_no_confidential_image_is_closed_with_a_key_that_may_not(
    world: World, kms: Callable[[TierName], Kms], broken: Broken, error: type[SupplyChainError]
) -> None:
    """A copy whose key nobody can unwrap would be lost."""
    ours, key = kms(TierName.CURATION), "alias/cscm-content"
    with broken(world, key), pytest.raises(error):
        verify_content_key(ours, key)
        ours.wrap(key, b"secret", {})

    assert ours.wrap(key, b"secret", {})


def test_kms_that_is_down_is_an_outage(
    world: World, cosign: Callable[[TierName], Cosign], kms: Callable[[TierName], Kms]
) -> None:
    """Of cosign as of boto3: worth another try, and no word about the key."""
    for fault in (Fault("POST (Sign|GetPublicKey|DescribeKey|Encrypt)$", status=503), Fault("POST .*", status=500)):
        with world.between.broken(fault):
            with pytest.raises(AwsUnavailable):
                cosign(TierName.CURATION).sign(STATEMENT)
            with pytest.raises(AwsUnavailable):
                kms(TierName.CURATION).wrap("alias/cscm-content", b"secret", {})
    assert AwsUnavailable.retryable


def test_credentials_whose_time_is_over_are_replaced_once(world: World, kms: Callable[[TierName], Kms]) -> None:
    """In mid-run: the same call is made again with new ones; where these are refused too, that is told."""
    ours, over = kms(TierName.CURATION), b'{"__type": "ExpiredTokenException", "message": "expired"}'
    ours.wrap("alias/cscm-content", b"secret", {})
    with world.between.broken(Fault("POST Encrypt", status=400, body=over, times=1)) as asked:
        ours.wrap("alias/cscm-content", b"secret", {})
    assert asked == ["POST Encrypt", "POST AssumeRole", "POST Encrypt"]

    with (
        world.between.broken(Fault("POST Encrypt", status=400, body=over)),
        pytest.raises(AccessDenied, match="also new ones"),
    ):
        ours.wrap("alias/cscm-content", b"secret", {})
