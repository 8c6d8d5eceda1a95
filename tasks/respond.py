"""respond: what runs from an image, whose it is, and what is on its way with it."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.client.orchestration import get_client
from prefect.states import Cancelled

from blocks import ContainerHost, Tier, Workbench
from blocks.workbench import now
from supply_chain.evidence.provenance import last_provenance
from supply_chain.evidence.standing import read_standing, standing
from supply_chain.evidence.statement import PROVENANCE
from supply_chain.execution.monitor import Observation
from supply_chain.execution.monitor import monitor as look
from supply_chain.execution.records import should_run
from supply_chain.image import ImageRef
from supply_chain.promotion.response import CANCELS, Response, response
from supply_chain.tier import TierName, evidence_repository
from tasks.promote import promoting
from tasks.running import RETRYING, in_thread

UNKNOWN = "nobody known"
NOT_BLOCKED = "no signed statement says so (any more): nothing was cancelled, and gates do not refuse it for that"


@task(name="what runs", task_run_name="what runs", **RETRYING)
async def gathered(ref: ImageRef, happened: str, facts: Sequence[str], tier: Tier, workbench: Workbench) -> Response:
    """What runs from the image by the signed records, as it is seen now, and what is on its way with it.

    What ends the image's way (`CANCELS`) cancels the runs that promote it, where the lifecycle's signed word says the
    same: anybody who may emit an event could say so.
    """
    places, evidence = workbench.environments(), tier.evidence(workbench)
    names = [each.name for each in places]
    repository = evidence_repository(TierName.EXECUTION, ref.application)
    there = repository in await in_thread(tier.ecr.repositories, repository)
    expected = await in_thread(should_run, names, tier.ecr, tier.http, evidence, ref.application) if there else ()
    observed: list[Observation] = []
    for place in places:
        wanted = [each for each in expected if (each.environment, each.digest) == (place.name, ref.digest)]
        if wanted:
            host: ContainerHost = await ContainerHost.aload(place.host)
            observed += await in_thread(look, host.engine(), wanted, [place], now, ref.application)
    built = last_provenance(await in_thread(evidence.verified, ref, TierName.DEVELOPMENT, PROVENANCE))
    runs = await promoting(ref.digest)
    if happened in CANCELS:
        block = standing((await in_thread(read_standing, ref, evidence)).evidence).block
        facts = (f"blocked {block}",) if block else (NOT_BLOCKED,)
        if block:
            async with get_client() as client:
                for run in runs:
                    await client.set_flow_run_state(run.id, Cancelled(message=f"{happened}: {ref}"), force=True)
    owner, names = built.manifest.owner if built else UNKNOWN, [str(run.name) for run in runs]
    return response(happened, ref, owner, expected, observed, on_the_way=names, facts=facts)
