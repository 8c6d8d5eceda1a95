"""Records the steps of a flow run with their durations, and publishes them as Prefect artifacts."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from httpx import HTTPError
from prefect import get_run_logger
from prefect.artifacts import acreate_link_artifact, acreate_markdown_artifact, acreate_table_artifact
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from orchestration.clock import read_clock
from orchestration.steps import wait_for_all
from supply_chain import reports
from supply_chain.errors import SupplyChainError
from supply_chain.model.image import Proof
from supply_chain.policy.facts import F
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.reports.run import MOST_REASONS
from supply_chain.reports.text import make_artifact_key
from supply_chain.text import join_lines, pluralize, sanitize_text, truncate_lines

T = TypeVar("T")
V = TypeVar("V", bound=Admitted[Any] | Refused)
log = logging.getLogger("supply_chain.steps")


class RunReporter:
    """Collects the report of a run, and writes each step to the run's log as it ends.

    The run of a tier within a chain adds to the chain's report.
    """

    def __init__(self, application: str) -> None:
        self.report = reports.RunReport(application=application)
        self._name: str | None = application
        self._run, self._log = flow_run.id, get_run_logger()
        self._addresses: dict[str, str] = {}

    def add(self, **fields: Any) -> None:
        """Replace fields of the report."""
        self.report = reports.RunReport.model_validate({**dict(self.report), **fields})

    def publish_under(self, name: str | None) -> None:
        """Publish under keys of this application; None: under keys of this run, whose name may be another's."""
        self._name = name

    def add_verdict(self, verdict: Admitted[Any] | Refused) -> None:
        """Add a gate's verdict; a refusal is a warning in the log, with its first reasons."""
        self.add(verdicts=(*self.report.verdicts, verdict))
        if isinstance(verdict, Refused):
            reasons = [f"{reason.code}: {reason.fact} → {reason.remedy}" for reason in verdict.reasons]
            for reason in truncate_lines(MOST_REASONS, reasons):
                self._log.warning("%s", sanitize_text(f"refused: {reason}"))

    def note(self, text: str) -> None:
        """Write to the terminal and to the run's log what will stop a later step."""
        log.info("%s: note: %s", sanitize_text(self.report.application), sanitize_text(text))
        self._log.warning("%s", sanitize_text(text))

    async def gate(self, name: str, work: Awaitable[tuple[V, F]]) -> tuple[V, F]:
        """Await a gate; record its verdict as a step's result and as a verdict."""
        verdict, facts = await self.step(name, work, lambda decided: _format_verdict(decided[0]))
        self.add_verdict(verdict)
        return verdict, facts

    async def step(
        self,
        name: str,
        work: Awaitable[T],
        say: Callable[[T], str] = lambda _: "",
        proven: Callable[[T], Proof | None] = lambda result: getattr(result, "proven", None),
    ) -> T:
        """Await one step and record how long it took, even if it fails.

        `say` describes the result; for a step that was `proven` earlier, its evidence is named too.
        """
        started = time.monotonic()
        text, done = "cancelled", False
        try:
            result = await work
            proof = proven(result)
            text, done = ": ".join(each for each in (proof and proof.describe(read_clock()), say(result)) if each), True
            return result
        except Exception as error:
            text = join_lines(error) if isinstance(error, SupplyChainError) else type(error).__name__
            raise
        finally:
            step = reports.Step(name=name, seconds=time.monotonic() - started, message=text, done=done)
            self.add(steps=(*self.report.steps, step))
            short = text if done else text.partition(" — ")[0]  # the log shows the complete error next
            log.info(
                "%s: %s (%.1f s) %s", sanitize_text(self.report.application), name, step.seconds, sanitize_text(short)
            )
            if flow_run.id != self._run:  # a tier within a chain: write it to the chain's log too
                self._log.info("%s (%.1f s) %s", name, step.seconds, sanitize_text(text))

    async def publish(self) -> None:
        """Write the report as artifacts of this run, unless it has no steps; each key keeps its history."""
        if not self.report.steps:
            return
        name = self._name or f"run-{self._run}"
        about = reports.run_summary(self.report)
        self._log.info("%s", about)
        page = reports.run_report_page(self.report, read_clock())
        report = self.report.report
        rows = reports.findings_table(report) if report else []
        counts = f"{reports.findings_summary(report)}; {report.database.kind} database" if report else ""
        artifacts = [
            acreate_markdown_artifact(key=make_artifact_key("run-report", name), markdown=page, description=about),
            *(
                acreate_link_artifact(
                    key=make_artifact_key("address", environment, name),
                    link=address,
                    link_text=address,
                    description=f"Where {self.report.application} answers in {environment}",
                )
                for environment, address in self._addresses.items()
            ),
        ]
        if report:
            artifacts.append(
                acreate_table_artifact(key=make_artifact_key("findings", name), table=rows, description=counts)
            )
        await wait_for_all(*artifacts)

    def add_address(self, environment: str, address: str) -> None:
        """Add the address of the application in an environment; it becomes a link."""
        self._addresses[environment] = address


def _format_verdict(verdict: object) -> str:
    return f"refused, {pluralize(len(verdict.reasons), 'reason')}" if isinstance(verdict, Refused) else "admitted"


_current: ContextVar[RunReporter | None] = ContextVar("run_report", default=None)


@asynccontextmanager
async def report_run(application: str) -> AsyncIterator[RunReporter]:
    """Yield the report of the enclosing run, which will publish it; or a new one, published however this run ends.

    If the run fails and its report cannot be written either, the run's own error is raised.
    """
    if around := _current.get():
        yield around
        return
    mine = RunReporter(application)
    token = _current.set(mine)
    try:
        yield mine
    except BaseException as error:
        try:
            await mine.publish()
        except (PrefectException, HTTPError) as second:
            error.add_note(f"The run's report could not be written: {second}")
        raise
    else:
        await mine.publish()
    finally:
        _current.reset(token)
