"""The flows of the lifecycle: which plans are only made, which are applied, and which wait for approval."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from prefect.client.schemas.objects import State

from blocks.lifecycle_ports import LifecyclePorts
from flows import image_decisions, lifecycle
from supply_chain.adapters.files.plan_journal import FileJournal
from supply_chain.errors import AwsUnavailable, DeclarationInvalid, LockBusy, PlanUnfinished, SettingInvalid
from supply_chain.evidence.image_status import Act
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.lifecycle.apply import Applied, Entry, Outcome
from supply_chain.lifecycle.blocked_images import ArchivedImages
from supply_chain.lifecycle.plan import Plan, write_plan
from supply_chain.lifecycle.planning import plan_lifecycle as plan_of
from supply_chain.lifecycle.preconditions import InUse
from tests.support.snapshots import NOW, RULES, image, newest, ref, snapshot_of

BASE = "curated/base/hello"
IN_USE = InUse(digests=frozenset({"sha256:" + "9" * 64}), unobserved=("a host",))


def planned(count=100, *images):
    rules = RULES.model_copy(update={"limits": RULES.limits.model_copy(update={"count": count})})
    return plan_of(snapshot_of(*newest(1), *images), rules, NOW)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Record what the flows do, and set the answer of a person."""
    done = SimpleNamespace(calls=[], held=[], published=[], plan=planned(), dry=False, says=None, rules=RULES,
                           unreadable={})  # fmt: skip

    async def load():
        return SimpleNamespace(
            name="lifecycle",
            repositories=None,
            journal=lambda plan: FileJournal(tmp_path / plan.digest),
            workbench=SimpleNamespace(
                lifecycle="plan" if done.dry else "apply",
                rules=lambda rules: done.rules,
                environment_documents=lambda: EnvironmentDocuments(
                    (DockerEnvironment(name="production"), DockerEnvironment(name="staging")), done.unreadable
                ),
            ),
        )

    async def plan(rules, ports):
        done.calls.append(("plan", rules, ports.name))
        return done.plan

    async def needed(found, ports):
        return IN_USE, done.unreadable

    async def built_on(found, ports):
        done.calls.append(("bases",))
        return frozenset({"base"})

    async def apply(found, repository, in_use, bases, ports):
        assert bases == ({"base"} if repository == BASE else ())
        assert in_use == IN_USE
        done.calls.append(("apply", found.digest, repository, tuple(done.held)))
        return ()

    async def publish(applied, found):
        done.published.append(applied)

    async def sign(found, yes, by, why, ports):
        done.calls.append(("sign", yes, by, why))

    async def suspend(wait_for_input, timeout, key):  # noqa: ASYNC109 - Prefect's
        done.calls.append(("suspend", key, timeout, wait_for_input._description))
        return done.says

    class Lock:
        def __init__(self, name):
            self.name = name

        async def __aenter__(self):
            done.held.append(self.name)
            return ()

        async def __aexit__(self, *_):
            assert done.held.pop() == self.name

    monkeypatch.setattr(LifecyclePorts, "aload", load)
    for name, stand_in in (("plan_step", plan), ("apply_step", apply), ("find_needed_step", needed),
                           ("find_bases_step", built_on), ("_publish", publish),
                           ("sign_plan_answer_step", sign), ("run_lock", Lock),
                           ("asuspend_flow_run", suspend)):  # fmt: skip
        monkeypatch.setattr(lifecycle, name, stand_in)
    return done


def kinds(run):
    return [call[0] for call in run.calls]


@pytest.mark.parametrize(("dry", "asked", "applied"), [
    (True, None, False), (False, None, True), (True, False, True), (False, True, False),
])  # fmt: skip
async def test_lifecycle_applies_plan_only_if_profile_or_caller_says_so(run, dry, asked, applied):
    """It has its own identity and runs once at a time."""
    run.dry = dry

    found = await lifecycle.lifecycle.fn("nightly", asked)

    assert run.calls[0] == ("plan", "nightly", "lifecycle")
    assert kinds(run)[1:] == (["apply"] if applied else [])
    assert isinstance(found, Applied) is applied


