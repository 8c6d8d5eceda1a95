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
from supply_chain.promotion.bridge import DeadLetters, Queue


class Bridge(Setting):
    """The role and the queues with which the bridge carries ECR's push events to Prefect."""

    _block_type_name: ClassVar[str] = "Supply Chain Bridge"
    _block_type_slug: ClassVar[str] = "supply-chain-bridge"
    _description: ClassVar[str] = "The AWS role and the two queues of the bridge, which carries push events to Prefect."

    aws: AwsCredentials = Field(
        title="AWS credentials",
        description="Region and an access key that may only assume the role below.",
    )
    role_arn: str = Field(
        title="Role",
        description="ARN of the bridge's role, which may use its two queues.",
    )
    push_queue: str = Field(title="Queue", description="URL of the SQS queue of push events.")
    dead_letter_queue: str = Field(
        title="Dead-letter queue", description="URL of the queue for messages that cannot be read."
    )

    @cached_property
    def session(self) -> AwsSession:
        """AWS session of the bridge's role."""
        return session(self.aws, self.role_arn, "the bridge", "bridge")

    def queue(self) -> Queue:
        """Return the queue that the EventBridge rule fills."""
        return SqsQueue(self.session.client("sqs"), self.push_queue)

    def dead_letters(self) -> DeadLetters:
        """Return the queue of messages that could not be read."""
        return SqsQueue(self.session.client("sqs"), self.dead_letter_queue)
