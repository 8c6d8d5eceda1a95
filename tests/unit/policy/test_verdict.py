"""A recorded verdict can be read by the next gate."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from supply_chain.errors import ClockWrong, GateSuperseded, RegistryUnavailable, SettingInvalid, VerdictMissing
from supply_chain.evidence.clock import INSTANT
from supply_chain.evidence.image_status import Act, compute_image_status, read_image_status, sign_decision
from supply_chain.evidence.published import name_in_registry, read_current_verdict
from supply_chain.evidence.statement import DEPLOYMENT, SIGNATURE, SUMMARY
from supply_chain.evidence.summary import RefusedRule, find_last_verdict, make_summary
from supply_chain.model.image import ImageRef, Material, digest_of
from supply_chain.model.tier import JUDGE, Gate, TierName
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import IMAGE_BLOCKED, Admitted, Reason, Refused
from supply_chain.policy.people import FILE, read_people
from supply_chain.policy.refused_rules import NOT_WAIVABLE
from supply_chain.policy.reviews import DIRECTORY as REVIEWS
from supply_chain.policy.reviews import read_reviews
from supply_chain.policy.signed_documents import DocumentKind
from supply_chain.policy.verdict import decide, locate_verdicts, publish_refusal, record
from supply_chain.policy.vex import Vex
from supply_chain.policy.waivers import DIRECTORY, Waivers, read_waivers
from tests.support.builders import NOON, OTHER
from tests.support.facts import (
    CURATED,
    FACTS,
    deploy_facts,
    intake_facts,
    provenance_of,
    release_facts,
    requirements,
)
from tests.support.facts import OFFERED as IMAGE
from tests.support.people import Office
from tests.support.policies import policy, refusing, rule, with_waivers
from tests.support.present import present

ELSEWHERE, DEPLOYED = (
    IMAGE.with_repository("evidence/curation/hello"),
    IMAGE.with_repository("evidence/execution/hello"),
)
REASON = Reason(code="a.b", fact="f", remedy="r")


@pytest.mark.parametrize("reasons", [(), (REASON,)], ids=["admitted", "refused"])
def test_verdict_is_signed_with_image_policy_and_reasons(world, make, reasons):
    """Admissions and refusals are recorded in the same way."""
    store = world.store(TierName.CURATION)
    facts = intake_facts(provenance=provenance_of(source=make.source(dirty=True)))
    noting = rule("source.uncommitted", severity="warn", expression="!image.build.uncommitted")
    asked = policy(Gate.INTAKE, noting, *map(refusing, reasons))

    record(evaluate(facts, asked, NOON), facts, store, make.noon)

    where = IMAGE.with_repository("evidence/curation/hello") if reasons else CURATED
    (found,) = world.store(TierName.EXECUTION).read_verified(where, TierName.CURATION)
    assert found.predicate_type == SUMMARY
    verdict = present(find_last_verdict([found], Gate.INTAKE, IMAGE.digest)).value
    assert verdict.passed is not bool(reasons)
    assert verdict.resource_uri == str(IMAGE)
    assert f"sha256:{verdict.policy.digest['sha256']}" == asked.digest
    assert list(verdict.cscm.reasons) == [r.model_dump() for r in reasons]
    assert verdict.cscm.policies == ("test 1",)
    assert verdict.cscm.notes == ("wrong",)


def test_verdict_names_its_waivers_and_ends_with_the_first(world, make, tmp_path):
    """Whoever reads the verdict later needs no waiver to see until when it counts."""
    office = Office(tmp_path)
    office.write_people()
    office.waive("long", rules=("a.b",))
    office.waive("short", rules=("a.c",), expires=NOON + timedelta(days=1))
    people = read_people(tmp_path / FILE, office.people_owner, NOON)
    waivers = read_waivers(tmp_path / DIRECTORY, people, {"a.b": True, "a.c": True}, NOON).valid
    refused = policy(Gate.INTAKE, *(refusing(Reason(code=code, fact="f", remedy="r")) for code in ("a.b", "a.c")))
    files = ("long", "short")
    store, facts = world.store(TierName.CURATION), intake_facts()

    for asked in (policy(Gate.INTAKE), with_waivers(refused, waivers)):
        record(evaluate(facts, asked, NOON), facts, store, make.noon)
        found = world.store(TierName.EXECUTION).read_verified(CURATED, TierName.CURATION)
        last = present(find_last_verdict(found, Gate.INTAKE, IMAGE.digest)).value
        assert last.passed
        named = [f"{name}@{digest_of((tmp_path / DIRECTORY / f'{name}.yaml').read_bytes())}" for name in files]
        assert last.cscm.waivers == (tuple(named) if asked.waivers else ())
        assert last.cscm.break_glass == ""
        assert last.cscm.expires == (NOON + timedelta(days=1) if asked.waivers else None)
        assert last.has_expired(NOON + timedelta(days=1)) is bool(asked.waivers)
        assert not last.has_expired(NOON + timedelta(hours=23))


@pytest.mark.parametrize(("passed", "days", "ends"), [(True, 1, True), (True, 0, True), (False, 1, False)])
def test_admission_at_the_deploy_gate_ends_with_those_of_earlier_gates(world, passed, days, ends):
    """Enforcers read only its verdict. Policies without the rule about the end admit an image until the end, too."""
    end = NOON + timedelta(days=days)
    earlier = make_summary(
        CURATED, Gate.RELEASE, "sha256:" + "9" * 64, reasons=[] if passed else [REASON.model_dump()], notes=(),
        inputs=(), now=NOON, expires=end,
    )  # fmt: skip
    facts, store = deploy_facts(verdicts={Gate.RELEASE: earlier}), world.store(TierName.EXECUTION)

    record(evaluate(facts, policy(Gate.DEPLOY), NOON), facts, store, NOON)

    found = store.read_verified(CURATED.with_repository("evidence/execution/hello"), TierName.EXECUTION)
    assert present(find_last_verdict(found, Gate.DEPLOY, CURATED.digest)).value.cscm.expires == (end if ends else None)


@pytest.mark.parametrize(("gate", "admitted", "repositories"), [
    (Gate.INTAKE, True, ["curated/hello"]),
    (Gate.INTAKE, False, ["evidence/curation/hello"]),
    (Gate.RELEASE, True, ["curated/hello"]),
    (Gate.RELEASE, False, ["curated/hello", "evidence/curation/hello"]),
    (Gate.DEPLOY, True, ["evidence/execution/hello"]),
    (Gate.DEPLOY, False, ["evidence/execution/hello"]),
])  # fmt: skip
def test_verdict_places_are_repositories_the_tier_may_write(gate, admitted, repositories):
    """A refusal always goes to the evidence repository, where the lifecycle does not delete it."""
    for ref in (IMAGE, CURATED):
        places = locate_verdicts(ref, gate, admitted=admitted)
        assert places == tuple(map(IMAGE.with_repository, repositories))


def test_refusal_survives_deletion_of_referrers_of_image(world, make, judge):
    """The lifecycle may delete referrers of the image, and must not promote it by doing so."""
    judge()
    digest = judge((REASON,), at=60)
    store = world.store(TierName.EXECUTION)
    world.registry.remove(CURATED.with_digest(digest))

    found = [e for place in (CURATED, ELSEWHERE) for e in store.read_verified(place, TierName.CURATION)]

    assert not present(find_last_verdict(found, Gate.RELEASE, CURATED.digest)).value.passed
    judge(at=120)
    found = [e for place in (CURATED, ELSEWHERE) for e in store.read_verified(place, TierName.CURATION)]
    assert present(find_last_verdict(found, Gate.RELEASE, CURATED.digest)).value.passed, "a later yes counts"


@pytest.mark.parametrize("gate", [Gate.INTAKE, Gate.RELEASE])
@pytest.mark.parametrize("is_admitted", [True, False])
def test_refusal_is_attached_to_image_with_earlier_admission(world, judge, gate, is_admitted):
    """Builds read what is attached to a base, and nothing else of curation."""
    if is_admitted:
        judge(gate=gate)
    judge((REASON,), at=60, gate=gate)

    last = find_last_verdict(
        world.store(TierName.EXECUTION).read_verified(CURATED, TierName.CURATION), gate, CURATED.digest
    )

    assert (last is None) is (gate is Gate.INTAKE and not is_admitted)
    assert last is None or not last.value.passed


def test_refusal_is_published_again_after_deletion_of_an_admission(world, judge):
    """The refusal before counts again, and nobody may find the admission that came after it."""
    judge((REASON,))
    admission = judge(at=60)
    assert read_current_verdict(world.verdict_store(TierName.CURATION), CURATED, Gate.RELEASE).admits
    world.registry.remove(CURATED.with_digest(admission))

    judge((REASON,), at=120)

    assert not read_current_verdict(world.verdict_store(TierName.CURATION), CURATED, Gate.RELEASE).admits


@pytest.mark.parametrize("lost", [CURATED, ELSEWHERE], ids=["beside it", "in the evidence"])
def test_refusal_is_written_again_where_one_copy_is_missing(world, judge, lost):
    """A run may stop between the two writes; the next run completes them with the same predicate."""
    first = judge((REASON,))
    del world.registry.repositories[lost.repository]

    again = judge((REASON,), at=60)

    store = world.store(TierName.EXECUTION)
    found = [e for place in (CURATED, ELSEWHERE) for e in store.read_verified(place, TierName.CURATION)]
    assert len(found) == 2 and found[0].predicate == found[1].predicate
    assert again == found[0].digest and (again == first) is (lost == ELSEWHERE)


def test_verdict_lists_its_evidence_by_digest(world, make):
    """Anybody can repeat the verdict from the same evidence."""
    dev = world.store(TierName.DEVELOPMENT)
    digest = dev.attach(IMAGE, SUMMARY, {}, make.noon)
    facts = intake_facts(evidence=dev.read_verified(IMAGE, TierName.DEVELOPMENT))
    verdict = evaluate(facts, policy(Gate.INTAKE), NOON)

    record(verdict, facts, world.store(TierName.CURATION), make.noon)

    (found,) = world.store(TierName.EXECUTION).read_verified(CURATED, TierName.CURATION)
    assert found.predicate["inputAttestations"] == [
        {"uri": f"dev/hello@{digest}", "digest": {"sha256": digest.removeprefix("sha256:")}}
    ]


@pytest.fixture
def judge(world, make):
    """Return a function that judges and records a verdict; by default it is the same verdict every time."""

    def run(reasons=(), evidence=(), at=0, more_rules=(), gate=Gate.RELEASE, reads_own=True, newer=None, **changes):
        store = world.store(TierName.EXECUTION if gate is Gate.DEPLOY else TierName.CURATION)
        places = {CURATED: TierName.CURATION, ELSEWHERE: TierName.CURATION, DEPLOYED: TierName.EXECUTION}
        own = [e for place, tier in places.items() for e in store.read_verified(place, tier)] if reads_own else ()
        facts = FACTS[gate](**{"ref": CURATED, "evidence": (*evidence, *own), **changes})
        verdict = evaluate(facts, policy(gate, *more_rules, *map(refusing, reasons)), NOON)
        newer_than = None if newer is None else make.noon + timedelta(seconds=newer)
        return record(verdict, facts, store, make.noon + timedelta(seconds=at), newer_than)

    return run


def evidence(world, make, kind="x", signer=TierName.DEVELOPMENT):
    store = world.store(signer)
    digest = store.attach(CURATED, kind, {}, make.noon)
    return tuple(e for e in store.read_verified(CURATED, signer) if e.digest == digest)


def test_same_verdict_on_same_evidence_is_recorded_once(world, make, judge):
    """A second run finds the verdict and adds nothing."""
    statements = evidence(world, make)

    assert judge(evidence=statements) == judge(evidence=statements, at=60)


@pytest.mark.parametrize(("newer", "same"), [(-1, True), (0, False)])
def test_same_verdict_is_recorded_again_if_it_is_too_old(judge, newer, same):
    first = judge()

    assert (judge(at=60, newer=newer) == first) is same


@pytest.mark.parametrize(
    "change",
    [{"reasons": (REASON,)}, {"more_rules": (rule("held.always", expression="image.digest != ''"),)}, {"evidence": ()}],
    ids=["reason", "policy", "evidence"],
)
def test_verdict_is_recorded_again_if_an_input_changes(world, make, judge, change):
    """A changed result, policy or evidence makes a new verdict with its own time."""
    statements = evidence(world, make)

    assert judge(evidence=statements) != judge(**{"evidence": statements, "at": 60, **change})


def test_verdict_of_deploy_gate_records_its_environment(judge, world):
    """Another environment may judge differently, so that each has its own verdict."""
    judge(gate=Gate.DEPLOY, environment=requirements("production"))
    judge(gate=Gate.DEPLOY, environment=requirements("staging"), at=1)
    judge(at=2)

    def environments(place, tier):
        found = world.store(tier).read_verified(CURATED.with_repository(place), tier)
        return sorted(each.predicate["cscm"]["environment"] for each in found)

    assert environments("evidence/execution/hello", TierName.EXECUTION) == ["production", "staging"]
    assert environments("curated/hello", TierName.CURATION) == [""]


def test_admission_after_refusal_is_recorded_again(judge):
    """The newest verdict counts, so the earlier admission is not enough."""
    first, _, last = judge(), judge((REASON,), at=1), judge(at=2)

    assert first != last


def test_admission_superseded_by_refusal_is_not_recorded(judge, world):
    """It rests on older evidence and would supersede the refusal; a late refusal does no harm."""
    judge()
    judge((REASON,), at=1)

    with pytest.raises(GateSuperseded):
        judge(at=2, reads_own=False)
    found = world.store(TierName.EXECUTION).read_verified(CURATED, TierName.CURATION)
    assert not present(find_last_verdict(found, Gate.RELEASE, CURATED.digest)).value.passed
    judge(at=3)
    judge(at=3, more_rules=(rule("held.always", expression="image.digest != ''"),), reads_own=False)
    judge((REASON,), at=4, reads_own=False)
    judge((REASON,), at=4, more_rules=(rule("held.always", expression="image.digest != ''"),), reads_own=False)
    judge((REASON,), at=5, gate=Gate.INTAKE)
    judge(at=6, gate=Gate.INTAKE, reads_own=False)


def test_admission_overtaken_by_refusal_is_not_recorded(judge, world):
    """Of another environment, nothing is decided by that; an enforcer would read the admission until the next event."""

    def deploy(*reasons, at, where="staging", **how):
        judge(reasons, at=at, gate=Gate.DEPLOY, environment=requirements(where), **how)

    deploy(at=0)
    deploy(REASON, at=1)
    deploy(at=2, where="production", reads_own=False)

    with pytest.raises(GateSuperseded, match="refused at the deploy gate"):
        deploy(at=3, reads_own=False)
    assert not current(world, Gate.DEPLOY).admits
    deploy(at=4)
    assert current(world, Gate.DEPLOY).admits


def test_last_verdict_is_returned_if_there_are_several(judge):
    """A caller must not receive a superseded verdict."""
    _, last = judge((REASON,)), judge(at=1)

    assert judge(at=2) == last


@pytest.mark.parametrize("words", ["nyn", "yny", "nyyn", "ynny"])
def test_last_verdict_counts_after_any_sequence_of_verdicts(world, make, judge, words):
    """Refusals and admissions of the intake gate lie in different repositories, and each may repeat an earlier one."""
    for hours, word in enumerate(words):
        judge((REASON,) if word == "n" else (), at=3600 * hours, gate=Gate.INTAKE)

    store = world.store(TierName.EXECUTION)
    found = [e for place in (CURATED, ELSEWHERE) for e in store.read_verified(place, TierName.CURATION)]
    assert present(find_last_verdict(found, Gate.INTAKE, CURATED.digest)).value.passed is (words[-1] == "y")


@pytest.mark.parametrize("back", [1, 60, 299])
def test_verdict_after_clock_set_back_is_the_newest(world, make, judge, back):
    """Its time is moved one microsecond after the verdict that it replaces."""
    judge(at=240)
    judge((REASON,), at=240 - back)

    (yes, no) = world.store(TierName.EXECUTION).read_verified(CURATED, TierName.CURATION)
    last = present(find_last_verdict([yes, no], Gate.RELEASE, CURATED.digest))
    assert not last.value.passed
    assert last.at == make.noon + timedelta(seconds=240, microseconds=1)


@pytest.mark.parametrize(("kind", "signer", "same"), [
    (SUMMARY, TierName.CURATION, True), (SIGNATURE, TierName.CURATION, True),
    (SUMMARY, TierName.DEVELOPMENT, False), ("x", TierName.CURATION, False),
])  # fmt: skip
def test_own_verdict_or_signature_is_not_evidence_of_a_verdict(world, make, judge, kind, signer, same):
    """Otherwise every repeated verdict would differ from the one before."""
    first = judge()

    assert (judge(evidence=evidence(world, make, kind, signer), at=60) == first) is same


def test_statement_of_other_type_does_not_count_as_verdict(world, make, judge):
    """Only the predicate type makes a verdict, so the gate records its own."""
    first = judge()
    store = world.store(TierName.CURATION)
    (verdict,) = store.read_verified(CURATED, TierName.CURATION)
    del world.registry.repositories[CURATED.repository]
    store.attach(CURATED, "x", verdict.predicate, make.noon)

    judge()

    assert SUMMARY in [e.predicate_type for e in store.read_verified(CURATED, TierName.CURATION)]
    assert first == verdict.digest


def test_verdict_is_not_recorded_if_a_statement_is_from_the_future(world, make, judge):
    """A statement with a later time would wrongly count as the newest one."""
    ahead = world.now + timedelta(hours=1)
    world.store(TierName.CURATION).attach(CURATED, DEPLOYMENT, {"deployedAt": ahead.isoformat()}, make.noon)

    with pytest.raises(ClockWrong):
        judge()


@pytest.mark.parametrize(("gate", "made"), [
    (Gate.INTAKE, ["evidence/curation/hello", "verdicts/intake/hello"]),
    (Gate.RELEASE, ["evidence/curation/hello", "verdicts/release/hello"]),
    (Gate.DEPLOY, ["evidence/execution/hello", "verdicts/deploy/staging/hello"]),
])  # fmt: skip
def test_decide_records_refusals_only(world, make, gate, made):
    """The step after an admission records it, together with its effect."""
    tier = TierName.EXECUTION if gate is Gate.DEPLOY else TierName.CURATION
    store, ref = world.store(tier), IMAGE if gate is Gate.INTAKE else CURATED
    facts = FACTS[gate](ref=ref)

    yes = decide(facts, policy(gate), world.ecr, store, make.noon)
    assert isinstance(yes, Admitted) and world.registry.repositories == {}

    no = decide(facts, policy(gate, refusing(REASON)), world.ecr, store, make.noon)
    assert isinstance(no, Refused)
    assert [name for name in world.ecr.repositories("") if world.ecr.is_immutable(name)] == made
    for place in locate_verdicts(ref, gate, admitted=False):
        (recorded,) = store.read_verified(place, tier)
        assert not present(find_last_verdict([recorded], gate, ref.digest)).value.passed


def current(world, gate=Gate.RELEASE):
    """Return the published verdict, as others read it."""
    environment = "staging" if gate is Gate.DEPLOY else ""
    return read_current_verdict(world.verdict_store(TierName.EXECUTION), CURATED, gate, environment)


@pytest.mark.parametrize("gate", list(Gate))
def test_recorded_verdict_is_published_with_the_same_predicate(world, judge, gate):
    """The history in the evidence explains what is published."""
    ref = IMAGE if gate is Gate.INTAKE else CURATED
    for at, reasons in enumerate([(), (REASON,), ()]):
        digest = judge(reasons, at=at, gate=gate, ref=ref)

        found, tier = current(world, gate), TierName.EXECUTION if gate is Gate.DEPLOY else TierName.CURATION
        assert found.admits is not bool(reasons)
        (recorded,) = [
            each
            for repository in (CURATED.repository, ELSEWHERE.repository, "evidence/execution/hello")
            for each in world.store(TierName.EXECUTION).read_verified(CURATED.with_repository(repository), tier)
            if each.digest == digest
        ]
        assert name_in_registry(recorded.predicate, "registry.test") == found.verdict.predicate()


def failing(*_):
    raise RegistryUnavailable("The registry did not answer.\nStart it.")


@pytest.mark.parametrize(("reasons", "broken", "refusals"), [
    ((), "verdicts/", 1), ((), "curated/", 1),
    ((REASON,), "verdicts/", 1), ((REASON,), "curated/", 1), ((REASON,), "evidence/", 0),
])  # fmt: skip
def test_partly_recorded_verdict_is_completed_by_next_run(world, judge, monkeypatch, reasons, broken, refusals):
    """No refusal is lost, nobody reads an admission without its evidence, and the error is raised."""
    judge(() if reasons else (REASON,))
    attach = world.registry.attach
    monkeypatch.setattr(
        world.registry, "attach",
        lambda subject, *rest: (failing if subject.repository.startswith(broken) else attach)(subject, *rest),
    )  # fmt: skip

    with pytest.raises(RegistryUnavailable):
        judge(reasons, at=1)

    unpublished = bool(reasons) and broken == "verdicts/"
    with pytest.raises(VerdictMissing) if unpublished else nullcontext():
        assert not current(world).admits
    assert len(world.store(TierName.EXECUTION).read_verified(ELSEWHERE, TierName.CURATION)) == refusals
    monkeypatch.setattr(world.registry, "attach", attach)
    judge(reasons, at=1)
    assert current(world).admits is not bool(reasons)


def test_tier_without_verdict_key_does_not_judge(world, make):
    """Others would go on to enforce an older verdict."""
    store, facts = replace(world.store(TierName.CURATION), publisher=None), intake_facts()

    with pytest.raises(SettingInvalid, match="The block of the curation tier names no verdict_key"):
        record(evaluate(facts, policy(Gate.INTAKE), NOON), facts, store, make.noon)
    assert world.registry.refs() == ()


def test_published_refusal_without_evidence_is_replaced(world, make, monkeypatch):
    """Its run may still attach it for some minutes; after that, the same admission as before replaces it."""
    store, facts = world.store(TierName.CURATION), intake_facts()
    admitted = evaluate(facts, policy(Gate.INTAKE), NOON)
    first = record(admitted, facts, store, make.noon)
    assert record(admitted, facts, store, make.noon) == first
    attach, at = world.registry.attach, make.noon + timedelta(hours=1)

    def fail_at_evidence(ref, *given, **changes):
        if not ref.repository.startswith("verdicts/"):
            raise RegistryUnavailable("The registry did not answer.\nStart it.")
        return attach(ref, *given, **changes)

    monkeypatch.setattr(world.registry, "attach", fail_at_evidence)
    with pytest.raises(RegistryUnavailable):
        decide(facts, policy(Gate.INTAKE, refusing(REASON)), world.ecr, store, at)
    monkeypatch.setattr(world.registry, "attach", attach)
    assert not current(world, Gate.INTAKE).admits

    just_before = at + timedelta(minutes=5) - timedelta(microseconds=1)
    with pytest.raises(GateSuperseded, match="Run the same command again in 5 minutes: the image is judged"):
        record(admitted, facts, store, just_before)
    assert not current(world, Gate.INTAKE).admits
    assert record(admitted, facts, store, at + timedelta(minutes=5)) != first
    assert current(world, Gate.INTAKE).admits


def test_refusal_is_published_after_a_verdict_of_a_clock_ahead(world, make):
    """Its time is after the published one. It is no evidence."""
    store, facts = world.store(TierName.CURATION), release_facts()
    ahead = make.noon + timedelta(minutes=10)
    record(evaluate(facts, policy(Gate.RELEASE), NOON), facts, store, make.noon)
    refused = evaluate(facts, policy(Gate.RELEASE, refusing(REASON)), NOON)
    assert isinstance(refused, Refused)
    published = read_current_verdict(world.verdict_store(TierName.CURATION), CURATED, Gate.RELEASE).verdict
    before = world.store(TierName.CURATION).read_verified(ELSEWHERE, TierName.CURATION)

    publish_refusal(refused, facts, store, make.noon, published.model_copy(update={"time_verified": ahead}))

    found = read_current_verdict(world.verdict_store(TierName.CURATION), CURATED, Gate.RELEASE)
    assert not found.admits and found.verdict.time_verified == ahead + timedelta(microseconds=1)
    assert world.store(TierName.CURATION).read_verified(ELSEWHERE, TierName.CURATION) == before, "it is no evidence"


def sign_block(world, ref=CURATED):
    return sign_decision(ref, Act.BLOCK, world.store(TierName.LIFECYCLE), world.ecr, by="ann", reason="bad", now=NOON)


def read_published(world, gate):
    """Return the current verdict of a gate about the image."""
    store, environment = world.verdict_store(JUDGE[gate]), "staging" if gate is Gate.DEPLOY else ""
    return read_current_verdict(store, FACTS[gate]().ref, gate, environment)


@pytest.mark.parametrize("gate", Gate)
def test_block_signed_during_admission_refuses_image(world, gate):
    """Whoever signed it found no admission to correct. So did nobody who runs the same again within minutes."""
    asked = policy(gate, rule(IMAGE_BLOCKED, expression="!has(image.block)"))
    facts, store = FACTS[gate](), world.store(JUDGE[gate])
    verdict = evaluate(facts, asked, NOON)
    block = sign_block(world)
    later = NOON + timedelta(seconds=1)
    sign_decision(CURATED, Act.HOLD, world.store(TierName.LIFECYCLE), world.ecr, by="ann", reason="court", now=later)

    for seconds in (0, 60):
        with pytest.raises(GateSuperseded, match=f"refused at the {gate} gate .*\\nRun the same command again"):
            record(verdict, facts, store, NOON + timedelta(seconds=seconds))

        current = read_published(world, gate)
        assert not current.verdict.passed and current.verdict.time_verified == NOON + INSTANT
        (reason,) = current.verdict.cscm.reasons
        assert reason["code"] == "image.blocked" and reason["fact"].startswith("it was blocked by ann on 2026-11-24 ")
        assert current.verdict.cscm.notes == ("only the block counts: it was signed while the gate admitted the image",)
        assert current.verdict.cscm.policies == ("test 1",)
        refused = RefusedRule(rule=IMAGE_BLOCKED, policy="test 1", evidence=(block,), waiver=NOT_WAIVABLE)
        assert current.verdict.cscm.refused_rules == (refused,)
        assert f"sha256:{current.verdict.policy.digest['sha256']}" == asked.digest
        assert f"evidence/lifecycle/hello@{block}" in {each.uri for each in current.verdict.input_attestations}


@pytest.mark.parametrize(("gate", "wins"), [(Gate.INTAKE, False), (Gate.RELEASE, True), (Gate.DEPLOY, True)])
@pytest.mark.parametrize("use", ["base", "material"])
def test_block_of_base_signed_during_admission_refuses_image(world, make, gate, wins, use):
    """The gates that ask for bases also count what a build used under another name. The intake gate asks for none."""
    base = ImageRef(repository="curated/base/python", digest=OTHER)
    changes: dict[str, Any] = {}
    if use == "material":
        material = Material(name=base.repository, digest=base.digest, curated=True)
        changes = {"provenance": provenance_of(materials=(material,))}
    elif gate is not Gate.INTAKE:
        changes = {"bases": {str(base): None}}
    facts = FACTS[gate](**changes)
    verdict = evaluate(facts, policy(gate), NOON)
    block = sign_block(world, base)

    with pytest.raises(GateSuperseded) if wins else nullcontext():
        record(verdict, facts, world.store(JUDGE[gate]), NOON)

    current = read_published(world, gate).verdict
    assert current.passed is not wins
    assert [each["code"] for each in current.cscm.reasons] == (["base.blocked"] if wins else [])
    assert any(each.uri.startswith("evidence/lifecycle/") for each in current.input_attestations) is wins
    rests_on = [each for refused in current.cscm.refused_rules for each in refused.evidence]
    assert (rests_on == [block]) is (wins and use == "base") and len(rests_on) == wins
    assert {each.removeprefix("sha256:") for each in rests_on} <= {
        each.digest["sha256"] for each in current.input_attestations
    }
    assert {(each.rule, each.waiver) for each in current.cscm.refused_rules} <= {("base.blocked", NOT_WAIVABLE)}


@pytest.mark.parametrize("base", [False, True])
def test_block_known_to_gate_does_not_overtake_its_admission(world, base):
    """A policy may let people override it. Another block of it does."""
    place = ImageRef(repository="curated/base/python", digest=OTHER) if base else CURATED
    sign_block(world, place)
    status = compute_image_status(read_image_status(place, world.store(TierName.CURATION)).evidence)
    blocked = {"bases": {str(place): None}, "blocked_bases": {str(place): status.block}} if base else {"status": status}
    facts, store = release_facts(**blocked), world.store(TierName.CURATION)
    verdict = evaluate(facts, policy(Gate.RELEASE), NOON)

    record(verdict, facts, store, NOON)
    assert read_published(world, Gate.RELEASE).admits

    for act in (Act.UNBLOCK, Act.BLOCK):
        later = NOON + timedelta(minutes=1)
        sign_decision(place, act, world.store(TierName.LIFECYCLE), world.ecr, by="bob", reason="worse", now=later)
    with pytest.raises(GateSuperseded):
        record(verdict, facts, store, NOON + timedelta(minutes=2), NOON + timedelta(minutes=1))
    assert not read_published(world, Gate.RELEASE).admits


def test_refusal_is_recorded_although_the_image_is_blocked(world, judge):
    """It is published already; only an admission has to look again."""
    sign_block(world)
    judge((REASON,))

    assert [each["code"] for each in read_published(world, Gate.RELEASE).verdict.cscm.reasons] == ["a.b"]


@pytest.mark.parametrize("code", ["a.b", "always.held"])
def test_verdict_names_the_reviews_that_it_rests_on(world, make, tmp_path, code):
    """Each with the digest of its document: a changed one is another. An admission and a refusal alike.

    Reviews of other sources, and those that no rule reads, are not named.
    """
    office = Office(tmp_path)
    office.may, office.bob_may = {"emails": ["ann@shop.example"], "review": True}, {"review": True}
    office.write_people()
    source = make.source(committers=("bob@shop.example",))
    given = {"repository": source.repository, "revision": source.revision, "reason": "pull request 17"}
    for name, signer, changes in (
        ("own", office.ann, {}), ("no-address", office.bob, {}), ("other", office.ann, {"revision": "4" * 40}),
    ):  # fmt: skip
        office.write(tmp_path / REVIEWS / f"{name}.yaml", given | changes, DocumentKind.REVIEW, signer, NOON)
    people = read_people(tmp_path / FILE, office.people_owner, NOON)
    reviews = read_reviews(tmp_path / REVIEWS, people, NOON)
    reviewed = rule("a.reviewed", expression="size(image.build.reviewers) > 0")
    facts, store = intake_facts(provenance=provenance_of(source=source)), world.store(TierName.CURATION)
    others = {"a.b": (rule("a.b"),), "always.held": ()}[code]

    for rules, names in ((others, []), ((reviewed, *others), ["own"])):
        asked = policy(Gate.INTAKE, *rules).with_decisions(people, Waivers(), Vex(), reviews)
        record(evaluate(facts, asked, NOON), facts, store, NOON)

        verdict = read_published(world, Gate.INTAKE).verdict
        assert verdict.passed is (code == "always.held")
        files = [tmp_path / REVIEWS / f"{name}.yaml" for name in names]
        assert {each.uri: f"sha256:{each.digest['sha256']}" for each in verdict.input_attestations} == {
            f"deployments/reviews/{file.name}": digest_of(file.read_bytes()) for file in files
        }


def test_review_is_named_only_if_a_policy_that_judges_the_image_reads_it(world, make, tmp_path):
    """Another policy that asks for reviews may be for other applications; without a build there is no source."""
    office = Office(tmp_path)
    office.may = {"emails": ["ann@shop.example"], "review": True}
    office.write_people()
    source = make.source(committers=("bob@shop.example",))
    given = {"repository": source.repository, "revision": source.revision, "reason": "pull request 17"}
    office.write(tmp_path / REVIEWS / "one.yaml", given, DocumentKind.REVIEW, office.ann, NOON)
    people = read_people(tmp_path / FILE, office.people_owner, NOON)
    reviews = read_reviews(tmp_path / REVIEWS, people, NOON)
    reading = policy(
        Gate.INTAKE, rule("a.reviewed", when="has(image.build)", expression="size(image.build.reviewers) > 0")
    )
    held = policy(Gate.INTAKE)
    (of_others,) = reading.policies
    select = of_others.document.select.model_copy(update={"applications": ("other",)})
    of_others = replace(of_others, document=of_others.document.model_copy(update={"select": select}))
    facts = intake_facts(provenance=provenance_of(source=source))

    found = [
        evaluate(facts, asked.with_decisions(people, Waivers(), Vex(), reviews), NOON).reviews
        for facts, asked in (
            (facts, reading), (facts, replace(held, policies=(*held.policies, of_others))),
            (replace(facts, provenance=None), reading),
        )
    ]  # fmt: skip

    assert [len(each) for each in found] == [1, 0, 0]
