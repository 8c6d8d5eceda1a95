"""sweep: removes what runs that were killed left on this machine, within minutes and without a next run."""

from __future__ import annotations

import asyncio

from prefect import flow

from blocks import ContainerHost, Tier, Workbench
from flows.journal import log
from supply_chain import scratch
from supply_chain.errors import SupplyChainError
from supply_chain.shown import plain
from tasks.build import forget
from tasks.running import in_thread
from tasks.turns import left_turns, turn, turn_about

DEVELOP = "develop"


@flow(name="sweep", flow_run_name="sweep")
async def sweep() -> tuple[str, ...]:
    """Give back the turns of runs of this machine that were killed, and remove what they left in the engine.

    The next run of an application does the same; this is for where none comes. It touches nothing of a run that
    lives. Temporary directories that nobody locks are removed, too. Returns the turns that were given back.

    Raises what kept it from clearing some of them, once all others are cleared: the next sweep tries those again.
    """
    await in_thread(scratch.sweep)
    given_back, failed = [], dict[str, SupplyChainError]()
    for name in await in_thread(left_turns):
        try:
            async with turn(name, 0) as before:
                if turn_about(name)[0] == DEVELOP:
                    await _forget(turn_about(name)[1], before)
        except TimeoutError:
            continue  # a run took it meanwhile, and clears up itself
        except SupplyChainError as error:
            failed[name] = error
            continue
        given_back.append(name)
        log.info("%s", plain(f"{name}: cleared what {', '.join(before)} left"))
    for first in failed.values():
        raise type(first)("\n".join(f"{name}: {error.args[0]}" for name, error in failed.items())) from first
    return tuple(given_back)


async def _forget(application: str, runs: tuple[str, ...]) -> None:
    tier, workbench = await asyncio.gather(Tier.aload("development"), Workbench.aload("workbench"))
    host = await ContainerHost.aload(workbench.build_host)
    await in_thread(forget, application, runs, tier, host)
