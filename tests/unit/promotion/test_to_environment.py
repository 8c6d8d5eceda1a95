"""Promotions to an environment, planned from statements about the images in `curated/*`."""

from datetime import timedelta

import pytest

from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.model.tier import Gate
from supply_chain.promotion.to_environment import find_next_environment
from tests.support.policies import DEPLOY, policy, rule
from tests.unit.promotion.chain import CURATION


def test_released_image_moves_through_declared_environments(chain):
    """It moves to the next environment after it has soaked in the one before."""
    chain.release(1)
    assert chain.onward(1).to == "staging"

    chain.deploy(1)
    assert chain.onward(1).reason == "it was deployed to staging"
    assert (
        chain.onward(1, after="staging").reason
        == "it has not been healthy in staging for 0:01:00 without interruption yet"
    )

    chain.soak(1)
    promotion = chain.onward(1, after="staging")
    assert (promotion.to, promotion.after, promotion.awaits_approval) == ("production", "staging", False)


def test_invalid_environment_refuses_its_promotions_only(chain):
    """The newest image goes on to a valid environment, although the one before it cannot leave that."""
    chain.release(1)
    chain.deploy(1)
    chain.soak(1)
    chain.release(2)
    chain.invalid = {"production": DeclarationInvalid("its approval is wrong\ncorrect it")}

    with pytest.raises(DeclarationInvalid):
        chain.onward(1, after="staging")
    newest, stays = chain.missed()
    assert (newest.image, newest.to) == (chain.curated(2), "staging")
    assert (stays.image, stays.to, stays.unreadable) == (chain.curated(1), "", True)
    assert stays.reason == "its approval is wrong — correct it [declaration.invalid]"


@pytest.mark.parametrize("error", [DeclarationInvalid, SettingInvalid])
def test_image_does_not_leave_environment_that_cannot_be_read(chain, error):
    """How long it had to soak there is unknown. It was deployed there already, which needs no document."""
    chain.release(1)
    chain.deploy(1)
    chain.soak(1)
    chain.invalid = {"staging": error("it is bad\ncorrect it")}

    with pytest.raises(error):
        chain.onward(1, after="staging")
    assert chain.onward(1).reason == "it was deployed to staging"


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (61, "it has soaked in staging for 0:01:00 of 0:01:01"),
        (None, "staging has no `soak`, so images are not promoted from there"),
    ],
)
def test_soak_counts_against_current_setting_of_environment(chain, asked, why):
    """A longer soak or a removed soak setting takes effect at once."""
    chain.release(1)
    chain.deploy(1)
    chain.soak(1, seconds=60)
    assert chain.onward(1, after="staging").to == "production"
    chain.asked = asked

    assert chain.onward(1, after="staging").reason == why


def test_soak_of_replaced_container_does_not_count(chain):
    """The new container may have another configuration; a newer image in its place does not invalidate the soak."""
    chain.release(1)
    chain.deploy(1)
    chain.soak(1)
    assert chain.onward(1, after="staging").to == "production"

    chain.deploy(1, container="3", hour=1)
    assert "has not been healthy in staging" in chain.onward(1, after="staging").reason
    chain.soak(1, container="3")
    assert chain.onward(1, after="staging").to == "production"

    chain.running["staging"] = 2
    assert chain.onward(1, after="staging").to == "production"


def test_soak_without_deployment_does_not_count(chain):
    """An event alone could claim a soak."""
    chain.release(1)
    chain.soak(1)

    assert chain.onward(1, after="staging").reason == "it was never deployed to staging"


def test_soak_signed_by_other_tier_does_not_count(chain):
    """Anyone with push access could attach one."""
    chain.release(1)
    chain.deploy(1)
    chain.soak(1, signer=CURATION)

    assert (
        chain.onward(1, after="staging").reason
        == "it has not been healthy in staging for 0:01:00 without interruption yet"
    )


def test_required_approval_is_asked_once(chain):
    """An approval is enough, a denial ends the promotion, and a later approval resumes it."""
    chain.approval = "required"
    chain.release(1)
    chain.deploy(1)
    chain.soak(1)
    assert chain.onward(1, after="staging").awaits_approval

    chain.decide(1, "denied")
    assert chain.onward(1, after="staging").reason == "Ada denied it for production: so"

    chain.decide(1, "approved", hour=1)
    promotion = chain.onward(1, after="staging")
    assert (promotion.to, promotion.awaits_approval) == ("production", False)


