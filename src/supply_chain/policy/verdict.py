"""Verdicts as evidence: signed by the tier of the gate and attached where that tier can write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from supply_chain.concurrency import run_both
from supply_chain.errors import GateSuperseded, SettingInvalid
from supply_chain.evidence.clock import INSTANT
from supply_chain.evidence.image_status import LifecycleDecision, compute_image_status, read_image_status
from supply_chain.evidence.reading import SignedValue
from supply_chain.evidence.statement import PROVENANCE, SIGNATURE, SUMMARY, VerifiedStatement
from supply_chain.evidence.store import EvidenceStore, Publisher
from supply_chain.evidence.summary import Summary, list_verdicts, make_summary
from supply_chain.model.image import Digest, ImageRef
from supply_chain.model.registry_ports import RepositoryCreator
from supply_chain.model.tier import Gate, TierName, name_curated_repository, name_evidence_repository
from supply_chain.policy.blocks import block_reasons, find_blocked_bases, read_base_statements
from supply_chain.policy.facts import CuratedFacts, DeployFacts, F, ImageFacts, IntakeFacts
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Admitted, Refused, find_used_break_glass, list_used_waivers
from supply_chain.policy.policies import GatePolicy
from supply_chain.policy.refused_rules import find_block_rules
from supply_chain.policy.waivers import make_waiver_reference

ATTACHING = timedelta(minutes=5)
"""For how long a published refusal may wait for its evidence: a gate publishes a refusal before it attaches it."""


def locate_verdicts(ref: ImageRef, gate: Gate, *, admitted: bool) -> tuple[ImageRef, ...]:
    """Return the places where a gate's verdict about an image is attached.

    An admission by the intake gate or the release gate is attached in the curated repository. A verdict of the deploy
    gate is attached in execution's repository for evidence, because the image is not execution's own. A refusal by
    curation is attached in curation's repository for evidence, because the lifecycle can remove what is attached to an
    image, but nobody can remove what is there. A refusal by the release gate is attached in the curated repository too,
    and one by the intake gate if that has an earlier verdict.
    """
    at_image = ref.with_repository(name_curated_repository(ref.application))
    if gate is Gate.DEPLOY:
        return (locate_execution_evidence(ref),)
    if admitted:
        return (at_image,)
    return (locate_refusals(ref),) if gate is Gate.INTAKE else (at_image, locate_refusals(ref))


def locate_refusals(ref: ImageRef) -> ImageRef:
    """Return the place of every refusal of an image by curation."""
    return ref.with_repository(name_evidence_repository(TierName.CURATION, ref.application))


def locate_execution_evidence(ref: ImageRef) -> ImageRef:
    """Return the place of all that execution signs about an image: verdicts, deployments, soaks and approvals."""
    return ref.with_repository(name_evidence_repository(TierName.EXECUTION, ref.application))


def decide(
    facts: F, policy: GatePolicy[F], repositories: RepositoryCreator, store: EvidenceStore, now: datetime
) -> Admitted[F] | Refused:
    """Evaluate the policy, and record a refusal; the step that follows an admission records the admission.

    A refusal by schedules of the deploy gate alone says nothing about the image, so it does not withdraw what was
    admitted before.
    """
    verdict = evaluate(facts, policy, now)
    if isinstance(verdict, Refused):
        by_schedule = policy.gate is Gate.DEPLOY and {each.code for each in verdict.reasons} <= policy.schedules
        record_refusal(verdict, facts, repositories, store, now, withdraws=not by_schedule)
    return verdict


def record_refusal(
    refusal: Refused,
    facts: ImageFacts,
    repositories: RepositoryCreator,
    store: EvidenceStore,
    now: datetime,
    *,
    withdraws: bool = True,
) -> Digest:
    """Create the repositories that are missing, record a refusal as `record`, and return its statement's digest."""
    for where in locate_verdicts(facts.ref, refusal.gate, admitted=False):
        if where != facts.ref:
            repositories.ensure_repository(where.repository, immutable=True, key=None)
    return record(refusal, facts, store, now, withdraws=withdraws)


