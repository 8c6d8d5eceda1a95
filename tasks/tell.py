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


async def tell(subject: str, body: str, workbench: Workbench, *, once: str | None = None) -> None:
    """Through the notification block that the workbench names; what is told `once` not again within a day."""
    name = f"told_{once[:40]}" if once else ""
    if name and (last := await Variable.aget(name)) and str(last) > (now() - AGAIN).isoformat():
        return
    block = cast(NotificationBlock, await Block.aload(workbench.notify))
    await block.notify(body, subject)
    if name:
        await Variable.aset(name, now().isoformat(), overwrite=True)
