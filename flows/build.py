"""Flow `build`: build, check and offer an image. This is the first and least strict tier."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prefect import flow

from blocks.development_ports import DevelopmentPorts
from orchestration.locks import LockKind, lock_name, run_lock
from orchestration.run_names import name_run_by_path
from orchestration.run_report import report_run
from orchestration.run_states import complete_refused
from orchestration.source import open_snapshot
from orchestration.steps import make_run_mark, run_alongside, run_in_thread
from supply_chain.adapters.git.snapshot import verify_snapshot
from supply_chain.model.image import Candidate, shorten_digest
from supply_chain.model.tier import name_development_repository
from supply_chain.policy.outcome import Refused
from supply_chain.reports import describe_checks
from tasks.build import build_step
from tasks.name import check_name_step
from tasks.offer import offer_step
from tasks.test import test_step


@flow(name="build", flow_run_name=name_run_by_path)
async def build(path: str, revision: str | None = None, force: bool = False) -> Candidate | Refused:
    """Build an application, run every check, and offer the image to curation with its signed evidence.

    Args:
        path: The application's directory, with its supply-chain.yaml, on the worker's machine, such as /srv/hello.
        revision: The git commit to build. If empty, the directory's current files are built.
        force: Repeat every step, even if signed evidence proves that it is done.
    """
    ports = await DevelopmentPorts.aload()
    async with open_snapshot(Path(path), revision, ports.workbench.find_excluded) as snapshot:
        declaration, source = snapshot.declaration, snapshot.source
        async with (
            report_run(declaration.name) as reporter,
            run_lock(lock_name(LockKind.BUILD, declaration.name)) as before,
        ):
            reporter.add(application=declaration.name, owner=declaration.owner, source=source)
            reporter.publish_under(None)
            refusal, _ = await asyncio.gather(
                reporter.step("name", check_name_step(snapshot, ports), _name_result),
                run_in_thread(ports.remove_traces, declaration.name, before),
            )
            if refusal:
                reporter.add_verdict(refusal)
                return complete_refused(refusal)
            reporter.publish_under(declaration.name)
            checks = await run_in_thread(ports.early_checks, snapshot, make_run_mark())
            try:
                built = await reporter.step(
                    "build",
                    build_step(snapshot, checks, ports, force),
                    lambda b: (
                        f"image {shorten_digest(b.digest)}{', with uncommitted changes' if b.source.dirty else ''}"
                    ),
                )
                reporter.add(
                    materials=built.materials,
                    digest=built.digest,
                    repository=name_development_repository(declaration.name),
                )
                tested = await reporter.step(
                    "test",
                    test_step(built, snapshot, checks, ports),
                    lambda t: describe_checks(t.checks),
                )
                reporter.add(checks=tested.checks)
                await run_in_thread(verify_snapshot, snapshot)
                async with run_alongside(ports.remove_tests, built):
                    return await reporter.step(
                        "offer",
                        offer_step(tested, declaration, ports),
                        lambda c: f"{c.ref.repository}@{c.ref.short}",
                    )
            finally:
                await run_in_thread(ports.remove_traces, declaration.name, (make_run_mark(),))


def _name_result(refusal: Refused | None) -> str:
    return "the name belongs to another source" if refusal else "the name belongs to this source"
