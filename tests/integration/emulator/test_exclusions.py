"""Principals whose pulls are not recorded, through the ECR API and the registry."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.support.emulator import ACCOUNT, LOGIN, PULL, Emulator, allow, at

ROLE = f"arn:aws:iam::{ACCOUNT}:role/reader"


def times(emulator: Emulator) -> list[bool]:
    """Return for each image whether a pull was recorded."""
    found = emulator.client("ecr").describe_images(repositoryName="shop")["imageDetails"]
    return ["lastRecordedPullTime" in each for each in found]


def test_pull_of_excluded_role_is_not_recorded(emulator: Emulator) -> None:
    """The exclusion holds for API and registry, survives a restart and ends with its removal."""
    emulator.repository("shop")
    emulator.push(emulator.login(), "shop:one")
    ecr, reader = emulator.client("ecr"), emulator.role("reader", LOGIN, allow(at("shop"), *PULL))
    (digest,) = [each["imageDigest"] for each in ecr.list_images(repositoryName="shop")["imageIds"]]

    def pull() -> None:
        emulator.client("ecr", **reader).batch_get_image(repositoryName="shop", imageIds=[{"imageDigest": digest}])
        emulator.http(emulator.login(**reader)).get(f"/v2/shop/manifests/{digest}").raise_for_status()

    ecr.register_pull_time_update_exclusion(principalArn=ROLE)
    pull()
    emulator.kill_and_restart()
    pull()
    assert ecr.list_pull_time_update_exclusions()["pullTimeUpdateExclusions"] == [ROLE]
    assert times(emulator) == [False]
    ecr.deregister_pull_time_update_exclusion(principalArn=ROLE)
    pull()
    assert times(emulator) == [True]


def test_invalid_exclusion_fails_with_the_error_of_aws(emulator: Emulator) -> None:
    """A duplicate, an invalid and a missing principal each have their own code."""
    ecr = emulator.client("ecr")
    ecr.register_pull_time_update_exclusion(principalArn=ROLE)

    for call, arn, code in (
        (ecr.register_pull_time_update_exclusion, ROLE, "ExclusionAlreadyExistsException"),
        (ecr.register_pull_time_update_exclusion, f"{ROLE}/../*", "InvalidParameterException"),
        (ecr.deregister_pull_time_update_exclusion, f"{ROLE}-other", "ExclusionNotFoundException"),
    ):
        with pytest.raises(ClientError) as raised:
            call(principalArn=arn)
        assert raised.value.response["Error"]["Code"] == code
