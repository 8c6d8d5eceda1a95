"""The bridge's block: its identity and its queues."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from prefect_aws import AwsCredentials
from pydantic import Field

from blocks.credentials import session
from blocks.setting import Setting
from supply_chain.adapters.aws.session import AwsSession
from supply_chain.adapters.aws.sqs import SqsQueue


class Bridge(Setting):
    """Whose role carries what ECR says of pushes to Prefect, and from where."""

    _block_type_name: ClassVar[str] = "Supply Chain Bridge"
    _block_type_slug: ClassVar[str] = "supply-chain-bridge"
    _description: ClassVar[str] = (
        "The AWS role that carries messages about pushed images out of a queue to Prefect, and its two queues."
    )

    aws: AwsCredentials = Field(
        title="AWS credentials",
        description="A key that may do nothing but assume the role below; with the region, and an endpoint where "
        "AWS is reached at another address than its own.",
    )
    role_arn: str = Field(
        title="Role", description="ARN of the bridge's role. It may receive, delete and send on its two queues."
    )
    pushed: str = Field(title="Queue", description="URL of the SQS queue that the EventBridge rule fills.")
    dead: str = Field(title="Dead-letter queue", description="URL of the queue for what nobody could read.")

    @cached_property
    def session(self) -> AwsSession:
        """AWS session of the bridge's role."""
        return session(self.aws, self.role_arn, "the bridge", "bridge")

    def queue(self) -> SqsQueue:
        """Return the queue that the EventBridge rule fills."""
        return SqsQueue(self.session.client("sqs"), self.pushed)

    def dead_letters(self) -> SqsQueue:
        """Return the queue of messages that could not be read."""
        return SqsQueue(self.session.client("sqs"), self.dead)
