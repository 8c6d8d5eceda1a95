"""A verdict kept is read back by the next gate."""

from datetime import timedelta

import pytest

from supply_chain.errors import ClockWrong, GateOvertaken
from supply_chain.evidence.statement import DEPLOYMENT, SIGNATURE, SUMMARY
from supply_chain.evidence.summary import last_verdict
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.gate import Dossier, Place, Policy, judge
from supply_chain.policy.outcome import Admitted, Reason, Refused
from supply_chain.policy.verdict import decide, record, verdict_places

IMAGE = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)
CURATED = IMAGE.moved_to("curated/hello")
ELSEWHERE = IMAGE.moved_to("evidence/curation/hello")
REASON = Reason(code="a.b", fact="f", remedy="r")


@pytest.mark.parametrize("reasons", [(), (REASON,)], ids=["admitted", "refused"])
def test_a_verdict_is_signed_where_the_tier_says_about_the_image_it_judged(world, make, reasons):
    """Yes and no alike, with the policy and every reason."""
    store = world.store(TierName.CURATION)
    dossier = Dossier(image="x", ref=IMAGE, manifest=None, evidence=(), source=make.source(dirty=True))
    policy = Policy(Gate.INTAKE, (lambda _: reasons,), "1")

    record(judge(dossier, policy), dossier, store, make.noon)

    where = IMAGE.moved_to("evidence/curation/hello") if reasons else CURATED
    (found,) = world.store(TierName.EXECUTION).verified(where, TierName.CURATION)
    assert found.predicate_type == SUMMARY
    verdict = last_verdict([found], Gate.INTAKE, IMAGE.digest).value
    assert verdict.passed is not bool(reasons)
    assert verdict.resource_uri == str(IMAGE)
    assert f"sha256:{verdict.policy.digest['sha256']}" == policy.digest
    assert list(verdict.cscm.reasons) == [r.model_dump() for r in reasons]
    assert bool(verdict.cscm.notes) is not bool(reasons)


@pytest.mark.parametrize(("gate", "admitted", "repositories"), [
    (Gate.INTAKE, True, ["curated/hello"]),
    (Gate.INTAKE, False, ["evidence/curation/hello"]),
    (Gate.RELEASE, True, ["curated/hello"]),
    (Gate.RELEASE, False, ["curated/hello", "evidence/curation/hello"]),
    (Gate.DEPLOY, True, ["evidence/execution/hello"]),
    (Gate.DEPLOY, False, ["evidence/execution/hello"]),
])  # fmt: skip
def test_a_verdict_lies_where_the_tier_that_gives_it_may_write(gate, admitted, repositories):
    """Beside the image, where that is its own by then, else in its repository for evidence; there each no, too."""
    for ref in (IMAGE, CURATED):
        places = verdict_places(ref, gate, admitted=admitted)
        assert places == tuple(map(IMAGE.moved_to, repositories))


def test_a_no_is_still_known_where_somebody_removed_what_lies_beside_the_image(world, make, kept):
    """The lifecycle may do that, and moves no image forward by it."""
    kept()
    beside = kept((REASON,), at=60)
    store = world.store(TierName.EXECUTION)
    del world.registry.held[CURATED.repository][beside]

    found = [e for place in (CURATED, ELSEWHERE) for e in store.verified(place, TierName.CURATION)]

    assert not last_verdict(found, Gate.RELEASE, CURATED.digest).value.passed
    kept(at=120)
    found = [e for place in (CURATED, ELSEWHERE) for e in store.verified(place, TierName.CURATION)]
    assert last_verdict(found, Gate.RELEASE, CURATED.digest).value.passed, "a later yes counts"


@pytest.mark.parametrize("lost", [CURATED, ELSEWHERE], ids=["beside it", "in the evidence"])
def test_a_no_of_which_one_half_was_never_written_is_made_whole(world, kept, lost):
    """A run was killed between the two, or the registry did not answer: the next one says the same in both places."""
    first = kept((REASON,))
    world.registry.held[lost.repository].clear()

    again = kept((REASON,), at=60)

    store = world.store(TierName.EXECUTION)
    found = [e for place in (CURATED, ELSEWHERE) for e in store.verified(place, TierName.CURATION)]
    assert len(found) == 2 and found[0].predicate == found[1].predicate
    assert again == found[0].digest and (again == first) is (lost == ELSEWHERE)


