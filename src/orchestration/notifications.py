"""Notifies owners and operators; every notification is sent from here."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import cast

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.variables import Variable

from orchestration.clock import read_clock

REPEAT_AFTER = timedelta(days=1)
"""Time after which the same message may be sent again."""
SENT = "notifications_sent"
"""Prefix of the variables that record what was sent; there are 256, because each holds at most 5000 characters."""
MOST = 160
"""Number of messages that one variable records; each takes 30 characters, including its time."""


async def notify(
    subject: str, body: str, block: str, *, once: str | None = None, again_after: timedelta = REPEAT_AFTER
) -> bool:
    """Send a message through a notification block, which is named as type/name; return whether it was sent.

    A message with the same `once` is not sent again before `again_after`, which is at least a day.
    """
    name, key = _place(once or "")
    sent = await _read_sent(name) if once else {}
    if key in sent:
        return False
    await cast(NotificationBlock, await Block.aload(block)).notify(body, subject)
    if once:
        newest = sorted(sent.items(), key=lambda each: each[1])[1 - MOST :]
        await Variable.aset(
            name, {**dict(newest), key: int((read_clock() + again_after - REPEAT_AFTER).timestamp())}, overwrite=True
        )
    return True


def _place(what: str) -> tuple[str, str]:
    """Return the name of the variable that records a message, and the message's key in it."""
    digest = hashlib.sha256(what.encode()).hexdigest()
    return f"{SENT}_{digest[:2]}", digest[:16]


async def _read_sent(name: str) -> dict[str, int]:
    """Return what is not sent again yet, each with a time a day before it may be (seconds since the epoch).

    Two concurrent calls may overwrite each other's record; a message is then sent again.
    """
    stored = await Variable.aget(name)
    since = (read_clock() - REPEAT_AFTER).timestamp()
    if not isinstance(stored, dict):
        return {}
    return {what: at for what, at in stored.items() if isinstance(at, int) and at > since}
