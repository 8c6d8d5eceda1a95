"""Record how long a deployment has been healthy without interruption, and sign a completed soak."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from prefect.variables import Variable
from pydantic import ValidationError

from blocks import Tier, Workbench
from orchestration.events import emit
from orchestration.steps import in_thread
from supply_chain.evidence.soak import Soak
from supply_chain.execution.environment import Environment
from supply_chain.execution.monitor import Observation
from supply_chain.model.container import slug
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import curated_repository
from supply_chain.promotion.soaking import Soaking, continue_soak, find_complete_soak, sign_soak


async def soak(seen: Iterable[Observation], place: Environment, tier: Tier, workbench: Workbench) -> None:
    """Store each observation in a variable; sign and emit a completed soak once for each container.

    Two concurrent calls, or one that is interrupted, may emit it twice or leave it to the reconcile.
    """
    for observation in seen:
        if not observation.application or not observation.wanted:
            continue
        name = variable_of(place.name, observation.application)
        soaking = continue_soak(await soaking_of(place.name, observation.application), observation)
        over = find_complete_soak(soaking, place.name, place.soak) if soaking else None
        if over and soaking:
            await _tell(observation.application, over, tier, workbench)
            soaking = soaking.model_copy(update={"reported": over.asked})
        await Variable.aset(name, soaking.model_dump(mode="json") if soaking else None, overwrite=True)


async def soaking_of(environment: str, application: str) -> Soaking | None:
    """Return the stored soak; None if the deployment was unhealthy at the last check or the value is invalid."""
    kept = await Variable.aget(variable_of(environment, application))
    try:
        return Soaking.model_validate(kept) if kept else None
    except ValidationError:
        return None


def variable_of(environment: str, application: str) -> str:
    """Return the name of the variable for an application in an environment; Prefect allows few characters in it."""
    unlike = hashlib.sha256(f"{environment} {application}".encode()).hexdigest()[:8]
    return f"soak_{environment}_{slug(application)}_{unlike}".replace("-", "_").replace(".", "_")


async def _tell(application: str, over: Soak, tier: Tier, workbench: Workbench) -> None:
    ref = ImageRef(repository=curated_repository(application), digest=over.digest)
    if await in_thread(sign_soak, over, ref, tier.evidence(workbench)):
        emit("deployment.soaked", ref, environment=over.environment, seconds=int(over.seconds), looks=over.looks)