async def test_lifecycle_locks_curation_and_deployment_of_application(run):
    """Bases are locked for curation only, and processed after the images that are built on them."""
    run.plan = planned(100, *(image(n, signed=False, repository=r) for n, r in ((2, BASE), (3, "curated/shop"))))

    await lifecycle.lifecycle.fn("nightly")

    assert [call[2:] for call in run.calls if call[0] == "apply"] == [
        ("curated/hello", ("lifecycle", "curate hello", "deploy production hello", "deploy staging hello")),
        ("curated/shop", ("lifecycle", "curate shop", "deploy production shop", "deploy staging shop")),
        (BASE, ("lifecycle", "curate base:hello")),
    ]  # bases come after the images that are built on them
    assert run.held == []


@pytest.mark.parametrize("by_hand", [False, True])
async def test_unreadable_environment_fails_the_run_after_all_that_may_be_done(run, tmp_path, by_hand):
    """Each step was looked at, and the result is published. A deployment there may have begun before."""
    run.unreadable = {"broken": DeclarationInvalid("its host is wrong\ncorrect it")}
    write_plan(run.plan, tmp_path / "plan.json")

    with pytest.raises(
        SettingInvalid, match="nothing was removed, archived or newly blocked:\n  broken: its host is wrong"
    ):
        if by_hand:
            await lifecycle.apply_only.fn(str(tmp_path / "plan.json"), "ann", "looked at it")
        else:
            await lifecycle.lifecycle.fn("nightly")

    ((_, _, repository, locks),) = [call for call in run.calls if call[0] == "apply"]
    assert repository == "curated/hello" and "deploy broken hello" in locks
    assert len(run.published) == 1 and run.held == []


async def test_unreadable_environment_does_not_prevent_a_plan(run):
    """It changes nothing."""
    run.unreadable = {"broken": DeclarationInvalid("its host is wrong\ncorrect it")}

    assert await lifecycle.lifecycle.fn("nightly", True) is run.plan


async def test_locked_application_does_not_delay_others(run, monkeypatch):
    """It is reported, and tried again with the same plan."""
    run.plan = planned(100, image(3, signed=False, repository="curated/shop"))
    taken = vars(lifecycle)["run_lock"]

    def lock(name):
        if name == "curate hello":
            raise LockBusy("15 minutes\nlook")
        return taken(name)

    monkeypatch.setattr(lifecycle, "run_lock", lock)

    with pytest.raises(PlanUnfinished, match=r"lock\.busy"):
        await lifecycle.lifecycle.fn("nightly")

    assert [call[2] for call in run.calls if call[0] == "apply"] == ["curated/shop"] and run.held == []
    (found,) = run.published
    assert {(e.ref.repository, e.outcome.value, e.code) for e in found.entries} == {
        ("curated/hello", "failed", "lock.busy")
    }


def entry(step, outcome=Outcome.DONE):
    return Entry(ref=step.ref, action=step.action, outcome=outcome)


async def test_unavailable_repository_does_not_delay_others(run, monkeypatch):
    """Finished steps are published too, and the run fails."""
    others = [image(n, signed=False, repository=r) for n, r in ((3, "curated/shop"), (4, "curated/zoo"))]
    run.plan = planned(100, image(2, signed=False), *others)

    async def apply(found, repository, in_use, bases, ports):
        steps = found.steps_in(repository)
        if repository == "curated/hello":
            ports.journal(run.plan).add(entry(steps[0]))
            raise AwsUnavailable("AWS could not delete images now\nThe step is retried.")
        return tuple(map(entry, steps))

    monkeypatch.setattr(lifecycle, "apply_step", apply)

    with pytest.raises(PlanUnfinished, match=r"1 of the 4 steps of the plan sha256:\w{12} failed: aws\.unavailable"):
        await lifecycle.lifecycle.fn("nightly")

    (found,) = run.published
    assert [(e.ref.repository, e.outcome.value, e.code) for e in found.entries] == [
        ("curated/hello", "done", ""), ("curated/hello", "failed", "aws.unavailable"), ("curated/shop", "done", ""),
        ("curated/zoo", "done", ""),
    ]  # fmt: skip
    assert run.held == []


