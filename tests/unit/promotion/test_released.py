"""What is due at the deploy gate, by the statements about the images in `curated/*`."""

import pytest

from supply_chain.model.tier import Gate
from supply_chain.promotion.released import following
from tests.unit.promotion.conftest import CURATION


def test_a_vended_image_goes_to_the_first_environment_that_it_declares(chain):
    """And to the next once it has soaked there."""
    chain.release(1)
    assert chain.onward(1).to == "staging"

    chain.deploy(1)
    assert chain.onward(1).why == "it was deployed to staging"
    assert chain.onward(1, after="staging").why == "it has not soaked in staging yet, well for 0:01:00 without a break"

    chain.soak(1)
    move = chain.onward(1, after="staging")
    assert (move.to, move.after, move.asks) == ("production", "staging", False)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (61, "it has soaked in staging for 0:01:00 of 0:01:01"),
        (None, "staging says no `soak`, so that nothing goes on from there"),
    ],
)
def test_a_soak_counts_for_what_the_environment_asks_today(chain, asked, why):
    """Who asks for more, or lets nothing go on any more, is heard."""
    chain.release(1)
    chain.deploy(1)
    chain.soak(1, seconds=60)
    assert chain.onward(1, after="staging").to == "production"
    chain.asked = asked

    assert chain.onward(1, after="staging").why == why


def test_a_soak_of_a_container_that_was_replaced_counts_no_more(chain):
    """It says nothing of the same image with another configuration; a newer image in its place takes nothing away."""
    chain.release(1)
    chain.deploy(1)
    chain.soak(1)
    assert chain.onward(1, after="staging").to == "production"

    chain.deploy(1, container="3", hour=1)
    assert "has not soaked in staging yet" in chain.onward(1, after="staging").why
    chain.soak(1, container="3")
    assert chain.onward(1, after="staging").to == "production"

    chain.running["staging"] = 2
    assert chain.onward(1, after="staging").to == "production"


def test_what_never_ran_there_did_not_soak(chain):
    """An event could say so."""
    chain.release(1)
    chain.soak(1)

    assert chain.onward(1, after="staging").why == "it was never deployed to staging"


def test_a_soak_that_execution_did_not_sign_is_none(chain):
    """Whoever may push could attach one."""
    chain.release(1)
    chain.deploy(1)
    chain.soak(1, signer=CURATION)

    assert chain.onward(1, after="staging").why == "it has not soaked in staging yet, well for 0:01:00 without a break"


def test_where_the_environment_wants_approval_a_person_is_asked_once(chain):
    """A yes is enough, a no ends it, and a later yes begins it again."""
    chain.approval = "required"
    chain.release(1)
    chain.deploy(1)
    chain.soak(1)
    assert chain.onward(1, after="staging").asks

    chain.decide(1, "denied")
    assert chain.onward(1, after="staging").why == "Ada denied it for production: so"

    chain.decide(1, "approved", hour=1)
    move = chain.onward(1, after="staging")
    assert (move.to, move.asks) == ("production", False)


def test_an_approval_that_another_tier_signed_is_none(chain):
    """Only execution asks people."""
    chain.approval = "required"
    chain.release(1)
    chain.deploy(1)
    chain.soak(1)
    chain.decide(1, "approved", signer=CURATION)

    assert chain.onward(1, after="staging").asks


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"environments": []}, "it declares no environment"),
        ({"environments": ["nowhere"]}, "There is no environment 'nowhere'"),
    ],
)
def test_an_image_goes_only_where_it_says_and_where_there_is_a_place(chain, changes, why):
    """Nothing is started that could only fail."""
    chain.release(1, **changes)

    assert chain.onward(1).why == why


def test_an_application_without_a_place_there_is_not_deployed(chain):
    """Whoever runs the environment decides what runs in it."""
    chain.placed = ("production",)
    chain.release(1)

    assert chain.onward(1).why == "hello has no place in staging"


def test_a_base_and_an_image_without_provenance_go_nowhere(chain, make):
    """A base is built upon; of the other nobody knows where it may run."""
    base = make.base(name="hello")
    declared = {**base.model_dump(mode="json", exclude_none=True), "test": None, "probe": None}
    chain.release(1, **{key: declared[key] for key in ("kind", "check")}, test=None, probe=None, environments=None)

    assert chain.onward(1).why == "it is no service"
    assert chain.onward(2).why == "development signed no provenance of it"


def test_what_curation_does_not_vend_goes_nowhere(chain):
    """Its last verdict is a no."""
    chain.release(1)
    chain.judge(1, Gate.RELEASE, "x.y", hour=1)

    assert chain.onward(1).why == "curation did not release it"


