"""KMS failures: outages, disabled keys, keys pending deletion, missing permissions, expired credentials."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

import pytest

from supply_chain.adapters.aws.kms import Kms
from supply_chain.adapters.tools.cosign import Cosign
from supply_chain.curation.encrypt import verify_content_key
from supply_chain.errors import AccessDenied, AwsUnavailable, KeyUnusable, SupplyChainError
from supply_chain.evidence.statement import TEST_RESULT, make_image_statement
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.support.fault_proxy import Fault

from .sandbox import Sandbox

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("serving")]

SIGNING = "alias/cscm-curation"
STATEMENT = make_image_statement(ImageRef(repository="curated/weathered", digest="sha256:" + "a" * 64), TEST_RESULT, {})


@contextlib.contextmanager
def disabled(sandbox: Sandbox, key: str) -> Iterator[None]:
    kms = sandbox.root("kms")
    identity = kms.describe_key(KeyId=key)["KeyMetadata"]["KeyId"]
    kms.disable_key(KeyId=identity)
    try:
        yield
    finally:
        kms.enable_key(KeyId=identity)


@contextlib.contextmanager
def dying(sandbox: Sandbox, key: str) -> Iterator[None]:
    """Schedule the key's deletion during the block."""
    kms = sandbox.root("kms")
    identity = kms.describe_key(KeyId=key)["KeyMetadata"]["KeyId"]
    kms.schedule_key_deletion(KeyId=identity, PendingWindowInDays=7)
    try:
        yield
    finally:
        kms.cancel_key_deletion(KeyId=identity)
        kms.enable_key(KeyId=identity)


@contextlib.contextmanager
def forbidden(sandbox: Sandbox, key: str) -> Iterator[None]:
    """Deny signing and encryption in the key's policy during the block."""
    kms = sandbox.root("kms")
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


Broken = Callable[[Sandbox, str], contextlib.AbstractContextManager[None]]
CASES = [(disabled, KeyUnusable), (dying, KeyUnusable), (forbidden, AccessDenied)]
IDS = ["disabled", "scheduled for deletion", "without rights"]


def test_disabled_signing_key_stops_curation(sandbox: Sandbox, candidate: ImageRef) -> None:
    """Nothing is released, and the error names the key."""
    with disabled(sandbox, SIGNING):
        ran = sandbox.cscm("curate", str(candidate))

    assert ran.status == 1
    assert "[key.unusable]" in ran.error and SIGNING in ran.error and "Enable the key" in ran.error, ran.error
    assert sandbox.last_run()["state_type"] == "FAILED"
    assert not sandbox.released(f"curated/{candidate.application}", candidate.digest)


@pytest.mark.parametrize(("broken", "error"), CASES, ids=IDS)
def test_unusable_signing_key_signs_nothing(
    sandbox: Sandbox, cosign: Callable[[TierName], Cosign], broken: Broken, error: type[SupplyChainError]
) -> None:
    """The error names the key or the role and is not retryable."""
    with broken(sandbox, SIGNING), pytest.raises(error) as caught:
        cosign(TierName.CURATION).sign(STATEMENT)

    assert not caught.value.retryable
    assert cosign(TierName.CURATION).sign(STATEMENT)


@pytest.mark.parametrize(("broken", "error"), CASES, ids=IDS)
def test_unusable_content_key_encrypts_nothing(
    sandbox: Sandbox, kms: Callable[[TierName], Kms], broken: Broken, error: type[SupplyChainError]
) -> None:
    """A copy whose key cannot be unwrapped would be lost."""
    ours, key = kms(TierName.CURATION), "alias/cscm-content"
    with broken(sandbox, key), pytest.raises(error):
        ours.wrap(key, b"secret", {})

    assert ours.wrap(key, b"secret", {})


@pytest.mark.parametrize("broken", [disabled, dying])
def test_verification_of_the_content_key_finds_unusable_one(
    sandbox: Sandbox, kms: Callable[[TierName], Kms], broken: Broken
) -> None:
    """Curation verifies it before it copies the image."""
    ours, key = kms(TierName.CURATION), "alias/cscm-content"
    with broken(sandbox, key), pytest.raises(KeyUnusable, match="is not enabled"):
        verify_content_key(ours, key)

    assert verify_content_key(ours, key)


def test_kms_outage_is_retryable(
    sandbox: Sandbox, cosign: Callable[[TierName], Cosign], kms: Callable[[TierName], Kms]
) -> None:
    """This holds for cosign and boto3: an outage must not look like an unusable key."""
    for fault in (Fault("POST (Sign|GetPublicKey|DescribeKey|Encrypt)$", status=503), Fault("POST .*", status=500)):
        with sandbox.proxy.broken(fault):
            with pytest.raises(AwsUnavailable):
                cosign(TierName.CURATION).sign(STATEMENT)
            with pytest.raises(AwsUnavailable):
                kms(TierName.CURATION).wrap("alias/cscm-content", b"secret", {})
    assert AwsUnavailable.retryable


def test_expired_credentials_are_replaced_once(sandbox: Sandbox, kms: Callable[[TierName], Kms]) -> None:
    """The call is repeated with new credentials; if these are refused too, access is denied."""
    ours, over = kms(TierName.CURATION), b'{"__type": "ExpiredTokenException", "message": "expired"}'
    ours.wrap("alias/cscm-content", b"secret", {})
    with sandbox.proxy.broken(Fault("POST Encrypt", status=400, body=over, times=1)) as asked:
        ours.wrap("alias/cscm-content", b"secret", {})
    assert asked == ["POST Encrypt", "POST AssumeRole", "POST Encrypt"]

    with (
        sandbox.proxy.broken(Fault("POST Encrypt", status=400, body=over)),
        pytest.raises(AccessDenied, match="even new ones"),
    ):
        ours.wrap("alias/cscm-content", b"secret", {})
