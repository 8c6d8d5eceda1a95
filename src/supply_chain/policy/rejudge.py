"""Keep published verdicts true: judge an image again after something was signed about it.

A block takes effect although the gate cannot decide, for example because its policies are not active.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import Generic

from supply_chain.errors import (
    UNREADABLE,
    DeclarationInvalid,
    ImageNotFound,
    PolicyInvalid,
    PolicyUnsigned,
    RegistryFailed,
    RuleNotEvaluated,
    SettingInvalid,
    VerdictMissing,
)
from supply_chain.evidence.clock import INSTANT
from supply_chain.evidence.image_status import compute_image_status, read_image_status
from supply_chain.evidence.published import CurrentVerdict, read_current_verdict
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.image import ImageRef
from supply_chain.model.registry_ports import RepositoryCreator
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.blocks import block_reasons, find_blocked_bases
from supply_chain.policy.facts import F
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Admitted, Refused, list_used_waivers
from supply_chain.policy.policies import GatePolicy
from supply_chain.policy.reading import read_blocked_bases
from supply_chain.policy.refused_rules import find_block_rules
from supply_chain.policy.verdict import publish_block, publish_refusal, record, record_refusal
from supply_chain.policy.waivers import make_waiver_reference
from supply_chain.text import summarize_error

RENEWED = timedelta(days=1)
"""How long before its end a published admission is judged again."""
UNDECIDED = (
    DeclarationInvalid, ImageNotFound, PolicyInvalid, PolicyUnsigned, RuleNotEvaluated, SettingInvalid, *UNREADABLE,
)  # fmt: skip
"""Errors with which a gate does not decide, so that nobody knows whether an image may run."""


@dataclass(frozen=True)
class VerdictPorts(Generic[F]):
    """What judging again uses; `verdicts` are the published ones."""

    gate: Gate
    evidence: EvidenceStore
    verdicts: EvidenceStore
    repositories: RepositoryCreator
    policy: Callable[[], GatePolicy[F]]
    """Returns the active policies of the gate; raises an error of `UNDECIDED` if there are none."""
    bases: Callable[[], Sequence[ImageRef]]
    """Returns the curated bases, also archived ones."""
    now: Callable[[], datetime]


def judge_published(
    ref: ImageRef,
    environment: str,
    read_facts: Callable[[], F],
    ports: VerdictPorts[F],
    current: CurrentVerdict | None = None,
) -> Admitted[F] | Refused | None:
    """Judge an image again if a verdict of a gate about it is published; record and publish a changed one.

    `environment` is empty except at the deploy gate. `current` is what is published; None: it is read. Return the new
    verdict; None if none is published, or if the published one says the same, for reasons with the same codes, rests on
    the same waivers and ends no later. A refusal also replaces an admission that expired, for clients that do not know
    when it ends. The release gate only publishes the refusal of a blocked image: the block is the evidence, and a
    signed refusal would remain after it. The intake gate only publishes any refusal: its evidence is of the time when
    curation took the image. If the gate does not decide, only a block counts (`refuse_blocked`). Raises the errors of
    `read_current_verdict` and of reading facts, judging and recording.
    """
    current = current or read_published(ref, environment, ports)
    if current is None:
        return None
    answers, published = {current.admits, current.verdict.passed}, current.verdict.cscm

    def is_published(verdict: Admitted[F] | Refused) -> bool:
        admits, end = isinstance(verdict, Admitted), verdict.expires
        ends_earlier = admits and end and (published.expires is None or end < published.expires)
        rests_on = [make_waiver_reference(each.name, each.digest) for each in list_used_waivers(verdict.results)]
        codes = {each.code for each in verdict.reasons} if isinstance(verdict, Refused) else set[str]()
        is_same = answers == {admits} and codes == current.verdict.codes
        return is_same and not ends_earlier and rests_on == [*published.waivers]

    def judge() -> Admitted[F] | Refused | None:
        verdict = _judge_once(read_facts, ports, current, is_published)
        if isinstance(verdict, Admitted):  # others' refusal meanwhile was published before, and is not published again
            return _judge_once(read_facts, ports, current, lambda again: isinstance(again, Admitted)) or verdict
        return verdict

    return _decide(judge, ref, environment, ports)


def renew_published(
    ref: ImageRef,
    environment: str,
    read_facts: Callable[[], F],
    ports: VerdictPorts[F],
    max_age: timedelta | None = None,
    current: CurrentVerdict | None = None,
) -> Admitted[F] | Refused | None:
    """Judge an image again if its published admission ends within a day; record and publish the verdict.

    So an admission goes on after a waiver or people.yaml was prolonged, and does not stay after its end. It also ends
    at an age of `max_age`, if the environment has one. `current` is what is published; None: it is read. Return None if
    there is none, or if it does not end yet. Raises the errors of `judge_published`.
    """
    current = current or read_published(ref, environment, ports)
    if current is None or not current.verdict.passed:
        return None
    soon, too_old = ports.now() + RENEWED, compute_renewal_limit(ports.now(), max_age)
    if not current.verdict.has_expired(soon) and (too_old is None or current.verdict.time_verified > too_old):
        return None
    judge = partial(_judge_once, read_facts, ports, current, lambda _: False, too_old)
    return _decide(judge, ref, environment, ports)


def refuse_blocked(ref: ImageRef, environment: str, ports: VerdictPorts[F], why: str) -> Refused | None:
    """Publish a refusal of an image that is blocked, or a base of it; return it, or None if that is published.

    It replaces an admission, and a refusal for other reasons, with which a cluster may still admit the image. No policy
    is read: `why` says the reason. The refusal is recorded nowhere else, because the block is the evidence. If other
    evidence cannot be read, the image's own block takes effect all the same. Raises the errors of
    `read_current_verdict`, and of reading and publishing.
    """
    current = read_published(ref, environment, ports)
    if current is None:
        return None
    status = read_image_status(ref, ports.evidence).list_signed_by(TierName.LIFECYCLE)
    block = compute_image_status(status).block
    asks_for_bases = block is None and ports.gate is not Gate.INTAKE
    bases = read_blocked_bases(ref, ports.bases(), ports.evidence) if asks_for_bases else {}
    reasons = tuple(block_reasons(block, find_blocked_bases(bases)))
    if {each.code for each in reasons} <= current.verdict.codes:
        return None
    refusal = Refused(
        image=ref, gate=ports.gate, policy=f"sha256:{current.verdict.policy.digest['sha256']}", reasons=reasons,
        notes=(f"only the block counts, because the gate does not decide: {why}",),
        refused_rules=find_block_rules(reasons, status, bases.values(), {}),
    )  # fmt: skip
    decisions = (*status, *chain.from_iterable(bases.values()))
    publish_block(refusal, ref, decisions, ports.evidence, ports.now(), current.verdict)
    return refusal


def _decide(
    judge: Callable[[], Admitted[F] | Refused | None], ref: ImageRef, environment: str, ports: VerdictPorts[F]
) -> Admitted[F] | Refused | None:
    """Return the result of `judge`, or the refusal of a blocked image if the gate does not decide; raise otherwise."""
    try:
        return judge()
    except (*UNDECIDED, RegistryFailed) as error:
        if (refusal := refuse_blocked(ref, environment, ports, summarize_error(error))) is None:
            raise
        return refusal


def compute_renewal_limit(now: datetime, max_age: timedelta | None) -> datetime | None:
    """Return the last time of verdicts that a day later do not count any more; None if they count at any age."""
    return None if max_age is None else now + RENEWED - max_age


def read_published(ref: ImageRef, environment: str, ports: VerdictPorts[F]) -> CurrentVerdict | None:
    """Return what a gate published about an image, also if it has ended; None if nothing counts."""
    try:
        return read_current_verdict(ports.verdicts, ref, ports.gate, environment)
    except VerdictMissing:
        return None


def _judge_once(
    read_facts: Callable[[], F],
    ports: VerdictPorts[F],
    current: CurrentVerdict,
    is_published: Callable[[Admitted[F] | Refused], bool],
    too_old: datetime | None = None,
) -> Admitted[F] | Refused | None:
    """Judge an image, and record and return the verdict; None if it is published already.

    `is_published` answers that. What the deploy gate admitted is judged without schedules, because it is deployed
    already. A verdict that was given at `too_old` or earlier is signed again, even if nothing changed.
    """
    facts, policy = read_facts(), ports.policy()
    if ports.gate is Gate.DEPLOY and current.verdict.passed:
        policy = policy.for_what_runs
    verdict = evaluate(facts, policy, ports.now())
    if is_published(verdict):
        return None
    if isinstance(verdict, Admitted):  # a clock that was ahead may have given the published one a later time
        at = max(ports.now(), current.verdict.time_verified + INSTANT)
        record(verdict, facts, ports.evidence, at, too_old)
    elif ports.gate is Gate.INTAKE or (ports.gate is Gate.RELEASE and facts.status.block is not None):
        publish_refusal(verdict, facts, ports.evidence, ports.now(), current.verdict)
    else:
        record_refusal(verdict, facts, ports.repositories, ports.evidence, ports.now())
    return verdict
