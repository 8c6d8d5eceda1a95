"""A refusal completes a run, in a state of its own name."""

from prefect import State

from orchestration.run_states import complete_refused
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import Reason, Refused


def verdict(*codes):
    return Refused(
        image=ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64),
        gate=Gate.INTAKE,
        policy="sha256:" + "9" * 64,
        reasons=tuple(Reason(code=code, fact="fact", remedy="remedy") for code in codes),
    )


def state_of(verdict):
    """Return the state that Prefect gives to a flow run with this result."""
    state: object = complete_refused(verdict)
    assert isinstance(state, State)
    return state


def test_refused_run_is_completed_with_name_refused():
    """A refusal is a result, so there is no alert and no retry."""
    state = state_of(verdict("scan.high", "tests.failed", "scan.high"))

    assert (state.is_completed(), state.is_failed(), state.name) == (True, False, "Refused")
    assert state.message == "refused at the intake gate: scan.high, tests.failed"


async def test_verdict_is_result_of_refused_run():
    """The calling flow can see the refusal."""
    refusal = verdict("scan.high")

    assert await state_of(refusal).aresult() == refusal


def test_state_message_with_many_reasons_is_shortened():
    """Prefect limits the length; the verdict has every reason."""
    state = state_of(verdict(*[f"scan.reason-{n}" for n in range(500)]))

    assert len(state.message) <= 900