def record(
    verdict: Admitted[F] | Refused,
    facts: F,
    store: EvidenceStore,
    now: datetime,
    newer_than: datetime | None = None,
    *,
    withdraws: bool = True,
) -> Digest:
    """Attach the verdict about `facts.ref` in its places and return the digest of the statement in the first one.

    The repositories have to exist. The verdict is also published: a refusal before it is attached, so that an enforcer
    learns of it first; an admission after that, so that its evidence exists. A refusal is attached even if it cannot be
    published, and the error is raised. One that does not withdraw an admission is not published while one counts. If
    the gate's last verdict, in any place, is the same and rests on the same evidence, that one is used again if it is
    newer than `newer_than`. A new verdict gets a later time than the last one, even if the clock is behind, because
    otherwise it would not count; so does one whose opposite is published, although its evidence is not there.
    Raise `GateSuperseded` for an admission if the release gate, or the deploy gate for the same environment, refused
    the image after the facts were read, or published a refusal that it may still attach: it would be outweighed.
    Raise it also, after a refusal was published, if the image or a base of it was blocked after the facts were read.
    """
    places = {place for yes in (True, False) for place in locate_verdicts(facts.ref, verdict.gate, admitted=yes)}
    before = {place: store.read_verified(place, store.tier) for place in sorted(places, key=str)}
    earlier = list_verdicts(chain.from_iterable(before.values()), verdict.gate, facts.ref.digest)
    last = next(reversed(earlier), None)
    if isinstance(verdict, Admitted) and _overtaken(facts, earlier):
        raise _overtaken_error(facts, verdict.gate, "Run the same command again")
    current = _summarize(verdict, facts, store.tier, max(now, last.at + INSTANT) if last else now)
    publisher = _publisher(store)
    predicate = _find_predicate(current, last, verdict.gate, facts, publisher, now, newer_than)

    def read_before(place: ImageRef) -> tuple[SignedValue[Summary], ...]:
        return list_verdicts(before[place], verdict.gate, facts.ref.digest)

    def ensure_attached(place: ImageRef) -> Digest:  # an interrupted run may have left places out
        same = (each.evidence.digest for each in read_before(place) if each.evidence.predicate == predicate)
        return next(same, None) or store.attach(place, SUMMARY, predicate, now)

    def attach_all() -> Digest:
        where = locate_verdicts(facts.ref, verdict.gate, admitted=isinstance(verdict, Admitted))
        if isinstance(verdict, Refused):  # also beside an earlier admission, where builds read the last verdict
            where = (*(place for place in places.difference(where) if read_before(place)), *where)
        return [ensure_attached(place) for place in reversed(where)][-1]

    def prepare() -> Callable[[], None]:
        return publisher.prepare(facts.ref, predicate, now)

    if isinstance(verdict, Admitted):
        digest, publish = run_both(attach_all, prepare)
        publish()
        _refuse_blocked_since(verdict, Summary.model_validate(predicate), store, now)
        return digest
    try:
        if withdraws or not publisher.admits(facts.ref, predicate, now):
            prepare()()
    finally:
        digest = attach_all()
    return digest


def _refuse_blocked_since(admitted: Admitted[F], published: Summary, store: EvidenceStore, now: datetime) -> None:
    """Publish a refusal and raise `GateSuperseded` if there is a block that the facts of an admission do not know.

    Whoever signed the block before the admission was published has found nothing to correct. Whoever signs one later
    finds the admission.
    """
    facts = admitted.facts
    status = read_image_status(facts.ref, store).list_signed_by(TierName.LIFECYCLE)
    statements, judged = dict[str, tuple[VerifiedStatement, ...]](), dict[str, LifecycleDecision]()
    if isinstance(facts, CuratedFacts):
        statements |= read_base_statements(map(ImageRef.parse, facts.bases), facts.provenance, store)
        judged |= facts.blocked_bases
    block = compute_image_status(status).block
    bases = {base: each for base, each in find_blocked_bases(statements).items() if each != judged.get(base)}
    reasons = tuple(block_reasons(block if block != facts.status.block else None, bases))
    if reasons:
        policies = {each.rule: each.policy for each in admitted.results}
        refusal = Refused(
            image=facts.ref, gate=admitted.gate, policy=admitted.policy, reasons=reasons,
            refused_rules=find_block_rules(reasons, status, [statements[base] for base in bases], policies),
            notes=("only the block counts: it was signed while the gate admitted the image",),
        )  # fmt: skip
        decisions = (*status, *chain.from_iterable(statements.values()))
        publish_block(refusal, facts.ref, decisions, store, now, published)
        raise _overtaken_error(facts, admitted.gate, "Run the same command again")


def _find_predicate(
    current: Summary, last: SignedValue[Summary] | None, gate: Gate, facts: ImageFacts, publisher: Publisher,
    now: datetime, newer_than: datetime | None,
) -> dict[str, Any]:  # fmt: skip
    """Return what is signed of a verdict: the last one if it is the same, counts and is newer, or else the current one.

    Raise `GateSuperseded` for an admission after a published refusal that its run may still attach.
    """
    if last is None or not last.value.has_same_content(current):
        return current.predicate()
    opposite = publisher.find_newer_opposite(facts.ref, last.evidence.predicate)
    if opposite is None:
        is_old = newer_than is not None and last.value.time_verified <= newer_than
        return current.predicate() if is_old else last.evidence.predicate
    if current.passed and now < opposite + ATTACHING:  # otherwise its evidence was removed, or never attached
        raise _overtaken_error(facts, gate, "Run the same command again in 5 minutes")
    return _later_than(opposite, current).predicate()