def test_a_refusal_at_boundary_2_stays_one(chain):
    """The gate is not asked again by events."""
    chain.release(1)
    chain.judge(1, Gate.DEPLOY, "scan.high")

    assert chain.onward(1).why == "it was refused at the deploy gate: scan.high"


@pytest.mark.parametrize(("codes", "goes"), [
    (("base.blocked",), True), (("image.blocked", "verdict.release.refused"), True),
    (("image.blocked", "approval.missing", "scan.old"), True), (("base.blocked", "scan.high"), False),
])  # fmt: skip
def test_a_refusal_for_a_block_ends_with_it(chain, codes, goes):
    """Once curation said yes again, which rests on the block's end."""
    chain.release(1)
    chain.judge(1, Gate.DEPLOY, *codes, hour=1)
    assert "refused at the deploy gate" in chain.onward(1).why

    chain.judge(1, Gate.RELEASE, hour=2)

    assert (chain.onward(1).to == "staging") is goes


@pytest.mark.parametrize("code", ["approval.missing", "placement.not-declared"])
def test_a_refusal_for_one_environment_says_nothing_of_another(chain, code):
    """Somebody tried production by hand before its time."""
    chain.release(1)
    chain.judge(1, Gate.DEPLOY, code)

    assert chain.onward(1).to == "staging"


def test_an_old_image_never_takes_the_place_of_a_newer_one(chain):
    """Late events and long approvals end there."""
    chain.release(1)
    chain.deploy(1)
    chain.soak(1)
    chain.release(2)
    assert chain.onward(1, after="staging").to == "production"

    chain.running["production"] = 2
    assert "runs there, and was curated after it" in chain.onward(1, after="staging").why


def test_an_old_image_does_not_take_the_place_of_a_newer_one_that_was_blocked(chain):
    """Its archive is not in the registry's list of what can be pulled: what runs there is newer all the same."""
    chain.release(1)
    chain.release(2)
    chain.deploy(2)
    chain.archived.append(2)

    assert "runs there, and was curated after it" in chain.onward(1).why
    assert chain.missed() == ()
    chain.release(3)
    assert [(move.image, move.to) for move in chain.missed()] == [(chain.curated(3), "staging")]


def test_a_newer_one_that_was_blocked_before_it_ran_stands_in_nobodys_way(chain):
    """Nothing of it is there."""
    chain.release(1)
    chain.release(2)
    chain.archived.append(2)

    assert chain.onward(1).to == "staging"


def test_where_the_registry_has_lost_what_runs_only_what_was_judged_later_takes_its_place(chain):
    """Of the rest nobody can tell whether it is newer; a person can, and deploys it by hand."""
    chain.release(1)
    chain.release(2)
    chain.deploy(2)
    chain.released.remove(2)

    assert "nobody can tell which is newer" in chain.onward(1).why
    assert chain.missed() == ()
    chain.release(3, hour=1)
    assert chain.onward(3).to == "staging"
    chain.running["staging"] = 4  # of which no record is there
    assert "nobody can tell which is newer" in chain.onward(3).why


def test_a_newer_vended_image_goes_first(chain):
    """The event of the older one came late."""
    chain.release(1)
    chain.release(2)

    assert "was curated after it" in chain.onward(1).why
    assert chain.onward(2).to == "staging"


def test_a_newer_image_that_is_not_vended_stands_in_nobodys_way(chain):
    """It was refused, or is still on its way."""
    chain.release(1)
    chain.released.append(2)

    assert chain.onward(1).to == "staging"


@pytest.mark.parametrize(("after", "to"), [(None, "a"), ("a", "b"), ("b", "c"), ("c", None), ("elsewhere", None)])
def test_environments_follow_each_other_as_declared(after, to):
    """After the last there is none, and after one that is not declared neither."""
    assert following(("a", "b", "c"), after) == to
    assert following((), after) is None


@pytest.mark.parametrize(("soaked", "to"), [(None, ""), (59, ""), (60, "production")])
def test_an_image_that_declares_less_goes_nowhere_without_the_soak_that_is_asked_for(chain, soaked, to):
    """The gate would refuse it; nobody starts that, and the move says why."""
    chain.after = "staging"
    chain.release(1, environments=["production"])
    if soaked:
        chain.soak(1, seconds=soaked)

    move = chain.onward(1)

    assert move.to == to
    assert move.why == ("" if to else "production takes only what soaked in staging, and it did not")


def test_an_environment_after_one_without_a_soak_takes_nothing(chain):
    """What is wrong with its document is the reason."""
    chain.after, chain.asked = "staging", None
    chain.release(1, environments=["production"])

    assert chain.onward(1).why.startswith("production takes only what soaked in staging, which says no `soak`")


def test_records_of_deployments_are_read_by_environment(chain):
    """One in production is none in staging."""
    chain.release(1)
    chain.deploy(1, "production")

    assert chain.onward(1).to == "staging"