async def test_unreadable_dependents_fail_bases_but_not_applications(run, monkeypatch):
    """Each base counts as failed."""
    run.plan = planned(100, image(2, signed=False, repository=BASE))

    async def built_on(*_):
        raise AwsUnavailable("throttled\nlater")

    monkeypatch.setattr(lifecycle, "find_bases_step", built_on)

    with pytest.raises(PlanUnfinished, match=r"aws\.unavailable"):
        await lifecycle.lifecycle.fn("nightly")

    assert [call[2] for call in run.calls if call[0] == "apply"] == ["curated/hello"]
    assert [e.ref for e in run.published[0].of(Outcome.FAILED)] == [ref(2, BASE)]


async def test_finished_steps_are_published_despite_unexpected_error(run, monkeypatch):
    """This includes the repository of the error, so that somebody can see what is missing."""
    shop = (image(n, signed=False, repository="curated/shop") for n in (3, 4))
    run.plan = planned(100, *shop, image(5, signed=False, repository="curated/zoo"))

    async def apply(found, repository, in_use, bases, ports):
        if repository == "curated/shop":
            ports.journal(run.plan).add(entry(run.plan.step(ref(3, "curated/shop"))))
            raise OSError("no space left on device")
        return tuple(map(entry, found.steps_in(repository)))

    monkeypatch.setattr(lifecycle, "apply_step", apply)

    with pytest.raises(OSError, match="no space"):
        await lifecycle.lifecycle.fn("nightly")

    assert [e.ref for e in run.published[0].entries] == [ref(1), ref(3, "curated/shop")]


@pytest.mark.parametrize(("hours", "began", "left_out"), [(25, None, True), (23, None, False), (100, 99, False)])
async def test_missed_scheduled_runs_are_skipped(run, monkeypatch, hours, began, left_out):
    """Together they could exceed the limits of one run; a run that waited for approval is not skipped."""
    times = [None if each is None else datetime.now(UTC) - timedelta(hours=each) for each in (hours, began)]
    context = SimpleNamespace(flow_run=SimpleNamespace(expected_start_time=times[0], start_time=times[1]))
    monkeypatch.setattr(lifecycle, "FlowRunContext", SimpleNamespace(get=lambda: context))

    found = await lifecycle.lifecycle.fn("nightly", True)

    assert (isinstance(found, State) and found.name == "Unneeded") is left_out
    assert kinds(run) == ([] if left_out else ["plan"])


async def test_lifecycle_returns_plan_without_changes(run):
    """There is nothing to apply."""
    run.plan = plan_of(snapshot_of(*newest()), RULES, NOW)

    assert await lifecycle.lifecycle.fn("nightly", False) is run.plan
    assert kinds(run) == ["plan"]


async def test_plan_over_limit_waits_for_approval_and_signs_it(run):
    """The form shows the plan, and nothing changes before the approval is signed."""
    run.plan, run.says = planned(0), SimpleNamespace(approve=True, by="ann", reason="looked at it")
    run.rules = RULES.model_copy(update={"limits": RULES.limits.model_copy(update={"count": 0})})

    assert isinstance(await lifecycle.lifecycle.fn("nightly"), Applied)

    assert kinds(run) == ["plan", "suspend", "sign", "apply"]
    suspended = run.calls[1]
    assert suspended[1:3] == (f"approval-{run.plan.digest[7:]}", 7 * 24 * 3600)
    assert suspended[3] == f"{run.plan}. it changes 1 image; the limit without approval is 0."
    assert run.calls[2] == ("sign", True, "ann", "looked at it")


async def test_approved_plan_is_void_if_rules_changed(run):
    """The approval was about a plan by other rules."""
    run.plan, run.says = planned(0), SimpleNamespace(approve=True, by="ann", reason="looked at it")

    with pytest.raises(DeclarationInvalid, match="changed after the plan"):
        await lifecycle.lifecycle.fn("nightly")

    assert "apply" not in kinds(run)


async def test_rejected_plan_is_signed_and_not_applied(run):
    """The run completes in the state Rejected."""
    run.plan, run.says = planned(0), SimpleNamespace(approve=False, by="ann", reason="too much")

    state = await lifecycle.lifecycle.fn("nightly")

    assert isinstance(state, State) and (state.name, state.message) == ("Rejected", "rejected by ann: too much")
    assert kinds(run) == ["plan", "suspend", "sign"]