def publish_refusal(
    refusal: Refused, facts: ImageFacts, store: EvidenceStore, now: datetime, published: Summary
) -> None:
    """Make a refusal the current verdict for enforcers in place of the published one, and record it nowhere else."""
    verdict = _later_than(published.time_verified, _summarize(refusal, facts, store.tier, now))
    _publisher(store).prepare(facts.ref, verdict.predicate(), now)()


def publish_block(
    refusal: Refused, ref: ImageRef, decisions: Sequence[VerifiedStatement], store: EvidenceStore, now: datetime,
    published: Summary,
) -> None:  # fmt: skip
    """Publish a refusal as `publish_refusal`, without a decision of the gate; `decisions` are the lifecycle's.

    It names the policies of the published verdict.
    """
    verdict = make_summary(
        ref,
        refusal.gate,
        refusal.policy,
        reasons=[each.model_dump() for each in refusal.reasons],
        notes=refusal.notes,
        inputs=decisions,
        now=now,
        environment=published.cscm.environment,
        policies=published.cscm.policies,
        refused_rules=refusal.refused_rules,
    )
    _publisher(store).prepare(ref, _later_than(published.time_verified, verdict).predicate(), now)()


def _later_than(at: datetime, verdict: Summary) -> Summary:
    """Return a verdict with a time after this one."""
    return verdict.model_copy(update={"time_verified": max(verdict.time_verified, at + INSTANT)})


def _overtaken_error(facts: ImageFacts, gate: Gate, what_to_do: str) -> GateSuperseded:
    return GateSuperseded(
        f"{facts.ref} was refused at the {gate} gate after this run had read its evidence.\n"
        f"{what_to_do}: the image is judged by the current evidence."
    )


def _summarize(verdict: Admitted[F] | Refused, facts: F, judge: TierName, at: datetime) -> Summary:
    """Return a verdict as its tier signs it with the time `at`.

    A refusal rests on no provenance that no tier signed: that only raises the level of an admission. It may be of a
    tier whose key counts again later, and the rescan compares what the verdict rests on with what is verified then.
    """
    is_admitted = isinstance(verdict, Admitted)
    attached = (each for each in facts.attached if is_admitted or each.predicate_type != PROVENANCE)
    waivers, break_glass = list_used_waivers(verdict.results), find_used_break_glass(verdict.results)
    return make_summary(
        facts.ref,
        verdict.gate,
        verdict.policy,
        reasons=[r.model_dump() for r in verdict.reasons] if isinstance(verdict, Refused) else [],
        notes=verdict.notes,
        levels=verdict.levels if isinstance(verdict, Admitted) else (),
        inputs=[*(e for e in facts.evidence if not is_conclusion(e, judge)), *attached],
        documents=verdict.reviews,
        now=at,
        environment=facts.environment.name if isinstance(facts, DeployFacts) else "",
        policies=tuple(dict.fromkeys(each.policy for each in verdict.results)),
        refused_rules=verdict.refused_rules if isinstance(verdict, Refused) else (),
        waivers=[make_waiver_reference(each.name, each.digest) for each in waivers],
        break_glass=str(break_glass or ""),
        expires=verdict.expires,
    )


def _publisher(store: EvidenceStore) -> Publisher:
    if store.publisher is None:
        raise SettingInvalid(
            f"The block of the {store.tier} tier names no verdict_key, so its verdicts cannot be published.\n"
            "Make the key and add it to the block, with the verdict_keys (docs/how-to/aws.md)."
        )
    return store.publisher


def _overtaken(facts: ImageFacts, earlier: Iterable[SignedValue[Summary]]) -> bool:
    """Return whether the last of a gate's verdicts, of one environment if it has any, is a refusal that the facts lack.

    Only the facts of the release gate and of the deploy gate contain that gate's own verdicts.
    """
    if isinstance(facts, IntakeFacts):
        return False
    environment = facts.environment.name if isinstance(facts, DeployFacts) else ""
    last = next((each for each in reversed([*earlier]) if each.value.cscm.environment == environment), None)
    return last is not None and not last.value.passed and last.evidence.digest not in {e.digest for e in facts.evidence}


def is_conclusion(evidence: VerifiedStatement, judge: TierName) -> bool:
    """Return whether the statement is an earlier conclusion of the judge itself, which is no basis for its verdict."""
    return evidence.signer == judge and evidence.predicate_type in (SUMMARY, SIGNATURE)