def test_a_verdict_names_the_evidence_it_rests_on(world, make):
    """By digest, so that anybody can judge again."""
    dev = world.store(TierName.DEVELOPMENT)
    digest = dev.attach(IMAGE, SUMMARY, {}, make.noon)
    dossier = Dossier(image="x", ref=IMAGE, manifest=None, evidence=dev.verified(IMAGE, TierName.DEVELOPMENT))
    verdict = judge(dossier, Policy(Gate.INTAKE, (lambda _: (),), "1"))

    record(verdict, dossier, world.store(TierName.CURATION), make.noon)

    (found,) = world.store(TierName.EXECUTION).verified(CURATED, TierName.CURATION)
    assert found.predicate["inputAttestations"] == [
        {"uri": f"dev/hello@{digest}", "digest": {"sha256": digest.removeprefix("sha256:")}}
    ]


@pytest.fixture
def kept(world, make):
    """Judge and keep the verdict; by default the same way every time."""

    def run(reasons=(), evidence=(), at=0, version="1", gate=Gate.RELEASE, known=True, environment=None):
        store = world.store(TierName.CURATION)
        own = [e for place in (CURATED, ELSEWHERE) for e in store.verified(place, TierName.CURATION)] if known else ()
        place = Place(environment) if environment else None
        dossier = Dossier(image="x", ref=CURATED, manifest=None, evidence=(*evidence, *own), place=place)
        verdict = judge(dossier, Policy(gate, (lambda _: reasons,), version))
        return record(verdict, dossier, store, make.noon + timedelta(seconds=at))

    return run


def evidence(world, make, kind="x", signer=TierName.DEVELOPMENT):
    store = world.store(signer)
    digest = store.attach(CURATED, kind, {}, make.noon)
    return tuple(e for e in store.verified(CURATED, signer) if e.digest == digest)


def test_the_same_verdict_on_the_same_evidence_is_kept_once(world, make, kept):
    """A second run finds it, and adds nothing."""
    seen = evidence(world, make)

    assert kept(evidence=seen) == kept(evidence=seen, at=60)


@pytest.mark.parametrize(
    "change", [{"reasons": (REASON,)}, {"version": "2"}, {"evidence": ()}, {"environment": "production"}], ids=str
)
def test_another_verdict_or_policy_or_evidence_is_kept_too(world, make, kept, change):
    """What changed is told, with its own time."""
    seen = evidence(world, make)

    assert kept(evidence=seen) != kept(**{"evidence": seen, "at": 60, **change})


def test_a_verdict_says_for_which_environment_it_was_asked(kept, world):
    """What one takes, another may not."""
    kept(environment="production")
    kept(at=1)

    found = world.store(TierName.CURATION).verified(CURATED, TierName.CURATION)
    assert sorted(each.predicate["cscm"]["environment"] for each in found) == ["", "production"]


def test_a_yes_after_a_no_is_kept_although_there_was_a_yes_before(kept):
    """The last one counts, so that it has to be the last one again."""
    first, _, last = kept(), kept((REASON,), at=1), kept(at=2)

    assert first != last


def test_a_yes_that_a_no_overtook_is_not_kept(kept, world):
    """It was given before, on less; kept now it would outweigh the no. The other way round nothing is lost."""
    kept()
    kept((REASON,), at=1)

    with pytest.raises(GateOvertaken):
        kept(at=2, known=False)
    found = world.store(TierName.EXECUTION).verified(CURATED, TierName.CURATION)
    assert not last_verdict(found, Gate.RELEASE, CURATED.digest).value.passed
    kept(at=3)
    kept(at=3, version="2", known=False)
    kept((REASON,), at=4, known=False)
    kept((REASON,), at=4, version="2", known=False)
    kept((REASON,), at=5, gate=Gate.INTAKE)
    kept(at=6, gate=Gate.INTAKE, known=False)


def test_of_several_verdicts_the_last_is_the_one_that_stands(kept):
    """Whoever asks for it is not given the one before."""
    _, last = kept((REASON,)), kept(at=1)

    assert kept(at=2) == last


