"""tell: the one way in which owners and operators are told."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import cast

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.variables import Variable

from blocks import Workbench
from orchestration.clock import now

AGAIN = timedelta(days=1)
"""After how long the same is told again."""
TOLD = "told_lately"
"""How the variables are called that remember what was told. There are 256, for Prefect keeps 5000 characters in one."""
MOST = 160
"""What one of them remembers; with its time each takes 30 characters."""


async def tell(subject: str, body: str, workbench: Workbench, *, once: str | None = None) -> None:
    """Through the notification block that the workbench names; what is told `once` not again within a day."""
    name, key = _place(once or "")
    told = await _told(name) if once else {}
    if key in told:
        return
    block = cast(NotificationBlock, await Block.aload(workbench.notify))
    await block.notify(body, subject)
    if once:
        newest = sorted(told.items(), key=lambda each: each[1])[1 - MOST :]
        await Variable.aset(name, {**dict(newest), key: int(now().timestamp())}, overwrite=True)


def _place(what: str) -> tuple[str, str]:
    """The variable in which it is remembered, and as what there."""
    digest = hashlib.sha256(what.encode()).hexdigest()
    return f"{TOLD}_{digest[:2]}", digest[:16]


async def _told(name: str) -> dict[str, int]:
    """What was told within a day, and when. Two that tell at once may forget each other's: it is told again then."""
    kept = await Variable.aget(name)
    since = (now() - AGAIN).timestamp()
    if not isinstance(kept, dict):
        return {}
    return {what: at for what, at in kept.items() if isinstance(at, int) and at > since}
