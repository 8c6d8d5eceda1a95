"""Tasks that keep published verdicts true."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import partial

from prefect.variables import Variable
from pydantic import Field

from blocks.curation_ports import CurationPorts
from blocks.execution_ports import ExecutionPorts
from blocks.tier_ports import TierPorts
from orchestration.clock import read_clock
from orchestration.events import MOST_ITEMS, emit, is_recorded, make_event_id
from orchestration.steps import continue_after_error, run_in_thread, step
from supply_chain.errors import ClusterRefused, ClusterUnavailable, GateSuperseded, SupplyChainError
from supply_chain.evidence.published import withdraw_removed
from supply_chain.evidence.summary import Summary
from supply_chain.execution.deployment import read_deployed_image
from supply_chain.execution.environment import Environment
from supply_chain.execution.records import read_expected
from supply_chain.model.image import ImageRef, Model
from supply_chain.model.tier import JUDGE
from supply_chain.policy.facts import IntakeFacts, ReleaseFacts
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.rejudge import UNDECIDED
from supply_chain.text import summarize_error

RENEWING = "deployments_renewed_since"
"""The variable with the begin of a run that was killed or could not judge all; the next one makes up for its events."""
JUDGED = "deployments_judged_by"
"""The variable with the version of what decided when all deployments were judged again."""


class Renewals(Model):
    """Deployments that were judged again: their published admission was about to end, or something else decides now."""

    judged: tuple[str, ...] = Field(default=(), description="image, environment and result")
    unknown: tuple[str, ...] = Field(default=(), description="image, environment and why it could not be judged")


@step("judge the release again")
def judge_release_step(ref: ImageRef, ports: CurationPorts) -> Admitted[ReleaseFacts] | Refused | None:
    """Judge an image again at the release gate, if its verdict is published; return a changed verdict."""
    return ports.judge_published(ref)


@step("judge the intake again")
def judge_intake_step(ref: ImageRef, ports: CurationPorts) -> Admitted[IntakeFacts] | Refused | None:
    """Judge an image again at the intake gate, if its verdict is published; return a changed verdict."""
    return ports.judge_published_intake(ref)


@step("withdraw verdicts")
def withdraw_step(ports: TierPorts) -> tuple[ImageRef, ...]:
    """Withdraw what a tier published about images that the registry no longer has, and return these images."""
    gates = [gate for gate, judge in JUDGE.items() if judge is ports.name]
    return tuple(dict.fromkeys(ref for gate in gates for ref in withdraw_removed(gate, ports.repositories)))


@step("let clusters follow the verdicts")
async def follow_verdicts_step(ports: ExecutionPorts) -> tuple[str, ...]:
    """Let each cluster admit exactly what the published verdicts admit now; return which could not, and why."""
    failed: dict[str, SupplyChainError] = {}
    for name, enforcement in ports.enforcements.items():
        with continue_after_error(partial(failed.__setitem__, name)):
            await run_in_thread(enforcement.follow_all)
    return tuple(f"the cluster of {name}: {summarize_error(error)}" for name, error in failed.items())


@step("renew verdicts")
async def renew_step(ports: ExecutionPorts) -> Renewals:
    """Judge again what should run and whose published admission ends soon; everything if something else decides now.

    So a changed policy, waiver, person or environment reaches what is published, and owners learn of a refusal. An
    error ends no other judgement; what could not be judged is judged again by the next run, and that of an environment
    whose document cannot be read once the document is corrected.
    """
    version = await run_in_thread(ports.decision_version)
    documents = ports.workbench.environment_documents()
    has_changed = await Variable.aget(JUDGED, default="") != version
    interrupted = await Variable.aget(RENEWING, default="")
    if not interrupted:
        await Variable.aset(RENEWING, read_clock().isoformat(), overwrite=True)
    since = datetime.fromisoformat(interrupted) if interrupted else None
    renewals = await run_in_thread(_renew, documents.readable, ports, has_changed, since)
    if not renewals.unknown:
        await Variable.aset(JUDGED, version, overwrite=True)
        await Variable.aunset(RENEWING)
    unreadable = (f"the environment {name}: {summarize_error(error)}" for name, error in documents.unreadable.items())
    return renewals.model_copy(update={"unknown": (*renewals.unknown, *unreadable)})


def _renew(
    environments: Iterable[Environment], ports: ExecutionPorts, has_changed: bool, interrupted: datetime | None
) -> Renewals:
    by_name = {each.name: each for each in environments}
    judged, unknown = list[str](), list[str]()
    for each in read_expected(list(by_name), ports.repositories, ports.registry, ports.evidence):
        ref = read_deployed_image(each)
        try:
            before = ports.read_published(ref, each.environment)
            verdict = ports.judge_published(ref, by_name[each.environment], before) if has_changed else None
            verdict = verdict or ports.renew_published(ref, by_name[each.environment], before)
            refused = isinstance(verdict, Refused) and before is not None and before.verdict.passed
            refusal = ports.read_published(ref, each.environment) if refused else None
        except (*UNDECIDED, GateSuperseded, ClusterRefused, ClusterUnavailable) as error:
            unknown.append(f"{ref} in {each.environment}: {summarize_error(error)}")
            continue
        if verdict is None and before and interrupted and _is_refusal_since(before.verdict, interrupted):
            refusal = before
        if refusal is not None:  # None: also if the image was removed meanwhile
            _emit_refusal(ref, each.environment, refusal.verdict)
        if verdict is not None:
            judged.append(f"{ref} in {each.environment}: {'FAILED' if isinstance(verdict, Refused) else 'PASSED'}")
    return Renewals(judged=tuple(judged), unknown=tuple(unknown))


def _is_refusal_since(verdict: Summary, at: datetime) -> bool:
    return not verdict.passed and verdict.time_verified >= at


def _emit_refusal(ref: ImageRef, environment: str, published: Summary) -> None:
    """Emit the event after which the owner of a deployment is notified that it is not admitted any more.

    Not if Prefect has it: a run that was killed after it published the refusal may have emitted it.
    """
    event_uuid = make_event_id(
        "image.verdict-changed", f"{ref} in {environment} at {published.time_verified.isoformat()}"
    )
    if is_recorded(event_uuid):
        return
    emit(
        "image.verdict-changed",
        ref,
        None,
        event_uuid,
        **{"from": "passed", "to": "refused"},
        reasons=list(published.cscm.reasons)[:MOST_ITEMS],
        running=[environment],
    )
