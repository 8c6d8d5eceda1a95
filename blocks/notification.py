"""The notification block that writes into the run's log; the workbench names the block that is used."""

from __future__ import annotations

from typing import ClassVar

from prefect import get_run_logger
from prefect.blocks.abstract import NotificationBlock

from supply_chain.text import sanitize_lines


class LogNotification(NotificationBlock):
    """Notifications in the run's own log, for a laptop whose owner reads it."""

    _block_type_name: ClassVar[str] = "Supply Chain Log"
    _block_type_slug: ClassVar[str] = "supply-chain-log"
    _description: ClassVar[str] = (
        "Notifications in the log of the run that sends them; use another block to reach people."
    )

    async def notify(self, body: str, subject: str | None = None) -> None:
        """Write the notification into the run's log as a warning."""
        get_run_logger().warning("%s", sanitize_lines(f"{subject}\n{body}" if subject else body))
