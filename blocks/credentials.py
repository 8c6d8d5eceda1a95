"""The AWS session of a role, from the credentials in a block."""

from __future__ import annotations

from prefect_aws import AwsCredentials

from supply_chain.adapters.aws.session import AwsSession
from supply_chain.errors import SettingInvalid


def session(aws: AwsCredentials, role_arn: str, who: str, name: str) -> AwsSession:
    """Return the session of a role; raise `SettingInvalid` if the credentials are incomplete.

    `who` names the owner of the block in errors; `name` names the session in AWS's own logs.
    """
    if not aws.aws_access_key_id or aws.aws_secret_access_key is None:
        raise SettingInvalid(
            f"The block of {who} has no AWS key.\nFill in its AWS credentials (`cscm up` does on a laptop)."
        )
    secret = aws.aws_secret_access_key.get_secret_value()
    if set(secret) <= {"*"}:
        raise SettingInvalid(
            f"The block of {who} holds the mask of its AWS key's secret, not the secret.\n"
            "Edit the block and choose its AWS credentials again (`cscm up` does on a laptop)."
        )
    if not aws.region_name:
        raise SettingInvalid(
            f"The block of {who} names no region.\n"
            "Fill in the region of its AWS credentials (`cscm up` does on a laptop)."
        )
    return AwsSession(
        access_key_id=aws.aws_access_key_id,
        secret_access_key=secret,
        role_arn=role_arn,
        region=aws.region_name,
        endpoint_url=aws.aws_client_parameters.endpoint_url,
        session_name=f"cscm-{name}",
    )
