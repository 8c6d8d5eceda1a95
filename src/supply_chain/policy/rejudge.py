"""Keep published verdicts true: judge an image again after something was signed about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic

from supply_chain.errors import VerdictMissing
from supply_chain.evidence.clock import INSTANT
from supply_chain.evidence.published import CurrentVerdict, read_current_verdict
from supply_chain.evidence.store import EvidenceStore, Repositories
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.policies import F, GatePolicy
from supply_chain.policy.verdict import publish_refusal, record, record_refusal

RENEWED = timedelta(days=1)
"""How long before its end a published admission is judged again."""


@dataclass(frozen=True)
class VerdictPorts(Generic[F]):
    """What judging again uses; `verdicts` are the published ones."""

    evidence: EvidenceStore
    verdicts: EvidenceStore
    repositories: Repositories
    policy: GatePolicy[F]
    now: Callable[[], datetime]


def judge_published(
    ref: ImageRef, environment: str, read_facts: Callable[[], F], ports: VerdictPorts[F]
) -> Admitted[F] | Refused | None:
    """Judge an image again if a verdict of a gate about it is published; record and publish a changed one.

    `environment` is empty except at the deploy gate. Return the new verdict; None if none is published, or if the
    published one says the same and ends no later. A refusal also replaces an admission that expired, for clients that
    do not know when it ends. The release gate only publishes the refusal of a blocked image: the block is the evidence,
    and a signed refusal would remain after it. Raises the errors of `read_current_verdict` and of reading facts,
    judging and recording.
    """
    current = _read_current(ref, environment, ports)
    if current is None:
        return None
    answers, published = {current.admits, current.verdict.passed}, current.verdict.cscm.expires

    def is_published(admits: bool, end: datetime | None) -> bool:
        return answers == {admits} and not (admits and end and (published is None or end < published))

    verdict = _judge_once(read_facts, ports, current, is_published)
    if isinstance(verdict, Admitted):  # a refusal by others meanwhile was published before, and is not published again
        return _judge_once(read_facts, ports, current, lambda admits, _: admits) or verdict
    return verdict


def renew_published(
    ref: ImageRef,
    environment: str,
    read_facts: Callable[[], F],
    ports: VerdictPorts[F],
    max_age: timedelta | None = None,
) -> Admitted[F] | Refused | None:
    """Judge an image again if its published admission ends within a day; record and publish the verdict.

    So an admission goes on after a waiver or people.yaml was prolonged, and does not stay after its end. It also ends
    at an age of `max_age`, if the environment has one. Return None if there is none, or if it does not end yet. Raises
    the errors of `judge_published`.
    """
    current = _read_current(ref, environment, ports)
    if current is None or not current.verdict.passed:
        return None
    soon, too_old = ports.now() + RENEWED, too_old_within_a_day(ports.now(), max_age)
    if not current.verdict.has_expired(soon) and (too_old is None or current.verdict.time_verified > too_old):
        return None
    return _judge_once(read_facts, ports, current, lambda *_: False, too_old)


def too_old_within_a_day(now: datetime, max_age: timedelta | None) -> datetime | None:
    """Return the last time of verdicts that a day later do not count any more; None if they count at any age."""
    return None if max_age is None else now + RENEWED - max_age


def _read_current(ref: ImageRef, environment: str, ports: VerdictPorts[F]) -> CurrentVerdict | None:
    try:
        return read_current_verdict(ports.verdicts, ref, ports.policy.gate, environment)
    except VerdictMissing:
        return None


def _judge_once(
    read_facts: Callable[[], F],
    ports: VerdictPorts[F],
    current: CurrentVerdict,
    is_published: Callable[[bool, datetime | None], bool],
    too_old: datetime | None = None,
) -> Admitted[F] | Refused | None:
    """Judge an image, and record and return the verdict; None if it is published already.

    `is_published` answers that from whether the image is admitted, and until when. A verdict that was given at
    `too_old` or earlier is signed again, even if nothing changed.
    """
    facts = read_facts()
    verdict = evaluate(facts, ports.policy, ports.now())
    if is_published(isinstance(verdict, Admitted), verdict.expires):
        return None
    if isinstance(verdict, Admitted):  # a clock that was ahead may have given the published one a later time
        at = max(ports.now(), current.verdict.time_verified + INSTANT)
        record(verdict, facts, ports.evidence, at, too_old)
    elif ports.policy.gate is Gate.RELEASE and facts.status.block is not None:
        publish_refusal(verdict, facts, ports.evidence, ports.now(), current.verdict)
    else:
        record_refusal(verdict, facts, ports.repositories, ports.evidence, ports.now())
    return verdict
