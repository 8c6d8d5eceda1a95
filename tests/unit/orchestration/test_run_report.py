"""The run report: records the steps of a run, also of one that fails."""

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from prefect.exceptions import PrefectException
from prefect.logging import disable_run_logger

from orchestration import run_report as journals
from orchestration.run_report import report_run
from supply_chain.errors import RegistryUnavailable
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import Reason, Refused
from supply_chain.reports.run import MOST_REASONS
from supply_chain.reports.text import make_artifact_key


@pytest.fixture
def pages(monkeypatch):
    """The published artifacts by key."""
    written = {}

    def keep(kind):
        async def create(key, **values):
            written[key] = (kind, values)

        return create

    for kind in ("markdown", "table", "link"):
        monkeypatch.setattr(journals, f"acreate_{kind}_artifact", keep(kind))
    monkeypatch.setattr(journals, "flow_run", SimpleNamespace(id="run"))
    with disable_run_logger():
        yield written


async def result(value):
    return value


async def failing(error):
    await asyncio.sleep(0)
    raise error


async def test_step_is_recorded_with_duration_and_text(pages):
    """The result of the step is returned."""
    async with report_run("hello") as reporter:
        assert await reporter.step("build", result(7), lambda n: f"built {n}") == 7
        await reporter.step("test", asyncio.sleep(0.05))

    build, test = reporter.report.steps
    assert (build.name, build.message) == ("build", "built 7")
    assert test.seconds >= 0.05


async def test_note_is_written_to_terminal(pages, monkeypatch):
    """It names the application, as each step does."""
    log = Mock()
    monkeypatch.setattr(journals, "log", log)
    async with report_run("hello") as reporter:
        reporter.note("no place\x1b")

    (template, *words), _ = log.info.call_args
    assert template % tuple(words) == "hello: note: no place·"


@pytest.mark.parametrize(
    ("error", "text"),
    [(RegistryUnavailable("it is silent\nwait"), "it is silent"), (KeyError("secret"), "KeyError")],
    ids=["ours", "another"],
)
async def test_failed_step_is_recorded_and_raises(pages, error, text):
    """The page shows where the run failed; the text of an unknown error may be a secret and is left out."""
    async with report_run("hello") as reporter:
        with pytest.raises(type(error)):
            await reporter.step("build", failing(error))

    assert [step.name for step in reporter.report.steps] == ["build"]
    assert text in reporter.report.steps[0].message
    page = pages["run-report-hello"][1]["markdown"]
    assert "build" in page and text in page and "'secret'" not in page


async def test_cancelled_step_is_recorded(pages):
    """The step is marked as cancelled."""
    async with report_run("hello") as reporter:
        run = asyncio.create_task(reporter.step("build", asyncio.sleep(60)))
        await asyncio.sleep(0.01)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    assert reporter.report.steps[0].message == "cancelled"


async def test_tier_inside_chain_writes_to_report_of_chain(pages):
    """The chain publishes one page; a separate run has its own."""
    async with report_run("hello") as chain:
        async with report_run("other name") as tier:
            assert tier is chain
            await tier.step("build", result(1))
        assert [step.name for step in chain.report.steps] == ["build"]
        assert pages == {}
    assert set(pages) == {"run-report-hello"}
    async with report_run("hello") as later:
        assert later is not chain


async def test_parallel_runs_have_separate_reports(pages):
    """This holds even within one process."""

    async def run(name):
        async with report_run(name) as mine:
            await asyncio.sleep(0.01)
            return mine

    first, second = await asyncio.gather(run("a"), run("b"))

    assert first is not second


async def test_artifact_keys_are_valid_and_per_application(pages, make):
    """Prefect allows lower-case letters, digits and dashes."""
    for name in ("hello", "base/python_3.x"):
        async with report_run(name) as reporter:
            reporter.add(report=make.report(make.finding()))
            await reporter.step("scan", result(1))
            reporter.add_address("staging", "http://127.0.0.1:8080/")

    assert set(pages) == {
        make_artifact_key(*kind, name)
        for kind in (("run-report",), ("findings",), ("address", "staging"))
        for name in ("hello", "base/python_3.x")
    }
    kind, values = pages["findings-hello"]
    assert kind == "table" and values["table"][0]["vulnerability"] == "CVE-2026-0001"
    assert pages["address-staging-hello"][1]["link"] == "http://127.0.0.1:8080/"
    assert "# hello" in pages["run-report-hello"][1]["markdown"]


async def test_publishing_error_does_not_hide_error_of_run(pages, monkeypatch):
    """The error of the run is raised, with the other as a note."""

    async def refuse(**values):
        raise PrefectException("the server is away")

    monkeypatch.setattr(journals, "acreate_markdown_artifact", refuse)
    with pytest.raises(RegistryUnavailable) as caught:
        async with report_run("hello") as reporter:
            await reporter.step("build", failing(RegistryUnavailable("it is silent\nwait")))

    assert "the server is away" in caught.value.__notes__[0]


async def test_publishing_error_fails_successful_run(pages, monkeypatch):
    """Nobody could see what the run decided."""

    async def refuse(**values):
        raise PrefectException("the server is away")

    monkeypatch.setattr(journals, "acreate_markdown_artifact", refuse)
    with pytest.raises(PrefectException):
        async with report_run("hello") as reporter:
            await reporter.step("build", result(1))


async def test_run_without_steps_publishes_no_page(pages):
    """There is nothing to show."""
    async with report_run("hello"):
        pass

    assert pages == {}


async def log_lines(number):
    """Return the log lines of a run that is refused for a number of reasons."""
    verdict = Refused(
        image=ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64),
        gate=Gate.RELEASE,
        policy="sha256:" + "9" * 64,
        reasons=tuple(Reason(code=f"scan.r{n}", fact=f"fact{n}\x1b", remedy="mend") for n in range(number)),
    )
    lines = []
    async with report_run("hello") as reporter:
        log: Any = SimpleNamespace(warning=lambda form, *args: lines.append(form % args), info=lambda *_: None)
        reporter._log = log
        reporter.add_verdict(verdict)
        await reporter.step("gate", result(1))
    return lines


async def test_log_lists_first_reasons_of_refusal(pages):
    """The length is limited, because Prefect keeps every log record."""
    lines = await log_lines(MOST_REASONS + 3)

    assert len(lines) == MOST_REASONS + 1
    assert lines[-1] == "refused: and 3 more"


async def test_report_of_run_without_name_has_its_own_key(pages):
    """The key of an application shows only runs of this application."""
    async with report_run("hello") as reporter:
        reporter.publish_under(None)
        await reporter.step("name", result(1))

    assert set(pages) == {"run-report-run-run"}


async def test_refusal_is_reported_with_every_reason(pages):
    """The reasons are in the log and on the page."""
    lines = await log_lines(3)

    assert [f"scan.r{n}" in each and f"fact{n}" in each for n, each in enumerate(lines)] == [True] * 3
    assert "\x1b" not in "".join(lines)
    assert all(f"fact{n}" in pages["run-report-hello"][1]["markdown"] for n in range(3))
