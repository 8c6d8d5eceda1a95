"""Flow `sweep`: remove what killed runs left on this machine, without waiting for the next run of an application."""

from __future__ import annotations

from contextlib import AsyncExitStack

from httpx import HTTPError
from prefect import flow
from prefect.exceptions import PrefectException

from blocks.development_ports import DevelopmentPorts
from orchestration.locks import LockKind, find_abandoned_locks, parse_lock_name, run_lock
from orchestration.run_report import log
from orchestration.steps import run_in_thread
from supply_chain import scratch
from supply_chain.errors import ComponentFailed, LockBusy, SupplyChainError
from supply_chain.text import sanitize_lines, sanitize_text

SHORTLY = 1.0
"""Seconds to wait for another run that holds the lock; a live run holds it for longer."""


@flow(name="sweep", flow_run_name="sweep")
async def sweep() -> tuple[str, ...]:
    """Release the locks of killed runs of this machine, and remove what these runs left in the engine.

    The next run of an application does the same, but there may be none. Live runs are not affected. Temporary
    directories that no process locks are removed too. Return the names of the released locks.

    Raise `ComponentFailed` if some could not be released, after all others are; the next sweep tries these again.
    """
    await run_in_thread(scratch.sweep)
    given_back, failed = [], list[str]()
    for name in await run_in_thread(find_abandoned_locks):
        try:
            if await _release_lock(name):
                given_back.append(name)
        except (SupplyChainError, PrefectException, HTTPError, TimeoutError) as error:
            failed.append(f"{name}: {type(error).__name__}: {sanitize_lines(error)}")
    if failed:
        raise ComponentFailed("\n".join(["Some of it could not be removed.", *failed, "The next sweep tries again."]))
    return tuple(given_back)


async def _release_lock(name: str) -> bool:
    """Remove what the earlier holders of this lock left; return False if another run took it: it cleans up itself."""
    async with AsyncExitStack() as stack:
        try:
            before = await stack.enter_async_context(run_lock(name, SHORTLY))
        except LockBusy:
            return False
        kind, *about = parse_lock_name(name)  # the lock of a nightly run has no subject
        if kind == LockKind.BUILD:
            ports = await DevelopmentPorts.aload()
            await run_in_thread(ports.remove_traces, about[0], before)
    log.info("%s", sanitize_text(f"{name}: removed what {', '.join(before)} left"))
    return True
