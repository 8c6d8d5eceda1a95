"""Published verdicts of the deploy gate and of the release gate follow what is signed later."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from supply_chain.errors import (
    EvidenceInvalid,
    GateSuperseded,
    PolicyUnsigned,
    RegistryFailed,
    RegistryUnavailable,
    VerdictMissing,
)
from supply_chain.evidence.image_status import Act, sign_decision
from supply_chain.evidence.published import locate_verdict, read_current_verdict
from supply_chain.evidence.statement import PROVENANCE
from supply_chain.evidence.summary import list_verdicts
from supply_chain.model.image import Material
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Admitted, Refused, RuleOutcome, UsedWaiver
from supply_chain.policy.reading import read_deploy_facts, read_intake_facts, read_release_facts
from supply_chain.policy.refused_rules import NOT_WAIVABLE
from supply_chain.policy.rejudge import VerdictPorts, judge_published, refuse_blocked, renew_published
from supply_chain.policy.verdict import decide, locate_execution_evidence, locate_refusals, record, record_refusal
from tests.support.builders import DIGEST
from tests.support.facts import CURATED, OFFERED, requirements
from tests.support.pieces import BASE, DEV, Pieces
from tests.support.policies import DEPLOY, INTAKE, RELEASE, policy, rule

UNSIGNED = PolicyUnsigned("The environment staging is not active: it changed.\nSign it.")


def raise_unsigned():
    raise UNSIGNED


@pytest.fixture
def gate(world, make):
    """The deploy gate with an image that it admits to `staging`."""
    pieces = Pieces(world, make)
    materials = (Material(name=BASE.repository, digest=BASE.digest, curated=True),)
    built = {"provenance": (DEV, PROVENANCE, make.provenance(built={"materials": materials}))}
    for piece in ({**pieces.development, **pieces.curated} | built).values():
        pieces.attach(CURATED, *piece)
    evidence = world.store(TierName.EXECUTION)
    ports = VerdictPorts(
        Gate.DEPLOY, evidence, world.verdict_store(TierName.EXECUTION), world.ecr, lambda: DEPLOY, lambda: (),
        lambda: make.noon + timedelta(hours=1),
    )  # fmt: skip
    where = requirements("staging")

    def read():
        return read_deploy_facts(CURATED, where, evidence, bases=(), minimum_classification=None)

    def current():
        return read_current_verdict(ports.verdicts, CURATED, Gate.DEPLOY, "staging")

    def decide(act, ref=CURATED):
        world.now = make.noon + timedelta(hours=2)
        sign_decision(
            ref, act, world.store(TierName.LIFECYCLE), world.ecr, by="ann", reason="bad", now=make.noon
            + timedelta(minutes=len(world.registry.refs())),
        )  # fmt: skip

    def admit(*waivers):
        facts = read()
        verdict = evaluate(facts, DEPLOY, make.noon)
        assert isinstance(verdict, Admitted), verdict
        if waivers:
            waived = {"result": RuleOutcome.WAIVED, "waivers": waivers}
            results = tuple(each.model_copy(update=waived) for each in verdict.results)
            verdict = replace(verdict, results=results, expires=min(each.expires for each in waivers))
        record(verdict, facts, evidence, make.noon)

    def judge(before=lambda: None):
        """Judge again; `before` happens after each reading of the facts, and before the verdict is recorded."""

        def read_first():
            facts = read()
            before()
            return facts

        return judge_published(CURATED, "staging", read_first, ports)

    def verdicts_of_gate():
        return list_verdicts(
            evidence.read_verified(locate_execution_evidence(CURATED), TierName.EXECUTION), Gate.DEPLOY, CURATED.digest
        )

    renew = partial(renew_published, CURATED, "staging", read, ports)
    return SimpleNamespace(
        admit=admit, current=current, decide=decide, judge=judge, renew=renew, verdicts=verdicts_of_gate,
        attach=partial(pieces.attach, CURATED), ports=ports, read=read,
    )  # fmt: skip


@pytest.mark.parametrize("judge", [judge_published, renew_published])
def test_verdict_that_was_read_already_is_not_read_again(gate, judge):
    """Who judges all deployments has read each."""
    gate.admit()
    current = gate.current()
    unread = replace(gate.ports, verdicts=None)

    assert judge(CURATED, "staging", gate.read, unread, current=current) is None
    gate.decide(Act.BLOCK)
    assert isinstance(judge_published(CURATED, "staging", gate.read, unread, current), Refused)
    assert not gate.current().admits


def test_block_after_deployment_becomes_the_current_verdict(gate):
    """A pod of the image is refused from then on."""
    gate.admit()
    gate.decide(Act.BLOCK)
    assert gate.current().admits

    found = gate.judge()

    assert isinstance(found, Refused) and not gate.current().admits
    assert [each["code"] for each in gate.current().verdict.cscm.reasons] == ["image.blocked"]
    assert [each.value.passed for each in gate.verdicts()] == [True, False]
    assert gate.judge() is None, "nothing changed since"


def lapse(gate, make):
    """Publish that the gate refuses the image, for a reason with which a cluster still admits it."""
    gate.admit()
    old = rule("scan.old")
    ports = replace(gate.ports, policy=lambda: policy(Gate.DEPLOY, old))
    assert isinstance(judge_published(CURATED, "staging", gate.read, ports), Refused)
    assert gate.current().verdict.codes == {"scan.old"}
    assert judge_published(CURATED, "staging", gate.read, ports) is None, "it is published"
    return replace(gate.ports, policy=lambda: policy(Gate.DEPLOY, old, rule("image.blocked")))


def test_block_of_image_with_lapsed_verdict_is_published(gate, make):
    """Both are refusals, but a cluster admits an image with the first one, so that its pods can move."""
    ports = lapse(gate, make)
    gate.decide(Act.BLOCK)

    assert isinstance(judge_published(CURATED, "staging", gate.read, ports), Refused)
    assert gate.current().verdict.codes == {"scan.old", "image.blocked"}
    assert judge_published(CURATED, "staging", gate.read, ports) is None, "nothing changed since"


def test_block_replaces_lapsed_verdict_if_gate_is_inactive(gate, make):
    lapse(gate, make)
    gate.decide(Act.BLOCK)

    assert isinstance(refuse_blocked(CURATED, "staging", gate.ports, "so"), Refused)
    assert gate.current().verdict.codes == {"image.blocked"}
    assert refuse_blocked(CURATED, "staging", gate.ports, "so") is None, "it is published"


def test_admission_after_unblock_becomes_the_current_verdict(gate):
    """What runs may be moved to another node again."""
    gate.admit()
    gate.decide(Act.BLOCK)
    gate.judge()
    gate.decide(Act.UNBLOCK)

    assert isinstance(gate.judge(), Admitted) and gate.current().admits


def test_refusal_replaces_an_admission_that_expired(gate, make):
    """A client that does not know when it ends would still let the image run."""
    gate.admit(UsedWaiver(name="short", digest=DIGEST, by="bob", reason="so", expires=make.noon + timedelta(minutes=1)))
    gate.decide(Act.BLOCK)
    assert gate.current().verdict.passed and not gate.current().admits

    assert isinstance(gate.judge(), Refused) and not gate.current().verdict.passed
    assert gate.judge() is None


def test_admission_overtaken_by_block_is_withdrawn(gate):
    """Two events within seconds: who judges after the block may find the refusal published, and nothing to correct."""
    gate.admit()
    gate.decide(Act.BLOCK)
    gate.judge()
    gate.decide(Act.UNBLOCK)
    meanwhile = [lambda: gate.decide(Act.BLOCK)]

    with pytest.raises(GateSuperseded):
        gate.judge(lambda: meanwhile.pop()() if meanwhile else None)

    assert not gate.current().admits
    assert gate.judge() is None


def test_image_without_published_verdict_is_not_judged(gate, world):
    """It was never admitted there, so there is nothing to correct."""
    gate.decide(Act.BLOCK)

    assert gate.judge() is None
    with pytest.raises(VerdictMissing):
        gate.current()
    assert world.registry.refs(locate_verdict(CURATED, Gate.DEPLOY, "staging").repository) == ()


def test_unchanged_verdict_is_not_recorded_again(gate, world):
    """Events are repeated."""
    gate.admit()
    before = world.registry.refs()

    assert gate.judge() is None
    assert world.registry.refs() == before


def test_admission_that_ends_earlier_now_replaces_the_published_one(gate, world, make, monkeypatch):
    """It rested on a break-glass that was ended since, and rests on another one now."""
    until, world.now = [None], make.noon + timedelta(hours=2)
    monkeypatch.setattr("supply_chain.policy.gate.find_end", lambda *_: until[0])
    gate.admit()
    for end in (make.noon + timedelta(hours=5), make.noon + timedelta(hours=3)):
        until[0] = end
        assert isinstance(gate.judge(), Admitted) and gate.current().verdict.cscm.expires == end
    before = world.registry.refs()
    for hours in (3, 4):
        until[0] = make.noon + timedelta(hours=hours)
        assert gate.judge() is None
    assert world.registry.refs() == before

    gate.decide(Act.BLOCK)
    until[0] = make.noon + timedelta(hours=3)
    assert isinstance(gate.judge(), Refused)
    assert gate.judge() is None


def test_admission_does_not_name_a_waiver_that_was_withdrawn(gate, world, make, monkeypatch):
    """Another one of the same end accepts the same; whoever reads the verdict would look for the first."""
    world.now = make.noon + timedelta(hours=2)
    end, used = make.noon + timedelta(days=30), {"by": "bob", "reason": "so"}
    first, second = (UsedWaiver(name=name, digest=DIGEST, expires=end, **used) for name in ("first", "second"))
    gate.admit(first)

    def judge_with(*waivers):
        def judge(*given):
            verdict: Any = evaluate(*given)
            waived = {"result": RuleOutcome.WAIVED, "waivers": waivers}
            results = tuple(each.model_copy(update=waived) for each in verdict.results)
            return replace(verdict, results=results, expires=end)

        monkeypatch.setattr("supply_chain.policy.rejudge.evaluate", judge)
        return gate.judge()

    assert judge_with(first) is None
    assert isinstance(judge_with(second), Admitted)
    assert gate.current().verdict.cscm.waivers == (f"second@{DIGEST}",)
    assert judge_with(second) is None


def test_outage_is_an_error(gate, world, monkeypatch):
    """Not a verdict that is missing."""

    def fail(_):
        raise RegistryUnavailable("The registry did not answer.\nStart it.")

    monkeypatch.setattr(world.registry, "referrers", fail)
    with pytest.raises(RegistryUnavailable):
        gate.judge()


@pytest.mark.parametrize(("hours", "judged"), [(0, True), (24, True), (25, False)])
def test_admission_that_ends_within_a_day_is_renewed(gate, make, hours, judged):
    """The waiver was prolonged, or the image needs none any more. One hour has passed since."""
    end = make.noon + timedelta(hours=1 + hours)
    gate.admit(UsedWaiver(name="short", digest=DIGEST, by="bob", reason="so", expires=end))

    assert isinstance(gate.renew(), Admitted) is judged
    assert gate.current().verdict.cscm.expires == (None if judged else end)
    assert gate.renew() is None


@pytest.mark.parametrize(("hours", "judged"), [(24, True), (25, True), (26, False)])
def test_admission_that_gets_too_old_within_a_day_is_renewed(gate, hours, judged):
    """Where verdicts count for some time only, what runs would otherwise not start again. One hour has passed since."""
    gate.admit()
    before, max_age = gate.current(), timedelta(hours=hours)

    assert isinstance(gate.renew(max_age=max_age), Admitted) is judged
    assert (gate.current() != before) is judged
    assert gate.renew() is None


def test_refusal_that_rests_on_a_decision_is_not_renewed(gate, make, monkeypatch):
    """It rests on a waiver of one rule, and another rule refuses the image: only admissions are renewed."""
    gate.admit()
    gate.decide(Act.BLOCK)
    monkeypatch.setattr("supply_chain.policy.gate.find_end", lambda *_: make.noon + timedelta(hours=2))
    assert isinstance(gate.judge(), Refused) and gate.current().verdict.cscm.expires

    assert gate.renew() is None


def test_ended_admission_of_blocked_image_is_replaced_by_refusal(gate, make):
    """Who does not know when it ends would go on to admit the image."""
    assert gate.renew() is None, "nothing is published"
    gate.admit(UsedWaiver(name="short", digest=DIGEST, by="bob", reason="so", expires=make.noon + timedelta(minutes=1)))
    gate.decide(Act.BLOCK)

    assert isinstance(gate.renew(), Refused) and not gate.current().verdict.passed
    assert gate.renew() is None


def test_image_is_refused_once_a_rule_that_warned_is_effective(gate, world, make):
    """Nothing else changes: the admission ends with the date, and the next run after it publishes a refusal."""
    start, world.now = make.noon + timedelta(days=3), make.noon
    strict = policy(Gate.DEPLOY, rule("a.b", effective_on=start))
    ports = replace(gate.ports, policy=lambda: strict, now=lambda: world.now)
    record(evaluate(gate.read(), strict, make.noon), gate.read(), ports.evidence, make.noon)
    assert gate.current().admits and gate.current().verdict.cscm.expires == start

    def renew():
        return renew_published(CURATED, "staging", gate.read, ports)

    assert renew() is None
    world.now = start + timedelta(minutes=30)
    assert isinstance(renew(), Refused) and not gate.current().verdict.passed
    assert renew() is None


@pytest.mark.parametrize("judge", [judge_published, renew_published])
def test_freeze_does_not_withdraw_verdict_of_running_image(gate, make, judge):
    """A pod of it may move to another node. What is deployed in the freeze is judged by all rules."""
    frozen = rule("a.freeze", expression="now < timestamp('2020-01-01T00:00:00Z')")
    ports = replace(
        gate.ports, policy=lambda: policy(Gate.DEPLOY, rule("a.b", expression="image.digest != ''"), frozen)
    )
    used = UsedWaiver(name="urgent", digest=DIGEST, by="bob", reason="so", expires=make.noon + timedelta(minutes=1))
    gate.admit(used)

    assert isinstance(evaluate(gate.read(), ports.policy(), ports.now()), Refused)
    assert isinstance(judge(CURATED, "staging", gate.read, ports), Admitted)
    assert gate.current().admits and not gate.current().verdict.cscm.waivers


@pytest.mark.parametrize(("more", "admits"), [((), True), ((rule("a.b"),), False)])
def test_refused_deployment_in_freeze_keeps_published_admission(gate, more, admits):
    """It is refused and recorded, and a pod of what runs may still move to another node; not for other reasons."""
    frozen = rule("a.freeze", expression="now < timestamp('2020-01-01T00:00:00Z')")
    gate.admit()
    policies, ports = policy(Gate.DEPLOY, frozen, *more), gate.ports

    assert isinstance(decide(gate.read(), policies, ports.repositories, ports.evidence, ports.now()), Refused)
    assert [each.value.passed for each in gate.verdicts()] == [True, False]
    assert gate.current().admits is admits


@pytest.mark.parametrize("ended", [False, True])
def test_first_deployment_in_a_freeze_publishes_the_refusal(gate, make, ended):
    """Without an admission that counts, nothing else says why."""
    frozen = rule("a.freeze", expression="now < timestamp('2020-01-01T00:00:00Z')")
    if ended:
        gate.admit(UsedWaiver(name="w", digest=DIGEST, by="bob", reason="so", expires=make.noon + timedelta(minutes=1)))
    ports = gate.ports
    decide(gate.read(), policy(Gate.DEPLOY, frozen), ports.repositories, ports.evidence, ports.now())

    assert not gate.current().verdict.passed


def test_refusal_by_a_freeze_stays_until_it_ends(gate):
    """The image was not deployed."""
    frozen = rule("a.freeze", expression="now < timestamp('2020-01-01T00:00:00Z')")
    ports = replace(gate.ports, policy=lambda: policy(Gate.DEPLOY, frozen))
    refused = evaluate(gate.read(), ports.policy(), ports.now())
    assert isinstance(refused, Refused)
    record_refusal(refused, gate.read(), ports.repositories, ports.evidence, ports.now())

    assert judge_published(CURATED, "staging", gate.read, ports) is None and not gate.current().admits


@pytest.fixture
def release(world, make):
    """The release gate with an image that it admits."""
    pieces = Pieces(world, make)
    for piece in (*pieces.development.values(), *pieces.curated.values()):
        pieces.attach(CURATED, *piece)
    evidence = world.store(TierName.CURATION)
    ports = VerdictPorts(
        Gate.RELEASE, evidence, world.verdict_store(TierName.CURATION), world.ecr, lambda: RELEASE, lambda: (),
        lambda: make.noon + timedelta(hours=1),
    )  # fmt: skip
    world.registry.add(CURATED)

    def read():
        return read_release_facts(CURATED, evidence, lambda ref: (), (), None)

    def decide(act):
        world.now = make.noon + timedelta(hours=2)
        at = make.noon + timedelta(minutes=len(world.registry.refs()))
        sign_decision(CURATED, act, world.store(TierName.LIFECYCLE), world.ecr, by="ann", reason="bad", now=at)

    def admits():
        return read_current_verdict(ports.verdicts, CURATED, Gate.RELEASE).admits

    def verdicts_of_gate():
        return list_verdicts(evidence.read_verified(CURATED, TierName.CURATION), Gate.RELEASE, CURATED.digest)

    facts = read()
    admitted = evaluate(facts, RELEASE, make.noon)
    assert isinstance(admitted, Admitted), admitted
    record(admitted, facts, evidence, make.noon)

    def judge(policy=RELEASE):
        return judge_published(CURATED, "", read, replace(ports, policy=lambda: policy))

    def judge_undecided():
        return judge_published(CURATED, "", read, replace(ports, policy=raise_unsigned))

    return SimpleNamespace(
        judge=judge, judge_undecided=judge_undecided, decide=decide, admits=admits, verdicts=verdicts_of_gate,
        ports=ports, read=read,
    )  # fmt: skip


def test_refusal_of_the_release_gate_without_a_block_is_signed(release):
    """Only a block is evidence of its own."""
    before = release.verdicts()

    assert isinstance(release.judge(policy(Gate.RELEASE, rule("a.b"))), Refused) and not release.admits()
    assert len(release.verdicts()) == len(before) + 1


def test_refusal_by_a_schedule_of_the_release_gate_is_published(release):
    """It is attached beside the image, so what curation signed and what it published would differ."""
    frozen = rule("a.freeze", expression="now < timestamp('2020-01-01T00:00:00Z')")
    ports = release.ports
    decide(release.read(), policy(Gate.RELEASE, frozen), ports.repositories, ports.evidence, ports.now())

    assert not release.admits()


def test_block_reaches_the_published_release_and_leaves_no_signed_refusal(release):
    """The lifecycle blocks what curation refused: a signed refusal would block the image again after the block."""
    before = release.verdicts()
    release.decide(Act.BLOCK)
    assert release.admits()

    assert isinstance(release.judge(), Refused) and not release.admits()
    assert release.judge() is None
    assert release.verdicts() == before


def test_unblocked_image_is_published_as_released_again(release):
    """The new admission rests on the block and its end."""
    before = release.verdicts()
    release.decide(Act.BLOCK)
    release.judge()
    release.decide(Act.UNBLOCK)

    assert isinstance(release.judge(), Admitted) and release.admits()
    assert len(release.verdicts()) == len(before) + 1 and release.judge() is None


def raise_registry_failed():
    raise RegistryFailed("the list of referrers is too long\nsee who attached them")


def test_block_is_published_if_evidence_cannot_be_listed(gate):
    """Whoever may push could attach more than a list may have, and keep the admission."""
    gate.admit()
    gate.decide(Act.BLOCK)

    found = judge_published(CURATED, "staging", raise_registry_failed, gate.ports)

    assert isinstance(found, Refused) and not gate.current().admits


@pytest.fixture(params=["policies", "environment", "renewal"])
def judge_undecided(request, gate, make):
    """Return a function that judges again where the gate does not decide."""

    def judge():
        if request.param == "policies":
            return judge_published(CURATED, "staging", gate.read, replace(gate.ports, policy=raise_unsigned))
        if request.param == "environment":
            return judge_published(CURATED, "staging", raise_unsigned, gate.ports)
        return renew_published(CURATED, "staging", raise_unsigned, gate.ports, timedelta(hours=1))

    return judge


def test_block_is_published_if_gate_is_inactive(gate, judge_undecided):
    """Whoever changes the file of an environment must not keep an admission. The block is its own evidence."""
    gate.admit()
    before, admitted = gate.verdicts(), gate.current().verdict
    gate.decide(Act.BLOCK)

    found = judge_undecided()

    current, note = gate.current().verdict, "only the block counts, because the gate does not decide: "
    assert isinstance(found, Refused) and not gate.current().admits
    (reason,) = current.cscm.reasons
    assert reason["code"] == "image.blocked" and reason == found.reasons[0].model_dump()
    assert reason["fact"].startswith("it was blocked by ann on 2026-11-24 ") and "`cscm unblock`" in reason["remedy"]
    assert current.cscm.notes == found.notes == (f"{note}The environment staging is not active: it changed",)
    assert (current.policy, current.cscm.policies) == (admitted.policy, admitted.cscm.policies)
    assert current.policy.digest == {"sha256": found.policy.removeprefix("sha256:")}
    assert {each.uri.partition("@")[0] for each in current.input_attestations} == {"evidence/lifecycle/hello"}
    (refused,) = current.cscm.refused_rules
    assert (refused.rule, refused.policy, refused.waiver) == ("image.blocked", "", NOT_WAIVABLE)
    assert set(refused.evidence) <= {f"sha256:{each.digest['sha256']}" for each in current.input_attestations}
    assert gate.verdicts() == before
    assert refuse_blocked(CURATED, "staging", gate.ports, "so") is None and gate.current().verdict == current


def test_admission_of_unblocked_image_stays_if_gate_is_inactive(gate, judge_undecided):
    """The error says why nobody judged the image; a block that was lifted counts no more."""
    gate.admit()
    gate.decide(Act.BLOCK)
    gate.decide(Act.UNBLOCK)

    with pytest.raises(PolicyUnsigned):
        judge_undecided()
    assert gate.current().admits


def test_inactive_gate_publishes_nothing_without_earlier_verdict(gate, world):
    """The image was never admitted there."""
    gate.decide(Act.BLOCK)

    assert refuse_blocked(CURATED, "staging", gate.ports, "so") is None
    assert world.registry.refs(locate_verdict(CURATED, Gate.DEPLOY, "staging").repository) == ()


def test_block_of_base_is_published_if_gate_is_inactive(gate, judge_undecided):
    """As the gate says of an active environment, before any rescan."""
    gate.admit()
    gate.decide(Act.BLOCK, BASE)

    assert isinstance(judge_undecided(), Refused) and not gate.current().admits
    (reason,) = gate.current().verdict.cscm.reasons
    assert reason["code"] == "base.blocked"
    assert reason["fact"].startswith(f"{BASE}, which it is built on or with, was blocked by ann on 2026-11-24 ")
    assert reason["remedy"].startswith("build it again on a base") and "`cscm unblock`" in reason["remedy"]
    (refused,) = gate.current().verdict.cscm.refused_rules
    assert (refused.rule, len(refused.evidence), refused.waiver) == ("base.blocked", 1, NOT_WAIVABLE)
    inputs = {each.digest["sha256"]: each.uri for each in gate.current().verdict.input_attestations}
    assert inputs[refused.evidence[0].removeprefix("sha256:")].startswith("evidence/lifecycle/")


def test_block_is_published_despite_unreadable_evidence(gate, make):
    """Whoever signs something unreadable about the image would otherwise keep the admission."""
    gate.admit()
    gate.attach(DEV, PROVENANCE, {"buildDefinition": 7})
    with pytest.raises(EvidenceInvalid):
        gate.judge()
    gate.decide(Act.BLOCK)

    assert isinstance(gate.judge(), Refused) and not gate.current().admits


def test_block_at_inactive_gate_replaces_verdict_of_clock_ahead(gate, make):
    """The refusal gets a later time; a verdict that is older than the published one would not count."""
    gate.admit()
    gate.decide(Act.BLOCK)

    refuse_blocked(CURATED, "staging", replace(gate.ports, now=lambda: make.noon - timedelta(hours=1)), "so")

    assert not gate.current().admits and gate.current().verdict.time_verified > make.noon


def test_unblocked_image_is_admitted_once_gate_is_active_again(gate, judge_undecided):
    """The refusal that no gate decided leaves nothing behind."""
    gate.admit()
    gate.decide(Act.BLOCK)
    judge_undecided()
    assert gate.judge() is None
    gate.decide(Act.UNBLOCK)

    assert isinstance(gate.judge(), Admitted) and gate.current().admits


def test_block_reaches_published_release_though_policies_are_not_active(release):
    """Who reads only the release gate's verdict would otherwise go on to admit the image."""
    before = release.verdicts()
    release.decide(Act.BLOCK)

    assert isinstance(release.judge_undecided(), Refused) and not release.admits()
    assert release.verdicts() == before and release.judge() is None


