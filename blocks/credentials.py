"""The AWS session of a role, from the credentials in a block."""

from __future__ import annotations

from prefect_aws import AwsCredentials

from supply_chain.adapters.aws.session import AwsSession
from supply_chain.errors import SettingInvalid


def session(aws: AwsCredentials, role_arn: str, who: str, name: str) -> AwsSession:
    """Return the session of a role; raise `SettingInvalid` if the credentials are incomplete.

    Without a key, the identity of the environment assumes the role, such as that of a worker's pod.
    `who` names the owner of the block in errors; `name` names the session in AWS's own logs.
    """
    secret = aws.aws_secret_access_key.get_secret_value() if aws.aws_secret_access_key else ""
    if bool(aws.aws_access_key_id) != bool(secret):
        raise SettingInvalid(
            f"The block of {who} has one half of an AWS key.\n"
            "Fill in both in its AWS credentials (`cscm up` does on a laptop), or none for the worker's own identity."
        )
    if secret and set(secret) <= {"*"}:
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
        access_key_id=aws.aws_access_key_id or "",
        secret_access_key=secret,
        role_arn=role_arn,
        region=aws.region_name,
        endpoint_url=aws.aws_client_parameters.endpoint_url,
        session_name=f"cscm-{name}",
    )
