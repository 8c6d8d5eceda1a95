"""Loading the block of a tier."""

from uuid import uuid4

import pytest
from prefect_aws import AwsCredentials

from blocks import Tier
from supply_chain.errors import SettingInvalid
from tests.support.signer import EcdsaSigner


async def test_block_with_one_key_of_two_tiers_does_not_load(machine):
    """It may have been saved in the UI, which does not compare keys."""
    key, name = EcdsaSigner().public, f"shared-{uuid4().hex[:8]}"
    separate = Tier(
        tier="curation", aws=AwsCredentials(region_name="eu-west-1"), role_arn="arn:aws:iam::1:role/cscm-curation",
        registry="1.dkr.ecr.eu-west-1.amazonaws.com", signing_key="alias/cscm-curation",
        trusted_keys={"development": key}, storage_key="alias/cscm-storage",
    )  # fmt: skip
    await separate.model_copy(update={"trusted_keys": {"development": key, "execution": key}}).save(name)

    with pytest.raises(SettingInvalid, match="are the same key"):
        await Tier.aload(name)
