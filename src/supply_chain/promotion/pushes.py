"""Strict parsing of ECR's push events: an image offered in `dev/*`, an attachment, or an unrelated message.

The event is EventBridge's "ECR Image Action" (Amazon ECR User Guide, "Amazon ECR events and EventBridge").
"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from supply_chain.errors import EventUnreadable
from supply_chain.model.image import ATTACHED, Digest, ImageRef, Model, Repository
from supply_chain.model.tier import OFFERED

SOURCE = "aws.ecr"
KIND = "ECR Image Action"
PATTERN = {
    "source": [SOURCE],
    "detail-type": [KIND],
    "detail": {
        "result": ["SUCCESS"],
        "action-type": ["PUSH"],
        "repository-name": [{"prefix": OFFERED}],
        "image-tag": [{"anything-but": {"prefix": ATTACHED}}],
    },
}
"""The event pattern of the rule (EventBridge, "Event patterns"); an image is announced by its tag."""


class _AwsModel(BaseModel):
    """A model of AWS's own format: fields that AWS adds later are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Detail(_AwsModel):
    result: Literal["SUCCESS"]
    action: Literal["PUSH"] = Field(alias="action-type")
    repository: Repository = Field(alias="repository-name")
    digest: Digest = Field(alias="image-digest")
    tag: str = Field(default="", alias="image-tag")


class _Event(_AwsModel):
    id: str = Field(min_length=1)
    source: Literal["aws.ecr"]
    kind: Literal["ECR Image Action"] = Field(alias="detail-type")
    time: AwareDatetime = Field(strict=False)
    detail: _Detail


class Pushed(Model):
    """An image that was pushed to `dev/*`. `event` is the ID of AWS's event, which may arrive more than once."""

    event: str
    at: AwareDatetime
    image: ImageRef
    tag: str


def read_push(body: str) -> Pushed | None:
    """Return the push in a message; None for an attachment or an untagged part, which start nothing.

    Raises `EventUnreadable` with the reason for any other message.
    """
    try:
        event = _Event.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise _unreadable_error(f"{where + ': ' if where else ''}{first['msg']}") from error
    detail = event.detail
    if not detail.repository.startswith(OFFERED):
        raise _unreadable_error(f"it is about {detail.repository}, and not about an image of {OFFERED}*")
    if not detail.tag or detail.tag.startswith(ATTACHED):
        return None
    image = ImageRef(repository=detail.repository, digest=detail.digest)
    return Pushed(event=event.id, at=event.time, image=image, tag=detail.tag)


def _unreadable_error(why: str) -> EventUnreadable:
    return EventUnreadable(
        f"The message is not a push event of ECR: {why[:500]}\n"
        "It is in the dead-letter queue (`cscm events dead`). Correct its sender; `cscm events replay --all` "
        "tries again."
    )