def test_signed_approvals_are_asked_for_until_there_are_enough(chain):
    """A form is asked again and again otherwise; whether the signatures count, the gate decides."""
    chain.approval, chain.approvers = "signed", 2
    chain.release(1)
    chain.deploy(1)
    chain.soak(1)

    def awaits_approval():
        return chain.onward(1, after="staging").awaits_approval

    assert awaits_approval()
    for hour, (by, signature, still) in enumerate(
        [("ann", "", True), ("ann", "s", True), ("ann", "t", True), ("bob", "s", False)]
    ):
        chain.decide(1, "approved", hour=hour, by=by, signature=signature)
        assert awaits_approval() is still, (by, signature)
    assert chain.onward(1, after="staging").signers == 2


def test_approval_signed_by_other_tier_does_not_count(chain):
    """Only execution asks for approvals."""
    chain.approval = "required"
    chain.release(1)
    chain.deploy(1)
    chain.soak(1)
    chain.decide(1, "approved", signer=CURATION)

    assert chain.onward(1, after="staging").awaits_approval


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"environments": []}, "it declares no environment"),
        ({"environments": ["nowhere"]}, "There is no environment 'nowhere'"),
    ],
)
def test_image_without_known_declared_environment_does_not_move(chain, changes, why):
    """No run starts that could only fail."""
    chain.release(1, **changes)

    assert chain.onward(1).reason == why


def test_application_without_placement_is_not_deployed(chain):
    """The operator of the environment decides what runs there."""
    chain.placed = ("production",)
    chain.release(1)

    assert chain.onward(1).reason == "hello has no address in staging"


def test_base_and_image_without_provenance_do_not_move(chain, make):
    """Nothing runs from a base, and without provenance the environments are unknown."""
    base = make.base(name="hello")
    declared = {**base.model_dump(mode="json", exclude_none=True), "test": None, "probe": None}
    chain.release(1, **{key: declared[key] for key in ("kind", "check")}, test=None, probe=None, environments=None)

    assert chain.onward(1).reason == "it is not a service"
    assert chain.onward(2).reason == "development signed no provenance of it"


def test_image_refused_by_curation_does_not_move(chain):
    """Its latest release verdict is a refusal."""
    chain.release(1)
    chain.judge(1, Gate.RELEASE, "x.y", hour=1)

    assert chain.onward(1).reason == "curation did not release it"


def test_refusal_at_deploy_gate_is_final_for_events(chain):
    """Events do not ask the gate again."""
    chain.release(1)
    chain.judge(1, Gate.DEPLOY, "scan.high")

    assert chain.onward(1).reason == "it was refused at the deploy gate: scan.high"


@pytest.mark.parametrize(("codes", "goes"), [
    (("base.blocked",), True), (("image.blocked", "verdict.release.refused"), True),
    (("image.blocked", "approval.missing", "scan.old"), True), (("base.blocked", "scan.high"), False),
    (("verdict.release.waived", "verdict.intake.waived"), True),
    (("verdict.release.ended", "verdict.intake.ended"), True),
])  # fmt: skip
def test_temporary_refusal_does_not_stop_later_promotion(chain, codes, goes):
    """A later release verdict that admits the image shows that the block was lifted, or that a waiver is there."""
    chain.release(1)
    chain.judge(1, Gate.DEPLOY, *codes, hour=1)
    assert "refused at the deploy gate" in chain.onward(1).reason

    chain.judge(1, Gate.RELEASE, hour=2)

    assert (chain.onward(1).to == "staging") is goes


@pytest.mark.parametrize("code", ["approval.missing", "placement.not-declared", "soak.missing", "tests.report-missing"])
def test_refusal_for_one_environment_does_not_affect_another(chain, code):
    """Somebody may have tried production by hand too early."""
    chain.release(1)
    chain.judge(1, Gate.DEPLOY, code)

    assert chain.onward(1).to == "staging"


@pytest.mark.parametrize("names", ["", " || image.environment.name != 'staging'"])
def test_refusal_by_a_schedule_ends_with_it(chain, names):
    """During a freeze nothing is tried again; nobody has to start it afterwards."""
    frozen = rule("a.freeze", expression=f"now >= timestamp('{chain.make.noon + timedelta(hours=2):%FT%TZ}'){names}")
    chain.policy = policy(Gate.DEPLOY, frozen)
    chain.release(1)
    chain.judge(1, Gate.DEPLOY, "a.freeze", hour=1)

    chain.pieces.world.now = chain.make.noon + timedelta(hours=1)
    assert chain.onward(1).reason == "it was refused at the deploy gate: a.freeze"
    assert chain.missed() == ()
    chain.pieces.world.now = chain.make.noon + timedelta(hours=2)
    assert chain.onward(1).to == "staging"
    assert [each.to for each in chain.missed()] == ["staging"]


