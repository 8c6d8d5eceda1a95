"""A refusal ends a run normally, under its own name."""

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


def test_a_refused_run_is_completed_and_called_refused():
    """It is an answer; alerts and retries stay quiet."""
    state = complete_refused(verdict("scan.high", "tests.failed", "scan.high"))

    assert (state.is_completed(), state.is_failed(), state.name) == (True, False, "Refused")
    assert state.message == "refused at the intake gate: scan.high, tests.failed"


async def test_the_verdict_is_the_runs_result():
    """The enclosing flow sees that it was a refusal."""
    said = verdict("scan.high")

    assert await complete_refused(said).aresult() == said


def test_many_reasons_fit_into_a_state():
    """Prefect's messages have an end; every reason is in the verdict."""
    state = complete_refused(verdict(*[f"scan.reason-{n}" for n in range(500)]))

    assert len(state.message) <= 900
