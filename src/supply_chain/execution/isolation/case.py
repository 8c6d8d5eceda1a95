"""The isolation of an application in an environment, as an interrupted run finds it again."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime, Field

from supply_chain.evidence.personal_decision import Words
from supply_chain.model.image import Digest, Model


class Stage(StrEnum):
    """How far an isolation is; each stage can be repeated."""

    OPEN = "open"
    ISOLATED = "isolated"
    RECOVERING = "recovering"
    ENDED = "ended"


class Case(Model):
    """One isolation of an application. Its target stores it, so that a run continues after a killed one."""

    id: str = Field(pattern=r"^[0-9a-f]{8}$")
    environment: str
    application: str
    by: Words
    reason: Words
    since: AwareDatetime = Field(description="the time of the event")
    isolated: AwareDatetime | None = Field(default=None, description="when all traffic was denied")
    digest: Digest | None = Field(default=None, description="the image that was deployed")
    stage: Stage = Stage.OPEN
