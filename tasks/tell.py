"""tell: the one way in which owners and operators are told."""

from __future__ import annotations

from datetime import timedelta
from typing import cast

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.variables import Variable

from blocks import Workbench
from blocks.workbench import now

AGAIN = timedelta(days=1)
"""After how long the same is told again."""
TOLD = "told_lately"


async def tell(subject: str, body: str, workbench: Workbench, *, once: str | None = None) -> None:
    """Through the notification block that the workbench names; what is told `once` not again within a day."""
    told = await _told()
    if once in told:
        return
    block = cast(NotificationBlock, await Block.aload(workbench.notify))
    await block.notify(body, subject)
    if once:
        await Variable.aset(TOLD, {**told, once: now().isoformat()}, overwrite=True)


async def _told() -> dict[str, str]:
    """What was told within a day, and when. Two that tell at once may forget each other's: it is told again then."""
    kept = await Variable.aget(TOLD)
    since = (now() - AGAIN).isoformat()
    return {what: at for what, at in kept.items() if at > since} if isinstance(kept, dict) else {}