@pytest.mark.parametrize("missing", [{"by": ""}, {"reason": ""}])
def test_approval_form_requires_name_and_reason_and_defaults_to_no(missing):
    """Nobody approves by submitting an unchanged form."""
    with pytest.raises(ValueError, match="at least 1 character"):
        lifecycle.PlanAnswer(**{"by": "ann", "reason": "x", **missing})
    assert lifecycle.PlanAnswer(by="ann", reason="x").approve is False


async def test_plan_only_changes_nothing(run):
    """The plan is the result."""
    assert await lifecycle.plan_only.fn("nightly") is run.plan
    assert kinds(run) == ["plan"]


@pytest.mark.parametrize(("count", "calls"), [(100, ["apply"]), (0, ["sign", "apply"])])
async def test_plan_from_file_is_applied_unchanged(run, tmp_path, count, calls):
    """If it exceeds a limit, the caller's approval is signed."""
    found = planned(count, image(2, 399))
    write_plan(found, tmp_path / "plan.json")
    run.rules = RULES.model_copy(update={"limits": RULES.limits.model_copy(update={"count": count})})

    await lifecycle.apply_only.fn(str(tmp_path / "plan.json"), "ann", "looked at it")

    assert kinds(run) == calls
    assert run.calls[-1][:2] == ("apply", found.digest)
    assert count or run.calls[0] == ("sign", True, "ann", "looked at it")


@pytest.mark.parametrize(("change", "why"), [
    ({"exceeded_limits": ()}, "somebody changed it"), ({"rules_digest": f"sha256:{0:064}"}, "changed after the plan"),
    ({"rules": "mine"}, "changed after the plan"),
])  # fmt: skip
async def test_plan_from_file_must_match_current_rules(run, tmp_path, change, why):
    """Whoever changes the file can also change its digest."""
    run.rules = RULES.model_copy(update={"limits": RULES.limits.model_copy(update={"count": 0})})
    forged = Plan.model_validate({**planned(0, image(2, 399)).model_dump(), **change})
    write_plan(forged, tmp_path / "plan.json")

    with pytest.raises(DeclarationInvalid, match=why):
        await lifecycle.apply_only.fn(str(tmp_path / "plan.json"), "ann", "looked at it")

    assert run.calls == []


async def test_plan_from_file_must_match_approved_digest(run, tmp_path):
    """The caller approved another plan."""
    write_plan(planned(), tmp_path / "plan.json")

    with pytest.raises(DeclarationInvalid, match="changed after it was shown"):
        await lifecycle.apply_only.fn(str(tmp_path / "plan.json"), "ann", "x", planned(100, image(2, 399)).digest)

    assert run.calls == []


@pytest.mark.parametrize("act", [Act.BLOCK, Act.UNBLOCK, Act.HOLD, Act.UNHOLD])
async def test_lifecycle_decision_is_signed_as_lifecycle(run, monkeypatch, act):
    """It is about the image that the caller names."""
    asked = []

    def find(image, repositories):
        asked.append(image)
        return ref(1)

    async def decide(*args):
        asked.append((*args[:4], args[4].name))
        return "ruled"

    monkeypatch.setattr(image_decisions, "find_stored", find)
    monkeypatch.setattr(image_decisions, "decide_step", decide)

    assert await getattr(image_decisions, act.value).fn("hello", "because", "ann") == "ruled"
    assert asked == ["hello", (ref(1), act, "ann", "because", "lifecycle")]


@pytest.mark.parametrize(("failed", "state"), [({}, None), ({"curated/a@sha256:1": "it is gone"}, "Unarchived")])
async def test_run_with_unarchived_blocked_image_ends_as_unarchived(run, monkeypatch, failed, state):
    """The state names the image and why it can still be pulled."""

    async def archive(ports):
        assert ports.name == "lifecycle"
        return ArchivedImages(archived=(ref(1),), failed=failed)

    monkeypatch.setattr(image_decisions, "archive_blocked_step", archive)

    ended = await image_decisions.archive_blocked.fn()

    if state is None:
        assert ended == ArchivedImages(archived=(ref(1),))
    else:
        assert isinstance(ended, State) and ended.name == state
        assert ended.message and "not archived: curated/a@sha256:1: it is gone" in ended.message