@pytest.mark.parametrize("words", ["nyn", "yny", "nyyn", "ynny"])
def test_whatever_was_said_in_between_the_last_word_is_the_last(world, make, kept, words):
    """A no of the intake gate lies in another repository than its yes: each repeats what it said before the other."""
    for hours, word in enumerate(words):
        kept((REASON,) if word == "n" else (), at=3600 * hours, gate=Gate.INTAKE)

    store = world.store(TierName.EXECUTION)
    found = [e for place in (CURATED, ELSEWHERE) for e in store.verified(place, TierName.CURATION)]
    assert last_verdict(found, Gate.INTAKE, CURATED.digest).value.passed is (words[-1] == "y")


@pytest.mark.parametrize("back", [1, 60, 299])
def test_a_clock_that_was_set_back_hides_no_verdict(world, make, kept, back):
    """The new one is of a later time than the one that it replaces, and no later than it has to be."""
    kept(at=240)
    kept((REASON,), at=240 - back)

    (yes, no) = world.store(TierName.EXECUTION).verified(CURATED, TierName.CURATION)
    last = last_verdict([yes, no], Gate.RELEASE, CURATED.digest)
    assert not last.value.passed
    assert last.at == make.noon + timedelta(seconds=240, microseconds=1)


@pytest.mark.parametrize(("kind", "signer", "same"), [
    (SUMMARY, TierName.CURATION, True), (SIGNATURE, TierName.CURATION, True),
    (SUMMARY, TierName.DEVELOPMENT, False), ("x", TierName.CURATION, False),
])  # fmt: skip
def test_what_a_gate_concluded_itself_is_no_ground_for_its_verdict(world, make, kept, kind, signer, same):
    """Otherwise every verdict would be another one than the one before."""
    first = kept()

    assert (kept(evidence=evidence(world, make, kind, signer), at=60) == first) is same


def test_a_statement_that_only_reads_like_a_verdict_is_none(world, make, kept):
    """It is of another type: the verdict is kept as one."""
    first = kept()
    store = world.store(TierName.CURATION)
    (verdict,) = store.verified(CURATED, TierName.CURATION)
    world.registry.held[CURATED.repository].clear()
    store.attach(CURATED, "x", verdict.predicate, make.noon)

    kept()

    assert SUMMARY in [e.predicate_type for e in store.verified(CURATED, TierName.CURATION)]
    assert first == verdict.digest


def test_beside_a_statement_of_the_future_nothing_is_concluded(world, make, kept):
    """A deployment that was recorded so would count as the last one: it is told before another one starts."""
    ahead = world.now + timedelta(hours=1)
    world.store(TierName.CURATION).attach(CURATED, DEPLOYMENT, {"deployedAt": ahead.isoformat()}, make.noon)

    with pytest.raises(ClockWrong):
        kept()


class Repositories:
    """What was made."""

    def __init__(self):
        self.made = []

    def ensure_repository(self, repository, *, immutable, key):
        self.made.append((repository, immutable, key))


@pytest.mark.parametrize(("gate", "made"), [
    (Gate.INTAKE, [("evidence/curation/hello", True, None)]),
    (Gate.RELEASE, [("evidence/curation/hello", True, None)]),
    (Gate.DEPLOY, [("evidence/execution/hello", True, None)]),
])  # fmt: skip
def test_a_refusal_is_kept_at_once_and_an_admission_by_the_step_that_it_lets_happen(world, make, gate, made):
    """Beside an image of the judge's own no repository has to be made."""
    tier = TierName.EXECUTION if gate is Gate.DEPLOY else TierName.CURATION
    store, ref = world.store(tier), IMAGE if gate is Gate.INTAKE else CURATED
    dossier, asked = Dossier(image="x", ref=ref, manifest=None, evidence=()), Repositories()

    yes = decide(dossier, Policy(gate, (lambda _: (),), "1"), asked, store, make.noon)
    assert isinstance(yes, Admitted) and (asked.made, world.registry.held) == ([], {})

    no = decide(dossier, Policy(gate, (lambda _: (REASON,),), "1"), asked, store, make.noon)
    assert isinstance(no, Refused) and asked.made == made
    for place in verdict_places(ref, gate, admitted=False):
        (kept,) = store.verified(place, tier)
        assert not last_verdict([kept], gate, ref.digest).value.passed