@pytest.fixture
def intake(world, make):
    """The intake gate with an image that it admits."""
    pieces = Pieces(world, make)
    materials = (Material(name=BASE.repository, digest=BASE.digest, curated=True),)
    built = {"provenance": (DEV, PROVENANCE, make.provenance(built={"materials": materials}))}
    for piece in (pieces.development | built).values():
        pieces.attach(OFFERED, *piece)
    evidence = world.store(TierName.CURATION)
    ports = VerdictPorts(
        Gate.INTAKE, evidence, world.verdict_store(TierName.CURATION), world.ecr, lambda: INTAKE, lambda: (),
        lambda: make.noon + timedelta(hours=1),
    )  # fmt: skip

    def read():
        return read_intake_facts(OFFERED, evidence, (), None)

    def decide(act, ref=OFFERED):
        world.now = make.noon + timedelta(hours=2)
        at = make.noon + timedelta(minutes=len(world.registry.refs()))
        sign_decision(ref, act, world.store(TierName.LIFECYCLE), world.ecr, by="ann", reason="bad", now=at)

    def current():
        return read_current_verdict(ports.verdicts, OFFERED, Gate.INTAKE)

    def verdicts_of_gate():
        places = (CURATED, locate_refusals(OFFERED))
        found = (each for place in places for each in evidence.read_verified(place, TierName.CURATION))
        return list_verdicts(found, Gate.INTAKE, OFFERED.digest)

    def judge(policy=lambda: INTAKE):
        return judge_published(OFFERED, "", read, replace(ports, policy=policy))

    facts = read()
    record(evaluate(facts, INTAKE, make.noon), facts, evidence, make.noon)
    return SimpleNamespace(judge=judge, decide=decide, current=current, verdicts=verdicts_of_gate)


