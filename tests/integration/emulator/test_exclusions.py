"""Whose pulls are not recorded, by ECR's own operations, over its API and the registry's."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.integration.emulator.conftest import ACCOUNT, LOGIN, PULL, Emulator, allow, at

ROLE = f"arn:aws:iam::{ACCOUNT}:role/reader"


def times(emulator: Emulator) -> list[bool]:
    """Whether a pull of each image was recorded."""
    found = emulator.client("ecr").describe_images(repositoryName="shop")["imageDetails"]
    return ["lastRecordedPullTime" in each for each in found]


def test_an_excluded_role_leaves_no_trace(emulator: Emulator) -> None:
    """Neither by the API nor by the registry, also after a restart; whoever is not excluded does."""
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


def test_what_cannot_be_done_is_told_as_aws_does(emulator: Emulator) -> None:
    """A principal twice, one that is not there, and what is none."""
    ecr = emulator.client("ecr")
    ecr.register_pull_time_update_exclusion(principalArn=ROLE)

    for call, arn, code in (
        (ecr.register_pull_time_update_exclusion, ROLE, "ExclusionAlreadyExistsException"),
        (ecr.register_pull_time_update_exclusion, f"{ROLE}/../*", "InvalidParameterException"),
        (ecr.deregister_pull_time_update_exclusion, f"{ROLE}-other", "ExclusionNotFoundException"),
    ):
        with pytest.raises(ClientError) as told:
            call(principalArn=arn)
        assert told.value.response["Error"]["Code"] == code
