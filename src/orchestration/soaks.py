"""Stores how long each deployment has been healthy without interruption, in Prefect variables."""

from __future__ import annotations

import hashlib
from http import HTTPStatus

from httpx import HTTPStatusError
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import VariableUpdate
from prefect.variables import Variable
from pydantic import ValidationError

from supply_chain.model.container import make_slug
from supply_chain.promotion.soaking import Soaking


async def read_soaking(environment: str, application: str) -> Soaking | None:
    """Return the stored soak; None if the deployment was unhealthy at the last check or the value is invalid."""
    stored = await Variable.aget(name_soak_variable(environment, application))
    try:
        return Soaking.model_validate(stored) if stored else None
    except ValidationError:
        return None


async def store_soaking(environment: str, application: str, soaking: Soaking | None) -> None:
    """Store the soak of an application in an environment; None if the deployment is unhealthy."""
    name, value = name_soak_variable(environment, application), soaking.model_dump(mode="json") if soaking else None
    async with get_client() as client:
        try:
            await client.update_variable(VariableUpdate(name=name, value=value))
        except HTTPStatusError as error:
            if error.response.status_code != HTTPStatus.NOT_FOUND:
                raise
            await Variable.aset(name, value, overwrite=True)


def name_soak_variable(environment: str, application: str) -> str:
    """Return the name of the variable for an application in an environment; Prefect allows few characters in it."""
    unlike = hashlib.sha256(f"{environment} {application}".encode()).hexdigest()[:8]
    return f"soak_{environment}_{make_slug(application)}_{unlike}".replace("-", "_").replace(".", "_")
