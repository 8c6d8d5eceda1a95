"""Reports what `monitor` and its watch observe: events, the page of what runs, and soaks."""

from __future__ import annotations

from collections.abc import Iterable

from prefect.artifacts import acreate_table_artifact
from prefect.client.orchestration import get_client

from orchestration.events import emit, emit_about_environment, is_recorded, make_event_id
from orchestration.locks import LockKind, parse_lock_name
from orchestration.pagination import fetch_all
from orchestration.soaks import read_soaking, store_soaking
from orchestration.steps import run_in_thread
from supply_chain.evidence.soak import Soak
from supply_chain.evidence.store import EvidenceStore
from supply_chain.execution.environment import Environment
from supply_chain.execution.observation import Observation
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName, name_curated_repository, name_evidence_repository
from supply_chain.promotion.soaking import continue_soak, find_complete_soak, sign_soak
from supply_chain.reports import observation_rows
from supply_chain.reports.text import make_artifact_key


async def publish_running(observations: Iterable[Observation], application: str | None = None) -> None:
    """Publish the page of what runs, of one application or of all."""
    table = [row for each in observations for row in observation_rows(each)]
    key = make_artifact_key("running", application) if application else "running"
    await acreate_table_artifact(key=key, table=table, description="What runs, and what differs from its record")


async def continue_soaks(
    observations: Iterable[Observation], environment: Environment, evidence: EvidenceStore
) -> None:
    """Store how long each deployment has been healthy; sign and emit a completed soak once for each container.

    Two concurrent calls, or one that is interrupted, may emit it twice or leave it to the catch-up.
    """
    for observation in observations:
        if not observation.application or not observation.expected_digest:
            continue
        soaking = continue_soak(await read_soaking(environment.name, observation.application), observation)
        complete = find_complete_soak(soaking, environment.name, environment.soak) if soaking else None
        if complete and soaking:
            await _sign_soak(observation.application, complete, evidence)
            soaking = soaking.model_copy(update={"reported": complete.required_seconds})
        await store_soaking(environment.name, observation.application, soaking)


async def _sign_soak(application: str, soak: Soak, evidence: EvidenceStore) -> None:
    ref = ImageRef(repository=name_curated_repository(application), digest=soak.digest)
    if await run_in_thread(sign_soak, soak, ref, evidence):
        emit(
            "deployment.soaked",
            ref,
            environment=soak.environment,
            seconds=int(soak.seconds),
            observations=soak.observations,
        )


async def find_deploying() -> set[tuple[str, str]]:
    """Return environment and application of the deployments in progress."""
    async with get_client() as client:
        limits = await fetch_all(client.read_global_concurrency_limits)
    names = [parse_lock_name(limit.name) for limit in limits if limit.active_slots]
    return {(about[1], about[2]) for about in names if len(about) == 3 and about[0] == LockKind.DEPLOY}


async def emit_drift(observation: Observation) -> None:
    """Emit the event of a deployment with deviations, or once that of something else in an environment."""
    if not observation.deviations:
        return
    if not observation.expected_digest:
        await _emit_foreign(observation)
        return
    repository = name_evidence_repository(TierName.EXECUTION, observation.application)
    emit(
        "deployment.drifted",
        ImageRef(repository=repository, digest=observation.expected_digest),
        environment=observation.environment,
        container=observation.what,
        deviations=[deviation.model_dump() for deviation in observation.deviations],
    )


async def _emit_foreign(observation: Observation) -> None:
    """Emit the event of what nobody deployed to an environment, unless an earlier look did.

    For a file of the project, which may be changed back and again, only an earlier look of the same day counts.
    """
    codes = sorted({deviation.code for deviation in observation.deviations})
    what = observation.container or f"{observation.at:%Y-%m-%d}"
    event_uuid = make_event_id(
        "environment.drifted", " ".join([observation.environment, observation.what, what, *codes])
    )
    if observation.environment and not await run_in_thread(is_recorded, event_uuid):
        emit_about_environment(
            "environment.drifted",
            observation.environment,
            event_uuid,
            what=observation.what,
            deviations=[deviation.model_dump() for deviation in observation.deviations],
        )
