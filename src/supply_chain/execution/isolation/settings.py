"""How an environment sets when applications are isolated, and what happens then."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from supply_chain.model.declaration import Duration
from supply_chain.model.image import DIGEST, PATH, Model
from supply_chain.model.tier import CURATED


class RecoveryMode(StrEnum):
    """What happens to an application after its isolation."""

    ROLL_BACK = "roll-back"
    """The last earlier image that the deploy gate admits now is deployed; without one, none runs."""
    SCALE_TO_ZERO = "scale-to-zero"


class CollectorSettings(Model):
    """What reads the processes and the changed files of an isolated application, from a container of its own."""

    image: Annotated[str, StringConstraints(pattern=rf"^{CURATED}{PATH}@{DIGEST}$")] = Field(
        description="curated/base/python@sha256:…, or another with Python"
    )
    contents: int = Field(
        default=1024 * 1024,
        ge=0,
        le=4 * 1024 * 1024,
        description="bytes of changed files, for each container",
    )
    timeout: Duration = Field(default=60, description="seconds to search")


class ResponseSettings(Model):
    """When an application is isolated without a person, and what happens then."""

    isolate: tuple[
        Annotated[str, StringConstraints(pattern=r"^(?:image\.blocked|drift\.[a-z]+(?:-[a-z]+)*)$")], ...
    ] = Field(default=(), description="what isolates an application: `image.blocked`, or deviations")
    recovery: RecoveryMode = Field(default=RecoveryMode.ROLL_BACK, description="what runs after an isolation")
    collector: CollectorSettings | None = Field(
        default=None, description="what reads processes and changed files; null: nothing"
    )