def test_block_reaches_the_published_intake_verdict_until_it_is_lifted(intake):
    """It leaves no signed refusal; the new admission rests on the block and its end."""
    before = intake.verdicts()
    intake.decide(Act.BLOCK)
    assert intake.current().admits

    assert isinstance(intake.judge(), Refused) and not intake.current().admits
    assert [each["code"] for each in intake.current().verdict.cscm.reasons] == ["image.blocked"]
    assert intake.judge() is None and intake.verdicts() == before

    intake.decide(Act.UNBLOCK)
    assert isinstance(intake.judge(), Admitted) and intake.current().admits
    assert len(intake.verdicts()) == len(before) + 1 and intake.judge() is None


def test_intake_gate_signs_no_refusal_about_an_image_that_was_curated(intake):
    """The deploy gate would refuse what runs, because of evidence that was good enough when curation took it."""
    before = intake.verdicts()

    assert isinstance(intake.judge(lambda: policy(Gate.INTAKE, rule("a.b"))), Refused)

    assert not intake.current().admits and intake.verdicts() == before


def test_inactive_intake_gate_refuses_only_blocked_image(intake):
    """The gate never asks for bases, so neither does what stands in for it."""
    intake.decide(Act.BLOCK, BASE)
    with pytest.raises(PolicyUnsigned):
        intake.judge(raise_unsigned)
    assert intake.current().admits

    intake.decide(Act.BLOCK)
    assert isinstance(intake.judge(raise_unsigned), Refused) and not intake.current().admits