def test_refusal_by_a_rule_that_was_removed_no_longer_counts(chain):
    """That ends a freeze early, for example; the gate decides again, by the rules that there are."""
    chain.release(1)
    chain.judge(1, Gate.DEPLOY, "a.freeze", hour=1)

    assert chain.onward(1).to == "staging"


def test_refusal_for_other_reasons_stays_after_a_schedule(chain):
    """It says something about the image."""
    frozen = rule("a.freeze", expression=f"now >= timestamp('{chain.make.noon:%FT%TZ}')")
    chain.policy = policy(Gate.DEPLOY, frozen, rule("user.root"))
    chain.release(1)
    chain.judge(1, Gate.DEPLOY, "a.freeze", "user.root", hour=1)
    chain.pieces.world.now = chain.make.noon + timedelta(hours=2)

    assert "user.root" in chain.onward(1).reason


def test_rules_about_one_environment_are_those_that_read_it():
    """A new rule must not keep an image out of the other environments."""
    assert DEPLOY.environment_rules == {
        "approval.by-committer", "approval.missing", "approval.denied", "approval.too-few", "approval.unverified",
        "placement.not-declared", "soak.missing", "tests.report-missing",
    }  # fmt: skip


def test_older_image_never_replaces_newer_one(chain):
    """This also ends late events and long waits for approval."""
    chain.release(1)
    chain.deploy(1)
    chain.soak(1)
    chain.release(2)
    assert chain.onward(1, after="staging").to == "production"

    chain.running["production"] = 2
    assert "runs there, and was curated after it" in chain.onward(1, after="staging").reason


def test_older_image_does_not_replace_blocked_newer_one(chain):
    """The registry no longer lists a blocked image, but it still runs and is newer."""
    chain.release(1)
    chain.release(2)
    chain.deploy(2)
    chain.ecr.archive(chain.curated(2))

    assert "runs there, and was curated after it" in chain.onward(1).reason
    assert chain.missed() == ()
    chain.release(3)
    assert [(promotion.image, promotion.to) for promotion in chain.missed()] == [(chain.curated(3), "staging")]


def test_blocked_newer_image_that_never_ran_blocks_nothing(chain):
    """It runs nowhere, so there is nothing to replace."""
    chain.release(1)
    chain.release(2)
    chain.ecr.archive(chain.curated(2))

    assert chain.onward(1).to == "staging"


def test_image_must_be_judged_later_if_running_one_left_registry(chain):
    """Otherwise the order is unknown; an operator can still deploy by hand."""
    chain.release(1)
    chain.release(2)
    chain.deploy(2)
    chain.ecr.registry.remove(chain.curated(2))

    assert "it is unknown which is newer" in chain.onward(1).reason
    assert chain.missed() == ()
    chain.release(3, hour=1)
    assert chain.onward(3).to == "staging"
    chain.running["staging"] = 4  # an image without a deployment record
    assert "it is unknown which is newer" in chain.onward(3).reason


def test_newer_released_image_moves_first(chain):
    """The event of the older image came late."""
    chain.release(1)
    chain.release(2)

    assert "was curated after it" in chain.onward(1).reason
    assert chain.onward(2).to == "staging"


def test_newer_image_that_is_not_released_blocks_nothing(chain):
    """It was refused or is still in curation."""
    chain.release(1)
    chain.push(chain.curated(2), 2)

    assert chain.onward(1).to == "staging"


@pytest.mark.parametrize(("after", "to"), [(None, "a"), ("a", "b"), ("b", "c"), ("c", None), ("elsewhere", None)])
def test_next_environment_returns_following_declared_one(after, to):
    """There is none after the last and after an undeclared one."""
    assert find_next_environment(("a", "b", "c"), after) == to
    assert find_next_environment((), after) is None


@pytest.mark.parametrize(("soaked", "to"), [(None, ""), (59, ""), (60, "production")])
def test_image_that_skips_environment_needs_the_required_soak(chain, soaked, to):
    """The gate would refuse it, so no run starts and the plan gives the reason."""
    chain.after = "staging"
    chain.release(1, environments=["production"])
    if soaked:
        chain.soak(1, seconds=soaked)

    promotion = chain.onward(1)

    assert promotion.to == to
    assert promotion.reason == ("" if to else "production requires a soak in staging, and it did not soak there")


def test_environment_after_one_without_soak_takes_no_image(chain):
    """The reason names the invalid document."""
    chain.after, chain.asked = "staging", None
    chain.release(1, environments=["production"])

    assert chain.onward(1).reason.startswith("production requires a soak in staging, which has no `soak`")


def test_deployment_records_are_read_per_environment(chain):
    """A deployment to production does not count as one to staging."""
    chain.release(1)
    chain.deploy(1, "production")

    assert chain.onward(1).to == "staging"
